//! What a new image may be told, and how much room it takes.

use super::inspect;
use super::layout::{DIFFERENCING, ENTRY, FIXED};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, OptionHelp, Options};
use crate::base::model::format::Usage;
use crate::base::model::identity::{parse_uuid, uuid_text};
use crate::base::model::writer::Measure;
use crate::base::storage::Window;

pub(super) const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "static",
        values: "on|off",
        about: "room for every block, in the order of the disk (default off)",
    },
    OptionHelp {
        name: "block_size",
        values: "128k to 16M, a power of two",
        about: "unit in which room is given out; qemu and 7-Zip read 1M only (default 1M)",
    },
    OptionHelp {
        name: "uuid",
        values: "UUID",
        about: "what the image is known by (default: it follows from the content)",
    },
    OptionHelp {
        name: "modify_uuid",
        values: "UUID",
        about: "the state it is in; with uuid, blocks can be shared (default: as for uuid)",
    },
];

/// Where the map begins: behind the header, where qemu puts it, too.
const MAP: u64 = 512;
/// Blocks begin at a multiple of this, so that a file system can share them.
const ALIGNMENT: u64 = 4096;

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) fixed: bool,
    pub(super) block: u64,
    pub(super) blocks: u64,
    pub(super) map: u64,
    pub(super) data: u64,
    pub(super) create: Option<[u8; 16]>,
    pub(super) modify: Option<[u8; 16]>,
}

impl Plan {
    /// `Invalid` for values that do not exist or do not go together.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let Create { size, options, .. } = create;
        let block = options.size("block_size")?.unwrap_or(1 << 20);
        // VirtualBox refuses smaller ones.
        if !block.is_power_of_two() || !(1 << 17..=1 << 24).contains(&block) {
            let what = format!("block_size is a power of two from 128k to 16M, not {block}");
            return Err(Error::invalid(what));
        }
        if create.compress {
            return Err(Error::invalid("vdi images are not compressed"));
        }
        if create.backing.is_some() || create.data_file.is_some() {
            return Err(Error::invalid("vdi images are written without another file"));
        }
        if !size.is_multiple_of(512) {
            let what = format!("a disk of {size} bytes: sizes are multiples of 512");
            return Err(Error::invalid(what));
        }
        let blocks = size.div_ceil(block);
        let data = blocks.checked_mul(ENTRY).and_then(|len| len.checked_add(MAP));
        let data = data.and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        let Some(data) = data.filter(|data| u32::try_from(*data).is_ok()) else {
            let what = format!("{size} bytes of disk are too many for blocks of {block}");
            return Err(Error::invalid(what));
        };
        Ok(Plan {
            fixed: options.flag("static")?.unwrap_or(false),
            block,
            blocks,
            map: MAP,
            data,
            create: uuid(options, "uuid")?,
            modify: uuid(options, "modify_uuid")?,
        })
    }

    /// Bytes of a file with so many blocks.
    pub(super) fn room(&self, blocks: u64) -> u64 {
        self.data + blocks * self.block
    }
}

fn uuid(options: &Options, key: &str) -> Result<Option<[u8; 16]>> {
    let Some(text) = options.text(key) else { return Ok(None) };
    match parse_uuid(text) {
        Some(uuid) if uuid != [0; 16] => Ok(Some(uuid)),
        _ => Err(Error::invalid(format!("{key} is a UUID that is not null, not '{text}'"))),
    }
}

/// The settings that an image was made with, and what it is known by.
pub(super) fn likeness(window: &dyn Window, _: &Limits) -> Result<Create> {
    let header = inspect::head(window)?;
    if header.kind == DIFFERENCING {
        return Err(Error::refused("it has a parent, which a new image would not have"));
    }
    let mut options = Options::default();
    options.set("static", if header.kind == FIXED { "on" } else { "off" });
    options.set("block_size", header.block.to_string());
    if header.create != [0; 16] {
        options.set("uuid", uuid_text(header.create));
    }
    Ok(Create { size: header.size, options, ..Create::default() })
}

/// The room that our writer takes for these stretches.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let plan = Plan::of(create)?;
    // Stretches come in order: what they share is the block that came last.
    let (mut used, mut next) = (0, 0);
    usage(&mut |start, len| {
        let end = (start + len).div_ceil(plan.block);
        used += end.saturating_sub((start / plan.block).max(next));
        next = next.max(end);
    })?;
    let full = plan.room(plan.blocks);
    let required = if plan.fixed { full } else { plan.room(used) };
    Ok(Measure { required, fully_allocated: full, bitmaps: None })
}
