//! Any bytes as a container of files: their paths lead down only, and what they hold is there or is
//! an error.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use std::collections::HashSet;
use std::sync::Arc;

use formats::{Entry, EntryKind, Error, FORMATS, Kind, Limits, Memory, Source, Window};
use libfuzzer_sys::fuzz_target;

/// Entries looked at, and bytes read of each.
const ENTRIES: usize = 2_000;
const BYTES: u64 = 4 << 10;

fuzz_target!(|data: &[u8]| {
    let source: Arc<dyn Source> = Arc::new(Memory::new(unfold::unfold(data)));
    let limits = Limits::default();
    for format in FORMATS {
        let Some(entries) = format.entries else { continue };
        let mut paths = HashSet::new();
        let result = entries(&*source, &limits, &mut |entry| {
            look_over(&source, &entry);
            paths.insert(entry.path);
            match paths.len() < ENTRIES {
                true => Ok(()),
                false => Err(Error::cancelled()),
            }
        });
        if let Err(error) = result {
            assert_ne!(error.kind(), Kind::Awaiting, "{}: {error:?}", format.name);
        }
    }
});

fn look_over(source: &Arc<dyn Source>, entry: &Entry) {
    let sound = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
    assert!(entry.path.split('/').all(sound), "{:?}", entry.path);
    let stored = entry.stretches.iter().map(|stretch| stretch.len).fold(0, u64::saturating_add);
    if entry.kind == EntryKind::File && entry.packing.is_none() {
        assert_eq!(stored, entry.size, "{:?}", entry.path);
    }
    if let Ok(content) = formats::inside(source, &entry.path, &entry.stretches) {
        assert_eq!(content.len(), stored);
        let mut bytes = vec![0; stored.min(BYTES) as usize];
        Window::read(&*content, 0, &mut bytes).expect("what lies in the file is read");
    }
}
