//! A large disk with little on it.

use std::os::unix::fs::FileExt;
use std::path::Path;

/// Of a file system: stretches begin at a multiple of it.
const BLOCK: u64 = 4096;

/// A file of this size with so many stretches of data, at equal distances.
pub(crate) fn scattered(path: &Path, size: u64, stretches: u64, len: u64) {
    let _ = std::fs::remove_file(path);
    let file = std::fs::File::create(path).expect("the disk can be made");
    file.set_len(size).expect("a file may have holes");
    let bytes: Vec<u8> = (1..=251).cycle().take(usize::try_from(len).expect("small")).collect();
    for number in 0..stretches {
        let at = size / stretches / BLOCK * BLOCK * number;
        file.write_all_at(&bytes, at).expect("room for the disk");
    }
}
