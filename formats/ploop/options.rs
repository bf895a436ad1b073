//! What a new image may be told, and how much room it takes.

use super::inspect;
use super::layout::{CLOSED, ENTRY, Header, LENGTH, MAX_ENTRIES, NEW_MAGIC, SECTOR, VERSION};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, OptionHelp, Options};
use crate::base::model::format::Usage;
use crate::base::model::writer::Measure;
use crate::base::storage::Window;

/// Geometry for guests that ask: so many heads, and sectors of a cylinder of one head.
const HEADS: u32 = 16;
const CYLINDER: u64 = 32;

pub(super) const OPTIONS: &[OptionHelp] = &[OptionHelp {
    name: "cluster_size",
    values: "4k to 64M, a power of two",
    about: "unit in which room is given out (default 1M)",
}];

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) cluster: u64,
    /// Entries of the table.
    pub(super) entries: u64,
    /// Where the first cluster lies.
    pub(super) data: u64,
    size: u64,
}

impl Plan {
    /// `Invalid` for what does not exist or does not fit.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let size = create.size;
        let cluster = create.options.size("cluster_size")?.unwrap_or(1 << 20);
        if !cluster.is_power_of_two() || !(4096..=64 << 20).contains(&cluster) {
            let what = format!("cluster_size is a power of two, 4k to 64M, not {cluster}");
            return Err(Error::invalid(what));
        }
        if create.compress {
            return Err(Error::invalid("ploop images are not compressed"));
        }
        if create.backing.is_some() || create.data_file.is_some() {
            return Err(Error::invalid("ploop images have no backing file or data file"));
        }
        if !size.is_multiple_of(SECTOR) {
            let what = format!("a disk of {size} bytes: sizes are multiples of {SECTOR}");
            return Err(Error::invalid(what));
        }
        let entries = size.div_ceil(cluster);
        if entries > u64::from(MAX_ENTRIES) {
            let what = format!("{size} bytes of disk are too many for clusters of {cluster}");
            return Err(Error::invalid(what));
        }
        let data = (LENGTH + entries * ENTRY).next_multiple_of(cluster);
        Ok(Plan { cluster, entries, data, size })
    }

    /// Bytes of a file with so many clusters.
    pub(super) fn room(&self, clusters: u64) -> u64 {
        self.data + clusters * self.cluster
    }

    pub(super) fn header(&self) -> Header {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Header {
            magic: NEW_MAGIC,
            version: VERSION,
            heads: HEADS,
            cylinders: small(self.size / SECTOR / CYLINDER / u64::from(HEADS)),
            tracks: small(self.cluster / SECTOR),
            entries: small(self.entries),
            sectors: self.size / SECTOR,
            in_use: CLOSED,
            data: small(self.data / SECTOR),
            flags: 0,
            ext: 0,
        }
    }
}

/// The settings that an image was made with.
pub(super) fn likeness(window: &dyn Window, _: &Limits) -> Result<Create> {
    if !inspect::is_image(window)? {
        return Err(Error::refused("it is a bundle, which a new image would not be"));
    }
    let head = inspect::head(window)?;
    if head.header.ext != 0 {
        return Err(Error::refused("it has bitmaps, which a new image would not have"));
    }
    let mut options = Options::default();
    options.set("cluster_size", head.geometry.cluster.to_string());
    Ok(Create { size: head.geometry.size, options, ..Create::default() })
}

/// The room that our writer takes for these stretches.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let plan = Plan::of(create)?;
    // Stretches come in order: what they share is the cluster that came last.
    let (mut used, mut next) = (0, 0);
    usage(&mut |start, len| {
        let end = (start + len).div_ceil(plan.cluster);
        used += end.saturating_sub((start / plan.cluster).max(next));
        next = next.max(end);
    })?;
    let fully_allocated = plan.room(plan.entries);
    Ok(Measure { required: plan.room(used), fully_allocated, bitmaps: None })
}
