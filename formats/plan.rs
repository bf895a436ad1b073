//! Which stretches must be copied, and in which portions.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place};
use crate::base::model::image::{Image, Walk};

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
    /// for files of this size: that is how an image of a few pages becomes terabytes.
    pub fn of(image: &dyn Image, limits: &Limits) -> Result<Survey> {
        let stored: u64 = image.files().iter().map(|file| file.len()).fold(0, u64::saturating_add);
        let ratio = stored.saturating_mul(limits.max_ratio).max(limits.ratio_floor);
        let mut survey = Survey::default();
        for extent in image.walk(0, image.disk_size()) {
            let extent = extent?;
            match extent.place {
                Place::Hole | Place::Zero { .. } => survey.zero += extent.len,
                Place::Data { .. } | Place::Backing => survey.data += extent.len,
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
                return Err(Error::limit(format!(
                    "{stored} bytes of file hold more than {ratio} bytes of data, over {times} times as many"
                )));
            }
        }
        Ok(survey)
    }
}

/// What one worker does at a time.
#[derive(Default)]
pub(crate) struct Portion {
    /// 0, 1, 2, ... in the order of the disk.
    pub(crate) number: u64,
    /// First byte on the disk, a multiple of the unit.
    pub(crate) start: u64,
    /// How many; a multiple of the unit, or up to the end of the disk.
    pub(crate) len: u64,
    /// What lies there, without gaps.
    pub(crate) extents: Vec<Extent>,
}

/// Cuts a disk into portions.
pub(crate) struct Plan<'a> {
    walk: Walk<'a>,
    rest: Option<Extent>,
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
        let size = image.disk_size();
        let walk = image.walk(0, size);
        Plan { walk, rest: None, number: 0, unit, size, whole, skips_zeros }
    }

    /// Fills in the next portion; `false` at the end of the disk.
    pub(crate) fn next(&mut self, portion: &mut Portion) -> Result<bool> {
        portion.extents.clear();
        let Some(first) = self.take()? else { return Ok(false) };
        portion.number = self.number;
        portion.start = first.start;
        self.number += 1;
        let end = self.end_of_portion(&first);
        let mut extent = first;
        loop {
            if extent.end() > end {
                self.rest = Some(extent.clip(end, u64::MAX));
                extent = extent.clip(0, end);
            }
            portion.extents.push(extent);
            portion.len = extent.end() - portion.start;
            if extent.end() == end {
                return Ok(true);
            }
            let next = self.take()?;
            extent = next.ok_or_else(|| {
                Error::malformed(portion.start, "the map of the disk ends before the disk does")
            })?;
        }
    }

    fn take(&mut self) -> Result<Option<Extent>> {
        match self.rest.take() {
            Some(rest) => Ok(Some(rest)),
            None => self.walk.next().transpose(),
        }
    }

    fn end_of_portion(&self, first: &Extent) -> u64 {
        let whole = match first.place {
            Place::Hole | Place::Zero { .. } => self.skips_zeros,
            Place::Data { file, .. } => self.whole.get(file).is_some_and(|whole| *whole),
            Place::Packed(_) | Place::Backing => false,
        };
        if whole {
            // Up to the last unit that it fills.
            let end = if first.end() == self.size {
                self.size
            } else {
                first.end() / self.unit * self.unit
            };
            if end > first.start {
                return end;
            }
        }
        let portion = PORTION.max(self.unit);
        (first.start / portion + 1).saturating_mul(portion).min(self.size)
    }
}
