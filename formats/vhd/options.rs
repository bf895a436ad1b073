//! What a new image may be told, and how much room it takes.

use super::inspect;
use super::layout::{
    Blocks, DIFFERENCING, ENTRY, FIXED, FOOTER, Geometry, HEADER, MAX_DYNAMIC, SECTOR, entry_for,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, OptionHelp, Options, whole_sectors};
use crate::base::model::format::Usage;
use crate::base::model::identity::parse_uuid;
use crate::base::model::writer::Measure;
use crate::base::storage::Window;

pub(super) const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "subformat",
        values: "dynamic|fixed",
        about: "blocks as they are needed, or all of the disk (default dynamic)",
    },
    OptionHelp {
        name: "force_size",
        values: "on|off",
        about: "the size as asked; off: up to the next one with a geometry (default on)",
    },
    OptionHelp {
        name: "block_size",
        values: "512k to 8M, a power of two",
        about: "unit in which room is given out (default 2M)",
    },
    OptionHelp {
        name: "uuid",
        values: "UUID",
        about: "what children know it by; with it, blocks can be shared (default: it follows \
                from the content)",
    },
];

/// Where the BAT of a new image lies: behind footer and header.
const BAT: u64 = FOOTER + HEADER;
/// The bytes of blocks begin at a multiple of this, as those of Windows do.
const ALIGNMENT: u64 = 4096;

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) fixed: bool,
    pub(super) blocks: Blocks,
    /// Entries of the BAT.
    pub(super) entries: u64,
    pub(super) bat: u64,
    pub(super) uuid: Option<[u8; 16]>,
}

impl Plan {
    /// `Invalid` for values that do not exist or do not go together.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let Create { size, options, .. } = create;
        let block = options.size("block_size")?.unwrap_or(2 << 20);
        if !block.is_power_of_two() || !(512 << 10..=8 << 20).contains(&block) {
            let what = format!("block_size is a power of two from 512k to 8M, not {block}");
            return Err(Error::invalid(what));
        }
        if create.compress {
            return Err(Error::invalid("vhd images are not compressed"));
        }
        if create.backing.is_some() || create.data_file.is_some() {
            return Err(Error::invalid("vhd images are written without another file"));
        }
        let padded = padded(*size, options)?;
        if padded != *size {
            let what = format!("a disk of {size} bytes, and the next size there is is {padded}");
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
        let fixed = options.choice("subformat", &["dynamic", "fixed"])? == Some(1);
        let blocks = Blocks::of(block);
        let plan = Plan { fixed, blocks, entries: blocks.on(*size), bat: BAT, uuid };
        if !fixed && (*size > MAX_DYNAMIC || plan.end(plan.entries).and_then(entry_for).is_none()) {
            let what = format!("{size} bytes are more than a dynamic image can hold");
            return Err(Error::invalid(format!("{what}; subformat=fixed holds any size")));
        }
        Ok(plan)
    }

    /// Bytes of the BAT, in whole sectors.
    pub(super) fn bat_len(&self) -> u64 {
        (self.entries * ENTRY).next_multiple_of(SECTOR)
    }

    /// Where the bytes of a block begin when everything before ends here: its bitmap comes between.
    pub(super) fn data_after(&self, end: u64) -> u64 {
        (end + self.blocks.bitmap).next_multiple_of(ALIGNMENT)
    }

    /// Where so many blocks end; `None` if no file is so long.
    fn end(&self, blocks: u64) -> Option<u64> {
        let front = self.bat + self.bat_len();
        let Some(more) = blocks.checked_sub(1) else { return Some(front) };
        let stride = self.data_after(self.blocks.size);
        (self.data_after(front) + self.blocks.size).checked_add(more.checked_mul(stride)?)
    }

    /// Bytes of a file with so many blocks.
    fn room(&self, blocks: u64) -> u64 {
        self.end(blocks).map_or(u64::MAX, |end| end + FOOTER)
    }
}

/// The size as asked, in whole sectors, or the next one with a geometry of its own.
pub(super) fn padded(size: u64, options: &Options) -> Result<u64> {
    let whole = whole_sectors(size)?;
    Ok(if options.flag("force_size")? == Some(false) { Geometry::round_up(whole) } else { whole })
}

/// The settings that an image was made with.
pub(super) fn likeness(window: &dyn Window, _: &Limits) -> Result<Create> {
    let head = inspect::head(window)?;
    let kind = head.chosen.footer.kind;
    if kind == DIFFERENCING {
        return Err(Error::refused("it has a parent, which a new image would not have"));
    }
    let mut options = Options::default();
    options.set("subformat", if kind == FIXED { "fixed" } else { "dynamic" });
    if let Some(dynamic) = head.dynamic {
        options.set("block_size", dynamic.blocks.size.to_string());
    }
    Ok(Create { size: head.size, options, ..Create::default() })
}

/// The room that our writer takes for these stretches.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let plan = Plan::of(create)?;
    if plan.fixed {
        let all = create.size + FOOTER;
        return Ok(Measure { required: all, fully_allocated: all, bitmaps: None });
    }
    // Stretches come in order: what they share is the block that came last.
    let (mut used, mut next) = (0, 0);
    usage(&mut |start, len| {
        let end = (start + len).div_ceil(plan.blocks.size);
        used += end.saturating_sub((start / plan.blocks.size).max(next));
        next = next.max(end);
    })?;
    let (required, fully_allocated) = (plan.room(used), plan.room(plan.entries));
    Ok(Measure { required, fully_allocated, bitmaps: None })
}
