//! vhd: what we write, qemu-img, 7-Zip and libvhdi read; what qemu-img writes, we read.
//!
//! qemu-img knows neither bitmaps nor parents: for those libvhdi is asked.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod oracle;

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use disks::disk;
use formats::{Create, Kind, Limits, Options};
use oracle::{Place, has};

fn create(size: u64, options: &[(&str, &str)]) -> Create {
    let pairs = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Create { size, options: Options::new(pairs), ..Default::default() }
}

/// Ours, as qemu-img sees it: the same as the raw disk, of the same size.
fn qemu_agrees(place: &Place, what: &str) {
    let arguments = ["compare", "-f", "raw", "-F", "vpc", "disk", "image"];
    let compared = place.run("qemu-img", &arguments);
    assert!(compared.status.success(), "{what}: {compared:?}");
    let text = String::from_utf8_lossy(&compared.stdout);
    assert!(!text.contains("mismatch"), "{what}: {text}");
}

/// What libvhdi sees in an image, as far as a file has it.
fn libvhdi_agrees(place: &Place, what: &str, image: &str) {
    let folder = place.path("mounted");
    std::fs::create_dir(&folder).unwrap();
    place.must("vhdimount", &[image, "mounted"]);
    // What is mounted is unmounted, whatever comes out.
    let same = std::panic::catch_unwind(|| {
        let file = std::fs::File::open(folder.join("vhdi1")).unwrap();
        let theirs = file.metadata().unwrap().len();
        let right = std::fs::File::open(place.path("disk")).unwrap();
        assert_eq!(theirs, right.metadata().unwrap().len(), "{what}");
        let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut at = 0;
        while at < theirs {
            let len = (theirs - at).min(1 << 20) as usize;
            file.read_exact_at(&mut one[..len], at).unwrap();
            right.read_exact_at(&mut two[..len], at).unwrap();
            assert!(one[..len] == two[..len], "{what}: libvhdi sees another disk at {at}");
            at += len as u64;
        }
    });
    place.unmount("mounted");
    std::fs::remove_dir(&folder).unwrap();
    if let Err(panic) = same {
        std::panic::resume_unwind(panic);
    }
}

const SIZES: [u64; 5] = [512, 2 << 20, (2 << 20) + 512, (5 << 20) - 1536, 9_000_448];

#[test]
fn three_others_read_what_we_write() {
    if !has(&["qemu-img", "7zz", "vhdimount"]) {
        return;
    }
    let place = Place::new();
    for (seed, size) in (1..).zip(SIZES) {
        place.put("disk", &disk(seed, size as usize));
        for options in [
            &[][..],
            &[("subformat", "fixed")],
            &[("block_size", "512k")],
            &[("block_size", "8M"), ("uuid", &"12".repeat(16))],
        ] {
            let what = format!("{size} bytes, {options:?}");
            place.write("image", "vhd", &create(size, options), &*place.open("disk", "raw"));
            qemu_agrees(&place, &what);
            place.we_agree(&what, "image", "vhd", "disk");
            let unpacked = place.must("7zz", &["e", "-so", "-tvhd", "image"]);
            assert!(unpacked == place.get("disk"), "{what}: 7-Zip sees another disk");
            libvhdi_agrees(&place, &what, "image");
        }
    }
}

#[test]
fn we_read_what_qemu_writes() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for (seed, size) in (11..).zip(SIZES) {
        place.put("disk", &disk(seed, size as usize));
        for options in ["subformat=dynamic", "subformat=fixed"] {
            for force in ["force_size=on", "force_size=off"] {
                let options = format!("{options},{force}");
                let what = format!("{size} bytes, {options}");
                let to = ["-O", "vpc", "-o", &options, "disk", "image"];
                place.must("qemu-img", &[&["convert", "-f", "raw"][..], &to].concat());
                // The disk may have grown.
                place.must("qemu-img", &["convert", "-f", "vpc", "-O", "raw", "image", "grown"]);
                place.we_agree(&what, "image", "vhd", "grown");
                assert_eq!(place.facts("image", "vhd").hazards, [], "{what}");
            }
        }
    }
}

#[test]
fn disks_over_four_gibibytes_go_both_ways() {
    if !has(&["qemu-img", "vhdimount"]) {
        return;
    }
    let size = (4_u64 << 30) + 1536;
    let place = Place::new();
    place.sparse("disk", size);
    for subformat in ["dynamic", "fixed"] {
        let options = [("subformat", subformat)];
        place.write("image", "vhd", &create(size, &options), &*place.open("disk", "raw"));
        qemu_agrees(&place, subformat);
        let options = format!("force_size=on,subformat={subformat}");
        let to = ["-O", "vpc", "-o", &options, "disk", "image"];
        place.must("qemu-img", &[&["convert", "-f", "raw"][..], &to].concat());
        place.we_agree(subformat, "image", "vhd", "disk");
    }
}

// TRUTH row 13: qemu-img refuses a fixed vhd of more than 2040 GiB, of which Azure takes 32 TiB; we
// write and read it. A dynamic one ends there.
#[test]
fn a_fixed_disk_may_have_more_than_2040_gib_and_a_dynamic_one_may_not() {
    if !has(&["vhdimount"]) {
        return;
    }
    let place = Place::new();
    for size in [2040_u64 << 30, (4 << 40) + (1 << 20)] {
        place.sparse("disk", size);
        let from = place.open("disk", "raw");
        place.write("image", "vhd", &create(size, &[("subformat", "fixed")]), &*from);
        assert_eq!(place.path("image").metadata().unwrap().len(), size + 512);
        assert_eq!(place.facts("image", "vhd").disk_size, size);
        let (tally, found) = place.check("image", "vhd");
        assert!(tally.is_clean(), "{found:?}");
        let said = place.must("vhdiinfo", &["image"]);
        let bytes = format!("({size} bytes)");
        assert!(String::from_utf8(said).unwrap().contains(&bytes), "{size}");
        let dynamic = formats::format("vhd").unwrap().create.unwrap();
        let made = dynamic(Arc::new(formats::Memory::default()), &create(size, &[]));
        match size > 2040 << 30 {
            true => assert_eq!(made.err().unwrap().kind(), Kind::Invalid),
            false => drop(made.unwrap()),
        }
    }
}

#[test]
fn a_dynamic_disk_of_2040_gib_is_read_by_others() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.sparse("disk", 2040 << 30);
    place.write("image", "vhd", &create(2040 << 30, &[]), &*place.open("disk", "raw"));
    qemu_agrees(&place, "2040 GiB");
    place.we_agree("2040 GiB", "image", "vhd", "disk");
}

// TRUTH row 12: qemu-img makes a vhd grow to the next size with a geometry of its own, unless told
// otherwise; we keep the size, unless told otherwise.
#[test]
fn the_size_is_exact_unless_the_next_geometry_is_wanted() {
    let vhd = formats::format("vhd").unwrap();
    let padded = |size, options: &[(&str, &str)]| {
        (vhd.padded)(size, &create(size, options).options).unwrap()
    };
    for (size, grown) in [(64 << 20, 16384), (1 << 30, 253_952), (10 << 30, 475_136)] {
        assert_eq!(padded(size, &[]), size);
        assert_eq!(padded(size, &[("force_size", "off")]), size + grown);
    }
    // TRUTH row 23: and what is no multiple of a sector is padded, and that is said.
    assert_eq!(padded(1000, &[]), 1024);
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("plain", &disk(5, 3_000_320));
    for options in ["subformat=dynamic", "subformat=fixed"] {
        let to = ["-O", "vpc", "-o", options, "plain", "theirs"];
        place.must("qemu-img", &[&["convert", "-f", "raw"][..], &to].concat());
        let theirs = place.facts("theirs", "vhd").disk_size;
        assert_eq!(padded(3_000_320, &[("force_size", "off")]), theirs);
        let mut bytes = place.get("plain");
        bytes.resize(theirs as usize, 0);
        place.put("disk", &bytes);
        let grown = create(theirs, &[("force_size", "off")]);
        place.write("image", "vhd", &grown, &*place.open("disk", "raw"));
        qemu_agrees(&place, options);
    }
}

// The BAT of a disk that grows has no room before the blocks: it moves to the end of the file.
#[test]
fn others_agree_with_images_of_another_size() {
    if !has(&["qemu-img", "vhdimount"]) {
        return;
    }
    let place = Place::new();
    let lists = [&[][..], &[("block_size", "512k")], &[("subformat", "fixed")]];
    for (seed, options) in (21..).zip(lists) {
        let size = 5_000_192;
        place.put("disk", &disk(seed, size as usize));
        place.write("image", "vhd", &create(size, options), &*place.open("disk", "raw"));
        for size in [6 << 20, 900 << 20, 5000 << 20, 800 << 20, 4_000_256, 7 << 20, 512] {
            let what = format!("{options:?} made {size}");
            let resize = formats::format("vhd").unwrap().resize.unwrap();
            resize(place.to_change("image"), size, &Limits::default()).unwrap();
            let disk = std::fs::OpenOptions::new().write(true).open(place.path("disk")).unwrap();
            disk.set_len(size).unwrap();
            qemu_agrees(&place, &what);
            place.we_agree(&what, "image", "vhd", "disk");
            if size < 100 << 20 {
                libvhdi_agrees(&place, &what, "image");
            }
        }
    }
}
