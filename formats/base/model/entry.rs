//! What lies inside a container: files by name, and where their bytes are.

use crate::base::digest::Digest;
use crate::base::error::Kind;

/// So many bytes of a file that lies inside another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// Where they are in the outer file; `None` if they are zeros that nobody stored.
    pub offset: Option<u64>,
    /// How many.
    pub len: u64,
}

impl Stretch {
    /// Bytes that are stored at an offset.
    pub fn stored(offset: u64, len: u64) -> Stretch {
        Stretch { offset: Some(offset), len }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with bytes.
    File,
    /// A folder.
    Folder,
    /// A symbolic link: to what, in its own words.
    Link(String),
    /// Something that has no bytes: a device, a pipe.
    Other,
}

/// One thing inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path inside, with `/` between its parts: never absolute, never with `..`, in the
    /// container's own letters.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of its content.
    pub size: u64,
    /// Where the content lies, in order; together as long as `size`, unless `packing` says how it
    /// is packed.
    pub stretches: Vec<Stretch>,
    /// How the content is packed, in a word, where it is: such an entry is listed, not extracted.
    pub packing: Option<&'static str>,
    /// Permission bits, where it has them.
    pub mode: Option<u32>,
    /// When it was changed: seconds since 1970.
    pub modified: Option<i64>,
}

impl Entry {
    /// A file with its content as it is, and nothing else known.
    pub fn file(path: impl Into<String>, stretches: Vec<Stretch>) -> Entry {
        let size = stretches.iter().map(|stretch| stretch.len).fold(0, u64::saturating_add);
        let (kind, path) = (EntryKind::File, path.into());
        Entry { path, kind, size, stretches, packing: None, mode: None, modified: None }
    }
}

/// A disk that a container holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Where its image lies in the container; empty for a blank disk. `None` if it lies in a file
    /// of its own.
    pub stretches: Option<Vec<Stretch>>,
    /// The files that its image is cut into, in order, where it is not in the one that the
    /// reference names.
    pub parts: Vec<String>,
    /// Bytes that those files are said to have. If they have others, what is said of the disk is
    /// said of another one.
    pub size: Option<u64>,
    /// Why it cannot be read, where the container shows that: what sort of failure, and a
    /// sentence.
    pub lacks: Option<(Kind, String)>,
    /// Bytes of the disk, if the container says so and can be believed: a smaller image is a disk
    /// with zeros behind it, a larger one is an error.
    pub capacity: Option<u64>,
}

/// What a container promises of the bytes of a file in it, or beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouch {
    /// The name of the file, as the promise has it.
    pub name: String,
    /// Where the file lies in the container; `None` if it is not in there.
    pub stretches: Option<Vec<Stretch>>,
    /// What its bytes digest to.
    pub digest: Digest,
}
