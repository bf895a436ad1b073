//! Files by their paths: links are followed, and never out of the file system.

use std::collections::HashMap;

use crate::disk::{Read, damaged};
use crate::tree::{Node, NodeKind, Tree};

/// Links followed on one way, as Linux has it.
const LINKS: usize = 40;
/// Parts of a path, however they came together.
const PARTS: usize = 256;

/// The files of a file system, or of a part of it.
pub(crate) struct Files {
    tree: Box<dyn Tree>,
    /// The folder that stands for `/`: empty, or a subvolume.
    root: String,
    known: HashMap<String, Option<Node>>,
}

impl Files {
    pub(crate) fn new(tree: Box<dyn Tree>) -> Files {
        Files { tree, root: String::new(), known: HashMap::new() }
    }

    /// From now on, `/` is this folder.
    pub(crate) fn enter(&mut self, root: &str) {
        self.root = root.into();
    }

    /// What is at a path without links in it, below the root.
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        let path = format!("{}{path}", self.root);
        if let Some(known) = self.known.get(&path) {
            return Ok(*known);
        }
        let node = self.tree.node(&path)?;
        self.known.insert(path, node);
        Ok(node)
    }

    /// What a path leads to, and the path without links in it.
    fn find(&mut self, path: &str) -> Read<Option<(String, Node)>> {
        // Parts still to go, the next one last.
        let mut ahead: Vec<String> = Vec::new();
        let push = |ahead: &mut Vec<String>, path: &str| {
            ahead.extend(path.split('/').rev().filter(|part| !part.is_empty()).map(Into::into));
        };
        push(&mut ahead, path);
        let (mut at, mut links) = (String::new(), 0);
        let folder = Node { kind: NodeKind::Folder, size: 0 };
        let mut node = folder;
        while let Some(part) = ahead.pop() {
            if node.kind != NodeKind::Folder {
                return Ok(None);
            }
            if part == "." {
                continue;
            }
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{at}/{part}");
            let Some(found) = self.node(&next)? else { return Ok(None) };
            if found.kind != NodeKind::Link {
                (at, node) = (next, found);
                continue;
            }
            links += 1;
            let target = self.tree.link(&format!("{}{next}", self.root))?;
            if links > LINKS {
                return damaged(format!("'{path}' leads through more than {LINKS} links"));
            }
            if target.starts_with('/') {
                at.clear();
            }
            push(&mut ahead, &target);
            if ahead.len() > PARTS {
                return damaged(format!("'{path}' leads to a path that is too long"));
            }
        }
        let path = if at.is_empty() { "/".into() } else { at };
        Ok(Some((path, node)))
    }

    /// What kind of thing a path leads to.
    pub(crate) fn kind(&mut self, path: &str) -> Read<Option<NodeKind>> {
        Ok(self.find(path)?.map(|(_, node)| node.kind))
    }

    /// Whether there is anything but a folder.
    pub(crate) fn has(&mut self, path: &str) -> Read<bool> {
        Ok(self.kind(path)?.is_some_and(|kind| kind != NodeKind::Folder))
    }

    /// The first `most` bytes of a file, if there is one.
    pub(crate) fn read(&mut self, path: &str, most: usize) -> Read<Option<Vec<u8>>> {
        match self.find(path)? {
            Some((path, Node { kind: NodeKind::File, .. })) => {
                self.tree.read(&format!("{}{path}", self.root), most).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The names in a folder, in their order; none if there is no such folder.
    pub(crate) fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let Some((path, Node { kind: NodeKind::Folder, .. })) = self.find(path)? else {
            return Ok(Vec::new());
        };
        let mut names = self.tree.names(&format!("{}{path}", self.root))?;
        names.sort();
        Ok(names)
    }
}
