//! Blocks in the order of the disk; the BAT, then the footers, last.
//!
//! ```text
//!   0        copy of the footer, written last of all
//!   512      header
//!   1536     BAT
//!   ..       bitmaps and blocks that hold data, in the order of the disk
//!   end      footer
//! ```
//!
//! The bytes of blocks begin at a multiple of 4096, as those of Windows do: their bitmap lies at
//! the end of the 4096 before. So they are read by whole pages, and can be shared.

use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{
    CREATOR, DYNAMIC, ENTRY, FIXED, FOOTER, FOOTER_BYTES, Footer, Geometry, Header, Locator,
    NOWHERE, RESERVED, SYSTEM, VERSION, entry_for,
};
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::Identity;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Span, Spool, Target};

/// Stretches of a fixed disk begin at a multiple of this: a size that reads and writes well.
const FIXED_UNIT: u64 = 64 << 10;
/// Bytes of the BAT that are written at once.
const CHUNK: usize = 1 << 20;

struct Vhd {
    plan: Plan,
    size: u64,
    target: Arc<dyn Target>,
    state: Mutex<State>,
}

struct State {
    /// The BAT as the file will have it.
    bat: Spool,
    /// Where the last block ends.
    end: u64,
    /// Where the block begins that the disk ends in, if it has one.
    last: Option<u64>,
    identity: Identity,
}

/// A writer for a new image. `Invalid` for options that do not exist or do not go together.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    Ok(Box::new(Vhd::new(target, create).map_err(|error| error.format("vhd"))?))
}

impl Vhd {
    fn new(target: Arc<dyn Target>, create: &Create) -> Result<Vhd> {
        let plan = Plan::of(create)?;
        let (room, end) = match plan.fixed {
            true => (0, create.size),
            false => (plan.bat_len(), plan.bat + plan.bat_len()),
        };
        if let Some(len) = target.fixed_len() {
            let least = end + FOOTER;
            // Readers look for the footer at the end, which a device does not move.
            if len < least || (plan.fixed && len > least) {
                let what = format!("the device has {len} bytes, and the image takes {least}");
                return Err(Error::invalid(what));
            }
        }
        let mut bat = Spool::new(usize::try_from(room).map_err(|_| Error::limit("the BAT"))?)?;
        bat.fill(0xff);
        let state = State { bat, end, last: None, identity: Identity::of("vhd", create) };
        let this = Vhd { plan, size: create.size, target, state: Mutex::new(state) };
        this.forget()?;
        Ok(this)
    }

    /// The footers of an older image must not vouch for what is written from now on.
    fn forget(&self) -> Result<()> {
        if self.target.is_fresh() {
            return Ok(());
        }
        match self.target.fixed_len() {
            Some(len) => self.target.put(len.saturating_sub(2 * FOOTER), &[0; 1024])?,
            None => self.target.set_len(0).map_err(|e| Error::io("cannot empty it", e))?,
        }
        self.target.put(0, &[0; FOOTER_BYTES])
    }

    /// Room for a block, whose bitmap says that all of it is there.
    fn give(&self, state: &mut State, start: u64, len: u64) -> Result<Slot> {
        let (index, size) = (start / self.plan.blocks.size, self.plan.blocks.size);
        let data = self.plan.data_after(state.end);
        let block = data - self.plan.blocks.bitmap;
        let far = || Error::limit(format!("a block at {block} is out of reach")).format("vhd");
        let entry = entry_for(block).ok_or_else(far)?;
        let at = usize::try_from(index * ENTRY).expect("inside the BAT");
        state.bat[at..at + 4].copy_from_slice(&entry.to_be_bytes());
        let before = |end: u64| usize::try_from(end - state.end).expect("a few sectors");
        let mut front = vec![0; before(data)];
        front[before(block)..].fill(0xff);
        self.target.put(state.end, &front)?;
        state.end = data + size;
        let len = len.min(size);
        if start + len == self.size && len < size {
            state.last = Some(data + len);
        }
        Ok(Slot { offset: data, len })
    }

    fn zero(&self, start: u64, len: u64) -> Result<()> {
        if self.target.is_fresh() {
            return Ok(());
        }
        let fail = |error| Error::io("cannot write zeros", error).at(start).format("vhd");
        self.target.zero(Span::new(start, len)?).map_err(fail)
    }

    fn footer(&self, state: &State) -> Footer {
        let uuid = self.plan.uuid.unwrap_or_else(|| state.identity.uuid("vhd"));
        let fixed = self.plan.fixed;
        Footer {
            features: RESERVED,
            version: VERSION,
            header: if fixed { NOWHERE } else { FOOTER },
            time: 0,
            creator: CREATOR,
            creator_version: VERSION,
            creator_system: SYSTEM,
            original_size: self.size,
            current_size: self.size,
            geometry: Geometry::of(self.size),
            kind: if fixed { FIXED } else { DYNAMIC },
            checksum: 0,
            uuid,
            saved: 0,
        }
    }

    fn header(&self) -> Result<Header> {
        let small = |number: u64| u32::try_from(number).map_err(|_| Error::limit("too large"));
        Ok(Header {
            next: NOWHERE,
            bat: self.plan.bat,
            version: VERSION,
            entries: small(self.plan.entries)?,
            block: small(self.plan.blocks.size)?,
            checksum: 0,
            parent: [0; 16],
            parent_time: 0,
            reserved: 0,
            parent_name: [0; 512],
            locators: [Locator::default(); 8],
        })
    }

    fn write_tables(&self, state: &State) -> Result<()> {
        if self.plan.fixed {
            return Ok(());
        }
        for (index, chunk) in state.bat.chunks(CHUNK).enumerate() {
            self.target.put(self.plan.bat + (index * CHUNK) as u64, chunk)?;
        }
        self.target.put(FOOTER, &self.header()?.to_bytes())?;
        match state.last {
            // What a device holds behind the last byte of the disk is not ours to keep.
            Some(end) => self.zero(end, state.end - end),
            None => Ok(()),
        }
    }
}

impl Writer for Vhd {
    fn unit(&self) -> u64 {
        if self.plan.fixed { FIXED_UNIT } else { self.plan.blocks.size }
    }

    fn is_identified(&self) -> bool {
        self.plan.uuid.is_none()
    }

    fn identify(&self, start: u64, digest: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.identity.add(start, digest);
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (piece, self.plan.fixed) {
            (Piece::Plain(len), true) => Ok(Some(Slot { offset: start, len })),
            (Piece::Plain(len), false) => self.give(&mut state, start, len).map(Some),
            (Piece::Zero(len), true) => self.zero(start, len).map(|()| None),
            (Piece::Zero(_), false) => Ok(None),
            (Piece::Backing(_) | Piece::Packed(_), _) => {
                Err(Error::invalid("a vhd image takes bytes only").format("vhd"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |error| Error::io("cannot finish", error).format("vhd");
        self.write_tables(&state)?;
        let at = self.target.fixed_len().map_or(state.end, |len| len.saturating_sub(FOOTER));
        let footer = self.footer(&state).to_bytes();
        if at < state.end {
            let what = format!("the blocks end at {}, and the device has no room", state.end);
            return Err(Error::invalid(what).format("vhd"));
        }
        self.target.set_len(at).map_err(fail)?;
        self.target.sync().map_err(fail)?;
        self.target.put(at, &footer)?;
        if !self.plan.fixed {
            self.target.put(0, &footer)?;
        }
        self.target.sync().map_err(fail)
    }
}
