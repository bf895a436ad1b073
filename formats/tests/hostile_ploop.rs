//! ploop images and bundles that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use std::sync::Arc;

use disks::{open, read_all};
use formats::{
    Facts, Faulty, Finding, Format, HazardKind, Kind, Limits, Links, Memory, Repair, Result,
    Source, Storage, Tally,
};
use md5::{Digest, Md5};
use oracle::Place;

fn ploop() -> &'static Format {
    formats::format("ploop").unwrap()
}

/// The bytes of an image.
#[derive(Clone)]
struct Image(Vec<u8>);

impl Image {
    /// 64 KiB of disk in clusters of 4 KiB, of which the first and the third are there.
    fn new(magic: &[u8; 16]) -> Image {
        let mut this = Image(vec![0; 3 * 4096]);
        let unit = if magic == b"WithoutFreeSpace" { 8 } else { 1 };
        this.put(0, magic).set(16, 2).set(28, 8).set(32, 16).set(36, 128).set(48, 8);
        this.set(64, unit).set(72, 2 * unit);
        this.0[4096..8192].fill(7);
        this.0[8192..].fill(8);
        this
    }

    fn modern() -> Image {
        Image::new(b"WithouFreSpacExt")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn set(&mut self, at: usize, word: u32) -> &mut Self {
        self.put(at, &word.to_le_bytes())
    }

    fn with(&self, at: usize, word: u32) -> Image {
        let mut other = self.clone();
        other.set(at, word);
        other
    }

    fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.0.clone()))
    }

    fn facts(&self) -> Result<Facts> {
        (ploop().inspect)(&*self.source(), &Limits::default())
    }

    fn read(&self) -> Result<Vec<u8>> {
        read_all(&*open(self.source(), ploop())?)
    }

    fn kind(&self) -> Kind {
        self.read().map(drop).expect_err("it is damaged").kind()
    }

    fn check(&self) -> (Tally, Vec<Finding>) {
        let mut findings = Vec::new();
        let links = Links::alone(self.source());
        let check = ploop().check.unwrap();
        let tally = check(links, &Limits::default(), &mut |finding| findings.push(finding));
        (tally.unwrap(), findings)
    }

    /// What it is once mended, and what was done.
    fn mended(&self, what: Repair) -> (Image, Tally) {
        let file = self.source();
        let repair = ploop().repair.unwrap();
        let tally = repair(file.clone(), what, &Limits::default(), &mut |_| {}).unwrap();
        (Image(file.to_vec()), tally)
    }
}

#[test]
fn the_images_that_are_damaged_below_are_sound_before() {
    for magic in [b"WithoutFreeSpace", b"WithouFreSpacExt"] {
        let image = Image::new(magic);
        let bytes = image.read().unwrap();
        assert!(bytes.len() == 64 << 10 && bytes[..4096] == [7; 4096]);
        assert!(bytes[4096..8192] == [0; 4096] && bytes[8192..12_288] == [8; 4096]);
        let (tally, findings) = image.check();
        assert!(tally.is_clean(), "{findings:?}");
        assert_eq!((tally.allocated_clusters, tally.total_clusters), (2, 16));
        let (mended, _) = image.mended(Repair::All);
        assert!(mended.0 == image.0, "what is sound is left alone");
    }
}

#[test]
fn numbers_of_a_header_that_cannot_be_are_refused() {
    use Kind::{Limit, Malformed, Truncated, Unsupported};
    let sound = Image::modern();
    for (what, at, word, kind) in [
        ("version 1", 16, 1, Unsupported),
        ("version 3", 16, 3, Unsupported),
        ("tracks 0", 28, 0, Malformed),
        ("tracks 2^32 - 1", 28, u32::MAX, Limit),
        ("tracks that give 2 GiB", 28, 0x7fff_ffff / 513 + 1, Limit),
        ("a table of 2^32 - 1 entries", 32, u32::MAX, Limit),
        ("a table of 2^29 entries", 32, 0x7fff_ffff / 4 + 1, Limit),
        ("a table of 2^28 entries over the clusters", 32, 1 << 28, Malformed),
        ("a table too short for the disk", 32, 15, Malformed),
        ("a disk of 2^63 sectors", 40, 1 << 31, Malformed),
        ("a disk of 2^55 sectors", 40, 1 << 23, Malformed),
        ("a disk of 2^32 sectors", 40, 1, Malformed),
    ] {
        assert_eq!(sound.with(at, word).kind(), kind, "{what}");
    }
    for end in [16, 63, 66, 127] {
        let cut = Image(sound.0[..end].to_vec());
        assert_eq!(cut.kind(), Truncated, "cut at {end}");
    }
}

// qemu-img reads the header of libphdi's tests, which is all of that file, as a disk of zeros. So
// do we, and say that it is odd; a table that is there in part is another thing.
#[test]
fn a_file_that_ends_with_its_header_is_zeros_and_a_finding() {
    let image = Image(Image::modern().0[..64].to_vec());
    assert!(image.read().unwrap() == vec![0; 64 << 10]);
    let hazards = image.facts().unwrap().hazards;
    assert_eq!(hazards[0].kind, HazardKind::Irregular);
    assert_eq!(image.check().0.corruptions, 1);
}

#[test]
fn the_upper_half_of_an_old_size_does_not_count_and_is_odd() {
    let image = Image::new(b"WithoutFreeSpace").with(40, 5);
    let facts = image.facts().unwrap();
    assert_eq!((facts.disk_size, facts.hazards.len()), (64 << 10, 1));
    image.read().unwrap();
}

#[test]
fn entries_that_cannot_be_are_refused_and_found() {
    let sound = Image::modern();
    for (what, word) in
        [("past the end", 3), ("far past the end", 1 << 30), ("the last there is", u32::MAX)]
    {
        let image = sound.with(64, word);
        assert_eq!(image.kind(), Kind::Truncated, "{what}");
        let (tally, findings) = image.check();
        assert_eq!(tally.corruptions, 1, "{what}: {findings:?}");
        // Zeros in place of what is lost would hide that it is.
        let (mended, tally) = image.mended(Repair::All);
        assert_eq!((tally.corruptions, tally.corruptions_fixed), (1, 0), "{what}");
        assert!(mended.0 == image.0, "{what}");
    }
    let old = Image::new(b"WithoutFreeSpace");
    assert_eq!(old.with(64, 1).kind(), Kind::Malformed, "over the table");
    assert_eq!(old.with(64, 7).check().0.corruptions, 1, "over the table");
    assert_eq!(old.with(64, 9).check().0.corruptions, 1, "inside a cluster");
    assert_eq!(old.with(64, u32::MAX).kind(), Kind::Truncated);
    // An entry that the disk does not reach is none of its bytes, and a corruption all the same.
    let mut behind = sound.with(32, 17);
    behind.set(64 + 16 * 4, 9);
    behind.read().unwrap();
    assert_eq!(behind.check().0.corruptions, 1);
}

// TRUTH row 15: qemu-img reads zeros behind the end of a truncated parallels image and says 0.
#[test]
fn an_end_inside_an_allocated_cluster_is_truncated() {
    for end in [12_287, 9000, 5000, 100] {
        let cut = Image(Image::modern().0[..end].to_vec());
        assert_eq!(cut.kind(), Kind::Truncated, "cut at {end}");
        assert!(cut.check().0.corruptions > 0, "cut at {end}");
    }
}

// qemu rounds wrongly where a cluster is no power of two: its own check then says that the word is
// wrong, and its repair that clusters are used twice.
#[test]
fn a_wrong_word_about_where_clusters_begin_is_a_finding_that_is_mended() {
    for sector in [0, 1, 7, 9, u32::MAX] {
        let image = Image::modern().with(48, sector);
        assert!(image.read().unwrap() == Image::modern().read().unwrap());
        assert_eq!(image.check().0.corruptions, 1, "sector {sector}");
        let (mended, tally) = image.mended(Repair::All);
        assert!(tally.is_clean() && mended.0 == Image::modern().0, "sector {sector}");
    }
    let behind = Image::modern().with(48, 16);
    assert_eq!(behind.kind(), Kind::Malformed, "a cluster in front of it");
    assert_eq!(behind.check().0.corruptions, 1, "a cluster in front of it");
    let old = Image::new(b"WithoutFreeSpace").with(72, 0);
    assert_eq!(old.with(48, 0).check().0.corruptions, 1, "a cluster that is not aligned");
}

#[test]
fn clusters_used_twice_are_found_and_copied_apart() {
    let mut image = Image::modern();
    image.set(64 + 5 * 4, 1).set(64 + 6 * 4, 2).set(64 + 15 * 4, 1);
    let before = image.read().unwrap();
    let (tally, findings) = image.check();
    assert_eq!(tally.corruptions, 3, "{findings:?}");
    let (untouched, _) = image.mended(Repair::Leaks);
    assert!(untouched.0 == image.0);
    let (mended, tally) = image.mended(Repair::All);
    assert!(tally.is_clean() && tally.corruptions_fixed == 3, "{tally:?}");
    assert!(mended.read().unwrap() == before && mended.0.len() == 6 * 4096);
    assert!(mended.check().0.is_clean());
}

// A small file with a table that leads to one cluster over and over would grow to terabytes.
#[test]
fn copying_apart_has_a_limit() {
    let mut image = Image::modern();
    let clusters = 0x4_0000_u32;
    image.set(28, 0x800).set(32, clusters).set(36, clusters * 0x800).set(48, 0x800 * 2);
    image.0.resize(3 << 20, 0);
    for index in 0..clusters as usize {
        image.set(64 + index * 4, 2);
    }
    let repair = ploop().repair.unwrap();
    let done = repair(image.source(), Repair::All, &Limits::default(), &mut |_| {});
    assert_eq!(done.unwrap_err().kind(), Kind::Limit);
}

#[test]
fn room_behind_the_last_cluster_is_a_leak_and_is_cut_off() {
    let mut image = Image::modern();
    image.0.resize(12_288 + 9000, 1);
    let (tally, findings) = image.check();
    assert_eq!((tally.leaks, tally.corruptions), (3, 0), "{findings:?}");
    let (mended, tally) = image.mended(Repair::Leaks);
    assert!(tally.is_clean() && tally.leaks_fixed == 3, "{tally:?}");
    assert!(mended.0 == Image::modern().0);
}

// An entry behind the end of the disk is none of its bytes, and must not become some when it grows.
#[test]
fn a_disk_that_grows_over_old_entries_has_zeros_there() {
    for size in [65 << 10, 120 << 10, 1 << 20] {
        let mut image = Image::modern();
        image.set(32, 32).set(64 + 20 * 4, 3);
        image.0.resize(4 * 4096, 9);
        assert!(image.check().0.is_clean(), "{:?}", image.check().1);
        let file = image.source();
        (ploop().resize.unwrap())(file.clone(), size, &Limits::default()).unwrap();
        let grown = Image(file.to_vec());
        let mut expected = image.read().unwrap();
        expected.resize(usize::try_from(size).unwrap(), 0);
        assert!(grown.read().unwrap() == expected, "{size}");
        assert!(grown.check().0.is_clean(), "{size}: {:?}", grown.check().1);
        assert_eq!(grown.0[44..48], [0; 4], "the mark is as it was");
    }
}

/// Does something to an image whose storage dies after every number of writes there is; what is
/// left holds `keeps` bytes of what it had, and can be mended.
fn dies(image: &Image, keeps: usize, deed: impl Fn(Arc<dyn Storage>) -> Result<()>) {
    let before = image.read().unwrap();
    for writes in 0.. {
        let file = Arc::new(Faulty::new(Memory::new(image.0.clone()), writes));
        let done = deed(file.clone()).is_ok();
        let left = Image(file.inner().to_vec());
        let (mended, tally) = left.mended(Repair::All);
        assert!(tally.is_clean(), "after {writes} writes: {tally:?}");
        for torn in [left, mended] {
            let bytes = torn.read().unwrap();
            let same = bytes[..keeps] == before[..keeps];
            let grown = bytes.get(before.len()..).unwrap_or_default();
            assert!(same && grown.iter().all(|byte| *byte == 0), "after {writes} writes");
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_crash_during_a_resize_or_a_repair_loses_nothing_and_can_be_mended() {
    let resize = |size| {
        move |file: Arc<dyn Storage>| (ploop().resize.unwrap())(file, size, &Limits::default())
    };
    for magic in [b"WithoutFreeSpace", b"WithouFreSpacExt"] {
        let sound = Image::new(magic);
        // Into the last cluster, into more entries, and into a table that wants more room.
        for size in [66 << 10, 2 << 20, 9 << 20] {
            dies(&sound, 64 << 10, resize(size));
        }
        for size in [10_240, 4096, 512] {
            dies(&sound, usize::try_from(size).unwrap(), resize(size));
        }
        let mut bad = sound.clone();
        let unit = if magic == b"WithoutFreeSpace" { 8 } else { 1 };
        bad.set(64 + 5 * 4, unit).set(64 + 6 * 4, 2 * unit).set(44, 0x746f_6e59);
        dies(&bad, 64 << 10, |file| {
            let repair = ploop().repair.unwrap();
            repair(file, Repair::All, &Limits::default(), &mut |_| {}).map(drop)
        });
    }
}

#[test]
fn an_extension_that_cannot_be_is_odd_a_finding_and_forbids_repair() {
    for ext in [1_u64, 8, 16, 24, 1 << 40, 1 << 55, u64::MAX] {
        let mut image = Image::modern();
        image.put(56, &ext.to_le_bytes()).set(44, 0x746f_6e59);
        let facts = image.facts().unwrap();
        assert_eq!(facts.hazards[0].kind, HazardKind::Irregular, "at sector {ext}");
        assert!(image.check().0.corruptions > 1, "at sector {ext}");
        image.read().unwrap();
        let repair = ploop().repair.unwrap();
        let done = repair(image.source(), Repair::All, &Limits::default(), &mut |_| {});
        assert_eq!(done.unwrap_err().kind(), Kind::Unsupported, "at sector {ext}");
    }
}

/// A feature of the format extension.
fn feature(magic: u64, flags: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = [magic.to_le_bytes(), flags.to_le_bytes()].concat();
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// An image with these features behind its clusters.
fn extended(features: &[Vec<u8>]) -> Image {
    let mut image = Image::modern();
    image.0.resize(16_384, 0);
    let list = features.concat();
    image.put(12_288 + 24, &list).put(56, &24_u64.to_le_bytes());
    let sum = Md5::digest(&image.0[12_288 + 24..]);
    image.put(12_288, &0xab23_4cef_23dc_ea87_u64.to_le_bytes()).put(12_296, &sum[..]);
    image
}

const BITMAP: u64 = 0x2038_5fae_252c_b34a;

#[test]
fn features_of_the_extension_are_understood_as_far_as_they_can_be() {
    let bitmap = |entries: u32, table: &[u64]| {
        let mut data = [128_u64.to_le_bytes(), [9; 8], [9; 8]].concat();
        data.extend([8_u32.to_le_bytes(), entries.to_le_bytes()].concat());
        data.extend(table.iter().flat_map(|word| word.to_le_bytes()));
        feature(BITMAP, 1, &data)
    };
    let sound = extended(&[bitmap(2, &[0, 1])]);
    assert!(sound.facts().unwrap().hazards.is_empty());
    assert!(sound.check().0.is_clean(), "{:?}", sound.check().1);
    let outside = extended(&[bitmap(1, &[1 << 50])]);
    assert_eq!(outside.check().0.corruptions, 1);
    let over = extended(&[bitmap(1, &[8])]);
    assert_eq!(over.check().0.corruptions, 1, "over a cluster of the disk");
    // One that nobody knows is passed over, unless its writer forbids it.
    let other = extended(&[feature(0x1234, 2, &[1, 2, 3]), bitmap(2, &[0, 1])]);
    assert_eq!(other.facts().unwrap().hazards.len(), 1);
    assert_eq!(other.mended(Repair::All).1.corruptions, 0);
    let necessary = extended(&[feature(0x1234, 1, &[])]);
    let repair = ploop().repair.unwrap();
    let done = repair(necessary.source(), Repair::All, &Limits::default(), &mut |_| {});
    assert_eq!(done.unwrap_err().kind(), Kind::Unsupported);
    let damaged = [
        extended(&[bitmap(3, &[0, 1])]),
        extended(&[bitmap(u32::MAX, &[0, 1])]),
        extended(&[feature(BITMAP, 0, &[0; 31])]),
        extended(&[[&7_u64.to_le_bytes()[..], &[0; 8], &[255; 8]].concat()]),
        extended(&[bitmap(1, &[u64::MAX])]),
        sound.with(12_300, 0),
    ];
    for (number, image) in damaged.iter().enumerate() {
        assert_eq!(image.facts().unwrap().hazards.len(), 1, "number {number}");
        assert!(image.check().0.corruptions > 0, "number {number}");
        image.read().unwrap();
    }
}

const TOP: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const OLD: &str = "{11111111-2222-4333-8444-555555555555}";
const NONE: &str = "{00000000-0000-0000-0000-000000000000}";

fn image_of(guid: &str, kind: &str, file: &str) -> String {
    format!("<Image><GUID>{guid}</GUID><Type>{kind}</Type><File>{file}</File></Image>")
}

fn storage(start: u64, end: u64, images: &str) -> String {
    format!("<Storage><Start>{start}</Start><End>{end}</End>{images}</Storage>")
}

fn shot(guid: &str, parent: &str) -> String {
    format!("<Shot><GUID>{guid}</GUID><ParentGUID>{parent}</ParentGUID></Shot>")
}

fn text(parameters: &str, storages: &str, snapshots: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">\n\
         <Disk_Parameters><Disk_size>128</Disk_size>{parameters}</Disk_Parameters>\n\
         <StorageData>{storages}</StorageData><Snapshots>{snapshots}</Snapshots>\n\
         </Parallels_disk_image>\n"
    )
}

/// Two states, on top of each other, of one range.
fn sound() -> String {
    let images = image_of(OLD, "Compressed", "old.hds") + &image_of(TOP, "Compressed", "top.hds");
    text("", &storage(0, 128, &images), &(shot(OLD, NONE) + &shot(TOP, OLD)))
}

fn bundle_facts(text: &str) -> Result<Facts> {
    let source: Arc<dyn Source> = Arc::new(Memory::new(text.as_bytes()));
    assert!((ploop().probe)(&*source).unwrap(), "{text}");
    (ploop().inspect)(&*source, &Limits::default())
}

fn bundle_kind(text: &str) -> Kind {
    bundle_facts(text).expect_err("it is damaged").kind()
}

/// A folder with the images of [`sound`]: the newer one has the third cluster anew, and the sixth.
fn folder(text: &str) -> Place {
    let place = Place::new();
    let mut top = Image::modern();
    top.set(64, 0).set(72, 1).set(64 + 5 * 4, 2);
    place.put("DiskDescriptor.xml", text.as_bytes());
    place.put("old.hds", &Image::new(b"WithoutFreeSpace").0);
    place.put("top.hds", &top.0);
    place
}

#[test]
fn states_lie_on_top_of_each_other_and_older_ones_can_be_read() {
    let place = folder(&sound());
    let facts = place.facts("DiskDescriptor.xml", "ploop");
    let names: Vec<_> = facts.references.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["top.hds", "old.hds"]);
    assert_eq!((facts.snapshots.len(), facts.snapshots[0].id.as_str()), (1, OLD));
    let now = read_all(&*place.open("DiskDescriptor.xml", "ploop")).unwrap();
    let mut expected = vec![0; 64 << 10];
    expected[..4096].fill(7);
    expected[8192..12_288].fill(7);
    expected[20_480..24_576].fill(8);
    assert!(now == expected);
    for name in [OLD, &OLD[1..37]] {
        let wanted = Some(name.to_string());
        let then = place.try_open("DiskDescriptor.xml", "ploop", |options| {
            options.snapshot = wanted;
        });
        let then = read_all(&*then.unwrap()).unwrap();
        assert!(then == Image::modern().read().unwrap(), "{name}");
    }
    let other = place.try_open("DiskDescriptor.xml", "ploop", |options| {
        options.snapshot = Some("yesterday".into());
    });
    assert_eq!(other.err().unwrap().kind(), Kind::Invalid);
}

#[test]
fn ranges_lie_behind_each_other_and_may_be_plain_bytes() {
    let first = storage(0, 64, &image_of(TOP, "Plain", "one.raw"));
    let second = storage(64, 128, &image_of(TOP, "Compressed", "two.hds"));
    let place = folder(&text("", &(second + &first), &shot(TOP, NONE)));
    place.put("one.raw", &vec![5; 32 << 10]);
    let mut two = Image::modern();
    two.set(36, 64);
    place.put("two.hds", &two.0);
    let bytes = read_all(&*place.open("DiskDescriptor.xml", "ploop")).unwrap();
    assert!(bytes[..32 << 10] == vec![5; 32 << 10] && bytes[32 << 10..36 << 10] == [7; 4096]);
    place.put("one.raw", &vec![5; 30 << 10]);
    let short = read_all(&*place.open("DiskDescriptor.xml", "ploop"));
    assert_eq!(short.unwrap_err().kind(), Kind::Truncated);
    // An image of another size than its range.
    two.set(36, 63);
    place.put("two.hds", &two.0);
    let other = place.try_open("DiskDescriptor.xml", "ploop", |_| {});
    assert_eq!(other.err().unwrap().kind(), Kind::Malformed);
}

#[test]
fn the_check_of_a_bundle_looks_at_every_image() {
    let place = folder(&sound());
    let links = |place: &Place| {
        let extents: Vec<Arc<dyn Source>> = vec![place.source("top.hds"), place.source("old.hds")];
        Links { extents, ..Links::alone(place.source("DiskDescriptor.xml")) }
    };
    let check = |place: &Place| {
        let mut found = Vec::new();
        let check = ploop().check.unwrap();
        let tally =
            check(links(place), &Limits::default(), &mut |finding| found.push(finding.what));
        (tally.unwrap(), found)
    };
    assert!(check(&place).0.is_clean());
    place.put("old.hds", &Image::modern().with(64, 9).0);
    let (tally, found) = check(&place);
    assert!(tally.corruptions == 1 && found[0].starts_with("'old.hds': "), "{found:?}");
}

#[test]
fn names_of_images_are_listed_and_followed_only_by_the_policy() {
    for name in ["/etc/passwd", "/dev/urandom", "../old.hds", "json:{}", "nbd://host/x"] {
        let place = folder(&sound().replace("old.hds", name));
        let facts = place.facts("DiskDescriptor.xml", "ploop");
        assert_eq!(facts.references[1].name, name);
        assert_eq!(facts.hazards[1].kind, HazardKind::Reference);
        let refused = place.try_open("DiskDescriptor.xml", "ploop", |_| {});
        assert_eq!(refused.err().unwrap().kind(), Kind::Refused, "{name}");
        let refuse = Arc::new(formats::Refuse);
        let refused = place.try_open("DiskDescriptor.xml", "ploop", |options| {
            options.resolver = refuse;
        });
        assert_eq!(refused.err().unwrap().kind(), Kind::Refused, "{name}");
    }
    // A bundle is no image of itself.
    let place = folder(&sound().replace("old.hds", "DiskDescriptor.xml"));
    let refused = place.try_open("DiskDescriptor.xml", "ploop", |_| {});
    assert_eq!(refused.err().unwrap().kind(), Kind::Malformed);
}

#[test]
fn texts_that_name_other_files_or_expand_are_refused() {
    let doctype = |inner: &str, file: &str| {
        let head = format!("?>\n<!DOCTYPE x [{inner}]>\n");
        sound().replacen("?>\n", &head, 1).replace("old.hds", file)
    };
    let lol = "<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">";
    assert_eq!(bundle_kind(&doctype(lol, "&b;")), Kind::Refused);
    let outside = "<!ENTITY a SYSTEM \"file:///etc/passwd\">";
    assert_eq!(bundle_kind(&doctype(outside, "&a;")), Kind::Refused);
    assert_eq!(bundle_kind(&doctype("", "old.hds")), Kind::Refused);
    assert_eq!(bundle_kind(&sound().replace("old.hds", "&a;")), Kind::Refused);
    // What XML itself names is a character like any other.
    let facts = bundle_facts(&sound().replace("old.hds", "a&amp;b&#x63;&#100;<![CDATA[<]]>"));
    assert_eq!(facts.unwrap().references[1].name, "a&bcd<");
}

#[test]
fn texts_that_cannot_be_are_malformed() {
    use Kind::{Malformed, Truncated, Unsupported};
    let sound = sound();
    bundle_facts(&sound).unwrap();
    for (what, from, to, kind) in [
        ("a state that is its own parent", NONE, TOP, Malformed),
        ("a parent that is not there", NONE, "{9}", Malformed),
        ("a range without an image of a state", "<GUID>{1", "<GUID>{2", Malformed),
        ("no number", ">128</Disk", ">12x</Disk", Malformed),
        ("a negative one", ">128</Disk", ">-1</Disk", Malformed),
        ("2^64 sectors", ">128</Disk", ">18446744073709551615</Disk", Malformed),
        ("ranges that end too early", "<End>128", "<End>127", Malformed),
        ("ranges that end too late", "<End>128", "<End>129", Malformed),
        ("a range that begins too late", "<Start>0", "<Start>1", Malformed),
        ("a range of less than nothing", "<Start>0", "<Start>129", Malformed),
        ("no size", "Disk_size", "Disk_sice", Malformed),
        ("padding", "<Disk_size>", "<Padding>1</Padding><Disk_size>", Unsupported),
        (
            "large sectors",
            "<Disk_size>",
            "<LogicSectorSize>4096</LogicSectorSize><Disk_size>",
            Unsupported,
        ),
        ("another type", "Compressed", "Squashed", Unsupported),
        ("an element that ends another", "</StorageData>", "</Storage>", Malformed),
        ("another end", "</Parallels_disk_image>", "", Truncated),
    ] {
        let broken = sound.replace(from, to);
        assert_ne!(broken, sound, "{what}");
        assert_eq!(bundle_kind(&broken), kind, "{what}");
    }
    let key = "<Encryption><Engine>{ffffffff-0000-4000-8000-000000000000}</Engine></Encryption>";
    let locked = bundle_facts(&sound.replace("<Disk_size>", &(key.to_string() + "<Disk_size>")));
    assert!(locked.unwrap().encrypted);
}

#[test]
fn texts_without_an_end_meet_a_limit() {
    let deep = sound().replace("<StorageData>", &"<a>".repeat(100));
    assert_eq!(bundle_kind(&deep), Kind::Limit);
    let images = "<Image/>".repeat(70_000);
    assert_eq!(bundle_kind(&text("", &storage(0, 128, &images), "")), Kind::Limit);
    assert_eq!(bundle_kind(&text("", "", &"<Shot/>".repeat(70_000))), Kind::Limit);
    let guid = |n: u32| format!("{{{n:08}-0000-4000-8000-000000000000}}");
    let chain = |n: u32| shot(&guid(n), &guid(n + 1));
    let shots: String = (0..40).map(chain).collect();
    let top = format!("<TopGUID>{}</TopGUID>", guid(0));
    let range = storage(0, 128, "");
    assert_eq!(bundle_kind(&text("", &range, &(top + &shots))), Kind::Limit);
    let long = sound() + &" ".repeat(9 << 20);
    assert_eq!(bundle_kind(&long), Kind::Limit);
}

// A text is probed by its first element, not by a word in it.
#[test]
fn other_texts_are_no_bundles() {
    for other in [
        "",
        "<",
        "<?xml",
        "<?xml version='1.0'?>\n",
        "<?xml version='1.0'?>\n<other><Parallels_disk_image/></other>",
        "<Parallels_disk",
        "Parallels_disk_image",
    ] {
        assert!(!(ploop().probe)(&Memory::new(other.as_bytes())).unwrap(), "{other}");
    }
    let marked = [b"\xef\xbb\xbf", sound().as_bytes()].concat();
    assert!((ploop().probe)(&Memory::new(marked.clone())).unwrap());
    (ploop().inspect)(&Memory::new(marked), &Limits::default()).unwrap();
}
