//! Units → blocks, one behind the other; tables and headers last.
//!
//! ```text
//!   0        the file's identifier; its mark is written last of all
//!   64 KiB   both headers, both tables of regions
//!   1 MiB    log, empty
//!   ..       metadata
//!   ..       BAT
//!   .. end   blocks: in the order of the disk; of a fixed image all of them
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{
    CREATOR_LEN, Guid, HEADERS, Header, ITEM_DISK_SIZE, ITEM_FILE, ITEM_IS_DISK, ITEM_IS_REQUIRED,
    ITEM_LOGICAL, ITEM_PAGE_83, ITEM_PHYSICAL, Item, LEAVE_ALLOCATED, MAGIC, MIB, MetadataHead,
    REGION_BAT, REGION_METADATA, REGION_TABLES, Region, TABLE_LEN, region_table, to_bytes,
};
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::{Identity, swap_uuid};
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Le64, Put, Span, Spool, Target, Word};

/// Stretches begin at a multiple of this: whole blocks are given out, and zeros in them left out.
const UNIT: u64 = 64 << 10;
/// Bytes of the BAT that are written at once.
const PART: usize = 64 << 10;
/// Who made the file.
const NAME: &str = "Diskwright";

struct Vhdx {
    plan: Plan,
    target: Arc<dyn Target>,
    /// Whether the file may hold something else than zeros already.
    used: bool,
    state: Mutex<State>,
}

struct State {
    /// Where the next block goes.
    end: u64,
    /// Entries of a dynamic image, as the file has them.
    bat: Spool,
    /// The parts of it in which there is one.
    touched: Vec<bool>,
    identity: Identity,
}

/// A writer for a new image. `Invalid` for options that do not exist or do not go together.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    Ok(Box::new(Vhdx::new(target, create).map_err(|error| error.format("vhdx"))?))
}

impl Vhdx {
    fn new(target: Arc<dyn Target>, create: &Create) -> Result<Vhdx> {
        let plan = Plan::of(create)?;
        let (entries, mut end) = (plan.geometry.entries(), plan.data());
        if plan.fixed {
            end += plan.geometry.blocks() * plan.geometry.block;
            if let Some(len) = target.fixed_len().filter(|len| *len < end) {
                let what = format!("the device has {len} bytes, and the image takes {end}");
                return Err(Error::invalid(what));
            }
        }
        let kept = if plan.fixed { 0 } else { entries };
        let kept = usize::try_from(kept * 8).map_err(|_| Error::limit("too large a BAT"))?;
        let used = !target.is_fresh();
        if used {
            // Headers of an older image must not vouch for what is written from now on.
            target.put(0, &vec![0; TABLE_LEN])?;
            zero(&*target, 0, plan.data())?;
        }
        let identity = Identity::of("vhdx", create);
        let touched = vec![false; kept.div_ceil(PART)];
        let state = Mutex::new(State { end, bat: Spool::new(kept)?, touched, identity });
        Ok(Vhdx { plan, target, used, state })
    }

    /// Room for the front of a stretch: as far as its block reaches.
    fn reserve_plain(&self, state: &mut State, start: u64, len: u64) -> Result<Slot> {
        if self.plan.fixed {
            return Ok(Slot { offset: self.plan.data() + start, len });
        }
        let block = self.plan.geometry.block;
        let (number, inside) = (start / block, start % block);
        let at = usize::try_from(self.plan.geometry.entry_of(number) * 8).expect("in the BAT");
        let mut entry = Le64::get(&state.bat[at..]);
        if entry == 0 {
            entry = Plan::present(state.end);
            state.bat[at..at + 8].copy_from_slice(&entry.to_le_bytes());
            state.touched[at / PART] = true;
            if self.used {
                zero(&*self.target, state.end, block)?;
            }
            state.end += block;
        }
        let offset = entry / MIB * MIB;
        Ok(Slot { offset: offset + inside, len: len.min(block - inside) })
    }

    fn write_bat(&self, state: &State) -> Result<()> {
        if self.plan.fixed || self.plan.empty != 0 {
            return self.write_full_bat(state);
        }
        for (part, bytes) in state.bat.chunks(PART).enumerate() {
            // What is not touched is zeros there as here.
            if state.touched[part] {
                self.target.put(self.plan.bat() + (part * PART) as u64, bytes)?;
            }
        }
        Ok(())
    }

    /// A BAT in which every block has an entry.
    fn write_full_bat(&self, state: &State) -> Result<()> {
        let (geometry, entries) = (self.plan.geometry, self.plan.geometry.entries());
        let entry = |number: u64| match geometry.block_of(number) {
            None => 0,
            Some(block) if self.plan.fixed => {
                Plan::present(self.plan.data() + block * geometry.block)
            }
            Some(_) => {
                let at = usize::try_from(number * 8).expect("in the BAT");
                match Le64::get(&state.bat[at..]) {
                    0 => self.plan.empty,
                    entry => entry,
                }
            }
        };
        for first in (0..entries).step_by(PART / 8) {
            let end = entries.min(first + PART as u64 / 8);
            let bytes: Vec<u8> =
                (first..end).flat_map(|number| entry(number).to_le_bytes()).collect();
            self.target.put(self.plan.bat() + first * 8, &bytes)?;
        }
        Ok(())
    }

    fn write_metadata(&self, page_83: Guid) -> Result<()> {
        let geometry = self.plan.geometry;
        let small = |number: u64| u32::try_from(number).expect("a size of blocks or sectors");
        let flags = if self.plan.fixed { LEAVE_ALLOCATED } else { 0 };
        let file = [small(geometry.block).to_le_bytes(), flags.to_le_bytes()].concat();
        let of_disk = ITEM_IS_DISK | ITEM_IS_REQUIRED;
        let items: [(Guid, u32, Vec<u8>); 5] = [
            (ITEM_FILE, ITEM_IS_REQUIRED, file),
            (ITEM_DISK_SIZE, of_disk, geometry.size.to_le_bytes().into()),
            (ITEM_PAGE_83, of_disk, page_83.into()),
            (ITEM_LOGICAL, of_disk, small(geometry.sector).to_le_bytes().into()),
            (ITEM_PHYSICAL, of_disk, small(self.plan.physical).to_le_bytes().into()),
        ];
        let mut table = to_bytes(&MetadataHead { count: 5 });
        let mut values = Vec::new();
        for (guid, flags, value) in items {
            let offset = small((TABLE_LEN + values.len()) as u64);
            let length = small(value.len() as u64);
            table.extend(to_bytes(&Item { guid, offset, length, flags, reserved: 0 }));
            values.extend(value);
        }
        table.resize(TABLE_LEN, 0);
        table.extend(values);
        self.target.put(self.plan.metadata(), &table)
    }

    fn write_front(&self, identity: &Identity) -> Result<()> {
        let small = |number: u64| u32::try_from(number).expect("a region below 4 GiB");
        let region =
            |guid, offset, length| Region { guid, offset, length: small(length), required: 1 };
        let table = region_table(&[
            region(REGION_BAT, self.plan.bat(), self.plan.bat_len()),
            region(REGION_METADATA, self.plan.metadata(), MIB),
        ]);
        for at in REGION_TABLES {
            self.target.put(at, &table)?;
        }
        for (at, sequence) in HEADERS.into_iter().zip(1..) {
            let header = Header {
                checksum: 0,
                sequence,
                file_write: swap_uuid(identity.uuid("file")),
                data_write: swap_uuid(identity.uuid("data")),
                log: [0; 16],
                log_version: 0,
                version: 1,
                log_length: small(self.plan.log),
                log_offset: MIB,
            };
            self.target.put(at, &header.sealed())?;
        }
        let mut creator: Vec<u8> = NAME.encode_utf16().flat_map(u16::to_le_bytes).collect();
        creator.resize(CREATOR_LEN, 0);
        self.target.put(MAGIC.len() as u64, &creator)
    }
}

/// Makes a stretch read as zeros.
fn zero(target: &dyn Target, start: u64, len: u64) -> Result<()> {
    let fail = |error| Error::io("cannot write zeros", error).at(start);
    target.zero(Span::new(start, len)?).map_err(fail)
}

impl Writer for Vhdx {
    fn unit(&self) -> u64 {
        UNIT
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
        match piece {
            Piece::Plain(len) => self.reserve_plain(&mut state, start, len).map(Some),
            Piece::Zero(len) if self.plan.fixed && self.used => {
                zero(&*self.target, self.plan.data() + start, len).map(|()| None)
            }
            Piece::Zero(_) => Ok(None),
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("a new vhdx image takes bytes only").format("vhdx"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |error| Error::io("cannot finish", error).format("vhdx");
        if self.plan.fixed && self.used {
            let tail = self.plan.data() + self.plan.geometry.size;
            zero(&*self.target, tail, state.end - tail)?;
        }
        self.write_bat(&state)?;
        let disk = self.plan.uuid.unwrap_or_else(|| state.identity.uuid("disk"));
        self.write_metadata(swap_uuid(disk))?;
        self.write_front(&state.identity)?;
        self.target.set_len(state.end).map_err(fail)?;
        self.target.sync().map_err(fail)?;
        // By itself, for headers torn in the middle could pass for whole ones.
        self.target.put(0, &MAGIC)?;
        self.target.sync().map_err(fail)
    }
}
