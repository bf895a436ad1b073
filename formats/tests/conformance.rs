//! What every format owes, in every one of its variants: the disk comes back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::sync::Arc;

use disks::{Dice, Made, Variant, disk, made, made_on, raw, read_all, usage, variants, writable};
use formats::{
    CompareOptions, Comparison, Create, FORMATS, Format, Hazard, HazardKind, Image, Kind, Limits,
    Memory, Options, Place, compare,
};

/// The size of the disk that such an image gets when this one is asked for.
fn size_for(format: &Format, size: u64) -> u64 {
    (format.padded)(size, &Options::default()).unwrap()
}

/// The variants whose disk has this very size.
fn variants_of(format: &'static Format, size: u64) -> Vec<Variant> {
    let all = variants(format, size).into_iter();
    all.filter(|variant| (format.padded)(size, &variant.create.options).unwrap() == size).collect()
}

/// The disk of an image, with the map it came by looked over.
fn look_over(name: &str, made: &Made) -> Box<dyn Image> {
    let (format, source) = (made.format, Arc::new(Memory::new(made.file.clone())));
    assert_eq!(formats::probe(FORMATS, &*source).unwrap().name, format.name, "{name}");
    let limits = Limits::default();
    let facts = (format.inspect)(&*source, &limits).unwrap();
    let beside = !made.beside.files().is_empty();
    let hazard = |hazard: &Hazard| !beside || hazard.kind != HazardKind::Reference;
    assert!(!facts.hazards.iter().any(hazard) && !facts.dirty, "{name}: {facts:?}");
    if let Some(check) = format.check {
        let mut findings = Vec::new();
        let tally = check(made.links(), &limits, &mut |finding| findings.push(finding));
        assert!(tally.unwrap().is_clean() && findings.is_empty(), "{name}: {findings:?}");
    }
    let image = made.open().unwrap();
    assert_eq!(facts.disk_size, image.disk_size(), "{name}");
    let mut at = 0;
    for extent in image.walk(0, image.disk_size()) {
        let extent = extent.unwrap();
        assert!(extent.start == at && extent.len > 0, "{name}: {extent:?} at {at}");
        assert_ne!(extent.place, Place::Backing, "{name} has nothing underneath");
        at = extent.end();
    }
    assert_eq!(at, image.disk_size(), "{name}");
    image
}

#[test]
fn a_disk_comes_back_from_every_variant_of_every_format() {
    for format in writable() {
        let size = size_for(format, 2_500_001);
        let bytes = disk(1, size as usize);
        let source = raw(&bytes);
        let variants = variants_of(format, size);
        assert!(!variants.is_empty(), "{}", format.name);
        for variant in variants {
            let file = made(format, &variant.create, &*source, 2);
            let image = look_over(&variant.name, &file);
            assert!(read_all(&*image).unwrap() == bytes, "{}", variant.name);
            let same = compare(&*source, &*image, &CompareOptions::default()).unwrap();
            assert_eq!(same, Comparison::Same, "{}", variant.name);
        }
    }
}

#[test]
fn the_file_is_the_same_with_one_thread_and_with_eight() {
    for format in writable() {
        let size = size_for(format, 3_300_001);
        let source = raw(&disk(2, size as usize));
        for variant in variants_of(format, size) {
            let one = made(format, &variant.create, &*source, 1);
            let eight = made(format, &variant.create, &*source, 8);
            assert!(one == eight, "{}", variant.name);
        }
    }
}

/// Holes that the map tells of are neither read nor looked at; a file without any has zeros there.
/// What follows from the content, identifiers too, may not tell one from the other.
#[test]
fn the_file_is_the_same_wherever_the_map_knows_of_holes() {
    let mut fine = Create::default();
    fine.options.set("cluster_size", "512");
    for format in writable() {
        let size = size_for(format, 5_300_001).next_multiple_of(512);
        let mut bytes = disk(11, size as usize);
        // Large blocks with little in them.
        for crumb in 0..6 {
            let from = 1_000_000 + crumb * 612_345;
            bytes[from + 1_500..(from + 612_345).min(4_800_000)].fill(0);
        }
        let source = raw(&bytes);
        let qcow2 = formats::format("qcow2").unwrap();
        fine.size = size;
        let holey = made(qcow2, &fine, &*source, 1).open().unwrap();
        for variant in variants_of(format, size) {
            let one = made(format, &variant.create, &*source, 2);
            let other = made(format, &variant.create, &*holey, 2);
            assert!(one == other, "{}", variant.name);
        }
    }
}

// Seen: an image written onto a block device kept what the device had held before wherever the
// writer took zeros for granted: parts of the L1 table, the end of the refcount table, clusters
// with room for zeros. Why: only a fresh file reads as zeros.
#[test]
fn a_device_with_old_data_gives_the_same_disk() {
    for format in writable() {
        let size = size_for(format, 2_100_001);
        let bytes = disk(9, size as usize);
        for variant in variants_of(format, size) {
            let mut old = vec![0; 8 << 20];
            Dice::new(10).fill(&mut old);
            let made = made_on(format, &variant.create, &*raw(&bytes), 2, Memory::new(old));
            let image = look_over(&variant.name, &made);
            let mut back = read_all(&*image).unwrap();
            back.truncate(bytes.len());
            assert!(back == bytes, "{}", variant.name);
        }
    }
}

#[test]
fn no_file_is_larger_than_was_measured() {
    for format in writable() {
        let Some(measure) = format.measure else { continue };
        for (seed, size) in [(3, 1_000_001), (4, 70_000), (5, 6 << 20)] {
            let size = size_for(format, size);
            let bytes = disk(seed, size as usize);
            for variant in variants_of(format, size) {
                let measured = measure(&variant.create, &mut *usage(&bytes)).unwrap();
                let file = made(format, &variant.create, &*raw(&bytes), 2).len();
                let name = &variant.name;
                assert!(file <= measured.required, "{name}: {file} bytes, {measured:?}");
                assert!(measured.required <= measured.fully_allocated, "{name}: {measured:?}");
            }
        }
    }
}

#[test]
fn a_full_disk_takes_no_more_than_fully_allocated() {
    for format in writable() {
        let Some(measure) = format.measure else { continue };
        let size = size_for(format, 1_500_001);
        let bytes = vec![0xa5; size as usize];
        for variant in variants_of(format, size).into_iter().filter(|v| !v.create.compress) {
            let measured = measure(&variant.create, &mut *usage(&[])).unwrap();
            let file = made(format, &variant.create, &*raw(&bytes), 2).len();
            assert!(file <= measured.fully_allocated, "{}: {file}, {measured:?}", variant.name);
        }
    }
}

#[test]
fn disks_of_odd_sizes_come_back() {
    let sizes = [0, 1, 511, 512, 1000, 4096, 65_535, 65_536, 65_537, (1 << 20) + 512, 1_500_000];
    for format in writable() {
        for wanted in sizes {
            let size = size_for(format, wanted);
            for (kind, mut bytes) in [
                ("zeros", vec![0; size as usize]),
                ("data", vec![0x5a; size as usize]),
                ("mixed", disk(wanted, size as usize)),
            ] {
                if let Some(last) = bytes.last_mut().filter(|_| kind == "mixed") {
                    *last = 1;
                }
                let name = format!("{} of {size} bytes, {kind}", format.name);
                let create = Create { size, ..Default::default() };
                let file = made(format, &create, &*raw(&bytes), 2);
                let back = look_over(&name, &file);
                assert!(read_all(&*back).unwrap() == bytes, "{name}");
            }
        }
    }
}

#[test]
fn a_copy_of_a_copy_is_the_disk_still() {
    for from in writable() {
        let size = size_for(from, 1_800_001).next_multiple_of(512);
        let bytes = disk(6, size as usize);
        let firsts: Vec<_> = variants_of(from, size).into_iter().step_by(7).collect();
        for first in &firsts {
            let file = made(from, &first.create, &*raw(&bytes), 2);
            let source = file.open().unwrap();
            for to in writable() {
                for second in variants_of(to, size).into_iter().step_by(13) {
                    let name = format!("{} to {}", first.name, second.name);
                    let file = made(to, &second.create, &*source, 2);
                    let back = look_over(&name, &file);
                    assert!(read_all(&*back).unwrap() == bytes, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_difference_of_one_bit_is_found_where_it_is() {
    for format in writable() {
        let size = size_for(format, 2_200_001);
        let bytes = disk(7, size as usize);
        let create = Create { size, ..Default::default() };
        for at in [0, 511, 65_536, 1_048_575, 1_048_576, size as usize - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            let file = made(format, &create, &*raw(&other), 2);
            let back = file.open().unwrap();
            for threads in [1, 4] {
                let options = CompareOptions { threads, ..Default::default() };
                let found = compare(&*raw(&bytes), &*back, &options).unwrap();
                assert_eq!(found, Comparison::Content(at as u64), "{}", format.name);
            }
        }
    }
}

#[test]
fn reads_past_the_end_are_invalid() {
    for format in writable() {
        let create = Create { size: 4096, ..Default::default() };
        let file = made(format, &create, &*raw(&disk(8, 4096)), 1);
        let back = file.open().unwrap();
        for (start, len) in [(0, 4097), (4096, 1), (4095, 2), (u64::MAX - 1, 1), (1 << 60, 1)] {
            let error = back.read(start, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{} at {start}", format.name);
        }
        back.read(4096, &mut []).unwrap();
    }
}

#[test]
fn an_unknown_option_is_invalid() {
    for format in writable() {
        let mut create = Create { size: 4096, ..Default::default() };
        create.options.set("no_such_thing", "on");
        let known = create.options.known_by(format.name, format.options);
        assert_eq!(known.unwrap_err().kind(), Kind::Invalid, "{}", format.name);
    }
}
