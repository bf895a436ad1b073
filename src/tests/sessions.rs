//! The program among the odd things that happen to programs: signals, full disks, pipes, folders,
//! names, sizes.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn diskwright() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diskwright"))
}

fn run(folder: &Path, words: &[&str]) -> Output {
    diskwright().args(words).current_dir(folder).output().unwrap()
}

fn code(folder: &Path, words: &[&str]) -> i32 {
    run(folder, words).status.code().unwrap()
}

/// What stands in a folder, hidden names included.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| name(e).unwrap()).collect();
    names.sort();
    names
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

/// A conversion that takes some seconds, started; it is under way when this returns.
fn slow_conversion(folder: &Path) -> std::process::Child {
    fs::write(folder.join("disk.raw"), noise(32 << 20)).unwrap();
    let mut command = diskwright();
    command.args(["convert", "-p", "-r", "4M", "-O", "qcow2", "disk.raw", "disk.qcow2"]);
    let mut child = command.current_dir(folder).stderr(Stdio::piped()).spawn().unwrap();
    // The first line of progress: it has begun.
    let mut first = [0];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut first).unwrap();
    child
}

#[test]
fn ctrl_c_and_a_kill_leave_nothing_behind() {
    for (signal, code) in
        [(Signal::INT, Some(130)), (Signal::TERM, Some(130)), (Signal::KILL, None)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut child = slow_conversion(folder.path());
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), code, "{signal:?}");
        assert_eq!(names(folder.path()), ["disk.raw"], "{signal:?}");
    }
}

#[test]
fn an_output_that_is_there_stays_until_the_new_one_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.qcow2"), "precious").unwrap();
    let mut child = slow_conversion(folder.path());
    assert_eq!(fs::read(folder.path().join("disk.qcow2")).unwrap(), b"precious");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read(folder.path().join("disk.qcow2")).unwrap(), b"precious");
    assert_eq!(code(folder.path(), &["convert", "disk.raw", "disk.qcow2"]), 0);
    assert_eq!(code(folder.path(), &["compare", "disk.raw", "disk.qcow2"]), 0);
}

/// A file system of a few MiB, if this machine lets us have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: no file system of {size} can be mounted (not root?)");
        }
        mounted.then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_one_sentence_and_leaves_nothing_behind() {
    let Some(small) = SmallDisk::new("4m") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.raw"), noise(8 << 20)).unwrap();
    for format in ["raw", "qcow2"] {
        let output = small.0.path().join("out").into_os_string().into_string().unwrap();
        let told = run(folder.path(), &["convert", "-O", format, "disk.raw", &output]);
        assert_eq!(told.status.code(), Some(7));
        let text = String::from_utf8(told.stderr).unwrap();
        assert!(text.contains("No space left on device") && text.lines().count() == 1, "{text}");
        assert!(names(small.0.path()).is_empty());
    }
}

/// A file system that can share blocks, if this machine lets us have one.
fn sharing_disk() -> Option<SmallDisk> {
    let folder = tempfile::tempdir().unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(512 << 20).unwrap();
    let does = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let made = does(Command::new("mkfs.xfs").arg("-q").arg(image.path()))
        && does(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(folder.path()));
    if !made {
        eprintln!("skipped: no XFS can be made and mounted (not root, or no mkfs.xfs?)");
    }
    made.then_some(SmallDisk(folder))
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    let Some(disk) = sharing_disk() else { return };
    let path = disk.0.path();
    fs::write(path.join("disk.raw"), noise(64 << 20)).unwrap();
    let free = || {
        // What is written later counts later, too.
        assert!(Command::new("sync").status().unwrap().success());
        rustix::fs::statvfs(path).map(|system| system.f_bavail * system.f_frsize).unwrap()
    };
    let before = free();
    for (from, to) in [("disk.raw", "a.raw"), ("disk.raw", "b.qcow2"), ("b.qcow2", "c.raw")] {
        assert_eq!(code(path, &["convert", from, to]), 0);
        assert_eq!(code(path, &["compare", "disk.raw", to]), 0);
    }
    let used = before - free();
    assert!(used < 16 << 20, "three copies of 64 MiB took {used} bytes");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(folder.path(), &["create", "-f", "qcow2", "disk.qcow2", "1G"]), 0);
    let mut command = diskwright();
    command.args(["map", "disk.qcow2"]).current_dir(folder.path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_no_disk_is_refused_and_a_pipe_nobody_writes_to_is_left_on_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for input in [".", "/dev/null"] {
        assert_eq!(code(path, &["convert", input, "out.raw"]), 2, "{input}");
    }
    assert_eq!(code(path, &["convert", "nothing", "out.raw"]), 7);
    let made = Command::new("mkfifo").arg(path.join("pipe")).status().unwrap();
    assert!(made.success());
    let begun = Instant::now();
    let mut command = diskwright();
    command.args(["convert", "pipe", "out.raw"]).current_dir(path).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(20), "it was waited for");
    // Somebody writes to it.
    let mut command = diskwright();
    let mut child = command.args(["convert", "pipe", "out.raw"]).current_dir(path).spawn().unwrap();
    fs::write(path.join("pipe"), noise(3 << 20)).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(fs::read(path.join("out.raw")).unwrap() == noise(3 << 20));
}

#[test]
fn names_with_spaces_and_letters_of_all_kinds_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, qcow2) = ("ein Bild für Łódź.raw", "-日本 \u{1b}[31m.qcow2");
    fs::write(folder.path().join(raw), noise(100_000)).unwrap();
    assert_eq!(code(folder.path(), &["convert", raw, "--", qcow2]), 0);
    assert_eq!(code(folder.path(), &["compare", "--", raw, qcow2]), 0);
    let told = run(folder.path(), &["info", "--", qcow2]);
    assert!(!told.stdout.contains(&0x1b), "the terminal is not steered");
}

#[test]
fn an_empty_file_is_an_empty_disk() {
    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("empty.raw")).unwrap();
    for output in ["out.raw", "out.qcow2"] {
        assert_eq!(code(folder.path(), &["convert", "empty.raw", output]), 0);
        assert_eq!(code(folder.path(), &["compare", "empty.raw", output]), 0);
    }
    assert_eq!(fs::metadata(folder.path().join("out.raw")).unwrap().len(), 0);
    assert_eq!(code(folder.path(), &["inspect", "-f", "qcow2", "empty.raw"]), 3);
}

#[test]
fn n_keeps_the_file_and_what_lies_behind_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("disk.raw"), [noise(1 << 20), vec![0; 1 << 20]].concat()).unwrap();
    fs::write(path.join("device"), vec![9; 3 << 20]).unwrap();
    assert_eq!(code(path, &["convert", "-n", "-O", "raw", "disk.raw", "device"]), 0);
    let (disk, device) = (fs::read(path.join("disk.raw")), fs::read(path.join("device")).unwrap());
    assert!(device[..2 << 20] == disk.unwrap() && device[2 << 20..].iter().all(|b| *b == 9));
    fs::write(path.join("device"), "small").unwrap();
    assert_eq!(code(path, &["convert", "-n", "-O", "raw", "disk.raw", "device"]), 2);
}

/// The image that lies beneath the output was replaced by it: its data were gone.
#[test]
fn an_output_that_is_its_own_backing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("disk.raw"), noise(1 << 20)).unwrap();
    assert_eq!(code(path, &["convert", "disk.raw", "base.qcow2"]), 0);
    let over = ["-B", "base.qcow2", "-F", "qcow2", "disk.raw", "base.qcow2"];
    assert_eq!(code(path, &[&["convert"], &over[..]].concat()), 2);
    let words = ["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "base.qcow2"];
    assert_eq!(code(path, &words), 2);
    assert_eq!(code(path, &["compare", "disk.raw", "base.qcow2"]), 0);
}

#[test]
fn n_keeps_the_settings_of_an_image_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("disk.raw"), noise(1 << 20)).unwrap();
    let settings = "cluster_size=4k,refcount_bits=32,lazy_refcounts=on";
    assert_eq!(code(path, &["create", "-f", "qcow2", "-o", settings, "disk.qcow2", "1M"]), 0);
    let info = || run(path, &["info", "--output", "json", "disk.qcow2"]).stdout;
    let specific = |json: Vec<u8>| -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&json).unwrap()["format-specific"].take()
    };
    let before = specific(info());
    assert_eq!(code(path, &["convert", "-n", "-O", "qcow2", "disk.raw", "disk.qcow2"]), 0);
    assert_eq!(specific(info()), before);
    assert_eq!(code(path, &["compare", "disk.raw", "disk.qcow2"]), 0);
    assert_eq!(code(path, &["create", "-f", "qcow2", "small.qcow2", "512k"]), 0);
    assert_eq!(code(path, &["convert", "-n", "-O", "qcow2", "disk.raw", "small.qcow2"]), 2);
}

// qemu-img fills up what a cut image lacks with zeros, and says that all is well.
#[test]
fn an_image_that_was_cut_is_an_error_and_leaves_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/example.qcow2");
    assert_eq!(code(path, &["convert", example, "disk.raw"]), 0);
    for options in ["", "-c", "-cocompression_type=zstd", "-opreallocation=metadata"] {
        let words = ["convert", options, "disk.raw", "whole.qcow2"];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(code(path, &words), 0, "{words:?}");
        let whole = fs::read(path.join("whole.qcow2")).unwrap();
        for per_mille in [0, 1, 10, 100, 300, 600, 900, 990, 999] {
            let cut = &whole[..whole.len() * per_mille / 1000];
            fs::write(path.join("cut.qcow2"), cut).unwrap();
            let told = run(path, &["convert", "-f", "qcow2", "-O", "raw", "cut.qcow2", "out.raw"]);
            let error = String::from_utf8(told.stderr).unwrap();
            assert_eq!(told.status.code(), Some(3), "{words:?} at {per_mille}: {error}");
            assert!(!path.join("out.raw").exists());
        }
    }
}

#[test]
fn progress_on_a_pipe_is_a_line_every_ten_per_cent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.raw"), noise(20 << 20)).unwrap();
    let told = run(folder.path(), &["convert", "-p", "disk.raw", "out.qcow2"]);
    let text = String::from_utf8(told.stderr).unwrap();
    assert!(text.lines().all(|line| line.ends_with("0%")), "{text}");
    assert!(text.ends_with("100%\n"), "{text}");
}

// Seen: now and then the last step was refused still. Why: a child that another test had forked off
// held the lock until it became a program. Whoever lets go of an image now says so.
#[test]
fn an_image_that_another_process_writes_is_refused_unless_u_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(code(path, &["create", "-f", "qcow2", "disk.qcow2", "1G"]), 0);
    let lock = held(&path.join("disk.qcow2"));
    let told = run(path, &["info", "disk.qcow2"]);
    assert_eq!(told.status.code(), Some(6));
    assert!(String::from_utf8(told.stderr).unwrap().contains("-U"));
    assert_eq!(code(path, &["info", "-U", "disk.qcow2"]), 0);
    drop(lock);
    assert_eq!(code(path, &["info", "disk.qcow2"]), 0);
}

/// Holds the image as a running virtual machine does.
fn held(path: &Path) -> formats::ImageFile {
    formats::ImageFile::open(path, formats::Access::Write, formats::Caching::Writeback).unwrap()
}

const STREAM: [&str; 5] = ["convert", "-O", "vmdk", "-o", "subformat=streamOptimized"];

#[test]
fn a_stream_goes_into_a_pipe_as_it_would_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut disk = noise(3 << 20);
    disk[1 << 20..2 << 20].fill(0);
    disk.truncate((3 << 20) - 512);
    fs::write(path.join("disk.raw"), &disk).unwrap();
    let piped = run(path, &[&STREAM[..], &["-m", "4", "disk.raw", "-"]].concat());
    assert!(piped.status.success(), "{piped:?}");
    fs::write(path.join("piped.vmdk"), &piped.stdout).unwrap();
    assert_eq!(code(path, &["compare", "-q", "-f", "raw", "disk.raw", "piped.vmdk"]), 0);
    assert_eq!(code(path, &["check", "-q", "piped.vmdk"]), 0);
    // The same bytes as into a file, but for the name that stands inside.
    let filed = run(path, &[&STREAM[..], &["disk.raw", "disk.vmdk"]].concat());
    assert!(filed.status.success(), "{filed:?}");
    let len = fs::metadata(path.join("disk.vmdk")).unwrap().len();
    assert_eq!(len, piped.stdout.len() as u64);
    // What lies in several files is refused before a byte goes out.
    let split = ["convert", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "disk.raw", "-"];
    let told = run(path, &split);
    assert_eq!((told.status.code(), told.stdout.len()), (Some(2), 0), "{told:?}");
}

#[test]
fn a_reader_that_leaves_the_pipe_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.raw"), noise(4 << 20)).unwrap();
    let mut command = diskwright();
    command.args([&STREAM[..], &["disk.raw", "-"]].concat()).current_dir(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn the_files_of_an_image_appear_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("disk.raw"), noise(2 << 20)).unwrap();
    assert_eq!(code(path, &["convert", "-O", "qcow2", "disk.raw", "disk.qcow2"]), 0);
    let file = File::options().write(true).open(path.join("disk.qcow2")).unwrap();
    file.set_len(1 << 20).unwrap();
    let before = names(path);
    for kind in ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"] {
        let kind = format!("subformat={kind}");
        let to_vmdk = ["convert", "-f", "qcow2", "-O", "vmdk", "-o", &kind, "disk.qcow2", "x.vmdk"];
        assert_eq!(code(path, &to_vmdk), 3, "{kind}");
        assert_eq!(names(path), before, "{kind}");
        let whole = ["convert", "-O", "vmdk", "-o", &kind, "disk.raw", "made.vmdk"];
        assert_eq!(code(path, &whole), 0, "{kind}");
        assert_eq!(names(path).len(), before.len() + 2, "{kind}");
        let same = ["compare", "-f", "raw", "--allow-refs", "disk.raw", "made.vmdk"];
        assert_eq!(code(path, &same), 0, "{kind}");
        // Without leave no name is followed.
        assert_eq!(code(path, &["convert", "-O", "raw", "made.vmdk", "out.raw"]), 6, "{kind}");
        for name in names(path).iter().filter(|name| name.starts_with("made")) {
            fs::remove_file(path.join(name)).unwrap();
        }
    }
}

#[test]
fn the_parent_that_the_user_names_is_the_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("base.raw"), noise(1 << 20)).unwrap();
    let overlay = ["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "over.qcow2"];
    assert_eq!(code(path, &overlay), 0);
    fs::rename(path.join("base.raw"), path.join("moved.raw")).unwrap();
    let refused = ["compare", "--allow-refs", "moved.raw", "over.qcow2"];
    assert_eq!(code(path, &refused), 7);
    let given = ["convert", "--parent", "moved.raw", "-O", "raw", "over.qcow2", "flat.raw"];
    assert_eq!(code(path, &given), 0);
    assert!(fs::read(path.join("flat.raw")).unwrap() == fs::read(path.join("moved.raw")).unwrap());
}

#[test]
fn a_disk_gets_another_size_and_loses_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let disk = noise(2 << 20);
    fs::write(path.join("disk.raw"), &disk).unwrap();
    for format in ["raw", "qcow2", "vhd", "vhdx", "vdi", "ploop", "vmdk"] {
        let image = format!("image.{format}");
        assert_eq!(code(path, &["convert", "-O", format, "disk.raw", &image]), 0, "{format}");
        assert_eq!(code(path, &["resize", "-q", "-f", format, &image, "+3M"]), 0, "{format}");
        let back = ["convert", "-f", format, "-O", "raw", &image, "back.raw"];
        assert_eq!(code(path, &back), 0, "{format}");
        let back = fs::read(path.join("back.raw")).unwrap();
        assert!(back.len() == 5 << 20 && back.starts_with(&disk), "{format}");
        assert!(back[disk.len()..].iter().all(|byte| *byte == 0), "{format}");
        let smaller = ["resize", "-q", "-f", format, &image, "1M"];
        assert_eq!(code(path, &smaller), 2, "{format}: only with --shrink");
    }
}

#[test]
fn only_sound_images_pass_where_only_those_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("disk.raw"), noise(3 << 20)).unwrap();
    assert_eq!(code(path, &["convert", "-O", "vdi", "disk.raw", "disk.vdi"]), 0);
    let sound = ["convert", "--sound", "-O", "raw", "disk.vdi", "out.raw"];
    assert_eq!(code(path, &sound), 0);
    // Two blocks of the disk in one of the file: it reads, and it is damaged.
    let mut bytes = fs::read(path.join("disk.vdi")).unwrap();
    bytes.copy_within(512..516, 516);
    fs::write(path.join("disk.vdi"), bytes).unwrap();
    assert_eq!(code(path, &["convert", "-O", "raw", "disk.vdi", "out.raw"]), 0);
    assert_eq!(code(path, &["check", "-q", "disk.vdi"]), 1);
    fs::remove_file(path.join("out.raw")).unwrap();
    assert_eq!(code(path, &sound), 6);
    assert!(!path.join("out.raw").exists());
}
