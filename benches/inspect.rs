//! Headers understood: from a file, and while a stream goes by.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formats::{CopyOptions, Create, FORMATS, Ingest, Limits, Memory, OpenOptions, Options};

const SIZE: usize = 64 << 20;

fn images(criterion: &mut Criterion) {
    let limits = Limits::default();
    let raw = vec![7; SIZE];
    for format in FORMATS {
        // One that has whole GiB only is no sample.
        if format.create.is_none()
            || (format.padded)(SIZE as u64, &Options::default()).ok() != Some(SIZE as u64)
        {
            continue;
        }
        let bytes = image(format.name, &raw);
        let target = Memory::new(bytes.clone());
        criterion.bench_function(&format!("inspect/{}", format.name), |bencher| {
            bencher.iter(|| (format.inspect)(&target, &limits).expect("facts"));
        });
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

/// Images that go by, in portions as services have them; benches/inspector.py does the same with
/// the inspector that services have today.
fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    let raw: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
    for name in ["raw", "qcow2", "vmdk", "vhdx"] {
        let bytes = image(name, &raw);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for portion in [1 << 20, 64 << 10, 4 << 10, 512] {
            group.bench_function(format!("{name}/{portion}"), |bencher| {
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
}

/// A raw disk in this format.
fn image(name: &str, raw: &[u8]) -> Vec<u8> {
    let limits = Limits::default();
    let options = OpenOptions::new(FORMATS, &limits);
    let (disk, target) = (Arc::new(Memory::new(raw.to_vec())), Arc::new(Memory::default()));
    let disk = formats::open(disk, formats::format("raw").expect("raw"), &options).expect("opens");
    let create = formats::format(name).expect("a format").create.expect("it is written");
    let create = create(target.clone(), &Create { size: SIZE as u64, ..Create::default() });
    formats::copy(&*disk, &*create.expect("a writer"), &CopyOptions::default()).expect("copies");
    target.to_vec()
}

criterion_group!(benches, images, streams);
criterion_main!(benches);
