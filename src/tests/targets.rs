//! Images for clouds and hypervisors: what is made for them is what they take.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where it is wrong"
)]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const TARGETS: [&str; 9] =
    ["glance", "nova", "azure", "aws", "gcp", "vsphere", "hyperv", "virtualbox", "proxmox"];

fn diskwright(place: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diskwright")).args(args).current_dir(place).output().unwrap()
}

fn done(place: &Path, args: &[&str]) -> String {
    let output = diskwright(place, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What becomes of an image at a target: the exit code, and the weight and words of its remarks.
fn judged(place: &Path, target: &str, name: &str) -> (i32, Vec<(String, String)>) {
    let args = ["preflight", "--target", target, "--output=json", name];
    let output = diskwright(place, &args);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let remarks = told["targets"][0]["remarks"].as_array().unwrap().iter();
    let remarks = remarks.map(|one| (text(&one["weight"]), text(&one["what"]))).collect();
    (output.status.code().unwrap(), remarks)
}

/// A disk of an odd size, with some data in it, and an end that shows if something is behind it.
fn disk(place: &Path, size: usize) {
    let mut bytes = vec![0; size];
    for (index, byte) in bytes.iter_mut().enumerate().take(300_000) {
        *byte = u8::try_from(index * 31 % 251).unwrap();
    }
    bytes[size - 1] = 1;
    std::fs::write(place.join("disk.raw"), bytes).unwrap();
}

#[test]
fn what_is_made_for_a_target_is_taken_there_and_is_the_same_disk() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let size = (21 << 20) + 512;
    disk(place, size);
    for target in TARGETS {
        let name = format!("{target}.img");
        done(place, &["convert", "-q", "--target", target, "disk.raw", &name]);
        let (code, remarks) = judged(place, target, &name);
        assert_eq!(code, 0, "{target}: {remarks:?}");
        done(place, &["convert", "-q", "-O", "raw", &name, "back.raw"]);
        let (back, wanted) =
            (std::fs::read(place.join("back.raw")), std::fs::read(place.join("disk.raw")));
        let (back, wanted) = (back.unwrap(), wanted.unwrap());
        assert_eq!(back[..size], wanted, "{target}");
        assert!(back[size..].iter().all(|byte| *byte == 0), "{target}");
        let multiple = match target {
            "azure" | "vsphere" | "hyperv" => 1 << 20,
            "gcp" => 1 << 30,
            _ => 512,
        };
        assert!(back.len().is_multiple_of(multiple), "{target}: {}", back.len());
    }
}

#[test]
fn what_a_target_does_not_take_is_said_with_the_rule() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    disk(place, (21 << 20) + 512);
    let convert = |format: &str, options: &str, name: &str| {
        done(place, &["convert", "-q", "-O", format, "-o", options, "disk.raw", name]);
    };
    convert("vhd", "subformat=fixed", "fixed.vhd");
    convert("vhd", "subformat=dynamic", "dynamic.vhd");
    convert("vmdk", "subformat=monolithicSparse", "sparse.vmdk");
    convert("qcow2", "compat=1.1", "disk.qcow2");
    done(place, &["create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "over.qcow2"]);
    done(place, &["convert", "-q", "-O", "qcow2", "disk.raw", "disk.qcow2.gz"]);
    done(place, &["convert", "-q", "-O", "vhd", "-o", "subformat=fixed", "disk.raw", "small.vhd"]);
    done(place, &["convert", "-q", "-O", "gcp", "disk.raw", "disk.tar"]);
    let expected = [
        ("azure", "fixed.vhd", "no multiple of 1 MiB"),
        ("azure", "dynamic.vhd", "taken are vhd (fixed)"),
        ("azure", "disk.qcow2", "it is qcow2"),
        ("aws", "sparse.vmdk", "vmdk (streamOptimized)"),
        ("aws", "disk.qcow2", "it is qcow2"),
        ("vsphere", "sparse.vmdk", "vmdk (streamOptimized)"),
        ("hyperv", "sparse.vmdk", "it is vmdk"),
        ("virtualbox", "disk.qcow2", "it is qcow2"),
        ("proxmox", "dynamic.vhd", "it is vhd"),
        ("gcp", "disk.raw", "disk.raw in a .tar.gz"),
        ("gcp", "disk.tar", "not compressed"),
        // A fixed VHD has its mark at its end, and the gate looks at the front.
        ("glance", "fixed.vhd", "taken for raw there, not for vhd"),
        ("glance", "over.qcow2", "backing_file"),
        ("nova", "over.qcow2", "backing_file"),
        ("nova", "disk.qcow2.gz", "compressed"),
    ];
    for (target, name, words) in expected {
        let (code, remarks) = judged(place, target, name);
        assert_eq!(code, 1, "{target}, {name}");
        let said = remarks.iter().any(|(weight, what)| weight == "refused" && what.contains(words));
        assert!(said, "{target}, {name}: {remarks:?}");
    }
    for (target, name) in
        [("glance", "dynamic.vhd"), ("glance", "sparse.vmdk"), ("virtualbox", "sparse.vmdk")]
    {
        let (code, remarks) = judged(place, target, name);
        assert_eq!(code, 0, "{target}, {name}: {remarks:?}");
    }
    // What is declared has a bearing on it.
    let args = ["preflight", "--target", "glance", "--disk-format", "raw", "fixed.vhd"];
    done(place, &args);
}

#[test]
fn another_format_than_a_target_takes_is_not_made_for_it() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    disk(place, 1 << 20);
    let args = ["convert", "--target", "azure", "-O", "qcow2", "disk.raw", "out.img"];
    let output = diskwright(place, &args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // A setting that the target refuses shows when the image is looked at again.
    let args = ["convert", "--target", "azure", "-o", "subformat=dynamic", "disk.raw", "out.vhd"];
    let output = diskwright(place, &args);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(!place.join("out.vhd").exists() && !place.join("out.img").exists());
}
