//! Peak memory, whatever the size of the disk. In a process of its own: what a child has used at
//! most is counted from the size of its parent on.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use wait4::Wait4;

const MIB: u64 = 1 << 20;

fn diskwright() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diskwright"))
}

fn code(folder: &Path, words: &[&str]) -> i32 {
    diskwright().args(words).current_dir(folder).status().unwrap().code().unwrap()
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

/// Runs to the end, and says how many bytes were resident at most.
fn peak_memory(folder: &Path, words: &[&str]) -> u64 {
    let mut child = diskwright().args(words).current_dir(folder).spawn().unwrap();
    let used = child.wait4().unwrap();
    assert!(used.status.success(), "{words:?}");
    used.rusage.maxrss
}

#[test]
fn memory_stays_flat_whatever_the_size_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let sparse = File::create(path.join("sparse.raw")).unwrap();
    // 10 TiB with a little data at both ends and in the middle.
    sparse.set_len(10 << 40).unwrap();
    for at in [0, 5 << 40, (10 << 40) - MIB] {
        sparse.write_all_at(&noise(1 << 20), at).unwrap();
    }
    assert_eq!(code(path, &["create", "-f", "qcow2", "huge.qcow2", "64T"]), 0);
    for threads in [1, 2, 8] {
        let bound = (32 + 4 * threads) * MIB;
        let m = threads.to_string();
        let jobs: &[&[&str]] = &[
            &["convert", "-m", &m, "-O", "qcow2", "sparse.raw", "a.qcow2"],
            &["convert", "-m", &m, "-c", "-O", "qcow2", "sparse.raw", "b.qcow2"],
            &[
                "convert",
                "-m",
                &m,
                "-c",
                "-O",
                "qcow2",
                "-o",
                "cluster_size=2M",
                "sparse.raw",
                "b.qcow2",
            ],
            &["convert", "-m", &m, "-O", "raw", "b.qcow2", "c.raw"],
            &["convert", "-m", &m, "-O", "qcow2", "huge.qcow2", "d.qcow2"],
            &["compare", "-m", &m, "sparse.raw", "b.qcow2"],
        ];
        for words in jobs {
            let peak = peak_memory(path, words);
            assert!(peak <= bound, "{peak} bytes of {bound} with {words:?}");
        }
    }
    assert_eq!(code(path, &["compare", "sparse.raw", "c.raw"]), 0);
}

#[test]
fn a_disk_of_64_tib_goes_from_raw_to_qcow2_and_back() {
    // ext4 ends at 16 TiB; tmpfs does not.
    let folder = match tempfile::tempdir_in("/dev/shm") {
        Ok(folder) => folder,
        Err(error) => return eprintln!("skipped: no /dev/shm ({error})"),
    };
    let path = folder.path();
    let sparse = File::create(path.join("sparse.raw")).unwrap();
    sparse.set_len(64 << 40).unwrap();
    sparse.write_all_at(&noise(100_000), 33 << 40).unwrap();
    let bound = (32 + 4 * 16) * MIB;
    assert!(peak_memory(path, &["convert", "-O", "qcow2", "sparse.raw", "a.qcow2"]) < bound);
    assert!(peak_memory(path, &["convert", "-O", "raw", "a.qcow2", "b.raw"]) < bound);
    assert_eq!(code(path, &["compare", "sparse.raw", "b.raw"]), 0);
}
