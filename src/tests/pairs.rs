//! From every format into every format: the disk survives, others see it, and a check is clean.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and says why")]

use std::path::Path;
use std::process::{Command, Output};

/// What a disk comes from: our name of the format, qemu's, and the options that qemu gets.
const SOURCES: [(&str, &str, &str); 9] = [
    ("raw", "raw", ""),
    ("qcow2", "qcow2", "cluster_size=4k"),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"),
    ("vhd", "vpc", "force_size=on"),
    ("vhdx", "vhdx", "block_size=1M"),
    ("vdi", "vdi", ""),
    ("ploop", "parallels", ""),
    ("qcow", "qcow", ""),
    ("qed", "qed", ""),
];

/// What it goes into: our name, qemu's, the options that we get, and whether 7-Zip reads it, too.
const TARGETS: [(&str, &str, &str, bool); 19] = [
    ("raw", "raw", "", false),
    ("qcow2", "qcow2", "", true),
    ("qcow2", "qcow2", "compat=v2,cluster_size=2M", true),
    ("qcow2", "qcow2", "extended_l2=on", false),
    ("vmdk", "vmdk", "subformat=monolithicSparse", true),
    ("vmdk", "vmdk", "subformat=monolithicSparse,zeroed_grain=on", true),
    ("vmdk", "vmdk", "subformat=monolithicFlat", false),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentSparse", false),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentFlat", false),
    ("vmdk", "vmdk", "subformat=streamOptimized", true),
    ("vhd", "vpc", "subformat=dynamic", true),
    ("vhd", "vpc", "subformat=fixed", true),
    ("vhd", "vpc", "subformat=dynamic,force_size=off", false),
    ("vhdx", "vhdx", "subformat=dynamic", true),
    ("vhdx", "vhdx", "subformat=fixed", true),
    ("vhdx", "vhdx", "logical_sector_size=4096", true),
    ("vdi", "vdi", "static=off", true),
    ("vdi", "vdi", "static=on", true),
    ("ploop", "parallels", "", false),
];

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}

/// Runs it; it must succeed.
fn must(folder: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let done = run(folder, program, arguments);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {}: {said}", arguments.join(" "));
    done.stdout
}

/// A disk of an odd number of sectors, with noise, text and zeros.
fn disk() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::new();
    while bytes.len() < (3 << 20) + 1536 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let run = 512 * (1 + usize::try_from(state >> 32 & 0xff).unwrap());
        let kind = state & 3;
        bytes.extend((0..run).map(|at| match kind {
            0 => 0,
            1 => b"the quick brown fox "[at % 20],
            2 => (at.wrapping_mul(at) >> 5).to_le_bytes()[0],
            _ => 0xa5,
        }));
    }
    bytes.truncate((3 << 20) + 1536);
    *bytes.last_mut().unwrap() = 7;
    bytes
}

fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| Command::new(name).arg("--help").output().is_err());
    if let Some(program) = missing {
        eprintln!("skipped: there is no {program} here");
    }
    missing.is_none()
}

#[test]
fn from_every_format_into_every_format_the_disk_survives() {
    if !has(&["qemu-img", "7zz"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ours = env!("CARGO_BIN_EXE_diskwright");
    let disk = disk();
    std::fs::write(path.join("disk.raw"), &disk).unwrap();
    for (format, theirs, options) in SOURCES {
        let source = format!("source.{format}");
        let mut words = vec!["convert", "-f", "raw", "-O", theirs];
        words.extend(if options.is_empty() { vec![] } else { vec!["-o", options] });
        must(path, "qemu-img", &[&words[..], &["disk.raw", &source]].concat());
        for (target, theirs, options, seven) in TARGETS {
            let what = format!("{format} to {target} {options}");
            let mut words = vec!["convert", "-q", "--allow-refs", "-f", format, "-O", target];
            words.extend(if options.is_empty() { vec![] } else { vec!["-o", options] });
            must(path, ours, &[&words[..], &[&source, "target"]].concat());
            if target != "raw" {
                must(path, ours, &["check", "-q", "--allow-refs", "-f", target, "target"]);
            }
            // What qemu cannot read, others have to.
            if !options.contains("4096") {
                must(
                    path,
                    "qemu-img",
                    &["compare", "-f", "raw", "-F", theirs, "disk.raw", "target"],
                );
            }
            let kind = if target == "vhd" { "-tvhd" } else { "-t*" };
            if seven {
                let seen = must(path, "7zz", &["e", "-so", kind, "target"]);
                let zeros = seen.get(disk.len()..).is_some_and(|rest| rest.iter().all(|b| *b == 0));
                assert!(zeros && seen[..disk.len()] == disk, "{what}: 7-Zip sees another disk");
            }
            if target == "raw" {
                assert!(std::fs::read(path.join("target")).unwrap() == disk, "{what}");
            }
        }
    }
}
