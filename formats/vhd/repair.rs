//! Mends what a check finds, in place: footers and checksums.
//!
//! Nothing readable is given up: blocks that are not there, or overlap, stay as they are, and are
//! reported as not fixed.

use std::sync::Arc;

use super::check::{Survey, examine};
use super::layout::{FIXED, FOOTER, FOOTER_BYTES, SECTOR};
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Repair, Report, Severity, Tally};
use crate::base::storage::{Put, Source, Storage, Window};

/// Mends an image: nothing here is lost room, so that there is something to do for all only.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let source: Arc<dyn Source> = storage.clone();
    let mut ignore = |_| {};
    let survey = examine(&source, limits, &mut ignore)?;
    let mut report = Report::new(&mut *found);
    if what == Repair::All {
        header(&storage, &survey, &mut report)?;
        footers(&storage, &survey, &mut report)?;
    }
    let fixed = report.tally;
    let mut tally = examine(&source, limits, found)?.report.tally;
    tally.corruptions_fixed = fixed.corruptions_fixed;
    tally.leaks_fixed = fixed.leaks_fixed;
    Ok(tally)
}

/// The checksum of the header, if all that it leads to is sound.
fn header(storage: &Arc<dyn Storage>, survey: &Survey, report: &mut Report) -> Result<()> {
    let Some(dynamic) = survey.head.dynamic.as_ref().filter(|dynamic| !dynamic.sound) else {
        return Ok(());
    };
    if survey.sound {
        storage.put(dynamic.at, &dynamic.header.to_bytes())?;
        storage.settle()?;
        let what = "the checksum of the header was wrong";
        report.fixed(Severity::Corruption, dynamic.at, what);
    }
    Ok(())
}

/// Both footers, from the one that is believed; the one that is believed is written last.
fn footers(storage: &Arc<dyn Storage>, survey: &Survey, report: &mut Report) -> Result<()> {
    let chosen = &survey.head.chosen;
    if chosen.wrong.is_empty() || (survey.unproven && !survey.sound) {
        return Ok(());
    }
    let bytes = chosen.footer.to_bytes();
    let back = survey.copies.back.as_ref();
    if back.is_none_or(|back| !back.sound) {
        let at = match back {
            Some(back) => Some(back.at),
            None => place(storage, survey)?,
        };
        let Some(at) = at else { return Ok(()) };
        storage.put(at, &bytes)?;
        storage.settle()?;
    }
    if chosen.footer.kind != FIXED {
        storage.put(0, &bytes)?;
        storage.settle()?;
    }
    for (at, what) in &chosen.wrong {
        report.fixed(Severity::Corruption, *at, what.clone());
    }
    Ok(())
}

/// Where a footer that is missing goes: behind the last block, over a sector of zeros if the file
/// ends with one, or else to its end. Nowhere if it is not known where the last block ends.
fn place(storage: &Arc<dyn Storage>, survey: &Survey) -> Result<Option<u64>> {
    let total = Source::len(&**storage);
    if let Some(last) = total.checked_sub(FOOTER).filter(|last| *last >= survey.end) {
        let mut bytes = [0; FOOTER_BYTES];
        Window::read(&**storage, last, &mut bytes)?;
        if bytes == [0; FOOTER_BYTES] && last.is_multiple_of(SECTOR) {
            return Ok(Some(last));
        }
    }
    let end = survey.end.max(total).checked_next_multiple_of(SECTOR);
    Ok(end.filter(|_| survey.sound))
}
