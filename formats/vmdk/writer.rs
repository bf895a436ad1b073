//! Grains in the order of the disk; tables, headers and the descriptor last.
//!
//! ```text
//!   0         header; its magic is written last of all, or before the descriptor beside it
//!   512       descriptor, 10240 bytes; none in an extent that has one beside it
//!   ..        directory and all tables, twice
//!   n * 64k   grains that hold data, in the order of the disk
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::flat::Flat;
use super::layout::{
    ENTRIES, Header, MAGIC, NEWLINE_TEST, NEWLINES, REDUNDANT, SECTOR, ZERO_GRAINS,
};
use super::options::{Front, GRAIN, Plan, Subformat, TABLE};
use super::split::{Part, Parts};
use super::stream::Packed;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::Identity;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Span, Spool, Target};

/// Bytes of the directory that are written at once.
const CHUNK: usize = 1 << 20;
/// Bytes of tables that are written, or left a hole, together: tables begin at any sector, and what
/// is written beside a word may lie in another block of the file system.
const PIECE: usize = 512;
/// What is meant by the word of a table for a grain of zeros.
const ZERO: u32 = 1;
/// Where files end whose sectors have numbers of 32 bits.
const END: u64 = SECTOR << 32;

struct Sparse {
    plan: Plan,
    parts: Parts,
    fronts: Vec<Front>,
    state: Mutex<State>,
}

struct State {
    extents: Vec<Tables>,
    identity: Identity,
}

/// The tables of an extent.
struct Tables {
    /// As the file will have them.
    words: Spool,
    /// For every piece of them whether it says anything.
    used: Vec<bool>,
    /// Where the last grain ends.
    end: u64,
    /// Where the disk ends in a grain that goes on.
    tail: Option<u64>,
}

/// A writer for a new image. `Invalid` for options that do not exist or do not go together.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    let made = Plan::of(create).and_then(|plan| -> Result<Box<dyn Writer>> {
        Ok(match plan.kind {
            Subformat::MonolithicSparse | Subformat::SplitSparse => {
                Box::new(Sparse::new(target, create, plan)?)
            }
            Subformat::MonolithicFlat | Subformat::SplitFlat => {
                Box::new(Flat::new(target, create, plan)?)
            }
            Subformat::Stream => Box::new(Packed::new(target, create, plan)?),
        })
    });
    made.map_err(|error| error.format("vmdk"))
}

impl Sparse {
    fn new(target: Arc<dyn Target>, create: &Create, plan: Plan) -> Result<Sparse> {
        let parts = Parts::new(target, create, &plan)?;
        let (mut fronts, mut extents) = (Vec::new(), Vec::new());
        for part in &parts.list {
            let front = Front::of(part.len, plan.embedded());
            clear(part, &front)?;
            extents.push(Tables::new(&front)?);
            fronts.push(front);
        }
        let state = State { extents, identity: Identity::of("vmdk", create) };
        Ok(Sparse { plan, parts, fronts, state: Mutex::new(state) })
    }

    /// Everything of an extent but its magic.
    fn write(&self, part: usize, tables: &Tables, text: &str) -> Result<()> {
        let (Part { len, target, .. }, front) = (&self.parts.list[part], &self.fronts[part]);
        for at in [front.redundant, front.directory] {
            write_directory(&**target, at, front)?;
            tables.write(&**target, at + front.directory_len)?;
        }
        let text = if self.parts.apart { "" } else { text };
        let bytes = front_bytes(&self.header(*len, front), text)?;
        target.put(MAGIC.len() as u64, &bytes[MAGIC.len()..])?;
        let fail = |error| Error::io("cannot finish", error);
        if let Some(tail) = tables.tail.filter(|_| !target.is_fresh()) {
            // What a device holds behind the last byte of the disk is not ours to keep.
            target.zero(Span::new(tail, tables.end - tail)?).map_err(fail)?;
        }
        target.set_len(tables.end).map_err(fail)
    }

    fn header(&self, len: u64, front: &Front) -> Header {
        let embedded = self.plan.embedded() / SECTOR;
        let zeros = if self.plan.zeros { ZERO_GRAINS } else { 0 };
        Header {
            version: if self.plan.zeros { 2 } else { 1 },
            flags: NEWLINE_TEST | REDUNDANT | zeros,
            capacity: len / SECTOR,
            grain: GRAIN / SECTOR,
            descriptor: embedded.min(1),
            descriptor_len: embedded,
            entries: ENTRIES,
            redundant: front.redundant / SECTOR,
            directory: front.directory / SECTOR,
            overhead: front.data / SECTOR,
            unclean: 0,
            newlines: NEWLINES,
            compression: 0,
        }
    }

    fn complete(&self, state: &State) -> Result<()> {
        let text = self.parts.describe(&self.plan, &state.identity);
        for (part, tables) in state.extents.iter().enumerate() {
            self.write(part, tables, &text)?;
        }
        self.parts.settle()?;
        // By itself, for a header torn in the middle could pass for a whole one.
        self.parts.list.iter().try_for_each(|part| part.target.put(0, &MAGIC))?;
        self.parts.settle()?;
        if self.parts.apart { self.parts.finish(&text) } else { Ok(()) }
    }
}

/// Zeros in front of the grains: what is not written there counts as zero, and an older header must
/// not vouch for what is written from now on. `Invalid` if there is no room.
fn clear(part: &Part, front: &Front) -> Result<()> {
    if let Some(len) = part.target.fixed_len().filter(|len| *len < front.data) {
        let what = format!("the device has {len} bytes, and tables take {}", front.data);
        return Err(Error::invalid(what));
    }
    if part.target.is_fresh() {
        return Ok(());
    }
    let fail = |error| Error::io("cannot write zeros", error);
    part.target.zero(Span::new(0, front.data)?).map_err(fail)
}

/// A directory of all tables, which lie behind it.
fn write_directory(target: &dyn Target, at: u64, front: &Front) -> Result<()> {
    let word = |index: u64| {
        let table = at + front.directory_len + index * TABLE;
        u32::try_from(table / SECTOR).map_err(|_| Error::limit("tables beyond 2 TiB"))
    };
    let step = CHUNK as u64 / 4;
    let mut first = 0;
    while first < front.tables {
        let mut bytes = Vec::new();
        for index in first..(first + step).min(front.tables) {
            bytes.extend_from_slice(&word(index)?.to_le_bytes());
        }
        target.put(at + first * 4, &bytes)?;
        first += step;
    }
    Ok(())
}

impl Tables {
    fn new(front: &Front) -> Result<Tables> {
        let len = usize::try_from(front.tables * TABLE).map_err(|_| Error::limit("the tables"))?;
        let used = vec![false; len.div_ceil(PIECE)];
        Ok(Tables { words: Spool::new(len)?, used, end: front.data, tail: None })
    }

    /// Notes down grains: the word for each of them.
    fn note(&mut self, first: u64, count: u64, word: impl Fn(u64) -> u32) {
        let at = usize::try_from(first * 4).expect("inside the tables");
        let end = usize::try_from((first + count) * 4).expect("inside the tables");
        for (bytes, index) in self.words[at..end].chunks_exact_mut(4).zip(0..) {
            bytes.copy_from_slice(&word(index).to_le_bytes());
        }
        self.used[at / PIECE..end.div_ceil(PIECE)].fill(true);
    }

    /// Room for a stretch of whole grains, the last one of the extent perhaps cut off.
    fn give(&mut self, start: u64, len: u64) -> Result<u64> {
        let (offset, count) = (self.end, len.div_ceil(GRAIN));
        let end = offset + count * GRAIN;
        if end >= END {
            return Err(Error::limit(format!("a file of {end} bytes: they are below 2 TiB")));
        }
        let word = |index| u32::try_from((offset + index * GRAIN) / SECTOR).expect("below 2 TiB");
        self.note(start / GRAIN, count, word);
        if !len.is_multiple_of(GRAIN) {
            self.tail = Some(offset + len);
        }
        self.end = end;
        Ok(offset)
    }

    /// Writes what says anything; the rest is zero there.
    fn write(&self, target: &dyn Target, at: u64) -> Result<()> {
        let mut start = 0;
        for run in self.used.chunk_by(|a, b| a == b) {
            let end = (start + run.len() * PIECE).min(self.words.len());
            if run[0] {
                target.put(at + start as u64, &self.words[start..end])?;
            }
            start = end;
        }
        Ok(())
    }
}

impl Writer for Sparse {
    fn unit(&self) -> u64 {
        GRAIN
    }

    fn is_identified(&self) -> bool {
        !self.plan.is_named()
    }

    fn identify(&self, start: u64, digest: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.identity.add(start, digest);
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Piece::Plain(len) => {
                let (part, inside, len) = self.parts.find(start, len);
                let offset = state.extents[part].give(inside, len);
                let offset = offset.map_err(|error| error.format("vmdk"))?;
                Ok(Some(Slot { offset: self.parts.offset(part, offset), len }))
            }
            Piece::Zero(len) => {
                if self.plan.zeros {
                    self.parts.each(start, len, |part, inside, len| {
                        let tables = &mut state.extents[part];
                        tables.note(inside / GRAIN, len.div_ceil(GRAIN), |_| ZERO);
                        Ok(())
                    })?;
                }
                Ok(None)
            }
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("this image takes bytes only").format("vmdk"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.parts.all
    }

    fn finish(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete(&state).map_err(|error| error.format("vmdk"))
    }
}

/// The bytes of a header, and of the descriptor behind it.
pub(super) fn front_bytes(header: &Header, text: &str) -> Result<Vec<u8>> {
    if text.len() as u64 > header.descriptor_len * SECTOR {
        return Err(Error::limit(format!("a descriptor of {} bytes", text.len())));
    }
    Ok([&header.to_bytes(), text.as_bytes()].concat())
}
