//! Any text as a descriptor, of vmdk or of a ploop bundle: it is understood or refused, and the
//! files that it names make up the disk that it promises.

#![no_main]

use std::sync::Arc;

use formats::{
    FORMATS, Kind, Limits, Memory, OpenOptions, Reference, Resolved, Resolver, Result, Role,
};
use libfuzzer_sys::fuzz_target;

/// Every name leads to a file of so many bytes.
#[derive(Clone)]
struct Blank(usize);

impl Resolver for Blank {
    fn resolve(&self, _: &Reference) -> Result<Resolved> {
        let source = Arc::new(Memory::new(vec![0; self.0]));
        Ok(Resolved { source, resolver: Arc::new(self.clone()) })
    }
}

fuzz_target!(|text: &[u8]| {
    let limits = Limits::default();
    for name in ["vmdk", "ploop"] {
        let format = formats::format(name).expect("it is there");
        // As it is, and behind the line that every descriptor begins with.
        let fronts: [&[u8]; 2] = [b"", b"# Disk DescriptorFile\nversion=1\n"];
        for front in fronts {
            let source = Arc::new(Memory::new([front, text].concat()));
            let facts = match (format.inspect)(&*source, &limits) {
                Ok(facts) => facts,
                Err(error) => {
                    assert_ne!(error.kind(), Kind::Awaiting, "{error:?}");
                    continue;
                }
            };
            let extents = facts.references.iter().filter(|one| one.role == Role::Extent).count();
            assert!(extents as u64 <= limits.max_entries, "{extents} files");
            let mut options = OpenOptions::new(FORMATS, &limits);
            options.resolver = Arc::new(Blank(1 << 16));
            if let Ok(disk) = formats::open(source, format, &options) {
                assert_eq!(disk.disk_size(), facts.disk_size, "{name}");
                let _ = disk.walk(0, disk.disk_size()).take(500).all(|extent| extent.is_ok());
            }
        }
    }
});
