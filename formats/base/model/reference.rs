//! A name that an image utters.

use super::entry::Held;

/// What the thing named is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The image underneath, which has what this one lacks.
    Backing,
    /// The file that has the bytes of the disk.
    DataFile,
    /// A file that has a stretch of the disk.
    Extent,
    /// An image that the container holds: a disk of its own.
    Disk,
    /// An archive of files that lies over the ones in front of it.
    Layer,
}

impl Role {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Role::Backing => "backing file",
            Role::DataFile => "data file",
            Role::Extent => "extent",
            Role::Disk => "disk",
            Role::Layer => "layer",
        }
    }
}

/// A name that an image utters: data, not an action. Only a
/// [`Resolver`](crate::Resolver) turns it into bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What the thing is to the image.
    pub role: Role,
    /// The name, as the image has it; may hold any character. Empty if the image knows that there
    /// is such a thing, and not what it is called.
    pub name: String,
    /// The format that the image says it has.
    pub format: Option<String>,
    /// What the thing must say that it is, as its [`identity`](crate::Facts::identity): one of
    /// these. Empty if the image does not care.
    pub expects: Vec<String>,
    /// Where a disk or layer lies and what is known of it.
    pub held: Option<Held>,
}

impl Reference {
    /// A name without a format, of a thing of any identity.
    pub fn new(role: Role, name: impl Into<String>) -> Reference {
        Reference { role, name: name.into(), format: None, expects: Vec::new(), held: None }
    }
}
