//! Another size for the disk, in place; the header changes last, in one write.

use std::sync::Arc;

use super::check::examine;
use super::inspect::{self, Head};
use super::layout::{BITMAPS, COPIED, CORRUPT, DATA_FILE_RAW, DIRTY, Entry, MAX_L1, OFFSET};
use super::survey::Survey;
use super::{rebuild, repair};
use crate::base::codec::Decoder;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::Repair;
use crate::base::storage::{Buffer, Pages, Put, Source, Storage, Window, is_zero};

/// Where the size stands in the header, and behind it the length and the place of the L1 table.
const SIZE_AT: u64 = 24;

/// `Unsupported` for images that hold more than a disk (bitmaps, a data file, and where it would
/// touch them, snapshots); `Malformed` for damaged ones.
#[expect(clippy::needless_pass_by_value, reason = "a ResizeFn takes it by value")]
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let head = inspect::head(&*storage)?;
    if size == head.header.size {
        return Ok(());
    }
    fit_for_it(&storage, &head, size, limits)?;
    // Whoever changes an image clears the autoclear features that they do not know.
    let known = head.header.autoclear & (BITMAPS | DATA_FILE_RAW);
    if known != head.header.autoclear {
        storage.put(88, &known.to_be_bytes())?;
    }
    if size > head.header.size {
        clear_tail(&storage, &head)?;
        grow(&storage, &head, size, limits)
    } else {
        shrink(&storage, &head, size, limits)
    }
}

/// Only a sound image is changed, and only one in which nothing else has the size of the disk.
fn fit_for_it(storage: &Arc<dyn Storage>, head: &Head, size: u64, limits: &Limits) -> Result<()> {
    let snapshots = head.header.snapshot_count > 0;
    let kept = [
        (head.bitmaps.is_some_and(|directory| directory.count > 0), "bitmaps"),
        (head.geometry.data_file, "a data file"),
        (head.header.crypt_method != 0, "encrypted content"),
        (snapshots && size < head.header.size, "snapshots, which would lose their end"),
        (snapshots && head.header.version == 2, "snapshots, which in version 2 have its size"),
    ];
    if let Some((_, what)) = kept.iter().find(|(has, _)| *has) {
        return Err(Error::unsupported(format!("its size cannot change, for it has {what}")));
    }
    let marks = head.header.incompatible & (DIRTY | CORRUPT);
    let pages = Pages::new(storage.clone());
    let mut ignore = |_| {};
    let mut survey = examine(head, &pages, limits, &mut ignore)?;
    if let Some(error) = survey.failed.take() {
        return Err(error);
    }
    let tally = survey.report.tally;
    if marks != 0 || tally.corruptions + tally.check_errors > 0 {
        return Err(Error::malformed(0, "it is damaged, and only a sound image can be resized"));
    }
    Ok(())
}

/// Makes zeros of what the last cluster holds behind the end of the disk: it is about to be seen.
fn clear_tail(storage: &Arc<dyn Storage>, head: &Head) -> Result<()> {
    let (geometry, size) = (head.geometry, head.header.size);
    let inside = size % geometry.cluster();
    if inside == 0 {
        return Ok(());
    }
    let window = &**storage as &dyn Window;
    let l1 = head.header.l1_offset + size / geometry.l2_reach() * 8;
    let table = u64::from_be_bytes(window.array(l1)?) & OFFSET;
    if table == 0 {
        return Ok(());
    }
    let at = table + (size % geometry.l2_reach()) / geometry.cluster() * geometry.entry_size();
    let word = u64::from_be_bytes(window.array(at)?);
    let bitmap = match geometry.extended {
        true => u64::from_be_bytes(window.array(at + 8)?),
        false => 0,
    };
    let cluster = usize::try_from(geometry.cluster()).expect("2 MiB at most");
    let from = usize::try_from(inside).expect("inside a cluster");
    let mut bytes = Buffer::new(cluster);
    match geometry.entry(word, bitmap) {
        Entry::Unallocated | Entry::Zero { .. } => return Ok(()),
        Entry::Data { offset } | Entry::Mixed { offset, .. } => {
            let end = Source::len(&**storage).min(offset + geometry.cluster());
            let there = usize::try_from(end.saturating_sub(offset)).expect("inside a cluster");
            Window::read(&**storage, offset, &mut bytes[..there])?;
            if is_zero(&bytes[from..]) {
                return Ok(());
            }
            if word & COPIED != 0 {
                bytes[from..].fill(0);
                return storage.put(offset + inside, &bytes[from..]);
            }
        }
        Entry::Packed { offset, len } => {
            let len = len.min(Source::len(&**storage).saturating_sub(offset));
            let mut packed = vec![0; usize::try_from(len).expect("a cluster at most")];
            Window::read(&**storage, offset, &mut packed)?;
            Decoder::default().decode(geometry.codec, &packed, &mut bytes[..cluster])?;
            if is_zero(&bytes[from..]) {
                return Ok(());
            }
        }
    }
    Err(Error::unsupported("its last cluster holds bytes behind the end, and cannot be changed"))
}

fn grow(storage: &Arc<dyn Storage>, head: &Head, size: u64, limits: &Limits) -> Result<()> {
    let (header, geometry) = (&head.header, head.geometry);
    let (old, cluster) = (u64::from(header.l1_size), geometry.cluster());
    let entries = size.div_ceil(geometry.l2_reach()).max(old);
    if entries * 8 > MAX_L1 {
        let what = format!("{size} bytes of disk are too many for clusters of {cluster}");
        return Err(Error::invalid(what));
    }
    let mut new = head.header.clone();
    (new.size, new.l1_size) = (size, u32::try_from(entries).expect("32 MiB at most"));
    if entries * 8 <= (old * 8).next_multiple_of(cluster) {
        let more = usize::try_from((entries - old) * 8).expect("inside a cluster");
        storage.put(header.l1_offset + old * 8, &vec![0; more])?;
        storage.settle()?;
        return put_header(storage, &new);
    }
    // The table moves behind everything else, and refcounts that know of it behind that.
    let len = usize::try_from((entries * 8).next_multiple_of(cluster)).expect("32 MiB at most");
    let mut table = vec![0; len];
    let there = usize::try_from(old * 8).expect("32 MiB at most");
    Window::read(&**storage, header.l1_offset, &mut table[..there])?;
    new.l1_offset = Source::len(&**storage).next_multiple_of(cluster);
    storage.put(new.l1_offset, &table)?;
    let mut ignore = |_| {};
    let moved = Head { header: new.clone(), ..inspect::head(&**storage)? };
    let pages = Pages::new(storage.clone());
    let mut disk = Survey::new(&moved, &pages, limits, &mut ignore)?;
    disk.disk()?;
    disk.has_seen_all()?;
    let start = (new.l1_offset + table.len() as u64) / cluster;
    let Some((table, clusters)) = rebuild::beside(storage, &disk, start)? else {
        return Err(Error::invalid("the refcount table would be too large"));
    };
    (new.refcount_table_offset, new.refcount_table_clusters) = (table, clusters);
    put_header(storage, &new)
}

/// What is behind the new end is given up first, so that at every moment nothing leads astray.
fn shrink(storage: &Arc<dyn Storage>, head: &Head, size: u64, limits: &Limits) -> Result<()> {
    let (header, geometry) = (&head.header, head.geometry);
    let (reach, cluster) = (geometry.l2_reach(), geometry.cluster());
    let inside = (size % reach).div_ceil(cluster);
    if !size.is_multiple_of(reach) && inside < geometry.l2_entries() {
        let at = header.l1_offset + size / reach * 8;
        let table = u64::from_be_bytes((&**storage as &dyn Window).array(at)?) & OFFSET;
        if table != 0 {
            let bytes = (geometry.l2_entries() - inside) * geometry.entry_size();
            let zeros = vec![0; usize::try_from(bytes).expect("a cluster at most")];
            storage.put(table + inside * geometry.entry_size(), &zeros)?;
        }
    }
    let kept = size.div_ceil(reach).max(1);
    let gone = u64::from(header.l1_size).saturating_sub(kept);
    let zeros = vec![0; usize::try_from(gone * 8).expect("32 MiB at most")];
    storage.put(header.l1_offset + kept * 8, &zeros)?;
    storage.settle()?;
    let mut new = header.clone();
    new.size = size;
    put_header(storage, &new)?;
    let mut ignore = |_| {};
    let tally = repair::repair(storage.clone(), Repair::Leaks, limits, &mut ignore)?;
    if !tally.is_clean() {
        // The disk has its new size, and a repair finds the rest.
        let why = std::io::Error::other("not all its tables could be read");
        return Err(Error::io("the room that it gave up is not taken back", why));
    }
    if storage.fixed_len().is_none() {
        let fail = |error| Error::io("cannot cut the file", error);
        storage.set_len(tally.image_end_offset).map_err(fail)?;
    }
    storage.settle()
}

/// Size, L1 table and refcount table in one write, after everything else is in storage.
fn put_header(storage: &Arc<dyn Storage>, new: &super::layout::Header) -> Result<()> {
    storage.settle()?;
    let at = usize::try_from(SIZE_AT).expect("small");
    storage.put(SIZE_AT, &new.to_bytes()[at..60])?;
    storage.settle()
}
