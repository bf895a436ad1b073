//! QEMU's older formats, qcow and QED, that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;

use std::sync::Arc;

use disks::{open, read_all};
use formats::{Facts, Finding, Kind, Limits, Links, Memory, Result, Severity, Tally};

/// The bytes of an image, with the name of its format.
#[derive(Clone)]
struct Image(&'static str, Vec<u8>);

impl Image {
    /// 64 KiB of disk in clusters of 4 KiB, of which two are there: one plain, one compressed.
    fn qcow() -> Image {
        let mut this = Image("qcow", vec![0; 5 * 4096]);
        this.put(0, b"QFI\xfb\0\0\0\x01").put(24, &(64_u64 << 10).to_be_bytes());
        this.put(32, &[12, 9]).put(40, &48_u64.to_be_bytes());
        this.be(48, 4096).be(4096, 8192);
        this.1[8192..12_288].fill(7);
        // 4096 zeros, deflated.
        let packed = *b"\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7Om\x0f\x07\x14\0\0\0\xf0n";
        let word = 1 << 63 | (packed.len() as u64) << 51 | 0x3000;
        this.put(12_288, &packed).be(4104, word);
        this
    }

    /// 64 KiB of disk in clusters of 4 KiB, of which two are there.
    fn qed() -> Image {
        let mut this = Image("qed", vec![0; 5 * 4096]);
        this.put(0, b"QED\0").put(4, &4096_u32.to_le_bytes());
        this.put(8, &1_u32.to_le_bytes()).put(12, &1_u32.to_le_bytes());
        this.le(40, 4096).le(48, 64 << 10);
        this.le(4096, 8192).le(8192, 12_288).le(8200, 16_384).le(8208, 1);
        this.1[12_288..16_384].fill(7);
        this.1[16_384..].fill(8);
        this
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.1[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn be(&mut self, at: usize, word: u64) -> &mut Self {
        self.put(at, &word.to_be_bytes())
    }

    fn le(&mut self, at: usize, word: u64) -> &mut Self {
        self.put(at, &word.to_le_bytes())
    }

    /// The same with other bytes here.
    fn with(&self, at: usize, bytes: &[u8]) -> Image {
        let mut other = self.clone();
        other.put(at, bytes);
        other
    }

    fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.1.clone()))
    }

    fn facts(&self) -> Result<Facts> {
        (formats::format(self.0)?.inspect)(&*self.source(), &Limits::default())
    }

    fn read(&self) -> Result<Vec<u8>> {
        read_all(&*open(self.source(), formats::format(self.0)?)?)
    }

    fn kind(&self) -> Kind {
        self.read().map(drop).expect_err("it is damaged").kind()
    }

    fn check(&self) -> (Tally, Vec<Finding>) {
        let check = formats::format(self.0).unwrap().check.unwrap();
        let mut findings = Vec::new();
        let links = Links::alone(self.source());
        let tally = check(links, &Limits::default(), &mut |finding| findings.push(finding));
        (tally.unwrap(), findings)
    }
}

#[test]
fn the_images_that_are_damaged_below_are_sound_before() {
    for (image, allocated) in [(Image::qcow(), 2), (Image::qed(), 2)] {
        let bytes = image.read().unwrap();
        assert!(bytes.len() == 64 << 10 && bytes[..4096] == [7; 4096], "{}", image.0);
        let (tally, findings) = image.check();
        assert!(tally.is_clean(), "{}: {findings:?}", image.0);
        assert_eq!((tally.allocated_clusters, tally.total_clusters), (allocated, 16));
    }
}

#[test]
fn numbers_of_a_qcow_header_that_cannot_be_are_refused() {
    use Kind::{Malformed, Truncated, Unsupported};
    let sound = Image::qcow();
    let cases: &[(&str, usize, &[u8], Kind)] = &[
        ("clusters of 256 bytes", 32, &[8], Malformed),
        ("cluster_bits 17", 32, &[17], Malformed),
        ("cluster_bits 63", 32, &[63], Malformed),
        ("cluster_bits 255", 32, &[255], Malformed),
        ("l2_bits 5", 33, &[5], Malformed),
        ("l2_bits 14", 33, &[14], Malformed),
        ("l2_bits 255", 33, &[255], Malformed),
        ("encryption 2", 36, &[0, 0, 0, 2], Unsupported),
        ("AES", 36, &[0, 0, 0, 1], Unsupported),
        ("an L1 table over the header", 40, &[0; 8], Malformed),
        ("an L1 table at an odd byte", 47, &[49], Malformed),
        ("an L1 table past the end", 44, &[1, 0, 0, 0], Truncated),
        ("an L1 table at the end of all offsets", 40, &[255; 7], Truncated),
        ("a name of 4 GiB", 8, &[0, 0, 0, 0, 0, 0, 0, 56, 255, 255, 255, 255], Malformed),
        ("a name of 1024 bytes", 8, &[0, 0, 0, 0, 0, 0, 0, 56, 0, 0, 4, 0], Malformed),
        ("a name past the end", 8, &[0, 0, 0, 1, 0, 0, 0, 56, 0, 0, 0, 9], Truncated),
        ("a name at the end of all offsets", 8, &[255; 8], Malformed),
    ];
    for (what, at, bytes, kind) in cases {
        let mut image = sound.with(*at, bytes);
        if *at == 8 && bytes.len() == 8 {
            image.put(16, &9_u32.to_be_bytes());
        }
        assert_eq!(image.kind(), *kind, "{what}");
    }
    for size in [1_u64 << 40, 1 << 59] {
        assert_eq!(sound.with(24, &size.to_be_bytes()).kind(), Truncated, "tables for {size}");
    }
    assert_eq!(sound.with(24, &[255; 8]).kind(), Kind::Limit, "a disk of 2^64 bytes");
}

#[test]
fn numbers_of_a_qed_header_that_cannot_be_are_refused() {
    use Kind::{Malformed, Truncated, Unsupported};
    let sound = Image::qed();
    let words: &[(&str, usize, u32, Kind)] = &[
        ("clusters of 2 KiB", 4, 2048, Malformed),
        ("clusters of 5000 bytes", 4, 5000, Malformed),
        ("clusters of 128 MiB", 4, 1 << 27, Malformed),
        ("clusters of no bytes", 4, 0, Malformed),
        ("tables of no cluster", 8, 0, Malformed),
        ("tables of 3 clusters", 8, 3, Malformed),
        ("tables of 32 clusters", 8, 32, Malformed),
        ("tables of 2^32 - 1 clusters", 8, u32::MAX, Malformed),
        ("a header of no cluster", 12, 0, Malformed),
        ("a header of 2^32 - 1 clusters", 12, u32::MAX, Malformed),
        ("a header over the tables", 12, 2, Malformed),
        ("an unknown feature", 16, 8, Unsupported),
        ("an unknown feature, the last", 20, 1 << 31, Unsupported),
        ("an L1 table over the header", 40, 0, Malformed),
        ("an L1 table inside a cluster", 40, 4104, Malformed),
        ("an L1 table past the end", 40, 1 << 20, Truncated),
        ("a disk of 100 bytes", 48, 100, Malformed),
        ("a disk of more than its tables reach", 52, 1, Malformed),
    ];
    for (what, at, word, kind) in words {
        assert_eq!(sound.with(*at, &word.to_le_bytes()).kind(), *kind, "{what}");
    }
    for (offset, len) in [(64, u32::MAX), (64, 1024), (4000, 97), (u32::MAX, 1)] {
        let mut image = sound.with(16, &[1]);
        image.put(56, &offset.to_le_bytes()).put(60, &len.to_le_bytes());
        assert_eq!(image.facts().unwrap_err().kind(), Malformed, "{len} bytes at {offset}");
    }
}

// Tables of 1 GiB each, which a file of 20 KiB does not have.
#[test]
fn huge_tables_take_no_memory() {
    let mut image = Image::qed();
    image.put(4, &(1_u32 << 26).to_le_bytes()).put(8, &16_u32.to_le_bytes());
    image.le(40, 1 << 26);
    assert_eq!(image.kind(), Kind::Truncated);
    let (tally, findings) = image.check();
    assert!(!tally.is_clean() && findings.len() < 5, "{findings:?}");
}

#[test]
fn entries_that_cannot_be_are_refused_and_found() {
    use Kind::{Malformed, Truncated};
    let (qcow, qed) = (Image::qcow(), Image::qed());
    let packed = |offset: u64, len: u64| (1 << 63) | (len << 51) | offset;
    let cases: &[(&Image, &str, usize, u64, Kind)] = &[
        (&qcow, "a table that is the first one", 48, 48, Malformed),
        (&qcow, "a table at an odd byte", 48, 4097, Malformed),
        (&qcow, "a table past the end", 48, 1 << 40, Truncated),
        (&qcow, "a table at the end of all offsets", 48, u64::MAX - 7, Malformed),
        (&qcow, "a cluster inside a sector", 4096, 8200, Malformed),
        (&qcow, "a cluster past the end", 4096, 1 << 40, Truncated),
        (&qcow, "a cluster at the last offset", 4096, (1 << 63) - 512, Truncated),
        (&qcow, "a compressed cluster without bytes", 4096, packed(12_288, 0), Malformed),
        (&qcow, "a compressed cluster past the end", 4096, packed(1 << 40, 9), Truncated),
        (&qcow, "a compressed cluster that is none", 4096, packed(8192, 40), Malformed),
        (&qed, "a table that is the first one", 4096, 4096, Malformed),
        (&qed, "a table in the header", 4096, 8, Malformed),
        (&qed, "a table inside a cluster", 4096, 8200, Malformed),
        (&qed, "a table past the end", 4096, 1 << 40, Truncated),
        (&qed, "a table at the last cluster of all", 4096, u64::MAX - 4095, Malformed),
        (&qed, "a cluster in the header", 8192, 512, Malformed),
        (&qed, "a cluster inside a cluster", 8192, 12_800, Malformed),
        (&qed, "a cluster past the end", 8192, 1 << 40, Truncated),
        (&qed, "a cluster at the last offset", 8192, u64::MAX - 4095, Malformed),
    ];
    for (image, what, at, word, kind) in cases {
        let mut image = (*image).clone();
        if image.0 == "qcow" {
            image.be(*at, *word)
        } else {
            image.le(*at, *word)
        };
        assert_eq!(image.kind(), *kind, "{}: {what}", image.0);
        // What a compressed cluster holds, a check does not look at.
        if !what.ends_with("that is none") {
            let (tally, findings) = image.check();
            assert!(tally.corruptions > 0, "{}: {what}: {findings:?}", image.0);
        }
    }
}

// A table that many entries lead to is gone over once, or a check would never end.
#[test]
fn a_table_or_cluster_with_two_users_is_a_corruption() {
    let (mut qcow, mut qed) = (Image::qcow(), Image::qed());
    qcow.be(4096, 8192).be(4112, 8192);
    qed.le(8200, 12_288);
    for image in [qcow, qed] {
        let (tally, findings) = image.check();
        assert_eq!(tally.corruptions, 1, "{}: {findings:?}", image.0);
    }
    let mut many = Image::qed();
    for entry in 1..512 {
        many.le(4096 + entry * 8, 8192);
    }
    assert_eq!(many.check().0.corruptions, 511);
}

#[test]
fn clusters_that_nothing_leads_to_are_leaks_of_a_qed() {
    let mut image = Image::qed();
    image.le(8200, 0);
    image.1.extend([0; 3 * 4096]);
    let (tally, findings) = image.check();
    assert_eq!((tally.leaks, tally.corruptions), (4, 0), "{findings:?}");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Leak));
}

// A QED that says that its tables may be wrong is read only where they are not.
#[test]
fn a_damaged_qed_that_was_not_closed_is_malformed() {
    let mut image = Image::qed();
    image.put(16, &[2]);
    image.read().unwrap();
    assert!(image.facts().unwrap().dirty);
    image.le(8200, 12_288);
    assert_eq!(image.kind(), Kind::Malformed);
}

// TRUTH row 15: qemu-img reads zeros behind the end of a truncated qcow and says 0; we say where
// the file ends.
#[test]
fn an_end_inside_an_allocated_cluster_is_truncated() {
    for image in [Image::qcow(), Image::qed()] {
        let ends: &[usize] =
            if image.0 == "qcow" { &[12_290, 9000, 4096] } else { &[20_000, 13_000] };
        for end in ends {
            let mut cut = image.clone();
            cut.1.truncate(*end);
            assert_eq!(cut.kind(), Kind::Truncated, "{} cut at {end}", image.0);
            assert!(cut.check().0.corruptions > 0, "{} cut at {end}", image.0);
        }
    }
}

#[test]
fn names_of_backing_files_are_listed_and_not_followed() {
    let names = ["/etc/passwd", "/proc/self/environ", "../secret", "json:{}", "nbd://host/x"];
    for name in names {
        let mut qcow = Image::qcow();
        qcow.be(8, 64).put(16, &u32::try_from(name.len()).unwrap().to_be_bytes());
        qcow.put(64, name.as_bytes());
        let mut qed = Image::qed();
        qed.put(16, &[5]).put(56, &[64]).put(60, &[u8::try_from(name.len()).unwrap()]);
        qed.put(64, name.as_bytes());
        for image in [qcow, qed] {
            let facts = image.facts().unwrap();
            assert_eq!(facts.references[0].name, name);
            assert_eq!(facts.hazards.len(), 1);
            assert_eq!(image.kind(), Kind::Refused, "{} {name}", image.0);
        }
    }
}
