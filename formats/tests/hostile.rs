//! Images that attack, or are damaged: each is refused with the right kind of error, and none
//! panics, spins, or becomes wrong bytes in silence.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "figures are for people")]

mod disks;

use std::path::Path;
use std::sync::Arc;

use disks::{content, disk, goods, image, lone_variants, open, raw, read_all, writable};
use formats::{
    Access, Beneath, Caching, CopyOptions, Create, FORMATS, Facts, Format, HazardKind, ImageFile,
    Kind, Limits, Memory, OpenOptions, Options, Result, Source, Survey,
};

/// A qcow2 image in the making.
#[derive(Clone)]
struct Qcow2(Vec<u8>);

fn qcow2() -> &'static Format {
    formats::format("qcow2").unwrap()
}

impl Qcow2 {
    /// A sound image of 256 KiB with these options.
    fn new(options: &[(&str, &str)], compress: bool) -> Qcow2 {
        Qcow2::of(&vec![0x77; 256 << 10], options, compress)
    }

    fn of(bytes: &[u8], options: &[(&str, &str)], compress: bool) -> Qcow2 {
        let pairs = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let options = Options::new(pairs);
        let create = Create { size: bytes.len() as u64, compress, options, ..Default::default() };
        Qcow2(image(qcow2(), &create, &*raw(bytes), 1))
    }

    /// This name as the backing file's, of this format.
    fn over(name: &str, format: Option<&str>) -> Qcow2 {
        let backing = Some((name.to_string(), format.unwrap_or("raw").to_string()));
        let create = Create { size: 1 << 20, backing, ..Default::default() };
        let (target, empty) = (Arc::new(Memory::default()), raw(&vec![0; 1 << 20]));
        let writer = (qcow2().create.unwrap())(target.clone(), &create).unwrap();
        // What is the same underneath is left out, so that all of the disk lies there.
        let options = CopyOptions { base: Some(&*empty), ..Default::default() };
        formats::copy(&*empty, &*writer, &options).unwrap();
        let mut this = Qcow2(target.to_vec());
        if format.is_none() {
            // An extension that nobody knows, in place of the format's name.
            this.set32(112, 0x1234_5678);
        }
        this
    }

    fn set32(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    fn set64(&mut self, at: usize, value: u64) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&value.to_be_bytes());
        self
    }

    fn get64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn l1(&self) -> usize {
        self.get64(40) as usize
    }

    fn l2(&self) -> usize {
        (self.get64(self.l1()) & 0x00ff_ffff_ffff_fe00) as usize
    }

    /// An extension of this type and length, before the others.
    fn extension(&mut self, kind: u32, len: u32, data: &[u8]) -> &mut Self {
        self.set32(112, kind).set32(116, len);
        self.0[120..120 + data.len()].copy_from_slice(data);
        self
    }

    fn source(&self) -> Arc<Memory> {
        Arc::new(Memory::new(self.0.clone()))
    }

    fn inspect(&self) -> Result<Facts> {
        (qcow2().inspect)(&*self.source(), &Limits::default())
    }

    fn read(&self) -> Result<Vec<u8>> {
        read_all(&*open(self.source(), qcow2())?)
    }

    fn inspect_kind(&self) -> Kind {
        self.inspect().expect_err("it is damaged").kind()
    }

    fn read_kind(&self) -> Kind {
        self.read().expect_err("it is damaged").kind()
    }
}

/// A sound image with one number of its header changed.
fn with32(at: usize, value: u32) -> Qcow2 {
    let mut image = Qcow2::new(&[], false);
    image.set32(at, value);
    image
}

fn with64(at: usize, value: u64) -> Qcow2 {
    let mut image = Qcow2::new(&[], false);
    image.set64(at, value);
    image
}

#[test]
fn numbers_of_the_header_that_cannot_be_are_refused() {
    use Kind::{Limit, Malformed, Unsupported};
    let words: &[(&str, usize, u32, Kind)] = &[
        ("version 0", 4, 0, Unsupported),
        ("version 4", 4, 4, Unsupported),
        ("clusters of 256 bytes", 20, 8, Malformed),
        ("clusters of 4 MiB", 20, 22, Malformed),
        ("cluster_bits 63", 20, 63, Malformed),
        ("cluster_bits 64", 20, 64, Malformed),
        ("cluster_bits 2^32 - 1", 20, u32::MAX, Malformed),
        ("encryption 3", 32, 3, Unsupported),
        ("no L1 table for the disk", 36, 0, Malformed),
        ("an L1 table of 32 GiB", 36, u32::MAX, Limit),
        ("a refcount table of 2^48 bytes", 56, u32::MAX, Limit),
        ("2^32 - 1 snapshots", 60, u32::MAX, Limit),
        ("65537 snapshots", 60, 65_537, Limit),
        ("refcount_order 7", 96, 7, Malformed),
        ("refcount_order 2^32 - 1", 96, u32::MAX, Malformed),
        ("a header of 96 bytes", 100, 96, Malformed),
        ("a header of 0 bytes", 100, 0, Malformed),
        ("a header of 105 bytes", 100, 105, Malformed),
        ("a header of 64 KiB and 8 bytes", 100, 65_544, Malformed),
        ("a header of 4 GiB", 100, u32::MAX - 7, Malformed),
    ];
    for (what, at, value, kind) in words {
        assert_eq!(with32(*at, *value).inspect_kind(), *kind, "{what}");
    }
    let longs: &[(&str, usize, u64, Kind)] = &[
        ("a disk of 2^64 - 1 bytes", 24, u64::MAX, Malformed),
        ("an L1 table over the header", 40, 0, Malformed),
        ("an L1 table inside a cluster", 40, 65_536 + 512, Malformed),
        ("a refcount table inside a cluster", 48, 513, Malformed),
        ("an incompatible feature", 72, 1 << 63, Unsupported),
        ("zstd without its type", 72, 1 << 3, Malformed),
        ("a data file without a name", 72, 1 << 2, Malformed),
    ];
    for (what, at, value, kind) in longs {
        assert_eq!(with64(*at, *value).inspect_kind(), *kind, "{what}");
    }
    let mut typed = Qcow2::new(&[], false);
    typed.0[104] = 1;
    assert_eq!(typed.inspect_kind(), Malformed, "zstd without its bit");
    typed.0[104] = 2;
    assert_eq!(typed.inspect_kind(), Unsupported, "a compression type that is none");
    let mut extended = Qcow2::new(&[("cluster_size", "8k")], false);
    extended.set64(72, 1 << 4);
    assert_eq!(extended.inspect_kind(), Malformed, "extended L2 in small clusters");
}

#[test]
fn tables_past_the_end_are_truncated() {
    let far = 1_u64 << 40;
    assert_eq!(with64(40, far).read_kind(), Kind::Truncated, "L1");
    let mut snapshots = with32(60, 1);
    assert_eq!(snapshots.set64(64, far).inspect_kind(), Kind::Truncated, "snapshots");
    for last in [!0xffff, 1 << 63] {
        assert_eq!(
            snapshots.set64(64, last).inspect_kind(),
            Kind::Truncated,
            "snapshots {last:#x}"
        );
    }
    let mut many = with32(60, 65_536);
    let end = many.0.len().next_multiple_of(65_536);
    many.0.resize(end + 65_536, 0);
    assert_eq!(many.set64(64, end as u64).inspect_kind(), Kind::Truncated, "65536 snapshots");
}

#[test]
fn snapshots_whose_rows_cannot_be_are_refused() {
    let row = |at: usize, value: u32| {
        let mut image = with32(60, 1);
        let end = image.0.len().next_multiple_of(65_536);
        image.0.resize(end + 65_536, 0);
        image.set64(64, end as u64).set32(end + at, value);
        image.inspect().err().map(|error| error.kind())
    };
    assert_eq!(row(8, u32::MAX), Some(Kind::Limit), "a huge L1 table");
    assert_eq!(row(36, u32::MAX), Some(Kind::Malformed), "huge extra data");
    assert_eq!(row(36, 1025), Some(Kind::Malformed), "a little too much extra data");
    assert_eq!(row(12, 0), None, "a row of zeros is a snapshot without a name");
    assert_eq!(row(12, u32::MAX), Some(Kind::Truncated), "names that go past the end");
}

#[test]
fn a_snapshot_that_was_asked_for_and_is_not_there_is_invalid() {
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    options.snapshot = Some("yesterday".into());
    let opened = formats::open(Qcow2::new(&[], false).source(), qcow2(), &options);
    assert_eq!(opened.err().unwrap().kind(), Kind::Invalid);
}

#[test]
fn extensions_that_do_not_fit_are_malformed() {
    const BITMAPS: u32 = 0x2385_2875;
    let with = |kind, len, data: &[u8]| {
        let mut image = Qcow2::new(&[], false);
        image.extension(kind, len, data).inspect_kind()
    };
    assert_eq!(with(0x1234, u32::MAX, &[]), Kind::Malformed, "overflow");
    assert_eq!(with(0x1234, 65_536, &[]), Kind::Malformed, "past the cluster");
    let twice = [[0; 8], *b"\0\0\x12\x34\0\0\0\x08"].concat();
    assert_eq!(with(0x1234, 8, &twice), Kind::Malformed, "twice");
    assert_eq!(with(0xe279_2aca, 5000, &[]), Kind::Malformed, "a format's name of 5000 bytes");
    assert_eq!(with(BITMAPS, 16, &[]), Kind::Malformed, "a short list of bitmaps");
    assert_eq!(with(BITMAPS, 24, &[0xff; 24]), Kind::Malformed, "2^32 - 1 bitmaps");
    let mut one = [0; 24];
    (one[3], one[15]) = (1, 24);
    one[16] = 0x7f;
    assert_eq!(with(BITMAPS, 24, &one), Kind::Truncated, "bitmaps past the end");
}

// Seen: a panic for a backing file's name of 600 bytes in an image with clusters of 512. Why: the
// length was taken from the size of the cluster. Now the end of the name is compared with it.
#[test]
fn a_backing_name_that_does_not_fit_is_malformed() {
    for (offset, len) in [(200, 600), (8, 1023), (u64::MAX, 1), (u64::MAX - 5, 600), (112, 1024)] {
        let mut image = Qcow2::new(&[("cluster_size", "512")], false);
        image.set64(8, offset).set32(16, len);
        assert_eq!(image.inspect_kind(), Kind::Malformed, "{len} bytes at {offset}");
    }
}

#[test]
fn entries_of_tables_that_cannot_be_are_refused() {
    use Kind::{Malformed, Truncated};
    let sound = Qcow2::new(&[], false);
    let (l1, l2) = (sound.l1(), sound.l2());
    let cases: &[(&str, usize, u64, Kind)] = &[
        ("an L2 table inside a cluster", l1, 65_536 + 512, Malformed),
        ("an L2 table past the end", l1, 1 << 40, Truncated),
        ("an L2 table at the end of all offsets", l1, 0x00ff_ffff_ffff_0000, Truncated),
        ("a cluster inside another", l2, 65_536 * 2 + 512, Malformed),
        ("a cluster past the end", l2, 1 << 40, Truncated),
        ("a cluster at the end of all offsets", l2, 0x00ff_ffff_ffff_0000, Truncated),
        ("a compressed cluster past the end", l2, 1 << 62 | 1 << 40, Truncated),
        ("a compressed cluster at the last offset", l2, (1 << 63) - 1, Truncated),
        ("a compressed cluster that is none", l2, 1 << 62 | l2 as u64, Malformed),
    ];
    for (what, at, value, kind) in cases {
        let mut image = sound.clone();
        assert_eq!(image.set64(*at, *value).read_kind(), *kind, "{what}");
    }
    let mut old = Qcow2::new(&[("compat", "0.10")], false);
    let at = old.l2();
    assert_eq!(old.set64(at, 1).read_kind(), Malformed, "a zero cluster in version 2");
    let mut extended = Qcow2::new(&[("extended_l2", "on")], false);
    let at = extended.l2() + 8;
    assert_eq!(extended.set64(at, 1 << 32 | 1).read_kind(), Malformed, "data and zeros at once");
    let at = extended.l2();
    extended.set64(at, 0).set64(at + 8, 1);
    assert_eq!(extended.read_kind(), Malformed, "subclusters of no cluster");
}

#[test]
fn tables_that_point_at_themselves_end() {
    // What they say is nonsense, and a check says so; to read them is to read a few bytes.
    let sound = Qcow2::new(&[], false);
    for at in [sound.l1() as u64, sound.l2() as u64] {
        let mut image = sound.clone();
        let l1 = image.l1();
        let _ = image.set64(l1, 1 << 63 | at).read();
        let mut image = sound.clone();
        let l2 = image.l2();
        let _ = image.set64(l2, 1 << 63 | at).read();
    }
}

#[test]
fn encrypted_content_is_never_read_as_if_it_were_plain() {
    for method in [1, 2] {
        let image = with32(32, method);
        let facts = image.inspect().unwrap();
        assert!(facts.encrypted);
        assert_eq!(facts.hazards[0].kind, HazardKind::Encrypted);
        assert_eq!(image.read_kind(), Kind::Unsupported);
        let links = formats::Links::alone(image.source());
        let opened = (qcow2().open.unwrap())(links, &Limits::default());
        assert_eq!(opened.err().unwrap().kind(), Kind::Unsupported);
    }
}

#[test]
fn an_unknown_feature_is_named_by_the_image_and_escaped() {
    let mut image = with64(72, 1 << 17);
    let mut row = [0; 48];
    (row[0], row[1]) = (0, 17);
    row[2..18].copy_from_slice(b"\x1b[2Jclear screen");
    let error = image.extension(0x6803_f857, 48, &row).inspect().unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("clear screen") && !text.contains('\x1b'), "{text}");
}

#[test]
fn control_characters_in_names_come_out_unaltered() {
    let name = "evil\x1b]0;title\x07\r\n\u{202e}name";
    let facts = Qcow2::over(name, None).inspect().unwrap();
    assert_eq!(facts.references[0].name, name);
    let mut image = with32(60, 1);
    let end = image.0.len().next_multiple_of(65_536);
    image.0.resize(end, 0);
    image.set64(64, end as u64);
    image.0.extend([0; 64]);
    image.0[end + 15] = 5;
    image.0[end + 40..end + 45].copy_from_slice(b"\x1b\0\x07\xff\n");
    let facts = image.inspect().unwrap();
    assert_eq!(facts.snapshots[0].name, "\x1b\0\x07\u{fffd}\n");
}

/// How opening with names followed below a folder, and how opening by default, ends.
fn opened(path: &Path, root: Option<&Path>) -> Result<Vec<u8>> {
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    if let Some(root) = root {
        let folder = path.parent().unwrap();
        options.resolver = Arc::new(Beneath::new(root, folder, Access::Read)?);
    }
    let source = Arc::new(ImageFile::open(path, Access::Read, Caching::Writeback)?);
    let disk = formats::open(source, qcow2(), &options)?;
    // A part is enough to know what lies underneath, and the whole can be huge.
    let mut bytes = vec![0; disk.disk_size().min(1 << 20) as usize];
    disk.read(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn no_name_is_followed_by_default() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.raw"), vec![9; 1 << 20]).unwrap();
    for name in ["base.raw", "/etc/passwd", "/proc/self/environ", "json:{}", "nbd:localhost:1"] {
        let path = folder.path().join("top.qcow2");
        std::fs::write(&path, Qcow2::over(name, Some("raw")).0).unwrap();
        assert_eq!(opened(&path, None).unwrap_err().kind(), Kind::Refused, "{name}");
    }
    for raw in [0, 2] {
        let mut image = with64(72, 1 << 2);
        image.set64(88, raw).extension(0x4441_5441, 8, b"base.raw");
        assert_eq!(image.read_kind(), Kind::Refused, "a data file");
        assert_eq!(image.inspect().unwrap().references.len(), 1);
    }
}

#[test]
fn only_regular_files_below_the_folder_are_followed() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("images");
    std::fs::create_dir_all(root.join("deep")).unwrap();
    let base = vec![9; 1 << 20];
    for file in ["images/base.raw", "images/deep/base.raw", "outside.raw", "images/a:b.raw"] {
        std::fs::write(outer.path().join(file), &base).unwrap();
    }
    std::os::unix::fs::symlink("base.raw", root.join("link.raw")).unwrap();
    std::os::unix::fs::symlink(outer.path(), root.join("up")).unwrap();
    let fifo = rustix::fs::Mode::from_raw_mode(0o600);
    let (cwd, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(cwd, root.join("fifo"), kind, fifo, 0).unwrap();
    let refused: &[&str] = &[
        "../outside.raw",
        "deep/../../outside.raw",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/urandom",
        "file:///etc/passwd",
        "link.raw",
        "up/outside.raw",
        "up/images/base.raw",
        "fifo",
        "deep",
        ".",
        "json:{\"driver\":\"file\",\"filename\":\"base.raw\"}",
        "nbd:localhost:10809",
        "nbd://localhost",
        "ssh://host/path",
        "http://host/path",
        "fd:0",
        "fat:deep",
        "a:b.raw",
    ];
    let path = root.join("top.qcow2");
    let try_name = |name: &str, format| {
        std::fs::write(&path, Qcow2::over(name, format).0).unwrap();
        opened(&path, Some(&root))
    };
    for name in refused {
        let error = try_name(name, Some("raw")).err().unwrap_or_else(|| panic!("{name} followed"));
        assert_eq!(error.kind(), Kind::Refused, "{name}: {error:?}");
    }
    assert_eq!(try_name("nothing.raw", Some("raw")).unwrap_err().kind(), Kind::Io);
    assert!(try_name("", Some("raw")).is_err(), "an empty name");
    assert!(try_name("base.raw\0", Some("raw")).is_err(), "a name with a NUL");
    let error = try_name("base.raw", None).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "no format, none guessed: {error:?}");
    assert_eq!(try_name("base.raw", Some("vmfs")).unwrap_err().kind(), Kind::Unsupported);
    let absolute = root.canonicalize().unwrap().join("base.raw");
    for name in ["base.raw", "./base.raw", "deep/base.raw", "deep/../base.raw", "file:base.raw"] {
        assert!(try_name(name, Some("raw")).unwrap() == base, "{name}");
    }
    assert!(try_name(absolute.to_str().unwrap(), Some("raw")).unwrap() == base);
}

#[test]
fn a_device_is_not_followed_even_in_an_allowed_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("top.qcow2");
    std::fs::write(&path, Qcow2::over("zero", Some("raw")).0).unwrap();
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    let dev = Path::new("/dev");
    options.resolver = Arc::new(Beneath::new(dev, dev, Access::Read).unwrap());
    let source = Arc::new(ImageFile::open(&path, Access::Read, Caching::Writeback).unwrap());
    let error = formats::open(source, qcow2(), &options).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{error:?}");
}

#[test]
fn an_image_that_is_its_own_backing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, over: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, Qcow2::over(over, Some("qcow2")).0).unwrap();
        path
    };
    let narcissus = put("self.qcow2", "self.qcow2");
    assert_eq!(opened(&narcissus, Some(folder.path())).unwrap_err().kind(), Kind::Refused);
    let snake = put("one.qcow2", "two.qcow2");
    put("two.qcow2", "three.qcow2");
    put("three.qcow2", "one.qcow2");
    assert_eq!(opened(&snake, Some(folder.path())).unwrap_err().kind(), Kind::Refused);
    // The same file under another name.
    put("a.qcow2", "b.qcow2");
    std::fs::hard_link(folder.path().join("a.qcow2"), folder.path().join("b.qcow2")).unwrap();
    let twin = opened(&folder.path().join("a.qcow2"), Some(folder.path()));
    assert_eq!(twin.unwrap_err().kind(), Kind::Refused);
}

#[test]
fn a_chain_has_sixteen_images_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..16 {
        let over = format!("{}.qcow2", index + 1);
        let path = folder.path().join(format!("{index}.qcow2"));
        std::fs::write(path, Qcow2::over(&over, Some("qcow2")).0).unwrap();
    }
    let last = Qcow2::of(&vec![3; 1 << 20], &[], false);
    std::fs::write(folder.path().join("16.qcow2"), last.0).unwrap();
    let long = opened(&folder.path().join("0.qcow2"), Some(folder.path()));
    assert_eq!(long.unwrap_err().kind(), Kind::Limit);
    let fits = opened(&folder.path().join("1.qcow2"), Some(folder.path())).unwrap();
    assert!(fits == vec![3; 1 << 20]);
}

#[test]
fn a_guest_that_writes_a_header_into_its_raw_disk_gains_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let trap = Qcow2::over("/etc/passwd", Some("raw")).0;
    let source = Arc::new(Memory::new(trap.clone()));
    let declared = open(source, formats::format("raw").unwrap()).unwrap();
    assert!(read_all(&*declared).unwrap() == trap);
    // And as the backing file of an image that says it is raw.
    std::fs::write(folder.path().join("base.raw"), &trap).unwrap();
    let path = folder.path().join("top.qcow2");
    std::fs::write(&path, Qcow2::over("base.raw", Some("raw")).0).unwrap();
    assert!(opened(&path, Some(folder.path())).unwrap()[..trap.len()] == trap);
}

/// An image whose 131 072 clusters, 8 GiB, are all the same few bytes.
fn bomb(compress: bool) -> Qcow2 {
    let mut image = Qcow2::new(&[], compress);
    let (l1, l2) = (image.l1(), image.l2());
    let (table, entry) = (image.get64(l1), image.get64(l2));
    for index in 0..8192 {
        image.set64(l2 + index * 8, entry);
    }
    image.set64(24, 8 << 30).set32(36, 16);
    for index in 0..16 {
        image.set64(l1 + index * 8, table);
    }
    image
}

#[test]
fn a_few_pages_that_claim_to_be_gigabytes_are_refused_at_once() {
    for compress in [true, false] {
        let bomb = bomb(compress);
        assert!(bomb.0.len() < 600 << 10);
        let begun = std::time::Instant::now();
        let image = open(bomb.source(), qcow2()).unwrap();
        let error = Survey::of(&*image, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit, "{error:?}");
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
        let most = Limits { max_output: 1 << 20, ..Default::default() };
        assert_eq!(Survey::of(&*image, &most).unwrap_err().kind(), Kind::Limit);
    }
    let sound = open(Qcow2::new(&[], true).source(), qcow2()).unwrap();
    assert_eq!(Survey::of(&*sound, &Limits::default()).unwrap().packed, 256 << 10);
}

#[test]
fn a_disk_larger_than_the_caller_allows_is_refused() {
    let limits = Limits { max_disk_size: 1000, ..Default::default() };
    for format in writable() {
        let bytes = image(format, &lone_variants(format, 1024)[0].create, &*raw(&[1; 1024]), 1);
        let source = Arc::new(Memory::new(bytes));
        let error = formats::open(source, format, &OpenOptions::new(FORMATS, &limits)).err();
        assert_eq!(error.unwrap().kind(), Kind::Limit, "{}", format.name);
    }
}

// Seen: a damaged compressed cluster went from image to image without a word. Why: a unit of the
// same codec was handed on unopened. Now it is unpacked first, and what comes out is thrown away.
#[test]
fn a_damaged_compressed_cluster_is_not_passed_on() {
    for kind in ["zlib", "zstd"] {
        let options = [("compression_type", kind)];
        let text: Vec<u8> = (0..256_u32 << 10).map(|i| (i.wrapping_mul(i) >> 9) as u8).collect();
        let sound = Qcow2::of(&text, &options, true);
        let begin = (sound.get64(sound.l2()) & 0x00ff_ffff_ffff) as usize;
        let mut damaged = sound.clone();
        damaged.0[begin..begin + 40].fill(0xff);
        let mut empty = sound.clone();
        empty.0[begin..begin + 40].fill(0);
        for image in [damaged, empty] {
            let disk = open(image.source(), qcow2()).unwrap();
            let create = Create {
                size: disk.disk_size(),
                compress: true,
                options: Options::new([("compression_type".into(), kind.into())]),
                ..Default::default()
            };
            let target = Arc::new(Memory::default());
            let writer = (qcow2().create.unwrap())(target, &create).unwrap();
            let copied = formats::copy(&*disk, &*writer, &CopyOptions::default());
            assert_eq!(copied.unwrap_err().kind(), Kind::Malformed, "{kind}");
        }
    }
}

#[test]
fn sizes_that_are_no_multiple_of_a_sector_keep_every_byte() {
    let bytes = disk(9, 256 << 10);
    for size in [1, 1000, 65_535, (256 << 10) - 1] {
        let mut image = Qcow2::of(&bytes, &[], true);
        image.set64(24, size);
        assert!(image.read().unwrap() == bytes[..size as usize], "{size}");
        let facts = image.inspect().unwrap();
        assert_eq!(facts.hazards[0].kind, HazardKind::Irregular);
        assert!(content(bytes[..size as usize].to_vec()).unwrap() == bytes[..size as usize]);
    }
}

#[test]
fn containers_that_are_not_read_yet_do_not_pass_for_raw() {
    let front = |magic: &[u8], at: usize| {
        let mut bytes = vec![0; 4096];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        formats::probe(FORMATS, &Memory::new(bytes)).map(|format| format.name)
    };
    let marks: &[(&[u8], usize)] = &[
        (b"KDMV", 0),
        (b"vhdxfile", 0),
        (b"conectix", 0),
        (b"conectix", 4096 - 512),
        (&[0x7f, 0x10, 0xda, 0xbe], 0x40),
        (b"QFI\xfb\0\0\0\x01", 0),
        (b"LUKS\xba\xbe", 0),
    ];
    for (magic, at) in marks {
        assert_ne!(front(magic, *at).ok(), Some("raw"), "{magic:x?} at {at}");
    }
    assert_eq!(front(b"nothing", 0).unwrap(), "raw");
}

/// Images of every format, small enough to be tried in thousands of ways: name, file and disk.
fn specimens() -> Vec<(String, &'static Format, Vec<u8>, Vec<u8>)> {
    let mut list = Vec::new();
    for format in writable() {
        let bytes = disk(10, 40 << 10);
        for variant in lone_variants(format, bytes.len() as u64) {
            let file = image(format, &variant.create, &*raw(&bytes), 1);
            if file.len() < 80 << 10 {
                list.push((variant.name, format, file, bytes.clone()));
            }
        }
    }
    for good in goods().into_iter().filter(disks::Good::stands_alone) {
        let format = formats::format(good.fact("format")).unwrap();
        let whole = read_all(&*open(Arc::new(Memory::new(good.bytes.clone())), format).unwrap());
        list.push((good.name, format, good.bytes, whole.unwrap()));
    }
    list
}

#[test]
fn an_image_cut_anywhere_is_an_error_or_all_there() {
    let mut cuts = 0;
    for (name, format, file, bytes) in specimens() {
        // A raw disk cut short is a shorter disk: nothing in it says otherwise.
        if format.name == "raw" {
            continue;
        }
        let mut refused = 0;
        // Every 37th length of the small ones, and a few hundred of those that take MiB.
        let step = match file.len() >> 20 {
            0 if file.len() <= 300 << 10 => 37,
            0 => 37 * 11,
            mebibytes => 37 * 353 * mebibytes,
        };
        for len in (0..file.len()).step_by(step) {
            cuts += 1;
            let source = Arc::new(Memory::new(&file[..len]));
            match open(source, format).and_then(|disk| read_all(&*disk)) {
                Ok(read) => assert!(read == bytes, "{name} cut at {len} is wrong in silence"),
                Err(error) => {
                    let known = matches!(error.kind(), Kind::Truncated | Kind::Malformed);
                    assert!(known, "{name} cut at {len}: {error:?}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0, "{name} can be cut to nothing");
    }
    eprintln!("{cuts} cuts");
}

/// Looks at everything that a program would look at, but not for ever.
fn look_at(format: &'static Format, file: &[u8]) {
    let source: Arc<dyn Source> = Arc::new(Memory::new(file));
    let limits = Limits::default();
    let _ = formats::probe(FORMATS, &*source);
    let _ = (format.inspect)(&*source, &limits);
    if let Some(check) = format.check {
        let _ = check(formats::Links::alone(source.clone()), &limits, &mut |_| {});
    }
    let Ok(disk) = open(source, format) else { return };
    for extent in disk.walk(0, disk.disk_size()).take(1000) {
        let Ok(extent) = extent else { break };
        let mut bytes = vec![0; extent.len.min(1 << 16) as usize];
        let _ = disk.read(extent.start, &mut bytes);
    }
}

#[test]
fn no_byte_of_a_header_can_be_changed_into_a_panic() {
    for (name, format, file, _) in specimens().into_iter().step_by(3) {
        let mut file = file;
        for at in 0..file.len().min(640) {
            for mask in [0xff, 0x80, 0x01, 0x10] {
                file[at] ^= mask;
                let tried = std::panic::catch_unwind(|| look_at(format, &file));
                assert!(tried.is_ok(), "{name} with byte {at} changed by {mask:#x}");
                file[at] ^= mask;
            }
        }
    }
}

// TRUTH row 21: qemu-img converts an image with reserved bits in an L1 entry without a word. We
// read such an image, report the entry, and refuse it where only sound images are wanted.
#[test]
fn reserved_bits_of_an_l1_entry_are_a_finding_and_refused_in_strict_mode() {
    let bytes = disk(21, 300_032);
    let create = Create { size: bytes.len() as u64, ..Default::default() };
    let mut file = image(qcow2(), &create, &*raw(&bytes), 1);
    let l1 = u64::from_be_bytes(file[40..48].try_into().unwrap()) as usize;
    file[l1] ^= 2;
    let source = Arc::new(Memory::new(file));
    let mut found = Vec::new();
    let links = formats::Links::alone(source.clone());
    let check = qcow2().check.unwrap();
    let tally = check(links, &Limits::default(), &mut |finding| found.push(finding)).unwrap();
    assert!(tally.corruptions == 1 && found[0].at == l1 as u64, "{found:?}");
    assert!(read_all(&*open(source.clone(), qcow2()).unwrap()).unwrap() == bytes);
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    options.strict = true;
    let refused = formats::open(source, qcow2(), &options).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused, "{refused:?}");
}
