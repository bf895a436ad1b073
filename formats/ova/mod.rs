//! OVA and OVF: virtual machines in a package, their disks as images of their own.
//!
//! ```text
//!   NAME.ova = tar of:
//!     NAME.ovf     XML: files ──▶ disks in them ──▶ machines that use those
//!     NAME.mf      digests of the other files, a line each
//!     NAME.cert    a signature of the manifest, and whose
//!     disk.vmdk    images, perhaps in chunks (.000000000, .000000001, ...) or gzipped
//! ```
//!
//! A descriptor may also lie by itself, with the files beside it. Any order of the members is
//! read; .ovf comes first in what is written. Source: DMTF DSP0243 1.1 and 2.1, and what vendors
//! do. Not supported: disks on top of each other, encryption, files behind a URL.

mod certificate;
mod check;
mod compose;
mod contents;
mod descriptor;
mod held;
mod inspect;
mod machine;
mod units;
mod xml;

pub(crate) use compose::describe;
pub(crate) use inspect::machine;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

/// The archive.
pub(crate) static FORMAT: Format = Format {
    extensions: &["ova"],
    holds_disks: true,
    packs_machines: true,
    entries: Some(contents::entries),
    padded: |size, _| whole_sectors(size),
    check: Some(check::archive),
    ..Format::known_by("ova", "virtual machines in an archive", contents::probe, inspect::archive)
};

/// The text in it, by itself.
pub(crate) static DESCRIPTOR: Format = Format {
    extensions: &["ovf"],
    holds_disks: true,
    padded: |size, _| whole_sectors(size),
    check: Some(check::descriptor),
    ..Format::known_by(
        "ovf",
        "virtual machines, their disks in files beside it",
        inspect::probe,
        inspect::descriptor,
    )
};
