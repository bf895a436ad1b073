//! Files and folders, whatever file system they lie in.

mod btrfs;
mod ext;
pub(crate) mod fat;
mod journal;
mod xfs;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{Fault, Read, Volume, damaged};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File,
    Folder,
    Link,
    Other,
}

/// What a path leads to, and its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) size: u64,
}

impl Node {
    /// By the bits that say what an inode is, as every Unix has them.
    fn of_mode(mode: u32, size: u64) -> Node {
        let kind = match mode & 0o170_000 {
            0o100_000 => NodeKind::File,
            0o040_000 => NodeKind::Folder,
            0o120_000 => NodeKind::Link,
            _ => NodeKind::Other,
        };
        Node { kind, size }
    }
}

/// The most bytes of a folder that are looked through, and of a link.
const FOLDER: u64 = 4 << 20;
const LINK: u64 = 4096;

/// A file system whose files can be read. Paths begin with a slash, and have no links, no `.` and
/// no `..` in them: whoever asks has seen to that.
pub(crate) trait Tree {
    /// What is there; `None` if nothing is.
    fn node(&mut self, path: &str) -> Read<Option<Node>>;

    /// The names in a folder that is there.
    fn names(&mut self, path: &str) -> Read<Vec<String>>;

    /// The first `most` bytes of a file that is there, or all it has.
    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>>;

    /// Where a link leads.
    fn link(&mut self, path: &str) -> Read<String>;
}

/// The files of a file system of this kind, if they can be read here.
pub(crate) fn open(volume: &Volume, kind: &str) -> Option<Read<Box<dyn Tree>>> {
    let volume = volume.clone();
    Some(match kind {
        "ext2" | "ext3" | "ext4" => ext::Ext::open(volume).map(|tree| Box::new(tree) as _),
        "vfat" => fat::Fat::open(volume).map(|tree| Box::new(tree) as _),
        "xfs" => xfs::Tree::open(&volume).map(|tree| Box::new(tree) as _),
        "btrfs" => btrfs::Btrfs::open(volume).map(|tree| Box::new(tree) as _),
        _ => return None,
    })
}

/// Bytes that one call into a library may be handed. What it keeps of them takes up to six times as
/// much memory: names of folders, one by one.
const CALL: u64 = 4 << 20;

/// A volume as libraries read it.
struct Blocks(Volume);

impl Blocks {
    fn fill(&self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.0.read(at, out)
    }
}

/// What a call into a library gives. That does not panic, as far as anybody has found out; if it
/// does after all, then this file system cannot be read, and everything else still can.
fn guarded<T, E: std::fmt::Display>(
    volume: &Volume,
    call: impl FnOnce() -> Result<T, E>,
) -> Read<T> {
    let disk = &volume.disk;
    match disk.allowing(CALL, || catch_unwind(AssertUnwindSafe(call))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) if disk.is_spent() => Err(Fault::Spent),
        Ok(Err(error)) => damaged(error.to_string()),
        Err(_) => damaged("what reads it gave up on it"),
    }
}
