//! A stretch of another source.

use std::io;
use std::sync::Arc;

use super::{Allocated, Source, Span};
use crate::base::error::Result;

/// A stretch of another source, as if it were all there is.
pub struct Slice {
    whole: Arc<dyn Source>,
    span: Span,
}

impl Slice {
    /// The stretch `span` of `whole`; what reaches past its end is not there.
    pub fn new(whole: Arc<dyn Source>, span: Span) -> Slice {
        Slice { whole, span }
    }
}

impl Source for Slice {
    fn len(&self) -> u64 {
        self.whole.len().saturating_sub(self.span.start()).min(self.span.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len().saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        match len {
            0 => Ok(0),
            len => self.whole.read_at(self.span.start() + offset, &mut buf[..len]),
        }
    }

    fn still_whole(&self) -> Result<()> {
        self.whole.still_whole()
    }

    fn allocated(&self, from: u64) -> io::Result<Allocated> {
        let found = self.whole.allocated(self.span.start() + from)?;
        let end = (found.end - self.span.start()).min(self.len());
        Ok(Allocated { data: found.data, end })
    }

    fn name(&self) -> String {
        self.whole.name()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.whole.identity()
    }
}
