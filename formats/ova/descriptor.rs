//! What a descriptor says: files, disks in them, machines that use those.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::{self, Machine};
use super::units;
use super::xml::Element;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;

/// Files, and disks, of a package at most.
const MOST: usize = 4096;

/// A package of machines, as its descriptor has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// The version that it says.
    pub(super) version: Option<String>,
    pub(super) files: Vec<File>,
    /// The one that a single machine starts from first, the others as they stand there.
    pub(super) disks: Vec<Disk>,
    pub(super) machines: Vec<Machine>,
}

/// A file of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) id: String,
    /// Its name, without `./` in front.
    pub(super) href: String,
    /// Bytes of it, as it is stored.
    pub(super) size: Option<u64>,
    /// Whether it is packed, and how.
    pub(super) compression: Option<String>,
    /// Bytes of each of the files that it is cut into.
    pub(super) chunk: Option<u64>,
    /// Where it is spoken of.
    pub(super) at: u64,
}

/// A disk of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) id: String,
    /// Which file it lies in; none if it is blank.
    pub(super) file: Option<usize>,
    pub(super) capacity: Option<u64>,
    pub(super) populated: Option<u64>,
    /// The disk that it lies on top of.
    pub(super) parent: Option<String>,
    /// What the format is said to be.
    pub(super) format: String,
    /// Whether a single machine starts from it.
    pub(super) boot: bool,
    /// Where it is spoken of.
    pub(super) at: u64,
}

/// Values that a descriptor has under names.
type Properties = BTreeMap<String, String>;

/// Reads the tree of a descriptor.
pub(super) fn read(root: &Element, limits: &Limits) -> Result<Package> {
    if root.name != "Envelope" {
        let what = format!("the descriptor is a text of '{}'", root.name.escape_debug());
        return Err(Error::malformed(root.at, what));
    }
    let version = root.attribute("version")?.map(str::to_string);
    let files = files(root)?;
    let machines = machine::machines(root)?;
    let properties = properties(root)?;
    let mut disks = Vec::new();
    for section in root.all("DiskSection") {
        for element in section.all("Disk") {
            disks.push(disk(element, &files, &properties, limits)?);
            bounded(disks.len(), "disks", element.at)?;
        }
    }
    let mut package = Package { version, files, disks, machines };
    package.take_files_as_disks();
    package.check()?;
    package.sort();
    Ok(package)
}

fn files(root: &Element) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for element in root.all("References").flat_map(|list| list.all("File")) {
        let need = |name: &str| {
            let what = || Error::malformed(element.at, format!("a File without '{name}'"));
            element.attribute(name)?.ok_or_else(what)
        };
        let (id, href) = (need("id")?.to_string(), need("href")?);
        let number = |name: &str| match element.attribute(name)? {
            None | Some("") => Ok(None),
            Some(text) => number(text, name, element.at).map(Some),
        };
        let compression = element.attribute("compression")?;
        let compression = compression.filter(|word| !matches!(*word, "" | "identity"));
        files.push(File {
            id,
            href: href.strip_prefix("./").unwrap_or(href).to_string(),
            size: number("size")?,
            compression: compression.map(str::to_string),
            chunk: number("chunkSize")?,
            at: element.at,
        });
        bounded(files.len(), "files", element.at)?;
    }
    Ok(files)
}

fn bounded(count: usize, what: &str, at: u64) -> Result<()> {
    match count <= MOST {
        true => Ok(()),
        false => Err(Error::limit(format!("a package of more than {MOST} {what}")).at(at)),
    }
}

fn number(text: &str, name: &str, at: u64) -> Result<u64> {
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Error::malformed(at, format!("'{}' is no number for '{name}'", shown.escape_debug()))
    })
}

/// What `${name}` stands for.
fn properties(root: &Element) -> Result<Properties> {
    let mut found = Properties::new();
    for element in root.below() {
        if element.name != "Property" {
            continue;
        }
        if let (Some(key), Some(value)) = (element.attribute("key")?, element.attribute("value")?) {
            found.entry(key.into()).or_insert_with(|| value.into());
        }
    }
    Ok(found)
}

fn disk(
    element: &Element,
    files: &[File],
    properties: &Properties,
    limits: &Limits,
) -> Result<Disk> {
    let at = element.at;
    let text = |name: &str| Ok(element.attribute(name)?.filter(|text| !text.is_empty()));
    let id = text("diskId")?.ok_or_else(|| Error::malformed(at, "a Disk without 'diskId'"))?;
    let file = match text("fileRef")? {
        None => None,
        Some(name) => Some(files.iter().position(|file| file.id == name).ok_or_else(|| {
            let (id, name) = (id.escape_debug(), name.escape_debug());
            Error::malformed(at, format!("the disk '{id}' lies in the file '{name}', unknown here"))
        })?),
    };
    let units = text("capacityAllocationUnits")?;
    let size = |name: &'static str, units: Option<&str>| match text(name)? {
        None => Ok(None),
        Some(value) => {
            let value = property(value, properties, at)?;
            units::bytes(number(value, name, at)?, units, at).map(Some)
        }
    };
    let capacity = size("capacity", units)?;
    if let Some(size) = capacity.filter(|size| *size > limits.max_disk_size) {
        let most = limits.max_disk_size;
        return Err(Error::limit(format!("a disk of {size} bytes, {most} at most")).at(at));
    }
    Ok(Disk {
        id: id.into(),
        file,
        capacity,
        populated: size("populatedSize", None)?,
        parent: text("parentRef")?.map(str::to_string),
        format: text("format")?.unwrap_or_default().to_string(),
        boot: false,
        at,
    })
}

/// The value of a property, where there is one instead of a number.
fn property<'a>(value: &'a str, properties: &'a Properties, at: u64) -> Result<&'a str> {
    let name = value.trim().strip_prefix("${").and_then(|name| name.strip_suffix('}'));
    let Some(name) = name else { return Ok(value) };
    properties.get(name).map(String::as_str).ok_or_else(|| {
        let what = format!("a size that is the property '{}', unknown here", name.escape_debug());
        Error::malformed(at, what)
    })
}

impl Package {
    /// A machine may use a file as a disk, without a word of it in the list of disks.
    fn take_files_as_disks(&mut self) {
        let drives = self.machines.iter().flat_map(|machine| &machine.drives);
        for name in drives.filter_map(|drive| drive.file.as_ref()) {
            let Some(file) = self.files.iter().position(|file| file.id == *name) else { continue };
            if self.disks.iter().all(|disk| disk.file != Some(file)) {
                let at = self.files[file].at;
                self.disks.push(Disk {
                    id: name.clone(),
                    file: Some(file),
                    capacity: None,
                    populated: None,
                    parent: None,
                    format: String::new(),
                    boot: false,
                    at,
                });
            }
        }
    }

    /// Names that come twice mean nothing.
    fn check(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        let files = self.files.iter().map(|file| ("file", &file.id, file.at));
        for (what, id, at) in files.chain(self.disks.iter().map(|disk| ("disk", &disk.id, disk.at)))
        {
            if !seen.insert((what, id)) {
                let id = id.escape_debug();
                return Err(Error::malformed(at, format!("two {what}s have the id '{id}'")));
            }
        }
        Ok(())
    }

    /// Puts the disk first that the machine starts from, where there is one machine.
    fn sort(&mut self) {
        let [machine] = &self.machines[..] else { return };
        let Some(first) = machine.boot() else { return };
        let is = |disk: &Disk| match (&first.disk, &first.file, disk.file) {
            (Some(id), _, _) => disk.id == *id,
            (None, Some(id), Some(file)) => self.files[file].id == *id,
            _ => false,
        };
        if let Some(index) = self.disks.iter().position(is) {
            self.disks[index].boot = true;
            self.disks[..=index].rotate_right(1);
        }
    }
}
