//! VHDX: what others write, we read; what we write, others read: the same bytes both ways.
//!
//! qemu-img writes regions that are not marked as required, and zeros where a fixed image has
//! blocks; it does not read 4096-byte sectors, parents, or a log without writing to the file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;
mod oracle;
mod vhdx;

use disks::{Dice, Variant, disk, variants};
use formats::{CompareOptions, Comparison, compare};
use oracle::{Place, has};
use vhdx::{Change, Entry, MIB, Vhdx, create, vhdx};

/// An image of qemu's: the same disk as the raw file, and but for the mark that it leaves out,
/// which strict readers miss, sound.
fn we_agree(place: &Place, what: &str, name: &str) {
    let (one, two) = (place.open("disk", "raw"), place.open(name, "vhdx"));
    let same = compare(&*one, &*two, &CompareOptions::default());
    assert_eq!(same.unwrap_or_else(|e| panic!("{what}: {e:?}")), Comparison::Same, "{what}");
}

#[test]
fn we_read_every_variant_that_qemu_writes() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for size in [512, 1 << 20, (3 << 20) + 512, (41 << 20) + 1536] {
        place.put("disk", &disk(size as u64, size));
        for options in [
            "subformat=dynamic",
            "subformat=fixed",
            "subformat=fixed,block_state_zero=off",
            "block_size=1M",
            "block_size=1M,block_state_zero=off",
            "block_size=2M,subformat=fixed",
            "block_size=256M",
            "log_size=3M,block_size=4M",
        ] {
            let arguments = ["convert", "-f", "raw", "-O", "vhdx", "-o", options, "disk", "image"];
            place.must("qemu-img", &arguments);
            we_agree(&place, &format!("{size} {options}"), "image");
        }
    }
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_of_qemu_are_read() {
    if !has(&["qemu-img"]) {
        return;
    }
    for (size, options) in [
        ((4_u64 << 30) + 1536, "block_size=1M"),
        ((13 << 30) + 512, "block_size=8M"),
        ((9 << 30) + 4096, "block_size=32M,block_state_zero=off"),
        ((2 << 40) + 512, "block_size=64M"),
    ] {
        let place = Place::new();
        place.sparse("disk", size);
        let arguments = ["convert", "-f", "raw", "-O", "vhdx", "-o", options, "disk", "image"];
        place.must("qemu-img", &arguments);
        we_agree(&place, &format!("{size} {options}"), "image");
    }
}

#[test]
fn blocks_that_were_written_in_any_order_are_read_as_qemu_reads_them() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    let mut dice = Dice::new(6);
    for options in ["block_size=1M", "block_size=1M,subformat=fixed", "block_size=8M"] {
        place.must("qemu-img", &["create", "-f", "vhdx", "-o", options, "image", "5G"]);
        let mut arguments = vec!["-f".to_string(), "vhdx".into()];
        for _ in 0..20 {
            let start = (dice.next() % (5 << 21)) * 512;
            let len = (1 + dice.below(4000) as u64) * 512;
            let len = len.min((5 << 30) - start);
            let byte = 1 + dice.below(255);
            arguments.extend(["-c".into(), format!("write -P {byte} {start} {len}")]);
        }
        arguments.push("image".into());
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        place.must("qemu-io", &arguments);
        place.must("qemu-img", &["convert", "-f", "vhdx", "-O", "raw", "image", "disk"]);
        we_agree(&place, options, "image");
    }
}

/// The variants of a disk, and some with larger blocks.
fn matrix(size: u64) -> Vec<Variant> {
    let mut list = variants(vhdx(), size);
    for (block, subformat) in [
        ("2M", "dynamic"),
        ("4M", "fixed"),
        ("32M", "dynamic"),
        ("256M", "dynamic"),
        ("256M", "fixed"),
    ] {
        let options = [("block_size", block), ("subformat", subformat), ("log_size", "2M")];
        let (name, create) = (format!("{options:?}"), create(size, &options));
        list.push(Variant { name, create, beside: false });
    }
    list
}

fn has_small_sectors(variant: &Variant) -> bool {
    variant.create.options.text("logical_sector_size") != Some("4096")
}

#[test]
fn qemu_reads_every_variant_that_we_write() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(1, (3 << 20) + 4096));
    let raw = place.open("disk", "raw");
    // qemu knows no other sectors.
    for variant in matrix(raw.disk_size()).into_iter().filter(has_small_sectors) {
        place.write("image", "vhdx", &variant.create, &*raw);
        place.we_agree(&variant.name, "image", "vhdx", "disk");
        let checked = place.run("qemu-img", &["check", "-f", "vhdx", "image"]);
        assert_eq!(checked.status.code(), Some(0), "{}: {checked:?}", variant.name);
        place.must("qemu-img", &["compare", "-f", "raw", "-F", "vhdx", "disk", "image"]);
    }
}

/// The disk of an image, as 7-Zip reads it.
fn seven_zip(place: &Place, what: &str) -> Vec<u8> {
    let done = place.run("7zz", &["x", "-so", "-tvhdx", "image"]);
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

// 7-Zip 26.02 refuses every disk with an odd number of sectors, also those of qemu and of others.
#[test]
fn seven_zip_which_is_strict_reads_what_we_write() {
    if !has(&["7zz"]) {
        return;
    }
    let place = Place::new();
    for size in [8192, (3 << 20) + 8192] {
        let bytes = disk(7, size);
        place.put("disk", &bytes);
        for variant in matrix(size as u64) {
            place.write("image", "vhdx", &variant.create, &*place.open("disk", "raw"));
            assert!(seven_zip(&place, &variant.name) == bytes, "{}", variant.name);
            let tested = place.must("7zz", &["t", "-tvhdx", "image"]);
            let tested = String::from_utf8_lossy(&tested).into_owned();
            assert!(
                !tested.contains("ERROR") && !tested.to_uppercase().contains("WARN"),
                "{tested}"
            );
        }
    }
}

/// The disk of an image, as libvhdi reads it; `None` where nothing can be mounted.
fn libvhdi(place: &Place) -> Option<Vec<u8>> {
    std::fs::create_dir_all(place.path("mount")).unwrap();
    if !place.run("vhdimount", &["image", "mount"]).status.success() {
        eprintln!("skipped: vhdimount cannot mount here");
        return None;
    }
    let read = std::fs::read(place.path("mount/vhdi1"));
    place.unmount("mount");
    Some(read.unwrap())
}

#[test]
fn libvhdi_reads_what_we_write() {
    if !has(&["vhdimount"]) {
        return;
    }
    let place = Place::new();
    let bytes = disk(8, (5 << 20) + 4096);
    place.put("disk", &bytes);
    for variant in matrix(bytes.len() as u64).iter().step_by(5) {
        place.write("image", "vhdx", &variant.create, &*place.open("disk", "raw"));
        let Some(read) = libvhdi(&place) else { return };
        assert!(read == bytes, "{}", variant.name);
    }
}

// The entries of bitmaps stand between those of blocks: that shows in large disks only.
#[test]
fn our_disks_over_four_gibibytes_and_over_two_tebibytes_are_read_by_others() {
    if !has(&["qemu-img"]) {
        return;
    }
    for (size, block, subformat) in [
        ((4_u64 << 30) + 1024, "1M", "dynamic"),
        ((4 << 30) + 1024, "1M", "fixed"),
        ((13 << 30) + 512, "32M", "dynamic"),
        ((9 << 30) + 4096, "256M", "fixed"),
        ((2 << 40) + 512, "64M", "dynamic"),
        (3 << 40, "1M", "dynamic"),
    ] {
        let place = Place::new();
        place.sparse("disk", size);
        let raw = place.open("disk", "raw");
        let what = format!("{size} in blocks of {block}, {subformat}");
        let options = [("block_size", block), ("subformat", subformat)];
        place.write("image", "vhdx", &create(size, &options), &*raw);
        place.we_agree(&what, "image", "vhdx", "disk");
        // qemu reads every zero of a vhdx image: of these it is asked for what is there.
        for part in 0..6 {
            let at = (size - 70_000) / 5 * part / 512;
            let (skip, count) = (format!("skip={at}"), format!("count={}", at + 138));
            let mut arguments = vec!["dd", "-f", "vhdx", "-O", "raw", "bs=512", &skip, &count];
            arguments.extend(["if=image", "of=part"]);
            place.must("qemu-img", &arguments);
            let mut expected = vec![0; 138 * 512];
            let len = expected.len().min((size - at * 512) as usize);
            raw.read(at * 512, &mut expected[..len]).unwrap();
            assert!(place.get("part")[..len] == expected[..len], "{what}, part {part}");
        }
        if size < 5 << 30 && subformat == "dynamic" && has(&["7zz", "sh", "cmp"]) {
            place.must("sh", &["-c", "7zz x -so -tvhdx image | cmp - disk"]);
        }
    }
}

#[test]
fn large_sectors_over_four_gibibytes_are_read_by_seven_zip() {
    if !has(&["7zz", "sh", "cmp"]) {
        return;
    }
    let place = Place::new();
    let size = (4 << 30) + 8192;
    place.sparse("disk", size);
    let options = [("logical_sector_size", "4096"), ("block_size", "4M")];
    place.write("image", "vhdx", &create(size, &options), &*place.open("disk", "raw"));
    place.we_agree("large sectors", "image", "vhdx", "disk");
    place.must("sh", &["-c", "7zz x -so -tvhdx image | cmp - disk"]);
}

// qemu-img replays a log only where it may write: then its disk is the one that we see in memory.
// Not where the entries go round the ring: it begins at its front then, and loses what lies before,
// though the last entry says where the first one is.
#[test]
fn a_log_that_qemu_replays_gives_the_disk_that_we_read_through_it() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let mut dice = Dice::new(9);
    for turn in 0..12 {
        let mut image = Vhdx::of(&vec![turn as u8 + 1; 4 * MIB], &[]);
        let (len, data) = (image.0.len() as u64, image.get64(image.bat(0)) >> 20 << 20);
        let mut at = dice.below(180);
        let tail = at;
        let mut entries = Vec::new();
        for number in 0..=turn {
            let mut changes = Vec::new();
            for _ in 0..=dice.below(5) {
                let offset = data + dice.below(500) as u64 * 4096;
                let mut sector = vec![0; 4096];
                dice.fill(&mut sector);
                changes.push(match dice.below(3) {
                    0 => Change::Zero(offset, 4096 * (1 + dice.below(9) as u64)),
                    _ => Change::Data(offset, sector),
                });
            }
            let sequence = 100 + number;
            let entry = Entry { sequence, at, tail, changes, flushed: len, last: len };
            at += entry.bytes().len() / 4096;
            entries.push(entry);
        }
        image.log(&entries);
        place.put("image", &image.0);
        let ours = image.read().unwrap();
        assert!(place.run("qemu-img", &["info", "-f", "vhdx", "image"]).status.code() == Some(1));
        place.must("qemu-img", &["check", "-r", "all", "-f", "vhdx", "image"]);
        place.must("qemu-img", &["convert", "-f", "vhdx", "-O", "raw", "image", "disk"]);
        assert!(place.get("disk") == ours, "turn {turn}");
        let (_, _, mended) = image.repair(formats::Repair::All);
        assert!(mended.read().unwrap() == ours, "turn {turn}, replayed by us");
    }
}
