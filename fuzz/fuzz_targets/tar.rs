//! Any bytes as an archive whose headers have the right sums: its members lie in it, their paths
//! lead down, and every format that is an archive makes the same of it twice.

#![no_main]

#[path = "../mend.rs"]
mod mend;

use std::sync::Arc;

use formats::{Error, FORMATS, Kind, Limits, Memory, OpenOptions, Source};
use libfuzzer_sys::fuzz_target;

const ENTRIES: usize = 1_000;

fuzz_target!(|input: &[u8]| {
    let mut archive = input.to_vec();
    for header in archive.chunks_exact_mut(512) {
        // Half of the headers that a mutation makes have lost their mark.
        if header[156].is_ascii_graphic() && header[0].is_ascii_graphic() {
            header[257..265].copy_from_slice(b"ustar\x0000");
        }
    }
    mend::mend(&mut archive);
    let source: Arc<dyn Source> = Arc::new(Memory::new(archive));
    let limits = Limits::default();
    for name in ["ova", "docker", "gcp"] {
        let format = formats::format(name).expect("it is there");
        let facts = (format.inspect)(&*source, &limits);
        if let Err(error) = &facts {
            assert_ne!(error.kind(), Kind::Awaiting, "{name}: {error:?}");
        }
        let list = || {
            let mut paths = Vec::new();
            let entries = format.entries.expect("it is an archive");
            let end = entries(&*source, &limits, &mut |entry| {
                let sound = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
                assert!(entry.path.split('/').all(sound), "{:?}", entry.path);
                paths.push((entry.path, entry.stretches));
                if paths.len() < ENTRIES { Ok(()) } else { Err(Error::cancelled()) }
            });
            (paths, end.map_err(|error| error.kind()))
        };
        assert_eq!(list(), list(), "{name}");
        let _ = formats::open(source.clone(), format, &OpenOptions::new(FORMATS, &limits));
    }
});
