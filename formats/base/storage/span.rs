//! A stretch of bytes that does not overflow.

use crate::base::error::{Error, Result};

/// `len` bytes from `start`, whose end fits into a `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// A stretch; `Malformed` if its end does not fit into 64 bits.
    pub fn new(start: u64, len: u64) -> Result<Span> {
        match start.checked_add(len) {
            Some(_) => Ok(Span { start, len }),
            None => {
                Err(Error::malformed(start, format!("{len} bytes from {start} do not end in 2^64")))
            }
        }
    }

    /// The same stretch, if it lies below `total`; `Truncated` if not. `what` names it.
    pub fn within(self, total: u64, what: &str) -> Result<Span> {
        if self.end() <= total {
            return Ok(self);
        }
        let (start, end) = (self.start, self.end());
        Err(Error::truncated(start, format!("{what} ends at {end}, and the file at {total}")))
    }

    /// Its first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// How many bytes.
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The byte behind its last.
    pub fn end(self) -> u64 {
        self.start + self.len
    }

    /// Whether they share a byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}
