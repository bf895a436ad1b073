//! The text of a bundle, `DiskDescriptor.xml`: which files hold which range of the disk, and which
//! of them lie on top of each other.
//!
//! Source: qemu docs/interop/prl-xml.rst.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::layout::SECTOR;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Snapshot;
use crate::base::storage::{Span, Window};
use crate::base::xml::resolve;

/// The element that holds all others.
const ROOT: &str = "Parallels_disk_image";
/// What a text can begin with in front of it; and how far behind the front it is looked for.
const BYTE_ORDER: &[u8] = b"\xef\xbb\xbf";
const FRONTS: [&[u8]; 2] = [b"<?xml", b"<Parallels_disk_image"];
const LOOK: u64 = 4096;
/// Bytes of a text at most: one with a thousand snapshots has 400 KiB.
const MAX_LEN: u64 = 8 << 20;
/// Elements inside each other at most.
const MAX_DEPTH: usize = 32;
/// The image that is written to, where the text does not say; and the parent of the first one.
const TOP: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const NONE: &str = "{00000000-0000-0000-0000-000000000000}";

/// What the text says, with the images in use only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) size: u64,
    pub(super) encrypted: bool,
    /// The images on top of each other, the one that is written to first.
    pub(super) chain: Vec<String>,
    /// All states of the disk that there are.
    shots: Vec<Shot>,
    /// In the order of the disk, without gaps.
    pub(super) storages: Vec<Storage>,
}

/// A range of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Storage {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bytes of a cluster, if it says.
    pub(super) cluster: Option<u64>,
    /// As in the chain.
    pub(super) images: Vec<Image>,
}

/// A file with what the disk's range was in some state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Image {
    guid: String,
    /// All bytes, one after the other; otherwise an image of the room's own format.
    pub(super) plain: bool,
    pub(super) file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Shot {
    guid: String,
    parent: String,
    name: String,
}

/// Whether this is such a text: its first element is the root.
pub(super) fn is_one(window: &dyn Window) -> Result<bool> {
    let mark = window.starts_with(0, BYTE_ORDER)?;
    let start = if mark { BYTE_ORDER.len() as u64 } else { 0 };
    let mut begins = false;
    for front in FRONTS {
        begins |= window.starts_with(start, front)?;
    }
    if !begins {
        return Ok(false);
    }
    for at in start..start + LOOK {
        if window.starts_with(at, b"<")? {
            if window.starts_with(at + 1, ROOT.as_bytes())? {
                return Ok(true);
            }
            // A declaration or a comment may stand in front, no other element.
            if !window.starts_with(at + 1, b"?")? && !window.starts_with(at + 1, b"!")? {
                return Ok(false);
            }
        }
    }
    Ok(false)
}

/// Reads the text, which is looked at as a whole.
pub(super) fn read(window: &dyn Window, limits: &Limits) -> Result<Bundle> {
    let len = window.len()?;
    if len > MAX_LEN {
        return Err(Error::limit(format!("a descriptor of {len} bytes, {MAX_LEN} at most")));
    }
    let bytes = window.bytes(Span::new(0, len)?, "the descriptor", limits)?;
    let bytes = bytes.strip_prefix(BYTE_ORDER).unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::malformed(error.valid_up_to() as u64, "the descriptor is no UTF-8 text")
    })?;
    let mut parser = Parser { limits, text: Text::default() };
    parser.walk(text)?;
    parser.text.finish(limits)
}

/// The text as it stands there, nothing of it compared with anything.
#[derive(Default)]
struct Text {
    disk_size: Option<u64>,
    padding: u64,
    sector: Option<u64>,
    engine: Option<String>,
    top: Option<String>,
    storages: Vec<Storage>,
    shots: Vec<Shot>,
}

struct Parser<'a> {
    limits: &'a Limits,
    text: Text,
}

impl Parser<'_> {
    fn walk(&mut self, text: &str) -> Result<()> {
        let mut reader = Reader::from_str(text);
        let mut path: Vec<String> = Vec::new();
        let mut value = String::new();
        loop {
            let at = reader.buffer_position();
            let fail = |error: &dyn std::fmt::Display| {
                Error::malformed(at, format!("the descriptor is no sound XML: {error}"))
            };
            match reader.read_event().map_err(|error| fail(&error))? {
                Event::Start(element) => {
                    if path.len() == MAX_DEPTH {
                        let what = format!("more than {MAX_DEPTH} elements inside each other");
                        return Err(Error::limit(what).at(at));
                    }
                    path.push(element.name().as_ref().to_string());
                    value.clear();
                    self.enter(&path, at)?;
                }
                Event::Empty(element) => {
                    path.push(element.name().as_ref().to_string());
                    self.enter(&path, at)?;
                    self.leave(&path, "", at)?;
                    path.pop();
                }
                Event::End(_) => {
                    self.leave(&path, value.trim(), at)?;
                    value.clear();
                    path.pop();
                }
                Event::Text(part) => value.push_str(part.as_ref()),
                Event::CData(part) => value.push_str(part.as_ref()),
                Event::GeneralRef(reference) => value.push_str(&resolve(&reference, at)?),
                Event::DocType(_) => {
                    let what = "the descriptor has a document type, which could name other files";
                    return Err(Error::refused(what).at(at));
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof if path.is_empty() => return Ok(()),
                Event::Eof => return Err(Error::truncated(at, "the descriptor ends too early")),
            }
        }
    }

    /// A list gets a row where its element begins.
    fn enter(&mut self, path: &[String], at: u64) -> Result<()> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Text { storages, shots, .. } = &mut self.text;
        let images = storages.last().map_or(0, |storage| storage.images.len());
        let rows = storages.len().max(shots.len()).max(images) as u64;
        if rows > self.limits.max_entries {
            let most = self.limits.max_entries;
            return Err(Error::limit(format!("more than {most} rows of a list")).at(at));
        }
        match path[..] {
            [root] if root != ROOT => Err(Error::malformed(at, "another text than a bundle's")),
            [_, "StorageData", "Storage"] => {
                storages.push(Storage::default());
                Ok(())
            }
            [_, "StorageData", "Storage", "Image"] => {
                if let Some(storage) = storages.last_mut() {
                    storage.images.push(Image::default());
                }
                Ok(())
            }
            [_, "Snapshots", "Shot"] => {
                shots.push(Shot::default());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An element has ended, and this was between.
    fn leave(&mut self, path: &[String], value: &str, at: u64) -> Result<()> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Text { disk_size, padding, sector, engine, top, storages, shots } = &mut self.text;
        match path[..] {
            [_, "Disk_Parameters", "Disk_size"] => *disk_size = Some(sectors(value, at)?),
            [_, "Disk_Parameters", "Padding"] => *padding = number(value, at)?,
            [_, "Disk_Parameters", "LogicSectorSize"] => *sector = Some(number(value, at)?),
            [_, "Disk_Parameters", "Encryption", "Engine"] => *engine = Some(guid(value)),
            [_, "Snapshots", "TopGUID"] => *top = Some(guid(value)),
            [_, "Snapshots", "Shot", leaf] => {
                let Some(shot) = shots.last_mut() else { return Ok(()) };
                match leaf {
                    "GUID" => shot.guid = guid(value),
                    "ParentGUID" => shot.parent = guid(value),
                    "Name" => shot.name = value.into(),
                    _ => {}
                }
            }
            [_, "StorageData", "Storage", leaf] => {
                let Some(storage) = storages.last_mut() else { return Ok(()) };
                match leaf {
                    "Start" => storage.start = sectors(value, at)?,
                    "End" => storage.end = sectors(value, at)?,
                    "Blocksize" => storage.cluster = Some(sectors(value, at)?),
                    _ => {}
                }
            }
            [_, "StorageData", "Storage", "Image", leaf] => {
                let image = storages.last_mut().and_then(|storage| storage.images.last_mut());
                let Some(image) = image else { return Ok(()) };
                match leaf {
                    "GUID" => image.guid = guid(value),
                    "File" => image.file = value.into(),
                    "Type" => image.plain = is_plain(value, at)?,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(value: &str, at: u64) -> Result<u64> {
    value.parse().map_err(|_| {
        let shown: String = value.chars().take(40).collect();
        Error::malformed(at, format!("'{}' is no number", shown.escape_debug()))
    })
}

fn sectors(value: &str, at: u64) -> Result<u64> {
    let sectors = number(value, at)?;
    let what = || Error::malformed(at, format!("{sectors} sectors do not end in 2^64"));
    sectors.checked_mul(SECTOR).ok_or_else(what)
}

/// As it is compared.
fn guid(value: &str) -> String {
    value.to_ascii_lowercase()
}

fn is_plain(value: &str, at: u64) -> Result<bool> {
    match value {
        "Plain" => Ok(true),
        "Compressed" => Ok(false),
        other => {
            let shown: String = other.chars().take(40).collect();
            let what = format!("an image of the type '{}'", shown.escape_debug());
            Err(Error::unsupported(what).at(at))
        }
    }
}

impl Text {
    fn finish(mut self, limits: &Limits) -> Result<Bundle> {
        if self.padding != 0 {
            return Err(Error::unsupported(format!("{} sectors of padding", self.padding)));
        }
        if let Some(sector) = self.sector.filter(|sector| *sector != SECTOR) {
            return Err(Error::unsupported(format!("sectors of {sector} bytes")));
        }
        let size = self.disk_size.ok_or_else(|| Error::malformed(0, "it has no Disk_size"))?;
        self.storages.sort_by_key(|storage| storage.start);
        let mut end = 0;
        for storage in &self.storages {
            let Storage { start, end: next, .. } = *storage;
            if start != end || next < start {
                let what = format!("a range from {start} to {next} follows one that ends at {end}");
                return Err(Error::malformed(0, what));
            }
            end = next;
        }
        if end != size {
            let what = format!("its ranges end at {end}, and the disk at {size}");
            return Err(Error::malformed(0, what));
        }
        let chain = self.chain(limits)?;
        for storage in &mut self.storages {
            let images = std::mem::take(&mut storage.images);
            for guid in &chain {
                let image = images.iter().find(|image| image.guid == *guid);
                storage.images.push(image.cloned().ok_or_else(|| {
                    let guid = guid.escape_debug();
                    Error::malformed(0, format!("a range of the disk has no image {guid}"))
                })?);
            }
        }
        let encrypted = self.engine.is_some_and(|engine| !engine.is_empty() && engine != NONE);
        let (shots, storages) = (self.shots, self.storages);
        Ok(Bundle { size, encrypted, chain, shots, storages })
    }

    /// From the image that is written to, down its parents.
    fn chain(&self, limits: &Limits) -> Result<Vec<String>> {
        let only = || self.storages.first().and_then(|storage| storage.images.first());
        let mut next = match (&self.top, only()) {
            (Some(top), _) => top.clone(),
            // A single image needs no list of states.
            (None, Some(only)) if self.shots.is_empty() => return Ok(vec![only.guid.clone()]),
            (None, _) => TOP.into(),
        };
        let mut chain: Vec<String> = Vec::new();
        while next != NONE {
            let shown = next.escape_debug().to_string();
            if chain.contains(&next) {
                return Err(Error::malformed(0, format!("the state {shown} is its own parent")));
            }
            if chain.len() == limits.max_chain {
                let most = limits.max_chain;
                return Err(Error::limit(format!("more than {most} images on top of each other")));
            }
            let shot = self.shots.iter().find(|shot| shot.guid == next);
            let shot = shot.ok_or_else(|| {
                Error::malformed(0, format!("there is no state {shown}, which it speaks of"))
            })?;
            chain.push(std::mem::replace(&mut next, shot.parent.clone()));
        }
        match chain.is_empty() {
            true => Err(Error::malformed(0, "its current state is none")),
            false => Ok(chain),
        }
    }
}

impl Bundle {
    /// The states that it keeps: all but the current one.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let kept = self.shots.iter().filter(|shot| shot.guid != self.chain[0]);
        kept.map(|shot| Snapshot {
            id: shot.guid.clone(),
            name: shot.name.clone(),
            seconds: 0,
            nanoseconds: 0,
            vm_clock: 0,
            icount: None,
            vm_state: 0,
            disk_size: self.size,
        })
        .collect()
    }

    /// How deep in the chain a state lies, by its GUID or name. `Unsupported` if it is not below
    /// the current one, `Invalid` if there is none.
    pub(super) fn depth(&self, wanted: &str) -> Result<usize> {
        let low = guid(wanted);
        let braced = format!("{{{low}}}");
        let shot = self.shots.iter().find(|shot| {
            shot.guid == low
                || shot.guid == braced
                || (!shot.name.is_empty() && shot.name == wanted)
        });
        let shot = shot.ok_or_else(|| {
            let count = self.shots.len();
            Error::invalid(format!("there is no snapshot '{wanted}' in it; {count} are there"))
        })?;
        self.chain.iter().position(|guid| *guid == shot.guid).ok_or_else(|| {
            let what = "only snapshots that the current state was made from can be read";
            Error::unsupported(what)
        })
    }
}
