//! Every image of testdata/bad: what must come of it does, and whatever else is done with it ends
//! soon and without a panic.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "figures are for people")]

mod disks;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use disks::{Good, bads, read_all};
use formats::{
    Access, Beneath, Caching, FORMATS, Facts, Finding, Format, Image, ImageFile, Ingest, Kind,
    Limits, Links, Memory, OpenOptions, Result, Severity, Source, Survey,
};
use sha2::{Digest, Sha256};

/// Bytes that may be read of a file, for each that it has, and in any case: what is done with a
/// file is a few looks over it.
const LOOKS: u64 = 100;
const FLOOR: u64 = 64 << 20;
/// As much of a disk as is read in one go.
const PART: u64 = 64 << 10;

/// Bytes in memory, and how often one of them was asked for.
struct Counted {
    bytes: Memory,
    read: AtomicU64,
    calls: AtomicU64,
}

impl Counted {
    fn new(bytes: &[u8]) -> Arc<Counted> {
        let (read, calls) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Counted { bytes: Memory::new(bytes), read, calls })
    }
}

impl Source for Counted {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = self.bytes.read_at(offset, buf)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(len)
    }
}

/// What came of a deed: the kind that it failed with, or what was told, or `right`.
fn outcome(result: Result<Vec<String>>) -> Vec<String> {
    match result {
        Err(error) => vec![error.kind().name().into()],
        Ok(told) if told.is_empty() => vec!["right".into()],
        Ok(told) => told,
    }
}

fn format(bad: &Good) -> Option<&'static Format> {
    formats::format(bad.fact("format")).ok()
}

fn facts(source: &dyn Source, format: &'static Format) -> Result<Facts> {
    (format.inspect)(source, &Limits::default())
}

fn open(source: Arc<dyn Source>, format: &'static Format, strict: bool) -> Result<Box<dyn Image>> {
    let limits = Limits::default();
    let options = OpenOptions { strict, ..OpenOptions::new(FORMATS, &limits) };
    formats::open(source, format, &options)
}

/// All bytes of a disk that is small, and what was promised of them.
fn read(source: Arc<dyn Source>, format: &'static Format) -> Result<Vec<u8>> {
    let image = open(source, format, false)?;
    for promise in image.promises() {
        promise.keep(&|| Ok(()))?;
    }
    assert!(image.disk_size() <= 256 << 20, "a disk to be read is small");
    read_all(&*image)
}

/// What a check finds, in words.
fn findings(source: Arc<dyn Source>, format: &'static Format) -> Result<Vec<String>> {
    let Some(check) = format.check else { return Ok(Vec::new()) };
    let mut words = Vec::new();
    let mut find = |finding: Finding| {
        let word = match finding.severity {
            Severity::Corruption => "finding: corruption",
            Severity::Leak => "finding: leak",
            Severity::Unreadable => "finding: unreadable",
        };
        if !words.iter().any(|there| there == word) {
            words.push(word.to_string());
        }
    };
    check(Links::alone(source), &Limits::default(), &mut find)?;
    Ok(words)
}

fn entries(source: &dyn Source, format: &'static Format) -> Result<u64> {
    let Some(entries) = format.entries else { return Ok(0) };
    let mut count = 0;
    entries(source, &Limits::default(), &mut |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn hazards(facts: &Facts) -> Vec<String> {
    facts.hazards.iter().map(|hazard| format!("hazard: {}", hazard.kind.name())).collect()
}

/// Opens an image with the files beside it, and names in it followed to them.
fn follow(bad: &Good, all: &[Good], format: &'static Format) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path(&bad.name), &bad.bytes).unwrap();
    let beside = bad.facts.iter().find(|(key, _)| key == "beside");
    for name in beside.iter().flat_map(|(_, names)| names.split(' ')) {
        let other = all.iter().find(|other| other.name == name).expect("a file of testdata/bad");
        std::fs::write(path(name), &other.bytes).unwrap();
    }
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    options.resolver = Arc::new(Beneath::new(folder.path(), folder.path(), Access::Read)?);
    let source = ImageFile::open(&path(&bad.name), Access::Read, Caching::Writeback)?;
    formats::open(Arc::new(source), format, &options).map(drop)
}

/// Compression is taken off; what is inside is looked at.
fn unwrapped(source: Arc<dyn Source>) -> Result<Vec<String>> {
    let limits = Limits { max_output: 64 << 20, max_disk_size: 1 << 30, ..Limits::default() };
    let source = formats::unwrapped(source, FORMATS, &limits)?;
    let format = formats::probe(FORMATS, &*source)?;
    Ok(hazards(&facts(&*source, format)?))
}

/// Does with an image what its facts say, and tells what came of it.
fn judge(bad: &Good, all: &[Good]) -> Vec<String> {
    let source: Arc<dyn Source> = Arc::new(Memory::new(bad.bytes.clone()));
    let nothing = |()| Vec::new();
    let deed = bad.fact("deed");
    if deed == "unwrap" {
        return outcome(unwrapped(source));
    }
    let format = format(bad).expect("a format that is known");
    outcome(match deed {
        "probe" => formats::probe(FORMATS, &*source).map(|found| {
            assert_eq!(found.name, format.name, "{}", bad.name);
            Vec::new()
        }),
        "inspect" => facts(&*source, format).map(|facts| hazards(&facts)),
        "entries" => entries(&*source, format).map(|_| Vec::new()),
        "open" => open(source, format, false).map(|_| Vec::new()),
        "strict" => open(source, format, true).map(|_| Vec::new()),
        "read" => read(source, format).map(|_| Vec::new()),
        "raw" => read(source, format).map(|bytes| {
            assert!(format.name == "raw" && bytes == bad.bytes, "{}", bad.name);
            Vec::new()
        }),
        "survey" => open(source, format, false)
            .and_then(|image| Survey::of(&*image, &Limits::default()))
            .map(|_| Vec::new()),
        "check" => findings(source, format),
        "follow" => follow(bad, all, format).map(nothing),
        other => panic!("{}: there is no deed '{other}'", bad.name),
    })
}

#[test]
fn every_bad_image_comes_to_what_is_written_beside_it() {
    let all = bads();
    let mut wrong = Vec::new();
    for bad in &all {
        let (told, wanted) = (judge(bad, &all), bad.fact("kind"));
        if !told.iter().any(|word| word == wanted) {
            let deed = bad.fact("deed");
            wrong.push(format!("{}: {deed} gives {}, not {wanted}", bad.name, told.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn no_bad_image_passes_for_a_raw_disk() {
    let images = bads().into_iter().filter(|bad| format(bad).is_some_and(|f| f.name != "raw"));
    for bad in images {
        let probed = formats::probe(FORMATS, &Memory::new(bad.bytes)).map(|format| format.name);
        assert_ne!(probed.ok(), Some("raw"), "{}", bad.name);
    }
}

/// The end of a stream that is pushed in pieces of this size, as an inspection sees it.
fn passing(bytes: &[u8], formats: &[&'static Format], piece: usize) -> Result<Facts> {
    let mut ingest = Ingest::new(formats, Limits::default());
    for piece in bytes.chunks(piece) {
        ingest.push(piece)?;
    }
    ingest.finish()
}

#[test]
fn a_bad_image_that_goes_by_is_no_better_than_one_that_stays() {
    for bad in bads() {
        let Some(format) = format(&bad) else { continue };
        let source = Memory::new(bad.bytes.clone());
        if !(format.probe)(&source).unwrap_or(false) {
            continue;
        }
        let here = facts(&source, format).map(|facts| hazards(&facts));
        for piece in [509, 70_001] {
            let went = passing(&bad.bytes, &[format], piece).map(|facts| hazards(&facts));
            let back = |error: &formats::Error| error.kind() == Kind::Unsupported;
            match (&here, &went) {
                (Ok(here), Ok(went)) => assert_eq!(here, went, "{} by {piece}", bad.name),
                (Err(here), Err(went)) => {
                    let same = here.kind() == went.kind() || back(went);
                    assert!(same, "{}: {here:?} and {went:?}", bad.name);
                }
                // What lies behind is gone by when it is wanted: that is said.
                (Ok(_), Err(went)) => assert!(back(went), "{}: {went:?}", bad.name),
                (Err(here), Ok(_)) => panic!("{} by {piece}: {here:?} is not noticed", bad.name),
            }
        }
    }
}

/// Everything that a program would do with an image, and a little of everything in it.
fn all_deeds(source: &Arc<Counted>, format: &'static Format) {
    let limits = Limits::default();
    let shared: Arc<dyn Source> = source.clone();
    let _ = formats::probe(FORMATS, &*shared);
    let _ = facts(&*shared, format);
    let _ = entries(&*shared, format);
    let _ = findings(shared.clone(), format);
    let _ = open(shared.clone(), format, true).map(drop);
    if let Some(likeness) = format.likeness {
        let _ = likeness(&*shared, &limits);
    }
    let Ok(disk) = open(shared, format, false) else { return };
    let _ = Survey::of(&*disk, &limits);
    for extent in disk.walk(0, disk.disk_size()).take(1000) {
        let Ok(extent) = extent else { break };
        let mut bytes = vec![0; usize::try_from(extent.len.min(PART)).unwrap()];
        let _ = disk.read(extent.start, &mut bytes);
    }
}

#[test]
fn whatever_is_done_with_a_bad_image_reads_it_a_few_times_at_most() {
    let (mut most, mut calls) = ((0, String::new()), (0, String::new()));
    let all = bads();
    for bad in &all {
        let source = Counted::new(&bad.bytes);
        let formats: Vec<_> = format(bad).map_or(FORMATS.to_vec(), |format| vec![format]);
        for format in formats {
            all_deeds(&source, format);
        }
        let read = source.read.load(Ordering::Relaxed);
        let bound = (bad.bytes.len() as u64 * LOOKS).max(FLOOR);
        assert!(read <= bound, "{}: {read} bytes read of {}", bad.name, bad.bytes.len());
        most = most.max((read, bad.name.clone()));
        calls = calls.max((source.calls.load(Ordering::Relaxed), bad.name.clone()));
    }
    assert!(calls.0 < 5_000_000, "{calls:?}");
    eprintln!("{} images; most bytes read {most:?}; most reads {calls:?}", all.len());
}

#[test]
fn every_bad_image_is_what_its_recipe_makes() {
    let recipe = disks::testdata().join("bad.py");
    let made = Command::new("python3").arg(recipe).arg("--digests").output();
    let Ok(made) = made else { return eprintln!("skipped: there is no python3 here") };
    let text = String::from_utf8(made.stdout).unwrap();
    let made: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let made: BTreeMap<_, _> = made.into_iter().map(|(digest, name)| (name, digest)).collect();
    let all = bads();
    assert_eq!(made.len(), all.len());
    // What packers write differs a little from version to version.
    let packs = ["gzip", "xz", "bzip2", "vmdk", "qcow"];
    for bad in all.iter().filter(|bad| !packs.iter().any(|program| bad.name.starts_with(program))) {
        let digest = disks::hex(&Sha256::digest(&bad.bytes));
        assert_eq!(made.get(&*bad.name), Some(&&*digest), "{}", bad.name);
    }
}

#[test]
fn every_attack_has_a_story_and_a_class() {
    const CLASSES: [&str; 19] = [
        "bomb",
        "control-characters",
        "count",
        "cycle",
        "declared-raw",
        "encryption-cost",
        "escape",
        "manifest",
        "mismatch",
        "overflow",
        "overlap",
        "past-the-end",
        "polyglot",
        "protocol",
        "reference",
        "table-size",
        "truncation",
        "write-primitive",
        "xml",
    ];
    let mut size = 0;
    for bad in bads() {
        assert!(CLASSES.contains(&bad.fact("class")), "{}: {}", bad.name, bad.fact("class"));
        assert!(bad.fact("story").ends_with('.'), "{} has no story", bad.name);
        let folder = disks::testdata().join("bad").join(bad.fact("format"));
        let packed = folder.join(format!("{}.zst", bad.name)).metadata().unwrap().len();
        assert!(packed < 64 << 10, "{} has {packed} bytes", bad.name);
        size += packed;
    }
    assert!(size < 800 << 10, "testdata/bad has {size} bytes");
}
