//! Compressed grains in the order of the disk, written from front to end.
//!
//! ```text
//!   0        header: the directory is found by way of the footer
//!   512      descriptor, and zeros up to 64k
//!   ..       marker, grain | marker, grain | ... | marker, table    for every table with data
//!   ..       marker, directory | marker, footer | end of stream
//! ```
//!
//! VMware's tools hash and parse such a file up to the end of the stream: nothing comes behind it.

use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{
    AT_END, COMPRESSED, DEFLATE, ENTRIES, GRAIN_MARKER, HEADER, Header, MAGIC, MARKER_DIRECTORY,
    MARKER_END, MARKER_FOOTER, MARKER_TABLE, MARKERS, Marker, NEWLINE_TEST, NEWLINES, SECTOR,
};
use super::options::{DESCRIPTOR, Front, GRAIN, Plan, REACH, TABLE};
use super::split::{Parts, forget};
use super::writer::front_bytes;
use crate::base::codec::{Encoder, Packing};
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::Identity;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Spool, Target};

/// Bytes of the directory that are written at once.
const CHUNK: usize = 1 << 20;
/// Where files end whose sectors have numbers of 32 bits.
const END: u64 = SECTOR << 32;

/// A writer of a stream.
pub(super) struct Packed {
    plan: Plan,
    target: Arc<dyn Target>,
    state: Mutex<State>,
}

struct State {
    /// Where the next byte goes.
    next: u64,
    /// The directory as the file will have it.
    directory: Spool,
    /// The table that is filled: its place in the directory, and its words.
    table: Option<(u64, Vec<u8>)>,
}

impl Packed {
    pub(super) fn new(target: Arc<dyn Target>, create: &Create, plan: Plan) -> Result<Packed> {
        let parts = Parts::new(target.clone(), create, &plan)?;
        let text = parts.describe(&plan, &Identity::of("vmdk", create));
        let mut front = front_bytes(&header(plan.size, AT_END), &text)?;
        front.resize(usize::try_from(GRAIN).expect("64 KiB"), 0);
        if !target.appends_only() {
            // Before the end there is no image.
            forget(&*target)?;
            front[..MAGIC.len()].fill(0);
        }
        target.put(0, &front)?;
        let len = Front::of(plan.size, 0).directory_len;
        let directory = Spool::new(usize::try_from(len).map_err(|_| Error::limit("directory"))?)?;
        let state = State { next: front.len() as u64, directory, table: None };
        Ok(Packed { plan, target, state: Mutex::new(state) })
    }

    /// The next place for so many bytes.
    fn give(state: &mut State, len: u64) -> Result<u64> {
        let (offset, end) = (state.next, state.next.saturating_add(len));
        if end >= END {
            return Err(Error::limit(format!("a file of {end} bytes: they are below 2 TiB")));
        }
        state.next = end;
        Ok(offset)
    }

    /// A marker, and the metadata that it announces; gives back where those are.
    fn append(&self, state: &mut State, kind: u32, bytes: &[u8]) -> Result<u64> {
        let len = bytes.len() as u64;
        let marker = Marker { value: len / SECTOR, len: 0, kind }.to_bytes();
        let offset = Packed::give(state, marker.len() as u64 + len)?;
        self.target.put(offset, &marker)?;
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            self.target.put(offset + marker.len() as u64 + (index * CHUNK) as u64, chunk)?;
        }
        Ok(offset + marker.len() as u64)
    }

    /// Puts the table that was filled, if any, behind its grains.
    fn close_table(&self, state: &mut State) -> Result<()> {
        let Some((index, words)) = state.table.take() else { return Ok(()) };
        let offset = self.append(state, MARKER_TABLE, &words)?;
        let at = usize::try_from(index * 4).expect("inside the directory");
        state.directory[at..at + 4].copy_from_slice(&sector(offset).to_le_bytes());
        Ok(())
    }

    /// A place for the grain that begins at `start` on the disk.
    fn give_grain(&self, state: &mut State, start: u64, len: u64) -> Result<u64> {
        let index = start / REACH;
        if state.table.as_ref().is_some_and(|(open, _)| *open != index) {
            // Workers take portions that end where this table does: whoever has a place in front of
            // it writes without waiting for us.
            self.close_table(state)?;
        }
        let offset = Packed::give(state, len)?;
        let empty = || (index, vec![0; usize::try_from(TABLE).expect("2048")]);
        let (_, words) = state.table.get_or_insert_with(empty);
        let at = usize::try_from(start % REACH / GRAIN * 4).expect("inside a table");
        words[at..at + 4].copy_from_slice(&sector(offset).to_le_bytes());
        Ok(offset)
    }

    fn complete(&self, state: &mut State) -> Result<()> {
        self.close_table(state)?;
        let directory = std::mem::replace(&mut state.directory, Spool::new(0)?);
        let directory = self.append(state, MARKER_DIRECTORY, &directory)?;
        let footer = header(self.plan.size, directory / SECTOR).to_bytes();
        self.append(state, MARKER_FOOTER, &footer)?;
        self.append(state, MARKER_END, &[])?;
        let fail = |error| Error::io("cannot finish", error);
        self.target.set_len(state.next).map_err(fail)?;
        self.target.settle()?;
        if self.target.appends_only() {
            return Ok(());
        }
        if self.target.fixed_len().is_some_and(|len| len != state.next) {
            // Nobody finds a footer that is not at the end of its file.
            self.target.put(MAGIC.len() as u64, &footer[MAGIC.len()..])?;
            self.target.settle()?;
        }
        // By itself, for a header torn in the middle could pass for a whole one.
        self.target.put(0, &MAGIC)?;
        self.target.settle()
    }
}

/// The sector at an offset.
fn sector(offset: u64) -> u32 {
    u32::try_from(offset / SECTOR).expect("every place that is given is below 2 TiB")
}

fn header(size: u64, directory: u64) -> Header {
    Header {
        version: 3,
        flags: NEWLINE_TEST | COMPRESSED | MARKERS,
        capacity: size / SECTOR,
        grain: GRAIN / SECTOR,
        descriptor: 1,
        descriptor_len: DESCRIPTOR / SECTOR,
        entries: ENTRIES,
        redundant: 0,
        directory,
        overhead: GRAIN / SECTOR,
        unclean: 0,
        newlines: NEWLINES,
        compression: DEFLATE,
    }
}

impl Writer for Packed {
    fn unit(&self) -> u64 {
        GRAIN
    }

    fn packing(&self) -> Option<Packing> {
        Some(self.plan.packing)
    }

    /// With the marker in front, and zeros up to the next sector: always a full grain, for a
    /// shorter one is not read by VirtualBox.
    fn encode(
        &self,
        start: u64,
        unit: &[u8],
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let front = out.len();
        let packed = front + usize::try_from(GRAIN_MARKER).expect("12");
        out.extend_from_slice(&(start / SECTOR).to_le_bytes());
        out.resize(packed, 0);
        encoder.encode_anyway(self.plan.packing, unit, out)?;
        let len = u32::try_from(out.len() - packed).map_err(|_| Error::limit("a grain"))?;
        out[packed - 4..packed].copy_from_slice(&len.to_le_bytes());
        out.resize(front + (out.len() - front).next_multiple_of(HEADER), 0);
        Ok(true)
    }

    fn leaves_holes(&self) -> bool {
        false
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Piece::Packed(len) => {
                let offset = self.give_grain(&mut state, start, len);
                let offset = offset.map_err(|error| error.format("vmdk"))?;
                Ok(Some(Slot { offset, len: GRAIN }))
            }
            Piece::Zero(_) => Ok(None),
            Piece::Backing(_) | Piece::Plain(_) => {
                Err(Error::invalid("a stream takes packed grains only").format("vmdk"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete(&mut state).map_err(|error| error.format("vmdk"))
    }
}
