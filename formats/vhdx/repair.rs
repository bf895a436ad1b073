//! Mends what a check finds, in place, so that no crash in between makes it worse.
//!
//! Headers and tables of regions are written anew, each from the one that is in use; a log that is
//! pending is replayed into the file; room that a last block lacks is added; entries of the BAT
//! lose what readers ignore. Blocks that are not there, or overlap, are left as they are.

use std::collections::HashSet;
use std::sync::Arc;

use super::check::examine;
use super::headers::{self, next_guid};
use super::inspect::{self, Head};
use super::layout::{
    BAT_OFFSET, BAT_RESERVED, Payload, REGION_BAT, REGION_METADATA, REGION_TABLES, payload,
    region_table,
};
use super::log::Log;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Repair, Report, Tally};
use crate::base::storage::{Le64, Pages, Put, Source, Span, Storage};

/// Findings that are kept, to be compared with those that remain.
const MAX_FINDINGS: usize = 1 << 20;

/// Mends an image. Each finding says whether it was mended; the tally counts these, and what
/// stands afterwards. No room is lost in such an image, so that a repair of leaks has nothing to
/// do.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    mend(&storage, what, limits, found).map_err(|error| error.format("vhdx"))
}

fn mend(
    storage: &Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let (tally, before) = findings(storage, limits)?;
    if tally.is_clean() || what == Repair::Leaks {
        before.into_iter().for_each(found);
        return Ok(tally);
    }
    let head = inspect::head(&**storage, limits)?;
    let file_write = next_guid(head.header.file_write, "repair");
    headers::update(storage, |header| header.file_write = file_write)?;
    if let Some(log) = &head.log {
        replay(storage, log, limits)?;
        headers::update(storage, |header| header.log = [0; 16])?;
    }
    region_tables(storage, &head)?;
    entries(storage, &head)?;
    storage.settle()?;
    let (mut tally, after) = findings(storage, limits)?;
    let still: HashSet<_> = after.iter().map(|finding| (finding.at, &finding.what)).collect();
    let mut report = Report::new(found);
    for Finding { severity, what, at, .. } in &before {
        if !still.contains(&(*at, what)) {
            report.fixed(*severity, *at, what.clone());
        }
    }
    for Finding { severity, what, at, .. } in &after {
        report.add(*severity, *at, what.clone());
    }
    tally.corruptions_fixed = report.tally.corruptions_fixed;
    Ok(tally)
}

fn findings(storage: &Arc<dyn Storage>, limits: &Limits) -> Result<(Tally, Vec<Finding>)> {
    let mut list = Vec::new();
    let mut keep = |finding| {
        if list.len() < MAX_FINDINGS {
            list.push(finding);
        }
    };
    let tally = examine(storage.clone(), limits, &mut keep)?;
    if list.len() == MAX_FINDINGS {
        return Err(Error::limit(format!("{MAX_FINDINGS} findings or more are not mended")));
    }
    Ok((tally, list))
}

/// Makes the changes of the log. They are in storage before the log may be forgotten.
fn replay(storage: &Arc<dyn Storage>, log: &Log, limits: &Limits) -> Result<()> {
    let len = Source::len(&**storage);
    let after = log.len_after(len, limits)?;
    if after > len {
        set_len(storage, after)?;
    }
    for (span, bytes) in log.changes() {
        match bytes {
            Some(bytes) => storage.put(span.start(), bytes)?,
            None => zero(storage, span)?,
        }
    }
    storage.settle()
}

fn zero(storage: &Arc<dyn Storage>, span: Span) -> Result<()> {
    let fail = |error| Error::io("cannot write zeros", error).at(span.start());
    storage.zero(span).map_err(fail)
}

fn set_len(storage: &Arc<dyn Storage>, len: u64) -> Result<()> {
    storage.set_len(len).map_err(|error| Error::io("cannot set its length", error))
}

/// Writes both tables as they should be, first the one that is not in use.
fn region_tables(storage: &Arc<dyn Storage>, head: &Head) -> Result<()> {
    let mut rows = head.regions.rows.clone();
    for row in &mut rows {
        if [REGION_BAT, REGION_METADATA].contains(&row.guid) {
            row.required = 1;
        }
    }
    let right = [0, 1].map(|index| {
        let there = inspect::region_table(&**storage, REGION_TABLES[index]);
        there.is_ok_and(|there| there == rows)
    });
    let table = region_table(&rows);
    let in_use = usize::from(inspect::region_table(&**storage, REGION_TABLES[0]).is_err());
    for index in [1 - in_use, in_use] {
        if !right[index] {
            storage.put(REGION_TABLES[index], &table)?;
            storage.settle()?;
        }
    }
    Ok(())
}

/// Takes from entries what means nothing, and adds what the last block lacks of the file.
fn entries(storage: &Arc<dyn Storage>, head: &Head) -> Result<()> {
    let geometry = head.metadata.geometry;
    let len = Source::len(&**storage);
    let mut needed = len;
    let mut wrong = Vec::new();
    let source: Arc<dyn Source> = storage.clone();
    let pages = Pages::new(source);
    pages.words::<Le64>(head.regions.bat.start(), geometry.entries(), |number, at, entry| {
        let block = geometry.block_of(number).filter(|block| *block < geometry.blocks());
        let Some(block) = block else { return Ok(()) };
        let right = match payload(entry) {
            None => entry,
            Some(Payload::Missing | Payload::Zero) => entry & !(BAT_RESERVED | BAT_OFFSET),
            Some(Payload::Present { offset } | Payload::Partly { offset }) => {
                let used = geometry.block.min(geometry.size - block * geometry.block);
                if let Some(end) = offset.checked_add(geometry.block)
                    && offset + used <= len
                {
                    needed = needed.max(end);
                }
                entry & !BAT_RESERVED
            }
        };
        if right != entry && wrong.len() < MAX_FINDINGS {
            wrong.push((at, right));
        }
        Ok(())
    })?;
    if needed > len {
        set_len(storage, needed)?;
    }
    wrong.into_iter().try_for_each(|(at, right)| storage.put(at, &right.to_le_bytes()))
}
