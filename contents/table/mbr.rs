//! The partition table in the first sector, and the chain of logical partitions behind it.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Partition, Problem, ProblemKind, Table, TableKind, types};
use crate::bytes::Bytes;
use crate::disk::{Disk, Fault, Read};

/// What an MBR counts in.
const SECTOR: u64 = 512;
/// Logical partitions that are looked at.
const LOGICAL: u32 = 128;
/// A partition that says that there is a GPT.
const PROTECTIVE: u8 = 0xee;

/// An MBR: its partitions without those that stand for a GPT.
pub(super) struct Mbr {
    pub(super) table: Table,
    /// Whether one of its partitions says that there is a GPT.
    pub(super) protective: bool,
}

/// An entry of a sector's four.
struct Entry {
    status: u8,
    kind: u8,
    first: u64,
    count: u64,
}

impl Entry {
    fn is_used(&self) -> bool {
        self.kind != 0 && self.count != 0
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// As a partition that begins `base` sectors further on.
    fn partition(&self, number: u32, base: u64, signature: u32) -> Partition {
        Partition {
            number,
            start: (base + self.first) * SECTOR,
            len: self.count * SECTOR,
            type_id: format!("0x{:02x}", self.kind),
            type_name: types::mbr_name(self.kind),
            name: None,
            id: (signature != 0).then(|| format!("{signature:08x}-{number:02x}")),
            bootable: self.status == 0x80,
            attributes: 0,
        }
    }
}

/// The four entries of a sector.
fn entries(sector: &[u8]) -> Option<Vec<Entry>> {
    let entry = |raw: &[u8]| {
        let raw = Bytes(raw);
        let (first, count) = (u64::from(raw.le32(8)?), u64::from(raw.le32(12)?));
        Some(Entry { status: raw.byte(0)?, kind: raw.byte(4)?, first, count })
    };
    sector.get(446..510)?.chunks_exact(16).map(entry).collect()
}

/// The table in the first sector, unless that is the boot sector of a file system, which ends in
/// the same two bytes.
pub(super) fn read(disk: &Rc<Disk>) -> Read<Option<Mbr>> {
    let mut raw = [0; 512];
    match disk.read(0, &mut raw) {
        Err(Fault::Damaged(_)) => return Ok(None),
        other => other?,
    }
    let sector = Bytes(&raw);
    let file_systems: [(usize, &[u8]); 5] =
        [(3, b"NTFS    "), (3, b"EXFAT   "), (3, b"ReFS\0"), (54, b"FAT"), (82, b"FAT")];
    let is_boot_sector = file_systems.iter().any(|(at, magic)| sector.has(*at, magic));
    let Some(entries) = entries(&raw).filter(|_| sector.has(510, b"\x55\xaa")) else {
        return Ok(None);
    };
    let sound =
        |entry: &Entry| [0, 0x80].contains(&entry.status) && (!entry.is_used() || entry.first != 0);
    if is_boot_sector || !entries.iter().all(sound) || !entries.iter().any(Entry::is_used) {
        return Ok(None);
    }
    let signature = sector.le32(440).unwrap_or_default();
    let mut table = Table {
        kind: TableKind::Mbr,
        sector_size: SECTOR,
        id: (signature != 0).then(|| format!("{signature:08x}")),
        partitions: Vec::new(),
        problems: Vec::new(),
    };
    let mut protective = false;
    let mut chains = Vec::new();
    for (entry, number) in entries.iter().zip(1..).filter(|(entry, _)| entry.is_used()) {
        if entry.kind == PROTECTIVE {
            protective = true;
            continue;
        }
        table.partitions.push(entry.partition(number, 0, signature));
        if entry.is_extended() {
            chains.push(entry.first);
        }
    }
    let mut next = 5;
    for chain in chains {
        logical(disk, &mut table, chain, signature, &mut next)?;
    }
    Ok(Some(Mbr { table, protective }))
}

/// Adds the logical partitions of the extended one that begins at this sector.
fn logical(
    disk: &Rc<Disk>,
    table: &mut Table,
    base: u64,
    signature: u32,
    next: &mut u32,
) -> Read<()> {
    let mut at = base;
    let mut seen = HashSet::new();
    loop {
        let broken = |what: &str| {
            let what = format!("the chain of logical partitions {what} at sector {at}");
            Problem::new(ProblemKind::Chain, what)
        };
        if !seen.insert(at) {
            table.problems.push(broken("leads in a circle"));
            return Ok(());
        }
        if *next >= 5 + LOGICAL {
            let what = format!("there are more than {LOGICAL} logical partitions");
            table.problems.push(Problem::new(ProblemKind::TooMany, what));
            return Ok(());
        }
        let mut sector = [0; 512];
        match disk.read(at * SECTOR, &mut sector) {
            Err(Fault::Damaged(_)) => {
                table.problems.push(broken("leaves the disk"));
                return Ok(());
            }
            other => other?,
        }
        let entries = entries(&sector).filter(|_| Bytes(&sector).has(510, b"\x55\xaa"));
        let Some(entries) = entries else {
            table.problems.push(broken("breaks off"));
            return Ok(());
        };
        for entry in entries.iter().filter(|entry| entry.is_used() && !entry.is_extended()) {
            table.partitions.push(entry.partition(*next, at, signature));
            *next += 1;
        }
        let link = entries.iter().find(|entry| entry.is_used() && entry.is_extended());
        let Some(link) = link else { return Ok(()) };
        at = base + link.first;
    }
}
