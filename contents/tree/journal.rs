//! What waits in the journal of an ext file system (the kernel's documentation of ext4, "Journal
//! (jbd2)"): blocks that were promised, and are not yet where they belong.

use std::collections::HashMap;

use crate::bytes::Bytes;
use crate::disk::{Disk, Read, damaged};

/// What every block of the journal's own begins with, and bytes of that.
pub(super) const MAGIC: u32 = 0xc03b_3998;
const HEADER: usize = 12;
/// Kinds of such blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// Features: block numbers of 64 bits; checksums of two kinds.
const WIDE: u32 = 0x2;
const SUMS_2: u32 = 0x8;
const SUMS_3: u32 = 0x10;
/// All that matter nothing to a reader, or are seen to: those, blocks that are taken back, commits
/// that need not wait.
const KNOWN: u32 = 0x1 | WIDE | 0x4 | SUMS_2 | SUMS_3;
/// Flags of a block that waits: its first bytes were those of the journal's own; it belongs to the
/// same file system as the one before; it is the last one.
const ESCAPED: u32 = 1;
const SAME: u32 = 2;
const LAST: u32 = 8;
/// Bytes that a block that waits is counted as.
const COST: u64 = 64;

/// A block that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Which block of the journal it is.
    pub(super) at: u64,
    /// Whether the journal's magic number has to be put in front of it.
    pub(super) escaped: bool,
}

/// Every block that waits, by its place in the file system. `block` gives a block of the journal.
/// A transaction that was not committed does not count.
pub(super) fn waiting(
    disk: &Disk,
    block: &dyn Fn(u64) -> Read<Vec<u8>>,
) -> Read<HashMap<u64, Waiting>> {
    let front = block(0)?;
    let raw = Bytes(&front);
    let word = |at| raw.be32(at).unwrap_or(0);
    let (end, first, start) = (word(16), word(20), word(28));
    let features = word(40);
    if word(0) != MAGIC || features & !KNOWN != 0 || first == 0 || first >= end {
        return damaged(format!("its journal is not read here, {features:#x}"));
    }
    let mut replay = Replay { features, ..Replay::default() };
    // Nothing waits if it begins nowhere.
    if start != 0 {
        let ring = Ring { first: u64::from(first), end: u64::from(end) };
        replay.run(disk, &ring, block, u64::from(start), word(24))?;
    }
    let Replay { mut found, revoked, .. } = replay;
    found.retain(|at, (_, sequence)| revoked.get(at).is_none_or(|last| last < sequence));
    Ok(found.into_iter().map(|(at, (waiting, _))| (at, waiting)).collect())
}

/// The blocks of a journal, behind the last of which comes the first.
struct Ring {
    first: u64,
    end: u64,
}

impl Ring {
    fn behind(&self, at: u64) -> u64 {
        if at + 1 < self.end { at + 1 } else { self.first }
    }
}

#[derive(Default)]
struct Replay {
    features: u32,
    /// What was committed, and in which transaction.
    found: HashMap<u64, (Waiting, u32)>,
    /// Up to which transaction blocks were taken back.
    revoked: HashMap<u64, u32>,
}

impl Replay {
    fn run(
        &mut self,
        disk: &Disk,
        ring: &Ring,
        block: &dyn Fn(u64) -> Read<Vec<u8>>,
        start: u64,
        mut sequence: u32,
    ) -> Read<()> {
        let (mut blocks, mut taken_back) = (Vec::new(), Vec::new());
        let (mut at, mut steps) = (start, 0);
        while steps < ring.end {
            let raw = block(at)?;
            let head = Bytes(&raw);
            if head.be32(0) != Some(MAGIC) || head.be32(8) != Some(sequence) {
                return Ok(());
            }
            match head.be32(4) {
                Some(DESCRIPTOR) => {
                    for (target, escaped) in self.tags(head) {
                        disk.count_handed(COST)?;
                        (at, steps) = (ring.behind(at), steps + 1);
                        blocks.push((target, Waiting { at, escaped }));
                    }
                }
                Some(REVOKE) => {
                    let targets = self.revokes(head);
                    disk.count_handed(COST * targets.len() as u64)?;
                    taken_back.extend(targets);
                }
                Some(COMMIT) => {
                    let blocks = blocks.drain(..);
                    self.found.extend(blocks.map(|(at, waiting)| (at, (waiting, sequence))));
                    self.revoked.extend(taken_back.drain(..).map(|at| (at, sequence)));
                    sequence = sequence.wrapping_add(1);
                }
                Some(_) | None => return Ok(()),
            }
            (at, steps) = (ring.behind(at), steps + 1);
        }
        Ok(())
    }

    /// The blocks that follow a descriptor: where each belongs, and whether it is escaped.
    fn tags(&self, raw: Bytes) -> Vec<(u64, bool)> {
        let has = |feature| self.features & feature != 0;
        let size = match () {
            () if has(SUMS_3) => 16,
            () => 8 + if has(SUMS_2) { 2 } else { 0 } + if has(WIDE) { 4 } else { 0 },
        };
        let (mut at, mut found) = (HEADER, Vec::new());
        while let Some(tag) = raw.slice(at, size) {
            let tag = Bytes(tag);
            let flags = match has(SUMS_3) {
                true => tag.be32(4).unwrap_or(LAST),
                false => tag.be16(6).map_or(LAST, u32::from),
            };
            let high = if has(WIDE) { tag.be32(8).unwrap_or(0) } else { 0 };
            let target = u64::from(high) << 32 | u64::from(tag.be32(0).unwrap_or(0));
            found.push((target, flags & ESCAPED != 0));
            if flags & LAST != 0 {
                break;
            }
            at += size + if flags & SAME == 0 { 16 } else { 0 };
        }
        found
    }

    /// The blocks that are taken back.
    fn revokes(&self, raw: Bytes) -> Vec<u64> {
        let size = if self.features & WIDE == 0 { 4 } else { 8 };
        let end = raw.be32(12).and_then(|end| usize::try_from(end).ok()).unwrap_or(0);
        let list = raw.0.get(16..end.min(raw.0.len())).unwrap_or_default();
        let number = |entry: &[u8]| {
            let entry = Bytes(entry);
            entry.be64(0).or_else(|| entry.be32(0).map(u64::from)).unwrap_or(0)
        };
        list.chunks_exact(size).map(number).collect()
    }
}
