//! How much may come out of how little.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{BLOCK, is_zero};

/// Zeros cost a reader time and no room: a disk is mostly made of them, so they weigh little.
const ZEROS: u64 = 64;

/// What may be unpacked of a file.
pub(crate) struct Budget {
    /// The most that may come out; `u64::MAX` while it is not known how much goes in.
    most: u64,
    ratio: u64,
    spent: AtomicU64,
}

impl Budget {
    /// For a file of so many bytes; if that is not known, only what the caller allows altogether.
    pub(crate) fn new(packed: Option<u64>, limits: &Limits) -> Budget {
        let by_ratio =
            |packed: u64| packed.saturating_mul(limits.max_ratio).max(limits.unpacked_floor);
        let most = packed.map_or(u64::MAX, by_ratio).min(limits.max_output);
        Budget { most, ratio: limits.max_ratio, spent: AtomicU64::new(0) }
    }

    /// Counts bytes that came out. `Limit` if they are too many.
    pub(crate) fn spend(&self, bytes: &[u8]) -> Result<()> {
        let weigh = |block: &[u8]| match is_zero(block) {
            true => block.len() as u64 / ZEROS,
            false => block.len() as u64,
        };
        let weight = bytes.chunks(16 * BLOCK).map(weigh).sum::<u64>();
        let spent = self.spent.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        if spent <= self.most {
            return Ok(());
        }
        let (most, times) = (self.most, self.ratio);
        Err(Error::limit(format!(
            "it unpacks to more than {most} bytes of data, over {times} times what it has"
        )))
    }
}

/// Unpacked bytes, counted as they come.
pub(crate) struct Counted<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Counted<R> {
    /// Counts what `inner` gives.
    pub(crate) fn new(inner: R, budget: Budget) -> Counted<R> {
        Counted { inner, budget }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        self.budget.spend(&out[..len]).map_err(io::Error::other)?;
        Ok(len)
    }
}
