//! Any bytes as an image whose checksums are right: what lies behind them is read, checked and
//! gone over as if its maker had meant it.

#![no_main]

#[path = "../mend.rs"]
mod mend;
#[path = "../unfold.rs"]
mod unfold;

use std::sync::Arc;

use formats::{FORMATS, Kind, Limits, Links, Memory, OpenOptions, Source};
use libfuzzer_sys::fuzz_target;

/// Extents looked at, bytes read, and entries gone over, of one image.
const EXTENTS: usize = 500;
const BYTES: u64 = 4 << 20;
const ENTRIES: usize = 500;

fuzz_target!(|input: &[u8]| {
    let mut image = unfold::unfold(input);
    mend::mend(&mut image);
    let source: Arc<dyn Source> = Arc::new(Memory::new(image));
    let limits = Limits::default();
    for format in FORMATS {
        if !(format.probe)(&*source).is_ok_and(|is| is) {
            continue;
        }
        let facts = (format.inspect)(&*source, &limits);
        if let Err(error) = &facts {
            assert_ne!(error.kind(), Kind::Awaiting, "{}: {error:?}", format.name);
        }
        if let Some(check) = format.check {
            let _ = check(Links::alone(source.clone()), &limits, &mut |_| {});
        }
        if let Some(entries) = format.entries {
            let mut left = ENTRIES;
            let _ = entries(&*source, &limits, &mut |_| {
                left -= 1;
                if left == 0 { Err(formats::Error::cancelled()) } else { Ok(()) }
            });
        }
        let options = OpenOptions::new(FORMATS, &limits);
        let Ok(disk) = formats::open(source.clone(), format, &options) else { continue };
        let mut budget = BYTES;
        for extent in disk.walk(0, disk.disk_size()).take(EXTENTS) {
            let Ok(extent) = extent else { break };
            let len = extent.len.min(budget).min(1 << 20);
            let _ = disk.read(extent.start, &mut vec![0; len as usize]);
            budget -= len;
        }
    }
});
