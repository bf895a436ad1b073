//! raw: the bytes of the disk, and nothing else.
//!
//! ```text
//!   0                                            end of file
//!   | byte N of the file is byte N of the disk           |
//! ```
//!
//! Zeros are left out as holes of the file system. Any length is a disk of that length.
//! Not supported: nothing is left out.

mod content;
mod inspect;
mod reader;
mod resize;
mod writer;

use crate::base::model::create::{OptionHelp, Options};
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    name: "raw",
    aliases: &["img", "dd"],
    about: "the bytes of the disk, and nothing else",
    extensions: &["raw", "img", "dd"],
    probe: inspect::probe,
    inspect: inspect::inspect,
    holds_disks: false,
    entries: None,
    open: Some(reader::open),
    forward: None,
    padded: |size, _| Ok(size),
    create: Some(writer::create),
    appends: Some(|options| options == &Options::default()),
    likeness: None,
    measure: Some(writer::measure),
    check: None,
    repair: None,
    resize: Some(resize::resize),
    options: OPTIONS,
};

const OPTIONS: &[OptionHelp] = &[OptionHelp {
    name: "preallocation",
    values: "off|falloc|full",
    about: "off leaves zeros out, falloc reserves their room, full writes them (default off)",
}];
