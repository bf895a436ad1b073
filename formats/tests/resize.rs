//! A disk that changes its size keeps what it had, and what is added reads as zeros.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

use disks::{Dice, Variant, disk, lone_variants, made, raw};
use formats::{
    Create, Error, FORMATS, Format, Kind, Limits, Links, Memory, Options, Repair, Result, Target,
};

const SIZE: u64 = 900 << 10;

/// The formats that can do it, in some of their variants.
fn all() -> impl Iterator<Item = (&'static Format, Variant)> {
    let some = |format: &&'static Format| {
        let format = *format;
        let fits = move |variant: &Variant| {
            (format.padded)(SIZE, &variant.create.options).unwrap() == SIZE
        };
        let list: Vec<_> = lone_variants(format, SIZE).into_iter().filter(fits).collect();
        list.into_iter().step_by(3).map(move |variant| (format, variant))
    };
    FORMATS.iter().filter(|format| format.resize.is_some()).flat_map(some)
}

/// An image that changes, with what its disk has to hold.
struct Changing {
    name: String,
    format: &'static Format,
    file: Arc<Memory>,
    model: Vec<u8>,
}

impl Changing {
    fn new(format: &'static Format, variant: &Variant, seed: u64) -> Changing {
        let mut model = disk(seed, SIZE as usize);
        // Something to be lost, and something at an odd end.
        let len = model.len();
        model[len - 700..].fill(7);
        let made = made(format, &variant.create, &*raw(&model), 2);
        let file = Arc::new(Memory::new(made.file));
        Changing { name: variant.name.clone(), format, file, model }
    }

    fn resize(&mut self, wanted: u64) -> Result<()> {
        let size = (self.format.padded)(wanted, &Options::default()).unwrap();
        (self.format.resize.unwrap())(self.file.clone(), size, &Limits::default())?;
        self.model.resize(size as usize, 0);
        Ok(())
    }

    fn judge(&self, story: &str) {
        let name = format!("{}, {story}", self.name);
        let links = Links::alone(self.file.clone());
        if let Some(check) = self.format.check {
            let mut found = Vec::new();
            let tally = check(links, &Limits::default(), &mut |finding| found.push(finding));
            assert!(tally.unwrap().is_clean(), "{name}: {found:?}");
        }
        let image = disks::open(self.file.clone(), self.format).unwrap();
        let back = disks::read_all(&*image).unwrap();
        assert_eq!(back.len(), self.model.len(), "{name}");
        let differs = back.iter().zip(&self.model).position(|(one, two)| one != two);
        assert_eq!(differs, None, "{name}");
    }
}

/// What a format may say to a size that it cannot give.
fn declined(name: &str, error: &Error) -> bool {
    let known = matches!(error.kind(), Kind::Unsupported | Kind::Invalid);
    assert!(known, "{name}: {error:?}");
    known
}

#[test]
fn what_was_there_stays_and_what_is_added_reads_as_zeros() {
    let mut done = 0;
    for (format, variant) in all() {
        for wanted in [SIZE, SIZE + 512, SIZE + (300 << 10), 3 << 20, 24 << 20] {
            let mut image = Changing::new(format, &variant, 1);
            match image.resize(wanted) {
                Ok(()) => done += 1,
                Err(error) => drop(declined(&image.name, &error)),
            }
            image.judge(&format!("made {wanted}"));
        }
    }
    assert!(done > 50, "{done} were made larger");
}

#[test]
fn what_is_cut_off_is_gone_and_comes_back_as_zeros() {
    for (format, variant) in all() {
        let mut dice = Dice::new(4);
        let mut image = Changing::new(format, &variant, 2);
        let mut story = String::new();
        for _ in 0..6 {
            let wanted = 1 + dice.below(2 << 20) as u64;
            let _ = write!(story, " {wanted}");
            if let Err(error) = image.resize(wanted) {
                declined(&image.name, &error);
            }
            image.judge(&story);
        }
    }
}

// Seen: a vmdk image whose resize was killed said ever after that it was damaged. Why: its size
// stands in the header and in the descriptor, which is written last, and no repair made the one
// what the other is.
#[test]
fn a_repair_makes_the_descriptor_of_a_vmdk_say_what_its_header_says() {
    let vmdk = formats::format("vmdk").unwrap();
    let create = Create { size: SIZE, ..Create::default() };
    let variant = Variant { name: "vmdk".into(), create, beside: false };
    let mut image = Changing::new(vmdk, &variant, 5);
    let before = image.file.to_vec();
    image.resize(SIZE + (5 << 20)).unwrap();
    image.file.write_at(512, &before[512..512 * 21]).unwrap();
    let tally =
        (vmdk.check.unwrap())(Links::alone(image.file.clone()), &Limits::default(), &mut |_| {});
    assert_eq!(tally.unwrap().corruptions, 1);
    let repair = vmdk.repair.unwrap();
    let tally = repair(image.file.clone(), Repair::All, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!((tally.corruptions_fixed, tally.corruptions), (1, 0));
    image.judge("mended");
}

#[test]
fn qemu_agrees_with_qcow2_images_of_another_size() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("skipped: no qemu-img");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let qcow2 = formats::format("qcow2").unwrap();
    for options in ["cluster_size=512", "compat=v2", "extended_l2=on", "refcount_bits=1", ""] {
        let mut create = Create { size: SIZE, ..Create::default() };
        if let Some((key, value)) = options.split_once('=') {
            create.options.set(key, value);
        }
        let variant = Variant { name: options.into(), create, beside: false };
        for size in [SIZE + 512, 30 << 20, 800 << 20, 700 << 10, 512] {
            let mut image = Changing::new(qcow2, &variant, 3);
            image.resize(size).unwrap();
            std::fs::write(&path, image.file.to_vec()).unwrap();
            let check = Command::new("qemu-img").args(["check", "-q"]).arg(&path).output().unwrap();
            assert!(check.status.success(), "{options} made {size}: {check:?}");
            let raw = folder.path().join("image.raw");
            std::fs::write(&raw, &image.model).unwrap();
            let mut compare = Command::new("qemu-img");
            let same = compare.args(["compare", "-q"]).args([&path, &raw]).output().unwrap();
            assert!(same.status.success(), "{options} made {size}: {same:?}");
        }
    }
}
