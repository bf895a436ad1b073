//! Looks for damage: headers and tables that disagree, blocks that are not there or overlap.
//!
//! What is found is true of the file as it is after a replay of its log. Room that nothing uses is
//! no finding: Hyper-V leaves such room behind.

use std::sync::Arc;

use super::inspect::{self, Head};
use super::layout::{
    BAT_OFFSET, BAT_RESERVED, Geometry, HEADERS, MIB, PARTLY_PRESENT, PRESENT, Payload, REGION_BAT,
    REGION_METADATA, REGION_TABLES, STATE, payload,
};
use super::log::{self, Overlay};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Report, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Le64, Pages, Source, Span, Spool};

/// Bytes of a file at most that can be checked.
const MAX_FILE: u64 = 1 << 48;

/// Checks an image. Fails only if nothing leads to its disk, or past a limit.
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    examine(links.source, limits, found)
}

/// Looks at everything.
pub(super) fn examine(
    source: Arc<dyn Source>,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let mut head = inspect::head(&*source, limits)?;
    let mut report = Report::new(found);
    headers(&*source, &head, &mut report)?;
    let view: Arc<dyn Source> = match head.log.take() {
        None => source,
        Some(log) => {
            let at = head.header.log_offset;
            report.corruption(at, "changes wait in the log, which other readers may overlook");
            Arc::new(Overlay::new(source, log, limits)?)
        }
    };
    region_tables(&*view, &head, &mut report);
    let mut survey = Survey::new(&head, Pages::new(view), report)?;
    survey.structures()?;
    survey.bat()?;
    Ok(survey.report.tally)
}

/// Both headers are sound, and of one write.
fn headers(source: &dyn Source, head: &Head, report: &mut Report) -> Result<()> {
    for (index, at) in HEADERS.into_iter().enumerate() {
        match inspect::one_header(source, at)? {
            None => report.corruption(at, format!("header {} is not sound", index + 1)),
            Some(other) if other.data_write != head.header.data_write => {
                report.corruption(at, "the headers do not agree on what the disk holds");
            }
            Some(_) => {}
        }
    }
    if head.header.log == [0; 16]
        && let Err(error) = log::place(&head.header)
    {
        report.corruption(error.offset().unwrap_or(0), error.to_string());
    }
    Ok(())
}

/// Both tables of regions are sound and the same, and what must be known is marked so.
fn region_tables(view: &dyn Source, head: &Head, report: &mut Report) {
    for (index, at) in REGION_TABLES.into_iter().enumerate() {
        match inspect::region_table(view, at) {
            Err(_) => report.corruption(at, format!("region table {} is not sound", index + 1)),
            Ok(rows) if rows != head.regions.rows => {
                report.corruption(at, "the tables of regions differ");
            }
            Ok(rows) => {
                for row in rows {
                    let known = [REGION_BAT, REGION_METADATA].contains(&row.guid);
                    if known && row.required != 1 {
                        let what = "a region is not marked as required, so that strict readers \
                                    refuse the file";
                        report.corruption(at, what);
                    }
                }
            }
        }
    }
}

/// A walk over the BAT, with what it finds used of the file.
struct Survey<'a> {
    head: &'a Head,
    pages: Pages,
    report: Report<'a>,
    /// A bit for every MiB of the file.
    used: Spool,
    len: u64,
    /// Where the block would lie that follows the one before.
    next: Option<u64>,
}

impl<'a> Survey<'a> {
    fn new(head: &'a Head, pages: Pages, report: Report<'a>) -> Result<Survey<'a>> {
        let len = pages.source().len();
        if len > MAX_FILE {
            let what = format!("a file of {len} bytes, {MAX_FILE} can be checked");
            return Err(Error::limit(what));
        }
        let bytes = usize::try_from(len.div_ceil(MIB).div_ceil(8)).expect("32 MiB at most");
        let used = Spool::new(bytes)?;
        Ok(Survey { head, pages, report, used, len, next: None })
    }

    /// Takes the MiB of a stretch, as far as the file has them; says whether all were free.
    fn take(&mut self, start: u64, len: u64) -> bool {
        let end = start.saturating_add(len).min(self.len);
        let mut free = true;
        for number in start / MIB..end.div_ceil(MIB) {
            let byte = &mut self.used[usize::try_from(number / 8).expect("inside the map")];
            let bit = 1 << (number % 8);
            free &= *byte & bit == 0;
            *byte |= bit;
        }
        free
    }

    /// Headers, log and regions have places of their own.
    fn structures(&mut self) -> Result<()> {
        let head = self.head;
        self.take(0, MIB);
        let mut spans =
            vec![("the metadata", head.regions.metadata), ("the BAT", head.regions.bat)];
        if let Ok(log) = log::place(&head.header) {
            spans.push(("the log", log));
        }
        for row in &head.regions.rows {
            if ![REGION_BAT, REGION_METADATA].contains(&row.guid) {
                spans.push(("an unknown region", Span::new(row.offset, row.length.into())?));
            }
        }
        for (what, span) in spans {
            let start = span.start();
            if !self.take(start, span.len()) {
                self.report.corruption(start, format!("{what} lies over another structure"));
            }
            if span.end() > self.len {
                let (end, len) = (span.end(), self.len);
                let what = format!("{what} ends at {end:#x}, and the file at {len:#x}");
                self.report.corruption(start, what);
            }
            let end = &mut self.report.tally.image_end_offset;
            *end = span.end().max(*end);
        }
        Ok(())
    }

    fn bat(&mut self) -> Result<()> {
        let geometry = self.head.metadata.geometry;
        let (bat, count) = (self.head.regions.bat.start(), geometry.entries());
        self.report.tally.total_clusters = geometry.blocks();
        // The pages are asked again meanwhile, for bitmaps.
        let pages = Pages::new(self.pages.source().clone());
        let mut seen = 0;
        pages.words::<Le64>(bat, count, |number, at, entry| {
            seen = number + 1;
            match geometry.block_of(number) {
                None => self.bitmap(at, entry),
                // Differencing images have entries for whole chunks.
                Some(block) if block >= geometry.blocks() => {}
                Some(block) => self.block(at, entry, block)?,
            }
            Ok(())
        })?;
        if seen < count {
            let what = format!("the BAT is cut off behind entry {seen} of {count}");
            self.report.corruption(bat, what);
        }
        Ok(())
    }

    fn bitmap(&mut self, at: u64, entry: u64) {
        if entry & BAT_RESERVED != 0 {
            self.report.corruption(at, format!("BAT entry {entry:#x} has reserved bits set"));
        }
        let parent = self.head.metadata.geometry.parent;
        match entry & STATE {
            0 if entry & BAT_OFFSET == 0 => {}
            PRESENT if parent => self.place(at, entry & BAT_OFFSET, MIB, MIB, "a bitmap"),
            _ => self.report.corruption(at, format!("BAT entry {entry:#x} is none of a bitmap")),
        }
    }

    fn block(&mut self, at: u64, entry: u64, block: u64) -> Result<()> {
        let Geometry { size, block: len, parent, .. } = self.head.metadata.geometry;
        if entry & BAT_RESERVED != 0 {
            self.report.corruption(at, format!("BAT entry {entry:#x} has reserved bits set"));
        }
        match payload(entry) {
            None => {
                let what = format!("BAT entry {entry:#x} has the state {}", entry & STATE);
                self.report.corruption(at, what);
            }
            Some(Payload::Missing | Payload::Zero) => {
                if entry & BAT_OFFSET != 0 {
                    let what = format!("BAT entry {entry:#x} has an offset and no block");
                    self.report.corruption(at, what);
                }
            }
            Some(Payload::Present { offset } | Payload::Partly { offset }) => {
                let tally = &mut self.report.tally;
                tally.allocated_clusters += 1;
                tally.fragmented_clusters += u64::from(self.next.is_some_and(|n| n != offset));
                self.next = offset.checked_add(len);
                let needed = len.min(size - block * len);
                self.place(at, offset, len, needed, "a block");
                if entry & STATE == PARTLY_PRESENT {
                    self.has_bitmap(at, block, parent)?;
                }
            }
        }
        Ok(())
    }

    /// Whether something that an entry points to has a place of its own inside the file.
    fn place(&mut self, at: u64, offset: u64, len: u64, needed: u64, what: &str) {
        let Some(end) = offset.checked_add(len).filter(|_| offset >= MIB) else {
            let what = format!("{what} lies at {offset:#x}, where none can be");
            return self.report.corruption(at, what);
        };
        if offset + needed > self.len {
            let file = self.len;
            let what = format!("{what} lies at {offset:#x}, and the file ends at {file:#x}");
            return self.report.corruption(at, what);
        }
        if end > self.len {
            let what = format!("the file ends inside {what}, behind the end of the disk");
            self.report.corruption(at, what);
        }
        if !self.take(offset, len) {
            let what = format!("{what} lies at {offset:#x}, over something else");
            self.report.corruption(at, what);
        }
        let last = &mut self.report.tally.image_end_offset;
        *last = end.max(*last);
    }

    /// A block that is here in part wants a bitmap, and something underneath.
    fn has_bitmap(&mut self, at: u64, block: u64, parent: bool) -> Result<()> {
        if !parent {
            self.report.corruption(at, "a block is here in part, and there is no parent");
            return Ok(());
        }
        let geometry = self.head.metadata.geometry;
        let entry = self.head.regions.bat.start() + geometry.bitmap_of(block) * 8;
        let mut found = 0;
        self.pages.words::<Le64>(entry, 1, |_, _, entry| {
            found = entry;
            Ok(())
        })?;
        if found & STATE != PRESENT {
            self.report.corruption(at, "a block is here in part, and there is no bitmap for it");
        }
        Ok(())
    }
}
