//! Where a stretch of disk is to be found.

use crate::base::codec::Codec;

/// `len` bytes of disk from `start`, all of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte on the disk.
    pub start: u64,
    /// How many bytes; never 0.
    pub len: u64,
    /// Where they are.
    pub place: Place,
    /// Which image of a chain says so: 0 is the one on top.
    pub depth: usize,
}

/// Where bytes of a disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing here, nothing underneath: zeros.
    Hole,
    /// Recorded as zeros; `offset` is where the file keeps room for them, if it does.
    Zero {
        /// Offset of the room in the image file.
        offset: Option<u64>,
    },
    /// Plain bytes in `files()[file]`.
    Data {
        /// Which of the image's files.
        file: usize,
        /// Offset of the first byte in that file.
        offset: u64,
    },
    /// Part of a unit that is compressed.
    Packed(Packed),
    /// Whatever the image underneath has.
    Backing,
}

/// A compressed unit: decode it, drop `skip`, take the extent's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Which of the image's files.
    pub file: usize,
    /// Offset of the first compressed byte.
    pub offset: u64,
    /// Compressed bytes: at most so many.
    pub len: u64,
    /// Bytes of the unit once decoded.
    pub unit: u64,
    /// Bytes of the unit before the extent's first.
    pub skip: u64,
    /// How it is compressed.
    pub codec: Codec,
}

impl Extent {
    /// Its end on the disk.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The part of it from `start` to `end`, which share a byte with it.
    #[must_use]
    pub fn clip(mut self, start: u64, end: u64) -> Extent {
        let front = start.saturating_sub(self.start);
        self.len = self.end().min(end) - self.start - front;
        self.start += front;
        match &mut self.place {
            Place::Hole | Place::Backing | Place::Zero { offset: None } => {}
            Place::Zero { offset: Some(offset) } | Place::Data { offset, .. } => *offset += front,
            Place::Packed(packed) => packed.skip += front,
        }
        self
    }

    /// Whether `next` goes on where this ends, in the same way: both are then one extent.
    pub fn goes_on_in(&self, next: &Extent) -> bool {
        let places = match (self.place, next.place) {
            (Place::Hole, Place::Hole)
            | (Place::Backing, Place::Backing)
            | (Place::Zero { offset: None }, Place::Zero { offset: None }) => true,
            (Place::Zero { offset: Some(a) }, Place::Zero { offset: Some(b) }) => {
                a.checked_add(self.len) == Some(b)
            }
            (Place::Data { file, offset }, Place::Data { file: other, offset: next }) => {
                file == other && offset.checked_add(self.len) == Some(next)
            }
            _ => false,
        };
        places && self.end() == next.start && self.depth == next.depth
    }

    /// Whether it needs no file to be read: zeros.
    pub fn is_zero(&self) -> bool {
        matches!(self.place, Place::Hole | Place::Zero { .. })
    }
}

/// Adds an extent to a list, as part of the last one where it goes on.
pub(crate) fn push(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.goes_on_in(&next) => last.len += next.len,
        _ => extents.push(next),
    }
}
