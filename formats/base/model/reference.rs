//! A name that an image utters.

/// What the thing named is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The image underneath, which has what this one lacks.
    Backing,
    /// The file that has the bytes of the disk.
    DataFile,
}

impl Role {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Role::Backing => "backing file",
            Role::DataFile => "data file",
        }
    }
}

/// A name that an image utters: data, not an action. Only a
/// [`Resolver`](crate::Resolver) turns it into bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What the thing is to the image.
    pub role: Role,
    /// The name, as the image has it; may hold any character.
    pub name: String,
    /// The format that the image says it has.
    pub format: Option<String>,
}
