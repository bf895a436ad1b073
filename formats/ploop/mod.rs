//! ploop: Parallels' and Virtuozzo's expanding disk; by itself, or with the text of a bundle that
//! says which of them lie on top of each other.
//!
//! ```text
//!   0          header, block allocation table: a u32 for each cluster of the disk
//!   data_off   clusters, one of them perhaps the format extension ──▶ dirty bitmaps
//!
//!   bundle     DiskDescriptor.xml: ranges of the disk ──▶ images ──▶ their parents
//! ```
//!
//! Of the two magics the older one counts in sectors, the newer one in clusters. Source: qemu
//! docs/interop/parallels.rst and prl-xml.rst. Not supported: encrypted bundles, and writing
//! bundles or bitmaps.

mod check;
mod clusters;
mod descriptor;
mod ext;
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
    aliases: &["parallels", "hds"],
    extensions: &["hds", "hdd"],
    open: Some(reader::open),
    padded: |size, _| whole_sectors(size),
    create: Some(writer::create),
    likeness: Some(options::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by(
        "ploop",
        "Parallels' and Virtuozzo's disk, and bundles",
        inspect::probe,
        inspect::inspect,
    )
};
