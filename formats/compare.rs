//! Two disks, side by side.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::error::{Error, Result};
use crate::base::model::extent::{Extent, Place};
use crate::base::model::image::{Image, Reader};
use crate::base::storage::{BLOCK, Buffer, is_zero};
use crate::plan::PORTION;
use crate::pool::{Crew, Unwatched, Watch, default_threads};

/// How disks are compared.
pub struct CompareOptions<'a> {
    /// Workers at once.
    pub threads: usize,
    /// Whether it is a difference, too, that one has storage where the other has none.
    pub strict: bool,
    /// Who is told.
    pub watch: &'a dyn Watch,
}

impl Default for CompareOptions<'_> {
    fn default() -> Self {
        CompareOptions { threads: default_threads(), strict: false, watch: &Unwatched }
    }
}

/// How two disks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Not at all, up to the end of the shorter one, and the rest of the other is zeros.
    Same,
    /// From this byte of the disk on, at the latest 4096 bytes behind it: the exact byte.
    Content(u64),
    /// One has storage at this byte of the disk, the other has none (strict).
    Allocation(u64),
}

/// Compares two disks. The lowest difference is found, whatever the number of threads. A longer
/// disk is the same as a shorter one if the rest of it is zeros.
pub fn compare(one: &dyn Image, two: &dyn Image, options: &CompareOptions) -> Result<Comparison> {
    let size = one.disk_size().max(two.disk_size());
    let job = Job {
        disks: [one, two],
        size,
        next: Mutex::new(0),
        done: AtomicU64::new(0),
        content: AtomicU64::new(u64::MAX),
        allocation: AtomicU64::new(u64::MAX),
        options,
    };
    Crew::run(options.threads, |crew| job.work(crew))?;
    let (content, allocation) = (job.content.into_inner(), job.allocation.into_inner());
    Ok(match (content, allocation) {
        (u64::MAX, u64::MAX) => Comparison::Same,
        (content, allocation) if content <= allocation => Comparison::Content(content),
        (_, allocation) => Comparison::Allocation(allocation),
    })
}

struct Job<'a> {
    disks: [&'a dyn Image; 2],
    size: u64,
    next: Mutex<u64>,
    done: AtomicU64,
    content: AtomicU64,
    allocation: AtomicU64,
    options: &'a CompareOptions<'a>,
}

/// What a worker keeps for each of the disks.
struct Side {
    extents: Vec<Extent>,
    reader: Reader,
    bytes: Buffer,
}

impl Side {
    fn new() -> Side {
        let bytes = Buffer::new(usize::try_from(PORTION).expect("one MiB"));
        Side { extents: Vec::new(), reader: Reader::default(), bytes }
    }

    /// The map of a disk from `start` on; zeros behind its end.
    fn map(&mut self, disk: &dyn Image, start: u64, end: u64) -> Result<()> {
        disk.extents_between(start, end, &mut self.extents)?;
        if self.extents.is_empty() {
            self.extents.push(Extent { start, len: end - start, place: Place::Hole, depth: 0 });
        }
        Ok(())
    }

    fn reaches(&self) -> u64 {
        self.extents.last().map_or(0, Extent::end)
    }

    fn is_zero_until(&self, end: u64) -> bool {
        self.extents.iter().take_while(|extent| extent.start < end).all(Extent::is_zero)
    }

    fn zero_until(&self) -> u64 {
        self.extents.iter().take_while(|extent| extent.is_zero()).last().map_or(0, Extent::end)
    }

    fn fetch(&mut self, disk: &dyn Image, start: u64, end: u64) -> Result<()> {
        for extent in self.extents.iter().take_while(|extent| extent.start < end) {
            let part = extent.clip(start, end);
            let from = usize::try_from(part.start - start).expect("inside the buffer");
            let len = usize::try_from(part.len).expect("inside the buffer");
            self.reader.fetch(disk.files(), &part, &mut self.bytes[from..from + len])?;
        }
        Ok(())
    }
}

impl Job<'_> {
    fn work(&self, crew: &Crew) -> Result<()> {
        let mut sides = [Side::new(), Side::new()];
        while !crew.is_stopped() {
            let Some((start, end)) = self.take(&mut sides)? else { return Ok(()) };
            if self.options.strict {
                self.compare_allocation(&sides, start, end);
            }
            if !sides.iter().all(|side| side.is_zero_until(end)) {
                self.compare_content(&mut sides, start, end)?;
            }
            let done = self.done.fetch_add(end - start, Ordering::Relaxed) + (end - start);
            if self.options.watch.progress(done, self.size) == ControlFlow::Break(()) {
                return Err(Error::cancelled());
            }
        }
        Ok(())
    }

    /// The next stretch, with its maps; nothing behind the first difference.
    fn take(&self, sides: &mut [Side; 2]) -> Result<Option<(u64, u64)>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.content.load(Ordering::SeqCst).min(self.allocation.load(Ordering::SeqCst));
        let start = *next;
        if start >= self.size.min(found) {
            return Ok(None);
        }
        for (side, disk) in sides.iter_mut().zip(self.disks) {
            side.map(disk, start, self.size)?;
        }
        let zero = sides[0].zero_until().min(sides[1].zero_until());
        let reach = sides[0].reaches().min(sides[1].reaches());
        let portion = (start / PORTION + 1).saturating_mul(PORTION);
        let end = if zero > portion { zero } else { portion.min(reach) };
        *next = end;
        Ok(Some((start, end)))
    }

    fn compare_allocation(&self, sides: &[Side; 2], start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let here = |side: &Side| side.extents.iter().find(|extent| extent.end() > at).copied();
            let (Some(one), Some(two)) = (here(&sides[0]), here(&sides[1])) else { return };
            if one.is_zero() != two.is_zero() {
                self.allocation.fetch_min(at, Ordering::SeqCst);
                return;
            }
            at = one.end().min(two.end());
        }
    }

    fn compare_content(&self, sides: &mut [Side; 2], start: u64, end: u64) -> Result<()> {
        let len = usize::try_from(end - start).expect("a portion of data is small");
        let zeros = sides.each_ref().map(|side| side.is_zero_until(end));
        for (side, disk) in sides.iter_mut().zip(self.disks) {
            if !side.is_zero_until(end) {
                side.fetch(disk, start, end)?;
            }
        }
        let bytes = sides.each_ref().map(|side| &side.bytes[..len]);
        let at = match zeros {
            [true, _] => first_byte_but_zero(bytes[1]),
            [_, true] => first_byte_but_zero(bytes[0]),
            [false, false] => first_difference(bytes[0], bytes[1]),
        };
        if let Some(at) = at {
            self.content.fetch_min(start + at as u64, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn first_byte_but_zero(bytes: &[u8]) -> Option<usize> {
    let index = bytes.chunks(BLOCK).position(|block| !is_zero(block))?;
    let from = index * BLOCK;
    bytes[from..].iter().position(|byte| *byte != 0).map(|at| from + at)
}

fn first_difference(one: &[u8], two: &[u8]) -> Option<usize> {
    let index = one.chunks(BLOCK).zip(two.chunks(BLOCK)).position(|(one, two)| one != two)?;
    let from = index * BLOCK;
    one[from..].iter().zip(&two[from..]).position(|(one, two)| one != two).map(|at| from + at)
}
