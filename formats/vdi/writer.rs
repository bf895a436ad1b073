//! Blocks in the order of the disk; the map, then the header, last.
//!
//! ```text
//!   0        header of 472 bytes; its signature is written last of all
//!   512      map, and zeros up to a multiple of 4096
//!   ..       blocks that hold data, in the order of the disk; or all of them
//! ```
//!
//! `VirtualBox` begins its map at 1 MiB and its blocks at 2 MiB, qemu right behind the header. All
//! readers take either. Blocks that begin at a multiple of 4096 can be shared and are read by whole
//! pages, and a small disk stays a small file.

use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{
    DYNAMIC, ENTRY, FIXED, FULL, PRELUDE, SECTOR, SIGNATURE, SIGNATURE_AT, Uuids, VERSION, Version1,
};
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::{Identity, swap_uuid};
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Span, Spool, Target};

/// What the file begins with: people may read it.
const TEXT: &[u8] = b"<<< Oracle VM VirtualBox Disk Image >>>\n";
/// Bytes of the map that are written at once.
const CHUNK: usize = 1 << 20;

struct Vdi {
    plan: Plan,
    size: u64,
    target: Arc<dyn Target>,
    state: Mutex<State>,
}

struct State {
    /// The map as the file will have it, with the zeros behind it.
    map: Spool,
    /// Blocks given out.
    next: u32,
    identity: Identity,
}

/// A writer for a new image. `Invalid` for options that do not exist or do not go together.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    Ok(Box::new(Vdi::new(target, create).map_err(|error| error.format("vdi"))?))
}

impl Vdi {
    fn new(target: Arc<dyn Target>, create: &Create) -> Result<Vdi> {
        let plan = Plan::of(create)?;
        let full = plan.room(if plan.fixed { plan.blocks } else { 0 });
        if let Some(len) = target.fixed_len().filter(|len| *len < full) {
            let what = format!("the device has {len} bytes, and the image takes {full}");
            return Err(Error::invalid(what));
        }
        let room = usize::try_from(plan.data - plan.map).map_err(|_| Error::limit("the map"))?;
        let mut map = Spool::new(room)?;
        let len = usize::try_from(plan.blocks * ENTRY).expect("below the room");
        map[..len].fill(0xff);
        if !target.is_fresh() {
            // The header of an older image must not vouch for what is written from now on.
            target.put(0, &[0; 512])?;
        }
        let state = State { map, next: 0, identity: Identity::of("vdi", create) };
        Ok(Vdi { plan, size: create.size, target, state: Mutex::new(state) })
    }

    /// Room for a stretch of whole blocks, the last one of the disk perhaps cut off.
    fn give(&self, state: &mut State, start: u64, len: u64) -> Slot {
        let (first, count) = (start / self.plan.block, len.div_ceil(self.plan.block));
        let number = if self.plan.fixed { first } else { state.next.into() };
        for step in 0..count {
            let at = usize::try_from((first + step) * ENTRY).expect("inside the map");
            let number = u32::try_from(number + step).expect("fewer blocks than the disk has");
            state.map[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        state.next += u32::try_from(count).expect("fewer blocks than the disk has");
        Slot { offset: self.plan.data + number * self.plan.block, len }
    }

    fn write_map(&self, state: &State) -> Result<()> {
        for (index, chunk) in state.map.chunks(CHUNK).enumerate() {
            self.target.put(self.plan.map + (index * CHUNK) as u64, chunk)?;
        }
        Ok(())
    }

    /// What a device holds behind the last byte of the disk is not ours to keep.
    fn clear_tail(&self, state: &State) -> Result<()> {
        let (end, rest) = (self.size / self.plan.block, self.size % self.plan.block);
        let Ok(at) = usize::try_from(end * ENTRY) else { return Ok(()) };
        let entry = state.map.get(at..at + 4).filter(|_| rest > 0);
        let number = entry
            .map_or(u32::MAX, |bytes| u32::from_le_bytes(bytes.try_into().expect("four of them")));
        if self.target.is_fresh() || number == u32::MAX {
            return Ok(());
        }
        let block = self.plan.room(number.into());
        let fail = |error| Error::io("cannot write zeros", error).at(block + rest);
        let tail = Span::new(block + rest, self.plan.block - rest)?;
        self.target.zero(tail).map_err(fail)
    }

    fn header(&self, state: &State) -> Result<Version1> {
        let uuid = |given: Option<[u8; 16]>, purpose: &str| {
            swap_uuid(given.unwrap_or_else(|| state.identity.uuid(purpose)))
        };
        let small = |number: u64| u32::try_from(number).map_err(|_| Error::limit("too large"));
        let mut text = [0; 64];
        text[..TEXT.len()].copy_from_slice(TEXT);
        Ok(Version1 {
            text,
            version: VERSION,
            len: u32::try_from(FULL - PRELUDE).expect("400"),
            kind: if self.plan.fixed { FIXED } else { DYNAMIC },
            flags: 0,
            comment: [0; 256],
            map: small(self.plan.map)?,
            data: small(self.plan.data)?,
            old_geometry: [0, 0, 0, SECTOR],
            unused: 0,
            size: self.size,
            block: small(self.plan.block)?,
            extra: 0,
            blocks: small(self.plan.blocks)?,
            allocated: state.next,
            uuids: Uuids {
                create: uuid(self.plan.create, "create"),
                modify: uuid(self.plan.modify, "modify"),
                parent: [0; 16],
            },
            parent_modify: [0; 16],
            geometry: [0, 0, 0, SECTOR],
        })
    }
}

impl Writer for Vdi {
    fn unit(&self) -> u64 {
        self.plan.block
    }

    fn is_identified(&self) -> bool {
        self.plan.create.is_none() || self.plan.modify.is_none()
    }

    fn identify(&self, start: u64, digest: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.identity.add(start, digest);
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Piece::Plain(len) => Ok(Some(self.give(&mut state, start, len))),
            Piece::Zero(len) if self.plan.fixed => {
                let slot = self.give(&mut state, start, len);
                if !self.target.is_fresh() {
                    let fail = |error| Error::io("cannot write zeros", error).at(slot.offset);
                    self.target.zero(Span::new(slot.offset, len)?).map_err(fail)?;
                }
                Ok(None)
            }
            Piece::Zero(_) => Ok(None),
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("a vdi image takes bytes only").format("vdi"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |error| Error::io("cannot finish", error).format("vdi");
        self.write_map(&state)?;
        let mut bytes = self.header(&state)?.to_bytes();
        bytes.resize(512, 0);
        let after = usize::try_from(SIGNATURE_AT).expect("64") + SIGNATURE.len();
        self.target.put(after as u64, &bytes[after..])?;
        self.target.put(0, &bytes[..after - SIGNATURE.len()])?;
        self.target.set_len(self.plan.room(state.next.into())).map_err(fail)?;
        self.clear_tail(&state)?;
        self.target.sync().map_err(fail)?;
        // By itself, for a header torn in the middle could pass for a whole one.
        self.target.put(SIGNATURE_AT, &SIGNATURE)?;
        self.target.sync().map_err(fail)
    }
}
