//! Two disks, side by side.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::error::{Error, Result};
use crate::base::model::extent::{Extent, Place};
use crate::base::model::image::{Image, Reader};
use crate::base::storage::{BLOCK, Buffer, is_zero};
use crate::plan::Cursor;
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
        ahead: Mutex::new(Ahead { at: 0, cursors: [Cursor::new(one), Cursor::new(two)] }),
        done: AtomicU64::new(0),
        content: AtomicU64::new(u64::MAX),
        allocation: AtomicU64::new(u64::MAX),
        options,
    };
    Crew::run(options.threads, |crew| job.work(crew))?;
    [one, two].iter().flat_map(|disk| disk.files()).try_for_each(|file| file.still_whole())?;
    let (content, allocation) = (job.content.into_inner(), job.allocation.into_inner());
    Ok(match (content, allocation) {
        (u64::MAX, u64::MAX) => Comparison::Same,
        (content, allocation) if content <= allocation => Comparison::Content(content),
        (_, allocation) => Comparison::Allocation(allocation),
    })
}

/// Bytes of disk that one worker takes at a time: two of them fit into a core's cache.
const PORTION: u64 = 256 << 10;

struct Job<'a> {
    disks: [&'a dyn Image; 2],
    size: u64,
    ahead: Mutex<Ahead<'a>>,
    done: AtomicU64,
    content: AtomicU64,
    allocation: AtomicU64,
    options: &'a CompareOptions<'a>,
}

/// How far the disks have been handed out.
struct Ahead<'a> {
    at: u64,
    cursors: [Cursor<'a>; 2],
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

    /// The map of a disk from `start` to `end`; zeros behind its own end.
    fn map(&mut self, cursor: &mut Cursor, start: u64, end: u64) -> Result<()> {
        self.extents.clear();
        cursor.take_until(end, &mut self.extents)?;
        let start = self.extents.last().map_or(start, Extent::end);
        if start < end {
            self.extents.push(Extent { start, len: end - start, place: Place::Hole, depth: 0 });
        }
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.extents.iter().all(Extent::is_zero)
    }

    fn fetch(&mut self, disk: &dyn Image, start: u64) -> Result<()> {
        for extent in &self.extents {
            let from = usize::try_from(extent.start - start).expect("inside the buffer");
            let len = usize::try_from(extent.len).expect("inside the buffer");
            self.reader.fetch(disk.files(), extent, &mut self.bytes[from..from + len])?;
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
            if !sides.iter().all(Side::is_zero) {
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
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.content.load(Ordering::SeqCst).min(self.allocation.load(Ordering::SeqCst));
        let start = ahead.at;
        if start >= self.size.min(found) {
            return Ok(None);
        }
        let mut zero = self.size;
        for cursor in &mut ahead.cursors {
            let next = cursor.peek()?;
            zero = next.map_or(zero, |e| if e.is_zero() { zero.min(e.end()) } else { start });
        }
        let portion = (start / PORTION + 1).saturating_mul(PORTION).min(self.size);
        let end = zero.max(portion);
        for (side, cursor) in sides.iter_mut().zip(&mut ahead.cursors) {
            side.map(cursor, start, end)?;
        }
        ahead.at = end;
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
        let zeros = sides.each_ref().map(Side::is_zero);
        for (side, disk) in sides.iter_mut().zip(self.disks) {
            if !side.is_zero() {
                side.fetch(disk, start)?;
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
