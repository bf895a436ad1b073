//! The clusters of a file: the table that gives them out, and copying them.

use std::sync::Arc;

use super::layout::{ENTRY, Geometry, LENGTH};
use crate::base::error::{Error, Result};
use crate::base::storage::{Buffer, Le32, Pages, Put, Source, Storage, Window};

/// Bytes that are copied or written at once.
pub(super) const CHUNK: u64 = 1 << 20;

/// Hands over the entries of the table from `from` up to `to` that give out a cluster: number of
/// the cluster on the disk, where the entry stands, where the cluster lies. What the end of the
/// file cuts off is left out.
pub(super) fn entries(
    pages: &Pages,
    geometry: Geometry,
    range: std::ops::Range<u64>,
    mut look: impl FnMut(u64, u64, u64) -> Result<()>,
) -> Result<()> {
    let first = LENGTH + range.start * ENTRY;
    pages.words::<Le32>(first, range.end - range.start, |index, at, word| {
        match geometry.offset(word) {
            None => Ok(()),
            Some(offset) => look(range.start + index, at, offset),
        }
    })
}

/// Where the table has the entry of a cluster.
pub(super) fn entry_at(index: u64) -> u64 {
    LENGTH + index * ENTRY
}

/// Writes the entry of a cluster that lies at `offset` now.
pub(super) fn enter(
    storage: &Arc<dyn Storage>,
    geometry: Geometry,
    index: u64,
    offset: u64,
) -> Result<()> {
    let entry = geometry.entry(offset);
    let entry = entry.ok_or_else(|| Error::limit("a cluster lies past what an entry can say"))?;
    storage.put(entry_at(index), &entry.to_le_bytes())
}

/// A buffer to copy with.
pub(super) fn buffer() -> Buffer {
    Buffer::new(usize::try_from(CHUNK).expect("a MiB"))
}

/// Copies a cluster of the file to another place in it, as far as the file has it; what it lacks
/// is made zeros.
pub(super) fn copy(
    storage: &Arc<dyn Storage>,
    geometry: Geometry,
    from: u64,
    to: u64,
    buffer: &mut Buffer,
) -> Result<()> {
    let there = Source::len(&**storage).saturating_sub(from);
    let mut done = 0;
    while done < geometry.cluster {
        let len = (geometry.cluster - done).min(CHUNK);
        let bytes = &mut buffer[..usize::try_from(len).expect("a MiB at most")];
        bytes.fill(0);
        let have = there.saturating_sub(done).min(len);
        let have = usize::try_from(have).expect("a MiB at most");
        Window::read(&**storage, from + done, &mut bytes[..have])?;
        storage.put(to + done, bytes)?;
        done += len;
    }
    Ok(())
}

/// Cuts the file off, where it has an end that can move.
pub(super) fn cut(storage: &Arc<dyn Storage>, end: u64) -> Result<()> {
    if end >= Source::len(&**storage) || storage.fixed_len().is_some() {
        return Ok(());
    }
    storage.set_len(end).map_err(|error| Error::io("cannot cut the file off", error))?;
    storage.settle()
}
