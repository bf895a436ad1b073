//! Units packed and unpacked, by codec and level.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formats::{Codec, Decoder, Encoder, Packing};

/// Half text, half noise: shrinks to a half, as the files of an operating system do.
fn unit() -> Vec<u8> {
    let mut seed = 1_u64;
    let mut unit = Vec::new();
    while unit.len() < 65536 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        unit.extend_from_slice(&seed.to_be_bytes()[..4]);
        unit.extend_from_slice(b"the quick brown fox jumps"[..(seed >> 60) as usize].as_ref());
    }
    unit.truncate(65536);
    unit
}

fn codecs(criterion: &mut Criterion) {
    let unit = unit();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(unit.len() as u64));
    for (codec, levels) in [(Codec::Deflate, [1, 3, 6]), (Codec::Zstd, [1, 3, 6])] {
        for level in levels {
            let packing = Packing { codec, level, window_bits: 15 };
            let (mut encoder, mut packed) = (Encoder::default(), Vec::new());
            group.bench_function(format!("{}-{level} packs", codec.name()), |bencher| {
                bencher.iter(|| {
                    packed.clear();
                    encoder.encode(packing, &unit, &mut packed).expect("packs")
                });
            });
            let (mut decoder, mut out) = (Decoder::default(), vec![0; unit.len()]);
            group.bench_function(format!("{}-{level} unpacks", codec.name()), |bencher| {
                bencher.iter(|| decoder.decode(codec, &packed, &mut out).expect("unpacks"));
            });
        }
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
