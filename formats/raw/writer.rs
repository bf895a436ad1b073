//! Every byte has its place already.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::format::Usage;
use crate::base::model::writer::{Measure, Piece, Slot, Writer};
use crate::base::storage::{Buffer, Span, Target};

/// Stretches begin at a multiple of this: a size that reads and writes well.
const UNIT: u64 = 64 << 10;

struct Raw {
    target: Arc<dyn Target>,
    size: u64,
    fill: Fill,
    /// Whether the file may hold something else than zeros already.
    used: bool,
}

/// What becomes of zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Hole,
    Allocate,
    Write,
}

pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    if create.compress {
        return Err(Error::invalid("raw images are not compressed").format("raw"));
    }
    if create.backing.is_some() || create.data_file.is_some() {
        return Err(Error::invalid("raw images have no backing file or data file").format("raw"));
    }
    let fill = match create.options.choice("preallocation", &["off", "falloc", "full"])? {
        None | Some(0) => Fill::Hole,
        Some(1) => Fill::Allocate,
        Some(_) => Fill::Write,
    };
    let size = create.size;
    if let Some(fixed) = target.fixed_len().filter(|fixed| *fixed < size) {
        let what = format!("the device has {fixed} bytes, and the disk {size}");
        return Err(Error::invalid(what).format("raw"));
    }
    let fail = |error| Error::io("cannot make room", error).format("raw");
    let used = !target.is_fresh();
    if !used {
        target.set_len(size).map_err(fail)?;
    }
    if fill != Fill::Hole {
        target.allocate(Span::new(0, size)?).map_err(fail)?;
    }
    Ok(Box::new(Raw { target, size, fill, used }))
}

impl Writer for Raw {
    fn unit(&self) -> u64 {
        UNIT
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        match piece {
            Piece::Plain(len) => Ok(Some(Slot { offset: start, len })),
            Piece::Zero(len) => self.zero(Span::new(start, len)?).map(|()| None),
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("a raw disk takes bytes only").format("raw"))
            }
        }
    }

    fn leaves_holes(&self) -> bool {
        self.fill != Fill::Write
    }

    /// Into a pipe every byte goes.
    fn wants_zeros(&self) -> bool {
        self.target.appends_only()
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    fn finish(&self) -> Result<()> {
        let fail = |error| Error::io("cannot finish", error).format("raw");
        if !self.used {
            self.target.set_len(self.size).map_err(fail)?;
        }
        self.target.sync().map_err(fail)
    }
}

impl Raw {
    fn zero(&self, span: Span) -> Result<()> {
        let fail = |error| Error::io("cannot write zeros", error).at(span.start()).format("raw");
        if self.fill != Fill::Write {
            return if self.used { self.target.zero(span).map_err(fail) } else { Ok(()) };
        }
        let zeros = Buffer::new(1 << 20);
        let mut at = span.start();
        while at < span.end() {
            let len = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(zeros.len());
            self.target.write_at(at, &zeros[..len]).map_err(fail)?;
            at += len as u64;
        }
        Ok(())
    }
}

/// A raw disk takes its size, whatever it holds.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a measure")]
pub(super) fn measure(create: &Create, _: &mut Usage) -> Result<Measure> {
    Ok(Measure { required: create.size, fully_allocated: create.size, bitmaps: None })
}
