//! Any text as the description of a machine, by itself and in an archive: it is understood or
//! refused, and no name in it leads out.

#![no_main]

use std::sync::Arc;

use formats::{FORMATS, Kind, Limits, Links, Memory, OpenOptions, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let limits = Limits::default();
    for (name, bytes) in [("ovf", text.to_vec()), ("ova", archive(text))] {
        let format = formats::format(name).expect("it is there");
        let source = Arc::new(Memory::new(bytes));
        match (format.inspect)(&*source, &limits) {
            Ok(facts) => {
                let disks = facts.references.iter().filter(|one| one.role == Role::Disk);
                assert!(disks.count() <= limits.max_files);
            }
            Err(error) => assert_ne!(error.kind(), Kind::Awaiting, "{error:?}"),
        }
        if let Some(check) = format.check {
            let _ = check(Links::alone(source.clone()), &limits, &mut |_| {});
        }
        let _ = formats::machine(&*source, &limits);
        let _ = formats::open(source, format, &OpenOptions::new(FORMATS, &limits));
    }
});

/// The description, and a disk of a few bytes.
fn archive(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in [("machine.ovf", text), ("disk1.vmdk", &[7; 700])] {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        let size = format!("{:011o}\0", content.len());
        header[124..136].copy_from_slice(size.as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
