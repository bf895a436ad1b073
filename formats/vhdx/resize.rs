//! Another size for the disk, in place. The size itself changes in one write: before it, entries
//! behind the old end of the BAT mean nothing, and afterwards those behind the new one.

use std::sync::Arc;

use super::check::examine;
use super::headers::{self, next_guid};
use super::inspect::{self, Head};
use super::layout::{
    Geometry, MAX_DISK, MIB, Payload, REGION_BAT, REGION_TABLES, payload, region_table,
};
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::Finding;
use crate::base::storage::{Le64, Pages, Put, Source, Span, Storage, Word};

/// Entries of the BAT that are written at once.
const PART: u64 = 8192;

/// `Invalid` for a size that no such disk can have, `Unsupported` for a differencing image,
/// `Malformed` for a damaged one.
#[expect(clippy::needless_pass_by_value, reason = "a ResizeFn takes it by value")]
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let head = inspect::head(&*storage, limits)?;
    let geometry = head.metadata.geometry;
    if size == geometry.size {
        return Ok(());
    }
    if !size.is_multiple_of(geometry.sector) || size > MAX_DISK {
        let sector = geometry.sector;
        let what = format!("a disk of {size} bytes, not whole sectors of {sector} up to 64 TiB");
        return Err(Error::invalid(what));
    }
    if geometry.parent {
        let what = "it is differencing, and its parent may hold bytes behind its end";
        return Err(Error::unsupported(what));
    }
    sound(&storage, limits)?;
    let change = format!("size {size}");
    let file_write = next_guid(head.header.file_write, &change);
    let data_write = next_guid(head.header.data_write, &change);
    headers::update(&storage, |header| {
        (header.file_write, header.data_write) = (file_write, data_write);
    })?;
    let new = Geometry { size, ..geometry };
    if size > geometry.size {
        clear_tail(&storage, &head)?;
        grow(&storage, &head, new)
    } else {
        shrink(&storage, &head, new, limits)
    }
}

/// Only a sound image is changed. What is wrong with the headers matters not: they are written
/// anew; nor do marks that are missing in the tables of regions.
fn sound(storage: &Arc<dyn Storage>, limits: &Limits) -> Result<()> {
    let mut first: Option<Finding> = None;
    examine(storage.clone(), limits, &mut |finding| {
        if finding.at >= MIB && first.is_none() {
            first = Some(finding);
        }
    })?;
    match first {
        None => Ok(()),
        Some(finding) => {
            let what = format!("only a sound image can be resized: {}", finding.what);
            Err(Error::malformed(finding.at, what))
        }
    }
}

/// Makes zeros of what the last block holds behind the end of the disk.
fn clear_tail(storage: &Arc<dyn Storage>, head: &Head) -> Result<()> {
    let Geometry { size, block, .. } = head.metadata.geometry;
    let inside = size % block;
    if inside == 0 {
        return Ok(());
    }
    let at = head.regions.bat.start() + head.metadata.geometry.entry_of(size / block) * 8;
    let source: Arc<dyn Source> = storage.clone();
    let entry = Pages::new(source).look(at, 8, Le64::get)?;
    match payload(entry) {
        Some(Payload::Present { offset }) => {
            zero(storage, Span::new(offset + inside, block - inside)?)
        }
        _ => Ok(()),
    }
}

fn zero(storage: &Arc<dyn Storage>, span: Span) -> Result<()> {
    let fail = |error| Error::io("cannot write zeros", error).at(span.start());
    storage.zero(span).map_err(fail)
}

fn set_len(storage: &Arc<dyn Storage>, len: u64) -> Result<()> {
    storage.set_len(len).map_err(|error| Error::io("cannot set its length", error))
}

/// Writes the size of the disk where it stands.
fn set_size(storage: &Arc<dyn Storage>, head: &Head, size: u64) -> Result<()> {
    storage.settle()?;
    storage.put(head.metadata.size_at, &size.to_le_bytes())?;
    storage.settle()
}

fn grow(storage: &Arc<dyn Storage>, head: &Head, new: Geometry) -> Result<()> {
    let old = head.metadata.geometry;
    let bat = head.regions.bat;
    let len = Source::len(&**storage);
    let mut end =
        len.checked_next_multiple_of(MIB).ok_or_else(|| Error::limit("too long a file"))?;
    let place = if new.entries() * 8 <= bat.len() {
        bat
    } else {
        let place = Span::new(end, (new.entries() * 8).next_multiple_of(MIB))?;
        end = place.end();
        place
    };
    let first = end;
    if head.metadata.fixed {
        end = Span::new(end, (new.blocks() - old.blocks()) * new.block)?.end();
    }
    if end > len {
        set_len(storage, end)?;
    }
    if place != bat {
        let source: Arc<dyn Source> = storage.clone();
        Pages::new(source).pieces(bat.start(), old.entries() * 8, |done, bytes| {
            storage.put(place.start() + done, bytes)
        })?;
    }
    let added = Span::new(place.start() + old.entries() * 8, (new.entries() - old.entries()) * 8)?;
    zero(storage, added)?;
    if head.metadata.fixed {
        fill(storage, place.start(), (old, new), first)?;
    }
    if place != bat {
        storage.settle()?;
        move_bat(storage, head, place)?;
    }
    set_size(storage, head, new.size)
}

/// Entries for the blocks that are new, one behind the other from `first` on.
fn fill(
    storage: &Arc<dyn Storage>,
    bat: u64,
    (old, new): (Geometry, Geometry),
    first: u64,
) -> Result<()> {
    let mut from = old.entries();
    while from < new.entries() {
        let to = new.entries().min(from + PART);
        let entry = |number: u64| match new.block_of(number) {
            Some(block) => Plan::present(first + (block - old.blocks()) * new.block),
            None => 0,
        };
        let bytes: Vec<u8> = (from..to).flat_map(|number| entry(number).to_le_bytes()).collect();
        storage.put(bat + from * 8, &bytes)?;
        from = to;
    }
    Ok(())
}

/// Says in both tables of regions where the BAT is now, first in the one that is not in use: until
/// the disk has its new size, either place is right.
fn move_bat(storage: &Arc<dyn Storage>, head: &Head, place: Span) -> Result<()> {
    let mut rows = head.regions.rows.clone();
    for row in rows.iter_mut().filter(|row| row.guid == REGION_BAT) {
        row.offset = place.start();
        row.length = u32::try_from(place.len()).expect("512 MiB and a little at most");
    }
    let table = region_table(&rows);
    let in_use = usize::from(inspect::region_table(&**storage, REGION_TABLES[0]).is_err());
    for index in [1 - in_use, in_use] {
        storage.put(REGION_TABLES[index], &table)?;
        storage.settle()?;
    }
    Ok(())
}

fn shrink(storage: &Arc<dyn Storage>, head: &Head, new: Geometry, limits: &Limits) -> Result<()> {
    let old = head.metadata.geometry;
    set_size(storage, head, new.size)?;
    let start = head.regions.bat.start() + new.entries() * 8;
    zero(storage, Span::new(start, (old.entries() - new.entries()) * 8)?)?;
    let end = examine(storage.clone(), limits, &mut |_| {})?.image_end_offset;
    if end < Source::len(&**storage) {
        set_len(storage, end)?;
    }
    storage.settle()
}
