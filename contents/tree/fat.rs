//! Files on FAT with entries of 12, 16 or 32 bits (Microsoft, "FAT32 File System Specification").
//!
//! Every step along a chain of clusters is a read of the table, so that the budget bounds it.

use super::{FOLDER, Node, NodeKind, Tree};
use crate::bytes::Bytes;
use crate::disk::{Read, Volume, damaged};

/// How wide the entries of the table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits12,
    Bits16,
    Bits32,
}

/// A FAT file system.
pub(crate) struct Fat {
    volume: Volume,
    width: Width,
    /// Where things begin, and how large they are.
    table: u64,
    root: u64,
    root_len: u64,
    data: u64,
    cluster: u64,
    clusters: u64,
    /// The first folder's cluster, where it has one.
    root_cluster: u32,
    size: u64,
}

/// An entry of a folder.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    attributes: u8,
    first: u32,
    size: u32,
}

/// What a path leads to.
enum Found {
    /// The first folder, which has no entry.
    Root,
    Entry(Entry),
}

const VOLUME_LABEL: u8 = 0x08;
const FOLDER_BIT: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

impl Entry {
    fn node(&self) -> Node {
        match self.attributes & FOLDER_BIT != 0 {
            true => Node { kind: NodeKind::Folder, size: 0 },
            false => Node { kind: NodeKind::File, size: u64::from(self.size) },
        }
    }
}

impl Fat {
    /// `Damaged` if this is none.
    pub(crate) fn open(volume: Volume) -> Read<Fat> {
        let raw = volume.bytes(0, 512)?;
        match Fat::parse(volume, Bytes(&raw)) {
            Some(fat) => Ok(fat),
            None => damaged("it is no FAT file system"),
        }
    }

    fn parse(volume: Volume, raw: Bytes) -> Option<Fat> {
        let jump = raw.byte(0)?;
        let media = raw.byte(21)?;
        if !raw.has(510, b"\x55\xaa") || ![0xeb, 0xe9].contains(&jump) || media < 0xf0 {
            return None;
        }
        let sector = u64::from(raw.le16(11)?);
        let per_cluster = u64::from(raw.byte(13)?);
        let reserved = u64::from(raw.le16(14)?);
        let tables = u64::from(raw.byte(16)?);
        let entries = u64::from(raw.le16(17)?);
        let sectors = match raw.le16(19)? {
            0 => u64::from(raw.le32(32)?),
            few => u64::from(few),
        };
        let table = match raw.le16(22)? {
            0 => u64::from(raw.le32(36)?),
            few => u64::from(few),
        };
        let sound = (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && per_cluster.is_power_of_two()
            && (1..=4).contains(&tables)
            && reserved > 0
            && table > 0;
        if !sound {
            return None;
        }
        let root_len = (entries * 32).next_multiple_of(sector);
        let root = (reserved + tables * table) * sector;
        let data = root + root_len;
        let clusters = (sectors * sector).checked_sub(data)? / (per_cluster * sector);
        let width = match clusters {
            // A table that is not there in sixteen bits is one of 32.
            _ if raw.le16(22)? == 0 => Width::Bits32,
            0..4085 => Width::Bits12,
            _ => Width::Bits16,
        };
        let is_wide = width == Width::Bits32;
        if clusters == 0 || is_wide && entries != 0 {
            return None;
        }
        let root_cluster = if is_wide { raw.le32(44)? } else { 0 };
        let (table, cluster) = (reserved * sector, per_cluster * sector);
        let size = sectors * sector;
        let fat = Fat {
            volume,
            width,
            table,
            root,
            root_len,
            data,
            cluster,
            clusters,
            root_cluster,
            size,
        };
        Some(fat)
    }

    /// Whether its entries have 32 bits.
    pub(crate) fn is_wide(&self) -> bool {
        self.width == Width::Bits32
    }

    /// The bytes that it says it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The name of the volume, as an entry of the first folder.
    pub(crate) fn label(&mut self) -> Read<Option<String>> {
        let mut label = None;
        self.entries(self.root_cluster, |entry| {
            if entry.attributes & (VOLUME_LABEL | FOLDER_BIT) == VOLUME_LABEL {
                label = Some(entry.name.trim_end().to_string());
            }
            label.is_none()
        })?;
        Ok(label.filter(|label| !label.is_empty()))
    }

    /// The cluster behind this one, if the chain goes on.
    fn next(&self, cluster: u32) -> Read<Option<u32>> {
        let at = u64::from(cluster);
        let (value, end) = match self.width {
            Width::Bits12 => {
                let pair = self.volume.bytes(self.table + at + at / 2, 2)?;
                let pair = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
                (if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }, 0xff7)
            }
            Width::Bits16 => {
                let pair = self.volume.bytes(self.table + at * 2, 2)?;
                (u32::from(u16::from_le_bytes([pair[0], pair[1]])), 0xfff7)
            }
            Width::Bits32 => {
                let word = self.volume.bytes(self.table + at * 4, 4)?;
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                (word & 0x0fff_ffff, 0x0fff_fff7)
            }
        };
        Ok((value < end && self.is_cluster(value)).then_some(value))
    }

    fn is_cluster(&self, cluster: u32) -> bool {
        cluster >= 2 && u64::from(cluster) < self.clusters + 2
    }

    /// Where the bytes of a chain lie, one cluster after another, until `each` has enough of them.
    fn chain(&self, first: u32, mut each: impl FnMut(u64, u64) -> Read<bool>) -> Read<()> {
        if first == 0 && self.width != Width::Bits32 {
            each(self.root, self.root_len)?;
            return Ok(());
        }
        let mut at = Some(first).filter(|cluster| self.is_cluster(*cluster));
        let mut steps = 0;
        while let Some(cluster) = at {
            let start = self.data + u64::from(cluster - 2) * self.cluster;
            if !each(start, self.cluster)? {
                return Ok(());
            }
            steps += 1;
            if steps > self.clusters {
                return damaged("a chain of clusters leads in a circle");
            }
            at = self.next(cluster)?;
        }
        Ok(())
    }

    /// Goes over the entries of a folder until `each` has enough of them.
    fn entries(&self, first: u32, mut each: impl FnMut(&Entry) -> bool) -> Read<()> {
        let mut long = LongName::default();
        let mut seen = 0;
        self.chain(first, |start, len| {
            for at in (start..start + len).step_by(32) {
                seen += 32;
                if seen > FOLDER {
                    return damaged("a folder with too many entries");
                }
                let raw = self.volume.bytes(at, 32)?;
                if raw[0] == 0 {
                    return Ok(false);
                }
                self.volume.disk.count_entry()?;
                if raw[0] == 0xe5 {
                    long = LongName::default();
                } else if raw[11] & 0x3f == LONG_NAME {
                    long.push(&raw);
                } else {
                    let name = std::mem::take(&mut long).finish(&raw);
                    if let Some(entry) = entry(&raw, name)
                        && !each(&entry)
                    {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })
    }

    /// What a path leads to.
    fn find(&self, path: &str) -> Read<Option<Found>> {
        let mut at = Found::Root;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let first = match &at {
                Found::Root => self.root_cluster,
                // An empty file's chain begins nowhere, and must not be taken for the first folder.
                Found::Entry(entry) if entry.attributes & FOLDER_BIT == 0 || entry.first == 0 => {
                    return Ok(None);
                }
                Found::Entry(entry) => entry.first,
            };
            let mut found = None;
            self.entries(first, |entry| {
                let is = entry.attributes & VOLUME_LABEL == 0;
                if is && entry.name.eq_ignore_ascii_case(part) {
                    found = Some(entry.clone());
                }
                found.is_none()
            })?;
            match found {
                Some(entry) => at = Found::Entry(entry),
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

impl Tree for Fat {
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        Ok(self.find(path)?.map(|found| match found {
            Found::Root => Node { kind: NodeKind::Folder, size: 0 },
            Found::Entry(entry) => entry.node(),
        }))
    }

    fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let first = match self.find(path)? {
            Some(Found::Root) => self.root_cluster,
            Some(Found::Entry(entry)) if entry.first != 0 => entry.first,
            Some(Found::Entry(_)) | None => return Ok(Vec::new()),
        };
        let mut names = Vec::new();
        self.entries(first, |entry| {
            if entry.attributes & VOLUME_LABEL == 0 && ![".", ".."].contains(&&*entry.name) {
                names.push(entry.name.clone());
            }
            true
        })?;
        Ok(names)
    }

    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>> {
        let Some(Found::Entry(entry)) = self.find(path)? else {
            return damaged("a file went missing");
        };
        let len = usize::try_from(entry.size).unwrap_or(usize::MAX).min(most);
        let mut bytes = Vec::new();
        if len == 0 || entry.first == 0 {
            return Ok(bytes);
        }
        self.chain(entry.first, |start, size| {
            let left = (len - bytes.len()).min(usize::try_from(size).unwrap_or(usize::MAX));
            bytes.extend(self.volume.bytes(start, left)?);
            Ok(bytes.len() < len)
        })?;
        Ok(bytes)
    }

    fn link(&mut self, _: &str) -> Read<String> {
        damaged("there are no links on FAT")
    }
}

/// An entry, unless it stands for nothing.
fn entry(raw: &[u8], long: Option<String>) -> Option<Entry> {
    let bytes = Bytes(raw);
    let high = u32::from(bytes.le16(20)?) << 16;
    let attributes = bytes.byte(11)?;
    let name = match long {
        Some(name) => name,
        None if attributes & VOLUME_LABEL != 0 => {
            String::from_utf8_lossy(bytes.slice(0, 11)?).into_owned()
        }
        None => short_name(bytes)?,
    };
    let first = high | u32::from(bytes.le16(26)?);
    Some(Entry { name, attributes, first, size: bytes.le32(28)? })
}

/// Eight letters and three.
fn short_name(raw: Bytes) -> Option<String> {
    let part = |at, len| {
        let part = String::from_utf8_lossy(raw.slice(at, len)?).trim_end().to_string();
        Some(part)
    };
    let (front, back) = (part(0, 8)?, part(8, 3)?);
    Some(if back.is_empty() { front } else { format!("{front}.{back}") })
}

/// A name that is spread over entries in front of the one that it belongs to, its end first.
#[derive(Default)]
struct LongName {
    parts: Vec<[u16; 13]>,
    sum: u8,
    /// Which part comes next.
    next: u8,
}

impl LongName {
    fn push(&mut self, raw: &[u8]) {
        let order = raw[0] & 0x3f;
        if raw[0] & 0x40 != 0 {
            *self = LongName { parts: Vec::new(), sum: raw[13], next: order };
        }
        if order == 0 || order > 20 || order != self.next || raw[13] != self.sum {
            *self = LongName::default();
            return;
        }
        self.next -= 1;
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        let mut part = [0; 13];
        for (word, at) in part.iter_mut().zip(places) {
            *word = u16::from_le_bytes([raw[at], raw[at + 1]]);
        }
        self.parts.push(part);
    }

    /// The name, if all of it was there and it belongs to this entry.
    fn finish(self, raw: &[u8]) -> Option<String> {
        let sum = raw[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.parts.is_empty() || self.next != 0 || sum != self.sum {
            return None;
        }
        let words = self.parts.iter().rev().flatten().copied();
        let words: Vec<u16> = words.take_while(|word| ![0, 0xffff].contains(word)).collect();
        Some(String::from_utf16_lossy(&words))
    }
}
