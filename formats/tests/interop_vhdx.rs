//! VHDX: what others write, we read; what we write, others read: the same bytes both ways.
//!
//! qemu-img writes regions that are not marked as required, and zeros where a fixed image has
//! blocks; it does not read 4096-byte sectors, parents, or a log without writing to the file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use disks::{Dice, disk};
use formats::{
    Access, Beneath, Caching, CompareOptions, Comparison, FORMATS, Finding, Format, Image,
    ImageFile, Limits, OpenOptions, Result, compare,
};
use tempfile::TempDir;

/// Whether a program is there; if not, says that a test is skipped.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--help").output().is_ok();
    if !there {
        eprintln!("skipped: there is no {program} here");
    }
    there
}

fn vhdx() -> &'static Format {
    formats::format("vhdx").unwrap()
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let folder: &Path = self.folder.path();
        Command::new(program).args(arguments).current_dir(folder).output().unwrap()
    }

    /// Runs it; it must succeed.
    fn must(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let done = self.run(program, arguments);
        let text = [&done.stdout[..], &done.stderr[..]].map(String::from_utf8_lossy).concat();
        assert!(done.status.success(), "{program} {}: {text}", arguments.join(" "));
        done.stdout
    }

    fn open_as(&self, name: &str, format: &str) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let root = self.folder.path();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(Beneath::new(root, root, Access::Read)?);
        let source = ImageFile::open(&self.path(name), Access::Read, Caching::Writeback)?;
        formats::open(Arc::new(source), formats::format(format)?, &options)
    }

    fn open(&self, name: &str) -> Box<dyn Image> {
        self.open_as(name, "vhdx").unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    fn raw(&self, name: &str) -> Box<dyn Image> {
        self.open_as(name, "raw").unwrap()
    }

    /// The disk of an image is that of the raw file `disk`.
    fn we_agree(&self, what: &str, name: &str) {
        let (one, two) = (self.raw("disk"), self.open(name));
        let same = compare(&*one, &*two, &CompareOptions::default());
        assert_eq!(same.unwrap_or_else(|e| panic!("{what}: {e:?}")), Comparison::Same, "{what}");
    }

    fn findings(&self, name: &str) -> Vec<Finding> {
        let source = ImageFile::open(&self.path(name), Access::Read, Caching::Writeback).unwrap();
        let links = formats::Links::alone(Arc::new(source));
        let mut findings = Vec::new();
        let Some(check) = vhdx().check else { return findings };
        check(links, &Limits::default(), &mut |one| findings.push(one)).unwrap();
        findings
    }

    /// A raw disk of this size, with a little data here and there.
    fn sparse(&self, size: u64) {
        let file = std::fs::File::create(self.path("disk")).unwrap();
        file.set_len(size).unwrap();
        let mut dice = Dice::new(size);
        for part in 0..6 {
            let mut bytes = vec![0; 70_000];
            dice.fill(&mut bytes);
            let at = (size - 70_000) / 5 * part;
            file.write_all_at(&bytes, at).unwrap();
        }
    }
}

#[test]
fn we_read_every_variant_that_qemu_writes() {
    if !has("qemu-img") {
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
            place.we_agree(&format!("{size} {options}"), "image");
        }
    }
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_of_qemu_are_read() {
    if !has("qemu-img") {
        return;
    }
    for (size, options) in [
        ((4_u64 << 30) + 1536, "block_size=1M"),
        ((13 << 30) + 512, "block_size=8M"),
        ((9 << 30) + 4096, "block_size=32M,block_state_zero=off"),
        ((2 << 40) + 512, "block_size=64M"),
    ] {
        let place = Place::new();
        place.sparse(size);
        let arguments = ["convert", "-f", "raw", "-O", "vhdx", "-o", options, "disk", "image"];
        place.must("qemu-img", &arguments);
        place.we_agree(&format!("{size} {options}"), "image");
    }
}

#[test]
fn blocks_that_were_written_in_any_order_are_read_as_qemu_reads_them() {
    if !has("qemu-img") || !has("qemu-io") {
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
        place.we_agree(options, "image");
        let log = place.findings("image");
        assert!(log.iter().all(|finding| finding.what.contains("required")), "{log:?}");
    }
}
