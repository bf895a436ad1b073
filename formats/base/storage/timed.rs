//! A source that is there for a while only.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use super::{Allocated, Source};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;

/// A source, or bytes that go by, until a deadline: from then on each read fails with `Limit`.
///
/// Whatever is done to an image reads it, but for files that a policy gives for the names in it,
/// and for a file that is changed in place: the program ends work on those by a clock of its own.
pub(crate) struct Timed<S> {
    inner: S,
    deadline: Instant,
}

impl<S> Timed<S> {
    /// `inner`, until `deadline`.
    pub(crate) fn new(inner: S, deadline: Instant) -> Timed<S> {
        Timed { inner, deadline }
    }
}

impl Timed<Arc<dyn Source>> {
    /// `source`, until the deadline if there is one.
    pub(crate) fn within(source: Arc<dyn Source>, limits: &Limits) -> Arc<dyn Source> {
        match limits.deadline {
            Some(deadline) => Arc::new(Timed::new(source, deadline)),
            None => source,
        }
    }
}

impl<S> Timed<S> {
    fn in_time(&self) -> io::Result<()> {
        let now = Instant::now();
        match now < self.deadline {
            true => Ok(()),
            false => Err(io::Error::other(Error::limit("it takes longer than is allowed"))),
        }
    }
}

impl<S: Read> Read for Timed<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.in_time()?;
        self.inner.read(out)
    }
}

impl Source for Timed<Arc<dyn Source>> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn known_len(&self) -> Option<u64> {
        self.inner.known_len()
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.in_time()?;
        self.inner.read_at(offset, buf)
    }

    fn allocated(&self, from: u64) -> io::Result<Allocated> {
        self.in_time()?;
        self.inner.allocated(from)
    }

    fn file(&self) -> Option<&std::fs::File> {
        self.inner.file()
    }

    fn still_whole(&self) -> Result<()> {
        self.inner.still_whole()
    }

    fn stored(&self) -> io::Result<Option<u64>> {
        self.inner.stored()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.inner.identity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use crate::base::storage::{Access, Caching, ImageFile, Memory, Window};
    use std::time::Duration;

    // Seen when it was read again: with a deadline, an input that was cut short while it was copied
    // was taken for whole. Why: the question did not reach the file behind it.
    #[test]
    fn a_file_that_was_cut_short_is_not_whole_because_of_a_deadline() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("grown");
        let image = ImageFile::open(file.path(), Access::Read, Caching::Writeback).expect("there");
        let limits = Limits {
            deadline: Some(Instant::now() + Duration::from_secs(600)),
            ..Limits::default()
        };
        let source = Timed::within(Arc::new(image), &limits);
        source.still_whole().expect("it is");
        file.as_file().set_len(10_000).expect("cut");
        assert_eq!(source.still_whole().expect_err("it was cut").kind(), Kind::Truncated);
    }

    #[test]
    fn what_is_out_of_time_is_not_read() {
        let memory: Arc<dyn Source> = Arc::new(Memory::new(vec![7; 100]));
        let now = Instant::now();
        let mut byte = [0];
        let later = Timed::new(memory.clone(), now + Duration::from_secs(600));
        Window::read(&later, 99, &mut byte).expect("in time");
        assert_eq!(byte, [7]);
        let past = Timed::new(memory, now);
        let error = Window::read(&past, 99, &mut byte).expect_err("too late");
        assert_eq!(error.kind(), Kind::Limit);
        let mut stream = Timed::new(&[7_u8; 9][..], now);
        assert!(stream.read(&mut byte).is_err());
    }
}
