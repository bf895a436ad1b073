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
    aliases: &["img", "dd"],
    extensions: &["raw", "img", "dd"],
    open: Some(reader::open),
    create: Some(writer::create),
    appends: Some(|options| options == &Options::default()),
    measure: Some(writer::measure),
    resize: Some(resize::resize),
    options: OPTIONS,
    ..Format::known_by(
        "raw",
        "the bytes of the disk, and nothing else",
        inspect::probe,
        inspect::inspect,
    )
};

const OPTIONS: &[OptionHelp] = &[OptionHelp {
    name: "preallocation",
    values: "off|falloc|full",
    about: "off leaves zeros out, falloc reserves their room, full writes them (default off)",
}];
