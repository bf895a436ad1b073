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

/// What it goes into: our name, qemu's, the options that we get, and who reads it besides qemu: 7-Zip
/// as a type of its own, libvhdi, or nobody that we know of.
const TARGETS: [(&str, &str, &str, &str); 19] = [
    ("raw", "raw", "", ""),
    ("qcow2", "qcow2", "", "-tqcow"),
    ("qcow2", "qcow2", "compat=v2,cluster_size=2M", "-tqcow"),
    ("qcow2", "qcow2", "extended_l2=on", ""),
    ("vmdk", "vmdk", "subformat=monolithicSparse", "-tvmdk"),
    ("vmdk", "vmdk", "subformat=monolithicSparse,zeroed_grain=on", "-tvmdk"),
    ("vmdk", "vmdk", "subformat=monolithicFlat", "-tvmdk"),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentSparse", "-tvmdk"),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentFlat", "-tvmdk"),
    ("vmdk", "vmdk", "subformat=streamOptimized", "-tvmdk"),
    ("vhd", "vpc", "subformat=dynamic", "-tvhd"),
    ("vhd", "vpc", "subformat=fixed", "vhdimount"),
    ("vhd", "vpc", "subformat=dynamic,force_size=off", "vhdimount"),
    ("vhdx", "vhdx", "subformat=dynamic", "vhdimount"),
    ("vhdx", "vhdx", "subformat=fixed", "vhdimount"),
    ("vhdx", "vhdx", "logical_sector_size=4096", "vhdimount"),
    ("vdi", "vdi", "static=off", "-tvdi"),
    ("vdi", "vdi", "static=on", "-tvdi"),
    ("ploop", "parallels", "", ""),
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

/// The disk in the file `target`, as another program sees it.
fn seen_by(folder: &Path, program: &str) -> Vec<u8> {
    if program.starts_with('-') {
        return must(folder, "7zz", &["e", "-so", program, "target"]);
    }
    let mounted = folder.join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    must(folder, program, &["target", "mounted"]);
    let seen = std::fs::read_dir(&mounted).unwrap().next().unwrap().unwrap().path();
    let seen = std::fs::read(seen);
    must(folder, "umount", &["mounted"]);
    std::fs::remove_dir(&mounted).unwrap();
    seen.unwrap()
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
    if !has(&["qemu-img", "7zz", "vhdimount"]) {
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
        for (target, theirs, options, other) in TARGETS {
            let what = format!("{format} to {target} {options}");
            let mut words = vec!["convert", "-q", "--allow-refs", "-f", format, "-O", target];
            words.extend(if options.is_empty() { vec![] } else { vec!["-o", options] });
            must(path, ours, &[&words[..], &[&source, "target"]].concat());
            if target != "raw" {
                must(path, ours, &["check", "-q", "--allow-refs", "-f", target, "target"]);
            }
            // What qemu cannot read, others have to.
            if !options.contains("4096") {
                // Old versions of qemu go by the geometry of a vhd whose creator they do not know.
                let by_size = if theirs == "vpc" { ",force_size_calc=current_size" } else { "" };
                let target = format!("driver={theirs},file.filename=target{by_size}");
                let disk = "driver=raw,file.filename=disk.raw";
                must(path, "qemu-img", &["compare", "--image-opts", disk, &target]);
            }
            if !other.is_empty() {
                let seen = seen_by(path, other);
                let zeros = seen.get(disk.len()..).is_some_and(|rest| rest.iter().all(|b| *b == 0));
                assert!(zeros && seen[..disk.len()] == disk, "{what}: {other} sees another disk");
            }
            if target == "raw" {
                assert!(std::fs::read(path.join("target")).unwrap() == disk, "{what}");
            }
        }
    }
}

/// Bytes of the disk that holds the files which this one takes.
fn room(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// 64 KiB in each gibibyte of 64: tables are most of what there is to write, and what they do not
/// say takes no room.
#[test]
fn a_scattered_disk_takes_no_more_room_than_it_does_with_qemu() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let file = std::fs::File::create(path.join("disk.raw")).unwrap();
    file.set_len(64 << 30).unwrap();
    for gibibyte in 0..64 {
        file.write_all_at(&vec![7; 64 << 10], gibibyte << 30).unwrap();
    }
    let compares = has(&["qemu-img"]);
    for (ours, theirs) in [("vmdk", "vmdk"), ("qcow2", "qcow2"), ("vhdx", "vhdx"), ("vhd", "vpc")] {
        let options = if ours == "vhd" { "force_size=on" } else { "" };
        let made = |program: &str, target| {
            let mut words = vec!["convert", "-f", "raw", "-O", theirs, "disk.raw", target];
            words.extend(if options.is_empty() { vec![] } else { vec!["-o", options] });
            must(path, program, &words);
            room(&path.join(target))
        };
        let took = made(env!("CARGO_BIN_EXE_diskwright"), "ours");
        if ours == "vmdk" {
            // What says something, of two sets of tables: all of them would be another 8 MiB.
            assert!(took < (4 << 20) + (1 << 20), "{took} bytes for 4 MiB of data");
        }
        if compares {
            let most = made("qemu-img", "theirs");
            assert!(took <= most + most / 100, "{ours}: {took} bytes, and {most} of qemu-img");
        }
    }
}
