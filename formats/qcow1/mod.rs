//! qcow, version 1: clusters that are there only when written, in two levels of tables.
//!
//! ```text
//!   0          header, name of the backing file
//!   anywhere   L1 table ──▶ L2 tables ──▶ clusters of the disk
//!                                    └──▶ compressed clusters (bytes, not aligned)
//! ```
//!
//! Nothing counts who uses a cluster, and nothing says of which format the backing file is.
//! Source: qemu block/qcow.c. Not supported: writing, for qcow2 has replaced it; decryption (AES).

mod check;
mod inspect;
mod layout;
mod reader;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    aliases: &["qcow1"],
    extensions: &["qcow"],
    open: Some(reader::open),
    padded: |size, _| whole_sectors(size),
    check: Some(check::check),
    ..Format::known_by(
        "qcow",
        "QEMU's first copy-on-write format",
        inspect::probe,
        inspect::inspect,
    )
};
