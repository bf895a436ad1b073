//! VHDX: Hyper-V's format, with blocks that are there only when written, and a log.
//!
//! ```text
//!   0        "vhdxfile" and who made it     (the first MiB)
//!   64 KiB   header 1   ┐ the one with the higher number counts;
//!   128 KiB  header 2   ┘ it says where the log is
//!   192 KiB  regions 1  ┐ the same twice: where the BAT and
//!   256 KiB  regions 2  ┘ the metadata are
//!   1 MiB ..            in any order, at whole MiB:
//!              log        changes that are promised, in a ring
//!              metadata   size of the disk, of blocks and sectors, the parent
//!              BAT        ──▶ blocks of the disk, ──▶ bitmaps of sectors in between
//! ```
//!
//! Source: [MS-VHDX]. A log that is pending is replayed in memory for whoever reads, and into the
//! file by a repair only. Not supported: differencing images are read, and not written; regions
//! and metadata that the specification does not know are refused if they are required.

mod check;
mod headers;
mod inspect;
mod layout;
mod log;
mod metadata;
mod options;
mod reader;
mod repair;
mod resize;
mod writer;

use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["vhdx", "avhdx"],
    open: Some(reader::open),
    padded: options::padded,
    create: Some(writer::create),
    likeness: Some(options::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by("vhdx", "Hyper-V's format, with a log", inspect::probe, inspect::inspect)
};
