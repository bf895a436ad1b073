//! Several targets as one: each has a range of offsets of its own.

use std::io;
use std::sync::Arc;

use super::{Source, Span, Target};

/// Bytes of offsets that each target has.
const STRIDE: u64 = 1 << 44;

/// Targets at multiples of a stride that none of them grows beyond.
pub(crate) struct Spread(Vec<Arc<dyn Target>>);

impl Spread {
    /// These targets, the first one from offset 0 on.
    pub(crate) fn new(targets: Vec<Arc<dyn Target>>) -> Spread {
        Spread(targets)
    }

    /// The offset here of an offset in one of the targets.
    pub(crate) fn offset(target: usize, offset: u64) -> u64 {
        target as u64 * STRIDE + offset
    }

    fn find(&self, offset: u64, len: u64) -> io::Result<(&Arc<dyn Target>, u64)> {
        let index = usize::try_from(offset / STRIDE).ok();
        match index.and_then(|index| self.0.get(index)) {
            Some(target) if offset % STRIDE + len <= STRIDE => Ok((target, offset % STRIDE)),
            _ => Err(io::Error::other(format!("no file has {len} bytes at {offset:#x}"))),
        }
    }
}

impl Target for Spread {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (target, at) = self.find(offset, bytes.len() as u64)?;
        target.write_at(at, bytes)
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        let (target, at) = self.find(span.start(), span.len())?;
        target.zero(Span::new(at, span.len()).map_err(io::Error::other)?)
    }

    fn allocate(&self, span: Span) -> io::Result<()> {
        let (target, at) = self.find(span.start(), span.len())?;
        target.allocate(Span::new(at, span.len()).map_err(io::Error::other)?)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::Error::other("each file has a length of its own"))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|target| target.sync())
    }

    fn is_fresh(&self) -> bool {
        self.0.iter().all(|target| target.is_fresh())
    }

    fn shares_with(&self, source: &dyn Source) -> bool {
        !self.0.is_empty() && self.0.iter().all(|target| target.shares_with(source))
    }

    fn share(&self, source: &dyn Source, from: u64, offset: u64, len: u64) -> io::Result<()> {
        let (target, at) = self.find(offset, len)?;
        target.share(source, from, at, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::storage::Memory;

    #[test]
    fn each_target_gets_what_lies_in_its_range() {
        let files = [Memory::default(), Memory::default()].map(Arc::new);
        let spread = Spread::new(files.iter().map(|file| file.clone() as _).collect());
        spread.write_at(Spread::offset(0, 3), b"one").expect("the first");
        spread.write_at(Spread::offset(1, 0), b"two").expect("the second");
        assert_eq!((files[0].to_vec(), files[1].to_vec()), (b"\0\0\0one".into(), b"two".into()));
        assert!(spread.write_at(Spread::offset(2, 0), b"three").is_err());
        assert!(spread.write_at(Spread::offset(0, STRIDE - 1), b"two").is_err());
    }
}
