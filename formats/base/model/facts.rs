//! What an inspection learns.

use super::entry::Vouch;
use super::reference::Reference;

/// What an image says of itself, without a look at its content or at another file.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Name of the format.
    pub format: &'static str,
    /// Which kind of it.
    pub variant: &'static str,
    /// Bytes of the disk, as the guest sees it.
    pub disk_size: u64,
    /// Bytes of the unit in which storage is given out, where there is one.
    pub unit: Option<u64>,
    /// Names it utters.
    pub references: Vec<Reference>,
    /// What images on top of it know it by, where they do.
    pub identity: Option<String>,
    /// What it promises of the files in it.
    pub vouches: Vec<Vouch>,
    /// What a cautious host refuses.
    pub hazards: Vec<Hazard>,
    /// States of the disk that it keeps.
    pub snapshots: Vec<Snapshot>,
    /// Whether the content is encrypted.
    pub encrypted: bool,
    /// Whether it was not closed properly.
    pub dirty: bool,
    /// What else is known, by the names of `qemu-img info --output=json`.
    pub details: Vec<Detail>,
}

impl Facts {
    /// Facts of a disk of this size, and nothing special about it.
    pub fn new(format: &'static str, variant: &'static str, disk_size: u64) -> Facts {
        Facts {
            format,
            variant,
            disk_size,
            unit: None,
            references: Vec::new(),
            identity: None,
            vouches: Vec::new(),
            hazards: Vec::new(),
            snapshots: Vec::new(),
            encrypted: false,
            dirty: false,
            details: Vec::new(),
        }
    }
}

/// Something that a cautious host refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// What sort.
    pub kind: HazardKind,
    /// In a sentence, with the value; may hold text of the image.
    pub what: String,
}

/// What sort of hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HazardKind {
    /// It names another file.
    Reference,
    /// It says of itself that it is damaged.
    Corrupt,
    /// Its content is encrypted.
    Encrypted,
    /// It is two formats at once.
    Ambiguous,
    /// It breaks a rule in a way that lenient readers overlook.
    Irregular,
    /// It looks like a format that is not read here, or is content that looks like a container.
    Foreign,
}

impl HazardKind {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            HazardKind::Reference => "reference",
            HazardKind::Corrupt => "corrupt",
            HazardKind::Encrypted => "encrypted",
            HazardKind::Ambiguous => "ambiguous",
            HazardKind::Irregular => "irregular",
            HazardKind::Foreign => "foreign",
        }
    }
}

/// A state of the disk that an image keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its identifier, unique in the image.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was taken: seconds since 1970.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// How long the virtual machine had run: nanoseconds.
    pub vm_clock: u64,
    /// Instructions it had executed, where counted.
    pub icount: Option<u64>,
    /// Bytes of saved machine state.
    pub vm_state: u64,
    /// Bytes of the disk in that state.
    pub disk_size: u64,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// As machines read it.
    pub name: &'static str,
    /// What it is.
    pub value: Value,
}

/// The value of a detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A count.
    Number(u64),
    /// A number of bytes.
    Bytes(u64),
    /// Text of ours or of the image's.
    Text(String),
    /// Several.
    List(Vec<Value>),
    /// Several with names.
    Map(Vec<(&'static str, Value)>),
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl Detail {
    /// A name and its value.
    pub fn new(name: &'static str, value: impl Into<Value>) -> Detail {
        Detail { name, value: value.into() }
    }
}
