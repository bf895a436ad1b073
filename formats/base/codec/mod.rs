//! Bytes in, bytes out: compressed units of a disk. Contexts live as long as their thread.

mod deflate;
mod zstd;

use crate::base::error::{Error, Result};

/// How a unit of disk is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// A raw deflate stream (RFC 1951).
    Deflate,
    /// A deflate stream with header and checksum (RFC 1950).
    Zlib,
    /// Zstandard frames (RFC 8878).
    Zstd,
}

impl Codec {
    /// Its name, as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Deflate | Codec::Zlib => "zlib",
            Codec::Zstd => "zstd",
        }
    }
}

/// What a [`Writer`](crate::Writer) packs its units with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The codec.
    pub codec: Codec,
    /// How hard it tries, on the codec's own scale.
    pub level: i32,
    /// How far back a deflate stream may refer: 2 to this power bytes, 15 at most.
    pub window_bits: u8,
}

/// Unpacks; keep one a thread.
#[derive(Default)]
pub struct Decoder {
    deflate: deflate::Decoder,
    zstd: zstd::Decoder,
}

impl Decoder {
    /// Fills `out` from the front of `packed`, which may go on behind what is needed. `Malformed`
    /// if the stream is damaged or gives less than `out` holds.
    pub fn decode(&mut self, codec: Codec, packed: &[u8], out: &mut [u8]) -> Result<()> {
        match codec {
            Codec::Deflate => self.deflate.decode(packed, false, out),
            Codec::Zlib => self.deflate.decode(packed, true, out),
            Codec::Zstd => self.zstd.decode(packed, out),
        }
    }
}

/// Packs; keep one a thread.
#[derive(Default)]
pub struct Encoder {
    deflate: deflate::Encoder,
    zstd: zstd::Encoder,
}

impl Encoder {
    /// Appends `bytes`, packed, to `out` if that takes less than `bytes` do; else leaves `out` as
    /// it is and says `false`. `Invalid` for a level that the codec does not have.
    pub fn encode(&mut self, packing: Packing, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.encode_into(packing, bytes, bytes.len().saturating_sub(1), out)
    }

    /// Bytes that so many take at most when they are packed anyway.
    pub(crate) fn most(len: u64) -> u64 {
        // Both codecs fall back to storing bytes as they are, in blocks with short headers.
        len + len / 64 + 128
    }

    /// Appends `bytes`, packed, to `out`, even if that takes more than `bytes` do.
    pub fn encode_anyway(
        &mut self,
        packing: Packing,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let room = usize::try_from(Encoder::most(bytes.len() as u64)).unwrap_or(usize::MAX);
        match self.encode_into(packing, bytes, room, out)? {
            true => Ok(()),
            false => Err(Error::unsupported("a unit grows beyond measure when it is packed")),
        }
    }

    fn encode_into(
        &mut self,
        packing: Packing,
        bytes: &[u8],
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let start = out.len();
        out.resize(start + room, 0);
        let room = &mut out[start..];
        let packed = match packing.codec {
            Codec::Deflate | Codec::Zlib => self.deflate.encode(packing, bytes, room),
            Codec::Zstd => self.zstd.encode(packing.level, bytes, room),
        };
        let len = packed.as_ref().ok().copied().flatten();
        out.truncate(start + len.unwrap_or(0));
        packed.map(|len| len.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| b"the quick brown fox "[i % 20] ^ u8::from(i % 977 == 0)).collect()
    }

    fn all() -> impl Iterator<Item = Packing> {
        let deflate = [1, 3, 6, 9, 12].into_iter().flat_map(|level| {
            [12, 15].map(|window_bits| Packing { codec: Codec::Deflate, level, window_bits })
        });
        let zstd =
            [-5, 1, 3, 19].map(|level| Packing { codec: Codec::Zstd, level, window_bits: 15 });
        let zlib = [1, 6].map(|level| Packing { codec: Codec::Zlib, level, window_bits: 15 });
        deflate.chain(zlib).chain(zstd)
    }

    #[test]
    fn what_was_packed_comes_back_whatever_stands_behind_it() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for packing in all() {
            let bytes = text(65536);
            let mut packed = vec![9];
            assert!(encoder.encode(packing, &bytes, &mut packed).expect("packs"), "{packing:?}");
            packed.extend_from_slice(&[0xa5; 700]);
            let mut out = vec![0; bytes.len()];
            decoder.decode(packing.codec, &packed[1..], &mut out).expect("unpacks");
            assert!(out == bytes, "{packing:?}");
        }
    }

    #[test]
    fn a_stream_longer_than_asked_for_is_cut_and_a_shorter_one_is_an_error() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for packing in all() {
            let bytes = text(20_000);
            let mut packed = Vec::new();
            encoder.encode(packing, &bytes, &mut packed).expect("packs");
            let mut out = vec![0; 4096];
            decoder.decode(packing.codec, &packed, &mut out).expect("the first 4096 bytes");
            assert!(out == bytes[..4096]);
            let mut out = vec![0; 20_001];
            let short = decoder.decode(packing.codec, &packed, &mut out).expect_err("one too many");
            assert_eq!(short.kind(), Kind::Malformed);
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let noise: Vec<u8> =
            (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for packing in all() {
            let mut out = vec![1, 2, 3];
            assert!(!Encoder::default().encode(packing, &noise[..64], &mut out).expect("tries"));
            assert_eq!(out, [1, 2, 3]);
            Encoder::default()
                .encode_anyway(packing, &noise, &mut out)
                .expect("packs all the same");
            let mut back = vec![0; noise.len()];
            Decoder::default().decode(packing.codec, &out[3..], &mut back).expect("unpacks");
            assert!(back == noise, "{packing:?}");
        }
    }

    #[test]
    fn units_that_do_not_fit_do_not_disturb_the_next_ones() {
        // Sequences that shrink, a little or not at all, in units of a sector.
        let byte = |kind: usize, seed: usize, at: usize| match kind {
            0 => seed + ((at * at) >> 3),
            1 => seed.wrapping_mul(at | 1) ^ (at >> 7),
            _ => at / (1 + seed % 7),
        };
        let byte = |kind, seed, at| byte(kind, seed, at).to_le_bytes()[0];
        for packing in all() {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for round in 0..900_usize {
                let (kind, seed) = (round % 3, round * 7);
                let unit: Vec<u8> = (0..512).map(|at| byte(kind, seed, round * 512 + at)).collect();
                let mut packed = Vec::new();
                if encoder.encode(packing, &unit, &mut packed).expect("tries") {
                    let mut out = vec![0; unit.len()];
                    decoder.decode(packing.codec, &packed, &mut out).expect("unpacks");
                    assert!(out == unit, "{packing:?}, round {round}");
                }
            }
        }
    }

    #[test]
    fn frames_of_zstd_may_follow_each_other() {
        let packing = Packing { codec: Codec::Zstd, level: 3, window_bits: 15 };
        let (mut encoder, mut packed) = (Encoder::default(), Vec::new());
        encoder.encode(packing, &text(3000), &mut packed).expect("packs");
        encoder.encode(packing, &text(1096), &mut packed).expect("packs");
        let mut out = vec![0; 4096];
        Decoder::default().decode(Codec::Zstd, &packed, &mut out).expect("both");
        assert!(out[..3000] == text(3000) && out[3000..] == text(1096));
    }
}
