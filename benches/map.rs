//! The map of a disk, walked from end to end.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use formats::{CopyOptions, Create, FORMATS, Image, Limits, Memory, OpenOptions};

const SIZE: u64 = 64 << 20;

/// Every other unit of 64 KiB holds data.
fn striped() -> Box<dyn Image> {
    let bytes: Vec<u8> = (0..SIZE).map(|at| u8::from(at >> 16 & 1 == 1)).collect();
    open("raw", Arc::new(Memory::new(bytes)))
}

fn open(format: &str, source: Arc<Memory>) -> Box<dyn Image> {
    let limits = Limits::default();
    let format = formats::format(format).expect("a format");
    formats::open(source, format, &OpenOptions::new(FORMATS, &limits)).expect("opens")
}

fn maps(criterion: &mut Criterion) {
    let disk = striped();
    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Bytes(SIZE));
    for format in FORMATS {
        let Some(create) = format.create else { continue };
        let target = Arc::new(Memory::default());
        let writer = create(target.clone(), &Create { size: SIZE, ..Create::default() });
        formats::copy(&*disk, &*writer.expect("a writer"), &CopyOptions::default())
            .expect("copies");
        let image = open(format.name, target);
        group.bench_function(format.name, |bencher| {
            bencher.iter(|| image.walk(0, SIZE).count());
        });
    }
}

criterion_group!(benches, maps);
criterion_main!(benches);
