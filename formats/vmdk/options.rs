//! What a new image may be told, and how much room it takes.

use super::descriptor::Text;
use super::layout::{ENTRIES, SECTOR};
use super::split::Cut;
use crate::base::codec::{Codec, Encoder, Packing};
use crate::base::error::{Error, Result};
use crate::base::model::create::{Create, OptionHelp, Options};
use crate::base::model::format::Usage;
use crate::base::model::identity::{Identity, parse_uuid};
use crate::base::model::writer::Measure;

pub(super) const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "subformat",
        values: "monolithicSparse|monolithicFlat|twoGbMaxExtentSparse|twoGbMaxExtentFlat|\
                 streamOptimized",
        about: "where the disk lies: in this file or in some beside it, as needed or all of it; \
                or compressed, to be sent (default monolithicSparse; compressed: streamOptimized)",
    },
    OptionHelp {
        name: "adapter_type",
        values: "ide|lsilogic|buslogic|legacyESX|pvscsi",
        about: "controller of the disk (default ide; streamOptimized: lsilogic)",
    },
    OptionHelp {
        name: "hwversion",
        values: "1 to 99",
        about: "version of the virtual hardware (default 4)",
    },
    OptionHelp { name: "compat6", values: "on|off", about: "hwversion 6 (default off)" },
    OptionHelp {
        name: "toolsversion",
        values: "0 to 2147483647",
        about: "version of the guest's tools (default 2147483647: unknown)",
    },
    OptionHelp {
        name: "zeroed_grain",
        values: "on|off",
        about: "zeros are noted down, in sparse extents of version 2 (default off)",
    },
    OptionHelp {
        name: "compression_level",
        values: "1 to 12",
        about: "how hard to compress, for streamOptimized (default 6)",
    },
    OptionHelp {
        name: "cid",
        values: "8 hexadecimal digits",
        about: "identifier of the content, by which children know it (default: it follows from \
                the content; streamOptimized: from size and settings)",
    },
    OptionHelp {
        name: "uuid",
        values: "UUID",
        about: "what the image is known by; with cid, blocks can be shared (default: as for cid)",
    },
];

/// Bytes of a grain.
pub(super) const GRAIN: u64 = 64 << 10;
/// Bytes of disk behind one table.
pub(super) const REACH: u64 = GRAIN * ENTRIES as u64;
/// Bytes of one table.
pub(super) const TABLE: u64 = 4 * ENTRIES as u64;
/// Bytes for a descriptor inside an extent.
pub(super) const DESCRIPTOR: u64 = 20 * SECTOR;
/// Tables of one extent at most: the directory of so many is the largest that anybody reads.
const MOST_TABLES: u64 = 1 << 24;
/// Measured on programs: the lowest level whose images are no larger than qemu's, and still in a
/// quarter of its time; level 3 takes 2 % more room and a third less time.
const LEVEL: i32 = 6;
/// What stands for a name that is not known yet: no file has a longer one.
const LONGEST_NAME: usize = 255;

/// Kinds of images that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subformat {
    MonolithicSparse,
    MonolithicFlat,
    SplitSparse,
    SplitFlat,
    Stream,
}

/// All of them, by the words for them.
const KINDS: [(&str, Subformat); 5] = [
    ("monolithicSparse", Subformat::MonolithicSparse),
    ("monolithicFlat", Subformat::MonolithicFlat),
    ("twoGbMaxExtentSparse", Subformat::SplitSparse),
    ("twoGbMaxExtentFlat", Subformat::SplitFlat),
    ("streamOptimized", Subformat::Stream),
];

impl Subformat {
    /// As it was asked for, if it was.
    fn chosen(options: &Options) -> Result<Option<Subformat>> {
        let found = options.choice("subformat", &KINDS.map(|(name, _)| name))?;
        Ok(found.map(|index| KINDS[index].1))
    }

    /// Its word.
    pub(super) fn name(self) -> &'static str {
        let found = KINDS.iter().find(|(_, kind)| *kind == self);
        found.expect("all kinds are there").0
    }

    pub(super) fn is_sparse(self) -> bool {
        matches!(self, Subformat::MonolithicSparse | Subformat::SplitSparse)
    }

    fn is_flat(self) -> bool {
        matches!(self, Subformat::MonolithicFlat | Subformat::SplitFlat)
    }

    /// How the disk is cut into files beside the descriptor; `None` if there are none.
    pub(super) fn cut(self) -> Option<Cut> {
        match self {
            Subformat::MonolithicSparse | Subformat::Stream => None,
            Subformat::MonolithicFlat => Some(Cut::Whole),
            Subformat::SplitSparse => Some(Cut::Pieces('s')),
            Subformat::SplitFlat => Some(Cut::Pieces('f')),
        }
    }
}

/// Whether other files hold the disk.
pub(super) fn spreads(options: &Options) -> bool {
    matches!(Subformat::chosen(options), Ok(Some(kind)) if kind.cut().is_some())
}

/// What was asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) kind: Subformat,
    pub(super) size: u64,
    /// Whether zeros are noted down.
    pub(super) zeros: bool,
    pub(super) packing: Packing,
    adapter: &'static str,
    hardware: u64,
    tools: u64,
    cid: Option<u32>,
    uuid: Option<[u8; 16]>,
}

impl Plan {
    /// `Invalid` for values that do not exist or do not go together.
    pub(super) fn of(create: &Create) -> Result<Plan> {
        let Create { size, options, .. } = create;
        if create.backing.is_some() || create.data_file.is_some() {
            return Err(Error::invalid("vmdk images are written without another image"));
        }
        if !size.is_multiple_of(SECTOR) || i64::try_from(*size).is_err() {
            let what = format!("a disk of {size} bytes: sizes are multiples of 512 below 2^63");
            return Err(Error::invalid(what));
        }
        let kind = match Subformat::chosen(options)? {
            Some(kind) if create.compress && kind != Subformat::Stream => {
                return Err(Error::invalid(format!("{} is not compressed", kind.name())));
            }
            Some(kind) => kind,
            None if create.compress => Subformat::Stream,
            None => Subformat::MonolithicSparse,
        };
        let zeros = options.flag("zeroed_grain")?;
        if zeros.is_some() && !kind.is_sparse() {
            return Err(Error::invalid(format!("zeroed_grain is nothing for {}", kind.name())));
        }
        let plan = Plan {
            kind,
            size: *size,
            zeros: zeros.unwrap_or(false),
            packing: Packing { codec: Codec::Zlib, level: level(kind, options)?, window_bits: 15 },
            adapter: adapter(kind, options)?,
            hardware: hardware(options)?,
            tools: number(options, "toolsversion", 0, 2_147_483_647)?.unwrap_or(2_147_483_647),
            cid: cid(options)?,
            uuid: uuid(options)?,
        };
        plan.fits()?;
        Ok(plan)
    }

    /// `Invalid` if the tables, or the files, are too many.
    fn fits(&self) -> Result<()> {
        let size = self.size;
        let extent = self.kind.cut().map_or(size, |cut| cut.stride().min(size));
        if !self.kind.is_flat() && extent.div_ceil(REACH) > MOST_TABLES {
            let what = format!("{size} bytes are more than a sparse extent can hold");
            return Err(Error::invalid(what));
        }
        Ok(())
    }

    /// Whether it is known by what the user said, whatever its content.
    pub(super) fn is_named(&self) -> bool {
        self.cid.is_some() && self.uuid.is_some()
    }

    /// Bytes of descriptor inside an extent.
    pub(super) fn embedded(&self) -> u64 {
        if self.kind.cut().is_none() { DESCRIPTOR } else { 0 }
    }

    /// The descriptor, with these lines about extents.
    pub(super) fn describe(&self, identity: &Identity, extents: Vec<String>) -> String {
        let mut long_id = [0; 12];
        long_id.copy_from_slice(&identity.uuid("content")[..12]);
        let text = Text {
            kind: self.kind.name(),
            cid: self.cid.unwrap_or_else(|| identity.number("cid")),
            size: self.size,
            extents,
            adapter: self.adapter,
            hardware: self.hardware,
            tools: self.tools,
            uuid: self.uuid.unwrap_or_else(|| identity.uuid("uuid")),
            long_id,
            thin: self.kind.is_sparse(),
        };
        text.write()
    }
}

fn level(kind: Subformat, options: &Options) -> Result<i32> {
    let Some(level) = number(options, "compression_level", 1, 12)? else { return Ok(LEVEL) };
    if kind != Subformat::Stream {
        return Err(Error::invalid(format!("{} is not compressed", kind.name())));
    }
    i32::try_from(level).map_err(|_| Error::invalid("compression_level"))
}

fn adapter(kind: Subformat, options: &Options) -> Result<&'static str> {
    // Descriptors know no paravirtual one: its disks say lsilogic.
    const ADAPTERS: [(&str, &str); 5] = [
        ("ide", "ide"),
        ("lsilogic", "lsilogic"),
        ("buslogic", "buslogic"),
        ("legacyESX", "legacyESX"),
        ("pvscsi", "lsilogic"),
    ];
    let chosen = options.choice("adapter_type", &ADAPTERS.map(|(name, _)| name))?;
    let default = usize::from(kind == Subformat::Stream);
    Ok(ADAPTERS[chosen.unwrap_or(default)].1)
}

fn hardware(options: &Options) -> Result<u64> {
    let asked = number(options, "hwversion", 1, 99)?;
    match (options.flag("compat6")?, asked) {
        (Some(true), Some(version)) if version != 6 => {
            Err(Error::invalid(format!("compat6 means hwversion 6, not {version}")))
        }
        (Some(true), _) => Ok(6),
        (_, asked) => Ok(asked.unwrap_or(4)),
    }
}

fn number(options: &Options, key: &str, low: u64, high: u64) -> Result<Option<u64>> {
    let Some(number) = options.number(key)? else { return Ok(None) };
    let fits = u64::try_from(number).ok().filter(|number| (low..=high).contains(number));
    let wrong = || Error::invalid(format!("{key} is {low} to {high}, not {number}"));
    fits.map(Some).ok_or_else(wrong)
}

fn cid(options: &Options) -> Result<Option<u32>> {
    let Some(text) = options.text("cid") else { return Ok(None) };
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // The two largest mean that there is no parent, and no content yet.
    let number = u32::from_str_radix(text, 16).ok().filter(|cid| digits && *cid < u32::MAX - 1);
    number.map(Some).ok_or_else(|| {
        let what = "cid is 8 hexadecimal digits below fffffffe";
        Error::invalid(format!("{what}, not '{text}'"))
    })
}

fn uuid(options: &Options) -> Result<Option<[u8; 16]>> {
    let Some(text) = options.text("uuid") else { return Ok(None) };
    let uuid = parse_uuid(text);
    uuid.map(Some).ok_or_else(|| Error::invalid(format!("uuid is a UUID, not '{text}'")))
}

/// Whether such an image is written from front to end only.
pub(super) fn appends(options: &Options) -> bool {
    matches!(Subformat::chosen(options), Ok(Some(Subformat::Stream)))
}

/// Whether a new image, of no size, may be told so.
pub(super) fn accepts(options: &Options) -> bool {
    Plan::of(&Create { options: options.clone(), ..Create::default() }).is_ok()
}

/// Where the parts of a sparse extent lie: offsets, and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Front {
    /// How many tables there are.
    pub(super) tables: u64,
    /// The second copy of the directory; its tables follow it.
    pub(super) redundant: u64,
    /// The directory; its tables follow it.
    pub(super) directory: u64,
    /// Bytes of a directory.
    pub(super) directory_len: u64,
    /// Where the grains begin.
    pub(super) data: u64,
}

impl Front {
    /// Of an extent with so many bytes of disk, and of descriptor.
    pub(super) fn of(size: u64, descriptor: u64) -> Front {
        let tables = size.div_ceil(REACH);
        let directory_len = (tables * 4).next_multiple_of(SECTOR);
        let copy = directory_len + tables * TABLE;
        let redundant = SECTOR + descriptor;
        let directory = redundant + copy;
        let data = (directory + copy).next_multiple_of(GRAIN);
        Front { tables, redundant, directory, directory_len, data }
    }
}

/// The room that our writer takes for these stretches.
pub(super) fn measure(create: &Create, usage: &mut Usage) -> Result<Measure> {
    let plan = Plan::of(create)?;
    // Stretches come in order: what they share is the unit that came last.
    let (mut grains, mut next) = (Units::of(GRAIN), Units::of(REACH));
    usage(&mut |start, len| {
        grains.add(start, len);
        next.add(start, len);
    })?;
    let all = |unit: u64| plan.size.div_ceil(unit);
    let (required, fully_allocated) = match plan.kind {
        Subformat::Stream => {
            (plan.stream(grains.used, next.used), plan.stream(all(GRAIN), all(REACH)))
        }
        Subformat::MonolithicFlat | Subformat::SplitFlat => {
            let room = plan.size + plan.text_len(create);
            (room, room)
        }
        Subformat::MonolithicSparse | Subformat::SplitSparse => {
            let front = plan.fronts() + plan.text_len(create);
            (front + grains.used * GRAIN, front + all(GRAIN) * GRAIN)
        }
    };
    Ok(Measure { required, fully_allocated, bitmaps: None })
}

/// Counts units that stretches touch, which come in order.
struct Units {
    unit: u64,
    used: u64,
    next: u64,
}

impl Units {
    fn of(unit: u64) -> Units {
        Units { unit, used: 0, next: 0 }
    }

    fn add(&mut self, start: u64, len: u64) {
        let end = (start + len).div_ceil(self.unit);
        self.used += end.saturating_sub((start / self.unit).max(self.next));
        self.next = self.next.max(end);
    }
}

impl Plan {
    /// Bytes in front of the grains of all sparse extents.
    fn fronts(&self) -> u64 {
        let stride = self.kind.cut().map_or(u64::MAX, Cut::stride);
        let front = |len| Front::of(len, self.embedded()).data;
        match (self.size / stride, self.size % stride) {
            (0, rest) => front(rest),
            (whole, 0) => whole * front(stride),
            (whole, rest) => whole * front(stride) + front(rest),
        }
    }

    /// Bytes of a descriptor in a file of its own.
    fn text_len(&self, create: &Create) -> u64 {
        let Some(cut) = self.kind.cut() else { return 0 };
        let longest = "x".repeat(LONGEST_NAME);
        let lines = (0..cut.count(self.size)).map(|_| self.line(cut.stride(), &longest));
        self.describe(&Identity::of("vmdk", create), lines.collect()).len() as u64
    }

    /// The line about an extent with so many bytes of disk.
    pub(super) fn line(&self, len: u64, name: &str) -> String {
        let sectors = len / SECTOR;
        match self.kind {
            Subformat::MonolithicFlat | Subformat::SplitFlat => {
                format!("RW {sectors} FLAT \"{name}\" 0")
            }
            Subformat::MonolithicSparse | Subformat::SplitSparse => {
                format!("RW {sectors} SPARSE \"{name}\"")
            }
            // It has no room for changes.
            Subformat::Stream => format!("RDONLY {sectors} SPARSE \"{name}\""),
        }
    }

    /// Bytes of a stream at most, with so many grains and tables.
    fn stream(&self, grains: u64, tables: u64) -> u64 {
        let marker = SECTOR;
        let packed = (super::layout::GRAIN_MARKER + Encoder::most(GRAIN)).next_multiple_of(SECTOR);
        let directory = Front::of(self.size, 0).directory_len;
        let end = (marker + directory) + (marker + SECTOR) + SECTOR;
        GRAIN + grains * packed + tables * (marker + TABLE) + end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_begins_with_both_copies_of_its_tables() {
        let front = Front::of(83_971 * 512, DESCRIPTOR);
        assert_eq!((front.tables, front.directory_len), (2, 512));
        assert_eq!((front.redundant, front.directory), (21 * 512, 30 * 512));
        assert_eq!(front.data, 65_536);
        assert_eq!(
            Front::of(0, 0),
            Front { data: 65_536, tables: 0, directory: 512, ..front_of_none() }
        );
    }

    fn front_of_none() -> Front {
        Front { tables: 0, redundant: 512, directory: 512, directory_len: 0, data: 65_536 }
    }

    #[test]
    fn what_does_not_go_together_is_invalid() {
        let plan = |compress, pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
            let create =
                Create { size: 512, compress, options: Options::new(pairs), ..Create::default() };
            Plan::of(&create)
        };
        assert_eq!(plan(true, &[]).expect("a stream").kind, Subformat::Stream);
        assert_eq!(plan(false, &[]).expect("a file").kind, Subformat::MonolithicSparse);
        for (compress, pairs) in [
            (true, [("subformat", "monolithicFlat")]),
            (false, [("compression_level", "3")]),
            (false, [("cid", "ffffffff")]),
            (false, [("cid", "fffffffe")]),
            (false, [("cid", "1234567")]),
            (false, [("cid", "+1234567")]),
            (false, [("uuid", "7")]),
            (false, [("hwversion", "0")]),
            (true, [("zeroed_grain", "on")]),
        ] {
            let error = plan(compress, &pairs).expect_err("it does not go together");
            assert_eq!(error.kind(), crate::Kind::Invalid, "{pairs:?}");
        }
        assert!(plan(false, &[("compat6", "on"), ("hwversion", "7")]).is_err());
    }
}
