//! Files on btrfs, from its default subvolume on.

use lambutter::{BlockRead, Btrfs, Error, Inode, Path};

use super::{Blocks, LINK, Node, guarded};
use crate::disk::{Fault, Read, Volume, damaged};

impl BlockRead for Blocks {
    type Error = Fault;

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.fill(at, out)
    }
}

/// A btrfs whose files can be read.
pub(super) struct Tree {
    volume: Volume,
    btrfs: Btrfs<Blocks>,
}

impl Tree {
    pub(super) fn open(volume: &Volume) -> Read<Tree> {
        let blocks = Blocks(volume.clone());
        let btrfs = guarded(volume, || Btrfs::open(blocks, volume.len))?;
        Ok(Tree { volume: volume.clone(), btrfs })
    }

    /// What is there, and its bytes.
    fn find(&mut self, path: &str) -> Read<Option<(Inode, Node)>> {
        let Tree { volume, btrfs } = self;
        guarded(volume, || match btrfs.resolve(Path::from(path)) {
            Ok(inode) => {
                let found = btrfs.metadata(&inode)?;
                Ok(Some((inode, Node::of_mode(found.mode, found.size))))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        })
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound)
}

impl super::Tree for Tree {
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        Ok(self.find(path)?.map(|(_, node)| node))
    }

    fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let Tree { volume, btrfs } = self;
        let entries = guarded(volume, || btrfs.read_dir(Path::from(path)))?;
        let mut names = Vec::new();
        for entry in entries {
            volume.disk.count_entry()?;
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
        }
        Ok(names)
    }

    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>> {
        let Some((inode, node)) = self.find(path)? else { return damaged("a file went missing") };
        let Tree { volume, btrfs } = self;
        let len = usize::try_from(node.size).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let rest = &mut bytes[done..];
            match guarded(volume, || btrfs.read_file_at(&inode, done as u64, rest))? {
                0 => break,
                more => done += more,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn link(&mut self, path: &str) -> Read<String> {
        let found = self.find(path)?;
        if found.is_none_or(|(_, node)| node.size > LINK) {
            return damaged("a link that is none, or is too long");
        }
        let Tree { volume, btrfs } = self;
        let target = guarded(volume, || btrfs.read_link(Path::from(path)))?;
        Ok(String::from_utf8_lossy(&target).into_owned())
    }
}
