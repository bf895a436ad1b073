//! The bytes of the disk behind a header, and zeros behind those.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::inspect::NAME;
use crate::base::error::{Error, Result};
use crate::base::model::create::{Create, Options};
use crate::base::model::format::Usage;
use crate::base::model::writer::{Measure, Piece, Slot, Writer};
use crate::base::storage::{Buffer, Put, Span, Target};
use crate::base::tar::{self, Dialect};

/// Stretches begin at a multiple of this: a size that reads and writes well.
const UNIT: u64 = 64 << 10;
/// Disks have a multiple of this.
const GIB: u64 = 1 << 30;

struct Archive {
    target: Arc<dyn Target>,
    header: Vec<u8>,
    size: u64,
    /// Bytes of all of it.
    len: u64,
    /// Whether the file may hold something else than zeros already.
    used: bool,
    /// Up to where the disk has been handed over: a smaller one has zeros behind it.
    reached: AtomicU64,
}

/// Up to the next GiB.
pub(super) fn padded(size: u64, _: &Options) -> Result<u64> {
    size.max(1)
        .checked_next_multiple_of(GIB)
        .ok_or_else(|| Error::invalid(format!("a disk of {size} bytes is too large")))
}

/// The header, and bytes of the whole archive.
fn shape(size: u64) -> Result<(Vec<u8>, u64)> {
    if size == 0 || !size.is_multiple_of(GIB) {
        let what = format!("a disk of {size} bytes, which is no whole number of GiB");
        return Err(Error::invalid(what).format("gcp"));
    }
    let header = tar::header(NAME, size, 0, Dialect::Gnu)?;
    let end = size.checked_add(header.len() as u64);
    let len = end.and_then(|end| end.checked_add(tar::trailer(end)));
    let len = len.ok_or_else(|| Error::invalid("an archive that does not end in 2^64"))?;
    Ok((header, len))
}

pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    if create.compress {
        return Err(Error::invalid("the disk in it is not compressed").format("gcp"));
    }
    if create.backing.is_some() || create.data_file.is_some() {
        return Err(Error::invalid("it has no backing file or data file").format("gcp"));
    }
    let (header, len) = shape(create.size)?;
    let used = !target.is_fresh();
    if target.appends_only() {
        target.put(0, &header)?;
    } else if !used {
        let fail = |error| Error::io("cannot make room", error).format("gcp");
        target.set_len(len).map_err(fail)?;
    }
    let (size, reached) = (create.size, AtomicU64::new(0));
    Ok(Box::new(Archive { target, header, size, len, used, reached }))
}

impl Writer for Archive {
    fn unit(&self) -> u64 {
        UNIT
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let offset = start.saturating_add(self.header.len() as u64);
        if let Piece::Plain(len) | Piece::Zero(len) = piece {
            self.reached.fetch_max(start.saturating_add(len), Ordering::Relaxed);
        }
        match piece {
            Piece::Plain(len) => Ok(Some(Slot { offset, len })),
            Piece::Zero(len) => self.zero(Span::new(offset, len)?).map(|()| None),
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("the disk in it takes bytes only").format("gcp"))
            }
        }
    }

    /// Into a pipe every byte goes.
    fn wants_zeros(&self) -> bool {
        self.target.appends_only()
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    /// The header last, unless it had to be first.
    fn finish(&self) -> Result<()> {
        let front = self.header.len() as u64;
        let end = self.size + front;
        let reached = self.reached.load(Ordering::Relaxed).min(self.size) + front;
        self.zero(Span::new(reached, end - reached)?)?;
        let zeros = usize::try_from(self.len - end).expect("a trailer of some KiB");
        self.target.put(end, &vec![0; zeros])?;
        if !self.target.appends_only() {
            self.target.settle()?;
            self.target.put(0, &self.header)?;
        }
        self.target.settle()
    }
}

impl Archive {
    /// Makes a stretch of the file zeros: where they are not there already, and where a pipe takes
    /// them, byte by byte.
    fn zero(&self, span: Span) -> Result<()> {
        if !self.target.appends_only() {
            let fail = |error| Error::io("cannot write zeros", error).at(span.start());
            return if self.used { self.target.zero(span).map_err(fail) } else { Ok(()) };
        }
        let zeros = Buffer::new(1 << 20);
        let mut at = span.start();
        while at < span.end() {
            let len = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(zeros.len());
            self.target.put(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(())
    }
}

/// An archive takes what its disk has, whatever that holds.
pub(super) fn measure(create: &Create, _: &mut Usage) -> Result<Measure> {
    let (_, len) = shape(create.size)?;
    Ok(Measure { required: len, fully_allocated: len, bitmaps: None })
}
