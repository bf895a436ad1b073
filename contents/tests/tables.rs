//! Partition tables: as other programs write them, as they should not be.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use contents::{ProblemKind, Table, TableKind};
use disks::{LINUX, Place, gpt, has, look_at, mbr_entry, problems};

const KIB: usize = 1 << 10;

/// What sfdisk says of a disk, a line for each partition: number, first sector, sectors, type.
fn by_sfdisk(place: &Place) -> Vec<String> {
    let dump = place.must("sfdisk -d disk");
    let lines = dump.lines().filter(|line| line.contains("start="));
    let field = |line: &str, key: &str| {
        let value = line.split(key).nth(1).unwrap_or_default();
        value.split(',').next().unwrap_or_default().trim().to_lowercase()
    };
    let line = |line: &str| {
        let number = line.split(" :").next().unwrap().trim_start_matches("disk");
        let (start, size) = (field(line, "start="), field(line, "size="));
        format!("{number} {start} {size} {}", field(line, "type="))
    };
    lines.map(line).collect()
}

fn by_us(table: &Table) -> Vec<String> {
    let line = |part: &contents::Partition| {
        let short = part.type_id.strip_prefix("0x").map(|digits| digits.trim_start_matches('0'));
        let kind = short.unwrap_or(&part.type_id);
        format!("{} {} {} {kind}", part.number, part.start / 512, part.len / 512)
    };
    table.partitions.iter().map(line).collect()
}

#[test]
fn tables_are_read_as_sfdisk_reads_them() {
    if !has(&["sfdisk"]) {
        return;
    }
    let place = Place::new();
    let tables = [
        (
            "dos",
            "size=2M, type=83, bootable\\nsize=1M, type=82\\ntype=5\\nsize=1M, type=83\\ntype=8e",
        ),
        ("dos", "size=2M, type=ef\\nsize=1M, type=7"),
        ("gpt", "size=1M, type=uefi\\nsize=2M, type=linux, name=\"ro ot\"\\nsize=1M, type=swap"),
        ("gpt", "size=1M, type=21686148-6449-6E6F-744E-656564454649\\nstart=12288, size=1M"),
    ];
    for (label, lines) in tables {
        place.blank("disk", 16 << 20);
        place.must(&format!("printf 'label: {label}\\n{lines}\\n' | sfdisk -q disk"));
        let found = place.look("disk");
        let table = found.table.as_ref().unwrap();
        assert_eq!(by_us(table), by_sfdisk(&place), "{label}");
        assert_eq!(table.problems, [], "{label}");
        assert_eq!(found.notes, Vec::<String>::new());
        let id = place.must("blkid -p -s PTUUID -o value disk");
        assert_eq!(table.id.as_deref(), Some(id.trim()));
        assert_eq!(table.partitions[0].bootable, lines.contains("bootable"));
    }
}

#[test]
fn a_hybrid_table_is_a_gpt_with_partitions_in_the_first_sector() {
    if !has(&["sgdisk"]) {
        return;
    }
    let place = Place::new();
    place.blank("disk", 16 << 20);
    place.must("sgdisk -n 1:2048:+2M -n 2:0:+1M -c 2:data -A 1:set:2 -h 2 disk");
    let table = place.look("disk").table.unwrap();
    assert_eq!((table.kind, table.partitions.len()), (TableKind::Hybrid, 2));
    assert_eq!(table.partitions[1].name.as_deref(), Some("data"));
    assert!(table.partitions[0].bootable && !table.partitions[1].bootable);
    assert_eq!(table.problems, []);
}

#[test]
fn sectors_of_4096_bytes_are_found() {
    for sector in [512, 4096] {
        let found = look_at(&gpt(sector, 200, &[(LINUX, 60, 69), (LINUX, 70, 70)]));
        let table = found.table.unwrap();
        assert_eq!((table.kind, table.sector_size), (TableKind::Gpt, sector as u64));
        assert_eq!(table.problems, [], "{sector}");
        let places: Vec<_> = table.partitions.iter().map(|part| (part.start, part.len)).collect();
        let sector = sector as u64;
        assert_eq!(places, [(60 * sector, 10 * sector), (70 * sector, sector)]);
    }
}

#[test]
fn every_flipped_byte_of_a_header_is_noticed() {
    let sound = gpt(512, 200, &[(LINUX, 60, 69)]);
    assert_eq!(problems(&look_at(&sound)), []);
    let wanted = look_at(&sound).table.unwrap().partitions;
    for at in 0..92 {
        for (header, kind) in [(512, ProblemKind::Primary), (199 * 512, ProblemKind::Backup)] {
            let mut disk = sound.clone();
            disk[header + at] ^= 0x41;
            let found = look_at(&disk);
            assert_eq!(problems(&found), [kind], "byte {at} of the header at {header}");
            assert_eq!(found.table.unwrap().partitions, wanted);
        }
    }
}

#[test]
fn every_flipped_byte_of_an_entry_is_noticed() {
    let sound = gpt(512, 200, &[(LINUX, 60, 69)]);
    let wanted = look_at(&sound).table.unwrap().partitions;
    for at in (0..128).chain([128 * 128 - 1]) {
        for entries in [2 * 512, (199 - 32) * 512] {
            let mut disk = sound.clone();
            disk[entries + at] ^= 1;
            let found = look_at(&disk);
            assert_eq!(problems(&found), [ProblemKind::Entries], "byte {at} of those at {entries}");
            assert_eq!(found.table.unwrap().partitions, wanted, "the other ones are taken");
        }
    }
}

#[test]
fn a_disk_that_grew_has_its_second_header_in_the_wrong_place() {
    let mut disk = gpt(512, 200, &[(LINUX, 60, 69)]);
    disk.resize(300 * 512, 0);
    assert_eq!(problems(&look_at(&disk)), [ProblemKind::BackupPlace]);
}

#[test]
fn a_disk_that_was_cut_lacks_its_second_header() {
    let mut disk = gpt(512, 200, &[(LINUX, 60, 150)]);
    disk.truncate(100 * 512);
    let kinds = [ProblemKind::BackupPlace, ProblemKind::Backup, ProblemKind::Outside];
    assert_eq!(problems(&look_at(&disk)), kinds);
}

#[test]
fn headers_that_disagree_are_noticed() {
    let mut disk = gpt(512, 200, &[(LINUX, 60, 69)]);
    let other = gpt(512, 200, &[(LINUX, 60, 70)]);
    disk[(199 - 32) * 512..].copy_from_slice(&other[(199 - 32) * 512..]);
    assert_eq!(problems(&look_at(&disk)), [ProblemKind::BackupDiffers]);
}

#[test]
fn a_gpt_without_the_first_sector_is_one_all_the_same() {
    let mut disk = gpt(512, 200, &[(LINUX, 60, 69)]);
    disk[..512].fill(0);
    assert_eq!(problems(&look_at(&disk)), [ProblemKind::Protective]);
}

#[test]
fn a_gpt_that_was_left_over_does_not_count() {
    let mut disk = gpt(512, 200, &[(LINUX, 60, 69)]);
    mbr_entry(&mut disk, 0, 0x83, 10, 100);
    let found = look_at(&disk);
    assert_eq!(problems(&found), [ProblemKind::Stale]);
    assert_eq!(found.table.unwrap().kind, TableKind::Mbr);
}

#[test]
fn partitions_that_share_bytes_or_leave_the_disk_are_noticed() {
    let parts = [(LINUX, 60, 69), (LINUX, 69, 80), (LINUX, 90, 300), (LINUX, 81, 80)];
    let found = problems(&look_at(&gpt(512, 200, &parts)));
    // Two of the sectors are none that the header gives away; one ends behind the disk.
    let outside = found.iter().filter(|kind| **kind == ProblemKind::Outside).count();
    let overlaps = found.iter().filter(|kind| **kind == ProblemKind::Overlap).count();
    assert_eq!((outside, overlaps, found.len()), (3, 1, 4));
}

#[test]
fn a_chain_of_logical_partitions_that_leads_in_a_circle_ends() {
    let mut disk = vec![0; 64 * KIB];
    mbr_entry(&mut disk, 0, 0x05, 10, 100);
    for (at, next) in [(10_usize, 20), (30, 20)] {
        let sector = &mut disk[at * 512..][..512];
        mbr_entry(sector, 0, 0x83, 1, 2);
        mbr_entry(sector, 1, 0x05, next, 5);
    }
    let found = look_at(&disk);
    assert_eq!(problems(&found), [ProblemKind::Chain]);
    let numbers: Vec<_> = found.table.unwrap().partitions.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 5, 6]);
}

#[test]
fn a_chain_of_logical_partitions_that_leaves_the_disk_ends() {
    let mut disk = vec![0; 64 * KIB];
    mbr_entry(&mut disk, 0, 0x0f, 10, 100);
    let sector = &mut disk[10 * 512..][..512];
    mbr_entry(sector, 0, 0x83, 1, 2);
    mbr_entry(sector, 1, 0x05, u32::MAX, 5);
    assert_eq!(problems(&look_at(&disk)), [ProblemKind::Chain]);
}

#[test]
fn a_long_chain_of_logical_partitions_is_cut_off() {
    let mut disk = vec![0; 400 * KIB];
    mbr_entry(&mut disk, 0, 0x05, 2, 700);
    for at in 1..350_usize {
        let sector = &mut disk[at * 2 * 512..][..512];
        mbr_entry(sector, 0, 0x83, 1, 1);
        mbr_entry(sector, 1, 0x05, at as u32 * 2, 2);
    }
    let found = look_at(&disk);
    assert_eq!(problems(&found), [ProblemKind::TooMany]);
    assert_eq!(found.table.unwrap().partitions.len(), 129);
}

#[test]
fn the_boot_sector_of_a_file_system_is_no_table() {
    if !has(&["mkfs.vfat", "mkfs.ntfs", "mkfs.exfat"]) {
        return;
    }
    let place = Place::new();
    for (kind, make) in
        [("vfat", "mkfs.vfat"), ("ntfs", "mkfs.ntfs -F -q"), ("exfat", "mkfs.exfat")]
    {
        place.blank("disk", 8 << 20);
        place.must(&format!("{make} disk"));
        let found = place.look("disk");
        assert_eq!(found.table, None, "{kind}");
        let kinds: Vec<_> = found.file_systems.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [kind]);
    }
}

#[test]
fn a_table_that_is_all_wrong_is_not_told_of_in_full() {
    let parts: Vec<_> = (0..128).map(|_| (LINUX, 5_u64, 500_u64)).collect();
    assert_eq!(problems(&look_at(&gpt(512, 200, &parts))).len(), 32);
}
