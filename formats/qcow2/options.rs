//! What a new image may be told, and how much room it takes.

use super::layout::{Geometry, LAZY_REFCOUNTS, MAX_L1};
use super::{inspect, snapshot};
use crate::base::codec::{Codec, Packing};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, OptionHelp, Options};
use crate::base::model::format::Usage;
use crate::base::model::writer::Measure;
use crate::base::storage::Window;

pub(super) const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "compat",
        values: "0.10|v2|1.1|v3",
        about: "version of the format (default 1.1, which is v3)",
    },
    OptionHelp {
        name: "cluster_size",
        values: "512 to 2M, a power of two",
        about: "unit in which room is given out (default 64k)",
    },
    OptionHelp {
        name: "refcount_bits",
        values: "1|2|4|8|16|32|64",
        about: "width of a refcount (default 16)",
    },
    OptionHelp {
        name: "compression_type",
        values: "zlib|zstd",
        about: "how -c compresses (default zlib)",
    },
    OptionHelp {
        name: "compression_level",
        values: "1 to 12 (zlib), -7 to 22 (zstd)",
        about: "how hard -c tries (default 3)",
    },
    OptionHelp {
        name: "compression_window",
        values: "4k|32k",
        about: "how far back zlib refers; 4k for readers that want no more (default 32k)",
    },
    OptionHelp {
        name: "extended_l2",
        values: "on|off",
        about: "32 subclusters a cluster; wants clusters of 16k or more (default off)",
    },
    OptionHelp {
        name: "lazy_refcounts",
        values: "on|off",
        about: "lets a virtual machine postpone refcounts (default off)",
    },
    OptionHelp {
        name: "preallocation",
        values: "off|metadata|falloc|full",
        about: "tables only, room reserved, or room written in advance (default off)",
    },
    OptionHelp { name: "backing_file", values: "NAME", about: "the image underneath, as -b" },
    OptionHelp { name: "backing_fmt", values: "FORMAT", about: "its format, as -F" },
    OptionHelp {
        name: "data_file",
        values: "NAME",
        about: "keep the bytes of the disk in this file",
    },
    OptionHelp {
        name: "data_file_raw",
        values: "on|off",
        about: "the data file is a raw disk by itself (default off)",
    },
];

/// What becomes of clusters without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preallocation {
    Off,
    Metadata,
    Allocate,
    Write,
}

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    pub(super) refcount_order: u32,
    pub(super) lazy_refcounts: bool,
    pub(super) data_file_raw: bool,
    pub(super) preallocation: Preallocation,
    pub(super) packing: Option<Packing>,
    /// Whether units packed by others are as good as ours.
    pub(super) passes_on: bool,
    /// Entries of the L1 table.
    pub(super) l1_size: u64,
}

impl Plan {
    /// `Invalid` for values that do not exist or do not go together.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let options = &create.options;
        let v2 = options.choice("compat", &["0.10", "v2", "1.1", "v3"])?.is_some_and(|n| n < 2);
        let cluster_bits =
            power_of_two(options.size("cluster_size")?.unwrap_or(65536), "cluster_size")?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::invalid("cluster_size is 512 to 2M"));
        }
        let refcount_bits = options.number("refcount_bits")?.unwrap_or(16);
        let width = u64::try_from(refcount_bits).unwrap_or(0);
        let refcount_order = power_of_two(width, "refcount_bits")?;
        let zstd = options.choice("compression_type", &["zlib", "zstd"])? == Some(1);
        let codec = if zstd { Codec::Zstd } else { Codec::Deflate };
        let extended = options.flag("extended_l2")?.unwrap_or(false);
        let lazy_refcounts = options.flag("lazy_refcounts")?.unwrap_or(false);
        let modes = ["off", "metadata", "falloc", "full"];
        let preallocation = match options.choice("preallocation", &modes)? {
            None | Some(0) => Preallocation::Off,
            Some(1) => Preallocation::Metadata,
            Some(2) => Preallocation::Allocate,
            Some(_) => Preallocation::Write,
        };
        let data_file = options.text("data_file").is_some();
        let data_file_raw = options.flag("data_file_raw")?.unwrap_or(false);
        let version = if v2 { 2 } else { 3 };
        let geometry = Geometry { version, cluster_bits, extended, data_file, codec };
        let mut plan = Plan {
            geometry,
            refcount_order,
            lazy_refcounts,
            data_file_raw,
            preallocation,
            packing: packing(create, codec)?,
            passes_on: options.text("compression_level").is_none()
                && options.text("compression_window").is_none(),
            // A disk without bytes has a table all the same.
            l1_size: create.size.div_ceil(geometry.l2_reach()).max(1),
        };
        plan.check(create)?;
        if data_file_raw && preallocation == Preallocation::Off {
            // A raw data file stands for itself: every cluster of it has its place.
            plan.preallocation = Preallocation::Metadata;
        }
        Ok(plan)
    }

    fn check(&self, create: &Create) -> Result<()> {
        let Geometry { version, cluster_bits, extended, data_file, codec } = self.geometry;
        let old = version == 2;
        let preallocates = self.preallocation != Preallocation::Off;
        let backing = create.backing.is_some();
        let rules: &[(bool, &str)] = &[
            (self.refcount_order > 6, "refcount_bits is 1 to 64"),
            (old && self.refcount_order != 4, "compat=0.10 has refcounts of 16 bits only"),
            (old && self.lazy_refcounts, "compat=0.10 has no lazy_refcounts"),
            (old && codec == Codec::Zstd, "compat=0.10 has no zstd"),
            (old && extended, "compat=0.10 has no extended_l2"),
            (old && data_file, "compat=0.10 has no data_file"),
            (extended && cluster_bits < 14, "extended_l2 wants a cluster_size of 16k or more"),
            (self.data_file_raw && !data_file, "data_file_raw wants a data_file"),
            (self.data_file_raw && backing, "data_file_raw and a backing file exclude each other"),
            (create.compress && data_file, "a data file is not compressed"),
            (create.compress && preallocates, "compression and preallocation exclude each other"),
            (backing && preallocates, "preallocation and a backing file exclude each other"),
            (data_file && create.data_file.is_none(), "the data file was not opened"),
        ];
        for (broken, what) in rules {
            if *broken {
                return Err(Error::invalid(*what));
            }
        }
        if self.l1_size * 8 > MAX_L1 {
            let (size, cluster) = (create.size, self.geometry.cluster());
            let what = format!("{size} bytes of disk are too many for clusters of {cluster}");
            return Err(Error::invalid(what));
        }
        Ok(())
    }
}

fn power_of_two(number: u64, what: &str) -> Result<u32> {
    if number.is_power_of_two() {
        return Ok(number.trailing_zeros());
    }
    Err(Error::invalid(format!("{what} is a power of two, not {number}")))
}

fn packing(create: &Create, codec: Codec) -> Result<Option<Packing>> {
    let level = create.options.number("compression_level")?.unwrap_or(3);
    let range = if codec == Codec::Zstd { -7..=22 } else { 1..=12 };
    if !range.contains(&level) {
        let (low, high) = (range.start(), range.end());
        let name = codec.name();
        return Err(Error::invalid(format!(
            "compression_level is {low} to {high} for {name}, not {level}"
        )));
    }
    let level = i32::try_from(level).expect("in the range above");
    let window_bits = match create.options.size("compression_window")? {
        None | Some(32768) => 15,
        Some(4096) => 12,
        Some(other) => {
            return Err(Error::invalid(format!("compression_window is 4k or 32k, not {other}")));
        }
    };
    Ok(create.compress.then_some(Packing { codec, level, window_bits }))
}

/// The settings that an image was made with.
pub(super) fn likeness(window: &dyn Window, limits: &Limits) -> Result<Create> {
    let head = inspect::head(window)?;
    let kept = [
        (!snapshot::read(window, &head.header, limits)?.is_empty(), "snapshots"),
        (head.bitmaps.is_some_and(|directory| directory.count > 0), "bitmaps"),
        (head.geometry.data_file, "a data file"),
        (head.header.crypt_method != 0, "encrypted content"),
    ];
    if let Some((_, what)) = kept.iter().find(|(has, _)| *has) {
        return Err(Error::refused(format!("it has {what}, which a new image would not have")));
    }
    let mut options = Options::default();
    let flag = |set: bool| if set { "on" } else { "off" };
    options.set("compat", if head.header.version == 2 { "v2" } else { "v3" });
    options.set("cluster_size", head.geometry.cluster().to_string());
    options.set("refcount_bits", (1_u32 << head.header.refcount_order).to_string());
    options.set("compression_type", head.geometry.codec.name());
    options.set("extended_l2", flag(head.geometry.extended));
    options.set("lazy_refcounts", flag(head.header.compatible & LAZY_REFCOUNTS != 0));
    let backing = match (head.backing, head.backing_format) {
        (None, _) => None,
        (Some(name), Some(format)) => Some((name, format)),
        (Some(_), None) => {
            return Err(Error::refused("it does not say of which format its backing file is"));
        }
    };
    Ok(Create { size: head.header.size, backing, options, ..Create::default() })
}

/// The room that our writer takes for these stretches, were none of them to shrink.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let mut create = create.clone();
    create.compress = false;
    let plan = Plan::of(&create)?;
    let geometry = plan.geometry;
    let all = create.size.div_ceil(geometry.cluster());
    let (mut data, mut tables) = (0, 0);
    // Stretches come in order: what they share is the cluster or table that came last.
    let (mut next_cluster, mut next_table) = (0, 0);
    usage(&mut |start, len| {
        let end = (start + len).div_ceil(geometry.cluster());
        let first = (start / geometry.cluster()).max(next_cluster);
        data += end.saturating_sub(first);
        next_cluster = next_cluster.max(end);
        let end = (start + len).div_ceil(geometry.l2_reach());
        let first = (start / geometry.l2_reach()).max(next_table);
        tables += end.saturating_sub(first);
        next_table = next_table.max(end);
    })?;
    let full = plan.room(all, plan.l1_size);
    let required = match plan.preallocation {
        Preallocation::Off => plan.room(data, tables),
        Preallocation::Metadata | Preallocation::Allocate | Preallocation::Write => full,
    };
    Ok(Measure { required, fully_allocated: full, bitmaps: None })
}

impl Plan {
    /// Bytes of a file with so many clusters of data and L2 tables.
    fn room(&self, data: u64, tables: u64) -> u64 {
        let cluster = self.geometry.cluster();
        let data = if self.geometry.data_file { 0 } else { data };
        let used = 1 + (self.l1_size * 8).div_ceil(cluster) + tables + data;
        let per_block = (cluster * 8) >> self.refcount_order;
        let mut all = used;
        loop {
            let blocks = all.div_ceil(per_block);
            let more = used + blocks + (blocks * 8).div_ceil(cluster);
            if more <= all {
                return all * cluster;
            }
            all = more;
        }
    }
}
