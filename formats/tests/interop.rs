//! What we write, others read; what others write, we read: the same bytes both ways.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use disks::{Dice, Variant, disk, variants};
use formats::{
    Access, Beneath, Caching, CompareOptions, Comparison, CopyOptions, Create, FORMATS, Format,
    Image, ImageFile, Limits, OpenOptions, Options, Result, compare,
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

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}

/// Runs it; it must succeed.
fn must(folder: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let done = run(folder, program, arguments);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program} {}: {out}{err}", arguments.join(" "));
    done.stdout
}

fn qcow2() -> &'static Format {
    formats::format("qcow2").unwrap()
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

    fn must(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        must(self.folder.path(), program, arguments)
    }

    fn open_as(&self, name: &str, snapshot: Option<&str>, format: &str) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let root = self.folder.path();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(Beneath::new(root, root, Access::Read)?);
        options.snapshot = snapshot.map(str::to_string);
        let source = ImageFile::open(&self.path(name), Access::Read, Caching::Writeback)?;
        formats::open(Arc::new(source), formats::format(format)?, &options)
    }

    fn open(&self, name: &str) -> Box<dyn Image> {
        self.open_as(name, None, "qcow2").unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    fn raw(&self, name: &str) -> Box<dyn Image> {
        self.open_as(name, None, "raw").unwrap()
    }

    /// Writes this disk as an image of ours.
    fn write(&self, name: &str, create: &Create, from: &dyn Image, base: Option<&dyn Image>) {
        let output = formats::Output::create(&self.path(name), Caching::Unsafe).unwrap();
        let writer = (qcow2().create.unwrap())(output.target(), create).unwrap();
        formats::copy(from, &*writer, &CopyOptions { base, ..Default::default() }).unwrap();
        drop(writer);
        output.commit().unwrap();
    }

    /// Ours, as qemu-img sees it: sound, and the same as the raw disk.
    fn qemu_agrees(&self, what: &str, name: &str) {
        let checked = run(self.folder.path(), "qemu-img", &["check", "-f", "qcow2", name]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(0), "{what}: {text}");
        let same = ["compare", "-f", "raw", "-F", "qcow2", "disk", name];
        let compared = run(self.folder.path(), "qemu-img", &same);
        let text = String::from_utf8_lossy(&compared.stdout).into_owned();
        assert!(compared.status.success(), "{what}: {text}");
    }

    /// An image of qemu's, as we see it: the same as the raw disk, and clean.
    fn we_agree(&self, what: &str, name: &str) {
        let (one, two) = (self.raw("disk"), self.open(name));
        let same = compare(&*one, &*two, &CompareOptions::default());
        assert_eq!(same.unwrap_or_else(|e| panic!("{what}: {e:?}")), Comparison::Same, "{what}");
        self.check(what, name);
    }

    fn check(&self, what: &str, name: &str) {
        let Some(check) = qcow2().check else { return };
        let source = ImageFile::open(&self.path(name), Access::Read, Caching::Writeback).unwrap();
        let mut findings = Vec::new();
        let tally =
            check(formats::Links::alone(Arc::new(source)), &Limits::default(), &mut |one| {
                findings.push(one);
            });
        assert!(tally.unwrap().is_clean(), "{what}: {findings:?}");
    }
}

/// Every option of qcow2 with every value, and so many mixtures that most pairs occur.
fn matrix(size: u64) -> Vec<Variant> {
    let list = variants(qcow2(), size);
    assert!(list.len() > 60, "{} variants", list.len());
    list
}

/// A variant's options, as qemu-img's -o takes them; `None` if it has one that qemu does not.
fn for_qemu(variant: &Variant) -> Option<String> {
    let mut words = Vec::new();
    for help in qcow2().options {
        if let Some(value) = variant.create.options.text(help.name) {
            if help.name.starts_with("compression_") && help.name != "compression_type" {
                return None;
            }
            words.push(format!("{}={value}", help.name));
        }
    }
    Some(if words.is_empty() { "compat=1.1".into() } else { words.join(",") })
}

#[test]
fn qemu_reads_every_variant_that_we_write() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(1, (3 << 20) + 512));
    let raw = place.raw("disk");
    for variant in matrix(raw.disk_size()) {
        place.write("image", &variant.create, &*raw, None);
        place.qemu_agrees(&variant.name, "image");
    }
}

#[test]
fn we_read_every_variant_that_qemu_writes() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(2, (2 << 20) + 1536));
    let mut written = 0;
    for variant in matrix((2 << 20) + 1536) {
        let Some(options) = for_qemu(&variant) else { continue };
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", &options];
        arguments.extend(variant.create.compress.then_some("-c"));
        arguments.extend(["disk", "image"]);
        // Some pairs qemu does not allow: those are not its images.
        if run(place.folder.path(), "qemu-img", &arguments).status.success() {
            place.we_agree(&variant.name, "image");
            written += 1;
        }
    }
    assert!(written > 40, "qemu wrote {written} variants");
}

#[test]
fn what_both_measure_is_what_both_need() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(3, 4 << 20));
    let raw = place.raw("disk");
    let create = Create { size: 4 << 20, ..Default::default() };
    place.write("ours", &create, &*raw, None);
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "disk", "theirs"]);
    let len = |name| place.path(name).metadata().unwrap().len();
    assert!(len("ours") <= len("theirs") + (64 << 10), "{} {}", len("ours"), len("theirs"));
}

/// A raw disk of this size, with a little data here and there.
fn sparse(place: &Place, size: u64) {
    let file = std::fs::File::create(place.path("disk")).unwrap();
    file.set_len(size).unwrap();
    let mut dice = Dice::new(size);
    for part in 0..6 {
        let mut bytes = vec![0; 70_000];
        dice.fill(&mut bytes);
        let at = (size - 70_000) / 5 * part;
        file.write_all_at(&bytes, at).unwrap();
    }
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_go_both_ways() {
    if !has("qemu-img") {
        return;
    }
    for (size, cluster) in [((4_u64 << 30) + 1536, "4k"), ((2 << 40) + 512, "64k")] {
        let place = Place::new();
        sparse(&place, size);
        let raw = place.raw("disk");
        for compress in [false, true] {
            let what = format!("{size} bytes, compressed: {compress}");
            let options = Options::new([("cluster_size".into(), cluster.into())]);
            let create = Create { size, compress, options, ..Default::default() };
            place.write("ours", &create, &*raw, None);
            place.qemu_agrees(&what, "ours");
            let option = format!("cluster_size={cluster}");
            let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", &option];
            arguments.extend(compress.then_some("-c"));
            arguments.extend(["disk", "theirs"]);
            place.must("qemu-img", &arguments);
            place.we_agree(&what, "theirs");
        }
    }
}

/// Two disks of which the second is the first with some changes, one of them to zeros.
fn old_and_new(place: &Place) {
    let old = disk(4, 1 << 20);
    let mut new = old.clone();
    new[100_000..140_000].fill(0x99);
    new[400_000..700_000].fill(0);
    new.resize((1 << 20) + 4096, 0);
    new[(1 << 20) + 100] = 1;
    place.put("old", &old);
    place.put("disk", &new);
}

#[test]
fn overlays_of_qemu_are_read_through() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    old_and_new(&place);
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-c", "old", "base"]);
    for (format, base) in [("raw", "old"), ("qcow2", "base")] {
        for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"] {
            let arguments =
                ["convert", "-f", "raw", "-O", "qcow2", "-o", options, "-B", base, "-F", format];
            place.must("qemu-img", &[&arguments[..], &["disk", "top"]].concat());
            place.we_agree(&format!("{options} over {format}"), "top");
        }
    }
}

#[test]
fn overlays_of_ours_are_read_through() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    old_and_new(&place);
    let (old, new) = (place.raw("old"), place.raw("disk"));
    for (key, value) in [
        ("compat", "1.1"),
        ("compat", "0.10"),
        ("cluster_size", "512"),
        ("extended_l2", "on"),
        ("cluster_size", "2M"),
    ] {
        for compress in [false, true] {
            let create = Create {
                size: new.disk_size(),
                compress,
                backing: Some(("old".into(), "raw".into())),
                options: Options::new([(key.into(), value.into())]),
                ..Default::default()
            };
            let what = format!("{key}={value} compressed: {compress}");
            place.write("top", &create, &*new, Some(&*old));
            place.qemu_agrees(&what, "top");
            place.we_agree(&what, "top");
        }
    }
}

#[test]
fn snapshots_of_qemu_are_read_as_they_were() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    let place = Place::new();
    for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"] {
        place.must("qemu-img", &["create", "-f", "qcow2", "-o", options, "image", "1M"]);
        for (turn, name) in ["one", "two"].iter().enumerate() {
            let write = format!("write -P {} {}k 300k", 0x51 + turn, turn * 150);
            place.must("qemu-io", &["-f", "qcow2", "-c", &write, "image"]);
            place.must("qemu-img", &["snapshot", "-c", name, "image"]);
            place.must("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", "image", name]);
        }
        place.must("qemu-io", &["-f", "qcow2", "-c", "write -P 0x61 0 1M", "image"]);
        // By name, and by the number that qemu gave it.
        for (state, asked) in [("one", "one"), ("two", "two"), ("one", "1"), ("two", "2")] {
            let then = place.open_as("image", Some(asked), "qcow2").unwrap();
            let same = compare(&*then, &*place.raw(state), &CompareOptions::default()).unwrap();
            assert_eq!(same, Comparison::Same, "{options} {asked}");
        }
        place.check(options, "image");
        std::fs::remove_file(place.path("image")).unwrap();
    }
}

#[test]
fn data_files_go_both_ways() {
    if !has("qemu-img") {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(5, (1 << 20) + 512));
    for raw in ["off", "on"] {
        let what = format!("data_file_raw={raw}");
        let options = format!("data_file=theirs.data,{what}");
        let arguments = ["convert", "-f", "raw", "-O", "qcow2", "-o", &options, "disk", "theirs"];
        place.must("qemu-img", &arguments);
        place.we_agree(&what, "theirs");
        let output = formats::Output::create(&place.path("ours.data"), Caching::Unsafe).unwrap();
        let create = Create {
            size: (1 << 20) + 512,
            data_file: Some(output.target()),
            options: Options::new([
                ("data_file".into(), "ours.data".into()),
                ("data_file_raw".into(), raw.into()),
            ]),
            ..Default::default()
        };
        place.write("ours", &create, &*place.raw("disk"), None);
        output.commit().unwrap();
        place.qemu_agrees(&what, "ours");
        place.we_agree(&what, "ours");
        if raw == "on" {
            let data = std::fs::read(place.path("ours.data")).unwrap();
            assert!(data == disk(5, (1 << 20) + 512), "it is the disk by itself");
        }
    }
}

#[test]
fn clusters_that_were_zeroed_discarded_or_written_in_part_are_read_as_qemu_reads_them() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    let place = Place::new();
    let mut dice = Dice::new(6);
    for options in [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=2M",
        "preallocation=metadata",
        "preallocation=full,cluster_size=4k",
        "refcount_bits=1",
        "refcount_bits=64,cluster_size=512",
        "lazy_refcounts=on",
    ] {
        place.must("qemu-img", &["create", "-f", "qcow2", "-o", options, "image", "3M"]);
        let mut commands: Vec<String> = Vec::new();
        for _ in 0..30 {
            let start = dice.below(6000) * 512;
            let len = (1 + dice.below(200)) * 512;
            let len = len.min((3 << 20) - start);
            let deed = match dice.below(4) {
                0 => "write -z".to_string(),
                1 => "discard".to_string(),
                _ => format!("write -P {}", 1 + dice.below(255)),
            };
            commands.extend(["-c".into(), format!("{deed} {start} {len}")]);
        }
        let mut arguments = vec!["-f", "qcow2"];
        arguments.extend(commands.iter().map(String::as_str));
        arguments.push("image");
        place.must("qemu-io", &arguments);
        place.must("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", "image", "disk"]);
        place.we_agree(options, "image");
    }
}

/// Whether a second reader finds the same bytes in images of ours.
fn second_opinion(variants: &[Variant], read: impl Fn(&Place) -> Vec<u8>) {
    let place = Place::new();
    let bytes = disk(7, 2 << 20);
    place.put("disk", &bytes);
    let raw = place.raw("disk");
    for variant in variants {
        place.write("image.qcow2", &variant.create, &*raw, None);
        assert!(read(&place) == bytes, "{}", variant.name);
    }
}

#[test]
fn seven_zip_reads_what_we_write() {
    if !has("7zz") {
        return;
    }
    let plain = |variant: &Variant| {
        let options = &variant.create.options;
        // It knows neither zstd nor extended L2.
        options.text("compression_type") != Some("zstd")
            && options.text("extended_l2") != Some("on")
    };
    let list: Vec<_> = matrix(2 << 20).into_iter().filter(plain).step_by(3).collect();
    second_opinion(&list, |place| place.must("7zz", &["x", "-so", "-tqcow", "image.qcow2"]));
}

#[test]
fn libqcow_reads_what_we_write_in_version_2() {
    if !has("qcowmount") {
        return;
    }
    let old = |variant: &Variant| variant.create.options.text("compat") == Some("0.10");
    let list: Vec<_> = matrix(2 << 20).into_iter().filter(old).take(6).collect();
    assert!(!list.is_empty());
    let mount = tempfile::tempdir().unwrap();
    let at = mount.path().to_str().unwrap();
    let place = Place::new();
    let bytes = disk(8, 2 << 20);
    place.put("disk", &bytes);
    for variant in list {
        place.write("image.qcow2", &variant.create, &*place.raw("disk"), None);
        if !run(place.folder.path(), "qcowmount", &["image.qcow2", at]).status.success() {
            eprintln!("skipped: qcowmount cannot mount here");
            return;
        }
        let read = std::fs::read(mount.path().join("qcow1"));
        // Busy for a moment, if another trial starts a program just now.
        let down = |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            run(place.folder.path(), "umount", &[at]).status.success()
        };
        assert!((0..100).any(down), "{at} stays busy");
        assert!(read.unwrap() == bytes, "{}", variant.name);
    }
}
