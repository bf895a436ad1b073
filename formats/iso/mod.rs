//! iso: a CD or DVD in a file, with ISO 9660, Joliet, Rock Ridge, El Torito, or UDF.
//!
//! ```text
//!   0        system area: free, or an MBR, a GPT, an Apple partition map
//!   32 KiB   descriptors, of 2 KiB each: primary, boot record, Joliet, terminator; those of UDF
//!     ..     path tables, directories, boot catalog
//!     ..     the content of files; padding, partitions behind the volume
//!
//!   primary ──▶ root directory ──▶ records: name, extent, size │ Rock Ridge: names, modes, links
//!   Joliet  ──▶ a root of its own ──▶ records with names in UCS-2 ─▶ the same extents
//!   boot record ──▶ catalog ──▶ images to boot from, by platform
//! ```
//!
//! The disk is the whole file, for what follows the volume may belong to a partition. Files come by
//! their Rock Ridge names if there are such, else by those of Joliet, else by the short ones.
//!
//! Source: ECMA-119, the specifications of Joliet, SUSP 1.12, RRIP 1.12, El Torito 1.0. Not
//! supported: the files of a volume that has UDF only; sessions after the first; files that are
//! interleaved or compressed (zisofs) are listed and not read.

mod author;
mod catalog;
mod dates;
mod descriptors;
mod directory;
mod entries;
mod fields;
mod hierarchy;
mod identifiers;
mod inspect;
mod layout;
mod names;
mod plan;
mod reader;
mod records;
mod rock_ridge;
mod tree;

pub use author::IsoAuthor;

use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    aliases: &["iso9660"],
    extensions: &["iso"],
    entries: Some(entries::entries),
    open: Some(reader::open),
    ..Format::known_by(
        "iso",
        "a CD or DVD: ISO 9660, Joliet, Rock Ridge, UDF",
        descriptors::probe,
        inspect::inspect,
    )
};
