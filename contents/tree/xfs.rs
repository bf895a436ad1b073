//! Files on xfs.

use lamxfs::{BlockRead, Error, Path, Xfs};

use super::{Blocks, LINK, Node, NodeKind, guarded};
use crate::disk::{Fault, Read, Volume, damaged};

impl BlockRead for Blocks {
    type Error = Fault;

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.fill(at, out)
    }
}

/// An xfs whose files can be read. Its log is replayed in memory.
pub(super) struct Tree {
    volume: Volume,
    xfs: Xfs<Blocks>,
}

impl Tree {
    pub(super) fn open(volume: &Volume) -> Read<Tree> {
        let blocks = Blocks(volume.clone());
        let xfs = guarded(volume, || Xfs::open(blocks, volume.len))?;
        Ok(Tree { volume: volume.clone(), xfs })
    }
}

impl super::Tree for Tree {
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        let Tree { volume, xfs } = self;
        guarded(volume, || {
            let found = xfs.resolve(Path::new(path.as_bytes()));
            let found = found.and_then(|inode| xfs.metadata(&inode));
            match found {
                Ok(found) => Ok(Some(Node::of_mode(found.mode(), found.size()))),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let Tree { volume, xfs } = self;
        let entries = guarded(volume, || xfs.read_dir(Path::new(path.as_bytes())))?;
        let mut names = Vec::new();
        for entry in entries {
            volume.disk.count_entry()?;
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
        }
        Ok(names)
    }

    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>> {
        let Some(node) = self.node(path)? else { return damaged("a file went missing") };
        let Tree { volume, xfs } = self;
        let len = usize::try_from(node.size).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; len];
        let done = guarded(volume, || {
            let inode = xfs.resolve(Path::new(path.as_bytes()))?;
            xfs.read_file_at(&inode, 0, &mut bytes)
        })?;
        bytes.truncate(done);
        Ok(bytes)
    }

    fn link(&mut self, path: &str) -> Read<String> {
        // The library takes as much memory as the link says it is long.
        let node = self.node(path)?.filter(|node| node.kind == NodeKind::Link);
        if node.is_none_or(|node| node.size > LINK) {
            return damaged("a link that is none, or is too long");
        }
        let Tree { volume, xfs } = self;
        let target = guarded(volume, || xfs.read_link(Path::new(path.as_bytes())))?;
        Ok(String::from_utf8_lossy(&target).into_owned())
    }
}
