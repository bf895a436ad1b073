//! Looks for damage: footers that differ or are damaged, blocks that are not there or that overlap.

use std::sync::Arc;

use super::footers::{Chosen, Copies, check_footer, copies};
use super::inspect::{Dynamic, Head, understood};
use super::layout::{ENTRY, FIXED, FOOTER, HEADER, block_at};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Report, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Be32, Pages, Source, Span};

/// Checks an image. Fails only if footer or header cannot be used, or past a limit.
#[expect(clippy::needless_pass_by_value, reason = "a CheckFn takes it by value")]
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    examine(&links.source, limits, found).map(|survey| survey.report.tally)
}

/// What there is to know of an image.
pub(super) struct Survey<'a> {
    pub(super) head: Head,
    pub(super) copies: Copies,
    pub(super) report: Report<'a>,
    /// Both footers are damaged, in the same way: only their checksum may be.
    pub(super) unproven: bool,
    /// Where the last block ends, and every other structure but the footer.
    pub(super) end: u64,
    /// The BAT can be read, and every block in it is there and has its own place.
    pub(super) sound: bool,
}

/// Looks at everything.
pub(super) fn examine<'a>(
    source: &Arc<dyn Source>,
    limits: &Limits,
    found: &'a mut (dyn FnMut(Finding) + 'a),
) -> Result<Survey<'a>> {
    let copies = copies(&**source)?;
    let mut report = Report::new(found);
    let (chosen, unproven) = believe(&copies)?;
    for (at, what) in &chosen.wrong {
        report.corruption(*at, what.clone());
    }
    let head = understood(&**source, chosen)?;
    if head.chosen.ambiguous {
        report.corruption(0, "it has footers of two disks, one at each end");
    }
    let end = if head.dynamic.is_some() { 0 } else { head.size };
    let mut survey = Survey { head, copies, report, unproven, end, sound: true };
    match survey.head.dynamic.clone() {
        None => survey.fixed(),
        Some(dynamic) => survey.dynamic(&Pages::new(source.clone()), &dynamic, limits)?,
    }
    Ok(survey)
}

/// The footer that is right, or else the one whose checksum only is wrong, for all that is known:
/// both are the same, or there is no other.
fn believe(copies: &Copies) -> Result<(Chosen, bool)> {
    let error = match copies.choose() {
        Ok(chosen) => return Ok((chosen, false)),
        Err(error) => error,
    };
    let found = match (&copies.front, &copies.back) {
        (Some(front), Some(back)) if front.bytes == back.bytes => back,
        (None, Some(back)) if back.footer.kind == FIXED => back,
        _ => return Err(error),
    };
    if found.sound {
        return Err(error);
    }
    check_footer(&found.footer, found.at)?;
    let footer = found.footer.clone();
    let (wrong, end) = (copies.wrong(&footer), found.at);
    Ok((Chosen { footer, end, wrong, ambiguous: false }, true))
}

impl Survey<'_> {
    fn broken(&mut self, at: u64, what: String) {
        self.sound = false;
        self.report.corruption(at, what);
    }

    fn fixed(&mut self) {
        let (size, end) = (self.head.size, self.head.chosen.end);
        self.report.tally.image_end_offset = end;
        if size > end {
            self.broken(end, format!("the disk has {size} bytes, and the file {end}"));
        }
    }

    fn dynamic(&mut self, pages: &Pages, dynamic: &Dynamic, limits: &Limits) -> Result<()> {
        if !dynamic.sound {
            self.report.corruption(dynamic.at, "the checksum of the header is wrong");
        }
        let count = dynamic.blocks.on(self.head.size);
        if count * ENTRY > limits.max_table {
            let what = format!("a BAT of {count} entries is too large to be checked");
            return Err(Error::limit(what));
        }
        self.report.tally.total_clusters = count;
        let bat = Span::new(dynamic.header.bat, count * ENTRY)?;
        let header = Span::new(dynamic.at, HEADER)?;
        self.end = if count > 0 { bat.end().max(header.end()) } else { header.end() };
        for locator in dynamic.header.locators.iter().filter(|locator| locator.code != [0; 4]) {
            let end = locator.offset.saturating_add(locator.len.into());
            // One that leads nowhere takes no room.
            self.end = if end > self.copies.total { self.end } else { self.end.max(end) };
        }
        let (leads, bitmap) = (|word| block_at(word).is_some(), dynamic.blocks.bitmap);
        pages.room_for_tables::<Be32>((bat.start(), count), bitmap, limits, leads)?;
        let mut places: Vec<u64> = Vec::new();
        let mut seen = 0;
        let structures = [Span::new(0, FOOTER)?, header, bat];
        pages.words::<Be32>(bat.start(), count, |index, at, word| {
            seen = index + 1;
            let Some(block) = block_at(word) else { return Ok(()) };
            let follows = places.last().is_some_and(|last| {
                (0..8 * FOOTER).contains(&block.wrapping_sub(last + dynamic.blocks.whole()))
            });
            let first = places.is_empty();
            self.report.tally.fragmented_clusters += u64::from(!first && !follows);
            places.push(block);
            self.place(dynamic, &structures, (index, at, block))
        })?;
        if seen < count {
            self.broken(bat.start(), format!("the BAT is cut off behind entry {seen} of {count}"));
        }
        self.report.tally.allocated_clusters = places.len() as u64;
        self.overlaps(places, dynamic.blocks.whole());
        self.report.tally.image_end_offset = self.end;
        Ok(())
    }

    /// Whether the block at `block` has a place of its own inside the file.
    fn place(
        &mut self,
        dynamic: &Dynamic,
        structures: &[Span],
        (index, at, block): (u64, u64, u64),
    ) -> Result<()> {
        let span = Span::new(block, dynamic.blocks.whole())?;
        let needed = dynamic.blocks.size.min(self.head.size - index * dynamic.blocks.size);
        let end = block + dynamic.blocks.bitmap + needed;
        self.end = self.end.max(span.end());
        let what = || format!("block {index} of the disk lies at {block:#x}");
        if structures.iter().any(|other| span.overlaps(*other)) {
            self.broken(at, what() + ", over other structures");
        } else if end > self.head.chosen.end {
            let file = self.head.chosen.end;
            let behind = format!(", and ends at {end}, behind the file's end at {file}");
            self.broken(at, what() + &behind);
        }
        Ok(())
    }

    fn overlaps(&mut self, mut places: Vec<u64>, whole: u64) {
        places.sort_unstable();
        for pair in places.windows(2) {
            if pair[1] - pair[0] < whole {
                let (one, two) = (pair[0], pair[1]);
                let what = format!("the blocks at {one:#x} and at {two:#x} overlap");
                self.broken(two, what);
            }
        }
    }
}
