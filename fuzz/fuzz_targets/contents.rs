//! Any bytes as a disk: a look at what lies on it ends, and costs what it may.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use std::sync::Arc;

use contents::{Budget, look};
use formats::{FORMATS, Limits, Memory, OpenOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let raw = formats::format("raw").expect("there is one");
    let source = Arc::new(Memory::new(unfold::unfold(data)));
    let disk = formats::open(source, raw, &OpenOptions::new(FORMATS, &limits));
    let disk = disk.expect("any bytes are a raw disk");
    let size = disk.disk_size();
    let found = look(disk.into(), &Budget::default()).expect("memory does not fail");
    let told = |text: &str| !text.chars().any(|c| c == '\u{1b}');
    assert!(found.system.pretty_name.is_none_or(|name| told(&name.value)));
    if let Some(table) = &found.table {
        for found in found.file_systems.iter().filter_map(|found| found.partition) {
            let mut all = table.partitions.iter();
            let part = all.find(|part| part.number == found).expect("it is one of the table's");
            assert!(part.start < size, "nothing is found behind the end of the disk");
        }
    }
});
