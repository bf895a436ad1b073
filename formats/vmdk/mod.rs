//! vmdk: VMware's format; a descriptor says of which extents a disk is made.
//!
//! ```text
//!   descriptor    text: a file of its own, or inside the only sparse extent
//!   flat extent   bytes of the disk
//!   sparse one    header | descriptor | grain directory ──▶ grain tables ──▶ grains
//!   stream        header | descriptor | marker, grain | ... | marker, table | ...
//!                        | marker, directory | marker, footer | end
//! ```
//!
//! Source: libyal `libvmdk` documentation; VMware `open-vmdk`. Not supported: disks on devices;
//! encrypted extents; images with a parent are read, and are not written.

mod check;
mod descriptor;
mod flat;
mod forward;
mod inspect;
mod layout;
mod likeness;
mod options;
mod reader;
mod repair;
mod resize;
mod sparse;
mod split;
mod stream;
mod survey;
mod writer;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["vmdk"],
    open: Some(reader::open),
    forward: Some(forward::open),
    padded: |size, _| whole_sectors(size),
    create: Some(writer::create),
    spreads: Some(options::spreads),
    appends: Some(options::appends),
    likeness: Some(likeness::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by(
        "vmdk",
        "VMware's disk image, in its files or as a stream",
        inspect::probe,
        inspect::inspect,
    )
};
