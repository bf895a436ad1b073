//! A disk that is being written.

use std::sync::Arc;

use crate::base::codec::{Codec, Encoder, Packing};
use crate::base::error::Result;
use crate::base::storage::Target;

/// A stretch of disk that wants a place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This many bytes of zeros.
    Zero(u64),
    /// This many bytes that are the same in the image underneath.
    Backing(u64),
    /// This many bytes as they are.
    Plain(u64),
    /// One unit, in this many bytes.
    Packed(u64),
}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Where the bytes go.
    pub offset: u64,
    /// How many bytes of disk it is for.
    pub len: u64,
}

/// A disk that is being written.
///
/// Workers [`encode`](Writer::encode) all at once; [`reserve`](Writer::reserve) is called in the
/// order of the disk, by one thread at a time, for every stretch once; the bytes may then be
/// written into their slots by any thread in any order. That makes the same file of the same
/// disk, whatever the number of threads.
pub trait Writer: Send + Sync {
    /// Bytes of the unit in which storage is given out: stretches begin at a multiple of it.
    fn unit(&self) -> u64;

    /// How units are packed, if they are.
    fn packing(&self) -> Option<Packing> {
        None
    }

    /// Whether units of this codec, packed by another image, can be taken as they are.
    fn accepts(&self, codec: Codec, unit: u64) -> bool {
        let _ = (codec, unit);
        false
    }

    /// Packs the unit that begins at `start` on the disk: appends to `out` and says `true`, or says
    /// that it does not shrink.
    fn encode(
        &self,
        start: u64,
        unit: &[u8],
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let _ = start;
        match self.packing() {
            Some(packing) => encoder.encode(packing, unit, out),
            None => Ok(false),
        }
    }

    /// Whether runs of zeros within a slot may be left unwritten where the file is fresh.
    fn leaves_holes(&self) -> bool {
        true
    }

    /// Whether zeros have to be handed over like data: they are bytes that nobody can leave out.
    fn wants_zeros(&self) -> bool {
        false
    }

    /// Whether it wants to be told of the content, to make identifiers of it.
    fn is_identified(&self) -> bool {
        false
    }

    /// Told of every unit with data, in order of the disk: where it begins, and a CRC-32 of its
    /// blocks that are not zero, and where in it they are. Of zeros it is not told.
    fn identify(&self, start: u64, digest: u32) {
        let _ = (start, digest);
    }

    /// A place for a piece that begins at `start` on the disk; for a plain one it may be a place
    /// for the front of it only, in whole units. `None` if nothing is to be written for it.
    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>>;

    /// Where the bytes of slots go.
    fn target(&self) -> &Arc<dyn Target>;

    /// Tables, then a sync, then the header, then a sync: before this there is no valid image.
    fn finish(&self) -> Result<()>;
}

/// How much room an image will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// Bytes of a file that holds the data there are.
    pub required: u64,
    /// Bytes of a file that holds a disk full of data.
    pub fully_allocated: u64,
    /// Bytes that its bitmaps would add.
    pub bitmaps: Option<u64>,
}
