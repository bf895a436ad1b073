//! Headers understood: from a file, and while a stream goes by.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formats::{CopyOptions, Create, FORMATS, Ingest, Limits, Memory, OpenOptions, Options};

const SIZE: usize = 64 << 20;

fn images(criterion: &mut Criterion) {
    let limits = Limits::default();
    let raw = Arc::new(Memory::new(vec![7; SIZE]));
    let options = OpenOptions::new(FORMATS, &limits);
    let disk = formats::open(raw, formats::format("raw").expect("raw"), &options).expect("opens");
    for format in FORMATS {
        let Some(create) = format.create else { continue };
        // One that has whole GiB only is no sample.
        if (format.padded)(SIZE as u64, &Options::default()).ok() != Some(SIZE as u64) {
            continue;
        }
        let target = Arc::new(Memory::default());
        let writer = create(target.clone(), &Create { size: SIZE as u64, ..Create::default() });
        formats::copy(&*disk, &*writer.expect("a writer"), &CopyOptions::default())
            .expect("copies");
        criterion.bench_function(&format!("inspect/{}", format.name), |bencher| {
            bencher.iter(|| (format.inspect)(&*target, &limits).expect("facts"));
        });
        let bytes = target.to_vec();
        let mut group = criterion.benchmark_group("ingest");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format.name, |bencher| {
            bencher.iter(|| {
                let mut ingest = Ingest::new(FORMATS, limits.clone());
                for chunk in bytes.chunks(64 << 10) {
                    ingest.push(chunk).expect("no format named");
                }
                ingest.finish().expect("facts")
            });
        });
    }
}

/// A raw disk that goes by, in portions as services have them.
fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    let bytes: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for portion in [1 << 20, 64 << 10, 4 << 10, 512] {
        group.bench_function(format!("raw/{portion}"), |bencher| {
            bencher.iter(|| {
                let mut ingest = Ingest::new(FORMATS, Limits::default());
                for chunk in bytes.chunks(portion) {
                    ingest.push(chunk).expect("no format named");
                }
                ingest.finish().expect("facts")
            });
        });
    }
}

criterion_group!(benches, images, streams);
criterion_main!(benches);
