//! Clusters in the order of the disk; the table, then the header, last.
//!
//! ```text
//!   0        header of 64 bytes, whose magic is written last of all; table
//!   ..       zeros up to a multiple of the cluster
//!   ..       clusters that hold data, in the order of the disk
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::clusters::CHUNK;
use super::layout::{ENTRY, LENGTH};
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Span, Spool, Target};

struct Ploop {
    plan: Plan,
    size: u64,
    target: Arc<dyn Target>,
    state: Mutex<State>,
}

struct State {
    /// The table as the file will have it.
    table: Spool,
    /// Clusters given out.
    next: u64,
}

/// A writer for a new image. `Invalid` for options that do not exist or do not fit.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    Ok(Box::new(Ploop::new(target, create).map_err(|error| error.format("ploop"))?))
}

impl Ploop {
    fn new(target: Arc<dyn Target>, create: &Create) -> Result<Ploop> {
        let plan = Plan::of(create)?;
        let len = usize::try_from(plan.entries * ENTRY).map_err(|_| Error::limit("the table"))?;
        let table = Spool::new(len)?;
        if !target.is_fresh() {
            // The header of an older image must not vouch for what is written from now on.
            target.put(0, &[0; 512])?;
        }
        let state = Mutex::new(State { table, next: 0 });
        Ok(Ploop { plan, size: create.size, target, state })
    }

    /// Room for a stretch of whole clusters, the last one of the disk perhaps cut off.
    fn give(&self, state: &mut State, start: u64, len: u64) -> Slot {
        let (first, count) = (start / self.plan.cluster, len.div_ceil(self.plan.cluster));
        let offset = self.plan.room(state.next);
        let number = offset / self.plan.cluster;
        let at = usize::try_from(first * ENTRY).expect("inside the table");
        let end = at + usize::try_from(count * ENTRY).expect("inside the table");
        for (number, entry) in (number..).zip(state.table[at..end].chunks_exact_mut(4)) {
            let number = u32::try_from(number).expect("fewer clusters than 2^32 in all");
            entry.copy_from_slice(&number.to_le_bytes());
        }
        state.next += count;
        Slot { offset, len }
    }

    /// The table, with zeros behind it where the file may hold something else.
    fn write_table(&self, state: &State) -> Result<()> {
        let chunk = usize::try_from(CHUNK).expect("a MiB");
        for (index, bytes) in state.table.chunks(chunk).enumerate() {
            self.target.put(LENGTH + (index * chunk) as u64, bytes)?;
        }
        let end = LENGTH + state.table.len() as u64;
        self.clear(end, self.plan.data - end)
    }

    fn clear(&self, start: u64, len: u64) -> Result<()> {
        if self.target.is_fresh() {
            return Ok(());
        }
        let fail = |error| Error::io("cannot write zeros", error).at(start);
        self.target.zero(Span::new(start, len)?).map_err(fail)
    }

    /// What a device holds behind the last byte of the disk is not ours to keep.
    fn clear_tail(&self, state: &State) -> Result<()> {
        let rest = self.size % self.plan.cluster;
        let Some(entry) = state.table.chunks_exact(4).next_back().filter(|_| rest > 0) else {
            return Ok(());
        };
        match u32::from_le_bytes(entry.try_into().expect("four of them")) {
            0 => Ok(()),
            number => {
                let start = u64::from(number) * self.plan.cluster + rest;
                self.clear(start, self.plan.cluster - rest)
            }
        }
    }
}

impl Writer for Ploop {
    fn unit(&self) -> u64 {
        self.plan.cluster
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Piece::Plain(len) => Ok(Some(self.give(&mut state, start, len))),
            Piece::Zero(_) => Ok(None),
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("a ploop image takes bytes only").format("ploop"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |error| Error::io("cannot finish", error).format("ploop");
        self.write_table(&state)?;
        let header = self.plan.header();
        let bytes = header.to_bytes();
        let (magic, rest) = bytes.split_at(header.magic.len());
        self.target.put(magic.len() as u64, rest)?;
        self.target.set_len(self.plan.room(state.next)).map_err(fail)?;
        self.clear_tail(&state)?;
        self.target.sync().map_err(fail)?;
        // By itself, for a header torn in the middle could pass for a whole one.
        self.target.put(0, magic)?;
        self.target.sync().map_err(fail)
    }
}
