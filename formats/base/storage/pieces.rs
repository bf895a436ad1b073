//! Stretches of sources behind each other, as one.

use std::io;
use std::sync::Arc;

use super::{Allocated, Source};
use crate::base::error::{Error, Result};

/// A file that is put together of stretches of others, and of zeros.
pub(crate) struct Pieces {
    parts: Vec<Piece>,
    len: u64,
    name: String,
}

struct Piece {
    /// Where it begins in the whole.
    start: u64,
    len: u64,
    /// Whose bytes, and from where on; `None` for zeros.
    bytes: Option<(Arc<dyn Source>, u64)>,
}

impl Pieces {
    /// Nothing, under this name.
    pub(crate) fn new(name: impl Into<String>) -> Pieces {
        Pieces { parts: Vec::new(), len: 0, name: name.into() }
    }

    /// Adds `len` bytes of `source` from `offset` on; zeros where there is none. `Truncated` if
    /// the source does not have so many, `Limit` if all end beyond 2^64.
    pub(crate) fn add(&mut self, source: Option<(&Arc<dyn Source>, u64)>, len: u64) -> Result<()> {
        if let Some((source, offset)) = source {
            let end = offset.checked_add(len).filter(|end| *end <= source.len());
            end.ok_or_else(|| {
                let total = source.len();
                let what = format!("{len} bytes of '{}' wanted", self.name.escape_debug());
                Error::truncated(offset, format!("{what}, and the file ends at {total}"))
            })?;
        }
        let start = self.len;
        let end = start.checked_add(len);
        self.len = end.ok_or_else(|| Error::limit("a file inside does not end in 2^64"))?;
        let bytes = source.map(|(source, offset)| (source.clone(), offset));
        if len > 0 {
            self.parts.push(Piece { start, len, bytes });
        }
        Ok(())
    }

    fn find(&self, at: u64) -> Option<&Piece> {
        let after = self.parts.partition_point(|piece| piece.start <= at);
        let piece = self.parts.get(after.checked_sub(1)?)?;
        (at - piece.start < piece.len).then_some(piece)
    }
}

impl Source for Pieces {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.find(offset) else { return Ok(0) };
        let skip = offset - piece.start;
        let len = usize::try_from(piece.len - skip).unwrap_or(usize::MAX).min(buf.len());
        match &piece.bytes {
            None => {
                buf[..len].fill(0);
                Ok(len)
            }
            Some((source, from)) => source.read_at(from + skip, &mut buf[..len]),
        }
    }

    fn still_whole(&self) -> Result<()> {
        let mut sources = self.parts.iter().filter_map(|piece| piece.bytes.as_ref());
        sources.try_for_each(|(source, _)| source.still_whole())
    }

    fn allocated(&self, from: u64) -> io::Result<Allocated> {
        let Some(piece) = self.find(from) else {
            return Ok(Allocated { data: false, end: self.len });
        };
        let end = piece.start + piece.len;
        let Some((source, offset)) = &piece.bytes else {
            return Ok(Allocated { data: false, end });
        };
        let found = source.allocated(offset + (from - piece.start))?;
        Ok(Allocated { data: found.data, end: (piece.start + (found.end - offset)).min(end) })
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::storage::{Memory, Window};

    #[test]
    fn stretches_and_zeros_are_read_as_one() {
        let source: Arc<dyn Source> = Arc::new(Memory::new(b"0123456789".to_vec()));
        let mut pieces = Pieces::new("whole");
        pieces.add(Some((&source, 8)), 2).expect("two bytes");
        pieces.add(None, 3).expect("zeros");
        pieces.add(Some((&source, 0)), 0).expect("nothing");
        pieces.add(Some((&source, 0)), 4).expect("four bytes");
        assert!(pieces.add(Some((&source, 8)), 3).is_err());
        let mut all = [1; 9];
        Window::read(&pieces, 0, &mut all).expect("all of it");
        assert_eq!(&all, b"89\0\0\x000123");
        let found = pieces.allocated(3).expect("a hole");
        assert_eq!(found, Allocated { data: false, end: 5 });
        assert_eq!(pieces.allocated(6).expect("data"), Allocated { data: true, end: 9 });
        assert!(Window::read(&pieces, 8, &mut [0; 2]).is_err());
    }
}
