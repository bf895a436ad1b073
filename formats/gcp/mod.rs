//! gcp: a raw disk in an archive of its own, as Google's cloud takes and gives images.
//!
//! ```text
//!   tar ┬ header: disk.raw, GNU, sparse or not
//!       ├ the bytes of the disk
//!       └ zeros
//! ```
//!
//! What the cloud takes is this, packed by gzip: that lies around it, and is no part of it. Such a
//! disk has a whole number of GiB, and the archive has no other member.
//! Not supported: sparse members as early pax versions have them.

mod inspect;
mod reader;
mod writer;

use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    aliases: &["gce"],
    entries: Some(inspect::entries),
    open: Some(reader::open),
    forward: Some(reader::forward),
    padded: writer::padded,
    create: Some(writer::create),
    appends: Some(|_| true),
    measure: Some(writer::measure),
    ..Format::known_by(
        "gcp",
        "disk.raw in a tar archive, as Google's cloud takes it within gzip",
        inspect::probe,
        inspect::inspect,
    )
};
