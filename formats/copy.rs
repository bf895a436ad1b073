//! Read, encode, place, write.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::codec::Encoder;
use crate::base::error::{Error, Kind, Result};
use crate::base::model::extent::{Extent, Packed, Place};
use crate::base::model::image::{Image, Reader};
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{BLOCK, Buffer, Put, Span};
use crate::digesting::Mark;
use crate::holes::joined;
use crate::plan::{PORTION, Plan, Portion, Run};
use crate::pool::{Crew, Unwatched, Watch, default_threads};
use crate::slate::Slate;

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
    bytes: Slate,
    base: Option<Buffer>,
    packed: Vec<u8>,
    /// Units that were packed already, before they are put between the others, and where the next
    /// one of them begins.
    passed: Vec<u8>,
    next_passed: usize,
    units: Vec<Unit>,
    /// Blocks of plain units that are not zero: where they are among the bytes.
    data: Vec<Range<usize>>,
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
            bytes: Slate::new(to_usize(PORTION.max(self.unit))),
            base: None,
            packed: Vec::new(),
            passed: Vec::new(),
            next_passed: 0,
            units: Vec::new(),
            data: Vec::new(),
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
                let (number, end) = (bench.portion.number, bench.portion.end());
                let start = bench.portion.runs.first().map_or(end, |run| run.start);
                crew.in_turn(number, || self.reserve_zeros(start, end - start))?;
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
        let end = portion.end();
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
        let len = usize::try_from(bench.portion.len()).expect("a portion of data is small");
        bench.bytes.begin(len);
        self.fetch(bench, len)?;
        for index in 0..bench.portion.runs.len() {
            self.sort(bench, bench.portion.runs[index])?;
        }
        bench.writes.clear();
        let Bench { portion, units, digests, writes, .. } = &mut *bench;
        let place = || {
            for (start, digest) in digests {
                self.writer.identify(*start, *digest);
            }
            let mut packed_from = 0;
            for run in &portion.runs {
                self.place(run, units, &mut packed_from, writes)?;
                self.reserve_zeros(run.end(), run.zeros)?;
            }
            Ok(())
        };
        if crew.in_turn(portion.number, place)?.is_none() {
            return Ok(());
        }
        for write in &bench.writes {
            let (range, offset) = (write.from..write.from + write.len, write.offset);
            match write.packed {
                true => self.write(&bench.packed[range], offset)?,
                false => self.write_plain(bench, range, offset)?,
            }
        }
        Ok(())
    }

    /// Reads the portion; a unit that can be passed on as it is packed is kept so, too.
    fn fetch(&self, bench: &mut Bench, len: usize) -> Result<()> {
        std::mem::swap(&mut bench.packed, &mut bench.passed);
        bench.passed.clear();
        bench.packed.clear();
        bench.digests.clear();
        bench.data.clear();
        bench.next_passed = 0;
        bench.units.clear();
        bench.units.resize(len.div_ceil(self.unit_len()), Unit::Plain);
        let mut next_run = 0;
        for index in 0..bench.portion.extents.len() {
            let extent = bench.portion.extents[index];
            while bench.portion.runs[next_run].end() <= extent.start {
                next_run += 1;
            }
            let run = bench.portion.runs[next_run];
            let from = usize::try_from(run.from + extent.start - run.start).expect("inside");
            if let Place::Packed(packed) = extent.place
                && self.passes_on(&extent, &packed, from)
            {
                let next = bench.portion.extents.get(index + 1).map(|next| next.place);
                self.fetch_passed(bench, &extent, without_slack(packed, next), from)?;
                self.read.fetch_add(extent.len, Ordering::Relaxed);
            } else if extent.is_zero() {
                bench.bytes.wipe(from..from + to_usize(extent.len));
            } else {
                let out = bench.bytes.write(from..from + to_usize(extent.len));
                bench.reader.fetch(self.image.files(), &extent, out)?;
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
        let out = bench.bytes.write(from..from + to_usize(extent.len));
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
            bench.passed.extend_from_slice(bytes);
            bench.units[from / self.unit_len()] = Unit::Packed(bytes.len());
        }
        Ok(())
    }

    /// Says of each unit of a run what is to become of it, and packs those that are.
    fn sort(&self, bench: &mut Bench, run: Run) -> Result<()> {
        let (from, unit) = (to_usize(run.from), self.unit_len());
        let end = from + to_usize(run.len);
        for index in from / unit..end.div_ceil(unit) {
            let range = index * unit..((index + 1) * unit).min(end);
            let at = run.start + (range.start - from) as u64;
            bench.units[index] = self.sort_unit(bench, bench.units[index], range, at)?;
        }
        Ok(())
    }

    /// What is to become of the unit in this part of the buffer, which begins at `at` on the disk.
    fn sort_unit(
        &self,
        bench: &mut Bench,
        unit: Unit,
        range: Range<usize>,
        at: u64,
    ) -> Result<Unit> {
        if let Unit::Packed(size) = unit {
            let from = bench.next_passed;
            bench.packed.extend_from_slice(&bench.passed[from..from + size]);
            bench.next_passed += size;
            self.digest(bench, range, at);
            return Ok(unit);
        }
        let same = |base: &Buffer| base[range.clone()] == bench.bytes[range.clone()];
        if bench.base.as_ref().is_some_and(same) {
            return Ok(Unit::Backing);
        }
        let before = bench.data.len();
        let packs = self.writer.packing().is_some();
        let looks = !packs && self.leaves_holes();
        if looks {
            bench.bytes.add_data(range.clone(), &mut bench.data);
        }
        let is_zero = || match looks {
            true => bench.data.len() == before,
            false => bench.bytes.is_zero(range.clone()),
        };
        if self.sparse > 0 && is_zero() {
            return Ok(Unit::Zero);
        }
        self.digest(bench, range.clone(), at);
        if !packs {
            return Ok(Unit::Plain);
        }
        // The last unit of a disk is packed whole, padded with zeros.
        let end = range.start + self.unit_len();
        bench.bytes.wipe(range.end..end);
        let (bytes, encoder) = (&bench.bytes[range.start..end], &mut bench.encoder);
        let before = bench.packed.len();
        if self.writer.encode(at, bytes, encoder, &mut bench.packed)? {
            return Ok(Unit::Packed(bench.packed.len() - before));
        }
        if self.leaves_holes() {
            bench.bytes.add_data(range, &mut bench.data);
        }
        Ok(Unit::Plain)
    }

    /// Digests a unit with data, if the writer wants to know: its blocks that are not zero, and
    /// where they are in it.
    fn digest(&self, bench: &mut Bench, range: Range<usize>, at: u64) {
        if !self.writer.is_identified() {
            return;
        }
        let known = bench.data.partition_point(|data| data.start < range.start);
        let mut found = Vec::new();
        if known == bench.data.len() {
            bench.bytes.add_data(range.clone(), &mut found);
        }
        let mut hasher = crc32fast::Hasher::new();
        for data in bench.data[known..].iter().chain(&found) {
            hasher.update(&((data.start - range.start) as u64).to_le_bytes());
            hasher.update(&bench.bytes[data.clone()]);
        }
        bench.digests.push((at, hasher.finalize()));
    }

    /// Reserves places for the units of a run, those of one kind that follow each other together.
    fn place(
        &self,
        run: &Run,
        units: &[Unit],
        packed_from: &mut usize,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let (first, unit_len) = (to_usize(run.from), self.unit_len());
        let last = first + to_usize(run.len);
        let units = &units[..last.div_ceil(unit_len)];
        let mut index = first / unit_len;
        while index < units.len() {
            let (unit, from) = (units[index], index * unit_len);
            let at = run.start + (from - first) as u64;
            let alike = units[index..].iter().take_while(|next| **next == unit).count();
            let end = ((index + alike) * unit_len).min(last);
            let len = (end - from) as u64;
            index += alike;
            match unit {
                Unit::Zero => drop(self.reserve(at, Piece::Zero(len))?),
                Unit::Backing => drop(self.reserve(at, Piece::Backing(len))?),
                Unit::Plain => self.place_plain(at, from..end, writes)?,
                Unit::Packed(size) => {
                    for number in 0..alike as u64 {
                        let at = at + number * self.unit;
                        if let Some(slot) = self.reserve(at, Piece::Packed(size as u64))? {
                            let (from, offset) = (*packed_from, slot.offset);
                            push(writes, Write { packed: true, from, len: size, offset });
                        }
                        *packed_from += size;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reserves places for these bytes of the buffer, which begin at `at` on the disk.
    fn place_plain(&self, at: u64, bytes: Range<usize>, writes: &mut Vec<Write>) -> Result<()> {
        let (mut at, mut from) = (at, bytes.start);
        while from < bytes.end {
            let left = bytes.end - from;
            let Some(slot) = self.reserve(at, Piece::Plain(left as u64))? else { return Ok(()) };
            let len = usize::try_from(slot.len).unwrap_or(usize::MAX).min(left);
            if len == 0 {
                return Err(Error::invalid("the writer gave no room"));
            }
            push(writes, Write { packed: false, from, len, offset: slot.offset });
            (at, from) = (at + len as u64, from + len);
        }
        Ok(())
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        self.writer.reserve(start, piece)
    }

    fn reserve_zeros(&self, start: u64, len: u64) -> Result<()> {
        if len > 0 { self.reserve(start, Piece::Zero(len)).map(drop) } else { Ok(()) }
    }

    /// Whether zeros within data are left out, since the file has zeros already.
    fn leaves_holes(&self) -> bool {
        let all = self.options.stage == Stage::All;
        self.sparse > 0 && all && self.writer.target().is_fresh() && self.writer.leaves_holes()
    }

    /// Writes bytes of the portion, but for the runs of zeros in them that the file has already.
    fn write_plain(&self, bench: &Bench, range: Range<usize>, offset: u64) -> Result<()> {
        if !self.leaves_holes() {
            return self.write(&bench.bytes[range], offset);
        }
        let hole = usize::try_from(self.sparse).unwrap_or(usize::MAX);
        for data in joined(&bench.data, range.clone(), hole) {
            let at = offset + (data.start - range.start) as u64;
            self.write(&bench.bytes[data], at)?;
        }
        Ok(())
    }

    /// Writes bytes, or tells the target where they would be.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let target = self.writer.target();
        if self.options.stage == Stage::Tables {
            target.foresee(Span::new(offset, bytes.len() as u64)?);
            return Ok(());
        }
        target.put(offset, bytes)?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Hands a stretch of a file on without reading it.
    fn share(&self, crew: &Crew, bench: &mut Bench, file: usize, offset: u64) -> Result<()> {
        let number = bench.portion.number;
        let Some(Run { start, len, zeros, .. }) = bench.portion.runs.first().copied() else {
            return Ok(());
        };
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
            let len = to_usize(part.len);
            bench.bytes.begin(len);
            bench.reader.fetch(self.image.files(), &part, bench.bytes.write(0..len))?;
            bench.data.clear();
            bench.bytes.add_data(0..len, &mut bench.data);
            self.write_plain(bench, 0..len, offset + done)?;
            done += part.len;
        }
        Ok(())
    }

    fn unit_len(&self) -> usize {
        usize::try_from(self.unit).expect("a unit is a few MiB")
    }
}

/// A length or place within a portion.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a portion of data is small")
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
    let buffer = bench.base.get_or_insert_with(|| Buffer::new(len));
    buffer.reserve(len);
    for run in &bench.portion.runs {
        let there = base.disk_size().saturating_sub(run.start).min(run.len);
        let (from, there) = (to_usize(run.from), to_usize(there));
        base.read(run.start, &mut buffer[from..from + there])?;
        buffer[from + there..from + to_usize(run.len)].fill(0);
    }
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
