//! The partition table of UEFI: a header in the second sector, one at the end of the disk, and
//! entries beside each (UEFI, "GUID Partition Table").

use std::rc::Rc;

use super::{Partition, Problem, ProblemKind, Table, TableKind, types};
use crate::bytes::Bytes;
use crate::disk::{Disk, Fault, Read};

/// Bytes that a header has at least.
const HEADER: usize = 92;
/// Bytes of all entries that are looked at: 64 times as many as there commonly are.
const ENTRIES: u64 = 1 << 20;
/// Partitions that are told of.
const PARTITIONS: usize = 256;

/// A header whose checksum is right.
struct Header {
    sector: u64,
    /// Sectors: its own place, the other header's, the first and last one that partitions may have.
    own: u64,
    other: u64,
    first: u64,
    last: u64,
    disk: Option<String>,
    entries: u64,
    count: u64,
    entry_size: u64,
    entries_sum: u32,
}

/// What is where a header should be.
enum Found {
    Sound(Header),
    Damaged(String),
    Nothing,
}

/// The table of a disk, if there is any sign of one that is whole.
pub(super) fn read(disk: &Rc<Disk>) -> Read<Option<Table>> {
    let mut primary = Found::Nothing;
    for sector in [512, 4096] {
        match header(disk, sector, sector)? {
            Found::Sound(header) => {
                primary = Found::Sound(header);
                break;
            }
            Found::Damaged(what) => primary = Found::Damaged(what),
            Found::Nothing => {}
        }
    }
    match primary {
        Found::Sound(header) => with_primary(disk, &header).map(Some),
        Found::Damaged(what) => with_backup(disk, what),
        Found::Nothing => with_backup(disk, "there is no header at the start of the disk".into()),
    }
}

/// What is at this place of the disk, in sectors of this size.
fn header(disk: &Rc<Disk>, at: u64, sector: u64) -> Read<Found> {
    let mut raw = vec![0; usize::try_from(sector).expect("512 or 4096")];
    match disk.read(at, &mut raw) {
        Err(Fault::Damaged(_)) => return Ok(Found::Nothing),
        other => other?,
    }
    if !Bytes(&raw).has(0, b"EFI PART") {
        return Ok(Found::Nothing);
    }
    let say = |what: &str| Ok(Found::Damaged(format!("the GPT header at {at} {what}")));
    let Some((stated, size)) = Bytes(&raw).le32(16).zip(Bytes(&raw).le32(12)) else {
        return say("is too short");
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let Some(summed) = raw.get_mut(..size).filter(|part| part.len() >= HEADER) else {
        return say(&format!("says that it has {size} bytes"));
    };
    summed[16..20].fill(0);
    let sum = crc32fast::hash(summed);
    if sum != stated {
        return say(&format!("has the checksum {sum:08x}, and states {stated:08x}"));
    }
    let Some(header) = parse(Bytes(&raw), sector) else { return say("is too short") };
    if header.own.checked_mul(sector) != Some(at) {
        return say(&format!("says that it is in sector {}", header.own));
    }
    let (size, bytes) = (header.entry_size, header.count.checked_mul(header.entry_size));
    if size < 128 || size % 8 != 0 || bytes.is_none_or(|bytes| bytes > ENTRIES) {
        return say(&format!("has {} entries of {size} bytes", header.count));
    }
    Ok(Found::Sound(header))
}

fn parse(raw: Bytes, sector: u64) -> Option<Header> {
    Some(Header {
        sector,
        own: raw.le64(24)?,
        other: raw.le64(32)?,
        first: raw.le64(40)?,
        last: raw.le64(48)?,
        disk: raw.guid(56),
        entries: raw.le64(72)?,
        count: u64::from(raw.le32(80)?),
        entry_size: u64::from(raw.le32(84)?),
        entries_sum: raw.le32(88)?,
    })
}

/// The entries of a header, if they have the checksum that it states.
fn entries(disk: &Rc<Disk>, header: &Header) -> Read<Result<Vec<u8>, String>> {
    let bytes = usize::try_from(header.count * header.entry_size).expect("compared with a bound");
    let mut raw = vec![0; bytes];
    let Some(at) = header.entries.checked_mul(header.sector) else {
        return Ok(Err(format!("the GPT entries in sector {} are not there", header.entries)));
    };
    match disk.read(at, &mut raw) {
        Err(Fault::Damaged(what)) => return Ok(Err(format!("of the GPT entries, {what}"))),
        other => other?,
    }
    let (sum, stated) = (crc32fast::hash(&raw), header.entries_sum);
    if sum == stated {
        return Ok(Ok(raw));
    }
    Ok(Err(format!("the GPT entries at {at} have the checksum {sum:08x}, and not {stated:08x}")))
}

fn with_primary(disk: &Rc<Disk>, header: &Header) -> Read<Table> {
    let mut problems = Vec::new();
    let mut problem = |kind, what| problems.push(Problem::new(kind, what));
    let sector = header.sector;
    let end = disk.size() / sector * sector;
    let stated = header.other.checked_mul(sector);
    if stated.and_then(|at| at.checked_add(sector)) != Some(end) {
        let what = format!(
            "the second GPT header is said to be in sector {}, and the disk ends with sector {}",
            header.other,
            (end / sector).saturating_sub(1)
        );
        problem(ProblemKind::BackupPlace, what);
    }
    let backup = match stated {
        Some(at) => self::header(disk, at, sector)?,
        None => Found::Nothing,
    };
    let own = entries(disk, header)?;
    let mut raw = own.as_ref().ok().cloned();
    match backup {
        Found::Nothing => {
            let what = format!("there is no second GPT header in sector {}", header.other);
            problem(ProblemKind::Backup, what);
        }
        Found::Damaged(what) => problem(ProblemKind::Backup, what),
        Found::Sound(backup) => {
            if let Some(what) = difference(header, &backup) {
                problem(ProblemKind::BackupDiffers, what);
            }
            match entries(disk, &backup)? {
                Ok(other) => {
                    raw = raw.or_else(|| (backup.entry_size == header.entry_size).then_some(other));
                }
                Err(what) => problem(ProblemKind::Entries, format!("{what}, at the end")),
            }
        }
    }
    if let Err(what) = own {
        problem(ProblemKind::Entries, what);
    }
    Ok(table(header, &raw.unwrap_or_default(), problems))
}

/// What two headers of a disk say differently.
fn difference(one: &Header, other: &Header) -> Option<String> {
    let pairs = [
        ("places of each other", one.own == other.other && one.other == other.own),
        ("disks", one.disk == other.disk),
        ("room for partitions", (one.first, one.last) == (other.first, other.last)),
        ("entries", one.entries_sum == other.entries_sum && one.count == other.count),
    ];
    let differ: Vec<_> = pairs.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
    let what = || format!("the two GPT headers state different {}", differ.join(" and "));
    (!differ.is_empty()).then(what)
}

/// The table by its second header, where the first one is of no use.
fn with_backup(disk: &Rc<Disk>, why: String) -> Read<Option<Table>> {
    for sector in [512_u64, 4096] {
        let end = disk.size() / sector * sector;
        let Some(at) = end.checked_sub(sector).filter(|at| *at >= 2 * sector) else { continue };
        if let Found::Sound(backup) = header(disk, at, sector)? {
            let mut problems = vec![Problem::new(ProblemKind::Primary, why)];
            let raw = entries(disk, &backup)?;
            let raw = raw.unwrap_or_else(|what| {
                problems.push(Problem::new(ProblemKind::Entries, what));
                Vec::new()
            });
            return Ok(Some(table(&backup, &raw, problems)));
        }
    }
    Ok(None)
}

/// The table that a header and its entries make.
fn table(header: &Header, raw: &[u8], mut problems: Vec<Problem>) -> Table {
    let size = usize::try_from(header.entry_size).expect("compared with a bound");
    let mut partitions = Vec::new();
    for (entry, number) in raw.chunks_exact(size).zip(1..) {
        let entry = Bytes(entry);
        let Some(type_id) = entry.guid(0) else { continue };
        if partitions.len() == PARTITIONS {
            let what = format!("there are more than {PARTITIONS} partitions");
            problems.push(Problem::new(ProblemKind::TooMany, what));
            break;
        }
        let (first, last) = (entry.le64(32).unwrap_or(0), entry.le64(40).unwrap_or(0));
        if first < header.first || last > header.last || first > last {
            let (from, to) = (header.first, header.last);
            let what = format!(
                "partition {number} has the sectors {first} to {last}, and may have {from} to {to}"
            );
            problems.push(Problem::new(ProblemKind::Outside, what));
        }
        let attributes = entry.le64(48).unwrap_or(0);
        let sectors = last.saturating_add(1).saturating_sub(first);
        partitions.push(Partition {
            number,
            start: first.saturating_mul(header.sector),
            len: sectors.saturating_mul(header.sector),
            type_name: types::gpt_name(&type_id),
            type_id,
            name: entry.wide(56, 72),
            id: entry.guid(16),
            bootable: attributes & 4 != 0,
            attributes,
        });
    }
    let (sector_size, id) = (header.sector, header.disk.clone());
    Table { kind: TableKind::Gpt, sector_size, id, partitions, problems }
}
