//! The log: changes that were promised and may not have been made yet.
//!
//! It is a ring of sectors. An entry says which stretches of the file become zeros and which
//! sectors become which bytes; a sequence of entries, each behind the one before, is active if its
//! last one has the highest number of all. Here it is never written into the file: what the file
//! would hold after a replay is read through it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::layout::{
    DESCRIPTOR_LEN, Descriptor, Guid, HEADER_LEN, HEADERS, Header, LOG_HEADER_LEN, LOG_SECTOR,
    LogEntry, MIB, checksum_of, parse,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Source, Span, Window};

/// Bytes of a sector of the log, and of the file.
const SECTOR: u64 = LOG_SECTOR as u64;
/// What a replay may not touch: the file's identifier and its headers.
const KEPT: u64 = HEADERS[1] + HEADER_LEN as u64;
/// How often all bytes of the log may be summed, and all its entries be followed, to find the
/// active sequence; once is what a sound log takes.
const PATIENCE: usize = 8;

/// The changes of the active sequence.
pub(super) struct Log {
    /// The ring, with sectors of data made whole.
    ring: Vec<u8>,
    /// By where they begin in the file; none overlaps another.
    changes: BTreeMap<u64, Change>,
    /// Where the ring lies in the file.
    place: Span,
    /// The file was at least so long.
    flushed: u64,
    /// The file is to be at least so long.
    last: u64,
}

/// What becomes of a stretch of the file.
#[derive(Debug, Clone, Copy)]
struct Change {
    end: u64,
    /// Where in the ring its bytes are; zeros if they are nowhere.
    from: Option<usize>,
}

/// Where the log lies; `Malformed` if it cannot lie there.
pub(super) fn place(header: &Header) -> Result<Span> {
    let (offset, length) = (header.log_offset, u64::from(header.log_length));
    if offset % MIB != 0 || offset == 0 || length % MIB != 0 || length == 0 {
        let what =
            format!("the log has {length} bytes at {offset:#x}, not whole MiB behind the headers");
        return Err(Error::malformed(offset, what));
    }
    Span::new(offset, length)
}

impl Log {
    /// The log of a file with this header; `None` if it is empty. `Malformed` if there should be
    /// something in it and is not.
    pub(super) fn read(
        window: &dyn Window,
        header: &Header,
        limits: &Limits,
    ) -> Result<Option<Log>> {
        if header.log == [0; 16] {
            return Ok(None);
        }
        if header.log_version != 0 {
            return Err(Error::unsupported(format!("a log of version {}", header.log_version)));
        }
        let place = place(header)?;
        let ring = window.bytes(place, "the log", limits)?;
        let entries = Entries::find(&ring, header.log, place)?;
        let sequence = entries.active(place)?;
        let (flushed, last) = sequence.last().map_or((0, 0), |(_, head)| (head.flushed, head.last));
        let mut log = Log { ring, changes: BTreeMap::new(), place, flushed, last };
        let mut left = limits.max_entries;
        for (at, entry) in &sequence {
            left = left.checked_sub(u64::from(entry.descriptors)).ok_or_else(|| {
                let most = limits.max_entries;
                Error::limit(format!("the log makes more than {most} changes")).at(place.start())
            })?;
            log.take(*at, entry)?;
        }
        Ok(Some(log))
    }

    /// Adds what an entry changes.
    fn take(&mut self, at: usize, entry: &LogEntry) -> Result<()> {
        let place = self.place;
        let fail = |what: String| Error::malformed(place.start() + at as u64, what);
        let count = usize::try_from(entry.descriptors).expect("it fits the entry");
        let front = front_sectors(count);
        let sectors = usize::try_from(entry.length).expect("it fits the log") / LOG_SECTOR;
        let mut changes = Vec::new();
        let mut next = front;
        for index in 0..count {
            let here = self.wrap(at + LOG_HEADER_LEN + index * DESCRIPTOR_LEN);
            let descriptor = parse(&self.ring[here..here + DESCRIPTOR_LEN]);
            match descriptor {
                Some(Descriptor::Zero { length, offset, sequence, .. })
                    if sequence == entry.sequence =>
                {
                    changes.push((Span::new(offset, length)?, None));
                }
                Some(Descriptor::Data { trailing, leading, offset, sequence })
                    if sequence == entry.sequence && next < sectors =>
                {
                    let sector = self.wrap(at + next * LOG_SECTOR);
                    next += 1;
                    if !is_data(&self.ring[sector..sector + LOG_SECTOR], sequence) {
                        return Err(fail(format!(
                            "sector {next} of a log entry is none of its data"
                        )));
                    }
                    self.ring[sector..sector + 8].copy_from_slice(&leading);
                    self.ring[sector + LOG_SECTOR - 4..sector + LOG_SECTOR]
                        .copy_from_slice(&trailing);
                    changes.push((Span::new(offset, SECTOR)?, Some(sector)));
                }
                _ => {
                    return Err(fail(format!(
                        "descriptor {index} of a log entry is none of its own"
                    )));
                }
            }
        }
        if next != sectors {
            return Err(fail(format!("a log entry of {sectors} sectors uses {next} of them")));
        }
        for (span, from) in changes {
            let odd = span.start() % SECTOR != 0 || span.len() % SECTOR != 0;
            if odd || span.start() < KEPT || span.overlaps(place) {
                let (start, len) = (span.start(), span.len());
                return Err(fail(format!(
                    "the log changes {len} bytes at {start:#x}, which it may not"
                )));
            }
            self.cover(span, from);
        }
        Ok(())
    }

    /// A place in the ring, which goes on at its front.
    fn wrap(&self, at: usize) -> usize {
        at % self.ring.len()
    }

    /// Makes a stretch of the file this, whatever it was before.
    fn cover(&mut self, span: Span, from: Option<usize>) {
        let (start, end) = (span.start(), span.end());
        if span.is_empty() {
            return;
        }
        let rest = |begin: u64, old: Change| {
            let skip = usize::try_from(end - begin).unwrap_or(usize::MAX);
            Change { end: old.end, from: old.from.map(|from| from + skip) }
        };
        if let Some((&before, change)) = self.changes.range_mut(..start).next_back()
            && change.end > start
        {
            let old = *change;
            change.end = start;
            if old.end > end {
                self.changes.insert(end, rest(before, old));
            }
        }
        while let Some((&begin, &old)) = self.changes.range(start..end).next() {
            self.changes.remove(&begin);
            if old.end > end {
                self.changes.insert(end, rest(begin, old));
            }
        }
        self.changes.insert(start, Change { end, from });
    }

    /// Makes bytes of the file what they are after a replay.
    pub(super) fn patch(&self, offset: u64, buf: &mut [u8]) {
        let end = offset.saturating_add(buf.len() as u64);
        let before = self.changes.range(..offset).next_back();
        for (&start, change) in before.into_iter().chain(self.changes.range(offset..end)) {
            let (from, to) = (start.max(offset), change.end.min(end));
            if from >= to {
                continue;
            }
            let inside = |at: u64, base: u64| usize::try_from(at - base).expect("inside a buffer");
            let out = &mut buf[inside(from, offset)..inside(to, offset)];
            match change.from {
                None => out.fill(0),
                Some(at) => {
                    let at = at + inside(from, start);
                    out.copy_from_slice(&self.ring[at..at + out.len()]);
                }
            }
        }
    }

    /// Every change, in the order of the file; zeros where there are no bytes.
    pub(super) fn changes(&self) -> impl Iterator<Item = (Span, Option<&[u8]>)> {
        self.changes.iter().map(|(&start, change)| {
            let span = Span::new(start, change.end - start).expect("its end is known");
            let len = usize::try_from(span.len()).unwrap_or(usize::MAX);
            (span, change.from.map(|from| &self.ring[from..from + len]))
        })
    }

    /// How long a file of this length is after a replay. `Truncated` if it is shorter than it was
    /// when the log was written, `Malformed` if the log writes behind the end that it gives.
    pub(super) fn len_after(&self, len: u64, limits: &Limits) -> Result<u64> {
        let start = self.place.start();
        if len < self.flushed {
            let what = format!("the file had {} bytes when its log was written", self.flushed);
            return Err(Error::truncated(len, what));
        }
        let after = len.max(self.last);
        if after - len > limits.ratio_floor {
            let what = format!("the log makes the file of {len} bytes one of {after}");
            return Err(Error::limit(what).at(start));
        }
        let end = self.changes.last_key_value().map_or(0, |(_, change)| change.end);
        if end > after {
            let what = format!("the log writes up to {end:#x}, and the file ends at {after:#x}");
            return Err(Error::malformed(start, what));
        }
        Ok(after)
    }
}

/// Sectors of an entry before those of its data.
fn front_sectors(descriptors: usize) -> usize {
    (LOG_HEADER_LEN + descriptors * DESCRIPTOR_LEN).div_ceil(LOG_SECTOR)
}

/// Whether a sector of the log holds data of an entry with this number.
fn is_data(sector: &[u8], sequence: u64) -> bool {
    let number = sequence.to_le_bytes();
    sector.starts_with(b"data")
        && sector[4..8] == number[4..]
        && sector[LOG_SECTOR - 4..] == number[..4]
}

/// The sound entries of a log, by where they lie in it.
struct Entries {
    found: HashMap<usize, LogEntry>,
    len: usize,
}

impl Entries {
    /// Looks at the front of every sector.
    fn find(ring: &[u8], guid: Guid, place: Span) -> Result<Entries> {
        let mut left = ring.len().saturating_mul(PATIENCE);
        let mut found = HashMap::new();
        for at in (0..ring.len()).step_by(LOG_SECTOR) {
            let Some(entry) = parse::<LogEntry>(&ring[at..]) else { continue };
            let Some(len) = plausible(&entry, guid, ring.len()) else { continue };
            left = left.checked_sub(len).ok_or_else(|| too_tangled(place))?;
            let straight = len.min(ring.len() - at);
            let sum = checksum_of(&ring[at..at + straight], &ring[..len - straight]);
            if sum == entry.checksum {
                found.insert(at, entry);
            }
        }
        Ok(Entries { found, len: ring.len() })
    }

    /// The active sequence: its entries, the oldest one first.
    fn active(&self, place: Span) -> Result<Vec<(usize, LogEntry)>> {
        let mut heads: Vec<_> = self.found.iter().collect();
        heads.sort_by_key(|(at, entry)| (std::cmp::Reverse(entry.sequence), **at));
        let mut left = (self.len / LOG_SECTOR).saturating_mul(PATIENCE);
        for (head, entry) in heads {
            let mut sequence = Vec::new();
            let mut at = usize::try_from(entry.tail).expect("inside the log");
            let mut room = self.len;
            let mut number = None;
            while let Some(next) = self.found.get(&at) {
                let len = usize::try_from(next.length).expect("inside the log");
                let follows =
                    number.is_none_or(|number| next.sequence.checked_sub(1) == Some(number));
                if !follows || len > room || next.sequence > entry.sequence {
                    break;
                }
                left = left.checked_sub(1).ok_or_else(|| too_tangled(place))?;
                sequence.push((at, next.clone()));
                if at == *head {
                    return Ok(sequence);
                }
                room -= len;
                number = Some(next.sequence);
                at = (at + len) % self.len;
            }
        }
        Err(Error::malformed(place.start(), "the header tells of a log, and there is none in it"))
    }
}

fn too_tangled(place: Span) -> Error {
    Error::limit("the entries of the log overlap too often").at(place.start())
}

/// The bytes of an entry that may be one of this log.
fn plausible(entry: &LogEntry, guid: Guid, ring: usize) -> Option<usize> {
    let len = usize::try_from(entry.length).ok()?;
    let tail = usize::try_from(entry.tail).ok()?;
    let descriptors = usize::try_from(entry.descriptors).ok()?;
    let fits = len % LOG_SECTOR == 0 && len <= ring && tail % LOG_SECTOR == 0 && tail < ring;
    let holds =
        descriptors <= len / DESCRIPTOR_LEN && front_sectors(descriptors) * LOG_SECTOR <= len;
    (entry.guid == guid && entry.sequence > 0 && fits && holds).then_some(len)
}

/// A window through which a file looks as it will after a replay.
pub(super) struct Replayed<'a> {
    pub(super) window: &'a dyn Window,
    pub(super) log: Option<&'a Log>,
}

impl Window for Replayed<'_> {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(log) = self.log else { return self.window.read(offset, buf) };
        let end = offset.saturating_add(buf.len() as u64);
        match self.window.total() {
            Some(total) if end > total && end <= log.last => {
                let there = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX);
                let (front, rest) = buf.split_at_mut(there.min(buf.len()));
                self.window.read(offset, front)?;
                rest.fill(0);
            }
            _ => self.window.read(offset, buf)?,
        }
        log.patch(offset, buf);
        Ok(())
    }

    fn total(&self) -> Option<u64> {
        let len = self.window.total()?;
        Some(self.log.map_or(len, |log| len.max(log.last)))
    }

    fn expect(&self, offset: u64, len: u64) {
        self.window.expect(offset, len);
    }
}

/// A file as it will be after a replay.
pub(super) struct Overlay {
    source: Arc<dyn Source>,
    log: Log,
    len: u64,
}

impl Overlay {
    /// `source` with the changes of its log; fails as [`Log::len_after`] does.
    pub(super) fn new(source: Arc<dyn Source>, log: Log, limits: &Limits) -> Result<Overlay> {
        let len = log.len_after(source.len(), limits)?;
        Ok(Overlay { source, log, len })
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let clip = |end: u64| usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut len = clip(self.len).min(buf.len());
        let there = clip(self.source.len());
        if there > 0 && len > 0 {
            len = self.source.read_at(offset, &mut buf[..len.min(there)])?;
        } else {
            buf[..len].fill(0);
        }
        self.log.patch(offset, &mut buf[..len]);
        Ok(len)
    }

    fn still_whole(&self) -> Result<()> {
        self.source.still_whole()
    }

    fn name(&self) -> String {
        self.source.name()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.source.identity()
    }
}
