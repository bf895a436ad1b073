//! vhd images that others do not make, or that nobody should: put together byte by byte.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod oracle;

use std::sync::Arc;

use disks::{Dice, Folder, disk, image, raw, read_all};
use formats::{
    Create, FORMATS, Facts, Finding, Format, HazardKind, Image, Ingest, Kind, Limits, Links,
    Memory, OpenOptions, Repair, Result, Source, Span, Tally, Target,
};
use oracle::{Place, has};

const MIB: usize = 1 << 20;
const NONE: u32 = u32::MAX;
const HEADER: usize = 512;

fn vhd() -> &'static Format {
    formats::format("vhd").unwrap()
}

/// The ones' complement of the sum of the bytes, the four at `at` left out.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A footer of these.
#[derive(Clone, Copy)]
struct Footer {
    kind: u32,
    size: u64,
    creator: [u8; 4],
    geometry: (u16, u8, u8),
    uuid: u8,
}

impl Footer {
    fn new(kind: u32, size: u64) -> Footer {
        Footer { kind, size, creator: *b"win ", geometry: (120, 4, 17), uuid: 0xa1 }
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"conectix");
        bytes[8..12].copy_from_slice(&2_u32.to_be_bytes());
        bytes[12..16].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
        let header = if self.kind == 2 { u64::MAX } else { HEADER as u64 };
        bytes[16..24].copy_from_slice(&header.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.creator);
        bytes[36..40].copy_from_slice(b"Wi2k");
        bytes[40..48].copy_from_slice(&self.size.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.size.to_be_bytes());
        bytes[56..58].copy_from_slice(&self.geometry.0.to_be_bytes());
        (bytes[58], bytes[59]) = (self.geometry.1, self.geometry.2);
        bytes[60..64].copy_from_slice(&self.kind.to_be_bytes());
        bytes[68..84].fill(self.uuid);
        seal(&mut bytes, 64);
        bytes
    }
}

/// An image in the making.
#[derive(Clone)]
struct Vhd(Vec<u8>);

/// What a parent is called: a system, and the text for it.
type Names<'a> = &'a [(&'a [u8; 4], &'a str)];

impl Vhd {
    fn fixed(bytes: &[u8]) -> Vhd {
        Vhd([bytes, &Footer::new(2, bytes.len() as u64).bytes()].concat())
    }

    /// As Windows lays one out: blocks of 512 KiB, each with the sectors of which this says so.
    fn dynamic(footer: Footer, disk: &[u8], there: &dyn Fn(usize) -> bool) -> Vhd {
        let mut this = Vhd(vec![0; 32 << 10]);
        let blocks = disk.len().div_ceil(512 << 10);
        this.0[HEADER..HEADER + 8].copy_from_slice(b"cxsparse");
        this.0[HEADER + 8..HEADER + 16].fill(0xff);
        this.put(HEADER + 20, &1536_u32.to_be_bytes()).put(HEADER + 24, &[0, 1, 0, 0]);
        this.put(HEADER + 28, &(blocks as u32).to_be_bytes());
        this.put(HEADER + 32, &(512_u32 << 10).to_be_bytes());
        for (index, block) in disk.chunks(512 << 10).enumerate() {
            let first = index * 1024;
            let count = block.len().div_ceil(512);
            let mut entry = NONE;
            if (first..first + count).any(there) {
                this.0.resize(this.0.len().next_multiple_of(4096) + 3584, 0);
                entry = (this.0.len() / 512) as u32;
                let mut bitmap = [0; 512];
                // What a bit says is not there holds bytes that nobody should see.
                let mut stored = vec![0xbd; 512 << 10];
                for sector in (0..count).filter(|sector| there(first + sector)) {
                    bitmap[sector / 8] |= 0x80 >> (sector % 8);
                    let range = sector * 512..(sector * 512 + 512).min(block.len());
                    stored[range.clone()].copy_from_slice(&block[range]);
                }
                this.0.extend(bitmap);
                this.0.extend(stored);
            }
            this.put(1536 + index * 4, &entry.to_be_bytes());
        }
        let bytes = footer.bytes();
        this.put(0, &bytes).0.extend(bytes);
        this.seal();
        this
    }

    /// A child of the image with this UUID.
    fn child(disk: &[u8], there: &dyn Fn(usize) -> bool, parent: u8, names: Names) -> Vhd {
        let footer = Footer { uuid: 0xc1, ..Footer::new(4, disk.len() as u64) };
        let mut this = Vhd::dynamic(footer, disk, there);
        this.0[HEADER + 40..HEADER + 56].fill(parent);
        for (index, (code, text)) in names.iter().enumerate() {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let (at, offset) = (HEADER + 576 + index * 24, (8 << 10) + index * 2048);
            this.put(at, *code).put(at + 4, &512_u32.to_be_bytes());
            this.put(at + 8, &(units.len() as u32).to_be_bytes());
            this.put(at + 16, &(offset as u64).to_be_bytes()).put(offset, &units);
        }
        this.seal();
        this
    }

    fn named(mut self, name: &str) -> Vhd {
        let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
        self.put(HEADER + 64, &units);
        self.seal();
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Vhd {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn put32(&mut self, at: usize, value: u32) -> &mut Vhd {
        self.put(at, &value.to_be_bytes())
    }

    /// Makes the checksum of the header right.
    fn seal(&mut self) {
        seal(&mut self.0[HEADER..HEADER + 1024], 36);
    }

    /// Changes a word of both footers, and makes their checksums right.
    fn footers(&mut self, at: usize, value: u32) -> &mut Vhd {
        for start in [0, self.0.len() - 512] {
            self.put32(start + at, value);
            seal(&mut self.0[start..start + 512], 64);
        }
        self
    }

    fn back(&self) -> usize {
        self.0.len() - 512
    }

    fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.0.clone()))
    }

    fn inspect(&self) -> Result<Facts> {
        (vhd().inspect)(&*self.source(), &Limits::default())
    }

    fn open_in(&self, folder: &Folder) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(folder.clone());
        formats::open(self.source(), vhd(), &options)
    }

    fn read(&self) -> Result<Vec<u8>> {
        read_all(&*disks::open(self.source(), vhd())?)
    }

    fn strictly(&self) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let options = OpenOptions { strict: true, ..OpenOptions::new(FORMATS, &limits) };
        formats::open(self.source(), vhd(), &options)
    }

    fn check(&self) -> (Tally, Vec<Finding>) {
        let mut found = Vec::new();
        let links = Links::alone(self.source());
        let tally = vhd().check.unwrap()(links, &Limits::default(), &mut |one| found.push(one));
        (tally.unwrap(), found)
    }

    fn repaired(&self) -> (Tally, Vhd) {
        let storage = self.source();
        let repair = vhd().repair.unwrap();
        let all = Repair::All;
        let tally = repair(storage.clone(), all, &Limits::default(), &mut |_| {}).unwrap();
        (tally, Vhd(storage.to_vec()))
    }

    fn is_probed(&self) -> bool {
        formats::probe(FORMATS, &*self.source()).is_ok_and(|format| format.name == "vhd")
    }
}

fn everywhere(_: usize) -> bool {
    true
}

/// A sound dynamic image of three blocks, and its disk.
fn sound() -> (Vhd, Vec<u8>) {
    let mut bytes = disk(1, 3 * (512 << 10) - 1024);
    bytes[512 << 10..2 * (512 << 10)].fill(0);
    let middle = |sector: usize| !(1024..2048).contains(&sector);
    (Vhd::dynamic(Footer::new(3, bytes.len() as u64), &bytes, &middle), bytes)
}

#[test]
fn the_layout_of_windows_is_read() {
    let (image, bytes) = sound();
    let facts = image.inspect().unwrap();
    assert_eq!((facts.variant, facts.disk_size), ("dynamic", bytes.len() as u64));
    assert_eq!(facts.hazards, []);
    assert!(image.read().unwrap() == bytes);
    let (tally, found) = image.check();
    assert!(tally.is_clean(), "{found:?}");
    assert_eq!((tally.total_clusters, tally.allocated_clusters), (3, 2));
    let fixed = Vhd::fixed(&bytes);
    assert!(fixed.is_probed() && fixed.read().unwrap() == bytes && fixed.check().0.is_clean());
    assert_eq!(fixed.inspect().unwrap().variant, "fixed");
}

// TRUTH row 10: qemu-img ignores the bitmap of a block and hands out stale bytes; we honour it.
#[test]
fn sectors_that_the_bitmap_leaves_out_are_zeros_in_a_dynamic_image() {
    let mut bytes = disk(2, 2 * MIB - 1536);
    let there = |sector: usize| sector.is_multiple_of(3) || (700..1500).contains(&sector);
    for sector in (0..bytes.len() / 512).filter(|sector| !there(*sector)) {
        bytes[sector * 512..sector * 512 + 512].fill(0);
    }
    let image = Vhd::dynamic(Footer::new(3, bytes.len() as u64), &bytes, &there);
    assert!(image.read().unwrap() == bytes);
    let mut dice = Dice::new(3);
    let open = disks::open(image.source(), vhd()).unwrap();
    for _ in 0..200 {
        let start = dice.below(bytes.len());
        let mut part = vec![1; 1 + dice.below((bytes.len() - start).min(5000))];
        open.read(start as u64, &mut part).unwrap();
        assert!(part == bytes[start..start + part.len()], "at {start}");
    }
}

/// A parent, a child and a grandchild, each with some sectors of its own; and what they are worth.
fn family(folder: &Folder) -> (Vhd, Vec<u8>) {
    let (old, new, newest) = (disk(5, 2 * MIB), disk(6, 2 * MIB), disk(7, 2 * MIB));
    let in_child = |sector: usize| sector % 7 < 3 || (2000..2500).contains(&sector);
    let in_grandchild = |sector: usize| (900..1100).contains(&sector) || sector % 50 == 1;
    folder.put("parent.vhd", Vhd::fixed(&old).0);
    let child = Vhd::child(&new, &in_child, 0xa1, &[(b"W2ru", r".\parent.vhd")]);
    folder.put("sub/child.vhd", child.0);
    let names: Names = &[(b"W2ku", r"C:\other\child.vhd"), (b"W2ru", r".\sub\child.vhd")];
    let grandchild = Vhd::child(&newest, &in_grandchild, 0xc1, names);
    let mut worth = old;
    for sector in 0..worth.len() / 512 {
        let range = sector * 512..sector * 512 + 512;
        if in_grandchild(sector) {
            worth[range.clone()].copy_from_slice(&newest[range]);
        } else if in_child(sector) {
            worth[range.clone()].copy_from_slice(&new[range]);
        }
    }
    (grandchild.named(r"C:\other\child.vhd"), worth)
}

// TRUTH row 9: qemu-img reads a differencing vhd as if it stood alone, with zeros for what the
// parent has; we read the chain if the policy allows it, and refuse it otherwise.
#[test]
fn a_differencing_image_is_read_over_its_parents_or_refused() {
    let folder = Folder::default();
    let (image, worth) = family(&folder);
    assert!(read_all(&*image.open_in(&folder).unwrap()).unwrap() == worth);
    assert_eq!(image.read().unwrap_err().kind(), Kind::Refused);
    let facts = image.inspect().unwrap();
    assert_eq!(facts.variant, "differencing");
    assert_eq!(facts.references[0].name, "sub/child.vhd");
    assert_eq!(facts.references[0].format.as_deref(), Some("vhd"));
    assert_eq!(facts.hazards[0].kind, HazardKind::Reference);
    assert!(image.check().0.is_clean(), "{:?}", image.check());
    // Another image lies where the parent was.
    folder.put("sub/child.vhd", Vhd::fixed(&worth).0);
    assert_eq!(image.open_in(&folder).err().unwrap().kind(), Kind::Refused);
}

#[test]
fn the_best_name_of_the_parent_is_the_relative_one() {
    let name = |plain: &str, names: Names| {
        let child = Vhd::child(&[0; 1024], &everywhere, 1, names).named(plain);
        child.inspect().unwrap().references[0].name.clone()
    };
    let absolute = (b"W2ku", r"C:\disks\a.vhd");
    assert_eq!(name(r"C:\disks\a.vhd", &[absolute, (b"W2ru", r"..\a.vhd")]), "../a.vhd");
    assert_eq!(name("b.vhd", &[absolute]), "b.vhd");
    assert_eq!(name(r"C:\disks\a.vhd", &[absolute]), "C:/disks/a.vhd");
    assert_eq!(name(r"\\server\share\a.vhd", &[]), "//server/share/a.vhd");
    assert_eq!(name("", &[]), "");
}

// The names that a hostile image utters go through the policy, and no further.
#[test]
fn a_parent_outside_the_allowed_folder_is_refused() {
    let place = Place::new();
    place.put("parent.vhd", &Vhd::fixed(&disk(5, 2 * MIB)).0);
    std::fs::create_dir(place.path("inside")).unwrap();
    let disk = disk(8, 2 * MIB);
    for (code, name) in [
        (b"W2ru", r"..\..\..\..\etc\passwd"),
        (b"W2ru", "/etc/passwd"),
        (b"W2ru", r"\etc\passwd"),
        (b"W2ru", r"\\server\share\parent.vhd"),
        (b"W2ru", "nbd:localhost:10809"),
        (b"W2ku", r"C:\Windows\parent.vhd"),
        (b"W2ku", r"\\?\C:\parent.vhd"),
        (b"W2ku", "/proc/self/environ"),
        (b"MacX", "file://localhost/etc/passwd"),
    ] {
        let child = Vhd::child(&disk, &|sector| sector < 9, 0xa1, &[(code, name)]);
        place.put("child.vhd", &child.0);
        let error = place.try_open("child.vhd", "vhd", |_| {}).err().unwrap();
        assert_eq!(error.kind(), Kind::Refused, "{name}: {error:?}");
    }
    let child = Vhd::child(&disk, &|sector| sector < 9, 0xa1, &[(b"W2ru", r".\parent.vhd")]);
    place.put("child.vhd", &child.0);
    place.open("child.vhd", "vhd");
}

#[test]
fn libvhdi_sees_the_same_in_a_differencing_image() {
    if !has(&["vhdimount"]) {
        return;
    }
    // Whole runs of eight sectors: it does not look at every bit (the corpus has such an image).
    let (old, new) = (disk(9, 2 * MIB), disk(10, 2 * MIB));
    let there = |sector: usize| (sector / 8).is_multiple_of(3);
    let place = Place::new();
    place.put("parent.vhd", &Vhd::fixed(&old).0);
    let child = Vhd::child(&new, &there, 0xa1, &[(b"W2ru", r".\parent.vhd")]).named("parent.vhd");
    place.put("child.vhd", &child.0);
    std::fs::create_dir(place.path("mounted")).unwrap();
    place.must("vhdimount", &["child.vhd", "mounted"]);
    // The parent is the first of the two.
    let theirs = std::fs::read(place.path("mounted/vhdi2"));
    place.unmount("mounted");
    let ours = read_all(&*place.open("child.vhd", "vhd")).unwrap();
    let theirs = theirs.unwrap();
    let differs = ours.iter().zip(&theirs).position(|(one, two)| one != two);
    assert_eq!((differs, theirs.len()), (None, ours.len()));
}

// TRUTH row 11: a fixed vhd is raw to qemu-img, its footer becomes disk data; and so is a dynamic
// one whose copy of the footer at the front is damaged. We look at the end.
#[test]
fn one_of_two_footers_is_enough_and_the_other_one_is_mended() {
    let (image, bytes) = sound();
    let back = image.back();
    let damages: &[(&str, usize, usize)] = &[
        ("no copy at the front", 0, 512),
        ("a damaged copy at the front", 50, 1),
        ("no footer", back, 512),
        ("a damaged footer", back + 50, 1),
        ("a damaged cookie at the front", 3, 1),
        ("a damaged cookie at the end", back + 3, 1),
    ];
    for (what, at, len) in damages {
        let mut damaged = image.clone();
        damaged.0[*at..at + len]
            .iter_mut()
            .for_each(|byte| *byte = if *len > 1 { 0 } else { !*byte });
        assert!(damaged.is_probed(), "{what}");
        assert!(damaged.read().unwrap() == bytes, "{what}");
        let hazards = damaged.inspect().unwrap().hazards;
        assert!(hazards.iter().all(|hazard| hazard.kind == HazardKind::Irregular), "{what}");
        assert_eq!(hazards.len(), 1, "{what}");
        assert_eq!(damaged.check().0.corruptions, 1, "{what}");
        assert_eq!(damaged.strictly().err().unwrap().kind(), Kind::Refused, "{what}");
        let (tally, mended) = damaged.repaired();
        assert!(tally.is_clean() && tally.corruptions_fixed == 1, "{what}: {tally:?}");
        assert!(mended.check().0.is_clean() && mended.read().unwrap() == bytes, "{what}");
        assert_eq!(mended.inspect().unwrap().hazards, [], "{what}");
        let mut ingest = Ingest::new(FORMATS, Limits::default());
        damaged.0.chunks(70_000).for_each(|chunk| drop(ingest.push(chunk).unwrap()));
        assert_eq!(ingest.finish().unwrap(), damaged.inspect().unwrap(), "{what}");
    }
    // Cut off in the middle of the footer: there is room for a new one at the end.
    let mut cut = image.clone();
    cut.0.truncate(back + 100);
    assert!(cut.read().unwrap() == bytes);
    assert!(cut.repaired().0.is_clean());
}

#[test]
fn two_footers_with_another_size_each_are_a_finding() {
    let (mut image, bytes) = sound();
    let back = image.back();
    let smaller = Footer::new(3, bytes.len() as u64 - 4096).bytes();
    image.put(back, &smaller);
    assert_eq!(image.inspect().unwrap().disk_size, bytes.len() as u64 - 4096, "the end counts");
    assert_eq!(image.inspect().unwrap().hazards[0].kind, HazardKind::Irregular);
    assert_eq!(image.strictly().err().unwrap().kind(), Kind::Refused);
}

#[test]
fn a_footer_that_is_wrong_in_both_places_is_malformed_and_can_be_mended() {
    let (mut image, bytes) = sound();
    let back = image.back();
    image.put32(64, 1).put32(back + 64, 1);
    assert_eq!(image.inspect().unwrap_err().kind(), Kind::Malformed);
    let (tally, found) = image.check();
    assert_eq!(tally.corruptions, 2, "{found:?}");
    let (tally, mended) = image.repaired();
    assert!(tally.is_clean(), "{tally:?}");
    assert!(mended.read().unwrap() == bytes);
    // The two differ: nobody knows which one is right.
    image.put32(24, 7);
    let links = Links::alone(image.source());
    let checked = vhd().check.unwrap()(links, &Limits::default(), &mut |_| {});
    assert_eq!(checked.unwrap_err().kind(), Kind::Malformed);
    let mut fixed = Vhd::fixed(&bytes);
    let back = fixed.back();
    fixed.put32(back + 64, 1);
    assert!(fixed.is_probed(), "it does not pass for raw");
    assert_eq!(fixed.read().unwrap_err().kind(), Kind::Malformed);
    assert!(fixed.repaired().1.read().unwrap() == bytes);
}

#[test]
fn a_header_with_a_wrong_checksum_is_malformed_and_can_be_mended() {
    let (mut image, bytes) = sound();
    image.put32(HEADER + 36, 1);
    assert_eq!(image.read().unwrap_err().kind(), Kind::Malformed);
    assert_eq!(image.check().0.corruptions, 1);
    let (tally, mended) = image.repaired();
    assert!(tally.is_clean() && mended.read().unwrap() == bytes);
}

#[test]
fn old_footers_lack_their_last_byte() {
    let bytes = disk(11, 300 << 10);
    let mut image = Vhd::fixed(&bytes);
    image.0.pop();
    assert!(image.is_probed() && image.read().unwrap() == bytes);
    assert!(image.check().0.is_clean());
}

#[test]
fn the_size_follows_the_rule_of_its_maker_and_no_data_are_cut_off() {
    let bytes = disk(12, 4 * MIB);
    let (by_geometry, here) = (120 * 4 * 17 * 512, bytes.len() as u64);
    let with = |creator: &[u8; 4], geometry, size| {
        let footer = Footer { creator: *creator, geometry, ..Footer::new(2, size) };
        Vhd([&bytes[..], &footer.bytes()].concat()).inspect().unwrap()
    };
    for creator in [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"vbox", b"any!"] {
        let facts = with(creator, (120, 4, 17), here);
        assert_eq!((facts.disk_size, facts.hazards.len()), (here, 0), "{creator:?}");
    }
    for creator in [b"vpc ", b"qemu"] {
        assert_eq!(with(creator, (65535, 16, 255), here).disk_size, here);
        let facts = with(creator, (120, 4, 17), here);
        assert_eq!((facts.disk_size, facts.hazards.len()), (here, 1), "all of it is there");
        let facts = with(creator, (120, 4, 17), here + 512);
        assert_eq!(facts.disk_size, by_geometry, "not all of it is there");
        assert_eq!(with(creator, (120, 4, 17), by_geometry).disk_size, by_geometry);
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    use Kind::{Malformed, Truncated, Unsupported};
    let header: &[(&str, usize, u32, Kind)] = &[
        ("no cookie", 0, 0, Malformed),
        ("a BAT over the header", 20, 512, Malformed),
        ("a BAT over the footer", 20, 0, Malformed),
        ("a BAT inside a sector", 20, 1537, Malformed),
        ("a BAT past the end", 20, 0x7000_0000, Truncated),
        ("a BAT far out", 16, 0x7000_0000, Truncated),
        ("version 2", 24, 0x0002_0000, Unsupported),
        ("no entries", 28, 0, Malformed),
        ("too few entries", 28, 2, Malformed),
        ("blocks of 0 bytes", 32, 0, Malformed),
        ("blocks of an odd size", 32, 3 << 18, Malformed),
        ("blocks of 511 bytes", 32, 511, Malformed),
        ("blocks of 2 GiB", 32, 1 << 31, Malformed),
        ("blocks of 2^32 - 1 bytes", 32, u32::MAX, Malformed),
    ];
    for (what, at, value, kind) in header {
        let mut image = sound().0;
        image.put32(HEADER + at, *value).seal();
        let error = image.read().expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error:?}");
    }
    let footer: &[(&str, usize, u32, Kind)] = &[
        ("version 2", 12, 0x0002_0000, Unsupported),
        ("type 0", 60, 0, Malformed),
        ("type 5", 60, 5, Malformed),
        ("a header far out", 16, u32::MAX, Truncated),
        ("a header past the end", 20, 0x7fff_0000, Truncated),
        ("a header over the footer", 20, 0, Malformed),
        ("a disk of many exbibytes", 48, u32::MAX, Malformed),
    ];
    for (what, at, value, kind) in footer {
        let mut image = sound().0;
        image.footers(*at, *value);
        let error = image.read().expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error:?}");
    }
    let mut fixed = Vhd::fixed(&[7; 4096]);
    fixed.put32(4096 + 52, 8192);
    seal(&mut fixed.0[4096..], 64);
    assert_eq!(fixed.read().unwrap_err().kind(), Truncated, "a disk longer than its file");
    assert_eq!(fixed.check().0.corruptions, 1);
    let at_the_front = Vhd([Footer::new(2, 4096).bytes(), vec![0; 4096]].concat());
    assert_eq!(at_the_front.read().unwrap_err().kind(), Malformed);
}

#[test]
fn a_bat_of_sixteen_gibibytes_is_truncated_and_takes_no_memory() {
    let (mut image, _) = sound();
    image.put32(HEADER + 28, u32::MAX).seal();
    // What the disk does not reach is never looked at.
    assert!(image.read().is_ok());
    image.put32(HEADER + 32, 512).seal();
    image.footers(48, 0xff);
    assert_eq!(image.read().unwrap_err().kind(), Kind::Truncated);
    let links = Links::alone(image.source());
    let checked = vhd().check.unwrap()(links, &Limits::default(), &mut |_| {});
    assert_eq!(checked.unwrap_err().kind(), Kind::Limit);
}

#[test]
fn blocks_past_the_end_or_over_something_else_are_errors_and_findings() {
    use Kind::{Malformed, Truncated};
    let (image, _) = sound();
    let last = (image.back() / 512) as u32;
    for (what, entry, kind) in [
        ("past the end", last + 1, Truncated),
        ("far past the end", NONE - 1, Truncated),
        ("over the footer", 0, Malformed),
        ("over the header", 1, Malformed),
        ("over the BAT", 3, Malformed),
    ] {
        let mut damaged = image.clone();
        damaged.put32(1536 + 4, entry);
        assert_eq!(damaged.read().unwrap_err().kind(), kind, "{what}");
        assert!(damaged.check().0.corruptions > 0, "{what}");
        assert_eq!(damaged.strictly().err().unwrap().kind(), Kind::Refused, "{what}");
        assert!(damaged.repaired().1.0 == damaged.0, "{what}: nothing is guessed");
    }
    let first = u32::from_be_bytes(image.0[1536..1540].try_into().unwrap());
    for (what, entry) in [("the same block", first), ("half of a block", first + 512)] {
        let mut damaged = image.clone();
        damaged.put32(1536 + 4, entry);
        assert!(damaged.read().is_ok(), "{what}");
        assert!(damaged.check().0.corruptions > 0, "{what}");
        let resized = vhd().resize.unwrap()(damaged.source(), 512, &Limits::default());
        assert_eq!(resized.unwrap_err().kind(), Malformed, "only sound images are resized");
    }
    let mut cut = image.clone();
    cut.0.truncate(cut.0.len() - 200_000);
    assert_eq!(cut.read().unwrap_err().kind(), Truncated);
    assert!(cut.check().0.corruptions > 1, "{:?}", cut.check());
}

// Seen by a fuzzer: the last block of a file may lack what the disk does not reach; when the disk
// grew, the footer stood in the middle of it. And a name of the parent that led nowhere made a new
// footer go there, terabytes away.
#[test]
fn a_block_that_is_cut_off_by_the_footer_is_made_whole_before_the_disk_grows() {
    let bytes = disk(17, (512 << 10) + 5120);
    let mut image = Vhd::dynamic(Footer::new(3, bytes.len() as u64), &bytes, &everywhere);
    let footer = image.0.split_off(image.back());
    image.0.truncate(image.0.len() - (512 << 10) + 8192);
    image.0.extend(footer);
    assert!(image.read().unwrap() == bytes && image.check().0.is_clean());
    for size in [(512 << 10) + 512, (512 << 10) + 9728, 3 << 20] {
        let storage = image.source();
        vhd().resize.unwrap()(storage.clone(), size, &Limits::default()).unwrap();
        let after = Vhd(storage.to_vec());
        assert!(after.check().0.is_clean(), "made {size}: {:?}", after.check());
        let mut right = bytes.clone();
        right.resize(size as usize, 0);
        assert!(after.read().unwrap() == right, "made {size}");
    }
    let back = image.back();
    image.put(HEADER + 576, b"W2ru").put32(HEADER + 576 + 16, 3000).seal();
    image.0[back..].fill(1);
    let (tally, mended) = image.repaired();
    assert!(tally.is_clean() && mended.read().unwrap() == bytes, "{tally:?}");
    assert!(mended.0.len() < 2 * MIB);
}

#[test]
fn names_of_the_parent_that_are_not_there_are_errors() {
    let with = |at: usize, value: u32| {
        let mut child = Vhd::child(&[0; 4096], &everywhere, 1, &[(b"W2ru", r".\a.vhd")]);
        child.put32(HEADER + 576 + at, value).seal();
        child.inspect().map(|facts| facts.references[0].name.clone())
    };
    assert_eq!(with(4, 0).unwrap(), "a.vhd", "the room for it is not asked for");
    assert_eq!(with(8, u32::MAX).unwrap_err().kind(), Kind::Malformed, "4 GiB of name");
    assert_eq!(with(20, 0x7000_0000).unwrap_err().kind(), Kind::Truncated);
    assert_eq!(with(16, u32::MAX).unwrap_err().kind(), Kind::Truncated);
    assert_eq!(with(8, 4).unwrap(), "", "only dots are no name");
}

// TRUTH: a qcow2 with a footer of a vhd behind it is "safe" to others, and read as one of the two.
#[test]
fn two_formats_in_one_file_are_refused_or_a_hazard() {
    let qcow2 = formats::format("qcow2").unwrap();
    let create = Create { size: 1 << 20, ..Default::default() };
    let inner = image(qcow2, &create, &*raw(&disk(13, MIB)), 1);
    let both = Vhd::fixed(&inner);
    let error = formats::probe(FORMATS, &*both.source()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(both.read().unwrap() == inner, "unless the caller says which");
    // A dynamic image that is the content of a fixed one: qemu reads the inner, we the outer.
    let both = Vhd::fixed(&sound().0.0);
    let facts = both.inspect().unwrap();
    assert_eq!(facts.variant, "fixed");
    assert_eq!(facts.hazards[0].kind, HazardKind::Ambiguous);
    assert_eq!(both.strictly().err().unwrap().kind(), Kind::Refused);
}

#[test]
fn a_uuid_is_as_told_or_follows_from_the_content() {
    let made = |options: &[(&str, &str)], bytes: &[u8]| {
        let mut create = Create { size: 3 * MIB as u64, ..Default::default() };
        for (key, value) in options {
            create.options.set(key, *value);
        }
        image(vhd(), &create, &*raw(bytes), 3)
    };
    let bytes = disk(14, 3 * MIB);
    let mut other = bytes.clone();
    other[2_000_000] ^= 1;
    for subformat in ["dynamic", "fixed"] {
        let options = [("subformat", subformat), ("uuid", "00112233-4455-6677-8899-aabbccddeeff")];
        let told = made(&options, &bytes);
        let uuid = |image: &[u8]| image[image.len() - 512 + 68..][..16].to_vec();
        assert_eq!(uuid(&told)[..6], [0, 0x11, 0x22, 0x33, 0x44, 0x55]);
        let (one, two) = (made(&options[..1], &bytes), made(&options[..1], &bytes));
        assert!(one == two, "the same disk, the same file");
        assert_ne!(uuid(&one), uuid(&made(&options[..1], &other)));
    }
}

/// Storage that stays as long as it is, and has held something else.
struct Device(Memory);

impl Device {
    fn new(len: usize) -> Device {
        let mut bytes = vec![0; len];
        Dice::new(15).fill(&mut bytes);
        // Another image was there, whose footers must not be taken for those of ours.
        let old = Footer::new(2, len as u64 - 512).bytes();
        bytes[..512].copy_from_slice(&old);
        bytes[len - 512..].copy_from_slice(&old);
        Device(Memory::new(bytes))
    }
}

impl Target for Device {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        assert!(offset + bytes.len() as u64 <= self.0.len(), "past the end of the device");
        self.0.write_at(offset, bytes)
    }

    fn zero(&self, span: Span) -> std::io::Result<()> {
        self.0.zero(span)
    }

    fn allocate(&self, _: Span) -> std::io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        assert!(len <= self.0.len(), "a device does not grow");
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        false
    }

    fn fixed_len(&self) -> Option<u64> {
        Some(self.0.len())
    }
}

#[test]
fn on_a_device_the_footer_lies_at_its_end() {
    let bytes = disk(16, 5 * MIB - 512);
    let write = |len: usize, subformat: &str| -> Result<Vhd> {
        let mut create = Create { size: bytes.len() as u64, ..Default::default() };
        create.options.set("subformat", subformat);
        let device = Arc::new(Device::new(len));
        let writer = vhd().create.unwrap()(device.clone(), &create)?;
        formats::copy(&*raw(&bytes), &*writer, &formats::CopyOptions::default())?;
        Ok(Vhd(device.0.to_vec()))
    };
    for (len, subformat) in [(8 * MIB, "dynamic"), (5 * MIB, "fixed")] {
        let image = write(len, subformat).unwrap();
        assert!(image.read().unwrap() == bytes, "{subformat}");
        assert!(image.check().0.is_clean(), "{subformat}: {:?}", image.check());
        assert_eq!(image.inspect().unwrap().hazards, [], "{subformat}");
    }
    for len in [8 * MIB, 5 * MIB - 512] {
        let error = write(len, "fixed").err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid, "not at the end of {len}");
    }
}
