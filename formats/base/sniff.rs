//! What lies in the front of a compressed file, without unpacking more than that.
//!
//! The formats are those of RFC 1952 (gzip), of the xz file format, of RFC 8878 (zstd), and of the
//! descriptions that bzip2 and lz4 bring along.

use std::io::Read;

use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::storage::{Span, Window};
use crate::base::wrapper::{Wrapper, xz_memory, zstd_window};

/// Unpacked bytes that are wanted.
const WANTED: usize = 4096;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    /// In a way that images are compressed in too.
    Whole(Wrapper),
    /// lz4 as Linux has it in its kernels.
    OldLz4,
    /// What was there before xz.
    Lzma,
}

impl Packed {
    /// The way that these first bytes tell of.
    pub(crate) fn of(front: &[u8]) -> Option<Packed> {
        match front {
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Packed::OldLz4),
            [0x5d, 0, 0, ..] => Some(Packed::Lzma),
            _ => Wrapper::of(front).map(Packed::Whole),
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Packed::Whole(wrapper) => wrapper.name(),
            Packed::OldLz4 => "lz4",
            Packed::Lzma => "lzma",
        }
    }

    /// How much of the packed file the first unpacked bytes may take: bzip2 and zstd unpack whole
    /// blocks only.
    fn needs(self) -> u64 {
        match self {
            Packed::Whole(Wrapper::Bzip2) => 1 << 20,
            Packed::Whole(Wrapper::Zstd) => 256 << 10,
            Packed::Whole(Wrapper::Gzip | Wrapper::Xz | Wrapper::Lz4)
            | Packed::OldLz4
            | Packed::Lzma => 64 << 10,
        }
    }

    /// The first bytes of what is packed here; fewer where it ends before or is damaged.
    fn unpack(self, packed: &[u8], limits: &Limits) -> Vec<u8> {
        match self {
            Packed::Whole(Wrapper::Gzip) => first(flate2::read::GzDecoder::new(packed)),
            Packed::Whole(Wrapper::Bzip2) => first(bzip2::read::BzDecoder::new(packed)),
            Packed::Whole(Wrapper::Xz) => {
                match xz2::stream::Stream::new_stream_decoder(xz_memory(limits), 0) {
                    Ok(stream) => first(xz2::read::XzDecoder::new_stream(packed, stream)),
                    Err(_) => Vec::new(),
                }
            }
            Packed::Lzma => match xz2::stream::Stream::new_lzma_decoder(xz_memory(limits)) {
                Ok(stream) => first(xz2::read::XzDecoder::new_stream(packed, stream)),
                Err(_) => Vec::new(),
            },
            Packed::Whole(Wrapper::Zstd) => zstd::stream::read::Decoder::with_buffer(packed)
                .and_then(|mut decoder| {
                    decoder.window_log_max(zstd_window(limits)).map(|()| first(decoder))
                })
                .unwrap_or_default(),
            Packed::Whole(Wrapper::Lz4) => lz4(packed).unwrap_or_default(),
            Packed::OldLz4 => packed.get(8..).map(lz4_block).unwrap_or_default(),
        }
    }
}

/// How a file is compressed, if it is in one of the ways known here.
pub(crate) fn packed(window: &dyn Window) -> Result<Option<Packed>> {
    Ok(Packed::of(&front(window, 10, &Limits::default())?))
}

/// The first unpacked bytes of a compressed file, 4096 at most. `None` if it is not compressed in
/// a way known here, or if it does not unpack.
pub(crate) fn packed_front(window: &dyn Window, limits: &Limits) -> Result<Option<Vec<u8>>> {
    let Some(how) = packed(window)? else { return Ok(None) };
    let unpacked = how.unpack(&front(window, how.needs(), limits)?, limits);
    Ok(Some(unpacked).filter(|bytes| !bytes.is_empty()))
}

/// How much of a file that is packed so is needed to see what is in front inside.
pub(crate) fn needed(wrapper: Wrapper) -> usize {
    usize::try_from(Packed::Whole(wrapper).needs()).expect("a MiB at most")
}

/// Whether a file with this front, packed so, is a cpio archive inside.
pub(crate) fn holds_cpio(wrapper: Wrapper, front: &[u8], limits: &Limits) -> bool {
    is_cpio(&Packed::Whole(wrapper).unpack(front, limits))
}

/// Whether these are the first bytes of a cpio archive: what Linux unpacks into its first file
/// system.
pub(crate) fn is_cpio(front: &[u8]) -> bool {
    [&b"070701"[..], b"070702", b"070707", b"\xc7\x71"].iter().any(|mark| front.starts_with(mark))
}

/// The first bytes of a file; fewer if it has fewer. `Awaiting` where they have not come yet.
pub(crate) fn front(window: &dyn Window, len: u64, limits: &Limits) -> Result<Vec<u8>> {
    let len = window.total().map_or(len, |total| total.min(len));
    window.bytes(Span::new(0, len)?, "the front of the file", limits)
}

/// As many bytes as are wanted, or as can be had.
fn first(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = vec![0; WANTED];
    let mut done = 0;
    while done < WANTED {
        match reader.read(&mut bytes[done..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => done += count,
        }
    }
    bytes.truncate(done);
    bytes
}

/// The first block of a frame, or of the one behind frames that are to be skipped.
fn lz4(packed: &[u8]) -> Option<Vec<u8>> {
    let flags = *packed.get(4)?;
    let (has_size, has_dictionary) = (flags & 8 != 0, flags & 1 != 0);
    let header = 7 + if has_size { 8 } else { 0 } + if has_dictionary { 4 } else { 0 };
    let len = u32::from_le_bytes(packed.get(header..header + 4)?.try_into().ok()?);
    let block = packed.get(header + 4..)?;
    let len = usize::try_from(len & 0x7fff_ffff).ok()?.min(block.len());
    let stored = packed[header + 3] & 0x80 != 0;
    match stored {
        true => Some(block[..len.min(WANTED)].to_vec()),
        false => Some(lz4_block(&block[..len])),
    }
}

/// The first bytes of a block, which need not be all here: the codecs unpack whole ones only.
fn lz4_block(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = block.iter().copied();
    // `None` where the block ends, or breaks its rules.
    let mut step = |out: &mut Vec<u8>| -> Option<()> {
        let token = rest.next()?;
        for _ in 0..run(token >> 4, &mut rest)?.min(WANTED) {
            out.push(rest.next()?);
        }
        let back = usize::from(u16::from_le_bytes([rest.next()?, rest.next()?]));
        let len = run(token & 15, &mut rest)? + 4;
        for _ in 0..len.min(WANTED) {
            let at = out.len().checked_sub(back).filter(|_| back > 0)?;
            out.push(out[at]);
        }
        Some(())
    };
    while out.len() < WANTED && step(&mut out).is_some() {}
    out.truncate(WANTED);
    out
}

/// A length: four bits, and if all are set, bytes that add to it up to one that is not 255.
fn run(bits: u8, rest: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut len = usize::from(bits);
    let mut last = if bits == 15 { 255 } else { 0 };
    while last == 255 {
        last = rest.next()?;
        len += usize::from(last);
    }
    Some(len)
}
