//! Limits that are said on the command line: time, memory, and all of them at once.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs to the end.
fn run(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    command.args(words).current_dir(folder).output().unwrap()
}

/// The exit code, and what was said.
fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn does(program: &str, folder: &Path, words: &[&str]) -> bool {
    let done = Command::new(program).args(words).current_dir(folder).status();
    let done = done.is_ok_and(|status| status.success());
    if !done {
        eprintln!("skipped: {program} does not do that here");
    }
    done
}

/// Nobody writes to the pipe, so that nothing is read, and no work sees the time.
#[test]
fn work_that_waits_for_others_ends_in_time_as_well() {
    let folder = tempfile::tempdir().unwrap();
    if !does("mkfifo", folder.path(), &["pipe"]) {
        return;
    }
    for words in
        [&["convert", "--timeout", "1", "pipe", "out.raw"][..], &["info", "--timeout=1", "pipe"]]
    {
        let (code, said) = told(&run(folder.path(), words));
        assert_eq!(code, 5, "{words:?}: {said}");
        assert_eq!(said, "diskwright: it took longer than 1 seconds\n");
    }
    assert!(!folder.path().join("out.raw").exists());
}

#[test]
fn time_that_is_enough_is_no_limit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk.raw"), vec![7; 3 << 20]).unwrap();
    let words = ["convert", "--timeout", "600", "-O", "qcow2", "disk.raw", "out.qcow2"];
    assert_eq!(told(&run(folder.path(), &words)), (0, String::new()));
}

/// What `xz -9` makes asks for 65 MiB before the first byte comes out.
#[test]
fn a_dictionary_larger_than_the_memory_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk.raw"), vec![7; 3 << 20]).unwrap();
    if !does("xz", folder.path(), &["-9", "disk.raw"]) {
        return;
    }
    let convert = |more: &[&str]| {
        let words = [&["convert", "-O", "raw"], more, &["disk.raw.xz", "out.raw"]].concat();
        told(&run(folder.path(), &words))
    };
    assert_eq!(convert(&["--max-memory", "64M"]).0, 5);
    assert!(!folder.path().join("out.raw").exists());
    assert_eq!(convert(&["--untrusted"]).0, 5);
    assert_eq!(convert(&["--untrusted", "--max-memory", "256M"]).0, 0);
    std::fs::remove_file(folder.path().join("out.raw")).unwrap();
    assert_eq!(convert(&["--max-memory", "256M"]), (0, String::new()));
}

/// Whatever else is said: a service that passes flags on is safe with this one.
#[test]
fn no_name_in_an_untrusted_image_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for words in [
        &["create", "-q", "-f", "qcow2", "base.qcow2", "1M"][..],
        &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
        &["convert", "--allow-refs", "top.qcow2", "a.raw"],
        &["convert", "--allow-refs=.", "top.qcow2", "b.raw"],
    ] {
        assert_eq!(told(&run(path, words)).0, 0, "{words:?}");
    }
    for allow in ["--allow-refs", "--allow-refs=."] {
        let (code, said) =
            told(&run(path, &["convert", "--untrusted", allow, "top.qcow2", "c.raw"]));
        assert_eq!(code, 6, "{said}");
        assert_eq!(told(&run(path, &["inspect", "--untrusted", allow, "top.qcow2"])).0, 1);
    }
    assert!(!path.join("c.raw").exists());
    let words = ["convert", "--untrusted", "-O", "qcow2", "base.qcow2", "sound.qcow2"];
    assert_eq!(told(&run(path, &words)), (0, String::new()));
}

/// An image in which two entries share a cluster has two readings.
#[test]
fn strictly_only_sound_images_are_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("disk.raw"), vec![7; 256 << 10]).unwrap();
    assert_eq!(told(&run(path, &["convert", "-O", "qcow2", "disk.raw", "disk.qcow2"])).0, 0);
    let mut image = std::fs::read(path.join("disk.qcow2")).unwrap();
    let number = |at: usize, image: &[u8]| {
        let bytes: [u8; 8] = image[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_be_bytes(bytes) & 0x00ff_ffff_ffff_fe00).unwrap()
    };
    let table = number(number(40, &image), &image);
    image.copy_within(table..table + 8, table + 8);
    std::fs::write(path.join("disk.qcow2"), &image).unwrap();
    assert_eq!(told(&run(path, &["inspect", "disk.qcow2"])).0, 0);
    assert_eq!(told(&run(path, &["convert", "disk.qcow2", "a.raw"])).0, 0);
    for flag in ["--strict", "--sound", "--untrusted"] {
        assert_eq!(told(&run(path, &["inspect", flag, "disk.qcow2"])).0, 1, "{flag}");
        assert_eq!(told(&run(path, &["convert", flag, "disk.qcow2", "b.raw"])).0, 6, "{flag}");
    }
    assert!(!path.join("b.raw").exists());
}

/// An old kernel does not know these calls.
#[test]
fn a_kernel_that_cannot_lock_is_told_of_and_nothing_for_untrusted_images() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk.raw"), vec![7; 1 << 20]).unwrap();
    if !does("strace", folder.path(), &["-o", "log", "true"]) {
        return;
    }
    let faults = ["landlock_create_ruleset:error=ENOSYS", "seccomp:error=EINVAL"];
    for (fault, lacks) in faults.into_iter().zip(["Landlock", "filter of system calls"]) {
        let inspect = |flag: &str| {
            let inject = format!("inject={fault}");
            let mut command = Command::new("strace");
            command.args(["-f", "-o", "log", "-e", &inject, env!("CARGO_BIN_EXE_diskwright")]);
            command.args(["inspect", flag, "disk.raw"]).current_dir(folder.path());
            told(&command.output().unwrap())
        };
        assert_eq!(inspect("--output=human"), (0, String::new()), "nothing is said unasked");
        let (code, said) = inspect("-v");
        assert!(code == 0 && said.lines().count() == 1 && said.contains(lacks), "{said}");
        let (code, said) = inspect("--untrusted");
        assert!(code == 4 && said.contains(lacks), "{code} {said}");
    }
    let known = run(folder.path(), &["inspect", "-v", "--untrusted", "disk.raw"]);
    assert_eq!(told(&known), (0, String::new()), "this kernel can");
}
