//! The folders of a volume under one sort of names: their order, their numbers, their path table.

use super::identifiers::{Identifier, Naming};
use super::tree::{ROOT, Tree};
use crate::base::error::{Error, Result};

/// Folders as ISO 9660 wants them, under short names, or Joliet under its own.
pub(super) struct Hierarchy {
    /// Nodes of the folders, level by level; what is in each, in the order of its records.
    pub(super) folders: Vec<(usize, Vec<usize>)>,
    /// The name of every node.
    pub(super) names: Vec<Identifier>,
    /// The place of every folder among all, by its node.
    places: Vec<usize>,
}

impl Hierarchy {
    /// `Limit` if there are more folders than a path table has numbers for.
    pub(super) fn new(tree: &Tree, naming: Naming) -> Result<Hierarchy> {
        let mut names = vec![Identifier::default(); tree.len()];
        let mut places = vec![0; tree.len()];
        names[ROOT].bytes = vec![0];
        let mut folders = vec![(ROOT, Vec::new())];
        let mut next = 0;
        while next < folders.len() {
            let folder = folders[next].0;
            places[folder] = next;
            let mut children: Vec<_> = tree.children(folder).collect();
            let given =
                children.iter().map(|child| (&*tree.node(*child).name, tree.is_folder(*child)));
            for (child, name) in children.iter().zip(naming(&given.collect::<Vec<_>>())) {
                names[*child] = name;
            }
            children.sort_by(|one, other| names[*one].key.cmp(&names[*other].key));
            let inner = children.iter().filter(|child| tree.is_folder(**child));
            let inner: Vec<_> = inner.map(|child| (*child, Vec::new())).collect();
            folders.extend(inner);
            folders[next].1 = children;
            next += 1;
        }
        if u16::try_from(folders.len()).is_err() {
            let (count, most) = (folders.len(), u16::MAX);
            return Err(Error::limit(format!("{count} folders, {most} at most")));
        }
        Ok(Hierarchy { folders, names, places })
    }

    /// The place of a folder among all.
    pub(super) fn place(&self, folder: usize) -> usize {
        self.places[folder]
    }

    /// The path table: every folder with its sector and its parent, the numbers as `order` has
    /// them: the least significant byte first, or last.
    pub(super) fn path_table(&self, tree: &Tree, sectors: &[u32], order: Order) -> Vec<u8> {
        let mut bytes = Vec::new();
        for ((folder, _), sector) in self.folders.iter().zip(sectors) {
            let name = &self.names[*folder].bytes;
            bytes.push(u8::try_from(name.len()).expect("names of ours are short"));
            bytes.push(0);
            let parent = self.place(tree.node(*folder).parent) + 1;
            let parent = u16::try_from(parent).expect("there are no more folders");
            match order {
                Order::Little => {
                    bytes.extend(sector.to_le_bytes());
                    bytes.extend(parent.to_le_bytes());
                }
                Order::Big => {
                    bytes.extend(sector.to_be_bytes());
                    bytes.extend(parent.to_be_bytes());
                }
            }
            bytes.extend(name);
            bytes.resize(bytes.len().next_multiple_of(2), 0);
        }
        bytes
    }
}

/// Of bytes in a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Little,
    Big,
}
