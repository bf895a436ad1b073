//! qcow2: clusters that are there only when written, in two levels of tables.
//!
//! ```text
//!   0             header, extensions, name of the backing file        (first cluster)
//!   anywhere      refcount table ──▶ refcount blocks                  (who uses each cluster)
//!                 L1 table ──▶ L2 tables ──▶ clusters of the disk     (where the disk is)
//!                                       └──▶ compressed clusters      (bytes, not aligned)
//!                 snapshot table ──▶ an L1 table each
//!                 bitmap directory ──▶ bitmap tables ──▶ bitmaps
//! ```
//!
//! Source: qemu docs/interop/qcow2.txt. Not supported: decryption (AES, LUKS); internal
//! snapshots and bitmaps are listed and can be read, and are not written.

mod bitmap;
mod blocks;
mod check;
mod encryption;
mod inspect;
mod layout;
mod options;
mod reader;
mod rebuild;
mod refcount;
mod repair;
mod resize;
mod snapshot;
mod stored;
mod survey;
mod usage;
mod writer;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["qcow2", "qcow"],
    open: Some(reader::open),
    padded: |size, _| whole_sectors(size),
    create: Some(writer::create),
    spreads: Some(|options| options.text("data_file").is_some()),
    likeness: Some(options::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by(
        "qcow2",
        "QEMU's copy-on-write format, versions 2 and 3",
        inspect::probe,
        inspect::inspect,
    )
};
