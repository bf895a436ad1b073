//! What lies on a disk: partitions, file systems, how it boots, and which operating system.
//!
//! The disk is read through its image, without mounting anything, and whatever lies on it: a look
//! costs what its [`Budget`] allows, and strange content ends in a note, never in an error.
//!
//! ```
//! # fn main() -> formats::Result<()> {
//! use std::sync::Arc;
//! use contents::{Budget, look};
//! use formats::{FORMATS, Limits, Memory, OpenOptions};
//!
//! let limits = Limits::default();
//! let disk = Arc::new(Memory::new(vec![0; 1 << 20]));
//! let disk = formats::open(disk, formats::format("raw")?, &OpenOptions::new(FORMATS, &limits))?;
//! let contents = look(disk.into(), &Budget::default())?;
//! assert!(contents.table.is_none() && contents.system.distro.is_none());
//! # Ok(())
//! # }
//! ```

mod boot;
mod bytes;
mod disk;
mod files;
mod kernel;
mod lvm;
mod machine;
mod system;
mod systems;
mod table;
mod torito;
mod tree;

use std::rc::Rc;
use std::sync::Arc;

use formats::{Image, Result};

use crate::disk::{Disk, Volume};
use crate::files::Files;
use crate::systems::Found;

pub use boot::{Boot, Firmware};
pub use disk::Budget;
pub use system::System;
pub use systems::FileSystem;
pub use table::{Partition, Problem, ProblemKind, Table, TableKind};

/// What a root file system may lie in, or be, that is not read here.
const CLOSED: [&str; 9] =
    ["luks", "bitlocker", "lvm2", "raid", "zfs", "f2fs", "squashfs", "erofs", "ufs"];
/// Partitions in which a file system is looked for.
const PARTITIONS: usize = 64;

/// What lies on a disk. What is not known is absent.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// How the disk is divided.
    pub table: Option<Table>,
    /// In the order of the partitions.
    pub file_systems: Vec<FileSystem>,
    /// How it boots.
    pub boot: Boot,
    /// The operating system.
    pub system: System,
    /// What could not be read, and why: a sentence each.
    pub notes: Vec<String>,
}

/// A value, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<T> {
    /// The value.
    pub value: T,
    /// Where it came from, in a few words.
    pub why: String,
}

impl<T> Known<T> {
    fn new(value: T, why: impl Into<String>) -> Known<T> {
        Known { value, why: why.into() }
    }
}

/// A file system, and what is known of where it lies.
struct Place {
    volume: Volume,
    partition: Option<Partition>,
    /// The logical volume that it lies in.
    logical: Option<String>,
    found: Found,
    files: Option<Files>,
}

impl Place {
    /// Where it is, for people.
    fn name(&self) -> String {
        let kind = match self.found.kind {
            "luks" | "bitlocker" => "encrypted volume",
            "lvm2" => "part of a volume group",
            "raid" => "part of a RAID",
            "zfs" => "part of a ZFS pool",
            kind => &format!("{kind} file system"),
        };
        match (&self.partition, &self.logical) {
            (_, Some(name)) => format!("the {kind} in the volume {name}"),
            (Some(partition), None) => format!("the {kind} in partition {}", partition.number),
            (None, None) => format!("the {kind}"),
        }
    }

    fn type_id(&self) -> &str {
        self.partition.as_ref().map_or("", |partition| partition.type_id.as_str())
    }
}

/// Looks at a disk, as far as the budget lets it. Fails only where the image itself cannot be read,
/// or may not be: what is odd about its content is a note.
pub fn look(image: Arc<dyn Image>, budget: &Budget) -> Result<Contents> {
    let disk = Rc::new(Disk::new(image, budget));
    let table = table::read(&disk).unwrap_or_else(|fault| {
        disk.complain("the partition table", &fault);
        None
    });
    let mut places = places(&disk, table.as_ref());
    let file_systems = places.iter().map(FileSystem::of).collect();
    let root = system::root(&mut places);
    if root.is_none() {
        // A group of whose volumes none is found here is as closed as anything.
        let is_open = places.iter().any(|place| place.logical.is_some());
        let is_closed = |place: &&Place| {
            CLOSED.contains(&place.found.kind) && !(is_open && place.found.kind == "lvm2")
        };
        for place in places.iter().filter(is_closed) {
            disk.note(format!("{}: what lies in it is not read", place.name()));
        }
    }
    let system = system::describe(&disk, &mut places, root);
    let boot = boot::describe(&disk, table.as_ref(), &mut places, root);
    Ok(Contents { table, file_systems, boot, system, notes: disk.finish()? })
}

/// Every file system of a disk.
fn places(disk: &Rc<Disk>, table: Option<&Table>) -> Vec<Place> {
    let mut places = Vec::new();
    let whole = Volume::whole(disk);
    // A hybrid image is a file system and a table at once; otherwise a table hides what was there.
    let over_all = systems::identify(&whole, table.is_some());
    places.extend(over_all.map(|found| Place::new(whole, None, found)));
    if let Some(table) = table {
        in_partitions(disk, table, &mut places);
    }
    let parts = places.iter().filter(|place| place.found.kind == "lvm2");
    let parts: Vec<_> = parts.map(|place| place.volume.clone()).collect();
    for logical in lvm::volumes(&parts) {
        if let Some(found) = systems::identify(&logical.volume, false) {
            let mut place = Place::new(logical.volume, None, found);
            place.logical = Some(logical.name);
            places.push(place);
        }
    }
    places
}

/// Adds the file systems in partitions.
fn in_partitions(disk: &Rc<Disk>, table: &Table, places: &mut Vec<Place>) {
    let holding = table.partitions.iter().filter(|partition| !partition.is_extended());
    for (index, partition) in holding.enumerate() {
        if index == PARTITIONS {
            disk.note(format!("only the first {PARTITIONS} partitions were looked into"));
            break;
        }
        let volume = Volume::part(disk, partition.start, partition.len);
        if let Some(found) = systems::identify(&volume, false) {
            places.push(Place::new(volume, Some(partition.clone()), found));
        }
    }
}

impl Place {
    /// A file system, opened if its files can be read.
    fn new(volume: Volume, partition: Option<Partition>, found: Found) -> Place {
        let mut place = Place { volume, partition, logical: None, found, files: None };
        match tree::open(&place.volume, place.found.kind) {
            Some(Ok(tree)) => place.files = Some(Files::new(tree)),
            Some(Err(fault)) => place.volume.disk.complain(&place.name(), &fault),
            None => {}
        }
        place
    }
}
