//! Trees as distributions have them, on disks as they lay them out.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::fmt::Write as _;
use std::path::Path;

use contents::{Contents, Firmware};
use disks::{Place, elf, has, pe, value};

const MIB: u64 = 1 << 20;
const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n\
    VERSION_ID=\"12\"\nID=debian\nHOME_URL=\"https://www.debian.org/\"\n";
const FEDORA: &str = "NAME=\"Fedora Linux\"\nVERSION=\"40 (Cloud Edition)\"\nID=fedora\n\
    VERSION_ID=40\nPRETTY_NAME='Fedora Linux 40 (Cloud Edition)'\n";

/// A tree like Debian's: programs below /usr, links in front of it.
fn debian(place: &Place) {
    place.put("tree/usr/lib/os-release", DEBIAN);
    place.link("tree/etc/os-release", "../usr/lib/os-release");
    place.link("tree/bin", "usr/bin");
    place.link("tree/sbin", "usr/sbin");
    place.link("tree/lib", "usr/lib");
    place.put("tree/usr/bin/dash", elf(62));
    place.link("tree/usr/bin/sh", "dash");
    place.put("tree/usr/bin/cloud-init", "#!/usr/bin/python3\n");
    place.put("tree/usr/sbin/qemu-ga", elf(62));
    for version in ["6.1.0-9-amd64", "6.1.0-18-amd64"] {
        place.put(&format!("tree/boot/vmlinuz-{version}"), pe(0x8664));
        place.put(&format!("tree/usr/lib/modules/{version}/modules.dep"), "");
    }
}

/// An EFI system partition with a boot loader for this machine.
fn esp(place: &Place, size: u64, loader: &str, machine: u16) {
    place.put("loader.efi", pe(machine));
    place.blank("esp", size);
    let make = "mkfs.vfat -n ESP esp >/dev/null; mmd -i esp ::EFI ::EFI/BOOT";
    place.must(&format!("{make}; mcopy -i esp loader.efi ::EFI/BOOT/{loader}"));
}

/// How mkfs.xfs is told of a tree: it fills the file system itself.
fn prototype(folder: &Path, text: &mut String, depth: usize) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = entry.file_name().to_string_lossy().into_owned();
        let indent = " ".repeat(depth);
        if kind.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            writeln!(text, "{indent}{name} l--777 0 0 {}", target.display()).unwrap();
        } else if kind.is_dir() {
            writeln!(text, "{indent}{name} d--755 0 0").unwrap();
            prototype(&path, text, depth + 1);
            writeln!(text, "{indent}$").unwrap();
        } else {
            writeln!(text, "{indent}{name} ---755 0 0 {}", path.display()).unwrap();
        }
    }
}

/// Makes an xfs of the tree, 300 MiB of it, which is the least there is.
fn mkfs_xfs(place: &Place, name: &str) {
    let mut text = "/\n0 0\nd--755 0 0\n".to_string();
    prototype(&place.path("tree"), &mut text, 0);
    text.push_str("$\n");
    place.put("prototype", text);
    place.blank(name, 300 * MIB);
    place.must(&format!("mkfs.xfs -q -L root -p prototype {name}"));
}

fn expect_debian(found: &Contents) {
    let system = &found.system;
    assert_eq!(value(system.os_type.as_ref()), Some("linux"));
    assert_eq!(value(system.distro.as_ref()).as_deref(), Some("debian"));
    assert_eq!(value(system.version.as_ref()).as_deref(), Some("12"));
    let name = value(system.pretty_name.as_ref());
    assert_eq!(name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
    assert_eq!(value(system.kernel.as_ref()).as_deref(), Some("6.1.0-18-amd64"));
    assert_eq!(value(system.cloud_init.as_ref()), Some(true));
    assert_eq!(value(system.guest_agent.as_ref()), Some(true));
    assert_eq!(value(found.boot.architecture.as_ref()), Some("x86_64"));
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn debian_on_ext4_with_an_efi_system_partition() {
    if !has(&["mkfs.ext4", "mkfs.vfat", "mcopy", "sfdisk"]) {
        return;
    }
    let place = Place::new();
    debian(&place);
    esp(&place, 32 * MIB, "BOOTX64.EFI", 0x8664);
    place.blank("disk", 128 * MIB);
    let root = "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
    place.must(&format!(
        "printf 'label: gpt\\nstart=1M, size=32M, type=uefi\\nsize=64M, {root}\\n' | sfdisk -q disk"
    ));
    for options in
        ["", "-b 1024 -O ^extents,^64bit", "-O inline_data", "-O ^metadata_csum,^64bit", "-I 128"]
    {
        place.must("rm -f root");
        place.blank("root", 64 * MIB);
        place.must(&format!("mkfs.ext4 -q {options} -d tree root"));
        place.insert("disk", MIB, "esp");
        place.must("dd if=root of=disk bs=1M seek=33 conv=notrunc status=none");
        let found = place.look("disk");
        expect_debian(&found);
        assert_eq!(value(found.boot.firmware.as_ref()), Some(Firmware::Uefi), "{options}");
    }
}

#[test]
fn fedora_on_xfs_with_a_partition_for_booting() {
    if !has(&["mkfs.ext4", "mkfs.xfs", "sfdisk"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/usr/lib/os-release", FEDORA);
    // From the root of the file system, and through a link that a folder stands behind.
    place.link("tree/etc/os-release", "/lib/os-release");
    place.link("tree/lib", "usr/lib");
    place.put("tree/usr/bin/bash", elf(183));
    place.put("tree/usr/lib/systemd/system/cloud-init.service", "[Unit]\n");
    for number in 0..300 {
        place.put(&format!("tree/usr/bin/program-with-a-long-name-{number}"), "");
    }
    place.put("boot/vmlinuz-6.8.5-301.fc40.aarch64", pe(0xaa64));
    place.put("boot/vmlinuz-0-rescue-5f3c", pe(0xaa64));
    mkfs_xfs(&place, "root");
    place.blank("boot.ext4", 16 * MIB);
    place.must("mkfs.ext4 -q -d boot boot.ext4");
    place.blank("disk", 320 * MIB);
    place.must("printf 'label: dos\\nsize=16M, type=83\\nsize=300M, type=83\\n' | sfdisk -q disk");
    place.insert("disk", MIB, "boot.ext4");
    place.insert("disk", 17 * MIB, "root");
    let found = place.look("disk");
    let system = &found.system;
    assert_eq!(value(system.distro.as_ref()).as_deref(), Some("fedora"));
    assert_eq!(value(system.version.as_ref()).as_deref(), Some("40"));
    assert_eq!(value(system.kernel.as_ref()).as_deref(), Some("6.8.5-301.fc40.aarch64"));
    assert_eq!(value(system.cloud_init.as_ref()), Some(true));
    assert_eq!(value(system.guest_agent.as_ref()), Some(false));
    assert_eq!(value(found.boot.architecture.as_ref()), Some("aarch64"));
    assert_eq!(found.boot.firmware, None, "there is no boot loader");
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn alpine_without_a_partition_table() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.1\n");
    place.put("tree/bin/busybox", elf(62));
    place.link("tree/bin/sh", "/bin/busybox");
    place.put("tree/boot/vmlinuz-virt", pe(0x8664));
    place.put("tree/lib/modules/6.6.14-0-virt/modules.dep", "");
    place.put("tree/usr/bin/qemu-ga", elf(62));
    place.blank("disk", 32 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    let found = place.look("disk");
    let system = &found.system;
    assert_eq!(value(system.distro.as_ref()).as_deref(), Some("alpine"));
    assert_eq!(value(system.version.as_ref()).as_deref(), Some("3.19.1"));
    assert_eq!(value(system.kernel.as_ref()).as_deref(), Some("6.6.14-0-virt"));
    assert_eq!(value(system.guest_agent.as_ref()), Some(true));
    assert_eq!(value(found.boot.architecture.as_ref()), Some("x86_64"));
}

#[test]
fn a_system_in_a_folder_of_btrfs_that_stands_for_the_root() {
    if !has(&["mkfs.btrfs"]) {
        return;
    }
    let place = Place::new();
    debian(&place);
    for root in ["", "@", "root"] {
        place.must("rm -rf rooted disk; mkdir rooted");
        place.must(&format!("cp -a tree rooted/{root}"));
        let tree = if root.is_empty() { "rooted/tree" } else { "rooted" };
        place.blank("disk", 200 * MIB);
        place.must(&format!("mkfs.btrfs -q --rootdir {tree} disk"));
        expect_debian(&place.look("disk"));
    }
}

#[test]
fn systems_from_before_os_release_are_known() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let cases = [
        ("redhat-release", "CentOS release 6.10 (Final)\n", "centos", Some("6.10")),
        ("redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n", "rhel", Some("9.4")),
        ("alpine-release", "3.4.6\n", "alpine", Some("3.4.6")),
        ("debian_version", "6.0.10\n", "debian", Some("6.0.10")),
        ("debian_version", "squeeze/sid\n", "debian", None),
    ];
    for (name, text, distro, version) in cases {
        let place = Place::new();
        place.put(&format!("tree/etc/{name}"), text);
        place.blank("disk", 8 * MIB);
        place.must("mkfs.ext3 -q -d tree disk");
        let system = place.look("disk").system;
        assert_eq!(value(system.distro.as_ref()).as_deref(), Some(distro));
        assert_eq!(value(system.version.as_ref()).as_deref(), version);
        assert_eq!(value(system.cloud_init.as_ref()), Some(false));
    }
}

#[test]
fn names_are_those_that_openstack_publishes() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let cases = [
        ("opensuse-leap", Some("opensuse")),
        ("archlinux", Some("arch")),
        ("rocky", Some("rocky")),
        ("Not A Name", None),
    ];
    for (id, distro) in cases {
        let place = Place::new();
        place.put("tree/etc/os-release", format!("ID=\"{id}\"\n"));
        place.blank("disk", 8 * MIB);
        place.must("mkfs.ext2 -q -d tree disk");
        let found = place.look("disk");
        assert_eq!(value(found.system.distro.as_ref()).as_deref(), distro);
        assert_eq!(value(found.system.os_type.as_ref()), Some("linux"));
    }
}

#[test]
fn windows_is_known_by_its_boot_manager() {
    if !has(&["mkfs.vfat", "mcopy", "mkfs.ntfs", "sfdisk"]) {
        return;
    }
    let place = Place::new();
    esp(&place, 32 * MIB, "bootx64.efi", 0x8664);
    place.must("mmd -i esp ::EFI/Microsoft ::EFI/Microsoft/Boot");
    place.must("mcopy -i esp loader.efi ::EFI/Microsoft/Boot/bootmgfw.efi");
    place.blank("ntfs", 16 * MIB);
    place.must("mkfs.ntfs -q -F ntfs");
    place.blank("disk", 64 * MIB);
    let basic = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";
    place.must(&format!(
        "printf 'label: gpt\\nsize=32M, type=uefi\\nsize=16M, type={basic}\\n' | sfdisk -q disk"
    ));
    place.insert("disk", MIB, "esp");
    place.insert("disk", 33 * MIB, "ntfs");
    let found = place.look("disk");
    assert_eq!(value(found.system.os_type.as_ref()), Some("windows"));
    assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some("windows"));
    assert_eq!(found.system.cloud_init, None, "its files are not read");
    assert_eq!(value(found.boot.firmware.as_ref()), Some(Firmware::Uefi));
    assert_eq!(value(found.boot.architecture.as_ref()), Some("x86_64"));
}

#[test]
fn signs_that_contradict_each_other_leave_the_processor_unknown() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/etc/os-release", DEBIAN);
    place.put("tree/bin/sh", elf(62));
    place.put("tree/boot/vmlinuz-6.1.0", pe(0xaa64));
    place.blank("disk", 8 * MIB);
    place.must("mkfs.ext4 -q -d tree disk");
    let found = place.look("disk");
    assert_eq!(found.boot.architecture, None);
    let note = "it is not clear what processor the disk is for: /bin/sh for x86_64, \
        /boot/vmlinuz-6.1.0 for aarch64";
    assert_eq!(found.notes, [note]);
}

#[test]
fn grub_for_the_firmware_of_pcs_is_known() {
    if !has(&["mkfs.ext4", "sfdisk"]) {
        return;
    }
    let place = Place::new();
    let (bios, linux) = ("21686148-6449-6E6F-744E-656564454649", "linux");
    for (label, first, rest_is_there) in
        [("dos", "83", true), ("gpt", bios, true), ("gpt", bios, false)]
    {
        place.must("rm -f disk");
        place.blank("disk", 8 * MIB);
        let last = if label == "dos" { "83" } else { linux };
        let lines = format!("label: {label}\\nstart=2048, size=1M, type={first}\\ntype={last}\\n");
        place.must(&format!("printf '{lines}' | sfdisk -q disk"));
        assert_eq!(place.look("disk").boot.firmware, None, "a table is no boot loader");
        place.must("printf '\\353\\143GRUB' | dd of=disk conv=notrunc status=none");
        if rest_is_there {
            place.must("printf rest | dd of=disk bs=1M seek=1 conv=notrunc status=none");
        }
        let firmware = value(place.look("disk").boot.firmware.as_ref());
        assert_eq!(firmware, rest_is_there.then_some(Firmware::Bios), "{label}");
    }
}

#[test]
fn a_cd_says_for_which_firmware_it_is() {
    if !has(&["xorriso", "mkfs.vfat"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/loader.bin", [0x90; 2048]);
    place.blank("tree/esp.img", MIB);
    let bios = "-b loader.bin -no-emul-boot -boot-load-size 4";
    let uefi = "-e esp.img -no-emul-boot";
    let cases = [
        (bios.to_string(), Firmware::Bios),
        (uefi.to_string(), Firmware::Uefi),
        (format!("{bios} -eltorito-alt-boot {uefi}"), Firmware::Both),
    ];
    for (options, firmware) in cases {
        let make = "rm -f disk; xorriso -as mkisofs -quiet -o disk";
        place.must(&format!("{make} {options} tree"));
        let found = place.look("disk");
        assert_eq!(value(found.boot.firmware.as_ref()), Some(firmware), "{options}");
    }
}

#[test]
fn files_that_btrfs_packs_in_its_default_subvolume_are_read() {
    if !has(&["mkfs.btrfs", "btrfs", "mount", "umount"]) {
        return;
    }
    let place = Place::new();
    if place.must("id -u").trim() != "0" || !place.must("cat /proc/filesystems").contains("btrfs") {
        eprintln!("skipped: btrfs cannot be mounted here");
        return;
    }
    debian(&place);
    // Long enough to lie outside of a node, and to be packed in several stretches.
    let comment = "# not one line like another: 0123456789\n".repeat(5000);
    for how in ["zlib", "zstd:3"] {
        for text in [DEBIAN.repeat(40), format!("{DEBIAN}{comment}")] {
            place.put("tree/usr/lib/os-release", text);
            place.must("rm -f disk; mkdir -p mounted");
            place.blank("disk", 200 * MIB);
            place.must("mkfs.btrfs -q -L root disk");
            place.must(&format!("mount -o loop,compress-force={how} disk mounted"));
            let fill = "btrfs subvolume create mounted/a >/dev/null; mkdir mounted/a/b; \
                btrfs subvolume create mounted/a/b/c >/dev/null; cp -a tree/. mounted/a/b/c/; \
                btrfs subvolume set-default mounted/a/b/c";
            let filled = std::panic::catch_unwind(|| place.must(fill));
            place.must("umount mounted");
            filled.unwrap();
            expect_debian(&place.look("disk"));
        }
    }
}

#[test]
fn blocks_that_wait_in_a_journal_are_seen_unless_they_were_taken_back() {
    if !has(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let place = Place::new();
    place.put("tree/etc/os-release", "ID=ubuntu\n");
    let mut new = b"ID=debian\n".to_vec();
    new.resize(4096, 0);
    place.put("new", new);
    let disks =
        ["-b 4096", "-b 1024", "-b 1024 -O ^64bit,^metadata_csum", "-b 1024 -O ^extents,^64bit"];
    for options in disks {
        for sums in ["", "-c -v 2", "-c -v 3"] {
            for (then, distro) in [("", "debian"), ("jo SUMS\njw -r BLOCK\njc\n", "ubuntu")] {
                place.must("rm -f disk");
                place.blank("disk", 8 * MIB);
                place.must(&format!("mkfs.ext4 -q {options} -d tree disk"));
                let block = place.must("debugfs -R 'blocks /etc/os-release' disk 2>/dev/null");
                let lines = format!("jo SUMS\njw -b BLOCK new\njc\n{then}");
                let lines = lines.replace("SUMS", sums).replace("BLOCK", block.trim());
                place.put("lines", lines);
                place.must("debugfs -w -f lines disk");
                let found = place.look("disk");
                let what = format!("{options} {sums} {then}");
                assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some(distro), "{what}");
                assert_eq!(found.notes, Vec::<String>::new(), "{what}");
            }
        }
    }
}

#[test]
fn what_waits_in_the_journal_of_ext4_is_seen() {
    // An image of a disk in use: files were promised to the journal, and nothing was unmounted.
    if !has(&["mkfs.ext4", "mount", "umount", "cp"]) {
        return;
    }
    let place = Place::new();
    if place.must("id -u").trim() != "0" {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    for options in ["", "-b 1024 -O ^metadata_csum,^64bit", "-O ^64bit", "-O ^metadata_csum"] {
        place.must("rm -rf disk image mounted; mkdir mounted");
        place.blank("disk", 64 * MIB);
        place.must(&format!("mkfs.ext4 -q {options} disk"));
        if std::panic::catch_unwind(|| place.must("mount -o loop disk mounted")).is_err() {
            eprintln!("skipped: ext4 cannot be mounted here");
            return;
        }
        let fill = "mkdir mounted/old mounted/old/a; sync -f mounted; rm -r mounted/old; \
            mkdir -p mounted/etc; printf 'ID=debian\\nVERSION_ID=12\\n' > mounted/etc/os-release; \
            sync mounted/etc/os-release mounted/etc mounted; cp --sparse=always disk image";
        let filled = std::panic::catch_unwind(|| place.must(fill));
        place.must("umount mounted");
        filled.unwrap();
        let found = place.look("image");
        assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some("debian"), "{options}");
        assert_eq!(found.notes, Vec::<String>::new());
    }
}

#[test]
fn a_root_in_a_logical_volume_is_found() {
    if !has(&["sfdisk"]) {
        return;
    }
    let place = Place::new();
    debian(&place);
    if !disks::volume_group(&place, "group") {
        return;
    }
    place.blank("disk", 64 * MIB);
    place.must("printf 'label: gpt\\nstart=2048, size=48M, type=lvm\\n' | sfdisk -q disk");
    place.insert("disk", MIB, "group");
    let found = place.look("disk");
    expect_debian(&found);
    let kinds: Vec<_> = found.file_systems.iter().map(|one| (one.partition, one.kind)).collect();
    assert_eq!(kinds, [(Some(1), "lvm2"), (None, "ext4")]);
    assert_eq!(found.file_systems[1].volume.as_deref(), Some("vg-1/root"));
    assert_eq!(found.file_systems[1].size, Some(24 * MIB));
}

#[test]
fn what_waits_in_the_log_of_xfs_is_seen() {
    if !has(&["mkfs.xfs", "mount", "umount", "cp"]) {
        return;
    }
    let place = Place::new();
    if place.must("id -u").trim() != "0" {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    place.blank("disk", 300 * MIB);
    place.must("mkfs.xfs -q disk; mkdir mounted");
    if std::panic::catch_unwind(|| place.must("mount -o loop disk mounted")).is_err() {
        eprintln!("skipped: xfs cannot be mounted here");
        return;
    }
    let fill = "mkdir -p mounted/etc; printf 'ID=debian\\n' > mounted/etc/os-release; \
        sync mounted/etc/os-release mounted/etc mounted; cp --sparse=always disk image";
    let filled = std::panic::catch_unwind(|| place.must(fill));
    place.must("umount mounted");
    filled.unwrap();
    let found = place.look("image");
    assert_eq!(value(found.system.distro.as_ref()).as_deref(), Some("debian"));
    assert_eq!(found.notes, Vec::<String>::new());
}
