//! Mends what a check finds, in place, so that no crash in between makes it worse.
//!
//! Nothing readable is given up: clusters that are not there stay so, and are reported as not
//! fixed. qemu-img makes zeros of them.

use std::sync::Arc;

use super::check::{NOT_CLOSED, Survey, examine, shared, wrong_data};
use super::clusters::{buffer, copy, cut, enter};
use super::ext::Extension;
use super::inspect;
use super::layout::{CLOSED, DATA_AT, IN_USE_AT, SECTOR};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Repair, Report, Severity, Tally};
use crate::base::storage::{Put, Source, Storage};

/// Mends an image: lost room only, or all that can be mended. `Unsupported` for a bundle, whose
/// images are mended one by one, and for an image that nobody may change who does not know all of
/// its features.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let source: Arc<dyn Source> = storage.clone();
    if !inspect::is_image(&*source)? {
        return Err(Error::unsupported("a bundle is mended image by image"));
    }
    let mut ignore = |_| {};
    let before = examine(&source, limits, &mut ignore)?;
    changeable(&before)?;
    let mut report = Report::new(&mut *found);
    let mut end = before.end;
    if what == Repair::All && before.is_mendable() {
        end = apart(&storage, &before, limits, &mut report)?;
        if before.head.geometry.wrong {
            let sector = u32::try_from(before.head.geometry.data / SECTOR);
            let sector = sector.map_err(|_| Error::limit("clusters begin too far behind"))?;
            storage.put(DATA_AT, &sector.to_le_bytes())?;
            report.fixed(Severity::Corruption, DATA_AT, wrong_data(&before.head));
        }
        if before.head.is_dirty() {
            storage.put(IN_USE_AT, &CLOSED.to_le_bytes())?;
            report.fixed(Severity::Corruption, IN_USE_AT, NOT_CLOSED);
        }
    }
    storage.settle()?;
    let sound = before.is_mendable() && (what == Repair::All || before.double.is_empty());
    if before.lost > 0 && sound {
        cut(&storage, end)?;
        let what = format!("{} clusters behind the last one in use", before.lost);
        report.fixed(Severity::Leak, before.end, what);
        report.tally.leaks_fixed += before.lost - 1;
    }
    let fixed = report.tally;
    let mut tally = examine(&source, limits, found)?.report.tally;
    tally.corruptions_fixed = fixed.corruptions_fixed;
    tally.leaks_fixed = fixed.leaks_fixed;
    Ok(tally)
}

/// `Unsupported` where a feature says so that is not known here.
pub(super) fn changeable(survey: &Survey) -> Result<()> {
    let unreadable = survey.head.header.ext != 0 && survey.extension.is_none();
    let forbidden = survey.extension.as_ref().is_some_and(Extension::forbids_changes);
    if unreadable || forbidden {
        let what = "it has features that are not known here, and says not to change it";
        return Err(Error::unsupported(what));
    }
    Ok(())
}

/// Gives every cluster but the first of those that lie at one place a place of its own. Returns
/// where the last cluster in use ends then.
fn apart(
    storage: &Arc<dyn Storage>,
    survey: &Survey,
    limits: &Limits,
    report: &mut Report,
) -> Result<u64> {
    let geometry = survey.head.geometry;
    let more = (survey.double.len() as u64).saturating_mul(geometry.cluster);
    if more > limits.ratio_floor.max(Source::len(&**storage)) {
        let what = format!("clusters used twice would take {more} bytes more");
        return Err(Error::limit(what));
    }
    let mut end = survey.end;
    let mut buffer = buffer();
    for (_, offset) in &survey.double {
        copy(storage, geometry, *offset, end, &mut buffer)?;
        end += geometry.cluster;
    }
    storage.settle()?;
    for ((index, offset), step) in survey.double.iter().zip(0..) {
        enter(storage, geometry, *index, survey.end + step * geometry.cluster)?;
        let (at, what) = shared(*index, *offset);
        report.fixed(Severity::Corruption, at, what);
    }
    storage.settle()?;
    Ok(end)
}
