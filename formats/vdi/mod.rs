//! vdi: `VirtualBox`'s format, blocks of one size found by a single map.
//!
//! ```text
//!   0        text, signature, version, header            (512 bytes at most here)
//!   map      one number for every block of the disk      (or: free, or: zeros)
//!   data     | extra, block 0 | extra, block 1 | ...     (in any order of the disk)
//! ```
//!
//! Source: `VirtualBox`, `VDICore.h`. Not supported: images of the undo type; images with a parent
//! are read, checked and mended, and are not written or resized. The parent has no name in the
//! file: the user says which it is, and the UUIDs say whether it is the right one.

mod blocks;
mod check;
mod inspect;
mod layout;
mod options;
mod reader;
mod repair;
mod resize;
mod writer;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["vdi"],
    open: Some(reader::open),
    padded: |size, _| whole_sectors(size),
    create: Some(writer::create),
    likeness: Some(options::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by("vdi", "VirtualBox's disk image", inspect::probe, inspect::inspect)
};
