//! A target that fails on purpose.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Source, Span, Target};

/// Storage that dies after a number of writes, the last of them torn: what a crash leaves behind
/// is what it holds then.
pub struct Faulty<T> {
    inner: T,
    left: AtomicU64,
    torn: AtomicBool,
}

impl<T> Faulty<T> {
    /// `inner`, which dies during the write after the first `writes`.
    pub fn new(inner: T, writes: u64) -> Faulty<T> {
        Faulty { inner, left: AtomicU64::new(writes), torn: AtomicBool::new(false) }
    }

    /// What is left behind.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    fn spend(&self) -> Result<(), ()> {
        let spend = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).map(drop).map_err(drop)
    }
}

fn died() -> io::Error {
    io::Error::other("the storage died (on purpose)")
}

impl<T: Target> Target for Faulty<T> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.spend().is_ok() {
            return self.inner.write_at(offset, bytes);
        }
        if !self.torn.swap(true, Ordering::SeqCst) {
            self.inner.write_at(offset, &bytes[..bytes.len() / 2])?;
        }
        Err(died())
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        self.spend().map_err(|()| died())?;
        self.inner.zero(span)
    }

    fn allocate(&self, span: Span) -> io::Result<()> {
        self.spend().map_err(|()| died())?;
        self.inner.allocate(span)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend().map_err(|()| died())?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.spend().map_err(|()| died())?;
        self.inner.sync()
    }

    fn is_fresh(&self) -> bool {
        self.inner.is_fresh()
    }

    fn appends_only(&self) -> bool {
        self.inner.appends_only()
    }
}

impl<T: Source> Source for Faulty<T> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }
}
