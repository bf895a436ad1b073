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
    name: "qed",
    aliases: &[],
    about: "QEMU's enhanced disk",
    extensions: &["qed"],
    probe: inspect::probe,
    inspect: inspect::inspect,
    holds_disks: false,
    entries: None,
    open: Some(reader::open),
    forward: None,
    padded: |size, _| whole_sectors(size),
    create: None,
    appends: None,
    likeness: None,
    measure: None,
    check: Some(check::check),
    repair: None,
    resize: None,
    options: &[],
};
