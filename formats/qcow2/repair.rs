//! Mends what a check finds, in place, so that no crash in between makes it worse.
//!
//! Nothing readable is given up: an entry that leads nowhere stays, and is reported as not fixed.
//! Clusters are never called free while a table that leads to others cannot be read.

use std::sync::Arc;

use super::check::{Compared, MARKED, compare, examine};
use super::inspect::{self, Head};
use super::layout::{
    BITMAPS, COMPRESSED, COPIED, CORRUPT, DATA_FILE_RAW, DIRTY, Geometry, OFFSET, ZERO, has_data,
};
use super::rebuild;
use super::stored::{Block, Stored};
use super::survey::Survey;
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Repair, Report, Severity, Tally};
use crate::base::storage::{Be64, Pages, Put, Source, Storage, Word};

/// Mends an image: lost room only, or all that can be mended. Each finding says whether it was
/// mended; the tally counts these, and what stands afterwards.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    mend(&storage, what, limits, found).map_err(|error| error.format("qcow2"))
}

fn mend(
    storage: &Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let before = inspect::head(&**storage)?;
    let marks = before.header.incompatible & (DIRTY | CORRUPT);
    let mut ignore = |_| {};
    let pages = fresh_pages(storage);
    let survey = examine(&before, &pages, limits, &mut ignore)?;
    if survey.report.tally.is_clean() && marks == 0 {
        return Ok(survey.report.tally);
    }
    forget_unknown_features(storage, &before)?;
    let mut report = Report::new(found);
    let misplaced = survey.misplaced && what == Repair::All;
    if misplaced {
        release_misplaced(storage, &survey, &mut report)?;
    }
    drop(survey);
    refcounts(storage, what, limits, &mut report)?;
    if what == Repair::All {
        flags(storage, limits, &mut report)?;
    }
    let fixed = report.tally;
    finish(storage, limits, found, fixed)
}

/// Pages that hold nothing yet: what was written since is read anew.
fn fresh_pages(storage: &Arc<dyn Storage>) -> Pages {
    let source: Arc<dyn Source> = storage.clone();
    Pages::new(source)
}

/// Whoever changes an image clears the autoclear features that they do not know.
fn forget_unknown_features(storage: &Arc<dyn Storage>, head: &Head) -> Result<()> {
    let autoclear = head.header.autoclear;
    let known = autoclear & (BITMAPS | DATA_FILE_RAW);
    if autoclear != known {
        storage.put(88, &known.to_be_bytes())?;
        storage.settle()?;
    }
    Ok(())
}

/// Sees what stands now, clears the marks in the header if nothing does, and counts.
fn finish(
    storage: &Arc<dyn Storage>,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
    fixed: Tally,
) -> Result<Tally> {
    let head = inspect::head(&**storage)?;
    let pages = fresh_pages(storage);
    let mut survey = examine(&head, &pages, limits, found)?;
    let report = &mut survey.report;
    let sound = report.tally.corruptions == 0 && report.tally.check_errors == 0;
    let marks = head.header.incompatible & (DIRTY | CORRUPT);
    if sound && marks != 0 {
        // The refcounts are in storage before the header says that they can be trusted.
        storage.settle()?;
        storage.put(72, &(head.header.incompatible & !marks).to_be_bytes())?;
    }
    if marks & CORRUPT != 0 {
        let severity = Severity::Corruption;
        if sound { report.fixed(severity, 72, MARKED) } else { report.corruption(72, MARKED) }
    }
    storage.settle()?;
    let mut tally = report.tally;
    tally.corruptions_fixed += fixed.corruptions_fixed;
    tally.leaks_fixed += fixed.leaks_fixed;
    Ok(tally)
}

/// Makes the stored refcounts what the tables say.
fn refcounts(
    storage: &Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    report: &mut Report,
) -> Result<()> {
    let head = inspect::head(&**storage)?;
    let pages = fresh_pages(storage);
    let mut ignore = |_| {};
    let survey = examine(&head, &pages, limits, &mut ignore)?;
    if !survey.broken {
        return in_place(storage, what, &survey, report);
    }
    if what == Repair::All && !survey.incomplete {
        rebuild::rebuild(storage, &survey, limits, report)?;
    }
    Ok(())
}

/// Refcounts that are changed where they stand.
struct Editor<'a> {
    storage: &'a Arc<dyn Storage>,
    pages: &'a Pages,
    stored: &'a Stored,
    cluster: u64,
    block: Option<(Block, Vec<u8>)>,
}

impl Editor<'_> {
    fn set(&mut self, number: u64, count: u64) -> Result<()> {
        let index = number / self.stored.per_block();
        if self.block.as_ref().is_none_or(|(block, _)| block.index != index) {
            self.flush()?;
            let block = self.stored.block(self.pages, index)?;
            self.block = Some((block, whole(self.pages, block.offset(), self.cluster)?));
        }
        let inside = number % self.stored.per_block();
        let inside = usize::try_from(inside).expect("inside a block");
        if let Some((_, bytes)) = &mut self.block {
            self.stored.counts.set(bytes, inside, count);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.block.take() {
            Some((block, bytes)) => self.storage.put(block.offset(), &bytes),
            None => Ok(()),
        }
    }
}

/// The bytes of one cluster, zeros where the file has ended.
fn whole(pages: &Pages, offset: u64, cluster: u64) -> Result<Vec<u8>> {
    let mut all = vec![0; usize::try_from(cluster).expect("2 MiB at most")];
    pages.pieces(offset, cluster, |done, bytes| {
        let at = usize::try_from(done).expect("inside a cluster");
        all[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    })?;
    Ok(all)
}

/// The refcount blocks are sound: only numbers in them change.
fn in_place(
    storage: &Arc<dyn Storage>,
    what: Repair,
    survey: &Survey,
    report: &mut Report,
) -> Result<()> {
    let Survey { pages, usage, stored, incomplete, .. } = survey;
    let Geometry { cluster_bits, .. } = survey.head.geometry;
    let cluster = survey.head.geometry.cluster();
    let mut editor = Editor { storage, pages, stored, cluster, block: None };
    let mut done = Ok(());
    compare(stored, usage, pages, &mut |compared| {
        let Compared::Cluster { number, refcount, users } = compared else { return };
        let leak = refcount > users;
        let raises = refcount < users && what == Repair::All && users <= stored.counts.max();
        if done.is_err() || !(raises || (leak && !incomplete)) {
            return;
        }
        done = editor.set(number, users);
        if done.is_ok() {
            let severity = if leak { Severity::Leak } else { Severity::Corruption };
            let what = format!("cluster {number} had refcount {refcount} and {users} users");
            report.fixed(severity, number << cluster_bits, what);
        }
    })?;
    done?;
    editor.flush()?;
    storage.settle()
}

/// Makes the copied flags of the L1 table in use, and of its L2 tables, what the refcounts say.
fn flags(storage: &Arc<dyn Storage>, limits: &Limits, report: &mut Report) -> Result<()> {
    let head = inspect::head(&**storage)?;
    let pages = fresh_pages(storage);
    let mut ignore = |_| {};
    let survey = examine(&head, &pages, limits, &mut ignore)?;
    for (&offset, refs) in &survey.tables {
        if refs.active == 0 {
            continue;
        }
        edit_table(storage, &survey, offset, |at, word, _| {
            let right = right_flag(&survey, word, true);
            if right == word {
                return None;
            }
            let what = format!("L2 entry {word:#x} had a wrong copied flag");
            report.fixed(Severity::Corruption, at, what);
            Some((right, None))
        })?;
    }
    let (l1, entries) = (head.header.l1_offset, u64::from(head.header.l1_size));
    let clusters = survey.usage.touched(l1, (entries * 8).max(1)).unwrap_or(0..0);
    if clusters.into_iter().any(|cluster| survey.usage.overlaps(cluster)) {
        return storage.settle();
    }
    pages.words::<Be64>(l1, entries, |_, at, word| {
        let right = right_flag(&survey, word, false);
        if right != word {
            storage.put(at, &right.to_be_bytes())?;
            let what = format!("L1 entry {word:#x} had a wrong copied flag");
            report.fixed(Severity::Corruption, at, what);
        }
        Ok(())
    })?;
    storage.settle()
}

/// The entry with the copied flag that it should have, where that is known for sure.
fn right_flag(survey: &Survey, word: u64, l2: bool) -> u64 {
    let geometry = survey.head.geometry;
    let offset = word & OFFSET;
    if l2 && word & COMPRESSED != 0 {
        return word & !COPIED;
    }
    if l2 && geometry.data_file {
        return if offset == 0 { word } else { word | COPIED };
    }
    let cluster = offset >> geometry.cluster_bits;
    if offset == 0 || survey.stored.is_unknown(cluster) {
        return word;
    }
    match survey.usage.is_single(cluster) {
        Some(true) if survey.usage.users(cluster) == 1 => word | COPIED,
        Some(false) => word & !COPIED,
        Some(true) | None => word,
    }
}

/// Zero clusters that keep a cluster inside another lose it: they read as zeros as before.
fn release_misplaced(
    storage: &Arc<dyn Storage>,
    survey: &Survey,
    report: &mut Report,
) -> Result<()> {
    let geometry = survey.head.geometry;
    for &offset in survey.tables.keys() {
        edit_table(storage, survey, offset, |at, word, bitmap| {
            let place = word & OFFSET;
            let zero = if geometry.extended { !has_data(bitmap) } else { word & ZERO != 0 };
            if word & COMPRESSED != 0 || place.is_multiple_of(geometry.cluster()) || !zero {
                return None;
            }
            let what = format!("a zero cluster kept room at {place:#x}, inside another");
            report.fixed(Severity::Corruption, at, what);
            Some((word & !(OFFSET | COPIED), geometry.extended.then_some(bitmap)))
        })?;
    }
    storage.settle()
}

/// Changes entries of an L2 table: `edit` gets offset, entry and subclusters, and gives what is
/// to stand there. A table that shares its cluster with something else is left alone.
fn edit_table(
    storage: &Arc<dyn Storage>,
    survey: &Survey,
    offset: u64,
    mut edit: impl FnMut(u64, u64, u64) -> Option<(u64, Option<u64>)>,
) -> Result<()> {
    let geometry = survey.head.geometry;
    let (cluster, number) = (geometry.cluster(), offset >> geometry.cluster_bits);
    let inside = survey.usage.touched(offset, cluster).is_some();
    if !inside || !offset.is_multiple_of(cluster) || survey.usage.overlaps(number) {
        return Ok(());
    }
    let mut table = whole(survey.pages, offset, cluster)?;
    let size = usize::try_from(geometry.entry_size()).expect("8 or 16");
    let mut changed = false;
    for (index, entry) in table.chunks_exact_mut(size).enumerate() {
        let bitmap = if geometry.extended { Be64::get(&entry[8..]) } else { 0 };
        let at = offset + (index * size) as u64;
        let Some((word, bitmap)) = edit(at, Be64::get(entry), bitmap) else { continue };
        changed = true;
        entry[..8].copy_from_slice(&word.to_be_bytes());
        if let Some(bitmap) = bitmap {
            entry[8..].copy_from_slice(&bitmap.to_be_bytes());
        }
    }
    if changed { storage.put(offset, &table) } else { Ok(()) }
}
