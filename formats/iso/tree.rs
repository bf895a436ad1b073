//! The files and folders that a new volume gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names;
use crate::base::error::{Error, Result};
use crate::base::storage::Source;

/// Opens the content of a file, when its turn has come.
pub(super) type Opener = Box<dyn Fn() -> Result<Arc<dyn Source>> + Send + Sync>;

/// The root is the first node.
pub(super) const ROOT: usize = 0;

/// A file, a folder, a link.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) parent: usize,
    /// Permissions.
    pub(super) mode: u32,
    pub(super) kind: NodeKind,
}

pub(super) enum NodeKind {
    /// What is in it, by its names.
    Folder(BTreeMap<String, usize>),
    /// How long it is, and where its bytes are had from.
    File { len: u64, open: Opener },
    /// What it points to.
    Link(String),
}

/// All of them; nodes know each other by their numbers.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// A root with nothing in it.
    pub(super) fn new() -> Tree {
        let kind = NodeKind::Folder(BTreeMap::new());
        Tree { nodes: vec![Node { name: String::new(), parent: ROOT, mode: 0o755, kind }] }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate()
    }

    /// What is in a folder, by name; nothing in anything else.
    pub(super) fn children(&self, number: usize) -> impl Iterator<Item = usize> {
        let children = match &self.nodes[number].kind {
            NodeKind::Folder(children) => Some(children.values().copied()),
            NodeKind::File { .. } | NodeKind::Link(_) => None,
        };
        children.into_iter().flatten()
    }

    pub(super) fn is_folder(&self, number: usize) -> bool {
        matches!(self.nodes[number].kind, NodeKind::Folder(_))
    }

    /// How many folders a folder has in it.
    pub(super) fn folders_in(&self, number: usize) -> usize {
        self.children(number).filter(|child| self.is_folder(*child)).count()
    }

    /// Adds something at a path; folders on the way are made. `Invalid` if the path is none, or
    /// taken; a folder may come twice.
    pub(super) fn add(&mut self, path: &str, mode: u32, kind: NodeKind) -> Result<()> {
        if let Some(part) = path.split('/').find(|part| names::check(part, 0).is_err()) {
            let (path, part) = (path.escape_debug(), part.escape_debug());
            return Err(Error::invalid(format!("'{part}' in '{path}' is no name for a file")));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.way(folder, path)?;
        if let NodeKind::Folder(_) = kind
            && let Some(there) = self.child(parent, name).filter(|there| self.is_folder(*there))
        {
            self.nodes[there].mode = mode;
            return Ok(());
        }
        self.put(parent, name, path, mode, kind).map(drop)
    }

    /// The number of a file.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        path.split('/').try_fold(ROOT, |folder, part| self.child(folder, part))
    }

    fn child(&self, folder: usize, name: &str) -> Option<usize> {
        match &self.nodes[folder].kind {
            NodeKind::Folder(children) => children.get(name).copied(),
            NodeKind::File { .. } | NodeKind::Link(_) => None,
        }
    }

    /// The folder at a path, made where it is not there.
    fn way(&mut self, folder: &str, path: &str) -> Result<usize> {
        let mut number = ROOT;
        for part in folder.split('/').filter(|_| !folder.is_empty()) {
            number = match self.child(number, part) {
                Some(child) => child,
                None => self.put(number, part, path, 0o755, NodeKind::Folder(BTreeMap::new()))?,
            };
        }
        Ok(number)
    }

    fn put(
        &mut self,
        parent: usize,
        name: &str,
        path: &str,
        mode: u32,
        kind: NodeKind,
    ) -> Result<usize> {
        let shown = path.escape_debug();
        if name.len() > 255 {
            return Err(Error::invalid(format!("a name in '{shown}' is longer than 255 bytes")));
        }
        let number = self.nodes.len();
        let NodeKind::Folder(children) = &mut self.nodes[parent].kind else {
            return Err(Error::invalid(format!(
                "'{shown}' goes through something else than folders"
            )));
        };
        if children.contains_key(name) {
            return Err(Error::invalid(format!("there are two of the path '{shown}'")));
        }
        children.insert(name.to_owned(), number);
        self.nodes.push(Node { name: name.to_owned(), parent, mode, kind });
        Ok(number)
    }
}
