//! Mends what a check finds, in place: of two sets of tables the one that is damaged, from the
//! other, the size that the descriptor says, and the mark of an image that was not closed.
//!
//! Nothing readable is given up: grains that are not there, or overlap, stay as they are, and are
//! reported as not fixed.

use std::sync::Arc;

use super::check::{UNCLEAN, check};
use super::descriptor::Descriptor;
use super::inspect::{self, Form};
use super::layout::{SECTOR, Shape, UNCLEAN_AT, Words};
use super::resize::resized;
use super::sparse::Head;
use super::survey::{Set, Survey, room_for, survey, table};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Repair, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Le32, Pages, Put, Source, Storage};

/// Mends an image: nothing here is lost room, so that there is something to do for all only.
/// `Unsupported` if the disk lies in other files.
#[expect(clippy::needless_pass_by_value, reason = "a RepairFn takes it by value")]
pub(super) fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let source: Arc<dyn Source> = storage.clone();
    let Form::Sparse(head, text) = inspect::form(&*source, limits)? else {
        let what = "its disk lies in other files, each of which is repaired by itself";
        return Err(Error::unsupported(what));
    };
    let mut report = Report::new(&mut *found);
    if what == Repair::All {
        let job = Job { storage: &storage, source: &source, head: &head, limits };
        job.tables(&mut report)?;
        if let Some(text) = &text {
            job.size(text, &mut report)?;
        }
        job.close(&mut report)?;
    }
    let fixed = report.tally;
    let mut tally = check(Links::alone(source), limits, found)?;
    tally.corruptions_fixed = fixed.corruptions_fixed;
    Ok(tally)
}

struct Job<'a> {
    storage: &'a Arc<dyn Storage>,
    source: &'a Arc<dyn Source>,
    head: &'a Head,
    limits: &'a Limits,
}

impl Job<'_> {
    fn survey(&self) -> Result<Survey> {
        let mut ignore = |_| {};
        survey(self.source, self.head, "", self.limits, &mut Report::new(&mut ignore))
    }

    /// The set of tables that is damaged, from the one that is not; if neither is, the second one
    /// from the first, which readers believe.
    fn tables(&self, report: &mut Report) -> Result<()> {
        let survey = self.survey()?;
        let Some(spare) = survey.spare.filter(|_| !survey.alike || !survey.first.sound) else {
            return Ok(());
        };
        let (sound, other, what) = match (survey.first.sound, spare.sound) {
            (true, _) => (survey.first, spare, "the second set of tables was damaged"),
            (false, true) => (spare, survey.first, "the first set of tables was damaged"),
            (false, false) => return Ok(()),
        };
        let room = room_for(self.source, self.head, &survey, (sound, other), self.limits)?;
        if let Some(places) = room {
            self.copy(survey.shape, sound, other, &places)?;
            report.fixed(Severity::Corruption, other.directory, what);
        }
        Ok(())
    }

    /// Writes tables, then the directory that leads to them.
    fn copy(&self, shape: Shape, sound: Set, other: Set, places: &[u64]) -> Result<()> {
        debug_assert!(matches!(shape.words, Words::Sectors { .. }), "others have one set only");
        let pages = Pages::new(self.source.clone());
        let len = shape.entries * shape.word();
        let mut directory = Vec::new();
        pages.words::<Le32>(sound.directory, shape.tables, |index, _, word| {
            let index = usize::try_from(index).expect("there is a place for it");
            let place = places[index];
            if let Some(from) = table(shape, word) {
                pages.pieces(from, len, |done, bytes| self.storage.put(place + done, bytes))?;
            } else {
                let none = vec![0; usize::try_from(len).expect("a short table")];
                self.storage.put(place, &none)?;
            }
            let sector = u32::try_from(place / SECTOR)
                .map_err(|_| Error::malformed(place, "a table lies out of reach"))?;
            directory.extend_from_slice(&sector.to_le_bytes());
            Ok(())
        })?;
        self.storage.settle()?;
        self.storage.put(other.directory, &directory)?;
        self.storage.settle()
    }

    /// Makes the descriptor say what the header says, which readers believe: it is written last
    /// when a disk becomes larger.
    fn size(&self, text: &Descriptor, report: &mut Report) -> Result<()> {
        let (said, is) = (text.size()?, self.head.shape.size);
        let Some(span) = self.head.descriptor.filter(|_| said != is && text.extents.len() == 1)
        else {
            return Ok(());
        };
        let bytes = resized(self.source, span, said, is, self.limits)?;
        self.storage.put(span.start(), &bytes)?;
        self.storage.settle()?;
        let what = format!("the descriptor said {said} bytes, and the header {is}");
        report.fixed(Severity::Corruption, span.start(), what);
        Ok(())
    }

    /// Takes the mark away, if everything is sound.
    fn close(&self, report: &mut Report) -> Result<()> {
        let survey = self.survey()?;
        if self.head.unclean && survey.first.sound && survey.alike {
            self.storage.put(UNCLEAN_AT, &[0])?;
            self.storage.settle()?;
            report.fixed(Severity::Corruption, UNCLEAN_AT, UNCLEAN);
        }
        Ok(())
    }
}
