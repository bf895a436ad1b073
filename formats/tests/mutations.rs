//! Every good image, changed a little: each byte of its headers, each entry of its tables. What is
//! read then is right, or something is said. Images that are cut are tried in hostile.rs.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "figures are for people")]

mod disks;
mod tables;

use std::sync::Arc;

use disks::{Good, goods, read_all};
use formats::{FORMATS, Format, Image, Kind, Limits, Links, OpenOptions, Result, Source, Window};
use tables::{Field, Patch, headers, mended, tables};

/// As much of a disk as is compared in one go.
const PART: usize = 64 << 10;

/// A good image, and what it holds.
struct Specimen {
    good: Good,
    format: &'static Format,
    bytes: Arc<Vec<u8>>,
    content: Vec<u8>,
    /// What is said of it as it is.
    told: Vec<String>,
}

fn specimens() -> Vec<Specimen> {
    let alone = goods().into_iter().filter(Good::stands_alone);
    let specimen = |good: Good| {
        let format = formats::format(good.fact("format")).unwrap();
        let bytes = Arc::new(good.bytes.clone());
        let source = Arc::new(Changed { bytes: bytes.clone(), with: Vec::new() });
        let content = read_all(&*disks::open(source.clone(), format).unwrap()).unwrap();
        let told = told(&source, format).unwrap();
        Specimen { good, format, bytes, content, told }
    };
    alone.map(specimen).collect()
}

/// An image with other bytes at some places; the rest of it is not copied.
struct Changed {
    bytes: Arc<Vec<u8>>,
    with: Vec<Patch>,
}

impl Source for Changed {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let len = buf.len().min(self.bytes.len() - from);
        buf[..len].copy_from_slice(&self.bytes[from..from + len]);
        for (at, patch) in &self.with {
            let (start, end) = (from.max(*at), (from + len).min(at + patch.len()));
            if start < end {
                buf[start - from..end - from].copy_from_slice(&patch[start - at..end - at]);
            }
        }
        Ok(len)
    }
}

/// What an inspection and a check say of an image.
fn told(source: &Arc<Changed>, format: &'static Format) -> Result<Vec<String>> {
    let limits = Limits::default();
    let window: &dyn Window = &**source;
    let hazards = (format.inspect)(window, &limits)?.hazards;
    let mut told: Vec<_> = hazards.into_iter().map(|hazard| hazard.what).collect();
    if let Some(check) = format.check {
        check(Links::alone(source.clone()), &limits, &mut |finding| told.push(finding.what))?;
    }
    Ok(told)
}

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// An error says so.
    Refused,
    /// The disk is the same.
    Same,
    /// A hazard or a finding says so.
    Told,
    /// The disk is another one, and nobody says so: its size, and where it differs.
    Silent { size: u64, at: usize },
}

/// Where two disks differ.
fn difference(image: &dyn Image, content: &[u8]) -> Result<Option<usize>> {
    let same_size = image.disk_size() == content.len() as u64;
    let most = content.len().min(usize::try_from(image.disk_size()).unwrap_or(usize::MAX));
    let mut part = vec![0; PART];
    for start in (0..most).step_by(PART) {
        let len = PART.min(most - start);
        image.read(start as u64, &mut part[..len])?;
        if part[..len] != content[start..start + len] {
            let first = (0..len).find(|index| part[*index] != content[start + index]);
            return Ok(first.map(|first| start + first));
        }
    }
    Ok((!same_size).then_some(most))
}

fn look(specimen: &Specimen, source: &Arc<Changed>) -> Result<Outcome> {
    let limits = Limits::default();
    let options = OpenOptions::new(FORMATS, &limits);
    let image = formats::open(source.clone(), specimen.format, &options)?;
    for promise in image.promises() {
        promise.keep(&|| Ok(()))?;
    }
    let size = image.disk_size();
    Ok(match difference(&*image, &specimen.content)? {
        None => Outcome::Same,
        Some(at) => {
            let told = told(source, specimen.format)?;
            match told.iter().any(|what| !specimen.told.contains(what)) {
                true => Outcome::Told,
                false => Outcome::Silent { size, at },
            }
        }
    })
}

/// What comes of an image with other bytes at these places.
fn outcome(specimen: &Specimen, with: Vec<Patch>) -> Outcome {
    let source = Arc::new(Changed { bytes: specimen.bytes.clone(), with });
    look(specimen, &source).unwrap_or_else(|error| {
        assert_ne!(error.kind(), Kind::Awaiting, "{}: {error:?}", specimen.good.name);
        Outcome::Refused
    })
}

/// Counts of what came of the changes.
#[derive(Default)]
struct Counts {
    refused: u64,
    same: u64,
    told: u64,
    lawful: u64,
    wrong: Vec<String>,
}

impl Counts {
    fn count(&mut self, outcome: &Outcome, lawful: bool, what: impl FnOnce() -> String) {
        match outcome {
            Outcome::Refused => self.refused += 1,
            Outcome::Same => self.same += 1,
            Outcome::Told => self.told += 1,
            Outcome::Silent { .. } if lawful => self.lawful += 1,
            Outcome::Silent { .. } => self.wrong.push(format!("{}: {outcome:?}", what())),
        }
    }

    #[track_caller]
    fn finish(self, what: &str) {
        let Counts { refused, same, told, lawful, wrong } = self;
        let all = refused + same + told + lawful + wrong.len() as u64;
        eprintln!(
            "{what}: {all} changes; {refused} refused, {same} made no difference, {told} told \
             of, {lawful} lawful"
        );
        assert!(wrong.is_empty(), "{} in silence:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn a_changed_byte_of_a_header_is_right_or_said() {
    let mut counts = Counts::default();
    for specimen in specimens() {
        for Field { at, lawful } in headers(specimen.format.name, &specimen.bytes) {
            for flip in [0xff, 0x01] {
                let outcome = outcome(&specimen, vec![(at, vec![specimen.bytes[at] ^ flip])]);
                counts.count(&outcome, lawful, || {
                    format!("{} byte {at:#x} ^ {flip:#x}", specimen.good.name)
                });
            }
        }
    }
    counts.finish("bytes of headers");
}

#[test]
fn a_changed_byte_behind_a_sum_that_was_mended_is_right_or_said() {
    let mut counts = Counts::default();
    for specimen in specimens() {
        let name = specimen.format.name;
        for Field { at, .. } in headers(name, &specimen.bytes) {
            for flip in [0xff, 0x01] {
                let Some(with) = mended(name, &specimen.bytes, at, flip) else { continue };
                let (part, _) = with[0];
                let outcome = outcome(&specimen, with);
                counts.count(&outcome, says_what_is_there(name, at, part), || {
                    format!("{} byte {at:#x} ^ {flip:#x}, mended", specimen.good.name)
                });
            }
        }
    }
    counts.finish("bytes of headers, with their sums mended");
}

/// Whether a byte, under a sum that is right, gives another sound image: where it says how large
/// the disk is, or which stretches of it are stored.
fn says_what_is_there(format: &str, at: usize, part: usize) -> bool {
    match format {
        "vhd" => (part..part + 512).contains(&at) && (48..60).contains(&(at - part)),
        "gcp" => (124..136).contains(&at) || (386..496).contains(&at),
        _ => false,
    }
}

#[test]
fn a_changed_entry_of_a_table_is_right_or_said() {
    let mut counts = Counts::default();
    for specimen in specimens() {
        for table in tables(specimen.format.name, &specimen.bytes) {
            for index in table.some() {
                for (what, value) in table.values() {
                    let (at, with) = table.entry(index, value);
                    let outcome = outcome(&specimen, vec![(at, with)]);
                    let lawful = table.empties(value);
                    counts.count(&outcome, lawful, || {
                        let (name, table) = (&specimen.good.name, table.name);
                        format!("{name}: entry {index} of the {table}, {what}")
                    });
                }
            }
        }
    }
    counts.finish("entries of tables");
}
