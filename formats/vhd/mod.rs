//! vhd: the format of Virtual PC, Hyper-V and Azure, known by its footer.
//!
//! ```text
//!   fixed:    | the bytes of the disk                                              | footer |
//!
//!   dynamic:  | footer | header | BAT | bitmap, block | bitmap, block | ...        | footer |
//!                 (copy)    │      └──▶ where each block of the disk lies
//!                           └──▶ differencing: who the parent is, and where it was
//! ```
//!
//! A bitmap says of each sector of its block whether it is there. Source: Microsoft, "Virtual Hard
//! Disk Image Format Specification". Not supported: images with a parent are read and checked, and
//! are not written or resized.

mod check;
mod footers;
mod inspect;
mod layout;
mod options;
mod parent;
mod reader;
mod repair;
mod resize;
mod writer;

use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    aliases: &["vpc"],
    extensions: &["vhd", "vpc"],
    open: Some(reader::open),
    padded: options::padded,
    create: Some(writer::create),
    likeness: Some(options::likeness),
    measure: Some(options::measure),
    check: Some(check::check),
    repair: Some(repair::repair),
    resize: Some(resize::resize),
    options: options::OPTIONS,
    ..Format::known_by("vhd", "the disk of Virtual PC and Azure", footers::probe, inspect::inspect)
};
