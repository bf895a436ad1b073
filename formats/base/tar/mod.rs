//! Tar archives: files behind each other, each with a header in front.
//!
//! ```text
//!   512 bytes: header     name, mode, size, checksum, kind ─┐
//!   size bytes: content, filled up with zeros to 512        │ so often as there are members
//!   ...                                                     ┘
//!   1024 zeros, and more to fill up the last record
//! ```
//!
//! A header of a kind of its own in front of another one says what has no room in that: a long
//! name (GNU `L`, `K`; pax `x`, `g`), a large size. Sparse files are read as headers of old GNU and
//! as pax ones of version 1.0 have them. The format is that of POSIX 1003.1 (`pax`, ustar
//! interchange format), and of the manual of GNU tar, "Basic Tar Format".

mod header;
mod pax;
mod read;
mod sparse;
mod write;

pub(crate) use read::{Archive, Links, Member, probe};
pub(crate) use write::{Dialect, header, padding, trailer};

/// Headers, and content, are filled up to this.
pub(crate) const BLOCK: u64 = 512;
