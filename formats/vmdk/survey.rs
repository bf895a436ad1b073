//! Goes over the tables of a sparse extent: where they and its grains lie, and what is wrong there.

use std::sync::Arc;

use super::layout::{Entry, Grains, HEADER, Header, REDUNDANT, SECTOR, Shape, Words};
use super::sparse::{self, Head};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::claims::{Claim, Claims};
use crate::base::model::finding::Report;
use crate::base::storage::{Le32, Le64, Pages, Source};

/// One of the two sets of tables that an extent may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    /// Where its directory lies.
    pub(super) directory: u64,
    /// Every table of it is there, and has a place of its own.
    pub(super) placed: bool,
    /// And so has every grain.
    pub(super) sound: bool,
}

/// What there is to know of the tables of an extent.
pub(super) struct Survey {
    pub(super) shape: Shape,
    pub(super) first: Set,
    /// The second set, where there is one.
    pub(super) spare: Option<Set>,
    /// Whether both say the same.
    pub(super) alike: bool,
}

/// Goes over one extent, and reports what is wrong, with `named` in front. Fails only past a limit,
/// or where the file cannot be read.
pub(super) fn survey(
    source: &Arc<dyn Source>,
    head: &Head,
    named: &str,
    limits: &Limits,
    report: &mut Report,
) -> Result<Survey> {
    let pages = Pages::new(source.clone());
    let shape = match sparse::with_directory(head, &**source) {
        Ok(shape) => shape,
        Err(error) if matches!(error.kind(), Kind::Malformed | Kind::Truncated) => {
            report.corruption(error.offset().unwrap_or(0), format!("{named}{error}"));
            // Nowhere: what is there has no table.
            Shape { directory: source.len().next_multiple_of(SECTOR), ..head.shape }
        }
        Err(error) => return Err(error),
    };
    sparse::room_for_tables(&pages, &shape, shape.directory, limits)?;
    let mut walk = Walk::new(&pages, shape, head, named, limits)?;
    let first = walk.set(shape.directory, report)?;
    let mut found = Survey { shape, first, spare: None, alike: true };
    if let Some(directory) = head.header.as_ref().and_then(second) {
        let mut ignore = |_| {};
        sparse::room_for_tables(&pages, &shape, directory, limits)?;
        let mut silent = Walk::new(&pages, shape, head, named, limits)?;
        let spare = silent.set(directory, &mut Report::new(&mut ignore))?;
        found.alike = walk.beside(first, spare, report)?;
        found.spare = Some(spare);
    }
    let tally = &mut report.tally;
    tally.total_clusters += shape.size.div_ceil(shape.grain);
    tally.allocated_clusters += walk.grains;
    tally.compressed_clusters += walk.packed;
    tally.fragmented_clusters += walk.apart;
    tally.image_end_offset = tally.image_end_offset.max(walk.claims.end());
    Ok(found)
}

/// Where the tables of the other set are to lie when it is written anew from one that is sound: its
/// directory, and each table. `None` if there is no room where nothing else is.
pub(super) fn room_for(
    source: &Arc<dyn Source>,
    head: &Head,
    survey: &Survey,
    (sound, other): (Set, Set),
    limits: &Limits,
) -> Result<Option<Vec<u64>>> {
    let (pages, shape) = (Pages::new(source.clone()), survey.shape);
    if shape.tables.saturating_mul(8) > limits.max_table {
        return Err(Error::limit(format!("{} grain tables are too many to mend", shape.tables)));
    }
    let mut ignore = |_| {};
    let mut report = Report::new(&mut ignore);
    for kept in [true, false] {
        if kept && !other.placed {
            continue;
        }
        // Where they are; or, one behind the other, where most programs put them.
        let len = shape.entries * shape.word();
        let front = (shape.tables * shape.word()).next_multiple_of(SECTOR);
        let mut places: Vec<u64> = Vec::new();
        if kept {
            words(&pages, shape, other.directory, shape.tables, |_, _, word| {
                places.extend(table(shape, word));
                Ok(())
            })?;
        } else {
            let first = other.directory.saturating_add(front);
            places.extend((0..shape.tables).map(|index| first.saturating_add(index * len)));
        }
        let mut walk = Walk::new(&pages, shape, head, "", limits)?;
        walk.set(sound.directory, &mut report)?;
        walk.place(other.directory, shape.tables * shape.word(), 0, "", &mut report);
        for place in &places {
            walk.place(*place, len, 0, "", &mut report);
        }
        if walk.placed && places.len() as u64 == shape.tables {
            return Ok(Some(places));
        }
    }
    Ok(None)
}

/// Where the table lies that this word of a directory leads to.
pub(super) fn table(shape: Shape, word: u64) -> Option<u64> {
    match shape.table(word) {
        Entry::Grain(table) => Some(table),
        Entry::Missing | Entry::Zero | Entry::Wrong => None,
    }
}

/// Where the second directory lies, if the header knows one.
pub(super) fn second(header: &Header) -> Option<u64> {
    let has = header.flags & REDUNDANT != 0 && header.redundant != 0;
    header.redundant.checked_mul(SECTOR).filter(|_| has)
}

struct Walk<'a> {
    pages: &'a Pages,
    shape: Shape,
    /// What stands in front of each finding.
    named: &'a str,
    claims: Claims,
    /// Grains with a place; of these, compressed; of these, not behind their neighbour.
    grains: u64,
    packed: u64,
    apart: u64,
    /// Where the last grain ended.
    end: Option<u64>,
    placed: bool,
    sound: bool,
}

impl<'a> Walk<'a> {
    fn new(
        pages: &'a Pages,
        shape: Shape,
        head: &Head,
        named: &'a str,
        limits: &Limits,
    ) -> Result<Walk<'a>> {
        let mut claims = Claims::new(pages.source().len(), SECTOR, limits)?;
        claims.take(0, HEADER as u64);
        if let Some(span) = head.descriptor {
            claims.take(span.start(), span.len());
        }
        let (grains, packed, apart) = (0, 0, 0);
        let (placed, sound, end) = (true, true, None);
        Ok(Walk { pages, shape, named, claims, grains, packed, apart, end, placed, sound })
    }

    /// Goes over the tables of this directory. All tables are claimed before the first grain, so
    /// that it is the grain that lies over a table, and not the other way round.
    fn set(&mut self, directory: u64, report: &mut Report) -> Result<Set> {
        self.claims.visit(self.shape.tables.saturating_mul(self.shape.entries))?;
        self.metadata(directory, report)?;
        let (shape, pages) = (self.shape, self.pages);
        words(pages, shape, directory, shape.tables, |index, _, word| {
            let Entry::Grain(table) = shape.table(word) else { return Ok(()) };
            let first = index * shape.entries;
            words(pages, shape, table, shape.entries, |number, at, word| {
                self.entry(first + number, at, word, report)
            })
        })?;
        Ok(Set { directory, placed: self.placed, sound: self.placed && self.sound })
    }

    /// Claims directory and tables.
    fn metadata(&mut self, directory: u64, report: &mut Report) -> Result<()> {
        let (shape, pages) = (self.shape, self.pages);
        let what = "the grain directory";
        self.place(directory, shape.tables * shape.word(), 0, what, report);
        let mut seen = 0;
        words(pages, shape, directory, shape.tables, |index, at, word| {
            seen = index + 1;
            match shape.table(word) {
                Entry::Missing => {}
                Entry::Grain(table) => {
                    let what = format!("grain table {index}");
                    self.place(table, shape.entries * shape.word(), at, &what, report);
                }
                Entry::Zero | Entry::Wrong => {
                    self.placed = false;
                    let what = format!("entry {index} of the grain directory is {word:#x}");
                    self.say(at, &what, report);
                }
            }
            Ok(())
        })
    }

    /// Claims the place of a directory or table, to which the entry at `at` leads.
    fn place(&mut self, start: u64, len: u64, at: u64, what: &str, report: &mut Report) {
        if let Some(why) = self.claim(start, len) {
            self.placed = false;
            self.say(at, &format!("{what} lies at {start:#x}, {why}"), report);
        }
    }

    /// Claims a stretch; what is wrong with it if it was not free.
    fn claim(&mut self, start: u64, len: u64) -> Option<String> {
        match self.claims.take(start, len) {
            Claim::Free => None,
            Claim::Taken => Some("over something else".into()),
            Claim::Beyond => {
                Some(format!("behind the end of the file, {}", self.claims.file_len()))
            }
        }
    }

    /// Looks at grain `index` of the extent, whose entry is `word` and stands at `at`.
    fn entry(&mut self, index: u64, at: u64, word: u64, report: &mut Report) -> Result<()> {
        let Shape { grain, size, grains, .. } = self.shape;
        let offset = match self.shape.entry(word) {
            Entry::Missing | Entry::Zero => return Ok(()),
            Entry::Grain(offset) => offset,
            Entry::Wrong => {
                self.wrong(at, &format!("the entry of grain {index} is {word:#x}"), report);
                return Ok(());
            }
        };
        let start = index.saturating_mul(grain);
        if start >= size {
            // It would come into sight if the disk grew.
            self.wrong(at, &format!("grain {index} lies behind the end of the disk"), report);
            return Ok(());
        }
        self.grains += 1;
        let len = match grains {
            Grains::Plain => grain.min(size - start),
            Grains::Packed { front } => {
                self.packed += 1;
                match sparse::packed_len(&**self.pages.source(), &self.shape, offset, start) {
                    Ok(len) => front + len,
                    Err(error) if matches!(error.kind(), Kind::Malformed | Kind::Truncated) => {
                        self.wrong(at, &format!("grain {index}: {error}"), report);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let whole = if grains == Grains::Plain { grain } else { len.next_multiple_of(SECTOR) };
        self.apart += u64::from(self.end.is_some_and(|end| end != offset));
        self.end = offset.checked_add(whole);
        if let Some(why) = self.claim(offset, len) {
            self.wrong(at, &format!("grain {index} lies at {offset:#x}, {why}"), report);
        }
        Ok(())
    }

    fn wrong(&mut self, at: u64, what: &str, report: &mut Report) {
        self.sound = false;
        self.say(at, what, report);
    }

    fn say(&self, at: u64, what: &str, report: &mut Report) {
        report.corruption(at, format!("{}{what}", self.named));
    }

    /// Looks at the second set of tables next to the first: whether it has places of its own, and
    /// says the same.
    fn beside(&mut self, first: Set, spare: Set, report: &mut Report) -> Result<bool> {
        let (shape, pages) = (self.shape, self.pages);
        let what = "the second grain directory";
        let before = self.placed;
        self.place(spare.directory, shape.tables * shape.word(), 48, what, report);
        let mut alike = true;
        words(pages, shape, spare.directory, shape.tables, |index, at, word| {
            let here = |word| table(shape, word);
            let other = pages.look(first.directory + index * 4, 4, get(shape)).unwrap_or(Some(0));
            let same = match (here(other.unwrap_or(0)), here(word)) {
                (None, None) => true,
                (Some(one), Some(two)) => {
                    let len = shape.entries * shape.word();
                    self.place(two, len, at, &format!("the second grain table {index}"), report);
                    same(pages, one, two, len)?
                }
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                alike = false;
                self.say(at, &format!("the two copies of grain table {index} differ"), report);
            }
            Ok(())
        })?;
        let apart = std::mem::replace(&mut self.placed, before);
        Ok(alike && apart)
    }
}

/// The first word of a table's bytes.
fn get(shape: Shape) -> impl Fn(&[u8]) -> Option<u64> {
    use crate::base::storage::Word;
    move |bytes| match shape.words {
        Words::Sectors { .. } => bytes.get(..4).map(Le32::get),
        Words::Indices { .. } => bytes.get(..8).map(Le64::get),
    }
}

/// Hands over the words of a directory or table: index, offset, word.
fn words(
    pages: &Pages,
    shape: Shape,
    offset: u64,
    count: u64,
    look: impl FnMut(u64, u64, u64) -> Result<()>,
) -> Result<()> {
    match shape.words {
        Words::Sectors { .. } => pages.words::<Le32>(offset, count, look),
        Words::Indices { .. } => pages.words::<Le64>(offset, count, look),
    }
}

/// Whether two stretches hold the same bytes; what lies behind the end of the file is not the same
/// as anything.
fn same(pages: &Pages, one: u64, two: u64, len: u64) -> Result<bool> {
    let (mut done, mut same) = (0, true);
    pages.pieces(one, len, |from, bytes| {
        pages.pieces(two + from, bytes.len() as u64, |inside, other| {
            let inside = usize::try_from(inside).expect("inside a page");
            same &= bytes[inside..inside + other.len()] == *other;
            done += other.len() as u64;
            Ok(())
        })
    })?;
    Ok(same && done == len)
}
