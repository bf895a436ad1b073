//! What a parser may look through: a whole file, or as much of a stream as has arrived.

use super::{Source, Span};
use crate::base::error::{Error, Kind, Need, Result};
use crate::base::limits::Limits;

/// Bytes by position, as a parser sees them.
pub trait Window {
    /// Fills `buf` from `offset`, or says why it cannot: `Truncated` past the end, `Awaiting`
    /// before arrival.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The length, once known. A stream knows it only at its end.
    fn total(&self) -> Option<u64>;

    /// Says that `len` bytes from `offset` will be asked for: a stream keeps them as they pass.
    fn expect(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

impl<S: Source + ?Sized> Window for S {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            match self.read_at(at, &mut buf[done..]) {
                Ok(0) => {
                    let (want, total) = (buf.len(), Source::len(self));
                    let what = format!("{want} bytes wanted, and the file ends at {total}");
                    return Err(Error::truncated(offset, what));
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(self, error).at(at)),
            }
        }
        Ok(())
    }

    fn total(&self) -> Option<u64> {
        self.known_len()
    }
}

/// Reading failed: in which file, if it has a name.
fn unreadable<S: Source + ?Sized>(source: &S, error: std::io::Error) -> Error {
    let (error, name) = (Error::io("cannot read", error), source.name());
    if name.is_empty() { error } else { error.path(name) }
}

/// A number as a table in a file holds it.
pub(crate) trait Word {
    /// Bytes that it takes.
    const SIZE: usize;

    /// The number at the front of these bytes.
    fn get(bytes: &[u8]) -> u64;
}

/// A word of some width and order of bytes.
macro_rules! word {
    ($name:ident, $number:ty, $from:ident, $what:literal) => {
        #[doc = $what]
        pub(crate) struct $name;

        impl Word for $name {
            const SIZE: usize = size_of::<$number>();

            fn get(bytes: &[u8]) -> u64 {
                let word = bytes[..Self::SIZE].try_into().expect("as many as it has");
                u64::from(<$number>::$from(word))
            }
        }
    };
}

word!(Be32, u32, from_be_bytes, "Four bytes, the most significant first.");
word!(Be64, u64, from_be_bytes, "Eight bytes, the most significant first.");
word!(Le32, u32, from_le_bytes, "Four bytes, the least significant first.");
word!(Le64, u64, from_le_bytes, "Eight bytes, the least significant first.");

impl dyn Window + '_ {
    /// The `N` bytes at `offset`.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the bytes at `at` are these. A file that ends before is not such a file.
    pub(crate) fn starts_with(&self, at: u64, magic: &[u8]) -> Result<bool> {
        let mut bytes = vec![0; magic.len()];
        match self.read(at, &mut bytes) {
            Ok(()) => Ok(bytes == magic),
            Err(error) if error.kind() == Kind::Truncated => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The length; `Awaiting` while it is not known.
    pub(crate) fn len(&self) -> Result<u64> {
        self.total().ok_or_else(|| Error::awaiting(Need::End))
    }

    /// The bytes of a stretch. Memory is taken only after the limit and the length have been
    /// asked: this is the only way from a count in a file to memory.
    pub(crate) fn bytes(&self, at: Span, what: &str, limits: &Limits) -> Result<Vec<u8>> {
        if at.len() > limits.max_table {
            let (len, most) = (at.len(), limits.max_table);
            let what = format!("{what} takes {len} bytes, {most} at most");
            return Err(Error::limit(what).at(at.start()));
        }
        if let Some(total) = self.total() {
            at.within(total, what)?;
        }
        let len = usize::try_from(at.len()).map_err(|_| Error::limit("table beyond memory"))?;
        let mut bytes = vec![0; len];
        self.read(at.start(), &mut bytes)?;
        Ok(bytes)
    }
}
