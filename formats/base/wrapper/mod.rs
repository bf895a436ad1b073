//! Compression around a whole file.
//!
//! ```text
//!                      ┌ has an index: any block by itself ──▶ Unpacked, a Source
//!   .gz .xz .zst ... ──┤
//!                      └ from front to end only ─────────────▶ Members, a Read
//! ```
//!
//! Written they are cut into blocks that are packed by several threads ([`Packer`]), in such a way
//! that the reader finds them again: .xz as blocks of one stream, .zst as frames with a seek
//! table, .gz as members that say how long they are.

mod bgzf;
mod budget;
mod members;
mod packer;
mod seekable;
mod unpacked;
mod xz;

use std::io;

use crate::base::error::{Error, Kind};
use crate::base::limits::Limits;

pub(crate) use budget::{Budget, Counted};
pub(crate) use members::{Members, Sequence, xz_memory, zstd_window};
pub use packer::Packer;
pub(crate) use unpacked::Unpacked;

/// What is wrapped around a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrapper {
    /// gzip: RFC 1952.
    Gzip,
    /// .xz: the format of the xz tools.
    Xz,
    /// Zstandard frames: RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// LZ4 frames.
    Lz4,
}

impl Wrapper {
    /// All there are.
    pub const ALL: [Wrapper; 5] =
        [Wrapper::Gzip, Wrapper::Xz, Wrapper::Zstd, Wrapper::Bzip2, Wrapper::Lz4];

    /// Its name: `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Wrapper::Gzip => "gzip",
            Wrapper::Xz => "xz",
            Wrapper::Zstd => "zstd",
            Wrapper::Bzip2 => "bzip2",
            Wrapper::Lz4 => "lz4",
        }
    }

    /// How names of such files end, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Wrapper::Gzip => "gz",
            Wrapper::Xz => "xz",
            Wrapper::Zstd => "zst",
            Wrapper::Bzip2 => "bz2",
            Wrapper::Lz4 => "lz4",
        }
    }

    /// The one of this name, or whose files end so.
    pub fn named(name: &str) -> Option<Wrapper> {
        Wrapper::ALL
            .into_iter()
            .find(|wrapper| wrapper.name() == name || wrapper.extension() == name)
    }

    /// The one that a file with this front is packed in. Ten bytes are enough.
    pub fn of(front: &[u8]) -> Option<Wrapper> {
        Wrapper::ALL.into_iter().find(|wrapper| wrapper.begins(front))
    }

    /// Whether a packed file, or a part of one that can stand by itself, begins like this.
    pub(crate) fn begins(self, front: &[u8]) -> bool {
        match self {
            Wrapper::Gzip => front.starts_with(&[0x1f, 0x8b, 8]),
            Wrapper::Xz => front.starts_with(b"\xfd7zXZ\0"),
            Wrapper::Zstd => front.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(front),
            Wrapper::Bzip2 => {
                // The first block, or the end of an empty file.
                let starts = |magic: &[u8]| front.get(4..).is_some_and(|b| b.starts_with(magic));
                front.starts_with(b"BZh")
                    && front.get(3).is_some_and(|level| (b'1'..=b'9').contains(level))
                    && (starts(b"1AY&SY") || starts(b"\x17\x72\x45\x38\x50\x90"))
            }
            Wrapper::Lz4 => front.starts_with(&[0x04, 0x22, 0x4d, 0x18]),
        }
    }
}

/// A frame that zstd and lz4 readers pass over. At the front of a file it is zstd's: pzstd puts
/// one there.
fn is_skippable(front: &[u8]) -> bool {
    matches!(front, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What went wrong while a packed file was read: our own errors come through as they were.
pub(crate) fn failed(wrapper: Wrapper, error: io::Error) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    let name = wrapper.name();
    if error.raw_os_error().is_some() {
        return Error::io("cannot read", error);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let what = format!("the {name} file ends in the midst of its data");
        return Error::new(Kind::Truncated, what);
    }
    if wants_memory(&error) {
        return Error::limit(format!("to unpack the {name} file would take too much memory"));
    }
    let why = error.to_string();
    Error::new(Kind::Malformed, format!("the {name} file is damaged ({why})"))
}

/// Whether a decoder stopped at the window or dictionary that it was allowed: such a file is sound.
fn wants_memory(error: &io::Error) -> bool {
    /// `ZSTD_error_frameParameter_windowTooLarge`, as its functions return it.
    const WINDOW: usize = 0_usize.wrapping_sub(16);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let of_xz = matches!(cause, Some(xz2::stream::Error::MemLimit));
    of_xz || error.to_string() == zstd::zstd_safe::get_error_name(WINDOW)
}

/// Damage, as a reader of bytes says it.
fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Where the blocks of a packed file lie, and what each holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins in the packed file.
    offset: u64,
    /// Bytes that it takes there.
    packed: u64,
    /// Where its content begins in the unpacked file.
    start: u64,
    /// Bytes of content.
    len: u64,
}

/// Whether so many members with so many bytes in them all are not worth their heads: no packer
/// makes such a file, and to begin each of them takes longer than to unpack it.
fn crumbles(members: u64, bytes: u64, limits: &Limits) -> bool {
    members > limits.max_entries / 4 && bytes / 512 < members
}

/// Puts blocks behind each other: each as (bytes packed, bytes unpacked). `None` if one is too
/// large to be held in memory, if they are crumbs, or if they end beyond 2^64.
fn lay_out(
    first: u64,
    sizes: impl IntoIterator<Item = (u64, u64)>,
    limits: &Limits,
) -> Option<Vec<Block>> {
    let most = limits.max_memory / 4;
    let (mut offset, mut start) = (first, 0_u64);
    let mut blocks = Vec::new();
    for (packed, len) in sizes {
        if len > most || packed > most {
            return None;
        }
        blocks.push(Block { offset, packed, start, len });
        offset = offset.checked_add(packed)?;
        start = start.checked_add(len)?;
    }
    (!crumbles(blocks.len() as u64, start, limits)).then_some(blocks)
}
