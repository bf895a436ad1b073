//! Another size for the disk, in place; a crash in between leaves the old size or the new one.

use std::sync::Arc;

use super::check::{Survey, examine};
use super::inspect::Dynamic;
use super::layout::{
    Blocks, DIFFERENCING, ENTRY, FOOTER, Footer, Geometry, MAX_DYNAMIC, NO_BLOCK, SECTOR, block_at,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Be32, Pages, Put, Source, Span, Storage, Word};

/// Bytes of entries that are written at once.
const CHUNK: u64 = 1 << 20;

/// `Malformed` for an image that is not sound, `Unsupported` for one with a parent, `Invalid` for a
/// size that is not of whole sectors or too large for a dynamic image.
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let source: Arc<dyn Source> = storage.clone();
    let mut ignore = |_| {};
    let survey = examine(&source, limits, &mut ignore)?;
    if survey.head.chosen.footer.kind == DIFFERENCING {
        let what = "the size of a vhd image with a parent cannot be changed";
        return Err(Error::unsupported(what));
    }
    if !survey.report.tally.is_clean() {
        return Err(Error::malformed(0, "it is not sound; only sound images are resized"));
    }
    if !size.is_multiple_of(SECTOR) {
        return Err(Error::invalid(format!("a disk of {size} bytes: sizes are multiples of 512")));
    }
    let mut footer = survey.head.chosen.footer.clone();
    footer.current_size = size;
    // Some readers (libvhdi) take the size at creation for the one that counts.
    footer.original_size = size;
    footer.geometry = Geometry::of(size);
    if footer.is_contradictory() {
        // Its maker's rule would make another size of it.
        footer.geometry = Geometry::LARGEST;
    }
    match &survey.head.dynamic {
        None => fixed(&storage, &survey, &footer),
        Some(dynamic) => {
            if size > MAX_DYNAMIC {
                let what = format!("{size} bytes are more than a dynamic image can hold");
                return Err(Error::invalid(what));
            }
            let (bat, was) = (dynamic.header.bat, survey.head.size);
            let source: Arc<dyn Source> = storage.clone();
            let pages = Pages::new(source);
            let job = Job { storage, dynamic, blocks: dynamic.blocks, bat, was, pages };
            if size < was { job.shrink(&survey, &footer) } else { job.grow(&survey, &footer) }
        }
    }
}

fn set_len(storage: &Arc<dyn Storage>, len: u64) -> Result<()> {
    storage.set_len(len).map_err(|error| Error::io("cannot set its length", error))
}

fn zero(storage: &Arc<dyn Storage>, start: u64, end: u64) -> Result<()> {
    let fail = |error| Error::io("cannot write zeros", error).at(start);
    storage.zero(Span::new(start, end.saturating_sub(start))?).map_err(fail)
}

/// The new footer first: whatever happens then, there is one at an end of the file.
fn fixed(storage: &Arc<dyn Storage>, survey: &Survey, footer: &Footer) -> Result<()> {
    let (size, was, end) = (footer.current_size, survey.head.size, survey.head.chosen.end);
    let total = Source::len(&**storage);
    if size > was {
        // Nothing that lies behind the disk may show up in it.
        zero(storage, was, end)?;
        set_len(storage, (size + FOOTER).max(total))?;
    }
    storage.put(size, &footer.to_bytes())?;
    storage.settle()?;
    zero(storage, end.max(was), total.min(size))?;
    set_len(storage, size + FOOTER)?;
    storage.settle()
}

struct Job<'a> {
    storage: Arc<dyn Storage>,
    dynamic: &'a Dynamic,
    blocks: Blocks,
    bat: u64,
    was: u64,
    pages: Pages,
}

impl Job<'_> {
    /// Room in the BAT first, then the header, then the footers.
    fn grow(&self, survey: &Survey, footer: &Footer) -> Result<()> {
        let (old, new) = (self.blocks.on(self.was), self.blocks.on(footer.current_size));
        let mut end = self.footer_place(survey)?;
        self.clear_behind(self.was)?;
        let mut header = self.dynamic.header.clone();
        // What the header says of its room counts for nothing: other things may lie there.
        let room = self.first_block()?.unwrap_or(u64::MAX).min(end).min(self.behind_bat());
        let len = (new * ENTRY).next_multiple_of(SECTOR);
        if self.bat.checked_add(len).is_some_and(|bat_end| bat_end <= room) {
            self.fill(self.bat, old, len / ENTRY)?;
        } else if new > old {
            header.bat = (end + FOOTER).next_multiple_of(SECTOR);
            self.move_bat(header.bat, old, len / ENTRY)?;
            end = header.bat + len;
            self.storage.put(end, &survey.head.chosen.footer.to_bytes())?;
        }
        header.entries = u32::try_from(new).map_err(|_| Error::limit("too large a BAT"))?;
        self.storage.settle()?;
        if header != self.dynamic.header {
            self.storage.put(self.dynamic.at, &header.to_bytes())?;
            self.storage.settle()?;
        }
        self.footers(end, footer)
    }

    /// The footers first, then the blocks: what lies behind the new size is given up.
    fn shrink(&self, survey: &Survey, footer: &Footer) -> Result<()> {
        let (old, new) = (self.blocks.on(self.was), self.blocks.on(footer.current_size));
        let before = self.footer_place(survey)?;
        self.footers(before, footer)?;
        self.fill(self.bat, new, old)?;
        let mut header = self.dynamic.header.clone();
        header.entries = u32::try_from(new).map_err(|_| Error::limit("too large a BAT"))?;
        self.storage.put(self.dynamic.at, &header.to_bytes())?;
        self.storage.settle()?;
        self.clear_behind(footer.current_size)?;
        let source: Arc<dyn Source> = self.storage.clone();
        let mut ignore = |_| {};
        let end = examine(&source, &Limits::default(), &mut ignore)?.end;
        let end = end.next_multiple_of(SECTOR);
        if end < before && self.storage.fixed_len().is_none() {
            self.storage.put(end, &footer.to_bytes())?;
            self.storage.settle()?;
            set_len(&self.storage, end + FOOTER)?;
            self.storage.settle()?;
        }
        Ok(())
    }

    /// Where the footer stands: behind the whole of the last block, of which a file may lack what
    /// the disk does not reach.
    fn footer_place(&self, survey: &Survey) -> Result<u64> {
        let (now, behind) = (survey.head.chosen.end, survey.end.next_multiple_of(SECTOR));
        if now >= behind {
            return Ok(now);
        }
        self.storage.put(behind, &survey.head.chosen.footer.to_bytes())?;
        self.storage.settle()?;
        Ok(behind)
    }

    /// The footer at the end, then its copy.
    fn footers(&self, end: u64, footer: &Footer) -> Result<()> {
        let bytes = footer.to_bytes();
        self.storage.put(end, &bytes)?;
        self.storage.settle()?;
        self.storage.put(0, &bytes)?;
        self.storage.settle()
    }

    /// Where the first block lies.
    fn first_block(&self) -> Result<Option<u64>> {
        let mut first: Option<u64> = None;
        self.pages.words::<Be32>(self.bat, self.blocks.on(self.was), |_, _, word| {
            if let Some(block) = block_at(word) {
                first = Some(first.map_or(block, |other| other.min(block)));
            }
            Ok(())
        })?;
        Ok(first)
    }

    /// Where a structure begins that lies behind the BAT and is no block.
    fn behind_bat(&self) -> u64 {
        let locators = self.dynamic.header.locators.iter();
        let used = locators.filter(|locator| locator.code != [0; 4]).map(|locator| locator.offset);
        let others = used.chain([self.dynamic.at]).filter(|at| *at > self.bat);
        others.min().unwrap_or(u64::MAX)
    }

    /// Entries without a block, from one number to another.
    fn fill(&self, bat: u64, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            let count = (to - at).min(CHUNK / ENTRY);
            let bytes = vec![0xff; usize::try_from(count * ENTRY).expect("a MiB at most")];
            self.storage.put(bat + at * ENTRY, &bytes)?;
            at += count;
        }
        Ok(())
    }

    fn move_bat(&self, to: u64, entries: u64, room: u64) -> Result<()> {
        self.pages
            .pieces(self.bat, entries * ENTRY, |done, bytes| self.storage.put(to + done, bytes))?;
        self.fill(to, entries, room)
    }

    /// What lies behind the end of the disk in its last block must not show when it grows.
    fn clear_behind(&self, size: u64) -> Result<()> {
        let (last, rest) = (size / self.blocks.size, size % self.blocks.size);
        if rest == 0 {
            return Ok(());
        }
        let at = self.bat + last * ENTRY;
        let source: Arc<dyn Source> = self.storage.clone();
        let word = Pages::new(source).look(at, ENTRY, Be32::get)?;
        let Some(block) = block_at(word).filter(|_| word != u64::from(NO_BLOCK)) else {
            return Ok(());
        };
        let data = block + self.blocks.bitmap;
        zero(&self.storage, data + rest, data + self.blocks.size)?;
        self.storage.settle()
    }
}
