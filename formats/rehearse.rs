//! Images whose tables stand in front of their data, written from front to end.
//!
//! The same disk makes the same file every time. So the file is written twice: once without the
//! data, which tells what all its tables will hold, and then in earnest, where the tables are
//! known before their data come.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::error::{Error, Result};
use crate::base::storage::{Span, Target};

/// Zeros that are written at a time.
const ZEROS: usize = 1 << 20;

/// Takes the tables of an image that is written without its data.
#[derive(Default)]
pub struct Rehearsal {
    state: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// Where each stretch of tables begins, and its bytes; none touches another.
    stretches: BTreeMap<u64, Vec<u8>>,
    /// Where data will be: from where to where.
    data: BTreeMap<u64, u64>,
    len: u64,
}

impl Rehearsal {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target that appends to `out`, to which the same image is now written with its data.
    pub fn perform(&self, out: Arc<dyn Target>) -> Performance {
        let tables = std::mem::take(&mut *self.lock());
        Performance { tables, out }
    }
}

impl Tables {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.len = self.len.max(end);
        // What was written last holds; what it touches becomes one with it.
        let before = self.stretches.range(..=offset).next_back();
        let start = match before {
            Some((start, old)) if start + old.len() as u64 >= offset => *start,
            _ => offset,
        };
        let touched: Vec<u64> =
            self.stretches.range(start..=end).map(|(start, _)| *start).collect();
        if let [only] = touched[..]
            && only <= offset
            && let Some(old) = self.stretches.get_mut(&only)
        {
            let at = usize::try_from(offset - only).expect("inside memory");
            let keep = old.len().max(at + bytes.len());
            old.resize(keep, 0);
            old[at..at + bytes.len()].copy_from_slice(bytes);
            return;
        }
        let mut whole: Vec<u8> = Vec::new();
        for old in touched {
            let bytes = self.stretches.remove(&old).unwrap_or_default();
            let at = usize::try_from(old - start).expect("inside memory");
            whole.resize(whole.len().max(at + bytes.len()), 0);
            whole[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let at = usize::try_from(offset - start).expect("inside memory");
        whole.resize(whole.len().max(at + bytes.len()), 0);
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        self.stretches.insert(start, whole);
    }
}

impl Target for Rehearsal {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.lock().write(offset, bytes);
        }
        Ok(())
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        let mut tables = self.lock();
        tables.len = tables.len.max(span.end());
        // Tables that are there become zeros; everything else is zero.
        let (from, to) = (span.start(), span.end());
        for (start, bytes) in tables.stretches.range_mut(..to) {
            let end = start + bytes.len() as u64;
            let (from, to) = (from.max(*start), to.min(end));
            if from < to {
                let index = |place: u64| usize::try_from(place - start).expect("inside memory");
                bytes[index(from)..index(to)].fill(0);
            }
        }
        Ok(())
    }

    fn allocate(&self, _: Span) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn foresee(&self, span: Span) {
        let mut tables = self.lock();
        tables.len = tables.len.max(span.end());
        let (mut start, mut end) = (span.start(), span.end());
        if let Some((before, to)) = tables.data.range(..start).next_back()
            && *to == start
        {
            start = *before;
        }
        if let Some(to) = tables.data.remove(&end) {
            end = to;
        }
        tables.data.insert(start, end);
    }
}

/// Writes an image to a target that appends: tables as they were rehearsed, each before what
/// stands behind it.
pub struct Performance {
    tables: Tables,
    out: Arc<dyn Target>,
}

impl Performance {
    /// Whether these bytes are of a table.
    fn is_table(&self, offset: u64, len: u64) -> bool {
        let before = self.tables.stretches.range(..=offset).next_back();
        before.is_some_and(|(start, bytes)| start + bytes.len() as u64 >= offset + len)
    }

    /// Writes tables and zeros from `from` up to where `to` begins.
    fn fill(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        let first = self.tables.stretches.range(..=from).next_back().map_or(from, |(at, _)| *at);
        for (start, bytes) in self.tables.stretches.range(first..to) {
            let end = start + bytes.len() as u64;
            if end <= at {
                continue;
            }
            self.zeros(at, (*start).max(at))?;
            at = at.max(*start);
            let index = |place: u64| usize::try_from(place - start).expect("inside memory");
            let stop = end.min(to);
            self.out.write_at(at, &bytes[index(at)..index(stop)])?;
            at = stop;
        }
        self.zeros(at, to)
    }

    /// Where the data end that are in front of `offset`.
    fn data_before(&self, offset: u64) -> u64 {
        let before = self.tables.data.range(..offset).next_back();
        before.map_or(0, |(_, end)| (*end).min(offset))
    }

    /// Writes what stands behind the last data. `Io` if that fails.
    pub fn finish(&self) -> Result<()> {
        let last = self.tables.data.last_key_value().map_or(0, |(_, end)| *end);
        let fail = |error| Error::io("cannot write", error);
        self.fill(last, self.tables.len).and_then(|()| self.out.sync()).map_err(fail)
    }

    fn zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS.min(usize::try_from(to - from).unwrap_or(ZEROS))];
        let mut at = from;
        while at < to {
            let len = usize::try_from(to - at).unwrap_or(ZEROS).min(ZEROS);
            self.out.write_at(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(())
    }
}

impl Target for Performance {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.is_table(offset, bytes.len() as u64) {
            return Ok(());
        }
        self.fill(self.data_before(offset), offset)?;
        self.out.write_at(offset, bytes)
    }

    fn zero(&self, _: Span) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: Span) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        true
    }
}
