//! Deflate, raw or wrapped: libdeflate for whole units, a streaming decoder for the odd ones.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};

use super::{Codec, Packing};
use crate::base::error::{Error, Kind, Result};

fn damaged(what: &'static str) -> Error {
    Error::new(Kind::Malformed, what)
}

#[derive(Default)]
pub(super) struct Decoder(Option<Decompressor>);

impl Decoder {
    /// With `wrapped` the stream has zlib's header and checksum.
    pub(super) fn decode(&mut self, packed: &[u8], wrapped: bool, out: &mut [u8]) -> Result<()> {
        let whole = self.0.get_or_insert_with(Decompressor::new);
        let unpacked = match wrapped {
            true => whole.zlib_decompress(packed, out),
            false => whole.deflate_decompress(packed, out),
        };
        match unpacked {
            Ok(len) if len == out.len() => Ok(()),
            Ok(_) => Err(damaged("the deflate stream ends too early")),
            Err(DecompressionError::BadData) => Err(damaged("the deflate stream is damaged")),
            // The stream gives more than was asked for: take the front of it.
            Err(DecompressionError::InsufficientSpace) => front(packed, wrapped, out),
        }
    }
}

fn front(packed: &[u8], wrapped: bool, out: &mut [u8]) -> Result<()> {
    let mut stream = Decompress::new(wrapped);
    let status = stream.decompress(packed, out, FlushDecompress::Finish);
    match status {
        Ok(Status::Ok | Status::BufError | Status::StreamEnd)
            if stream.total_out() == out.len() as u64 =>
        {
            Ok(())
        }
        _ => Err(damaged("the deflate stream is damaged")),
    }
}

#[derive(Default)]
pub(super) struct Encoder {
    whole: Option<(i32, Compressor)>,
    windowed: Option<(i32, u8, Compress)>,
}

impl Encoder {
    /// How many bytes of `out` it took, or `None` if it does not fit.
    pub(super) fn encode(
        &mut self,
        packing: Packing,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        let Packing { codec, level, window_bits } = packing;
        if window_bits < 15 && codec == Codec::Deflate {
            return self.encode_windowed(level, window_bits, bytes, out);
        }
        if self.whole.as_ref().is_none_or(|(is, _)| *is != level) {
            let level_is = CompressionLvl::new(level);
            let level_is = level_is.map_err(|_| Error::invalid(no_level(level)))?;
            self.whole = Some((level, Compressor::new(level_is)));
        }
        let (_, compressor) = self.whole.as_mut().expect("made above");
        Ok(match codec {
            Codec::Zlib => compressor.zlib_compress(bytes, out).ok(),
            Codec::Deflate | Codec::Zstd => compressor.deflate_compress(bytes, out).ok(),
        })
    }

    fn encode_windowed(
        &mut self,
        level: i32,
        bits: u8,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        if self.windowed.as_ref().is_none_or(|(is, had, _)| (*is, *had) != (level, bits)) {
            // The streaming encoder has levels to 9; libdeflate's above that mean "harder".
            let scale = u32::try_from(level.min(9)).map_err(|_| Error::invalid(no_level(level)))?;
            let made = Compress::new_with_window_bits(Compression::new(scale), false, bits);
            self.windowed = Some((level, bits, made));
        }
        let (_, _, stream) = self.windowed.as_mut().expect("made above");
        stream.reset();
        match stream.compress(bytes, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Ok(usize::try_from(stream.total_out()).ok()),
            Ok(Status::Ok | Status::BufError) => Ok(None),
            Err(error) => Err(Error::invalid(format!("deflate does not start: {error}"))),
        }
    }
}

fn no_level(level: i32) -> String {
    format!("compression level {level} is not 1 to 12")
}
