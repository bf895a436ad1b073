//! QED: clusters that are there only when written, in two levels of tables of the same size.
//!
//! ```text
//!   0          header, name of the backing file             (header_size clusters)
//!   anywhere   L1 table ──▶ L2 tables ──▶ clusters of the disk
//! ```
//!
//! Source: qemu `docs/interop/qed_spec.txt`. Not supported: writing, for qcow2 has replaced it.

mod check;
mod inspect;
mod layout;
mod reader;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["qed"],
    open: Some(reader::open),
    padded: |size, _| whole_sectors(size),
    check: Some(check::check),
    ..Format::known_by("qed", "QEMU's enhanced disk", inspect::probe, inspect::inspect)
};
