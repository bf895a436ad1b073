//! What a new image may be told, and how much room it takes.

use super::inspect;
use super::layout::{BAT_OFFSET, Geometry, MAX_BLOCK, MAX_DISK, MIB, MIN_BLOCK, PRESENT, ZERO};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, OptionHelp, Options};
use crate::base::model::format::Usage;
use crate::base::model::identity::{parse_uuid, swap_uuid, uuid_text};
use crate::base::model::writer::Measure;
use crate::base::storage::Window;

pub(super) const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "subformat",
        values: "dynamic|fixed",
        about: "blocks as they are needed, or all of the disk (default dynamic)",
    },
    OptionHelp {
        name: "block_size",
        values: "1M, 2M, 4M and so on, 256M at most",
        about: "unit in which room is given out (default: 1M, and more for disks over 128G, so \
                that the table of blocks takes 1M, but 32M at most)",
    },
    OptionHelp {
        name: "logical_sector_size",
        values: "512|4096",
        about: "unit in which the guest reads and writes (default 512)",
    },
    OptionHelp {
        name: "physical_sector_size",
        values: "512|4096",
        about: "unit that the guest is told to prefer (default 4096)",
    },
    OptionHelp {
        name: "log_size",
        values: "1M, 2M and so on",
        about: "room for the log, whole MiB (default 1M)",
    },
    OptionHelp {
        name: "block_state_zero",
        values: "on|off",
        about: "blocks without data are recorded as zeros instead of left out (default off)",
    },
    OptionHelp {
        name: "uuid",
        values: "UUID",
        about: "what the guest knows the disk by; with it, blocks can be shared (default: it \
                follows from the content)",
    },
];

/// Bytes of the table of blocks that the default block size makes do with.
const USUAL_BAT: u64 = MIB;
/// The largest block that is chosen by default: Hyper-V's own.
const USUAL_BLOCK: u64 = 32 << 20;
/// Bytes of the log at most: what a header can say, in whole MiB.
const MAX_LOG: u64 = 4095 << 20;

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    pub(super) fixed: bool,
    pub(super) physical: u64,
    pub(super) log: u64,
    /// Entry of a block without data.
    pub(super) empty: u64,
    pub(super) uuid: Option<[u8; 16]>,
}

impl Plan {
    /// `Invalid` for values that do not exist or do not go together.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let Create { size, options, .. } = create;
        let sector = sector(options)?;
        let physical = options.choice("physical_sector_size", &["512", "4096"])?;
        let physical = if physical == Some(0) { 512 } else { 4096 };
        if create.compress {
            return Err(Error::invalid("vhdx images are not compressed"));
        }
        if create.backing.is_some() || create.data_file.is_some() {
            return Err(Error::invalid("vhdx images are written without another file"));
        }
        if padded(*size, options)? != *size {
            let what = format!("a disk of {size} bytes is no multiple of its sectors' {sector}");
            return Err(Error::invalid(what));
        }
        let geometry = Geometry { size: *size, block: MIN_BLOCK, sector, parent: false };
        let block = match options.size("block_size")? {
            Some(block) => block,
            None => usual_block(geometry),
        };
        if !block.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block) {
            let what = format!("block_size is a power of two from 1M to 256M, not {block}");
            return Err(Error::invalid(what));
        }
        let log = options.size("log_size")?.unwrap_or(MIB);
        if log == 0 || !log.is_multiple_of(MIB) || log > MAX_LOG {
            return Err(Error::invalid(format!("log_size is whole MiB up to 4095M, not {log}")));
        }
        let fixed = options.choice("subformat", &["dynamic", "fixed"])? == Some(1);
        let zero = options.flag("block_state_zero")?.unwrap_or(false);
        if fixed && zero {
            let what = "a fixed image has all its blocks: block_state_zero=on is for dynamic ones";
            return Err(Error::invalid(what));
        }
        let uuid = match options.text("uuid") {
            None => None,
            Some(text) => {
                let uuid = parse_uuid(text)
                    .ok_or_else(|| Error::invalid(format!("uuid is a UUID, not '{text}'")))?;
                Some(uuid)
            }
        };
        let geometry = Geometry { block, ..geometry };
        Ok(Plan { geometry, fixed, physical, log, empty: if zero { ZERO } else { 0 }, uuid })
    }

    /// Where the metadata lie: behind the headers and the log.
    pub(super) fn metadata(&self) -> u64 {
        MIB + self.log
    }

    /// Where the table of blocks lies.
    pub(super) fn bat(&self) -> u64 {
        self.metadata() + MIB
    }

    /// Bytes of the region that the table of blocks has.
    pub(super) fn bat_len(&self) -> u64 {
        (self.geometry.entries() * 8).next_multiple_of(MIB).max(MIB)
    }

    /// Where the first block lies.
    pub(super) fn data(&self) -> u64 {
        self.bat() + self.bat_len()
    }

    /// The entry of a block that lies at `offset`.
    pub(super) fn present(offset: u64) -> u64 {
        (offset & BAT_OFFSET) | PRESENT
    }
}

/// Bytes of a logical sector.
fn sector(options: &Options) -> Result<u64> {
    let choice = options.choice("logical_sector_size", &["512", "4096"])?;
    Ok(if choice == Some(1) { 4096 } else { 512 })
}

/// Small blocks leave out more zeros, and a small table is quick to read: the smallest block for
/// which the table takes no more than it takes anyway.
fn usual_block(geometry: Geometry) -> u64 {
    let mut usual = Geometry { block: MIN_BLOCK, ..geometry };
    while usual.block < USUAL_BLOCK && usual.entries() * 8 > USUAL_BAT {
        usual.block *= 2;
    }
    usual.block
}

/// The size of the disk: whole sectors.
pub(super) fn padded(size: u64, options: &Options) -> Result<u64> {
    if size > MAX_DISK {
        let what = format!("a disk of {size} bytes, and vhdx has 64 TiB at most");
        return Err(Error::invalid(what));
    }
    Ok(size.next_multiple_of(sector(options)?))
}

/// The settings that an image was made with.
pub(super) fn likeness(window: &dyn Window, limits: &Limits) -> Result<Create> {
    let head = inspect::head(window, limits)?;
    let geometry = head.metadata.geometry;
    if geometry.parent {
        let what = "it is differencing, and only images that stand alone are written";
        return Err(Error::refused(what));
    }
    let mut options = Options::default();
    options.set("subformat", if head.metadata.fixed { "fixed" } else { "dynamic" });
    options.set("block_size", geometry.block.to_string());
    options.set("logical_sector_size", geometry.sector.to_string());
    if let Some(physical @ (512 | 4096)) = head.metadata.physical {
        options.set("physical_sector_size", physical.to_string());
    }
    if head.header.log_length > 0 {
        options.set("log_size", head.header.log_length.to_string());
    }
    if let Some(guid) = head.metadata.page_83 {
        options.set("uuid", uuid_text(swap_uuid(guid)));
    }
    Ok(Create { size: geometry.size, options, ..Create::default() })
}

/// The room that our writer takes for these stretches.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let plan = Plan::of(create)?;
    let Geometry { block, .. } = plan.geometry;
    // Stretches come in order: what they share is the block that came last.
    let (mut blocks, mut next) = (0, 0);
    usage(&mut |start, len| {
        let end = (start + len).div_ceil(block);
        blocks += end.saturating_sub((start / block).max(next));
        next = next.max(end);
    })?;
    let room = |blocks: u64| plan.data() + blocks * block;
    let fully_allocated = room(plan.geometry.blocks());
    let required = if plan.fixed { fully_allocated } else { room(blocks) };
    Ok(Measure { required, fully_allocated, bitmaps: None })
}
