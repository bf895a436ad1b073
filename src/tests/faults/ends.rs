//! Where the bytes go, or come from, is gone, full, or only to be read.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::little::SmallDisk;
use crate::place::{Place, split};

fn place() -> Place {
    let mut place = Place::new();
    place.put("disk.raw", &Dice::new(8).disk(2 << 20));
    place.must("convert -q -O qcow2 disk.raw disk.qcow2");
    place.remember();
    place
}

/// Runs it by way of a shell, which opens and closes what it says.
fn shell(place: &Place, words: &str, with: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$@\" {with}"), "sh"]);
    command.arg(env!("CARGO_BIN_EXE_diskwright")).args(split(words));
    command.current_dir(place.path()).stdin(Stdio::null()).output().unwrap()
}

/// It ends with this code and one sentence, and changes nothing.
fn fails(place: &Place, words: &str, with: &str, code: i32) {
    let done = shell(place, words, with);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{words} {with}: {said}");
    assert!(said.lines().count() == 1 && said.starts_with("diskwright: "), "{words}: {said}");
    assert!(place.seen() == place.before, "{words} {with}");
}

// Seen: `info disk.qcow2 > /dev/full` told nothing and ended with 0. Why: what standard output did
// not take was passed over, for the sake of readers that leave early.
#[test]
fn an_answer_that_finds_no_room_is_a_failure() {
    let place = place();
    for words in [
        "info disk.qcow2",
        "info --output json disk.qcow2",
        "map disk.qcow2",
        "check disk.qcow2",
        "compare disk.raw disk.qcow2",
        "inspect disk.raw",
        "convert -O raw disk.qcow2 -",
        "convert -O qcow2 disk.raw -",
        "convert -O raw --compress-output zstd disk.qcow2 -",
    ] {
        fails(&place, words, "> /dev/full", 7);
    }
    for words in ["convert -O raw disk.qcow2 /dev/full", "convert -O vhdx disk.raw /dev/full"] {
        fails(&place, words, "", 7);
    }
}

// Seen: `convert disk.raw - >&-` ended with 0, and the image was nowhere. Why: a process that is
// started without a standard output gets the null device in its place. The same with its input:
// an empty disk came of it.
#[test]
fn a_stream_that_was_closed_beforehand_is_a_failure() {
    let place = place();
    fails(&place, "convert -O raw disk.qcow2 -", ">&-", 7);
    fails(&place, "convert -O qcow2 disk.raw -", ">&-", 7);
    fails(&place, "convert -O raw - out.raw", "<&-", 2);
    let thrown_away = shell(&place, "convert -O raw disk.qcow2 -", "> /dev/null");
    assert!(thrown_away.status.success(), "whoever says so may throw it away");
}

#[test]
fn in_a_folder_that_is_only_to_be_read_nothing_is_begun() {
    let Some(disk) = SmallDisk::new("tmpfs") else { return };
    let place = place();
    let at = disk.path().display();
    std::fs::copy(place.path().join("disk.qcow2"), disk.path().join("disk.qcow2")).unwrap();
    // It is busy for a moment if another test starts a program just now.
    let remounted = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap().success()
    });
    assert!(remounted);
    for words in ["info", "check", "map", "convert -O raw"] {
        let output = if words.starts_with("convert") { "out.raw" } else { "" };
        assert!(place.run(&format!("{words} {at}/disk.qcow2 {output}")).status.success());
    }
    std::fs::remove_file(place.path().join("out.raw")).unwrap();
    for words in [
        "convert -O qcow2 disk.raw AT/out.qcow2",
        "convert -O qcow2 disk.raw AT/disk.qcow2",
        "convert -n -O raw disk.raw AT/disk.qcow2",
        "create -f qcow2 AT/out.qcow2 1M",
        "resize AT/disk.qcow2 +1M",
        "check -r all AT/disk.qcow2",
    ] {
        fails(&place, &words.replace("AT", &at.to_string()), "", 7);
    }
}

// Seen: "100%" on a busy machine. Why: of a disk of two portions all had been read by the time that
// it told of the first one, and it ended well. There are sixteen now, and seconds left.
#[test]
fn a_file_system_that_vanishes_is_a_failure() {
    let mut place = place();
    place.put("large.raw", &vec![7; 16 << 20]);
    place.must("convert -q -O qcow2 large.raw large.qcow2");
    place.remember();
    let mounted = tempfile::tempdir().unwrap();
    let mut mount = Command::new("qcowmount");
    mount.args(["-v", "large.qcow2"]).arg(mounted.path()).current_dir(place.path());
    let Ok(child) = mount.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return eprintln!("skipped: there is no qcowmount here");
    };
    let mut server = Unmounted { child, mounted };
    let source = server.mounted.path().join("qcow1");
    let begun = Instant::now();
    while !source.exists() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    if !source.exists() {
        return eprintln!("skipped: qcowmount mounts nothing here");
    }
    let words = format!("convert -p -r 2m -O raw {} out.raw", source.display());
    let mut command = place.command(&split(&words));
    let mut converting = command.stderr(Stdio::piped()).spawn().unwrap();
    converting.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let done = converting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert!(said.lines().last().unwrap().starts_with("diskwright: "), "{said}");
    assert!(place.seen() == place.before);
}

/// A file system that a process serves, and its end.
struct Unmounted {
    child: std::process::Child,
    mounted: tempfile::TempDir,
}

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new("umount").arg("-l").arg(self.mounted.path()).status();
    }
}
