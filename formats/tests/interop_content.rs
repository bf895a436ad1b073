//! What a raw disk holds, as programs made it that we did not write: file systems, partition
//! tables, kernels and their first file systems.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use formats::{Detail, Facts, Limits, Memory, Value};

use oracle::{Place, has};

fn facts(bytes: &[u8]) -> Facts {
    let facts = (formats::format("raw").unwrap().inspect)(&Memory::new(bytes), &Limits::default());
    let facts = facts.unwrap();
    assert_eq!((facts.format, facts.disk_size), ("raw", bytes.len() as u64));
    facts
}

fn detail<'a>(facts: &'a Facts, name: &str) -> Option<&'a Value> {
    facts.details.iter().find(|detail| detail.name == name).map(|Detail { value, .. }| value)
}

fn text<'a>(facts: &'a Facts, name: &str) -> &'a str {
    match detail(facts, name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// What a program makes of a disk of zeros.
fn made(place: &Place, size: u64, command: &str) -> Facts {
    let path = place.path("disk");
    let _ = std::fs::remove_file(&path);
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    place.must("sh", &["-c", &format!("PATH=/usr/sbin:/sbin:$PATH; {command}")]);
    facts(&std::fs::read(path).unwrap())
}

#[test]
fn file_systems_without_a_partition_table_are_described() {
    let place = Place::new();
    let uuid = "425636fd-f307-4a9a-a021-6a6673024002";
    for kind in ["ext2", "ext3", "ext4"] {
        if !has(&["mkfs.ext4"]) {
            return;
        }
        let facts = made(&place, 8 << 20, &format!("mkfs.{kind} -q -L root -U {uuid} disk"));
        assert_eq!(facts.variant, "ami");
        assert_eq!(text(&facts, "content"), format!("{kind} file system"));
        assert_eq!((text(&facts, "label"), text(&facts, "uuid")), ("root", uuid));
        assert_eq!(detail(&facts, "file-system-size"), Some(&Value::Bytes(8 << 20)));
    }
    let others = [("xfs", "mkfs.xfs -q -L root -m uuid="), ("btrfs", "mkfs.btrfs -q -L root -U ")];
    for (kind, command) in others {
        if has(&[&format!("mkfs.{kind}")]) {
            let facts = made(&place, 400 << 20, &format!("{command}{uuid} disk"));
            assert_eq!(facts.variant, "ami");
            assert_eq!(text(&facts, "content"), format!("{kind} file system"));
            assert_eq!((text(&facts, "label"), text(&facts, "uuid")), ("root", uuid));
            assert_eq!(detail(&facts, "file-system-size"), Some(&Value::Bytes(400 << 20)));
        }
    }
}

#[test]
fn partition_tables_are_described() {
    let place = Place::new();
    if has(&["sfdisk"]) {
        for (label, count) in [("dos", 2), ("gpt", 3)] {
            let lines = "size=1M\\n".repeat(count);
            let command = format!("printf 'label: {label}\\n{lines}' | sfdisk -q disk");
            let facts = made(&place, 8 << 20, &command);
            let name = if label == "dos" { "mbr" } else { label };
            assert_eq!(facts.variant, "raw");
            assert_eq!(text(&facts, "content"), format!("{name} partition table"));
            assert_eq!(detail(&facts, "partitions"), Some(&Value::Number(count as u64)));
        }
    }
    if has(&["sgdisk"]) {
        let guid = "425636FD-F307-4A9A-A021-6A6673024002";
        let facts = made(&place, 8 << 20, &format!("sgdisk -U {guid} -n 1:0:+1M disk"));
        assert_eq!(text(&facts, "uuid"), guid.to_lowercase());
        assert_eq!(detail(&facts, "partitions"), Some(&Value::Number(1)));
    }
}

#[test]
fn the_first_file_system_of_linux_is_known_however_it_is_packed() {
    if !has(&["cpio"]) {
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.path("root")).unwrap();
    place.put("root/init", b"#!/bin/sh\n");
    // More than one block of any packer, and nothing that shrinks to nothing.
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|i| i.wrapping_mul(i).to_be_bytes()).collect();
    place.put("root/lib", &noise);
    let cpio = "(cd root && find . | sort | cpio -o -H newc --quiet)";
    let packers = [
        ("cat", "initramfs, cpio"),
        ("gzip", "initramfs, gzip"),
        ("xz --check=crc32", "initramfs, xz"),
        ("lzma", "initramfs, lzma"),
        ("bzip2", "initramfs, bzip2"),
        ("zstd -q -19", "initramfs, zstd"),
        ("lz4 -q", "initramfs, lz4"),
        ("lz4 -q -l -9", "initramfs, lz4"),
    ];
    for (packer, what) in packers {
        if has(&[packer.split(' ').next().unwrap()]) {
            let facts = made(&place, 0, &format!("{cpio} | {packer} > disk"));
            assert_eq!((facts.variant, text(&facts, "content")), ("ari", what), "{packer}");
            // Whoever takes off compression leaves it where it is part of the format.
            let file = std::sync::Arc::new(Memory::new(place.get("disk")));
            let left = formats::unwrapped(file, formats::FORMATS, &Limits::default()).unwrap();
            assert_eq!(left.len(), facts.disk_size, "{packer}");
            let early = format!("(cd root && echo init | cpio -o -H newc --quiet; cd ..; {cpio})");
            let command = format!("{early} | {packer} > disk");
            assert_eq!(made(&place, 0, &command).variant, "ari", "{packer}");
        }
    }
    let early = "(cd root && echo init | cpio -o -H newc --quiet)";
    let facts = made(&place, 0, &format!("({early}; {cpio} | gzip) > disk"));
    assert_eq!(text(&facts, "content"), "initramfs, cpio, and gzip behind it");
    let facts = made(
        &place,
        0,
        &format!(
            "{cpio} | cpio -o -H bin --quiet > /dev/null; \
         (cd root && echo init | cpio -o -H bin --quiet) > disk"
        ),
    );
    assert_eq!(facts.variant, "ari");
    // Packed, and no archive: whoever opens what is packed opens these.
    for packer in ["gzip", "xz", "bzip2", "zstd -q", "lz4 -q"] {
        if has(&[packer.split(' ').next().unwrap()]) {
            let facts = made(&place, 0, &format!("{packer} < root/lib > disk"));
            assert_eq!((facts.variant, facts.details.len()), ("raw", 0), "{packer}");
        }
    }
}

/// A kernel's front, as the boot protocol has it.
fn bz_image() -> Vec<u8> {
    let mut bytes = vec![0; 20_000];
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    bytes[0x20e..0x210].copy_from_slice(&0x3000_u16.to_le_bytes());
    bytes[0x3200..0x320d].copy_from_slice(b"6.1.0-13 (me)");
    bytes
}

#[test]
fn kernels_are_described() {
    let kernel = facts(&bz_image());
    assert_eq!((kernel.variant, text(&kernel, "content")), ("aki", "linux kernel, bzImage"));
    assert_eq!(text(&kernel, "boot-protocol"), "2.15");
    assert_eq!(text(&kernel, "kernel-version"), "6.1.0-13 (me)");

    let mut arm = vec![0; 4096];
    arm[56..60].copy_from_slice(b"ARM\x64");
    arm[16..24].copy_from_slice(&0x20_0000_u64.to_le_bytes());
    let arm = facts(&arm);
    assert_eq!((arm.variant, text(&arm, "content")), ("aki", "linux kernel, arm64 image"));
    assert_eq!(detail(&arm, "image-size"), Some(&Value::Bytes(0x20_0000)));

    let mut elf = vec![0; 4096];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[16..20].copy_from_slice(&[2, 0, 62, 0]);
    let kernel = facts(&elf);
    assert_eq!((kernel.variant, text(&kernel, "architecture")), ("aki", "x86-64"));
    elf[16] = 3;
    assert_eq!(facts(&elf).variant, "raw", "a program is no kernel");
}

#[test]
fn a_boot_sector_without_partitions_is_nothing_special() {
    let mut sector = vec![0; 1 << 20];
    sector[510..512].copy_from_slice(b"\x55\xaa");
    assert!(facts(&sector).details.is_empty());
    // A FAT file system begins with code where a partition table would be.
    sector[450] = 7;
    sector[454] = 1;
    sector[458] = 1;
    assert_eq!(text(&facts(&sector), "content"), "mbr partition table");
    sector[54..57].copy_from_slice(b"FAT");
    assert!(facts(&sector).details.is_empty());
}

#[test]
fn damaged_fronts_are_described_or_not_and_never_a_panic() {
    let mut dice = disks::Dice::new(7);
    let mut fronts = vec![bz_image()];
    for magic in [
        &b"070701"[..],
        b"\xc7\x71",
        b"\x1f\x8b\x08",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"BZh91AY&SY",
        b"\x04\x22\x4d\x18",
        b"\x02\x21\x4c\x18",
        b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"XFSB",
        b"\x7fELF",
    ] {
        let mut bytes = vec![0; 90_000];
        dice.fill(&mut bytes);
        bytes[..magic.len()].copy_from_slice(magic);
        fronts.push(bytes);
    }
    for (at, magic) in [(512, &b"EFI PART"[..]), (0x438, b"\x53\xef"), (0x10040, b"_BHRfS_M")] {
        let mut bytes = vec![0; 90_000];
        dice.fill(&mut bytes);
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fronts.push(bytes);
    }
    for front in fronts {
        for len in (0..700).step_by(7).chain((1000..front.len()).step_by(3001)) {
            facts(&front[..len]);
        }
        let mut bytes = front;
        for _ in 0..60 {
            let at = dice.below(bytes.len().min(70_000));
            bytes[at] = dice.next().to_be_bytes()[0];
            facts(&bytes);
        }
    }
}
