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
                Err(error) => return Err(Error::io("cannot read", error).at(at)),
            }
        }
        Ok(())
    }

    fn total(&self) -> Option<u64> {
        Some(Source::len(self))
    }
}

/// A number as a table in a file holds it.
pub(crate) trait Word: Copy {
    /// Bytes of one.
    const SIZE: usize;
    /// The number in its first [`SIZE`](Word::SIZE) bytes.
    fn get(bytes: &[u8]) -> u64;
}

macro_rules! words {
    ($($name:ident $size:literal $int:ty, $what:literal;)*) => {$(
        #[doc = $what]
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Word for $name {
            const SIZE: usize = $size;
            fn get(bytes: &[u8]) -> u64 {
                let mut word = [0; $size];
                word.copy_from_slice(&bytes[..$size]);
                u64::from(<$int>::from_be_bytes(word))
            }
        }
    )*};
}

words! {
    Be16 2 u16, "Two bytes, the most significant first.";
    Be32 4 u32, "Four bytes, the most significant first.";
    Be64 8 u64, "Eight bytes, the most significant first.";
}

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
    /// asked: this and [`table`](#method.table) are the only ways from a count to memory.
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

    /// The numbers of a table of `count` entries at `offset`.
    pub(crate) fn table<W: Word>(
        &self,
        offset: u64,
        count: u64,
        what: &str,
        limits: &Limits,
    ) -> Result<Vec<u64>> {
        let len = count
            .checked_mul(W::SIZE as u64)
            .ok_or_else(|| Error::malformed(offset, format!("{what} has {count} entries")))?;
        let bytes = self.bytes(Span::new(offset, len)?, what, limits)?;
        Ok(bytes.chunks_exact(W::SIZE).map(W::get).collect())
    }
}
