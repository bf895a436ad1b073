//! Disks that were made to hurt: a look at one ends, within its budget, with what is known.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::sync::Arc;

use contents::{Budget, Contents, look};
use disks::{Dice, Folded, Place, has, look_at, raw, value};
use formats::{Error, Extent, Image, Kind, Memory, Result, Source};

const MIB: u64 = 1 << 20;

/// A look at a folded disk, within the budget: its bytes are read at most once each.
fn bounded(folded: &Folded) -> Contents {
    let before = folded.read();
    let found = look(folded.image(), &Budget::default()).unwrap();
    let read = folded.read() - before;
    assert!(read <= Budget::default().read, "{read} bytes");
    found
}

/// A tree that fits in every file system.
fn tree(place: &Place) {
    place.put("tree/etc/os-release", "ID=debian\nVERSION_ID=12\n");
    place.put("tree/boot/vmlinuz-6.1.0", disks::pe(0x8664));
    place.put("tree/bin/sh", disks::elf(62));
    for number in 0..40 {
        place.put(&format!("tree/usr/bin/program-{number}"), "");
    }
}

/// Flips bytes all over the data of a disk, few and many at a time, and looks each time.
fn flipped(mut folded: Folded, rounds: u64) {
    let sound = folded.data().to_vec();
    for round in 0..rounds {
        let mut dice = Dice(round);
        let front = if round % 2 == 0 { 64 << 10 } else { sound.len() };
        for _ in 0..=dice.below(12) {
            let at = dice.below(front.min(sound.len()));
            folded.data()[at] = match dice.below(4) {
                0 => 0,
                1 => 0xff,
                2 => sound[at] ^ (1 << dice.below(8)),
                _ => dice.below(256) as u8,
            };
        }
        bounded(&folded);
        folded.data().copy_from_slice(&sound);
    }
}

#[test]
fn flipped_bytes_of_ext_end_no_look() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    for options in ["-O ^metadata_csum", "-O ^extents,^64bit -b 1024", "-O inline_data"] {
        place.must("rm -f disk");
        place.blank("disk", 8 * MIB);
        place.must(&format!("mkfs.ext4 -q {options} -d tree disk"));
        flipped(Folded::of(&place.get("disk")), 1500);
    }
}

#[test]
fn flipped_bytes_of_fat_end_no_look() {
    if !has(&["mkfs.vfat", "mcopy"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    for (bits, sectors) in [(12, 64), (16, 4), (32, 1)] {
        place.must("rm -f disk");
        place.blank("disk", 40 * MIB);
        place.must(&format!("mkfs.vfat -s {sectors} -F {bits} disk >/dev/null"));
        place.must("mcopy -s -i disk tree/* ::");
        flipped(Folded::of(&place.get("disk")), 800);
    }
}

#[test]
fn flipped_bytes_of_xfs_end_no_look() {
    if !has(&["mkfs.xfs"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    let files = place.path("tree/etc/os-release");
    let files = files.display();
    let many: Vec<_> = (0..200).map(|n| format!(" file-{n} ---644 0 0 {files}\n")).collect();
    let many = many.concat();
    let text =
        format!("/\n0 0\nd--755 0 0\netc d--755 0 0\n os-release ---644 0 0 {files}\n{many}$\n$\n");
    place.put("prototype", text);
    for options in ["-m crc=0", "-m crc=1"] {
        place.blank("disk", 300 * MIB);
        place.must(&format!("mkfs.xfs -f -q {options} -p prototype disk"));
        let folded = Folded::of(&place.get("disk"));
        assert!(bounded(&folded).system.distro.is_some());
        flipped(folded, 1500);
    }
}

#[test]
fn flipped_bytes_of_btrfs_end_no_look() {
    if !has(&["mkfs.btrfs"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    place.blank("disk", 120 * MIB);
    place.must("mkfs.btrfs -q --rootdir tree disk");
    let folded = Folded::of(&place.get("disk"));
    assert!(bounded(&folded).system.distro.is_some());
    flipped(folded, 1500);
}

#[test]
fn flipped_bytes_of_a_volume_group_end_no_look() {
    let place = Place::new();
    tree(&place);
    if !disks::volume_group(&place, "disk") {
        return;
    }
    let folded = Folded::of(&place.get("disk"));
    assert!(bounded(&folded).system.distro.is_some());
    flipped(folded, 2000);
}

#[test]
fn noise_ends_no_look() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut disk = vec![0; 70_000 + dice.below(300_000)];
        for byte in &mut disk {
            *byte = dice.below(256) as u8;
        }
        let signs: [(usize, &[u8]); 8] = [
            (510, b"\x55\xaa"),
            (512, b"EFI PART"),
            (0, b"XFSB"),
            (1024 + 0x38, b"\x53\xef"),
            (65536 + 0x40, b"_BHRfS_M"),
            (3, b"NTFS    "),
            (32769, b"CD001"),
            (3, b"EXFAT   "),
        ];
        let (at, sign) = signs[dice.below(signs.len())];
        disk[at..at + sign.len()].copy_from_slice(sign);
        assert!(bounded(&Folded::of(&disk)).system.distro.is_none());
    }
}

#[test]
fn links_that_lead_in_circles_are_left() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    place.link("tree/etc/os-release", "../etc/os-release");
    place.link("tree/usr/lib/os-release", "/usr/lib/other");
    place.link("tree/usr/lib/other", "os-release");
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    let found = bounded(&Folded::of(&place.get("disk")));
    assert_eq!(found.system.distro, None);
    let what = "the ext4 file system: '/etc/os-release' leads through more than 40 links";
    assert_eq!(found.notes, [what]);
}

#[test]
fn links_that_lead_out_of_the_file_system_stay_in_it() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    place.link("tree/etc/os-release", "../../../../../../inside");
    place.put("tree/inside", "ID=inside\n");
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    assert_eq!(value(place.look("disk").system.distro.as_ref()).as_deref(), Some("inside"));
}

/// An ext2 of 8 MiB in blocks of 1024 bytes without checksums, and where its root's inode is.
fn bare(place: &Place) -> (Vec<u8>, usize) {
    tree(place);
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -b 1024 -I 128 -O ^metadata_csum,^64bit,^has_journal -d tree disk");
    let disk = place.get("disk");
    let table = u32::from_le_bytes(disk[2048 + 8..2048 + 12].try_into().unwrap());
    (disk, table as usize * 1024 + 128)
}

#[test]
fn a_tree_of_extents_that_contains_itself_is_not_walked_for_ever() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let (mut disk, root) = bare(&Place::new());
    // Every node has as many children as fit, and all of one level are the same block.
    let node = |depth: u16, child: u32, entries: usize| {
        let mut raw = vec![0; 12 + entries * 12];
        raw[..2].copy_from_slice(&0xf30a_u16.to_le_bytes());
        raw[2..4].copy_from_slice(&(entries as u16).to_le_bytes());
        raw[4..6].copy_from_slice(&(entries as u16).to_le_bytes());
        raw[6..8].copy_from_slice(&depth.to_le_bytes());
        for entry in raw[12..].chunks_exact_mut(12) {
            entry[4..8].copy_from_slice(&child.to_le_bytes());
        }
        raw
    };
    disk[root + 0x20..root + 0x24].copy_from_slice(&0x8_0000_u32.to_le_bytes());
    disk[root + 4..root + 8].copy_from_slice(&(4_u32 << 20).to_le_bytes());
    disk[root + 0x28..root + 0x28 + 60].copy_from_slice(&node(5, 8000, 4));
    for depth in 0..5_u32 {
        let at = (8000 + 4 - depth as usize) * 1024;
        let raw = node(depth as u16, if depth == 0 { 0 } else { 8000 + 5 - depth }, 84);
        disk[at..at + raw.len()].copy_from_slice(&raw);
    }
    let found = bounded(&Folded::of(&disk));
    assert_eq!(found.file_systems[0].kind, "ext4");
    assert_eq!(found.system.distro, None);
}

/// A disk in whose journal two blocks wait: noise for the block that says where the journal is, and
/// the inodes as they are.
fn with_journal(place: &Place, escaped: bool) -> Vec<u8> {
    tree(place);
    place.blank("disk", 8 * MIB);
    let options = "-J size=1 -O ^metadata_csum,^64bit,^extents";
    place.must(&format!("mkfs.ext4 -q -b 1024 -I 128 {options} -d tree disk"));
    let mut disk = place.get("disk");
    let number =
        |disk: &[u8], at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
    disk[1024 + 0x60] |= 4;
    let inode = number(&disk, 2048 + 8) * 1024 + 7 * 128;
    // Blocks from the thirteenth on are listed in a block of their own.
    let list = number(&disk, inode + 0x28 + 12 * 4);
    let superblock = number(&disk, inode + 0x28) * 1024;
    disk[superblock + 24..superblock + 32].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 20]);
    let block = |index: usize| number(&disk, list * 1024 + (index - 12) * 4) * 1024;
    let (descriptor, data, more, commit) = (block(20), block(21), block(22), block(23));
    let head = |kind: u32| [0xc03b_3998, kind, 1_u32].map(u32::to_be_bytes).concat();
    disk[descriptor..descriptor + 12].copy_from_slice(&head(1));
    let flags = if escaped { 3 } else { 2 };
    let inodes = number(&disk, 2048 + 8);
    let tags = [list as u32, flags, inodes as u32, 10].map(u32::to_be_bytes).concat();
    disk[descriptor + 12..descriptor + 28].copy_from_slice(&tags);
    disk[data..data + 1024].fill(0x11);
    disk.copy_within(inodes * 1024..inodes * 1024 + 1024, more);
    disk[commit..commit + 12].copy_from_slice(&head(2));
    disk
}

#[test]
fn a_journal_that_moves_itself_is_no_trap() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    for escaped in [false, true] {
        let place = Place::new();
        let folded = Folded::of(&with_journal(&place, escaped));
        let found = bounded(&folded);
        assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some("debian"));
        assert_eq!(found.notes, Vec::<String>::new());
        flipped(folded, 1000);
    }
}

#[test]
fn a_folder_that_is_one_great_hole_is_not_walked_for_ever() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let (mut disk, root) = bare(&Place::new());
    disk[root + 0x28 + 2] = 0;
    for size in [u32::MAX, 4 << 20] {
        disk[root + 4..root + 8].copy_from_slice(&size.to_le_bytes());
        assert_eq!(bounded(&Folded::of(&disk)).system.distro, None);
    }
}

#[test]
fn a_folder_that_contains_itself_is_no_way_out() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    let (mut disk, root) = bare(&place);
    // Every entry of the first folder leads to itself.
    let block = u32::from_le_bytes(disk[root + 0x28 + 20..][..4].try_into().unwrap());
    let folder = &mut disk[block as usize * 1024..][..1024];
    let mut at = 0;
    while at < 1024 {
        folder[at..at + 4].copy_from_slice(&2_u32.to_le_bytes());
        let len = u16::from_le_bytes([folder[at + 4], folder[at + 5]]);
        at += usize::from(len);
    }
    assert_eq!(bounded(&Folded::of(&disk)).system.distro, None);
}

#[test]
fn a_chain_of_clusters_that_leads_in_a_circle_ends() {
    if !has(&["mkfs.vfat", "mcopy"]) {
        return;
    }
    let place = Place::new();
    place.blank("disk", 64 * MIB);
    place.must("mkfs.vfat -F 32 -s 1 -R 32 disk >/dev/null; mmd -i disk ::EFI ::EFI/BOOT");
    let mut disk = place.get("disk");
    // The first folder's only cluster follows itself, and is full of what is no last entry.
    let (table, cluster) = (32 * 512, 2_u32);
    disk[table + 8..table + 12].copy_from_slice(&cluster.to_le_bytes());
    let size = u32::from_le_bytes(disk[36..40].try_into().unwrap()) as usize;
    let data = (32 + 2 * size) * 512;
    for entry in disk[data..data + 512].chunks_exact_mut(32) {
        entry[0] = 0xe5;
    }
    let found = bounded(&Folded::of(&disk));
    assert_eq!(found.file_systems[0].kind, "vfat");
    assert!(!found.notes.is_empty());
}

#[test]
fn a_folder_with_very_many_files_is_looked_through_as_far_as_the_budget_lets_us() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    for number in 0..3000 {
        place.put(&format!("tree/boot/vmlinuz-5.{number}.0"), "");
    }
    place.blank("disk", 32 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    let folded = Folded::of(&place.get("disk"));
    let found = bounded(&folded);
    assert_eq!(value(found.system.kernel.as_ref()).as_deref(), Some("6.1.0"));
    let budget = Budget { entries: 500, ..Budget::default() };
    let found = look(folded.image(), &budget).unwrap();
    assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some("debian"));
    assert_eq!(found.system.kernel, None);
    assert_eq!(found.notes, ["there is more on the disk than a look may read"]);
}

#[test]
fn a_small_budget_gives_what_is_known_so_far() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    tree(&place);
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -L name -d tree disk");
    let image = Folded::of(&place.get("disk"));
    let mut known = Vec::new();
    for read in (0..60).map(|pages| pages << 14) {
        let found = look(image.image(), &Budget { read, ..Budget::default() }).unwrap();
        let system = value(found.system.distro.as_ref()).is_some();
        known.push((found.file_systems.len(), system, found.notes.is_empty()));
    }
    assert_eq!(known[0], (0, false, false));
    assert!(known.contains(&(1, false, false)), "the file system, and not yet the system");
    assert_eq!(known[59], (1, true, true));
    assert!(known.is_sorted(), "more bytes never tell less: {known:?}");
}

#[test]
fn what_cannot_be_seen_in_an_image_is_left_out_of_what_is_told() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    let text = "ID=debian\nPRETTY_NAME=\"a\x1b]0;x\x07b\"\nVERSION_ID=\"1 2\"\n";
    place.put("tree/etc/os-release", text);
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    let system = place.look("disk").system;
    assert_eq!(value(system.pretty_name.as_ref()).as_deref(), Some("a]0;xb"));
    assert_eq!(system.version, None);
}

/// A disk that fails in some way wherever it is read.
struct Failing(Kind);

impl Image for Failing {
    fn disk_size(&self) -> u64 {
        1 << 20
    }

    fn extents(&self, _: u64, _: &mut Vec<Extent>) -> Result<()> {
        Err(Error::new(self.0, "that is how it is"))
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &[]
    }
}

#[test]
fn storage_that_fails_is_an_error_and_a_damaged_image_a_note() {
    let at = |kind| look(Arc::new(Failing(kind)), &Budget::default());
    for kind in [Kind::Io, Kind::Refused, Kind::Cancelled, Kind::Limit] {
        assert_eq!(at(kind).unwrap_err().kind(), kind);
    }
    for kind in [Kind::Malformed, Kind::Truncated, Kind::Unsupported] {
        let found = at(kind).unwrap();
        assert!(found.notes.iter().all(|note| note.contains("that is how it is")), "{found:?}");
        assert!(!found.notes.is_empty());
    }
}

#[test]
fn disks_of_any_small_size_can_be_looked_at() {
    for size in (0..2100).chain([4095, 4096, 4097, 32768, 65536, 65537]) {
        let found = look(raw(Arc::new(Memory::new(vec![0x55; size]))), &Budget::default());
        let found = found.unwrap();
        assert_eq!((found.table, found.file_systems.len()), (None, 0), "{size}");
    }
    assert!(look_at(&[]).notes.is_empty());
}
