//! A disk that changes its size keeps what it had, and what is added reads as zeros.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::fmt::Write as _;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use disks::{Dice, Variant, disk, lone_variants, made, raw};
use formats::{
    Create, Error, FORMATS, Format, Kind, Limits, Links, Memory, Options, Repair, Result, Source,
    Span, Target,
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
#[derive(Clone)]
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

    /// Has a repair finish it, and takes the size that it has now, which is the old one or this.
    /// What was to be given up may be gone.
    fn settle(&mut self, size: u64, name: &str) {
        let repair = self.format.repair.expect("it has one");
        let mut ignore = |_| {};
        repair(self.file.clone(), Repair::All, &Limits::default(), &mut ignore).unwrap();
        let image = disks::open(self.file.clone(), self.format).unwrap();
        let (old, disk) = (self.model.len(), disks::read_all(&*image).unwrap());
        assert!([old, size as usize].contains(&disk.len()), "{name}: {} bytes", disk.len());
        self.model.resize(disk.len(), 0);
        if disk.len() > size as usize {
            self.model[size as usize..].copy_from_slice(&disk[size as usize..]);
        }
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

/// Storage of which one read fails, or all from that one on.
struct Unreadable {
    inner: Memory,
    left: AtomicU64,
    ever: bool,
}

impl Source for Unreadable {
    fn len(&self) -> u64 {
        Source::len(&self.inner)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let before = self.left.fetch_sub(1, Ordering::Relaxed).cast_signed();
        match before == 0 || (before < 0 && self.ever) {
            true => Err(io::Error::other("it cannot be read (on purpose)")),
            false => self.inner.read_at(offset, buf),
        }
    }
}

impl Target for Unreadable {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        self.inner.zero(span)
    }

    fn allocate(&self, span: Span) -> io::Result<()> {
        self.inner.allocate(span)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn is_fresh(&self) -> bool {
        self.inner.is_fresh()
    }
}

// Seen: a qcow2 image that grew while a table could not be read had its clusters counted as free,
// and all was said to be well. Why: what a survey cannot read it reports, and nobody looked there
// when new refcounts were made of it.
#[test]
fn a_read_that_fails_while_a_disk_changes_its_size_is_an_error_and_loses_nothing() {
    let mut failed = 0;
    // With tables so small that they have to move.
    let options = [("qcow2", "cluster_size", "512"), ("vhdx", "block_size", "1M")];
    let others = [("vhd", "block_size", "512k"), ("ploop", "cluster_size", "4k")];
    let plain = [("vdi", "static", "off"), ("vmdk", "zeroed_grain", "off")];
    for (format, key, value) in options.into_iter().chain(others).chain(plain) {
        let mut create = Create { size: SIZE, ..Create::default() };
        create.options.set(key, value);
        let variant = Variant { name: format.into(), create, beside: false };
        let format = formats::format(format).unwrap();
        let whole = Changing::new(format, &variant, 6);
        for (wanted, ever) in [(SIZE + (3 << 20), true), (SIZE + (3 << 20), false), (512, false)] {
            let size = (format.padded)(wanted, &Options::default()).unwrap();
            for reads in 0.. {
                let name = format!("{} made {wanted}, read {reads} fails", whole.name);
                let inner = Memory::new(whole.file.to_vec());
                let left = AtomicU64::new(reads);
                let storage = Arc::new(Unreadable { inner, left, ever });
                let done = (format.resize.unwrap())(storage.clone(), size, &Limits::default());
                let file = Arc::new(Memory::new(storage.inner.to_vec()));
                let mut image = Changing { file, model: whole.model.clone(), ..whole.clone() };
                match done {
                    Ok(()) => image.model.resize(size as usize, 0),
                    Err(error) if error.kind() == Kind::Io => {
                        failed += 1;
                        image.settle(size, &name);
                    }
                    Err(error) => assert!(declined(&name, &error)),
                }
                image.judge(&name);
                if storage.left.load(Ordering::Relaxed).cast_signed() > 0 {
                    break;
                }
            }
        }
    }
    assert!(failed > 100, "{failed} reads failed");
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
