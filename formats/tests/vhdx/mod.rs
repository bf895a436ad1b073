//! A VHDX image byte by byte: what the batteries about it share.

#![allow(dead_code, reason = "each battery takes what it needs of this")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

use std::sync::Arc;

use formats::{
    Create, Facts, Finding, Format, Limits, Links, Memory, Options, Repair, Result, Tally,
};

use super::disks::{image, open, raw, read_all};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const HEADERS: [usize; 2] = [64 * KIB, 128 * KIB];
pub(crate) const TABLES: [usize; 2] = [192 * KIB, 256 * KIB];
pub(crate) const LOG: usize = MIB;
/// An identifier that no image has by chance.
pub(crate) const GUID: [u8; 16] = [0x5a; 16];

pub(crate) fn vhdx() -> &'static Format {
    formats::format("vhdx").unwrap()
}

/// Settings for a new image.
pub(crate) fn create(size: u64, options: &[(&str, &str)]) -> Create {
    let pairs = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Create { size, options: Options::new(pairs), ..Default::default() }
}

/// The bytes of an identifier in a file, from its digits.
pub(crate) fn guid(digits: u128) -> [u8; 16] {
    let mut bytes = digits.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// An image in the making.
#[derive(Clone, PartialEq)]
pub(crate) struct Vhdx(pub(crate) Vec<u8>);

/// What an entry of a log does.
#[derive(Clone)]
pub(crate) enum Change {
    Zero(u64, u64),
    Data(u64, Vec<u8>),
}

/// An entry of a log.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    /// Sectors of the log, from its start.
    pub(crate) at: usize,
    pub(crate) tail: usize,
    pub(crate) changes: Vec<Change>,
    pub(crate) flushed: u64,
    pub(crate) last: u64,
}

impl Entry {
    /// The first and only entry, for a file of this length.
    pub(crate) fn alone(changes: Vec<Change>, len: usize) -> Entry {
        let len = len as u64;
        Entry { sequence: 1, at: 0, tail: 0, changes, flushed: len, last: len }
    }

    /// Its bytes, sealed.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let front = (64 + 32 * self.changes.len()).div_ceil(4096) * 4096;
        let mut bytes = vec![0; front];
        for (index, change) in self.changes.iter().enumerate() {
            let mut row = Vec::new();
            let number = self.sequence.to_le_bytes();
            match change {
                Change::Zero(offset, length) => {
                    row.extend(b"zero\0\0\0\0");
                    row.extend(length.to_le_bytes());
                    row.extend(offset.to_le_bytes());
                }
                Change::Data(offset, sector) => {
                    row.extend(b"desc");
                    row.extend(&sector[4092..]);
                    row.extend(&sector[..8]);
                    row.extend(offset.to_le_bytes());
                    bytes.extend(b"data");
                    bytes.extend(&number[4..]);
                    bytes.extend(&sector[8..4092]);
                    bytes.extend(&number[..4]);
                }
            }
            row.extend(number);
            let at = 64 + 32 * index;
            bytes[at..at + 32].copy_from_slice(&row);
        }
        let mut head = b"loge\0\0\0\0".to_vec();
        head.extend((bytes.len() as u32).to_le_bytes());
        head.extend((self.tail as u32 * 4096).to_le_bytes());
        head.extend(self.sequence.to_le_bytes());
        head.extend((self.changes.len() as u64).to_le_bytes());
        head.extend(GUID);
        head.extend(self.flushed.to_le_bytes());
        head.extend(self.last.to_le_bytes());
        bytes[..64].copy_from_slice(&head);
        seal(&mut bytes);
        bytes
    }
}

pub(crate) fn seal(bytes: &mut [u8]) {
    bytes[4..8].fill(0);
    let sum = crc32c::crc32c(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

impl Vhdx {
    /// A sound image of this disk.
    pub(crate) fn of(bytes: &[u8], options: &[(&str, &str)]) -> Vhdx {
        Vhdx(image(vhdx(), &create(bytes.len() as u64, options), &*raw(bytes), 1))
    }

    /// A disk of three blocks of 1 MiB, the one in the middle without data.
    pub(crate) fn small() -> Vhdx {
        Vhdx::of(&Vhdx::small_disk(), &[])
    }

    pub(crate) fn small_disk() -> Vec<u8> {
        let mut bytes = vec![0x77; 3 * MIB - 512];
        bytes[MIB..2 * MIB].fill(0);
        bytes[2 * MIB..].fill(0x99);
        bytes
    }

    pub(crate) fn get32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn get64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub(crate) fn set32(&mut self, at: usize, value: u32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn set64(&mut self, at: usize, value: u64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Makes the checksums of headers and tables of regions right again.
    pub(crate) fn seal(&mut self) -> &mut Self {
        for at in HEADERS {
            seal(&mut self.0[at..at + 4 * KIB]);
        }
        for at in TABLES {
            seal(&mut self.0[at..at + 64 * KIB]);
        }
        self
    }

    /// Changes both headers.
    pub(crate) fn headers(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        for header in HEADERS {
            self.put(header + at, bytes);
        }
        self.seal()
    }

    /// Changes both tables of regions.
    pub(crate) fn tables(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        for table in TABLES {
            self.put(table + at, bytes);
        }
        self.seal()
    }

    /// Where the region lies that the table has at this index: 0 is the BAT, 1 the metadata.
    pub(crate) fn region(&self, index: usize) -> usize {
        self.get64(TABLES[0] + 16 + 32 * index + 16) as usize
    }

    /// Where an entry of the BAT stands.
    pub(crate) fn bat(&self, entry: usize) -> usize {
        self.region(0) + entry * 8
    }

    /// Where the row of a metadata item stands, and where the item.
    pub(crate) fn item(&self, index: usize) -> (usize, usize) {
        let row = self.region(1) + 32 + 32 * index;
        (row, self.region(1) + self.get32(row + 16) as usize)
    }

    /// A log with these entries that is to be replayed.
    pub(crate) fn log(&mut self, entries: &[Entry]) -> &mut Self {
        let ring = self.get32(HEADERS[0] + 68) as usize;
        for entry in entries {
            for (index, byte) in entry.bytes().into_iter().enumerate() {
                self.0[LOG + (entry.at * 4096 + index) % ring] = byte;
            }
        }
        self.headers(48, &GUID)
    }

    /// The same image over another one: this name, and what it must say that it is.
    pub(crate) fn over(&mut self, rows: &[(&str, &str)]) -> &mut Self {
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let mut head = guid(0xb04a_efb7_d19e_4a81_b789_25b8_e944_5913).to_vec();
        head.extend([0, 0]);
        head.extend((rows.len() as u16).to_le_bytes());
        let mut texts = Vec::new();
        let start = 20 + 12 * rows.len();
        for (key, value) in rows {
            let (key, value) = (utf16(key), utf16(value));
            let at = start + texts.len();
            head.extend((at as u32).to_le_bytes());
            head.extend(((at + key.len()) as u32).to_le_bytes());
            head.extend((key.len() as u16).to_le_bytes());
            head.extend((value.len() as u16).to_le_bytes());
            texts.extend([key, value].concat());
        }
        head.extend(texts);
        let region = self.region(1);
        let (row, _) = self.item(5);
        let mut item = guid(0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c).to_vec();
        for word in [128 * KIB as u32, head.len() as u32, 4, 0] {
            item.extend(word.to_le_bytes());
        }
        let (_, file) = self.item(0);
        let flags = self.get32(file + 4) | 2;
        self.put(region + 10, &[6]).put(row, &item).put(region + 128 * KIB, &head);
        self.set32(file + 4, flags)
    }

    pub(crate) fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.0.clone()))
    }

    pub(crate) fn inspect(&self) -> Result<Facts> {
        (vhdx().inspect)(&*self.source(), &Limits::default())
    }

    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        read_all(&*open(self.source(), vhdx())?)
    }

    pub(crate) fn check(&self) -> Result<(Tally, Vec<Finding>)> {
        let mut found = Vec::new();
        let links = Links::alone(self.source());
        let tally = (vhdx().check.unwrap())(links, &Limits::default(), &mut |f| found.push(f))?;
        Ok((tally, found))
    }

    pub(crate) fn repair(&self, what: Repair) -> (Tally, Vec<Finding>, Vhdx) {
        let mut found = Vec::new();
        let storage = self.source();
        let repair = vhdx().repair.unwrap();
        let tally = repair(storage.clone(), what, &Limits::default(), &mut |f| found.push(f));
        (tally.unwrap(), found, Vhdx(storage.to_vec()))
    }
}
