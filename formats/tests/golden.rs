//! One trial per image of testdata/good: it is what its facts say.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;

use std::sync::Arc;

use disks::{goods, hex, read_all};
use formats::{FORMATS, Limits, Memory, OpenOptions};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn every_good_image_holds_the_disk_that_its_facts_tell_of() {
    for good in goods().into_iter().filter(disks::Good::stands_alone) {
        let source = Arc::new(Memory::new(good.bytes.clone()));
        let format = formats::probe(FORMATS, &*source).unwrap();
        assert_eq!(format.name, good.fact("format"), "{}", good.name);
        let limits = Limits::default();
        let facts = (format.inspect)(&*source, &limits).unwrap();
        assert_eq!(facts.disk_size.to_string(), good.fact("disk_size"), "{}", good.name);
        let states = good.facts.iter().filter_map(|(key, sum)| {
            let name = key.strip_prefix("snapshot.");
            (key == "sha256" || name.is_some()).then_some((name, sum))
        });
        for (snapshot, sum) in states {
            let mut options = OpenOptions::new(FORMATS, &limits);
            options.snapshot = snapshot.map(str::to_string);
            let disk = formats::open(source.clone(), format, &options).unwrap();
            let bytes = read_all(&*disk).unwrap();
            assert_eq!(&sha256(&bytes), sum, "{} {snapshot:?}", good.name);
        }
        let listed = good.facts.iter().filter(|(key, _)| key.starts_with("snapshot.")).count();
        assert_eq!(facts.snapshots.len(), listed, "{}", good.name);
    }
}

#[test]
fn every_good_image_passes_its_check() {
    for good in goods() {
        let Some(check) = formats::format(good.fact("format")).unwrap().check else { continue };
        let mut findings = Vec::new();
        let source = Arc::new(Memory::new(good.bytes.clone()));
        let tally = check(formats::Links::alone(source), &Limits::default(), &mut |finding| {
            findings.push(finding);
        });
        // What others write may lack something, which is then to be found.
        let known = good.facts.iter().find(|(key, _)| key == "corruptions");
        let mut tally = tally.unwrap();
        let found = std::mem::take(&mut tally.corruptions);
        assert_eq!(found.to_string(), known.map_or("0", |(_, n)| n), "{}", good.name);
        assert!(tally.is_clean(), "{}: {findings:?}", good.name);
    }
}

#[test]
fn every_format_that_can_be_read_has_good_images() {
    let goods = goods();
    for format in FORMATS {
        let has = goods.iter().any(|good| good.fact("format") == format.name);
        assert!(has, "testdata/good has no {}", format.name);
    }
}
