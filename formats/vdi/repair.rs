//! Mends what a check finds, in place, so that no crash in between makes it worse.
//!
//! Nothing readable is given up: blocks that are not there, or are used twice, stay as they are,
//! and are reported as not fixed.

use std::sync::Arc;

use super::blocks::compact;
use super::check::{Survey, examine};
use super::inspect::irregularities;
use super::layout::SECTOR;
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::create::Create;
use crate::base::model::finding::{Finding, Repair, Report, Severity, Tally};
use crate::base::model::identity::{Identity, swap_uuid};
use crate::base::storage::{Put, Source, Storage};

/// Mends an image: lost room only, or all that can be mended.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let source: Arc<dyn Source> = storage.clone();
    let mut ignore = |_| {};
    let before = examine(&source, limits, &mut ignore)?;
    let mut report = Report::new(&mut *found);
    if what == Repair::All {
        header(&storage, &before, &mut report)?;
    }
    let lost = before.header.allocated.max(before.end) - before.used;
    if before.sound && (lost > 0 || what == Repair::All) {
        blocks(&storage, &before, lost, &mut report)?;
    }
    let fixed = report.tally;
    let mut tally = examine(&source, limits, found)?.report.tally;
    tally.corruptions_fixed = fixed.corruptions_fixed;
    tally.leaks_fixed = fixed.leaks_fixed;
    Ok(tally)
}

/// UUIDs that are null, and sectors that have no size.
fn header(storage: &Arc<dyn Storage>, survey: &Survey, report: &mut Report) -> Result<()> {
    let header = &survey.header;
    let fields = header.fields();
    let create = Create { size: header.size, ..Create::default() };
    let mut identity = Identity::of("vdi", &create);
    identity.add(header.allocated, crc32fast::hash(&[header.create, header.modify].concat()));
    for (at, what) in irregularities(header) {
        if at == fields.create || at == fields.modify {
            let purpose = if at == fields.create { "create" } else { "modify" };
            storage.put(at, &swap_uuid(identity.uuid(purpose)))?;
        } else if at == fields.sector {
            storage.put(at, &SECTOR.to_le_bytes())?;
        } else {
            continue;
        }
        report.fixed(Severity::Corruption, at, what);
    }
    storage.settle()
}

/// The count of blocks, and blocks that nobody uses.
fn blocks(
    storage: &Arc<dyn Storage>,
    survey: &Survey,
    lost: u64,
    report: &mut Report,
) -> Result<()> {
    let (allocated, end) = (survey.header.allocated, survey.end);
    let at = survey.header.fields().allocated;
    if allocated < end {
        let what = format!("it counted {allocated} blocks with room, and used {end}");
        report.fixed(Severity::Corruption, at, what);
    }
    if allocated > survey.header.blocks {
        let what = format!("it counted {allocated} blocks with room, more than it had");
        report.fixed(Severity::Corruption, at, what);
    }
    if lost > 0 {
        let what = format!("{lost} blocks of the file belonged to no block of the disk");
        report.fixed(Severity::Leak, at, what);
        report.tally.leaks_fixed += lost - 1;
    }
    if allocated != survey.used {
        compact(storage, &survey.header, survey.used)?;
    }
    Ok(())
}
