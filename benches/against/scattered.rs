//! A large disk with little on it.

use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file of this size with so many stretches of data, at equal distances.
pub(crate) fn scattered(path: &Path, size: u64, stretches: u64, len: u64) {
    let _ = std::fs::remove_file(path);
    let file = std::fs::File::create(path).expect("the disk can be made");
    file.set_len(size).expect("a file may have holes");
    let bytes: Vec<u8> = (1..=251).cycle().take(usize::try_from(len).expect("small")).collect();
    for number in 0..stretches {
        let at = size / stretches / 4096 * 4096 * number;
        file.write_all_at(&bytes, at).expect("room for the disk");
    }
}
