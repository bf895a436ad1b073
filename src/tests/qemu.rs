//! What machines read: every key that qemu-img has is there, with the same value.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn has_qemu() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no qemu-img");
    }
    found
}

fn qemu(folder: &Path, words: &[&str]) {
    let status = Command::new("qemu-img").args(words).current_dir(folder).output().unwrap();
    assert!(status.status.success(), "{words:?}: {}", String::from_utf8_lossy(&status.stderr));
}

/// What a program says about an image, in JSON.
fn said(program: &str, folder: &Path, words: &[&str]) -> Value {
    let output = Command::new(program).args(words).current_dir(folder).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{program} {words:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn ours(folder: &Path, words: &[&str]) -> Value {
    said(env!("CARGO_BIN_EXE_diskwright"), folder, words)
}

fn theirs(folder: &Path, words: &[&str]) -> Value {
    let words: Vec<_> = words.iter().filter(|word| !word.starts_with("--allow")).copied().collect();
    said("qemu-img", folder, &words)
}

/// Whether all of `less` stands in `more`, where it stands.
fn assert_contains(more: &Value, less: &Value, at: &str) {
    match (more, less) {
        (Value::Object(more), Value::Object(less)) => {
            for (key, value) in less {
                let found = more.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing"));
                assert_contains(found, value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(more), Value::Array(less)) => {
            assert_eq!(more.len(), less.len(), "{at}");
            for (index, (more, less)) in more.iter().zip(less).enumerate() {
                assert_contains(more, less, &format!("{at}[{index}]"));
            }
        }
        // The length of the file itself, which qemu-img rounds up to whole sectors.
        (Value::Number(more), Value::Number(less)) if at.ends_with("info.virtual-size") => {
            let more = more.as_u64().unwrap().next_multiple_of(512);
            assert_eq!(Some(more), less.as_u64(), "{at}");
        }
        _ => assert_eq!(more, less, "{at}"),
    }
}

/// Images of many kinds, made by qemu-img.
fn images(folder: &Path) -> Vec<&'static str> {
    let mut disk = vec![0_u8; 5 << 20];
    for (index, byte) in disk.iter_mut().enumerate().filter(|(index, _)| index >> 17 & 3 == 1) {
        *byte = u8::try_from(index % 251).unwrap();
    }
    std::fs::write(folder.join("disk.raw"), disk).unwrap();
    let convert: &[(&str, &[&str])] = &[
        ("plain.qcow2", &[]),
        ("old.qcow2", &["-o", "compat=0.10"]),
        ("zlib.qcow2", &["-c"]),
        ("zstd.qcow2", &["-c", "-o", "compression_type=zstd,cluster_size=4k"]),
        ("sub.qcow2", &["-o", "extended_l2=on,lazy_refcounts=on,refcount_bits=64"]),
        ("full.qcow2", &["-o", "preallocation=metadata"]),
        ("data.qcow2", &["-o", "data_file=data.bin,data_file_raw=on"]),
    ];
    for (name, options) in convert {
        let words = [&["convert", "-f", "raw", "-O", "qcow2"], *options, &["disk.raw", name]];
        qemu(folder, &words.concat());
    }
    qemu(folder, &["create", "-q", "-f", "qcow2", "-b", "zlib.qcow2", "-F", "qcow2", "over.qcow2"]);
    qemu(folder, &["snapshot", "-c", "a first one", "plain.qcow2"]);
    qemu(folder, &["bitmap", "--add", "-g", "128k", "plain.qcow2", "since then"]);
    let mut names: Vec<_> = convert.iter().map(|(name, _)| *name).collect();
    names.extend(["disk.raw", "over.qcow2"]);
    names
}

#[test]
fn info_and_check_say_all_that_qemu_says() {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in images(path) {
        let words = ["info", "--output", "json", name];
        assert_contains(&ours(path, &words), &theirs(path, &words), &format!("info {name}"));
        if name != "disk.raw" {
            let words = ["check", "--output", "json", name];
            assert_contains(&ours(path, &words), &theirs(path, &words), &format!("check {name}"));
        }
    }
    let words = ["info", "--output", "json", "--backing-chain", "--allow-refs", "over.qcow2"];
    let (ours, theirs) = (ours(path, &words), theirs(path, &words));
    let names = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|info| info["virtual-size"].clone()).collect()
    };
    assert_eq!(names(&ours), names(&theirs));
}

#[test]
fn map_says_what_qemu_says() {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Of tables that were made in advance qemu-img also says where the file below has holes.
    for name in images(path).into_iter().filter(|name| *name != "full.qcow2") {
        let words = ["map", "--output", "json", "--allow-refs", name];
        let (ours, theirs) = (ours(path, &words), theirs(path, &words));
        assert_eq!(ours, theirs, "map {name}");
        let part = ["map", "--output", "json", "--allow-refs", "-s", "1M", "-l", "1500k", name];
        let words: Vec<_> = part.iter().copied().filter(|word| *word != "--allow-refs").collect();
        let theirs = said("qemu-img", path, &words);
        let ours = self::ours(path, &part);
        assert_eq!(ours, theirs, "part of the map of {name}");
    }
}

#[test]
fn measure_has_the_keys_of_qemu_and_promises_no_more_room() {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    images(path);
    for options in [&["-O", "qcow2"][..], &["-O", "qcow2", "-o", "cluster_size=4k"], &["-O", "raw"]]
    {
        let words = [&["measure", "--output", "json"], options, &["disk.raw"]].concat();
        let (ours, theirs) = (ours(path, &words), theirs(path, &words));
        for key in ["required", "fully-allocated"] {
            let (ours, theirs) = (ours[key].as_u64().unwrap(), theirs[key].as_u64().unwrap());
            assert!(ours <= theirs && ours * 10 > theirs * 9, "{words:?} {key}: {ours} {theirs}");
        }
    }
}
