//! Another size for the disk, in place; a crash in between leaves the old size or the new one.

use std::sync::Arc;

use super::blocks::{buffer, compact, copy, entries};
use super::check::{Survey, examine};
use super::layout::{DIFFERENCING, ENTRY, Entry, FIXED, FREE, Header};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Pages, Put, Source, Span, Storage, Window};

/// Bytes of entries that are written at once.
const CHUNK: usize = 1 << 20;

/// `Malformed` for an image that is not sound, `Unsupported` for one with a parent or of the old
/// version, `Invalid` for a size that is not of whole sectors.
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let source: Arc<dyn Source> = storage.clone();
    let mut ignore = |_| {};
    let survey = examine(&source, limits, &mut ignore)?;
    let header = &survey.header;
    if header.old || header.kind == DIFFERENCING {
        let what = "the size of a vdi image with a parent or of the old version cannot be changed";
        return Err(Error::unsupported(what));
    }
    if !survey.report.tally.is_clean() {
        return Err(Error::malformed(0, "it is not sound; only sound images are resized"));
    }
    if !size.is_multiple_of(512) {
        return Err(Error::invalid(format!("a disk of {size} bytes: sizes are multiples of 512")));
    }
    let blocks = size.div_ceil(header.block);
    if blocks * ENTRY > limits.max_table || blocks > u64::from(FREE) - 1 {
        let what = format!("{size} bytes of disk are too many for blocks of {}", header.block);
        return Err(Error::limit(what));
    }
    let mut job = Job { storage, header: survey.header.clone() };
    if size < header.size {
        job.shrink(&survey, size, blocks)
    } else {
        job.grow(&survey, size, blocks)
    }
}

struct Job {
    storage: Arc<dyn Storage>,
    header: Header,
}

impl Job {
    fn pages(&self) -> Pages {
        let source: Arc<dyn Source> = self.storage.clone();
        Pages::new(source)
    }

    fn grow(&mut self, survey: &Survey, size: u64, blocks: u64) -> Result<()> {
        self.clear_behind(self.header.size)?;
        let old = self.header.needed();
        let mut end = survey.end;
        if (self.header.data - self.header.map) / ENTRY < blocks {
            end = self.make_room(end, blocks)?;
        }
        let fixed = self.header.kind == FIXED;
        let first = fixed.then_some(end);
        self.fill(old, blocks, first)?;
        if fixed {
            self.add_zeros(end, end + blocks - old)?;
            end += blocks - old;
        }
        self.storage.settle()?;
        self.write_header(size, blocks.max(self.header.blocks), end)
    }

    fn shrink(&mut self, survey: &Survey, size: u64, blocks: u64) -> Result<()> {
        let mut dropped = 0;
        entries(&self.pages(), &self.header, |index, _, entry| {
            dropped += u64::from(index >= blocks && matches!(entry, Entry::Block(_)));
            Ok(())
        })?;
        self.fill(blocks, self.header.needed(), None)?;
        self.storage.settle()?;
        compact(&self.storage, &self.header, survey.used - dropped)?;
        self.write_header(size, blocks, survey.used - dropped)?;
        self.clear_behind(size)
    }

    /// Moves blocks from the front to the end, so that a new map has room where they were. The old
    /// map stays as it is until the header knows the new one. Returns how many blocks there are
    /// then, as the new map counts.
    fn make_room(&mut self, end: u64, blocks: u64) -> Result<u64> {
        let old = self.header.clone();
        let gone = (blocks * ENTRY).div_ceil(old.stride());
        let data = old.end_of(gone).filter(|data| u32::try_from(*data).is_ok());
        let Some(data) = data else {
            return Err(Error::limit(format!("a map for {blocks} blocks has no room")));
        };
        let mut next = end.max(gone);
        let (mut buffer, mut moved) = (buffer(), Vec::new());
        entries(&self.pages(), &old, |_, at, entry| {
            let Entry::Block(number) = entry else { return Ok(()) };
            if u64::from(number) >= gone {
                return Ok(());
            }
            moved.push((at, u32::try_from(next).unwrap_or(FREE)));
            next += 1;
            copy(&self.storage, &old, number.into(), next - 1, &mut buffer)
        })?;
        let count = u32::try_from(next).ok().filter(|count| *count < FREE - 1);
        let count = count.ok_or_else(|| Error::limit("too many blocks"))?;
        self.storage.settle()?;
        for (at, number) in moved {
            self.storage.put(at, &number.to_le_bytes())?;
        }
        self.storage.put(old.fields().allocated, &count.to_le_bytes())?;
        self.storage.settle()?;
        self.move_map(&old, gone, data)?;
        Ok(next - gone)
    }

    /// Writes the map anew where the first `gone` blocks were, and says so in the header.
    fn move_map(&mut self, old: &Header, gone: u64, data: u64) -> Result<()> {
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        let mut map: Vec<u8> = Vec::new();
        entries(&self.pages(), old, |_, _, entry| {
            let entry = match entry {
                Entry::Block(number) => Entry::Block(number.saturating_sub(gone)),
                Entry::Free | Entry::Zero => entry,
            };
            map.extend(entry.word().to_le_bytes());
            Ok(())
        })?;
        self.storage.put(old.data, &map)?;
        self.header.map = old.data;
        self.header.data = data;
        self.storage.settle()
    }

    /// Writes entries `from` up to `to`: free, or blocks of the file from `first` on.
    fn fill(&self, from: u64, to: u64, first: Option<u64>) -> Result<()> {
        let mut at = from;
        while at < to {
            let count = (to - at).min(CHUNK as u64 / ENTRY);
            let word = |index: u64| match first {
                Some(first) => u32::try_from(first + (index - from)).unwrap_or(FREE),
                None => FREE,
            };
            let bytes: Vec<u8> = (at..at + count).flat_map(|n| word(n).to_le_bytes()).collect();
            self.storage.put(self.header.map + at * ENTRY, &bytes)?;
            at += count;
        }
        Ok(())
    }

    /// What lies behind the end of the disk in its last block must not show when it grows.
    fn clear_behind(&self, size: u64) -> Result<()> {
        let (last, rest) = (size / self.header.block, size % self.header.block);
        let mut place = None;
        entries(&self.pages(), &self.header, |index, _, entry| {
            if let (true, Entry::Block(number)) = (index == last, entry) {
                place = self.header.place(number);
            }
            Ok(())
        })?;
        let Some(place) = place.filter(|_| rest > 0) else { return Ok(()) };
        let fail = |error| Error::io("cannot write zeros", error).at(place + rest);
        let tail = Span::new(place + rest, self.header.block - rest)?;
        self.storage.zero(tail).map_err(fail)?;
        if Source::len(&*self.storage) < tail.end() {
            self.storage.set_len(tail.end()).map_err(fail)?;
        }
        self.storage.settle()
    }

    /// Blocks of zeros in the file, from one number to another, whatever lies there now.
    fn add_zeros(&self, from: u64, to: u64) -> Result<()> {
        let place = |blocks: u64| {
            self.header.end_of(blocks).ok_or_else(|| Error::limit("too large a file"))
        };
        let (from, to) = (place(from)?, place(to)?);
        let fail = |error| Error::io("cannot make room", error).at(from);
        self.storage.zero(Span::new(from, to - from)?).map_err(fail)?;
        if Source::len(&*self.storage) < to {
            self.storage.set_len(to).map_err(fail)?;
        }
        Ok(())
    }

    /// Places and counts, in one write inside one sector.
    fn write_header(&self, size: u64, blocks: u64, allocated: u64) -> Result<()> {
        let fields = self.header.fields();
        let mut bytes = vec![0; usize::try_from(fields.create - fields.map).expect("52")];
        Window::read(&*self.storage, fields.map, &mut bytes)?;
        let small = |number: u64| u32::try_from(number).map_err(|_| Error::limit("too large"));
        for (field, value) in [
            (fields.map, small(self.header.map)?),
            (fields.data, small(self.header.data)?),
            (fields.blocks, small(blocks)?),
            (fields.allocated, small(allocated)?),
        ] {
            let at = usize::try_from(field - fields.map).expect("small");
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let at = usize::try_from(fields.size - fields.map).expect("small");
        bytes[at..at + 8].copy_from_slice(&size.to_le_bytes());
        self.storage.put(fields.map, &bytes)?;
        self.storage.settle()
    }
}
