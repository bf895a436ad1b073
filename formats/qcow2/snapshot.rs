//! Internal snapshots: states of the disk that the image keeps.

use super::layout::{Header, MAX_L1, MAX_SNAPSHOT_EXTRA, MAX_SNAPSHOT_TABLE};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Snapshot as Facts;
use crate::base::storage::Window;

/// A row of the snapshot table.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) facts: Facts,
    pub(super) l1_offset: u64,
    /// Entries.
    pub(super) l1_size: u32,
    /// Where the row begins in the file.
    pub(super) at: u64,
}

/// Bytes of a row before its extra data.
const FIXED: usize = 40;

/// The snapshot table.
pub(super) fn read(window: &dyn Window, header: &Header, limits: &Limits) -> Result<Vec<Snapshot>> {
    let count = u64::from(header.snapshot_count);
    if count > limits.max_entries {
        let most = limits.max_entries;
        return Err(Error::limit(format!("{count} snapshots, {most} at most")).at(60));
    }
    let mut at = header.snapshots_offset;
    let mut list = Vec::new();
    for _ in 0..count {
        let (snapshot, next) = row(window, header, at)?;
        if next - header.snapshots_offset > MAX_SNAPSHOT_TABLE {
            return Err(Error::limit("the snapshot table is too large").at(at));
        }
        list.push(snapshot);
        at = next;
    }
    Ok(list)
}

/// The length of the snapshot table: what a check counts as in use.
pub(super) fn table_len(list: &[Snapshot], window: &dyn Window, header: &Header) -> Result<u64> {
    match list.last() {
        Some(last) => Ok(row(window, header, last.at)?.1 - header.snapshots_offset),
        None => Ok(0),
    }
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from(be32(bytes)) << 32 | u64::from(be32(&bytes[4..]))
}

/// One row, and where the next one begins.
fn row(window: &dyn Window, header: &Header, at: u64) -> Result<(Snapshot, u64)> {
    let fixed = window.array::<FIXED>(at)?;
    let (l1_offset, l1_size) = (be64(&fixed), be32(&fixed[8..]));
    let id_len = u16::from_be_bytes([fixed[12], fixed[13]]);
    let name_len = u16::from_be_bytes([fixed[14], fixed[15]]);
    let extra_len = be32(&fixed[36..]);
    if extra_len > MAX_SNAPSHOT_EXTRA {
        let what =
            format!("a snapshot has {extra_len} bytes of extra data, {MAX_SNAPSHOT_EXTRA} at most");
        return Err(Error::malformed(at + 36, what));
    }
    if u64::from(l1_size) * 8 > MAX_L1 {
        return Err(
            Error::limit(format!("the L1 table of a snapshot has {l1_size} entries")).at(at + 8)
        );
    }
    let mut rest = vec![0; extra_len as usize + usize::from(id_len) + usize::from(name_len)];
    window.read(at.saturating_add(FIXED as u64), &mut rest)?;
    let (extra, names) = rest.split_at(extra_len as usize);
    let (id, name) = names.split_at(usize::from(id_len));
    let number = |offset: usize| extra.get(offset..offset + 8).map(be64);
    let facts = Facts {
        id: String::from_utf8_lossy(id).into_owned(),
        name: String::from_utf8_lossy(name).into_owned(),
        seconds: be32(&fixed[16..]),
        nanoseconds: be32(&fixed[20..]),
        vm_clock: be64(&fixed[24..]),
        icount: number(16).filter(|count| *count != u64::MAX),
        vm_state: number(0).unwrap_or_else(|| u64::from(be32(&fixed[32..]))),
        disk_size: number(8).unwrap_or(header.size),
    };
    let end = at + FIXED as u64 + rest.len() as u64;
    Ok((Snapshot { facts, l1_offset, l1_size, at }, end.next_multiple_of(8)))
}
