//! Where images have their headers and tables: as far as it takes to change an entry.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the images are small")]

use std::ops::Range;

/// Entries of one table that are tried, at most.
const SOME: usize = 24;

/// A byte of a header.
pub(crate) struct Field {
    pub(crate) at: usize,
    /// Whether another value gives another sound image.
    pub(crate) lawful: bool,
}

/// How numbers are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Be,
    Le,
}
use Order::{Be, Le};

/// A table of numbers that lead to places in the file.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    at: usize,
    count: usize,
    /// Bytes from one entry to the next, bytes of its number, and how that is written.
    step: usize,
    width: usize,
    order: Order,
    /// The entry that leads to an offset.
    lead: fn(u64) -> u64,
    /// What an entry is that leads nowhere: such a place of the disk is zeros.
    nothing: &'static [u64],
    /// The entries that are there.
    entries: Vec<u64>,
}

fn number(bytes: &[u8], at: usize, width: usize, order: Order) -> u64 {
    let part = &bytes[at..at + width];
    let digits: Vec<u8> = match order {
        Be => part.to_vec(),
        Le => part.iter().rev().copied().collect(),
    };
    digits.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
}

impl Table {
    fn new(
        name: &'static str,
        bytes: &[u8],
        at: u64,
        count: u64,
        (width, order): (usize, Order),
        lead: fn(u64) -> u64,
        nothing: &'static [u64],
    ) -> Table {
        let (at, count, step) = (at as usize, count as usize, width);
        let count = count.min(bytes.len().saturating_sub(at) / width);
        let entries = (0..count).map(|index| number(bytes, at + index * width, width, order));
        let entries = entries.collect();
        Table { name, at, count, step, width, order, lead, nothing, entries }
    }

    /// The same, of entries with as many bytes of something else behind each number.
    fn doubled(mut self) -> Table {
        self.step *= 2;
        self.count /= 2;
        self.entries = self.entries.into_iter().step_by(2).take(self.count).collect();
        self
    }

    /// Some of its entries: all that lead somewhere, if they are few, and one that does not.
    pub(crate) fn some(&self) -> Vec<usize> {
        let leads = |index: &usize| !self.nothing.contains(&self.entries[*index]);
        let used: Vec<_> = (0..self.count).filter(leads).collect();
        let step = used.len().div_ceil(SOME).max(1);
        let free = (0..self.count).find(|index| !leads(index));
        used.into_iter().step_by(step).chain(free).collect()
    }

    /// What its entries are replaced by.
    pub(crate) fn values(&self) -> [(&'static str, u64); 4] {
        let ones = u64::MAX >> (64 - 8 * self.width);
        [
            ("nothing", 0),
            ("all ones", ones),
            ("the table itself", (self.lead)(self.at as u64) & ones),
            ("the header", (self.lead)(0) & ones),
        ]
    }

    /// Where an entry stands, and how this value is written.
    pub(crate) fn entry(&self, index: usize, value: u64) -> (usize, Vec<u8>) {
        let mut bytes = value.to_be_bytes()[8 - self.width..].to_vec();
        if self.order == Le {
            bytes.reverse();
        }
        (self.at + index * self.step, bytes)
    }

    /// Whether an image with this value is a sound one with another disk: with nothing in a place.
    pub(crate) fn empties(&self, value: u64) -> bool {
        self.nothing.contains(&value)
    }
}

/// The headers of an image, as fields. Those are lawful whose value nothing else in the file bears
/// out: with another one it is another image, and a sound one.
#[allow(clippy::single_range_in_vec_init, reason = "some have one stretch")]
pub(crate) fn headers(format: &str, bytes: &[u8]) -> Vec<Field> {
    let end = bytes.len();
    let (ranges, lawful): (Vec<Range<usize>>, Vec<Range<usize>>) = match format {
        // The size; and the version, for the second one has no features.
        "qcow2" => (vec![0..256], vec![24..32, 4..8]),
        // The size; and the table, for nothing counts what leads to a cluster.
        "qcow" => (vec![0..48], vec![24..32, 40..48]),
        "qed" => (vec![0..64], vec![48..56]),
        "vmdk" if stream(bytes) => (vec![0..80, 512..1024, end - 1024..end - 900], vec![]),
        "vmdk" => (vec![0..80, 512..1024], vec![]),
        "vhd" if dynamic(bytes) => (vec![0..512, 512..1536, end - 512..end], vec![]),
        "vhd" => (vec![end - 512..end], vec![]),
        "vhdx" => vhdx(bytes),
        // Where the blocks begin, what is in front of each, the size.
        "vdi" => (vec![0..512], vec![344..348, 368..376, 380..384]),
        "ploop" => (vec![0..64], vec![36..44]),
        // A volume is a disk: every byte of it is content.
        "iso" => {
            let ranges = vec![16 * 2048..16 * 2048 + 256, 17 * 2048..17 * 2048 + 128];
            (ranges.clone(), ranges)
        }
        "ova" | "docker" | "gcp" => (vec![0..512], vec![]),
        _ => (vec![], vec![]),
    };
    let mut fields = Vec::new();
    for at in ranges.into_iter().flatten().filter(|at| *at < end) {
        let lawful = lawful.iter().any(|range| range.contains(&at));
        fields.push(Field { at, lawful });
    }
    fields
}

fn stream(bytes: &[u8]) -> bool {
    number(bytes, 56, 8, Le) == u64::MAX
}

fn dynamic(bytes: &[u8]) -> bool {
    bytes.get(512..520) == Some(b"cxsparse")
}

/// The headers, both tables of regions, the table of metadata, and what it leads to.
fn vhdx(bytes: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let metadata = number(bytes, (192 << 10) + 64, 8, Le) as usize;
    let items = metadata + (64 << 10);
    let starts = [(0, 16), (64 << 10, 128), (128 << 10, 128), (192 << 10, 96), (256 << 10, 96)];
    let mut ranges: Vec<_> = starts.map(|(at, len)| at..at + len).into();
    ranges.extend([metadata..metadata + 256, items..items + 64]);
    // The size, and where it is said to be.
    (ranges, vec![items + 8..items + 16, metadata + 80..metadata + 84])
}

/// The parts of an image that have a sum over them, and how it is made right: where each begins,
/// and its bytes with this one changed and the sum mended.
pub(crate) fn mended(format: &str, bytes: &[u8], at: usize, flip: u8) -> Option<Vec<Patch>> {
    let end = bytes.len();
    let (parts, same): (Vec<(usize, usize)>, bool) = match format {
        "vhd" if dynamic(bytes) && at < 512 => (vec![(0, 512), (end - 512, 512)], true),
        "vhd" if dynamic(bytes) && at < 1536 => (vec![(512, 1024)], true),
        "vhd" if !dynamic(bytes) => (vec![(end - 512, 512)], true),
        "vhdx" => {
            let parts = [(64 << 10, 4096), (128 << 10, 4096)];
            let tables = [(192 << 10, 65_536), (256 << 10, 65_536)];
            let inside = |(start, len): &(usize, usize)| (*start..start + len).contains(&at);
            match tables.iter().any(inside) {
                true => (tables.into(), true),
                false => (parts.into_iter().filter(inside).collect(), false),
            }
        }
        "ova" | "gcp" | "docker" => (vec![(0, 512)], true),
        _ => return None,
    };
    let first = parts.first()?.0;
    let inside = |(start, len): (usize, usize)| (start..start + len).contains(&at);
    if !parts.iter().any(|part| inside(*part)) {
        return None;
    }
    let offset = at - parts.iter().rfind(|part| inside(**part))?.0;
    debug_assert!(same || parts.len() == 1, "a lone header from {first:#x} on");
    let patch = |(start, len): (usize, usize)| {
        let mut part = bytes[start..start + len].to_vec();
        part[offset] ^= flip;
        seal(format, &mut part);
        (start, part)
    };
    Some(parts.into_iter().map(patch).collect())
}

/// Bytes for a place.
pub(crate) type Patch = (usize, Vec<u8>);

fn seal(format: &str, part: &mut [u8]) {
    match format {
        "vhd" => {
            let at = if part.len() == 512 { 64 } else { 36 };
            part[at..at + 4].fill(0);
            let sum: u32 = part.iter().map(|byte| u32::from(*byte)).sum();
            part[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
        }
        "vhdx" => {
            part[4..8].fill(0);
            let sum = crc32c::crc32c(part);
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        _ => {
            part[148..156].fill(b' ');
            let sum: u32 = part.iter().map(|byte| u32::from(*byte)).sum();
            part[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// The tables of an image.
pub(crate) fn tables(format: &str, bytes: &[u8]) -> Vec<Table> {
    match format {
        "qcow2" => qcow2(bytes),
        "qcow" => qcow(bytes),
        "qed" => qed(bytes),
        "vmdk" => vmdk(bytes),
        "vhd" => vhd(bytes),
        "vhdx" => {
            let at = number(bytes, (192 << 10) + 32, 8, Le);
            vec![Table::new("BAT", bytes, at, 64, (8, Le), |at| at & !0xf_ffff | 6, &[0])]
        }
        "vdi" => {
            let (at, count) = (number(bytes, 340, 4, Le), number(bytes, 384, 4, Le));
            let free = &[0xffff_ffff, 0xffff_fffe];
            vec![Table::new("map", bytes, at, count, (4, Le), |at| at >> 20, free)]
        }
        "ploop" => {
            let unit: fn(u64) -> u64 =
                if &bytes[..16] == b"WithoutFreeSpace" { |at| at / 512 } else { |at| at >> 20 };
            vec![Table::new("BAT", bytes, 64, number(bytes, 32, 4, Le), (4, Le), unit, &[0])]
        }
        _ => Vec::new(),
    }
}

const COPIED: u64 = 1 << 63;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

fn qcow2(bytes: &[u8]) -> Vec<Table> {
    let be = |at: usize, width: usize| number(bytes, at, width, Be);
    let cluster = 1_u64 << be(20, 4);
    let copied = |at: u64| COPIED | at;
    let l1 = Table::new("L1 table", bytes, be(40, 8), be(36, 4), (8, Be), copied, &[0]);
    let count = be(56, 4) * cluster / 8;
    let refcounts = Table::new("refcount table", bytes, be(48, 8), count, (8, Be), |at| at, &[0]);
    let mut found: Vec<Table> = Vec::new();
    for entry in l1.entries.iter().map(|entry| entry & OFFSET).filter(|at| *at != 0) {
        let table = Table::new("L2 table", bytes, entry, cluster / 8, (8, Be), copied, &[0]);
        let extended = be(4, 4) == 3 && be(72, 8) & 1 << 4 != 0;
        found.push(if extended { table.doubled() } else { table });
    }
    for block in refcounts.entries.iter().filter(|at| **at != 0) {
        let width = (1 << be(96, 4).min(6)) / 8;
        if number(bytes, 4, 4, Be) == 3 && width >= 1 {
            let count = cluster / width;
            let order = (width as usize, Be);
            found.push(Table::new("refcount block", bytes, *block, count, order, |at| at, &[0]));
        }
    }
    found.extend([l1, refcounts]);
    found
}

fn qcow(bytes: &[u8]) -> Vec<Table> {
    let be = |at: usize, width: usize| number(bytes, at, width, Be);
    let (cluster, entries) = (1_u64 << be(32, 1), 1_u64 << be(33, 1));
    let count = be(24, 8).div_ceil(cluster * entries);
    let l1 = Table::new("L1 table", bytes, be(40, 8), count, (8, Be), |at| at, &[0]);
    let l2 = |at: &u64| Table::new("L2 table", bytes, *at, entries, (8, Be), |at| at, &[0]);
    let mut found: Vec<_> = l1.entries.iter().filter(|at| **at != 0).map(l2).collect();
    found.push(l1);
    found
}

fn qed(bytes: &[u8]) -> Vec<Table> {
    let le = |at: usize, width: usize| number(bytes, at, width, Le);
    let count = le(4, 4) * le(8, 4) / 8;
    let l1 = Table::new("L1 table", bytes, le(40, 8), count, (8, Le), |at| at, &[0]);
    let l2 = |at: &u64| Table::new("L2 table", bytes, *at, count, (8, Le), |at| at, &[0, 1]);
    let mut found: Vec<_> = l1.entries.iter().filter(|at| **at != 0).map(l2).collect();
    found.push(l1);
    found
}

fn vmdk(bytes: &[u8]) -> Vec<Table> {
    let le = |at: usize, width: usize| number(bytes, at, width, Le);
    // A stream has its directory where the footer says.
    let head = if stream(bytes) { bytes.len() - 1024 } else { 0 };
    let (spare, directory) = (le(head + 48, 8), le(head + 56, 8));
    let entries = le(44, 4);
    let count = le(12, 8).div_ceil(le(20, 8) * entries);
    let mut found = Vec::new();
    for (name, inner, at) in
        [("directory", "table", directory), ("spare directory", "spare table", spare)]
    {
        if at == 0 {
            continue;
        }
        let outer = Table::new(name, bytes, at * 512, count, (4, Le), |at| at / 512, &[0]);
        for table in outer.entries.iter().filter(|at| **at != 0) {
            let at = table * 512;
            found.push(Table::new(inner, bytes, at, entries, (4, Le), |at| at / 512, &[0, 1]));
        }
        found.push(outer);
    }
    found
}

fn vhd(bytes: &[u8]) -> Vec<Table> {
    if !dynamic(bytes) {
        return Vec::new();
    }
    let (at, count) = (number(bytes, 512 + 16, 8, Be), number(bytes, 512 + 28, 4, Be));
    vec![Table::new("BAT", bytes, at, count, (4, Be), |at| at / 512, &[0xffff_ffff])]
}
