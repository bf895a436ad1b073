//! Which stretches must be copied, and in which portions.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place};
use crate::base::model::image::{Image, Walk};
use crate::base::storage::Source;

/// Holes in smaller extents than this are not worth a question.
const SMALLEST_HOLE: u64 = 64 << 10;

/// Bytes of disk that one worker takes at a time; more if a unit is larger.
pub(crate) const PORTION: u64 = 1 << 20;

/// What a walk over the whole map finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Bytes of disk that are somewhere in a file.
    pub data: u64,
    /// Of these, compressed.
    pub packed: u64,
    /// Bytes of disk known to be zero without a look at them.
    pub zero: u64,
}

impl Survey {
    /// Walks over the whole map. `Limit` as soon as the data would outgrow what the caller allows
    /// for files of this size: that is how an image of a few pages becomes terabytes. `Truncated`
    /// if data lie behind the end of their file.
    pub fn of(image: &dyn Image, limits: &Limits) -> Result<Survey> {
        let stored: u64 = image.files().iter().map(|file| file.len()).fold(0, u64::saturating_add);
        let ratio = stored.saturating_mul(limits.max_ratio).max(limits.ratio_floor);
        let mut survey = Survey::default();
        for extent in image.walk(0, image.disk_size()) {
            let extent = extent?;
            match extent.place {
                Place::Hole | Place::Zero { .. } => survey.zero += extent.len,
                Place::Backing => survey.data += extent.len,
                Place::Data { file, offset } => {
                    there(&*image.files()[file], offset, extent.len)?;
                    survey.data += extent.len;
                }
                Place::Packed(_) => {
                    survey.data += extent.len;
                    survey.packed += extent.len;
                }
            }
            if survey.data > limits.max_output {
                let most = limits.max_output;
                return Err(Error::limit(format!("it holds more than {most} bytes of data")));
            }
            if survey.data > ratio {
                let times = limits.max_ratio;
                let what = format!("{stored} bytes of file hold more than {ratio} bytes of data");
                return Err(Error::limit(format!("{what}, over {times} times as many")));
            }
        }
        Ok(survey)
    }
}

/// `Truncated` if a file ends before these bytes do.
fn there(file: &dyn Source, offset: u64, len: u64) -> Result<()> {
    let (end, total) = (offset.saturating_add(len), file.len());
    if end <= total {
        return Ok(());
    }
    let what = format!("data of the disk go on to {end:#x}, and the file ends at {total:#x}");
    Err(Error::truncated(offset, what).path(file.name()))
}

/// What one worker does at a time: several stretches of the disk where they are small and lie far
/// from each other.
#[derive(Default)]
pub(crate) struct Portion {
    /// 0, 1, 2, ... in the order of the disk.
    pub(crate) number: u64,
    /// What is copied: one at least, each with the zeros behind it that are passed over.
    pub(crate) runs: Vec<Run>,
    /// What lies in the runs, without gaps.
    pub(crate) extents: Vec<Extent>,
}

/// A stretch of the disk that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First byte on the disk, a multiple of the unit.
    pub(crate) start: u64,
    /// How many; a multiple of the unit, or up to the end of the disk.
    pub(crate) len: u64,
    /// Where its first byte is among those of the portion.
    pub(crate) from: u64,
    /// Bytes of zeros that follow.
    pub(crate) zeros: u64,
}

impl Run {
    /// Where it ends on the disk.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }
}

impl Portion {
    /// Bytes of all the runs.
    pub(crate) fn len(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.from + last.len)
    }

    /// Where the last run and its zeros end on the disk.
    pub(crate) fn end(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.end() + last.zeros)
    }
}

/// Goes over the map of a disk, and stops wherever it is told to.
pub(crate) struct Cursor<'a> {
    walk: Walk<'a>,
    files: &'a [Arc<dyn Source>],
    /// Whether this file has holes in it.
    holes: Vec<bool>,
    /// What comes next.
    next: Option<Extent>,
    /// What comes behind it, not yet looked at.
    behind: Option<Extent>,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a disk.
    pub(crate) fn new(image: &'a dyn Image) -> Cursor<'a> {
        let (walk, files) = (image.walk(0, image.disk_size()), image.files());
        let holes = |file: &Arc<dyn Source>| {
            // Where that cannot be told nobody looks for holes, which costs time alone.
            let stored = file.stored().ok().flatten();
            stored.is_some_and(|stored| stored.saturating_add(1 << 20) < file.len())
        };
        let holes = files.iter().map(holes).collect();
        Cursor { walk, files, holes, next: None, behind: None }
    }

    /// The extent that comes next, as far as it reaches; `None` at the end of the disk.
    pub(crate) fn peek(&mut self) -> Result<Option<Extent>> {
        if self.next.is_none() {
            let next = match self.behind.take() {
                Some(behind) => Some(behind),
                None => self.walk.next().transpose()?,
            };
            self.next = next.map(|extent| self.look_into(extent)).transpose()?;
        }
        Ok(self.next)
    }

    /// The front of an extent: zeros where its file has a hole, as the files of preallocated
    /// images do. What is behind is left for later.
    fn look_into(&mut self, extent: Extent) -> Result<Extent> {
        let Place::Data { file, offset } = extent.place else { return Ok(extent) };
        if !self.holes[file] || extent.len < SMALLEST_HOLE || offset >= self.files[file].len() {
            return Ok(extent);
        }
        let fail = |error| Error::io("cannot ask what is allocated", error).at(offset);
        let found = self.files[file].allocated(offset).map_err(fail)?;
        let end = extent.start + found.end.saturating_sub(offset).max(1);
        let mut front = extent;
        if end < extent.end() {
            front = extent.clip(extent.start, end);
            self.behind = Some(extent.clip(end, u64::MAX));
        }
        if !found.data {
            front.place = Place::Zero { offset: Some(offset) };
        }
        Ok(front)
    }

    /// Adds what lies before `end` to a list.
    pub(crate) fn take_until(&mut self, end: u64, out: &mut Vec<Extent>) -> Result<()> {
        while let Some(extent) = self.peek()?.filter(|extent| extent.start < end) {
            self.next = (extent.end() > end).then(|| extent.clip(end, u64::MAX));
            out.push(extent.clip(0, end));
        }
        Ok(())
    }
}

/// Cuts a disk into portions.
pub(crate) struct Plan<'a> {
    cursor: Cursor<'a>,
    number: u64,
    unit: u64,
    size: u64,
    /// Whether a stretch in this file may be handed on whole, however long.
    whole: Vec<bool>,
    /// Whether zeros are passed over, however long, or are to be written like data.
    skips_zeros: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        image: &'a dyn Image,
        unit: u64,
        skips_zeros: bool,
        whole: Vec<bool>,
    ) -> Self {
        let (cursor, size) = (Cursor::new(image), image.disk_size());
        Plan { cursor, number: 0, unit, size, whole, skips_zeros }
    }

    /// Fills in the next portion; `false` at the end of the disk.
    pub(crate) fn next(&mut self, portion: &mut Portion) -> Result<bool> {
        portion.runs.clear();
        portion.extents.clear();
        let Some(first) = self.cursor.peek()? else { return Ok(false) };
        portion.number = self.number;
        self.number += 1;
        let end = self.end_of_portion(&first);
        self.add(&first, end, portion)?;
        let most = PORTION.max(self.unit);
        while let (true, Some(next)) = (self.goes_on(portion), self.cursor.peek()?) {
            let room = (most - portion.len()) / self.unit * self.unit;
            let end = self.end_of_portion(&next).min(next.start + room);
            if self.is_whole(&next) || room == 0 {
                break;
            }
            self.add(&next, end, portion)?;
        }
        Ok(true)
    }

    /// Whether something that lies further on may be added: behind data with a gap after them.
    fn goes_on(&self, portion: &Portion) -> bool {
        let whole = portion.extents.first().is_some_and(|first| self.is_whole(first));
        !whole && portion.runs.last().is_some_and(|last| last.zeros > 0)
    }

    /// Adds what lies before `end` as a run.
    fn add(&mut self, first: &Extent, end: u64, portion: &mut Portion) -> Result<()> {
        let (start, from, before) = (first.start, portion.len(), portion.extents.len());
        let end = self.take_data(end, &mut portion.extents)?;
        let extents = &portion.extents[before..];
        if extents.last().is_none_or(|last| last.end() != end) {
            let what = "the map of the disk ends before the disk does";
            return Err(Error::malformed(end, what));
        }
        let zeros = match self.skips_zeros && !extents.iter().all(Extent::is_zero) {
            true => self.skip_zeros(end)?,
            false => 0,
        };
        portion.runs.push(Run { start, len: end - start, from, zeros });
        Ok(())
    }

    /// Takes what lies before `end`, and behind data nothing of zeros that fill whole units: where
    /// it stopped.
    fn take_data(&mut self, end: u64, out: &mut Vec<Extent>) -> Result<u64> {
        let mut had_data = false;
        while let Some(next) = self.cursor.peek()?.filter(|next| next.start < end) {
            if had_data && self.skips_zeros && next.is_zero() {
                let units = next.start.next_multiple_of(self.unit).min(end);
                if self.whole_units(&next) > units {
                    self.cursor.take_until(units, out)?;
                    return Ok(units);
                }
            }
            had_data |= !next.is_zero();
            self.cursor.take_until(next.end().min(end), out)?;
        }
        Ok(end)
    }

    /// Zeros that fill whole units behind data are dealt with in the same go: how many there are.
    fn skip_zeros(&mut self, end: u64) -> Result<u64> {
        let Some(next) = self.cursor.peek()?.filter(Extent::is_zero) else { return Ok(0) };
        let zeros = self.whole_units(&next).saturating_sub(end);
        let mut passed = Vec::new();
        self.cursor.take_until(end + zeros, &mut passed)?;
        Ok(zeros)
    }

    /// Whether data may be handed on without a look at them.
    fn is_whole(&self, extent: &Extent) -> bool {
        let Place::Data { file, .. } = extent.place else { return false };
        self.whole.get(file).is_some_and(|whole| *whole)
    }

    /// Where the last unit ends that an extent, which begins at one, fills.
    fn whole_units(&self, extent: &Extent) -> u64 {
        match extent.end() {
            end if end == self.size => end,
            end => end / self.unit * self.unit,
        }
    }

    fn end_of_portion(&self, first: &Extent) -> u64 {
        let whole = self.is_whole(first) || first.is_zero() && self.skips_zeros;
        let end = self.whole_units(first);
        if whole && end > first.start {
            return end;
        }
        let portion = PORTION.max(self.unit);
        (first.start / portion + 1).saturating_mul(portion).min(self.size)
    }
}
