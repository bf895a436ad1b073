//! Looks for damage: blocks used twice or not there, and counts that are wrong.
//!
//! qemu-img compares one count with another, and says "no errors" of a file that was cut off.

use std::sync::Arc;

use super::blocks::{Taken, entries};
use super::inspect;
use super::layout::{ENTRY, Entry, Header};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Pages, Source};

/// Blocks that a file may have beyond those of its disk.
const SPARE: u64 = 1 << 16;

/// Checks an image. Fails only if its header cannot be used, or past a limit.
#[expect(clippy::needless_pass_by_value, reason = "a CheckFn takes it by value")]
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    examine(&links.source, limits, found).map(|survey| survey.report.tally)
}

/// What there is to know of the blocks of an image.
pub(super) struct Survey<'a> {
    pub(super) header: Header,
    pub(super) report: Report<'a>,
    /// Blocks of the file in use.
    pub(super) used: u64,
    /// One more than the highest of them.
    pub(super) end: u64,
    /// The map can be read, and every block in it is there, and used once.
    pub(super) sound: bool,
}

/// Looks at everything.
pub(super) fn examine<'a>(
    source: &Arc<dyn Source>,
    limits: &Limits,
    found: &'a mut (dyn FnMut(Finding) + 'a),
) -> Result<Survey<'a>> {
    let header = inspect::head(&**source)?;
    if header.needed() * ENTRY > limits.max_table {
        let what = format!("a map of {} blocks is too large to be checked", header.needed());
        return Err(Error::limit(what));
    }
    let mut survey = Survey { header, report: Report::new(found), used: 0, end: 0, sound: true };
    survey.report.tally.total_clusters = survey.header.needed();
    for (at, what) in inspect::irregularities(&survey.header) {
        survey.report.corruption(at, what);
    }
    survey.map(&Pages::new(source.clone()))?;
    survey.counts();
    Ok(survey)
}

impl Survey<'_> {
    fn broken(&mut self, at: u64, what: String) {
        self.sound = false;
        self.report.corruption(at, what);
    }

    fn map(&mut self, pages: &Pages) -> Result<()> {
        let header = self.header.clone();
        let len = pages.source().len();
        // A file has no more blocks than its disk, but for some that are being moved.
        let most = header.needed() + SPARE;
        let mut taken = Taken::none_of(most)?;
        let mut before = None;
        let read = entries(pages, &header, |index, at, entry| {
            let Entry::Block(number) = entry else {
                before = None;
                return Ok(());
            };
            let number = u64::from(number);
            self.report.tally.allocated_clusters += 1;
            self.report.tally.fragmented_clusters +=
                u64::from(before.is_some_and(|n| n + 1 != number));
            before = Some(number);
            let needed = header.block.min(header.size - index * header.block);
            let end = header.end_of(number + 1).map(|end| end - header.block + needed);
            let what = || format!("block {index} of the disk is number {number} of the file");
            if end.is_none_or(|end| end > len) {
                self.broken(at, what() + &format!(", past its end at {len}"));
            } else if number >= most {
                self.broken(at, what() + ", more than the disk has");
            }
            if taken.take(number) {
                self.broken(at, what() + ", which another one is, too");
            } else {
                self.used += 1;
            }
            self.end = self.end.max(number + 1);
            Ok(())
        });
        match read {
            Err(error) if error.kind() == Kind::Truncated => {
                let at = error.offset().unwrap_or(header.map);
                self.broken(at, format!("the map is cut off by the file's end at {len}"));
            }
            read => read?,
        }
        self.report.tally.image_end_offset = header.end_of(self.end).unwrap_or(u64::MAX);
        Ok(())
    }

    fn counts(&mut self) {
        let Header { allocated, .. } = self.header;
        let (end, used, at) = (self.end, self.used, self.header.fields().allocated);
        if !self.sound {
            return;
        }
        if allocated < end {
            let what = format!("it counts {allocated} blocks with room, and uses {end}");
            self.report.corruption(at, what);
        }
        let lost = allocated.max(end) - used;
        if lost > 0 {
            let what = format!("{lost} blocks of the file belong to no block of the disk");
            self.report.add(Severity::Leak, at, what);
            self.report.tally.leaks += lost - 1;
        }
    }
}
