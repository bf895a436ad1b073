//! VMDKs that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::path::Path;
use std::sync::Arc;

use disks::{Folder, made, open, raw, read_all};
use formats::{
    Access, Beneath, Caching, Create, Error, FORMATS, Facts, Finding, Format, HazardKind,
    ImageFile, Kind, Limits, Links, Memory, OpenOptions, Options, Repair, Result, Survey, Tally,
};

fn vmdk() -> &'static Format {
    formats::format("vmdk").unwrap()
}

/// The bytes of an image in one file.
#[derive(Clone)]
struct Vmdk(Vec<u8>);

const SECTOR: usize = 512;
/// Where an image of [`Vmdk::sparse`] has its directories, the second one first.
const SPARE: usize = 21 * SECTOR;
const DIRECTORY: usize = 26 * SECTOR;

impl Vmdk {
    /// A disk of 300 KiB and 3 sectors, of which the first, the third and the last grain are there.
    fn sparse() -> Vmdk {
        Vmdk(image("monolithicSparse"))
    }

    /// The same, compressed.
    fn stream() -> Vmdk {
        Vmdk(image("streamOptimized"))
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Vmdk {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.0.clone()))
    }

    fn facts(&self) -> Result<Facts> {
        (vmdk().inspect)(&*self.source(), &Limits::default())
    }

    fn read(&self) -> Result<Vec<u8>> {
        read_all(&*open(self.source(), vmdk())?)
    }

    /// What it fails with.
    fn error(&self) -> Error {
        self.read().expect_err("it is damaged")
    }

    fn check(&self) -> Result<(Tally, Vec<Finding>)> {
        let mut findings = Vec::new();
        let links = Links::alone(self.source());
        let check = vmdk().check.unwrap();
        let tally = check(links, &Limits::default(), &mut |finding| findings.push(finding))?;
        Ok((tally, findings))
    }

    /// Where the first table of a directory lies.
    fn table(&self, directory: usize) -> usize {
        self.word(directory) as usize * SECTOR
    }

    /// The image after its repair, and what that said.
    fn repaired(&self, what: Repair) -> (Vmdk, Tally) {
        let file = self.source();
        let repair = vmdk().repair.unwrap();
        let tally = repair(file.clone(), what, &Limits::default(), &mut |_| {}).unwrap();
        (Vmdk(file.to_vec()), tally)
    }
}

fn content() -> Vec<u8> {
    let mut bytes = vec![0; 4 * 65_536 + 3 * SECTOR];
    bytes[..65_536].fill(0x11);
    bytes[2 * 65_536..3 * 65_536].fill(0x33);
    bytes[4 * 65_536..].fill(0x55);
    bytes
}

fn image(kind: &str) -> Vec<u8> {
    let bytes = content();
    let options = Options::new([("subformat".to_string(), kind.to_string())]);
    let create = Create { size: bytes.len() as u64, options, ..Create::default() };
    made(vmdk(), &create, &*raw(&bytes), 1).file
}

/// A descriptor with these lines.
fn descriptor(lines: &str) -> Vmdk {
    Vmdk(format!("# Disk DescriptorFile\nversion=1\nCID=12345678\n{lines}\n").into_bytes())
}

/// Opens a descriptor with names followed to these files.
fn beside(text: &Vmdk, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let folder = Folder::default();
    for (name, bytes) in files {
        folder.put(name, *bytes);
    }
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    options.resolver = Arc::new(folder);
    read_all(&*formats::open(text.source(), vmdk(), &options)?)
}

#[test]
fn the_specimens_are_sound() {
    for specimen in [Vmdk::sparse(), Vmdk::stream()] {
        assert!(specimen.read().unwrap() == content());
        let (tally, findings) = specimen.check().unwrap();
        assert!(tally.is_clean(), "{findings:?}");
        assert_eq!((tally.total_clusters, tally.allocated_clusters), (5, 3));
    }
    let specimen = Vmdk::sparse();
    assert_eq!(specimen.word(48) as usize * SECTOR, SPARE);
    assert_eq!(specimen.word(56) as usize * SECTOR, DIRECTORY);
}

#[test]
fn numbers_of_the_header_that_cannot_be_are_refused() {
    let far = u64::MAX.to_le_bytes();
    let cases: [(&str, usize, &[u8], Kind); 14] = [
        ("version 0", 4, &[0], Kind::Unsupported),
        ("version 4", 4, &[4], Kind::Unsupported),
        ("an unknown flag that matters", 10, &[4], Kind::Unsupported),
        ("markers without compression", 10, &[2], Kind::Malformed),
        ("2^64 sectors", 12, &far, Kind::Malformed),
        ("grains of no sector", 20, &[0], Kind::Malformed),
        ("grains of 3 sectors", 20, &[3], Kind::Malformed),
        ("grains of 2^40 sectors", 20, &[0, 0, 0, 0, 0, 1], Kind::Malformed),
        ("tables without entries", 44, &[0, 0, 0, 0], Kind::Malformed),
        ("tables of 2^32 entries", 44, &[0xff; 4], Kind::Malformed),
        (
            "a directory past 2^63",
            56,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            Kind::Malformed,
        ),
        ("a descriptor past 2^64", 28, &far, Kind::Malformed),
        ("a descriptor of 2^40 sectors", 36, &[0, 0, 0, 0, 0, 1, 0, 0], Kind::Limit),
        ("a descriptor behind the end", 28, &[0, 0, 1], Kind::Truncated),
    ];
    for (what, at, bytes, kind) in cases {
        let error = Vmdk::sparse().put(at, bytes).error();
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
    }
    // Bits that do not matter do not matter.
    assert!(Vmdk::sparse().put(9, &[0xff]).read().unwrap() == content());
}

#[test]
fn a_disk_with_more_tables_than_fit_into_memory_is_a_limit() {
    let huge = Vmdk::sparse().put(12, &(1_u64 << 50).to_le_bytes());
    assert_eq!(huge.error().kind(), Kind::Limit);
    assert_eq!(huge.check().unwrap_err().kind(), Kind::Limit);
}

#[test]
fn a_file_that_was_transferred_as_text_says_so() {
    let error = Vmdk::sparse().put(73, b"\n \n\n").error();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(error.to_string().contains("transferred as if it were text"), "{error}");
    // An image without that test is not asked for it.
    let untested = Vmdk::sparse().put(8, &[2]).put(73, &[0; 4]);
    assert!(untested.read().unwrap() == content());
}

/// Attempts to follow names in a folder that has a file of each, from an image in it.
fn in_folder(text: &Vmdk) -> Result<Vec<u8>> {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("images");
    std::fs::create_dir_all(root.join("a")).unwrap();
    std::fs::write(outside.path().join("secret"), [0x99; 4096]).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
    let path = root.join("image.vmdk");
    std::fs::write(&path, &text.0).unwrap();
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    options.resolver = Arc::new(Beneath::new(&root, &root, Access::Read)?);
    let source = ImageFile::open(Path::new(&path), Access::Read, Caching::Writeback)?;
    read_all(&*formats::open(Arc::new(source), vmdk(), &options)?)
}

#[test]
fn names_that_lead_outside_the_folder_are_refused() {
    let names = ["/etc/passwd", "/dev/urandom", "../secret", "a/../../secret", "link", "nbd:x"];
    for name in names {
        for line in [
            format!("RW 8 FLAT \"{name}\" 0"),
            format!("RW 8 VMFS \"{name}\""),
            format!("RW 8 SPARSE \"{name}\""),
            format!("rdonly 8 vmfssparse \"{name}\""),
        ] {
            let text = descriptor(&format!("createType=\"monolithicFlat\"\n{line}"));
            assert_eq!(in_folder(&text).unwrap_err().kind(), Kind::Refused, "{line}");
            assert_eq!(text.error().kind(), Kind::Refused, "nothing is followed by default");
            let facts = text.facts().unwrap();
            assert_eq!(facts.references[0].name, name);
            assert!(facts.hazards.iter().any(|hazard| hazard.kind == HazardKind::Reference));
        }
        let parent =
            descriptor(&format!("parentCID=12345678\nparentFileNameHint=\"{name}\"\nRW 8 ZERO"));
        assert_eq!(in_folder(&parent).unwrap_err().kind(), Kind::Refused, "{name}");
    }
}

#[test]
fn a_descriptor_that_a_guest_wrote_into_its_raw_disk_gains_nothing() {
    let mut bytes = descriptor("RW 8 FLAT \"/etc/passwd\" 0").0;
    bytes.resize(8192, 0);
    let source = Arc::new(Memory::new(bytes.clone()));
    let as_raw = open(source.clone(), formats::format("raw").unwrap()).unwrap();
    assert!(read_all(&*as_raw).unwrap() == bytes, "what was declared raw stays raw");
    assert_eq!(formats::probe(FORMATS, &*source).unwrap().name, "vmdk");
    assert_eq!(open(source, vmdk()).err().unwrap().kind(), Kind::Refused);
}

#[test]
fn disks_on_devices_are_refused_with_a_sentence() {
    for text in [
        "createType=\"fullDevice\"\nRW 63 FLAT \"\\\\.\\PhysicalDrive0\" 0",
        "createType=\"partitionedDevice\"\nRW 63 FLAT \"/dev/sda\" 0",
        "createType=\"vmfsRDM\"\nRW 63 VMFSRDM \"disk-rdm.vmdk\"",
        "createType=\"vmfsRawDeviceMap\"\nRW 63 VMFSRDM \"disk-rdm.vmdk\"",
        "createType=\"vmfsRaw\"\nRW 63 VMFSRAW \"disk.vmdk\"",
        "createType=\"custom\"\nRW 63 vmfsraw \"disk.vmdk\"",
    ] {
        let text = descriptor(text);
        let names = [r"\\.\PhysicalDrive0", "/dev/sda", "disk-rdm.vmdk", "disk.vmdk"];
        let zeros = vec![0; 63 * 512];
        let files = names.map(|name| (name, &zeros[..]));
        for error in [beside(&text, &files).unwrap_err(), text.error()] {
            assert_eq!(error.kind(), Kind::Refused);
            assert!(error.to_string().contains("device"), "{error}");
        }
        let facts = text.facts().unwrap();
        assert_eq!(facts.hazards[0].kind, HazardKind::Reference);
    }
}

#[test]
fn a_hundred_thousand_extents_are_a_limit() {
    let begun = std::time::Instant::now();
    let same = "RW 1 FLAT \"a\" 0\n".repeat(100_000);
    let error = beside(&descriptor(&same), &[("a", &[0; 512])]).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    let lines: Vec<_> = (0..600).map(|number| format!("RW 1 FLAT \"{number}\" 0")).collect();
    let many = lines.join("\n");
    let names: Vec<_> = (0..600).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), &[0; 512][..])).collect();
    let error = beside(&descriptor(&many), &files).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    let same = descriptor(&"RW 1 SPARSE \"a\"\n".repeat(600));
    let error = beside(&same, &[("a", &image("monolithicSparse"))]).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn sectors_beyond_every_disk_are_an_error_with_the_line() {
    for line in [
        "RW 18014398509481984 FLAT \"a\" 0",
        "RW 9223372036854775808 ZERO",
        "RW 99999999999999999999 ZERO",
        "RW -1 ZERO",
        "RW 8 FLAT \"a\" 18446744073709551615",
    ] {
        let error = beside(&descriptor(line), &[("a", &[0; 512])]).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{line}");
        assert!(error.to_string().contains("line 4"), "{error}");
    }
    let sum = descriptor(&"RW 9007199254740992 ZERO\n".repeat(3));
    assert_eq!(sum.error().kind(), Kind::Malformed, "together they are too many");
}

#[test]
fn tables_and_grains_that_others_use_are_found_and_harm_nobody() {
    let sound = Vmdk::sparse();
    let table = sound.table(DIRECTORY);
    let grain = sound.word(table);
    let cases = [
        ("a table over the header", DIRECTORY, 1, Kind::Malformed),
        ("a table past the end", DIRECTORY, 0x00ff_ffff, Kind::Truncated),
        ("a grain past the end", table, 0x7fff_ff00, Kind::Truncated),
    ];
    for (what, at, word, kind) in cases {
        let damaged = sound.clone().put(at, &u32::to_le_bytes(word));
        if what != "a table over the header" {
            assert_eq!(damaged.error().kind(), kind, "{what}");
        }
        let (tally, findings) = damaged.check().unwrap();
        assert!(tally.corruptions > 0, "{what}: {findings:?}");
    }
    for (what, at, word) in [
        ("a grain twice", table + 4, grain),
        ("a grain over a table", table + 4, (table / SECTOR) as u32),
        ("a grain over the descriptor", table + 4, 1),
        ("a grain over the directory", table + 4, (DIRECTORY / SECTOR) as u32),
        ("a grain behind the end of the disk", table + 4 * 9, grain),
    ] {
        let damaged = sound.clone().put(at, &word.to_le_bytes());
        let (tally, findings) = damaged.check().unwrap();
        assert!(tally.corruptions > 0, "{what}: {findings:?}");
        let limits = Limits::default();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.strict = true;
        let strict = formats::open(damaged.source(), vmdk(), &options);
        assert_eq!(strict.err().unwrap().kind(), Kind::Refused, "{what}");
        drop(damaged.read());
    }
}

#[test]
fn directories_that_share_a_table_are_found() {
    let bytes = vec![7; 40 << 20];
    let create = Create { size: bytes.len() as u64, ..Create::default() };
    let image = Vmdk(made(vmdk(), &create, &*raw(&bytes), 2).file);
    let directory = image.word(56) as usize * SECTOR;
    let first = image.word(directory);
    let aliased = image.put(directory + 4, &first.to_le_bytes());
    let (tally, findings) = aliased.check().unwrap();
    assert!(tally.corruptions > 0 && findings.len() < 5_000, "{}", findings.len());
    assert!(aliased.read().unwrap().len() == bytes.len());
}

#[test]
fn an_image_cut_short_is_an_error_and_a_finding() {
    let sound = Vmdk::sparse();
    for cut in [1, 600, 65_536, 100_000] {
        let short = Vmdk(sound.0[..sound.0.len() - cut].to_vec());
        // Of the last grain the disk has three sectors; the rest may be missing.
        if cut < 65_536 - 3 * SECTOR {
            assert!(short.read().unwrap() == content());
            continue;
        }
        assert_eq!(short.error().kind(), Kind::Truncated, "without {cut} bytes");
        assert!(short.check().unwrap().0.corruptions > 0, "without {cut} bytes");
    }
    let sound = Vmdk::stream();
    for cut in [513, 1024, 3000, sound.0.len() - 66_000] {
        let short = Vmdk(sound.0[..sound.0.len() - cut].to_vec());
        assert_eq!(short.error().kind(), Kind::Truncated, "without {cut} bytes");
        assert_eq!(short.facts().unwrap_err().kind(), Kind::Truncated, "without {cut} bytes");
    }
}

#[test]
fn a_footer_that_differs_from_its_header_is_a_hazard_and_not_read() {
    let sound = Vmdk::stream();
    let footer = sound.0.len() - 2 * SECTOR;
    assert_eq!(&sound.0[footer..footer + 4], b"KDMV");
    for (at, byte) in [(12, 1), (20, 8), (36, 1), (44, 9), (4, 1)] {
        let other = sound.clone().put(footer + at, &[byte]);
        let facts = other.facts().unwrap();
        assert_eq!(facts.hazards[0].kind, HazardKind::Irregular, "{at}: {facts:?}");
        assert_eq!(other.error().kind(), Kind::Malformed, "{at}");
        assert!(other.check().unwrap().0.corruptions > 0, "{at}");
    }
    let nowhere = sound.clone().put(footer + 56, &[0xff; 8]);
    assert_eq!(nowhere.error().kind(), Kind::Malformed);
    let past = sound.put(footer + 56, &0x00ff_ffff_u64.to_le_bytes());
    assert_eq!(past.error().kind(), Kind::Truncated);
    assert!(past.check().unwrap().0.corruptions > 0);
}

#[test]
fn compressed_grains_that_lie_are_refused() {
    let sound = Vmdk::stream();
    let first = 65_536;
    assert_eq!(sound.word(first), 0, "the marker of sector 0");
    for (what, at, bytes) in [
        ("no bytes", first + 8, [0_u8; 4]),
        ("2^32 bytes", first + 8, [0xff; 4]),
        ("more than twice a grain", first + 8, 200_000_u32.to_le_bytes()),
        ("another sector", first, [128, 0, 0, 0]),
        ("no stream", first + 12, [0xff; 4]),
    ] {
        let damaged = sound.clone().put(at, &bytes);
        assert_eq!(damaged.error().kind(), Kind::Malformed, "{what}");
    }
    // A length that leads to behind the end of the file.
    let long = sound.clone().put(first + 8, &131_000_u32.to_le_bytes());
    assert!(long.check().unwrap().0.corruptions > 0);
}

/// A disk of so many grains, all in one compressed stream without markers: its length before it.
fn bomb(grains: usize) -> Vmdk {
    let tables = grains.div_ceil(512);
    let mut bytes = vec![0; 65_536 + (tables * 4).next_multiple_of(SECTOR)];
    bytes[..4].copy_from_slice(b"KDMV");
    bytes[4] = 3;
    bytes[8..12].copy_from_slice(&0x1_0001_u32.to_le_bytes());
    bytes[12..20].copy_from_slice(&(grains as u64 * 128).to_le_bytes());
    bytes[20] = 128;
    bytes[45] = 2;
    bytes[56..64].copy_from_slice(&128_u64.to_le_bytes());
    bytes[64] = 128;
    bytes[73..79].copy_from_slice(b"\n \r\n\x01\0");
    let table = (bytes.len() / SECTOR) as u32;
    let grain = table + 4;
    for index in 0..tables {
        bytes[65_536 + index * 4..][..4].copy_from_slice(&table.to_le_bytes());
    }
    bytes.extend(grain.to_le_bytes().repeat(512));
    let mut packed = Vec::new();
    let packing = formats::Packing { codec: formats::Codec::Zlib, level: 9, window_bits: 15 };
    formats::Encoder::default().encode(packing, &vec![7; 65_536], &mut packed).unwrap();
    bytes.extend((packed.len() as u32).to_le_bytes());
    bytes.extend(packed);
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    Vmdk(bytes)
}

#[test]
fn grains_without_markers_are_read_and_a_bomb_of_them_is_refused() {
    assert!(bomb(3).read().unwrap() == vec![7; 3 * 65_536]);
    let bomb = bomb(1 << 20);
    assert!(bomb.0.len() < 200_000);
    let image = open(bomb.source(), vmdk()).unwrap();
    let error = Survey::of(&*image, &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(bomb.check().unwrap().0.corruptions > 0);
}

#[test]
fn an_extent_that_is_the_descriptor_itself_comes_to_an_end() {
    let text = descriptor("RW 8 SPARSE \"image\"");
    let own = text.0.clone();
    // It has not even room for a header.
    assert_eq!(beside(&text, &[("image", &own)]).unwrap_err().kind(), Kind::Truncated);
    let own = [own, vec![b'\n'; 1000]].concat();
    assert_eq!(beside(&text, &[("image", &own)]).unwrap_err().kind(), Kind::Malformed);
    let parent = descriptor("parentCID=12345678\nparentFileNameHint=\"image\"\nRW 8 ZERO");
    let own = parent.0.clone();
    assert_eq!(beside(&parent, &[("image", &own)]).unwrap_err().kind(), Kind::Limit);
}

#[test]
fn an_extent_smaller_than_its_line_says_is_refused_and_found() {
    let sparse = image("monolithicSparse");
    let sectors = content().len() / SECTOR;
    let text = |sectors| descriptor(&format!("RW {sectors} SPARSE \"a\"\nRW 1 ZERO"));
    let mut wanted = content();
    wanted.extend([0; SECTOR]);
    assert!(beside(&text(sectors), &[("a", &sparse)]).unwrap() == wanted);
    let error = beside(&text(sectors + 1), &[("a", &sparse)]).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed, "{error}");
}

#[test]
fn tables_that_differ_from_their_copy_are_mended() {
    let sound = Vmdk::sparse();
    let spare = sound.table(SPARE);
    for (what, damaged) in [
        ("an entry of the second table", sound.clone().put(spare, &[0xee; 4])),
        ("the second directory", sound.clone().put(SPARE, &[0xee; 4])),
        ("no second directory", sound.clone().put(SPARE, &[0; 4])),
    ] {
        assert!(damaged.read().unwrap() == content(), "{what}");
        assert!(damaged.check().unwrap().0.corruptions > 0, "{what}");
        assert!(damaged.repaired(Repair::Leaks).0.0 == damaged.0, "{what} is no leak");
        let (mended, tally) = damaged.repaired(Repair::All);
        assert!(tally.is_clean() && tally.corruptions_fixed == 1, "{what}: {tally:?}");
        assert!(mended.0 == sound.0, "{what}");
    }
}

#[test]
fn tables_that_are_damaged_are_mended_from_their_copy() {
    let sound = Vmdk::sparse();
    let table = sound.table(DIRECTORY);
    let grain = sound.word(table);
    for (what, damaged) in [
        ("a table past the end", sound.clone().put(DIRECTORY, &[0xee; 4])),
        ("a grain past the end", sound.clone().put(table, &[0xee; 4])),
        ("a grain twice", sound.clone().put(table + 4, &grain.to_le_bytes())),
    ] {
        assert!(damaged.check().unwrap().0.corruptions > 0, "{what}");
        let (mended, tally) = damaged.repaired(Repair::All);
        assert!(tally.is_clean(), "{what}: {tally:?}");
        assert!(mended.0 == sound.0, "{what}");
    }
    // Where both are damaged, or lead to the same place, nothing is made up.
    let one = sound.clone().put(DIRECTORY, &sound.word(SPARE).to_le_bytes());
    let (left, tally) = one.repaired(Repair::All);
    assert!(left.0 == one.0 && tally.corruptions > 0 && left.read().unwrap() == content());
    let both = sound.clone().put(table, &[0xee; 4]).put(sound.table(SPARE), &[0xee; 4]);
    let (left, tally) = both.repaired(Repair::All);
    assert!(left.0 == both.0 && tally.corruptions > 0);
}

#[test]
fn an_image_that_was_not_closed_is_dirty_until_it_is_repaired() {
    let unclean = Vmdk::sparse().put(72, &[1]);
    assert!(unclean.facts().unwrap().dirty);
    assert!(unclean.read().unwrap() == content());
    assert_eq!(unclean.check().unwrap().0.corruptions, 1);
    let (mended, tally) = unclean.repaired(Repair::All);
    assert!(tally.is_clean() && tally.corruptions_fixed == 1);
    assert!(mended.0 == Vmdk::sparse().0);
}

#[test]
fn an_image_in_several_files_is_not_repaired_or_resized_by_its_descriptor() {
    let text = descriptor("RW 8 FLAT \"a\" 0").source();
    let repair = vmdk().repair.unwrap();
    let error = repair(text.clone(), Repair::All, &Limits::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    let error = (vmdk().resize.unwrap())(text, 8192, &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[test]
fn a_journal_that_is_not_empty_is_not_passed_over() {
    let mut bytes = vec![0; 8 << 20];
    let words: [u64; 6] = [0xcafe_babe, 0x2_0000_0001, 128, 8, 64, 0];
    for (at, word) in words.iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    let regions: [(u64, u64); 8] =
        [(1, 1), (2, 2), (2048, 2048), (4096, 128), (8192, 64), (0, 0), (0, 0), (12_288, 128)];
    for (index, (start, len)) in regions.iter().enumerate() {
        bytes[80 + index * 16..][..8].copy_from_slice(&start.to_le_bytes());
        bytes[88 + index * 16..][..8].copy_from_slice(&len.to_le_bytes());
    }
    bytes[512..520].copy_from_slice(&0xcafe_cafe_u64.to_le_bytes());
    let word = 0x1000_0000_0000_0000_u64;
    bytes[4096 * 512..][..8].copy_from_slice(&word.to_le_bytes());
    let entry = 0x3000_0000_0000_0000_u64;
    bytes[8192 * 512..][..8].copy_from_slice(&entry.to_le_bytes());
    bytes[12_288 * 512..][..4096].fill(0x42);
    let mut disk = vec![0; 128 * 512];
    disk[..4096].fill(0x42);
    let clean = Vmdk(bytes.clone());
    assert!(clean.read().unwrap() == disk);
    bytes[512 + 24] = 1;
    assert_eq!(Vmdk(bytes).error().kind(), Kind::Unsupported);
}

#[test]
fn a_disk_of_nothing_but_zeros_has_a_limit_too() {
    let limits = Limits { max_disk_size: 1 << 20, ..Limits::default() };
    let text = descriptor("RW 4096 ZERO");
    let options = OpenOptions::new(FORMATS, &limits);
    let error = formats::open(text.source(), vmdk(), &options).err().unwrap();
    assert_eq!(error.kind(), Kind::Limit);
    let zeros = open(descriptor("RW 4096 ZERO").source(), vmdk()).unwrap();
    let survey = Survey::of(&*zeros, &Limits::default()).unwrap();
    assert_eq!((survey.data, survey.zero), (0, 2 << 20));
}
