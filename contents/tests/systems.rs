//! File systems as other programs make them: they are what blkid says they are.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use contents::FileSystem;
use disks::{Place, has};

const UUID: &str = "425636fd-f307-4a9a-a021-6a6673024002";

/// What blkid says of a file: its kind in our words, label and UUID.
fn by_blkid(place: &Place) -> (String, Option<String>, Option<String>) {
    let value = |key: &str| {
        let said = place.must(&format!("blkid -p -s {key} -o value disk || [ $? = 2 ]"));
        Some(said.trim_end().to_string()).filter(|said| !said.is_empty())
    };
    let kind = value("TYPE").unwrap();
    let ours = match kind.as_str() {
        "crypto_LUKS" => "luks",
        "LVM2_member" => "lvm2",
        "linux_raid_member" => "raid",
        "zfs_member" => "zfs",
        other => other,
    };
    (ours.to_string(), value("LABEL"), value("UUID"))
}

/// Makes a file system, and compares what is found with what blkid finds.
fn same(place: &Place, size: u64, command: &str) -> FileSystem {
    place.must("rm -f disk");
    place.blank("disk", size);
    place.must(command);
    let found = place.look("disk");
    assert_eq!(found.file_systems.len(), 1, "{command}: {found:?}");
    assert_eq!(found.table, None, "{command}");
    let one = found.file_systems[0].clone();
    let ours = (one.kind.to_string(), one.label.clone(), one.uuid.clone());
    assert_eq!(ours, by_blkid(place), "{command}");
    let others = found.notes.iter().filter(|note| !note.ends_with("what lies in it is not read"));
    assert_eq!(others.count(), 0, "{command}: {:?}", found.notes);
    one
}

#[test]
fn file_systems_of_linux_are_what_blkid_says() {
    let place = Place::new();
    for kind in ["ext2", "ext3", "ext4"] {
        if has(&["mkfs.ext4", "blkid"]) {
            let made = same(&place, 8 << 20, &format!("mkfs.{kind} -q -L root -U {UUID} disk"));
            assert_eq!((made.size, made.label.as_deref()), (Some(8 << 20), Some("root")));
            assert_eq!(made.kind, kind);
        }
    }
    if has(&["mkfs.ext4", "blkid"]) {
        for options in ["-b 4096", "-b 1024 -O ^64bit", "-O ^metadata_csum", "-I 128 -O bigalloc"] {
            same(&place, 64 << 20, &format!("mkfs.ext4 -q {options} disk"));
        }
    }
    for (kind, command) in [("xfs", "mkfs.xfs -q -m uuid="), ("btrfs", "mkfs.btrfs -q -U ")] {
        if has(&[&format!("mkfs.{kind}"), "blkid"]) {
            let made = same(&place, 400 << 20, &format!("{command}{UUID} -L root disk"));
            assert_eq!((made.kind, made.size), (kind, Some(400 << 20)));
        }
    }
    if has(&["mkfs.xfs", "blkid"]) {
        same(&place, 400 << 20, "mkfs.xfs -q -m crc=0 -b size=1024 disk");
    }
}

#[test]
fn what_linux_keeps_in_partitions_besides_is_what_blkid_says() {
    let place = Place::new();
    if has(&["mkswap", "blkid"]) {
        let made = same(&place, 1 << 20, &format!("mkswap -q -L swap -U {UUID} disk"));
        assert_eq!(made.size, Some(1 << 20));
        same(&place, 4 << 20, "mkswap -q -p 65536 disk");
    }
    if has(&["mksquashfs", "blkid"]) {
        place.put("tree/file", "text");
        same(&place, 0, "rm disk; mksquashfs tree disk -quiet -no-progress >/dev/null");
    }
    if has(&["cryptsetup", "blkid"]) {
        let format = "echo pass | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations";
        for (kind, size) in [("luks1", 4 << 20), ("luks2 --label secret", 20 << 20)] {
            let command = format!("{format} 1000 --type {kind} --uuid {UUID} disk -");
            assert_eq!(kind == "luks1", same(&place, size, &command).label.is_none());
        }
    }
}

#[test]
fn file_systems_of_windows_are_what_blkid_says() {
    let place = Place::new();
    for (bits, size) in [(12, 1 << 20), (16, 16 << 20), (32, 64 << 20)] {
        if has(&["mkfs.vfat", "blkid"]) {
            let made = same(&place, size, &format!("mkfs.vfat -F {bits} -n 'MY DISK' disk"));
            assert_eq!(made.size, Some(size));
            same(&place, size, &format!("mkfs.vfat -F {bits} disk"));
        }
    }
    for (kind, command) in [("exfat", "mkfs.exfat -L"), ("ntfs", "mkfs.ntfs -q -F -L")] {
        if has(&[&format!("mkfs.{kind}"), "blkid"]) {
            let made = same(&place, 16 << 20, &format!("{command} größe disk"));
            assert_eq!((made.kind, made.label.as_deref()), (kind, Some("größe")));
            let command = command.trim_end_matches(" -L");
            same(&place, 64 << 20, &format!("{command} disk"));
        }
    }
}

#[test]
fn a_cd_is_what_blkid_says() {
    if !has(&["xorriso", "blkid"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/file", "text");
    let made = "rm disk; xorriso -as mkisofs -quiet -V A_DISC -o disk tree";
    assert_eq!(same(&place, 0, made).kind, "iso9660");
}

#[test]
fn a_part_of_a_volume_group_has_the_id_that_lvm_gave_it() {
    if !has(&["pvcreate", "losetup", "id"]) {
        return;
    }
    let place = Place::new();
    place.blank("disk", 8 << 20);
    if place.must("id -u").trim() != "0" {
        return;
    }
    let Ok(device) = std::panic::catch_unwind(|| place.must("losetup --show -f disk")) else {
        return;
    };
    let device = device.trim();
    let made = format!("pvcreate -q --devices {device} {device}; losetup -d {device}");
    place.must(&made);
    let found = place.look("disk").file_systems;
    let ours = (found[0].kind.to_string(), found[0].label.clone(), found[0].uuid.clone());
    assert_eq!(ours, by_blkid(&place));
}
