//! The records of one directory; those of a file in several extents as one item.

use super::layout::{ASSOCIATED, CONTINUED, Record, SECTOR_BYTES, SHORTEST};
use crate::base::error::{Error, Result};
use crate::base::model::entry::Stretch;

/// What one name stands for.
#[derive(Debug)]
pub(super) struct Item {
    /// Where its first record stands.
    pub(super) at: u64,
    /// Its last record, whose fields count.
    pub(super) record: Record,
    pub(super) stretches: Vec<Stretch>,
    /// Whether parts of other files lie between its own.
    pub(super) interleaved: bool,
}

/// The items of a directory whose bytes these are, from this offset on; without those that stand
/// for itself and the one above, and those that belong to other files. `Malformed` for records that
/// are too short or reach into another sector, and for a file that goes on and does not.
pub(super) fn items(bytes: &[u8], at: u64, block: u64) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut open: Option<Item> = None;
    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        let sector_at = at + (index * SECTOR_BYTES) as u64;
        let mut offset = 0;
        while let Some(len) = sector.get(offset).copied().filter(|len| *len != 0) {
            let at = sector_at + offset as u64;
            let record = record(sector, offset, usize::from(len), at)?;
            offset += usize::from(len);
            if record.is_dot() || record.flags & ASSOCIATED != 0 {
                continue;
            }
            let item = joined(open.take(), record, at, block)?;
            match item.record.flags & CONTINUED {
                0 => items.push(item),
                _ => open = Some(item),
            }
        }
    }
    match open {
        None => Ok(items),
        Some(item) => Err(Error::malformed(item.at, "a file that goes on, and does not")),
    }
}

fn record(sector: &[u8], offset: usize, len: usize, at: u64) -> Result<Record> {
    let short = || Error::malformed(at, format!("a directory record of {len} bytes is too short"));
    if len < SHORTEST {
        return Err(short());
    }
    let Some(bytes) = sector.get(offset..offset + len) else {
        let what = format!("a directory record of {len} bytes reaches into another sector");
        return Err(Error::malformed(at, what));
    };
    Record::parse(bytes).ok_or_else(short)
}

/// A record as an item, or as one more part of the item that goes on.
fn joined(open: Option<Item>, record: Record, at: u64, block: u64) -> Result<Item> {
    let first = u64::from(record.extent.value) + u64::from(record.attributes);
    let stretch = Stretch::stored(first * block, record.size.value.into());
    let interleaved = record.unit != 0 || record.gap != 0;
    let mut item = match open {
        None => Item { at, record, stretches: Vec::new(), interleaved },
        Some(open) if open.record.name != record.name || record.is_directory() => {
            return Err(Error::malformed(at, "a file goes on in a record of another name"));
        }
        Some(open) => Item { record, interleaved: open.interleaved || interleaved, ..open },
    };
    if stretch.len > 0 {
        item.stretches.push(stretch);
    }
    Ok(item)
}
