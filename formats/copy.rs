//! Read, encode, place, write.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::codec::Encoder;
use crate::base::error::{Error, Kind, Result};
use crate::base::model::extent::{Extent, Packed, Place};
use crate::base::model::image::{Image, Reader};
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{BLOCK, Buffer, Put, Span, is_zero};
use crate::digesting::Mark;
use crate::plan::{PORTION, Plan, Portion};
use crate::pool::{Crew, Unwatched, Watch, default_threads};

/// Says whether so many bytes of data may be handed on: `Limit` if not.
pub type Allows<'a> = dyn Fn(u64) -> Result<()> + Sync + 'a;

/// How a disk is copied.
pub struct CopyOptions<'a> {
    /// Workers at once.
    pub threads: usize,
    /// Runs of zeros from this many bytes on are left out, a multiple of 4096; 0 writes all.
    pub sparse: u64,
    /// The image underneath the new one: what is the same there is left out.
    pub base: Option<&'a dyn Image>,
    /// Bytes per second at most.
    pub rate: Option<u64>,
    /// Bytes that there are to copy, as a survey found them: what the watch is told.
    pub total: u64,
    /// What of the image is written.
    pub stage: Stage,
    /// Told how much of the disk, from its front, has been dealt with.
    pub mark: Option<&'a Mark>,
    /// Asked whether so many bytes of data may be handed on, where nobody could look at the map
    /// of the disk first.
    pub allows: Option<&'a Allows<'a>>,
    /// Who is told.
    pub watch: &'a dyn Watch,
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        CopyOptions {
            threads: default_threads(),
            sparse: BLOCK as u64,
            base: None,
            rate: None,
            total: 0,
            stage: Stage::All,
            mark: None,
            allows: None,
            watch: &Unwatched,
        }
    }
}

/// What of an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything; zeros within data are left out where the file has zeros already.
    All,
    /// Its tables only. Where data will be, the target is told.
    Tables,
    /// Everything, and every byte of the data.
    Whole,
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Bytes of disk that were read.
    pub read: u64,
    /// Bytes that were written, tables not counted.
    pub written: u64,
}

/// Copies a disk: all of `image` into `writer`, which is finished afterwards.
///
/// Fails with what reading and writing fail with, and with `Cancelled` when the watch says stop.
pub fn copy(image: &dyn Image, writer: &dyn Writer, options: &CopyOptions) -> Result<Copied> {
    let job = Job::new(image, writer, options);
    std::thread::scope(|scope| {
        let kept = scope.spawn(|| job.keep_promises());
        let worked = Crew::run(options.threads, |crew| job.work(crew));
        job.left.store(worked.is_err(), Ordering::Relaxed);
        // A broken promise stops the workers, who then know less than it does.
        kept.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        worked
    })?;
    job.watch()?;
    image.files().iter().try_for_each(|file| file.still_whole())?;
    writer.finish()?;
    Ok(Copied { read: job.read.into_inner(), written: job.written.into_inner() })
}

struct Job<'a> {
    image: &'a dyn Image,
    writer: &'a dyn Writer,
    options: &'a CopyOptions<'a>,
    plan: Mutex<Plan<'a>>,
    /// Whether the target shares blocks with this file.
    shares: Vec<bool>,
    unit: u64,
    /// Runs of zeros from so many bytes on are left out; 0 if none is.
    sparse: u64,
    read: AtomicU64,
    written: AtomicU64,
    /// The work has failed or been stopped.
    left: AtomicBool,
    settled: Mutex<Settled>,
    begun: Instant,
}

/// Portions that are done with.
#[derive(Default)]
struct Settled {
    /// The first that is not.
    next: u64,
    /// Those behind it that are, and where they end.
    ahead: BTreeMap<u64, u64>,
}

/// What a worker keeps from portion to portion.
struct Bench {
    portion: Portion,
    reader: Reader,
    encoder: Encoder,
    bytes: Buffer,
    base: Option<Buffer>,
    packed: Vec<u8>,
    /// Units that were packed already, before they are put between the others.
    passed: Vec<u8>,
    units: Vec<Unit>,
    /// Where each unit with data begins, and its digest: where the writer wants to know.
    digests: Vec<(u64, u32)>,
    writes: Vec<Write>,
}

/// What became of a unit of a portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Zero,
    Backing,
    Plain,
    /// So many bytes, in the buffer of packed ones.
    Packed(usize),
}

impl Unit {
    /// Whether it is stored.
    fn has_data(&self) -> bool {
        matches!(self, Unit::Plain | Unit::Packed(_))
    }
}

/// Bytes from one of the buffers to a place in the file.
struct Write {
    packed: bool,
    from: usize,
    len: usize,
    offset: u64,
}

impl<'a> Job<'a> {
    fn new(image: &'a dyn Image, writer: &'a dyn Writer, options: &'a CopyOptions<'a>) -> Self {
        let unit = writer.unit();
        // What goes by unseen has no digest.
        let seen = writer.packing().is_some() || writer.is_identified();
        let plain = !seen && options.base.is_none();
        let shares: Vec<bool> = image
            .files()
            .iter()
            .map(|file| {
                plain && options.stage == Stage::All && writer.target().shares_with(&**file)
            })
            .collect();
        let sparse = if writer.wants_zeros() { 0 } else { options.sparse };
        let skips_zeros = sparse > 0 && options.base.is_none();
        let plan = Mutex::new(Plan::new(image, unit, skips_zeros, shares.clone()));
        let (read, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let (left, begun) = (AtomicBool::new(false), Instant::now());
        let settled = Mutex::default();
        Job {
            image,
            writer,
            options,
            plan,
            shares,
            unit,
            sparse,
            read,
            written,
            left,
            settled,
            begun,
        }
    }

    /// Reads what was promised, beside the work: the bytes are in memory then anyway.
    fn keep_promises(&self) -> Result<()> {
        let ask = || match self.left.load(Ordering::Relaxed) {
            true => Err(Error::cancelled()),
            false => Ok(()),
        };
        for promise in self.image.promises() {
            match promise.keep(&ask) {
                // Whoever left has said why.
                Err(error) if error.kind() == Kind::Cancelled => break,
                Err(error) => {
                    self.left.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn work(&self, crew: &Crew) -> Result<()> {
        let mut bench = Bench {
            portion: Portion::default(),
            reader: Reader::default(),
            encoder: Encoder::default(),
            bytes: Buffer::new(usize::try_from(PORTION.max(self.unit)).expect("a few MiB")),
            base: None,
            packed: Vec::new(),
            passed: Vec::new(),
            units: Vec::new(),
            digests: Vec::new(),
            writes: Vec::new(),
        };
        while !crew.is_stopped() && self.take(&mut bench.portion)? {
            let extents = &bench.portion.extents;
            let zero = extents.iter().all(Extent::is_zero);
            if let [extent] = extents[..]
                && let Place::Data { file, offset } = extent.place
                && self.shares[file]
            {
                self.share(crew, &mut bench, file, offset)?;
            } else if zero && self.sparse > 0 && self.options.base.is_none() {
                let Portion { number, start, len, .. } = bench.portion;
                crew.in_turn(number, || self.reserve_zeros(start, len))?;
            } else {
                self.copy_portion(crew, &mut bench)?;
            }
            self.settle(&bench.portion);
            self.watch()?;
        }
        Ok(())
    }

    /// A portion is done with: if all in front of it are, the mark moves on.
    fn settle(&self, portion: &Portion) {
        let Some(mark) = self.options.mark else { return };
        let end = portion.start + portion.len + portion.zeros;
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.ahead.insert(portion.number, end);
        while let Some((number, end)) = settled.ahead.pop_first() {
            if number != settled.next {
                settled.ahead.insert(number, end);
                break;
            }
            settled.next += 1;
            mark.reach(end);
        }
    }

    fn take(&self, portion: &mut Portion) -> Result<bool> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).next(portion)
    }

    /// Tells the watch, and keeps to the rate.
    fn watch(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) {
            return Err(Error::cancelled());
        }
        let read = self.read.load(Ordering::Relaxed);
        if let Some(rate) = self.options.rate {
            let rate = rate.max(1);
            let whole = Duration::from_secs(read / rate);
            let due = whole + Duration::from_millis((read % rate).saturating_mul(1000) / rate);
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        }
        if let Some(allows) = self.options.allows {
            allows(read)?;
        }
        match self.options.watch.progress(read.min(self.options.total), self.options.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::cancelled()),
        }
    }

    fn copy_portion(&self, crew: &Crew, bench: &mut Bench) -> Result<()> {
        let len = usize::try_from(bench.portion.len).expect("a portion of data is small");
        bench.bytes.reserve(len);
        self.fetch(bench, len)?;
        self.sort(bench, len)?;
        bench.digests.clear();
        if self.writer.is_identified() {
            let starts = (0..).map(|index| bench.portion.start + index * self.unit);
            let units = bench.units.iter().zip(bench.bytes[..len].chunks(self.unit_len()));
            let data = units.zip(starts).filter(|((unit, _), _)| unit.has_data());
            let digest = data.map(|((_, bytes), start)| (start, crc32fast::hash(bytes)));
            bench.digests.extend(digest);
        }
        bench.writes.clear();
        let (start, number) = (bench.portion.start, bench.portion.number);
        let (units, writes, zeros) = (&bench.units, &mut bench.writes, bench.portion.zeros);
        let digests = &bench.digests;
        let place = || {
            for (start, digest) in digests {
                self.writer.identify(*start, *digest);
            }
            self.place(start, len, units, writes)?;
            self.reserve_zeros(start + len as u64, zeros)
        };
        if crew.in_turn(number, place)?.is_none() {
            return Ok(());
        }
        for write in &bench.writes {
            let from = if write.packed { &bench.packed[..] } else { &bench.bytes[..] };
            self.write(&from[write.from..write.from + write.len], write.offset)?;
        }
        Ok(())
    }

    /// Reads the portion; a unit that can be passed on as it is packed is kept so, too.
    fn fetch(&self, bench: &mut Bench, len: usize) -> Result<()> {
        bench.packed.clear();
        bench.units.clear();
        bench.units.resize(len.div_ceil(self.unit_len()), Unit::Plain);
        for index in 0..bench.portion.extents.len() {
            let extent = bench.portion.extents[index];
            let from = usize::try_from(extent.start - bench.portion.start).expect("inside");
            if let Place::Packed(packed) = extent.place
                && self.passes_on(&extent, &packed, from)
            {
                let next = bench.portion.extents.get(index + 1).map(|next| next.place);
                self.fetch_passed(bench, &extent, without_slack(packed, next), from)?;
            } else {
                let out = &mut bench.bytes[from..from + extent_len(&extent)];
                bench.reader.fetch(self.image.files(), &extent, out)?;
            }
            if !extent.is_zero() {
                self.read.fetch_add(extent.len, Ordering::Relaxed);
            }
        }
        match self.options.base {
            Some(base) => fetch_base(base, bench, len),
            None => Ok(()),
        }
    }

    /// Whether an extent is a whole unit that the writer takes as it is packed.
    fn passes_on(&self, extent: &Extent, packed: &Packed, from: usize) -> bool {
        packed.skip == 0
            && (packed.unit == extent.len || extent.end() == self.image.disk_size())
            && from.is_multiple_of(self.unit_len())
            && self.options.base.is_none()
            && self.writer.accepts(packed.codec, packed.unit)
    }

    /// Reads a unit that is passed on. It is unpacked all the same: a damaged one must not pass.
    fn fetch_passed(
        &self,
        bench: &mut Bench,
        extent: &Extent,
        tight: Packed,
        from: usize,
    ) -> Result<()> {
        let files = self.image.files();
        let out = &mut bench.bytes[from..from + extent_len(extent)];
        let mut kept = tight;
        let tightly = Extent { place: Place::Packed(tight), ..*extent };
        if bench.reader.fetch(files, &tightly, out).is_err() {
            // It goes on behind where the next one begins: units that overlap.
            bench.reader.fetch(files, extent, out)?;
            let Place::Packed(packed) = extent.place else { return Ok(()) };
            kept = packed;
        }
        let bytes = bench.reader.fetch_packed(&*files[kept.file], &kept)?;
        if bytes.len() < self.unit_len() {
            bench.packed.extend_from_slice(bytes);
            bench.units[from / self.unit_len()] = Unit::Packed(bytes.len());
        }
        Ok(())
    }

    /// Says of each unit what is to become of it, and packs those that are.
    fn sort(&self, bench: &mut Bench, len: usize) -> Result<()> {
        std::mem::swap(&mut bench.packed, &mut bench.passed);
        bench.packed.clear();
        let mut next_passed = 0;
        for (index, unit) in bench.units.iter_mut().enumerate() {
            let from = index * self.unit_len();
            let range = from..(from + self.unit_len()).min(len);
            if let Unit::Packed(size) = unit {
                bench.packed.extend_from_slice(&bench.passed[next_passed..next_passed + *size]);
                next_passed += *size;
                continue;
            }
            let bytes = &bench.bytes[range.clone()];
            let same = |base: &Buffer| base[range.clone()] == *bytes;
            if bench.base.as_ref().is_some_and(same) {
                *unit = Unit::Backing;
                continue;
            }
            if self.sparse > 0 && is_zero(bytes) {
                *unit = Unit::Zero;
                continue;
            }
            if self.writer.packing().is_none() {
                continue;
            }
            let before = bench.packed.len();
            // The last unit of a disk is packed whole, padded with zeros.
            let end = from + self.unit_len();
            bench.bytes[range.end..end].fill(0);
            let (bytes, encoder) = (&bench.bytes[from..end], &mut bench.encoder);
            let start = bench.portion.start + from as u64;
            if self.writer.encode(start, bytes, encoder, &mut bench.packed)? {
                *unit = Unit::Packed(bench.packed.len() - before);
            }
        }
        Ok(())
    }

    /// Reserves places for the units, runs of one kind together.
    fn place(&self, start: u64, len: usize, units: &[Unit], writes: &mut Vec<Write>) -> Result<()> {
        let (mut index, mut packed_from) = (0, 0);
        while index < units.len() {
            let (unit, from) = (units[index], index * self.unit_len());
            let at = start + from as u64;
            let alike = units[index..].iter().take_while(|next| **next == unit).count();
            let end = ((index + alike) * self.unit_len()).min(len);
            let run = (end - from) as u64;
            index += alike;
            match unit {
                Unit::Zero => drop(self.reserve(at, Piece::Zero(run))?),
                Unit::Backing => drop(self.reserve(at, Piece::Backing(run))?),
                Unit::Plain => self.place_plain(start, from, end, writes)?,
                Unit::Packed(size) => {
                    for number in 0..alike as u64 {
                        let at = at + number * self.unit;
                        if let Some(slot) = self.reserve(at, Piece::Packed(size as u64))? {
                            let offset = slot.offset;
                            push(
                                writes,
                                Write { packed: true, from: packed_from, len: size, offset },
                            );
                        }
                        packed_from += size;
                    }
                }
            }
        }
        Ok(())
    }

    fn place_plain(
        &self,
        start: u64,
        from: usize,
        end: usize,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let mut from = from;
        while from < end {
            let Some(slot) =
                self.reserve(start + from as u64, Piece::Plain((end - from) as u64))?
            else {
                return Ok(());
            };
            let len = usize::try_from(slot.len).unwrap_or(usize::MAX).min(end - from);
            if len == 0 {
                return Err(Error::invalid("the writer gave no room"));
            }
            push(writes, Write { packed: false, from, len, offset: slot.offset });
            from += len;
        }
        Ok(())
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        self.writer.reserve(start, piece)
    }

    fn reserve_zeros(&self, start: u64, len: u64) -> Result<()> {
        if len > 0 { self.reserve(start, Piece::Zero(len)).map(drop) } else { Ok(()) }
    }

    /// Writes bytes, but for the runs of zeros in them where the file has zeros already.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let target = self.writer.target();
        let stage = self.options.stage;
        if stage == Stage::Tables {
            target.foresee(Span::new(offset, bytes.len() as u64)?);
            return Ok(());
        }
        let whole = self.sparse == 0 || stage == Stage::Whole;
        if whole || !target.is_fresh() || !self.writer.leaves_holes() {
            target.put(offset, bytes)?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        let hole = usize::try_from(self.sparse).unwrap_or(usize::MAX);
        for range in data_runs(bytes, hole) {
            let at = offset + range.start as u64;
            target.put(at, &bytes[range.clone()])?;
            self.written.fetch_add(range.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Hands a stretch of a file on without reading it.
    fn share(&self, crew: &Crew, bench: &mut Bench, file: usize, offset: u64) -> Result<()> {
        let Portion { number, start, len, zeros, .. } = bench.portion;
        let place = || {
            let (mut slots, mut done) = (Vec::new(), 0);
            while done < len {
                let Some(slot) = self.reserve(start + done, Piece::Plain(len - done))? else {
                    break;
                };
                slots.push((done, slot));
                done += slot.len.max(1);
            }
            self.reserve_zeros(start + len, zeros)?;
            Ok(slots)
        };
        let Some(slots) = crew.in_turn(number, place)? else { return Ok(()) };
        let source = &*self.image.files()[file];
        for (done, slot) in slots {
            let size = slot.len.min(len - done);
            let (target, from) = (self.writer.target(), offset + done);
            if target.share(source, from, slot.offset, size).is_err() {
                self.carry(
                    bench,
                    Extent {
                        start: 0,
                        len: size,
                        place: Place::Data { file, offset: from },
                        depth: 0,
                    },
                    slot.offset,
                )?;
            }
            self.read.fetch_add(size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies a stretch of a file through the buffer.
    fn carry(&self, bench: &mut Bench, extent: Extent, offset: u64) -> Result<()> {
        let mut done = 0;
        while done < extent.len {
            let part = extent.clip(done, (done + PORTION).min(extent.len));
            let len = usize::try_from(part.len).expect("a portion at most");
            bench.reader.fetch(self.image.files(), &part, &mut bench.bytes[..len])?;
            self.write(&bench.bytes[..len], offset + done)?;
            done += part.len;
        }
        Ok(())
    }

    fn unit_len(&self) -> usize {
        usize::try_from(self.unit).expect("a unit is a few MiB")
    }
}

fn extent_len(extent: &Extent) -> usize {
    usize::try_from(extent.len).expect("a portion of data is small")
}

/// A packed unit says how long it is at most, and where the next one begins it ends at the latest:
/// what lies between would be carried along, and grow from copy to copy.
fn without_slack(mut packed: Packed, next: Option<Place>) -> Packed {
    if let Some(Place::Packed(next)) = next
        && next.file == packed.file
        && (packed.offset + 1..packed.offset + packed.len).contains(&next.offset)
    {
        packed.len = next.offset - packed.offset;
    }
    packed
}

fn fetch_base(base: &dyn Image, bench: &mut Bench, len: usize) -> Result<()> {
    let start = bench.portion.start;
    let buffer = bench.base.get_or_insert_with(|| Buffer::new(len));
    buffer.reserve(len);
    let there = base.disk_size().saturating_sub(start);
    let there = usize::try_from(there).unwrap_or(usize::MAX).min(len);
    base.read(start, &mut buffer[..there])?;
    buffer[there..len].fill(0);
    Ok(())
}

/// Adds a write to the list, as part of the last one where it goes on.
fn push(writes: &mut Vec<Write>, next: Write) {
    match writes.last_mut() {
        Some(last)
            if last.packed == next.packed
                && last.from + last.len == next.from
                && last.offset + last.len as u64 == next.offset =>
        {
            last.len += next.len;
        }
        _ => writes.push(next),
    }
}

/// The stretches between runs of zeros that are at least `hole` bytes long, in blocks.
pub(crate) fn data_runs(bytes: &[u8], hole: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if is_zero(block) {
            continue;
        }
        let from = index * BLOCK;
        let end = from + block.len();
        match runs.last_mut() {
            Some(last) if from - last.end < hole.max(1) => last.end = end,
            None if from < hole => runs.push(0..end),
            _ => runs.push(from..end),
        }
    }
    if let Some(last) = runs.last_mut()
        && bytes.len() - last.end < hole
    {
        last.end = bytes.len();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_of_zeros_that_are_long_enough_are_left_out() {
        let mut bytes = vec![0; 10 * BLOCK];
        bytes[2 * BLOCK] = 1;
        bytes[4 * BLOCK + 7] = 1;
        bytes[8 * BLOCK] = 1;
        let blocks = |hole: usize| -> Vec<_> {
            data_runs(&bytes, hole * BLOCK).iter().map(|r| r.start / BLOCK..r.end / BLOCK).collect()
        };
        assert_eq!(blocks(1), [2..3, 4..5, 8..9]);
        assert_eq!(blocks(2), [2..5, 8..10]);
        assert_eq!(blocks(3), [0..5, 8..10]);
        assert_eq!(blocks(100).len(), 1, "too short to skip anything");
        assert!(data_runs(&vec![0; 9 * BLOCK], BLOCK).is_empty());
    }
}
