//! vdi: what we write, qemu-img and 7-Zip read; what qemu-img writes, we read.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod oracle;

use disks::disk;
use formats::{Create, Kind, Limits, Options, Severity};
use oracle::{Place, has};

fn create(size: u64, options: &[(&str, &str)]) -> Create {
    let pairs = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Create { size, options: Options::new(pairs), ..Default::default() }
}

/// Ours, as qemu-img sees it: sound, and the same as the raw disk.
fn qemu_agrees(place: &Place, what: &str) {
    let checked = place.run("qemu-img", &["check", "-f", "vdi", "image"]);
    assert!(checked.status.success(), "{what}: {checked:?}");
    let compared = place.run("qemu-img", &["compare", "-f", "raw", "-F", "vdi", "disk", "image"]);
    assert!(compared.status.success(), "{what}: {compared:?}");
}

const SIZES: [u64; 5] = [512, 1 << 20, (1 << 20) + 512, (3 << 20) - 1536, 5_000_192];

#[test]
fn qemu_and_7zip_read_what_we_write() {
    if !has(&["qemu-img", "7zz"]) {
        return;
    }
    let place = Place::new();
    for (seed, size) in (1..).zip(SIZES) {
        place.put("disk", &disk(seed, size as usize));
        for options in [&[][..], &[("static", "on")], &[("uuid", &"12".repeat(16))]] {
            let what = format!("{size} bytes, {options:?}");
            place.write("image", "vdi", &create(size, options), &*place.open("disk", "raw"));
            qemu_agrees(&place, &what);
            place.we_agree(&what, "image", "vdi", "disk");
            let unpacked = place.must("7zz", &["e", "-so", "-tvdi", "image"]);
            assert!(unpacked == place.get("disk"), "{what}: 7-Zip sees another disk");
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
        for options in ["static=off", "static=on"] {
            let arguments = ["convert", "-f", "raw", "-O", "vdi", "-o", options, "disk", "image"];
            place.must("qemu-img", &arguments);
            place.we_agree(&format!("{size} bytes, {options}"), "image", "vdi", "disk");
        }
    }
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_go_both_ways() {
    if !has(&["qemu-img"]) {
        return;
    }
    for size in [(4_u64 << 30) + 1536, (2 << 40) + 512] {
        let place = Place::new();
        place.sparse("disk", size);
        let what = format!("{size} bytes");
        place.write("image", "vdi", &create(size, &[]), &*place.open("disk", "raw"));
        qemu_agrees(&place, &what);
        place.must("qemu-img", &["convert", "-f", "raw", "-O", "vdi", "disk", "image"]);
        place.we_agree(&what, "image", "vdi", "disk");
    }
}

// TRUTH row 15: qemu-img converts a vdi that was cut off, exit 0, with zeros for what is missing;
// we say that it is truncated. Row 16: its check says "No errors"; ours has a finding.
#[test]
fn a_vdi_that_was_cut_off_is_truncated_and_its_check_says_so() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &vec![0x77; 5 << 20]);
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "vdi", "disk", "image"]);
    let whole = place.get("image");
    for len in [whole.len() - 1, whole.len() * 3 / 5, 1024, 700] {
        place.put("image", &whole[..len]);
        let what = format!("{len} of {} bytes", whole.len());
        let opened = place.try_open("image", "vdi", |_| {});
        let read = opened.and_then(|image| disks::read_all(&*image));
        assert_eq!(read.unwrap_err().kind(), Kind::Truncated, "{what}");
        let (tally, found) = place.check("image", "vdi");
        assert!(tally.corruptions > 0, "{what}: {found:?}");
        assert!(found.iter().all(|one| one.severity == Severity::Corruption), "{what}");
        let strict = place.try_open("image", "vdi", |options| options.strict = true);
        assert_eq!(strict.err().unwrap().kind(), Kind::Refused, "{what}");
    }
}

// The map of a disk that grows has no room before the blocks: blocks are moved out of its way.
#[test]
fn qemu_agrees_with_images_of_another_size() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for (seed, options) in (21..).zip([&[][..], &[("static", "on")]]) {
        let size = 5_000_192;
        let mut bytes = disk(seed, size as usize);
        bytes[..100].fill(9);
        place.put("disk", &bytes);
        place.write("image", "vdi", &create(size, options), &*place.open("disk", "raw"));
        for size in [6 << 20, 900 << 20, 2000 << 20, 1800 << 20, 4_000_256, 512] {
            let what = format!("{options:?} made {size}");
            let resize = formats::format("vdi").unwrap().resize.unwrap();
            resize(place.to_change("image"), size, &Limits::default()).unwrap();
            let disk = std::fs::OpenOptions::new().write(true).open(place.path("disk")).unwrap();
            disk.set_len(size).unwrap();
            qemu_agrees(&place, &what);
            place.we_agree(&what, "image", "vdi", "disk");
        }
    }
}
