//! How a disk is divided.

mod gpt;
mod mbr;
mod types;

use std::rc::Rc;

use crate::disk::{Disk, Read};

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which one.
    pub kind: TableKind,
    /// Bytes that the table counts in. An MBR does not say: 512.
    pub sector_size: u64,
    /// What the disk is known by: the GUID of a GPT, the signature of an MBR in hexadecimal.
    pub id: Option<String>,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
    /// What is wrong with the table.
    pub problems: Vec<Problem>,
}

/// A kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// The table that PCs have had from the start, in the first sector.
    Mbr,
    /// The table of UEFI.
    Gpt,
    /// A GPT, some partitions of which stand in the first sector, too.
    Hybrid,
}

impl TableKind {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Mbr => "mbr",
            TableKind::Gpt => "gpt",
            TableKind::Hybrid => "hybrid",
        }
    }
}

/// A stretch of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as systems count them: from 1, logical ones of an MBR from 5.
    pub number: u32,
    /// Where it begins on the disk.
    pub start: u64,
    /// How long it is.
    pub len: u64,
    /// What it is for: a GUID in small letters, or `0x` and two digits.
    pub type_id: String,
    /// What that means, where it is known here.
    pub type_name: Option<&'static str>,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// What it is known by: its GUID; in an MBR the disk's signature and its number.
    pub id: Option<String>,
    /// Whether PCs boot from it: active in an MBR, bit 2 of the attributes in a GPT.
    pub bootable: bool,
    /// The attributes of a GPT, bit by bit (UEFI, "Defined GPT Partition Entry Attributes").
    pub attributes: u64,
}

/// Something wrong with a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What sort of problem.
    pub kind: ProblemKind,
    /// It, in a sentence.
    pub what: String,
}

/// Sorts of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The header at the start of the disk is not there, or damaged.
    Primary,
    /// The entries do not have the checksum that the header states.
    Entries,
    /// The second header is not there, or damaged.
    Backup,
    /// The second header is not at the end of the disk: the disk was made larger or smaller.
    BackupPlace,
    /// The two headers say different things.
    BackupDiffers,
    /// The first sector does not say that there is a GPT.
    Protective,
    /// A GPT is left over that the first sector says nothing of.
    Stale,
    /// Two partitions share bytes.
    Overlap,
    /// A partition ends before it begins, or behind the end of the disk, or of what a table may
    /// give away.
    Outside,
    /// The chain of logical partitions is broken, or leads in a circle.
    Chain,
    /// There are more partitions than are looked at.
    TooMany,
}

impl ProblemKind {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            ProblemKind::Primary => "primary-header",
            ProblemKind::Entries => "entries",
            ProblemKind::Backup => "backup-header",
            ProblemKind::BackupPlace => "backup-place",
            ProblemKind::BackupDiffers => "backup-differs",
            ProblemKind::Protective => "protective-mbr",
            ProblemKind::Stale => "stale-gpt",
            ProblemKind::Overlap => "overlap",
            ProblemKind::Outside => "outside",
            ProblemKind::Chain => "logical-chain",
            ProblemKind::TooMany => "too-many",
        }
    }
}

impl Problem {
    fn new(kind: ProblemKind, what: impl Into<String>) -> Problem {
        Problem { kind, what: what.into() }
    }
}

/// Problems that are told of.
const PROBLEMS: usize = 32;

/// The table of a disk, if it has one.
pub(crate) fn read(disk: &Rc<Disk>) -> Read<Option<Table>> {
    let mbr = mbr::read(disk)?;
    let Some(mut gpt) = gpt::read(disk)? else {
        let Some((mut table, false)) = mbr.map(|mbr| (mbr.table, mbr.protective)) else {
            return Ok(None);
        };
        look_over(&mut table, disk.size());
        return Ok(Some(table));
    };
    match mbr {
        // UEFI, "Protective MBR": without one there is no GPT for whoever follows the rules.
        Some(mut mbr) if !mbr.protective && !mbr.table.partitions.is_empty() => {
            let what = "a GPT lies on the disk that the partitions in the first sector hide";
            mbr.table.problems.push(Problem::new(ProblemKind::Stale, what));
            look_over(&mut mbr.table, disk.size());
            return Ok(Some(mbr.table));
        }
        Some(mbr) if mbr.protective && !mbr.table.partitions.is_empty() => {
            gpt.kind = TableKind::Hybrid;
        }
        Some(mbr) if mbr.protective => {}
        Some(_) | None => {
            let what = "the first sector does not protect the GPT";
            gpt.problems.push(Problem::new(ProblemKind::Protective, what));
        }
    }
    look_over(&mut gpt, disk.size());
    Ok(Some(gpt))
}

/// Adds what is wrong with the partitions among each other and with the disk.
fn look_over(table: &mut Table, disk_size: u64) {
    let mut problems = Vec::new();
    for partition in &table.partitions {
        let (number, end) = (partition.number, partition.start.saturating_add(partition.len));
        if end > disk_size {
            let what = format!("partition {number} ends at {end}, and the disk at {disk_size}");
            problems.push(Problem::new(ProblemKind::Outside, what));
        }
    }
    let mut order: Vec<_> = table.partitions.iter().filter(|part| !part.is_extended()).collect();
    order.sort_by_key(|part| part.start);
    // The one that reaches furthest of those that begin before.
    let mut furthest: Option<&Partition> = None;
    for partition in order {
        if let Some(before) = furthest
            && before.start.saturating_add(before.len) > partition.start
        {
            let (a, b) = (before.number, partition.number);
            let what = format!("the partitions {a} and {b} share bytes from {}", partition.start);
            problems.push(Problem::new(ProblemKind::Overlap, what));
        }
        let reach = |part: &Partition| part.start.saturating_add(part.len);
        if furthest.is_none_or(|before| reach(before) < reach(partition)) {
            furthest = Some(partition);
        }
    }
    table.problems.append(&mut problems);
    // A table that is all wrong need not be told of in full.
    table.problems.truncate(PROBLEMS);
}

impl Partition {
    /// Whether it only holds other partitions.
    pub fn is_extended(&self) -> bool {
        ["0x05", "0x0f", "0x85"].contains(&self.type_id.as_str())
    }
}

pub(crate) use types::{BIOS_BOOT, ESP, ESP_MBR, is_boot, root_architecture};
