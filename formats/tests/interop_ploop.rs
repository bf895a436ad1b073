//! ploop images and qemu-img's "parallels", both ways; and bundles that Parallels made.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod oracle;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disks::{Dice, disk, variants};
use formats::{Access, Caching, Create, ImageFile, Kind, Limits, Options, Repair, Severity, Value};
use oracle::{Place, has};

fn create(size: u64, cluster: &str) -> Create {
    let options = Options::new([("cluster_size".into(), cluster.into())]);
    Create { size, options, ..Default::default() }
}

/// An image of qemu's of the raw file `disk`.
fn theirs(place: &Place, name: &str, cluster: &str) {
    let option = format!("cluster_size={cluster}");
    let convert = ["convert", "-f", "raw", "-O", "parallels", "-o", &option, "disk", name];
    place.must("qemu-img", &convert);
}

/// Ours, as qemu-img sees it: sound, and the same as the raw file `disk`.
fn qemu_agrees(place: &Place, what: &str, name: &str) {
    let checked = place.run("qemu-img", &["check", "-f", "parallels", name]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{what}: {said}");
    let same = ["compare", "-f", "raw", "-F", "parallels", "disk", name];
    let compared = place.run("qemu-img", &same);
    assert!(compared.status.success(), "{what}: {}", String::from_utf8_lossy(&compared.stdout));
}

#[test]
fn qemu_reads_every_variant_that_we_write() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for (seed, size) in [(1, 0), (2, 512), (3, 65_536), (4, (3 << 20) + 512)] {
        place.put("disk", &disk(seed, size));
        let raw = place.open("disk", "raw");
        let all = variants(formats::format("ploop").unwrap(), size as u64);
        for variant in all.into_iter().step_by(if size > 1 << 20 { 1 } else { 5 }) {
            let what = format!("{} of {size}", variant.name);
            place.write("image", "ploop", &variant.create, &*raw);
            qemu_agrees(&place, &what, "image");
            place.we_agree(&what, "image", "ploop", "disk");
        }
    }
}

#[test]
fn we_read_what_qemu_writes_of_every_size() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for (seed, size) in [(5, 512), (6, 65_536), (7, (3 << 20) + 512), (8, 9_999_872)] {
        place.put("disk", &disk(seed, size));
        for cluster in ["512", "4k", "31744", "32256", "64k", "258048", "1M", "16M"] {
            theirs(&place, "image", cluster);
            let what = format!("{cluster} of {size}");
            let mut read = vec![0; size];
            place.open("image", "ploop").read(0, &mut read).unwrap();
            assert!(read == place.get("disk"), "{what}");
            if ["31744", "32256"].contains(&cluster) {
                // It can be wrong about where these begin, and its own check says so.
                let (tally, findings) = place.check("image", "ploop");
                assert!(tally.corruptions < 2, "{what}: {findings:?}");
                assert_eq!(repair(&place, "image").corruptions_fixed, tally.corruptions, "{what}");
            }
            place.we_agree(&what, "image", "ploop", "disk");
        }
    }
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_go_both_ways() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    for (size, cluster) in [((4_u64 << 30) + 1536, "64k"), ((2 << 40) + 512, "1M")] {
        let place = Place::new();
        place.sparse("disk", size);
        let end = format!("write -P 0x6b {} 4k", size - 4096);
        place.must("qemu-io", &["-f", "raw", "-c", &end, "disk"]);
        let what = format!("{size} bytes");
        place.write("ours", "ploop", &create(size, cluster), &*place.open("disk", "raw"));
        if size < 2 << 40 {
            qemu_agrees(&place, &what, "ours");
        }
        // Over 2 TiB qemu-img compare dies of an assertion, over its own images, too.
        let read = end.replace("write", "read");
        let said = place.must("qemu-io", &["-f", "parallels", "-c", &read, "ours"]);
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("verification failed"), "{what}: {said}");
        place.must("qemu-img", &["check", "-f", "parallels", "ours"]);
        place.we_agree(&what, "ours", "ploop", "disk");
        theirs(&place, "theirs", cluster);
        place.we_agree(&what, "theirs", "ploop", "disk");
    }
}

#[test]
fn we_make_no_larger_a_file_than_qemu() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(9, 5 << 20));
    for cluster in ["4k", "1M"] {
        place.write("ours", "ploop", &create(5 << 20, cluster), &*place.open("disk", "raw"));
        theirs(&place, "theirs", cluster);
        assert!(place.get("ours").len() <= place.get("theirs").len(), "{cluster}");
    }
}

#[test]
fn the_counts_of_a_check_are_those_of_qemu() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.must("qemu-img", &["create", "-f", "parallels", "-o", "cluster_size=4k", "image", "8M"]);
    let mut dice = Dice::new(10);
    for _ in 0..40 {
        let write = format!("write -P 7 {}k 20k", dice.below(8000));
        place.must("qemu-io", &["-f", "parallels", "-c", &write, "image"]);
    }
    let json = ["check", "-f", "parallels", "--output", "json", "image"];
    let said = String::from_utf8(place.must("qemu-img", &json)).unwrap();
    let (tally, findings) = place.check("image", "ploop");
    assert!(tally.is_clean(), "{findings:?}");
    for (name, number) in [
        ("total-clusters", tally.total_clusters),
        ("allocated-clusters", tally.allocated_clusters),
        ("fragmented-clusters", tally.fragmented_clusters),
        ("image-end-offset", tally.image_end_offset),
    ] {
        assert!(said.contains(&format!("\"{name}\": {number}")), "{name} {number}: {said}");
    }
}

/// Mends an image in place.
fn repair(place: &Place, name: &str) -> formats::Tally {
    let open = ImageFile::open(&place.path(name), Access::Write, Caching::Writeback).unwrap();
    let repair = formats::format("ploop").unwrap().repair.unwrap();
    repair(Arc::new(open), Repair::All, &Limits::default(), &mut |_| {}).unwrap()
}

#[test]
fn an_image_that_qemu_did_not_close_is_read_reported_and_mended() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.must("qemu-img", &["create", "-f", "parallels", "image", "8M"]);
    let write = ["-f", "parallels", "-c", "write -P 9 3M 2M", "-c", "flush", "-c", "abort"];
    assert!(!place.run("qemu-io", &[&write[..], &["image"]].concat()).status.success());
    assert!(place.facts("image", "ploop").dirty);
    place.must("qemu-img", &["convert", "-f", "parallels", "-O", "raw", "image", "disk"]);
    let mut bytes = vec![0; 8 << 20];
    place.open("image", "ploop").read(0, &mut bytes).unwrap();
    assert!(bytes == place.get("disk") && bytes[4 << 20] == 9);
    // The room that qemu took in advance lies behind the last cluster.
    let (tally, findings) = place.check("image", "ploop");
    assert!(tally.corruptions == 1 && tally.leaks > 0, "{findings:?}");
    let tally = repair(&place, "image");
    assert!(tally.is_clean() && tally.corruptions_fixed == 1, "{tally:?}");
    assert!(!place.facts("image", "ploop").dirty);
    place.we_agree("mended", "image", "ploop", "disk");
    qemu_agrees(&place, "mended", "image");
}

/// Another size for an image in place.
fn resize(place: &Place, name: &str, size: u64) {
    let open = ImageFile::open(&place.path(name), Access::Write, Caching::Writeback).unwrap();
    let resize = formats::format("ploop").unwrap().resize.unwrap();
    resize(Arc::new(open), size, &Limits::default()).unwrap();
}

#[test]
fn an_image_of_another_size_is_sound_and_has_zeros_where_it_grew() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for (ours, cluster) in [(true, "4k"), (false, "4k"), (true, "1M"), (false, "258048")] {
        let mut bytes = disk(11, (2 << 20) + 512);
        place.put("disk", &bytes);
        if ours {
            let raw = place.open("disk", "raw");
            place.write("image", "ploop", &create(raw.disk_size(), cluster), &*raw);
        } else {
            theirs(&place, "image", cluster);
        }
        // Up and down, into a cluster and by many: the table wants more room than it has.
        for size in [2_100_224, 20 << 20, 1_000_448, 1_000_960, 512, 300 << 20, 0, 65_536] {
            resize(&place, "image", size);
            bytes.resize(size as usize, 0);
            place.put("disk", &bytes);
            let what = format!("{cluster} of {size}");
            place.we_agree(&what, "image", "ploop", "disk");
            // It cannot round to what is no power of two.
            if cluster != "258048" {
                qemu_agrees(&place, &what, "image");
            }
        }
    }
}

/// An image that lies in the folder of the corpus, unpacked into ours.
fn from_corpus(place: &Place, file: &str) -> bool {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DISKWRIGHT_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("corpus/parallels").join(file);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let packed = path.with_file_name(format!("{name}.xz"));
    let mut bytes = Vec::new();
    if let Ok(plain) = std::fs::read(&path) {
        bytes = plain;
    } else if let Ok(stream) = std::fs::File::open(packed) {
        xz2::read::XzDecoder::new(stream).read_to_end(&mut bytes).unwrap();
    } else {
        eprintln!("skipped: there is no {name} here; $DISKWRIGHT_SHARED says where the corpus is");
        return false;
    }
    place.put(&name, &bytes);
    true
}

#[test]
fn a_bundle_of_parallels_is_the_disk_of_its_image() {
    let guid = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
    for (folder, name) in
        [("dfvfs-hfsplus-hdd", "hfsplus.hdd"), ("dissect-expanding-hdd", "expanding.hdd")]
    {
        let place = Place::new();
        let image = format!("{name}.0.{guid}.hds");
        let there = |file: &str| from_corpus(&place, &format!("{folder}/{name}/{file}"));
        if !there("DiskDescriptor.xml") || !there(&image) {
            return;
        }
        let facts = place.facts("DiskDescriptor.xml", "ploop");
        assert_eq!((facts.variant, &facts.references[0].name), ("bundle", &image));
        assert_eq!((facts.unit, facts.snapshots.len()), (Some(1 << 20), 0));
        let probed = formats::probe(formats::FORMATS, &*place.source("DiskDescriptor.xml"));
        assert_eq!(probed.unwrap().name, "ploop");
        let (one, two) = (place.open("DiskDescriptor.xml", "ploop"), place.open(&image, "ploop"));
        let same = formats::compare(&*one, &*two, &formats::CompareOptions::default()).unwrap();
        assert_eq!(same, formats::Comparison::Same, "{name}");
        let (tally, findings) = place.check(&image, "ploop");
        assert!(tally.is_clean(), "{findings:?}");
    }
}

#[test]
fn bitmaps_of_virtuozzo_are_listed_and_are_no_leak() {
    let place = Place::new();
    let name = "parallels-with-bitmap.hds";
    if !from_corpus(&place, &format!("qemu-iotests-parallels-with-bitmap-hds/{name}")) {
        return;
    }
    let facts = place.facts(name, "ploop");
    assert!(facts.hazards.is_empty(), "{:?}", facts.hazards);
    let detail = facts.details.iter().find(|detail| detail.name == "bitmaps").unwrap();
    let Value::List(list) = &detail.value else { panic!("{detail:?}") };
    let id = Value::from("e4f2eed0-37fe-4539-b50b-85d2e7fd235f");
    let granularity = Value::Number(64 << 10);
    assert_eq!(list.len(), 1);
    let Value::Map(map) = &list[0] else { panic!("{list:?}") };
    assert_eq!(map[..2], [("id", id), ("granularity", granularity)]);
    let (tally, findings) = place.check(name, "ploop");
    assert!(tally.is_clean(), "{findings:?}");
    // An image with bitmaps keeps its size, and a new one would not have them.
    let open = ImageFile::open(&place.path(name), Access::Write, Caching::Writeback).unwrap();
    let ploop = formats::format("ploop").unwrap();
    let refused = (ploop.resize.unwrap())(Arc::new(open), 1 << 30, &Limits::default());
    assert_eq!(refused.unwrap_err().kind(), Kind::Unsupported);
    let like = (ploop.likeness.unwrap())(&*place.source(name), &Limits::default());
    assert_eq!(like.err().unwrap().kind(), Kind::Refused);
}

// TRUTH rows 15 and 16: qemu-img converts a truncated parallels image, with zeros for what is
// missing, and says 0; its check dies of an assertion. We say where the file ends.
#[test]
fn an_image_of_qemu_that_was_cut_off_is_truncated_and_its_check_a_finding() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &vec![7; 3 << 20]);
    theirs(&place, "image", "1M");
    let mut bytes = place.get("image");
    bytes.truncate((3 << 20) + 1000);
    place.put("image", &bytes);
    let opened = place.open("image", "ploop");
    let mut read = vec![0; 3 << 20];
    assert_eq!(opened.read(0, &mut read).unwrap_err().kind(), Kind::Truncated);
    let (tally, findings) = place.check("image", "ploop");
    assert_eq!(tally.corruptions, 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Corruption);
}
