//! Our content beside qemu-img's, of images that both accept. Starts a program for each input, so
//! it is slow, and run by hand: `cargo fuzz run differential`.
//!
//! Where both accept an image and read other bytes, one of them is wrong. These are known, and
//! qemu-img is: end of file inside an allocated cluster reads as zeros; a size is cut down to whole
//! sectors; entries of a vdi map beyond the file; stale sectors that a vhd's bitmap disowns.
//! Damaged zstd frames are not compared: version 1.5.4 of its library, which qemu-img may be linked
//! to, makes other bytes of some of them than 1.5.7, which is in here.

#![no_main]

#[path = "../mend.rs"]
mod mend;
#[path = "../unfold.rs"]
mod unfold;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use formats::{Detail, FORMATS, Limits, Memory, OpenOptions, Value};
use libfuzzer_sys::fuzz_target;

/// Larger disks are not compared.
const MOST: u64 = 8 << 20;
/// Ours and qemu's names of formats that qemu reads as they are meant.
const NAMES: [(&str, &str); 6] = [
    ("qcow2", "qcow2"),
    ("qcow", "qcow"),
    ("qed", "qed"),
    ("vdi", "vdi"),
    ("vhdx", "vhdx"),
    ("ploop", "parallels"),
];

fuzz_target!(|input: &[u8]| {
    let mut image = unfold::unfold(input);
    mend::mend(&mut image);
    for (name, theirs) in NAMES {
        let format = formats::format(name).expect("it is there");
        let source = Arc::new(Memory::new(&*image));
        if !(format.probe)(&*source).is_ok_and(|is| is) {
            continue;
        }
        let limits = Limits { max_disk_size: MOST, ..Limits::default() };
        let mut options = OpenOptions::new(FORMATS, &limits);
        // What a check finds fault with has more than one reading.
        options.strict = true;
        let zstd = |detail: &Detail| detail.value == Value::from("zstd");
        let facts = (format.inspect)(&*source, &limits);
        if facts.is_ok_and(|facts| facts.details.iter().any(zstd)) {
            continue;
        }
        let Ok(disk) = formats::open(source, format, &options) else { continue };
        let mut ours = vec![1; disk.disk_size() as usize];
        if disk.read(0, &mut ours).is_err() {
            continue;
        }
        if let Some(bytes) = theirs_of(&image, theirs) {
            let len = ours.len().min(bytes.len());
            assert!(bytes.len() + 511 >= ours.len(), "{name}: {} and {}", ours.len(), bytes.len());
            let differs = ours[..len].iter().zip(&bytes).position(|(one, two)| one != two);
            assert_eq!(differs, None, "{name}: other bytes");
        }
    }
});

/// The disk as qemu-img reads it, if it does.
fn theirs_of(image: &[u8], format: &str) -> Option<Vec<u8>> {
    let base = std::env::temp_dir().join(format!("differential-{}", std::process::id()));
    let (from, to) = (base.with_extension("image"), base.with_extension("raw"));
    std::fs::File::create(&from).ok()?.write_all(image).ok()?;
    let done = Command::new("timeout")
        .args(["5", "qemu-img", "convert", "-f", format, "-O", "raw"])
        .args([&from, &to])
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let bytes = std::fs::read(&to).ok();
    let _ = (std::fs::remove_file(&from), std::fs::remove_file(&to));
    bytes.filter(|_| done.success())
}
