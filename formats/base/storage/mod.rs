//! Bytes by position: no cursor, so any number of threads may share one.

mod ahead;
mod buffer;
mod faulty;
mod file;
mod lock;
mod mapped;
mod memory;
mod output;
mod pages;
mod pieces;
mod scratch;
mod slice;
mod span;
mod spread;
mod stream;
mod timed;
mod window;

use std::io;

use crate::base::error::{Error, Result};

pub(crate) use ahead::Ahead;
pub use buffer::Buffer;
pub(crate) use buffer::{BLOCK, is_zero};
pub use faulty::Faulty;
pub use file::{Access, Caching, ImageFile};
pub(crate) use mapped::Spool;
pub use memory::Memory;
pub use output::Output;
pub(crate) use pages::Pages;
pub(crate) use pieces::Pieces;
pub use scratch::keep_scratch;
pub(crate) use scratch::scratch;
pub use slice::Slice;
pub use span::Span;
pub(crate) use spread::Spread;
pub use stream::Stream;
pub(crate) use timed::Timed;
pub use window::Window;
pub(crate) use window::{Be32, Be64, Le32, Le64, Word};

/// What lies at a position of a [`Source`]: data or a hole, and up to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// Data may be there; if not, it is known to read as zeros.
    pub data: bool,
    /// Where this stretch ends.
    pub end: u64,
}

/// Bytes to read.
pub trait Source: Window + Send + Sync {
    /// The length, fixed when it was opened.
    fn len(&self) -> u64;

    /// The length, unless it is not known yet: of a file that is still going by.
    fn known_len(&self) -> Option<u64> {
        Some(self.len())
    }

    /// Whether each read goes a long way: over a network.
    fn is_far(&self) -> bool {
        false
    }

    /// Reads from `offset` on; short only at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What lies at `from`, which is before the end. By default: data, to the end.
    fn allocated(&self, from: u64) -> io::Result<Allocated> {
        let _ = from;
        Ok(Allocated { data: true, end: self.len() })
    }

    /// The open file behind it, where there is one: what a [`Target`] may share blocks with.
    fn file(&self) -> Option<&std::fs::File> {
        None
    }

    /// `Truncated` if it has been cut short since it was opened: then what was read last may be
    /// zeros that never stood there, for the system wipes what it cuts off.
    fn still_whole(&self) -> Result<()> {
        Ok(())
    }

    /// Bytes that it takes up in storage, where that is known.
    fn stored(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// What it is called: a path, or what stands for one.
    fn name(&self) -> String {
        String::new()
    }

    /// Which file this is, to recognise it under another name: (device, inode).
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }
}

/// Bytes to write.
pub trait Target: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a stretch read as zeros, without storing them where that is possible.
    fn zero(&self, span: Span) -> io::Result<()>;

    /// Reserves storage for a stretch, which keeps its content.
    fn allocate(&self, span: Span) -> io::Result<()>;

    /// Makes it this long.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when all that was written is in storage.
    fn sync(&self) -> io::Result<()>;

    /// Whether everything not yet written reads as zeros.
    fn is_fresh(&self) -> bool;

    /// The length it cannot leave, where it has one (a block device).
    fn fixed_len(&self) -> Option<u64> {
        None
    }

    /// Whether bytes go in from front to end only, each once: a pipe.
    fn appends_only(&self) -> bool {
        false
    }

    /// Told, while an image is written without its data, where they will be.
    fn foresee(&self, span: Span) {
        let _ = span;
    }

    /// Whether [`share`](Target::share) from this source takes no time and no room.
    fn shares_with(&self, source: &dyn Source) -> bool {
        let _ = source;
        false
    }

    /// Copies a stretch of `source` without taking it through this process; on file systems that
    /// can, both then share the blocks. Ends with an error if not all of it could be copied.
    fn share(&self, source: &dyn Source, from: u64, offset: u64, len: u64) -> io::Result<()> {
        let _ = (source, from, offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Writing, with a failure that says where.
pub(crate) trait Put: Target {
    /// Writes all of `bytes` at `offset`.
    fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_at(offset, bytes).map_err(|error| Error::io("cannot write", error).at(offset))
    }

    /// Returns when all that was written is in storage.
    fn settle(&self) -> Result<()> {
        self.sync().map_err(|error| Error::io("cannot bring it to storage", error))
    }
}
impl<T: Target + ?Sized> Put for T {}

/// A file that is changed in place.
pub trait Storage: Source + Target {}
impl<T: Source + Target> Storage for T {}
