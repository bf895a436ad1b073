//! Another size for the disk, in place; a crash in between leaves the old size or the new one, in
//! an image that says that it was not closed.

use std::sync::Arc;

use super::check::examine;
use super::clusters::{CHUNK, buffer, copy, cut, enter, entries, entry_at};
use super::inspect;
use super::layout::{ENTRY, Geometry, Header, IN_USE, IN_USE_AT, LENGTH, MAX_ENTRIES, SECTOR};
use super::repair::changeable;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Pages, Put, Source, Span, Storage};

/// `Malformed` for an image that is not sound, `Unsupported` for a bundle and an image with a
/// format extension, whose bitmaps have the old size; `Invalid` for a size that is not of whole
/// sectors.
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let source: Arc<dyn Source> = storage.clone();
    if !inspect::is_image(&*source)? {
        return Err(Error::unsupported("the size of a bundle cannot be changed"));
    }
    let mut ignore = |_| {};
    let survey = examine(&source, limits, &mut ignore)?;
    changeable(&survey)?;
    let (header, geometry) = (survey.head.header.clone(), survey.head.geometry);
    if header.ext != 0 {
        let what = "the size of an image with bitmaps cannot be changed";
        return Err(Error::unsupported(what));
    }
    if !survey.report.tally.is_clean() {
        return Err(Error::malformed(0, "it is not sound; only sound images are resized"));
    }
    if !size.is_multiple_of(SECTOR) {
        return Err(Error::invalid(format!("a disk of {size} bytes: sizes are multiples of 512")));
    }
    let needed = size.div_ceil(geometry.cluster);
    let too_many = header.is_old() && (size / SECTOR) >> 32 != 0;
    if needed > u64::from(MAX_ENTRIES) || too_many {
        let what = format!("{size} bytes of disk are too many for it");
        return Err(Error::limit(what));
    }
    let in_use = header.in_use;
    let mut job = Job { storage, header, geometry, end: survey.end };
    job.mark(IN_USE)?;
    job.clear_behind(geometry.size.min(size))?;
    // Entries behind the end of the disk may lead somewhere all the same.
    job.fill(geometry.needed().min(needed), geometry.entries)?;
    if needed > geometry.entries {
        job.lengthen(needed)?;
    }
    job.header.sectors = size / SECTOR;
    job.write_header()?;
    job.mark(in_use)?;
    job.cut_off()
}

struct Job {
    storage: Arc<dyn Storage>,
    header: Header,
    geometry: Geometry,
    /// Where the last cluster in use ends.
    end: u64,
}

impl Job {
    fn pages(&self) -> Pages {
        let source: Arc<dyn Source> = self.storage.clone();
        Pages::new(source)
    }

    fn mark(&self, in_use: u32) -> Result<()> {
        self.storage.put(IN_USE_AT, &in_use.to_le_bytes())?;
        self.storage.settle()
    }

    /// What lies behind the end of the disk in its last cluster must not show when it grows.
    fn clear_behind(&self, size: u64) -> Result<()> {
        let (last, rest) = (size / self.geometry.cluster, size % self.geometry.cluster);
        if rest == 0 {
            return Ok(());
        }
        let mut place = None;
        entries(&self.pages(), self.geometry, last..last + 1, |_, _, offset| {
            place = Some(offset);
            Ok(())
        })?;
        let Some(place) = place else { return Ok(()) };
        let fail = |error| Error::io("cannot write zeros", error).at(place + rest);
        let tail = Span::new(place + rest, self.geometry.cluster - rest)?;
        self.storage.zero(tail).map_err(fail)?;
        if Source::len(&*self.storage) < tail.end() {
            self.storage.set_len(tail.end()).map_err(fail)?;
        }
        self.storage.settle()
    }

    /// Entries for more clusters: room for them is made where the first clusters lie, which move
    /// to the end. The header tells of them later.
    fn lengthen(&mut self, needed: u64) -> Result<()> {
        let old = self.geometry;
        let table_end = LENGTH + needed * ENTRY;
        let missing = table_end.saturating_sub(old.data);
        let data = old.data + missing.next_multiple_of(old.cluster);
        let data_sectors = u32::try_from(data / SECTOR);
        let data_sectors = data_sectors.map_err(|_| Error::limit("a table without room"))?;
        if data > old.data {
            self.move_out(data)?;
        }
        self.fill(old.entries, needed)?;
        self.header.entries = u32::try_from(needed).map_err(|_| Error::limit("too many"))?;
        // With the older magic the word may be 0, and stays right only if it is written down.
        self.header.data = data_sectors;
        (self.geometry.entries, self.geometry.data) = (needed, data);
        Ok(())
    }

    /// Moves all clusters that lie below `data` to the end of the file.
    fn move_out(&mut self, data: u64) -> Result<()> {
        let mut end = self.end.max(data);
        let (mut moved, mut buffer) = (Vec::new(), buffer());
        entries(&self.pages(), self.geometry, 0..self.geometry.entries, |index, _, offset| {
            if offset < data {
                copy(&self.storage, self.geometry, offset, end, &mut buffer)?;
                moved.push((index, end));
                end += self.geometry.cluster;
            }
            Ok(())
        })?;
        self.end = end;
        self.storage.settle()?;
        for (index, offset) in moved {
            enter(&self.storage, self.geometry, index, offset)?;
        }
        self.storage.settle()
    }

    /// Makes entries `from` up to `to` give out nothing.
    fn fill(&self, from: u64, to: u64) -> Result<()> {
        let zeros = vec![0; usize::try_from(CHUNK).expect("a MiB")];
        let (mut at, end) = (entry_at(from), entry_at(to));
        while at < end {
            let len = (end - at).min(CHUNK);
            self.storage.put(at, &zeros[..usize::try_from(len).expect("a MiB at most")])?;
            at += len;
        }
        let len = Source::len(&*self.storage);
        let wanted = end.next_multiple_of(self.geometry.unit.max(SECTOR));
        if len < wanted {
            let fail = |error| Error::io("cannot make room", error);
            self.storage.set_len(wanted).map_err(fail)?;
        }
        self.storage.settle()
    }

    /// Cuts off what no entry leads to any more.
    fn cut_off(&self) -> Result<()> {
        let mut end = self.geometry.data;
        entries(&self.pages(), self.geometry, 0..self.geometry.entries, |_, _, offset| {
            end = end.max(offset + self.geometry.cluster);
            Ok(())
        })?;
        cut(&self.storage, end)
    }

    /// All but the mark, in one write inside one sector.
    fn write_header(&self) -> Result<()> {
        let header = Header { in_use: IN_USE, ..self.header.clone() };
        self.storage.put(0, &header.to_bytes())?;
        self.storage.settle()
    }
}
