//! iso volumes that attack, or are damaged: made whole, then changed byte by byte.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the volumes are small")]

mod disks;

use std::sync::Arc;

use formats::{
    Entry, EntryKind, FORMATS, Facts, Format, HazardKind, Ingest, IsoAuthor, Kind, Limits, Memory,
    OpenOptions, Result, Source,
};

const SECTOR: usize = 2048;
const PRIMARY: usize = 16 * SECTOR;
/// Fields of a descriptor.
const BLOCKS: usize = 80;
const BLOCK: usize = 128;
const ROOT: usize = 156;
/// Fields of a record.
const EXTENT: usize = 2;
const SIZE: usize = 10;
const FLAGS: usize = 25;
const NAME: usize = 33;

fn iso() -> &'static Format {
    formats::format("iso").unwrap()
}

/// A volume, and then something that only looks like one.
#[derive(Clone)]
struct Iso(Vec<u8>);

impl Iso {
    /// With files of these names, each of which holds its own name; those that end in `/` are
    /// folders, and `name>target` is a link.
    fn of(names: &[&str]) -> Iso {
        let mut author = IsoAuthor::new("HOSTILE").unwrap();
        for name in names {
            if let Some((name, target)) = name.split_once('>') {
                author.link(name, target).unwrap();
            } else if let Some(folder) = name.strip_suffix('/') {
                author.folder(folder, 0o755).unwrap();
            } else {
                let content = name.as_bytes().to_vec();
                let open = move || Ok(Arc::new(Memory::new(content.clone())) as Arc<dyn Source>);
                author.file(name, 0o644, name.len() as u64, Box::new(open)).unwrap();
            }
        }
        if names.contains(&"boot") {
            author.boot_bios("boot", None, false).unwrap();
        }
        let target = Memory::default();
        author.write(&target, &|_, _| Ok(())).unwrap();
        Iso(target.to_vec())
    }

    fn number(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
    }

    /// A number in both orders.
    fn set(&mut self, at: usize, number: usize) -> &mut Iso {
        let number = number as u32;
        self.0[at..at + 4].copy_from_slice(&number.to_le_bytes());
        self.0[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Iso {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Where the supplementary descriptor stands.
    fn joliet(&self) -> usize {
        (PRIMARY..).step_by(SECTOR).find(|at| self.0[*at] == 2).unwrap()
    }

    /// Where the root directory of a descriptor lies.
    fn root(&self, descriptor: usize) -> usize {
        self.number(descriptor + ROOT + EXTENT) * SECTOR
    }

    /// Where the record of this identifier stands, in the directory at this offset.
    fn record(&self, directory: usize, name: &[u8]) -> usize {
        let mut at = directory;
        loop {
            let (len, name_len) = (usize::from(self.0[at]), usize::from(self.0[at + 32]));
            match len {
                0 => at = (at + 1).next_multiple_of(SECTOR),
                _ if self.0[at + NAME..at + NAME + name_len] == *name => return at,
                _ => at += len,
            }
        }
    }

    /// Where a file's record stands in the root directory.
    fn file(&self, name: &[u8]) -> usize {
        self.record(self.root(PRIMARY), name)
    }

    /// Where a field stands behind this offset.
    fn field(&self, at: usize, kind: &[u8]) -> usize {
        at + self.0[at..].windows(kind.len()).position(|bytes| bytes == kind).unwrap()
    }

    /// Without Rock Ridge.
    fn plain(mut self) -> Iso {
        let used = self.field(self.root(PRIMARY), b"SP\x07\x01");
        self.put(used, b"XX");
        self
    }

    /// Without Joliet.
    fn narrow(mut self) -> Iso {
        let joliet = self.joliet();
        self.put(joliet + 88, b"\0\0\0");
        self
    }

    fn entries_within(&self, limits: &Limits) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        iso().entries.unwrap()(&Memory::new(self.0.clone()), limits, &mut |entry| {
            found.push(entry);
            Ok(())
        })?;
        Ok(found)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        self.entries_within(&Limits::default())
    }

    fn paths(&self) -> Vec<String> {
        self.entries().unwrap().into_iter().map(|entry| entry.path).collect()
    }

    #[track_caller]
    fn refused(&self, kind: Kind, what: &str) {
        let error = self.entries().expect_err("it is refused");
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(what), "{error:?}");
    }

    fn facts(&self) -> Result<Facts> {
        (iso().inspect)(&Memory::new(self.0.clone()), &Limits::default())
    }

    fn hazards(&self) -> Vec<HazardKind> {
        self.facts().unwrap().hazards.iter().map(|hazard| hazard.kind).collect()
    }

    fn open(&self) -> Result<u64> {
        let limits = Limits::default();
        let source = Arc::new(Memory::new(self.0.clone()));
        let disk = formats::open(source, iso(), &OpenOptions::new(FORMATS, &limits))?;
        Ok(disk.disk_size())
    }
}

#[test]
fn names_come_from_rock_ridge_else_from_joliet_else_as_they_are() {
    let iso = Iso::of(&["a long Name.text", "sub/b"]);
    assert_eq!(iso.paths(), ["a long Name.text", "sub", "sub/b"]);
    assert_eq!(iso.clone().plain().paths(), ["a long Name.text", "sub", "sub/b"]);
    assert_eq!(iso.clone().narrow().paths(), ["a long Name.text", "sub", "sub/b"]);
    assert_eq!(iso.plain().narrow().paths(), ["A_LONG_NAME.TEXT", "SUB", "SUB/B"]);
}

#[test]
fn a_folder_that_holds_itself_is_found() {
    let iso = Iso::of(&["a/b/c"]);
    let (root, a) = (iso.root(PRIMARY), iso.file(b"A"));
    iso.clone().set_extent(a, root).refused(Kind::Malformed, "around itself");
    let inner = iso.record(iso.number(a + EXTENT) * SECTOR, b"B");
    let own = iso.number(a + EXTENT) * SECTOR;
    iso.clone().set_extent(inner, own).refused(Kind::Malformed, "around itself");
    // Two folders that share a sector, though neither begins where the other one does.
    let mut over = iso.clone();
    over.set(a + SIZE, 2 * SECTOR);
    over.refused(Kind::Malformed, "around itself");
}

impl Iso {
    fn set_extent(&mut self, record: usize, offset: usize) -> &mut Iso {
        self.set(record + EXTENT, offset / SECTOR)
    }
}

#[test]
fn fields_that_go_round_in_a_circle_are_found() {
    let long = format!("link>{}", "folder/".repeat(800));
    let iso = Iso::of(&[&long]);
    let record = iso.file(b"LINK.;1");
    let first = iso.field(record, b"CE\x1c\x01");
    let area = iso.number(first + 4) * SECTOR + iso.number(first + 12);
    let second = iso.field(area, b"CE\x1c\x01");
    let lead: Vec<_> = iso.0[first..first + 28].to_vec();
    iso.clone().put(second, &lead).refused(Kind::Malformed, "circle");
    iso.clone().set(first + 20, 1 << 30).refused(Kind::Malformed, "4096 at most");
    iso.clone().set(first + 4, 1 << 30).refused(Kind::Truncated, "");
    // A circle of areas without a byte in them.
    let mut empty = iso.clone();
    empty.set(first + 20, 0);
    assert_eq!(empty.paths(), ["link"]);
    // All in order, it is read.
    let [link] = &iso.entries().unwrap()[..] else { panic!("one entry") };
    assert_eq!(link.kind, EntryKind::Link("folder/".repeat(800).trim_end_matches('/').into()));
}

#[test]
fn a_field_that_ends_behind_its_record_is_malformed() {
    let mut iso = Iso::of(&["file"]);
    let field = iso.field(iso.file(b"FILE.;1"), b"NM\x09\x01");
    iso.clone().put(field + 2, &[200]).refused(Kind::Malformed, "200 bytes");
    iso.put(field + 2, &[3]).refused(Kind::Malformed, "3 bytes");
}

#[test]
fn records_too_short_or_over_the_edge_are_malformed() {
    let names: Vec<_> = (0..40).map(|number| format!("file-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let iso = Iso::of(&names);
    let (root, file) = (iso.root(PRIMARY), iso.file(b"FILE_0.;1"));
    for len in [1, 20, 33] {
        iso.clone().put(file, &[len]).refused(Kind::Malformed, "too short");
    }
    iso.clone().put(file + 32, &[250]).refused(Kind::Malformed, "too short");
    let mut last = root;
    while iso.0[last + usize::from(iso.0[last])] != 0 {
        last += usize::from(iso.0[last]);
    }
    iso.clone().put(last, &[254]).refused(Kind::Malformed, "another sector");
    // A record of no length ends its sector.
    assert!(iso.clone().put(file, &[0]).paths().len() < 40);
    // A name of no length is none.
    iso.clone().put(file + 32, &[0]).refused(Kind::Malformed, "too short");
}

#[test]
fn names_that_lead_out_are_malformed() {
    for (name, bad) in [("ab", ".."), ("abc", "a/b"), ("abc", "../"), ("a", "."), ("abc", "a\0b")] {
        let iso = Iso::of(&[name]);
        let short = format!("{}.;1", name.to_uppercase());
        let field = iso.field(iso.file(short.as_bytes()), b"NM");
        iso.clone().put(field + 5, bad.as_bytes()).refused(Kind::Malformed, "no name");
        // A name in Joliet.
        let mut wide = iso.clone().plain();
        let units = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        let record = wide.record(wide.root(wide.joliet()), &units(name));
        wide.put(record + NAME, &units(bad)).refused(Kind::Malformed, "no name");
    }
    let mut short = Iso::of(&["abcd"]).plain().narrow();
    let record = short.file(b"ABCD.;1");
    short.clone().put(record + NAME, b"../A.;1").refused(Kind::Malformed, "no name");
    short.put(record + NAME, b"...;1;1");
    assert_eq!(short.paths(), ["...;1"]);
    // The flags say: the folder itself, the one above.
    let mut flags = Iso::of(&["a"]);
    let field = flags.field(flags.file(b"A.;1"), b"NM\x06\x01");
    flags.clone().put(field + 4, &[4]).refused(Kind::Malformed, "no name");
    flags.put(field + 4, &[2]).refused(Kind::Malformed, "no name");
}

#[test]
fn two_of_one_name_are_malformed() {
    let iso = Iso::of(&["aa", "ab"]);
    let field = iso.field(iso.file(b"AB.;1"), b"NM");
    iso.clone().put(field + 5, b"aa").refused(Kind::Malformed, "another 'aa'");
}

#[test]
fn text_out_of_a_volume_is_escaped_in_messages() {
    let iso = Iso::of(&["abcd", "abce"]);
    let names = [b"ABCD.;1", b"ABCE.;1"].map(|name| iso.field(iso.file(name), b"NM") + 5);
    let mut hostile = iso.clone();
    hostile.put(names[0], b"\x1b[2J").put(names[1], b"\x1b[2J");
    let error = hostile.entries().unwrap_err();
    assert!(!error.to_string().contains('\x1b'), "{error}");
}

#[test]
fn numbers_that_disagree_are_a_hazard_and_the_first_one_counts() {
    let iso = Iso::of(&["a"]);
    assert!(iso.hazards().is_empty());
    for at in [BLOCKS + 7, BLOCK + 3, 132 + 7, 120 + 3] {
        for descriptor in [PRIMARY, iso.joliet()] {
            let mut wrong = iso.clone();
            wrong.0[descriptor + at] ^= 1;
            assert_eq!(wrong.hazards(), [HazardKind::Irregular], "{at}");
            assert_eq!(wrong.paths(), ["a"]);
        }
    }
}

#[test]
fn a_bomb_of_zisofs_is_listed_and_never_unpacked() {
    let mut iso = Iso::of(&["bomb"]);
    let times = iso.field(iso.file(b"BOMB.;1"), b"TF\x1a\x01");
    let claim = [u32::MAX.to_le_bytes(), u32::MAX.to_be_bytes()].concat();
    iso.put(times, b"ZF\x10\x01pz\x04\x0f").put(times + 8, &claim);
    iso.put(times + 16, b"XX\x0a\x01");
    let [bomb] = &iso.entries().unwrap()[..] else { panic!("one entry") };
    assert_eq!((bomb.size, bomb.packing), (u32::MAX.into(), Some("zisofs")));
    assert_eq!(bomb.stretches.iter().map(|stretch| stretch.len).sum::<u64>(), 4);
}

#[test]
fn a_volume_cut_short_is_described_and_not_read() {
    let iso = Iso::of(&["a", "b", "boot"]);
    assert_eq!(iso.open().unwrap(), iso.0.len() as u64);
    for cut in [1, SECTOR, 3 * SECTOR] {
        let mut short = iso.clone();
        short.0.truncate(iso.0.len() - cut);
        assert_eq!(short.hazards()[0], HazardKind::Corrupt);
        assert_eq!(short.open().unwrap_err().kind(), Kind::Truncated);
    }
    let mut short = iso.clone();
    short.0.truncate(iso.0.len() - 1);
    let entries = short.entries().unwrap();
    let source: Arc<dyn Source> = Arc::new(Memory::new(short.0.clone()));
    let last = entries.iter().max_by_key(|entry| entry.stretches[0].offset).unwrap();
    assert!(formats::inside(&source, "last", &last.stretches).is_ok(), "padding is no content");
    // Descriptors, and the folder that they lead to.
    for (len, kind) in [(PRIMARY + SECTOR, Kind::Truncated), (PRIMARY + 7000, Kind::Truncated)] {
        short.0.truncate(len);
        assert!(short.entries().is_err_and(|error| error.kind() == kind), "{len}");
    }
}

#[test]
fn counts_past_a_limit_are_refused_before_memory_is_taken() {
    let iso = Iso::of(&["a/b", "c", "d"]);
    let few = Limits { max_entries: 3, ..Limits::default() };
    assert_eq!(iso.entries_within(&few).unwrap_err().kind(), Kind::Limit);
    let a = iso.file(b"A");
    iso.clone().set(a + SIZE, u32::MAX as usize).refused(Kind::Limit, "at most");
    iso.clone().set(a + SIZE, 1 << 20).refused(Kind::Truncated, "a directory");
    iso.clone().set(a + EXTENT, u32::MAX as usize).refused(Kind::Truncated, "a directory");
    let deep = ["folder-of-a-long-name-that-takes-its-bytes"; 100].join("/") + "/";
    Iso::of(&[&deep]).refused(Kind::Limit, "4096 at most");
}

#[test]
fn a_file_that_goes_on_and_does_not_is_malformed() {
    let iso = Iso::of(&["a", "b"]);
    let [a, b] = [b"A.;1", b"B.;1"].map(|name| iso.file(name));
    let mut other = iso.clone();
    other.0[a + FLAGS] = 0x80;
    other.refused(Kind::Malformed, "another name");
    let mut last = iso.clone();
    last.0[b + FLAGS] = 0x80;
    last.refused(Kind::Malformed, "does not");
    // Under one name they are one file.
    let mut one = iso.clone();
    one.0[a + FLAGS] = 0x80;
    one.put(b + NAME, b"A.;1");
    let [file] = &one.entries().unwrap()[..] else { panic!("one file") };
    assert_eq!((file.size, file.stretches.len(), file.path.as_str()), (2, 2, "b"));
}

#[test]
fn a_folder_that_was_moved_nowhere_is_malformed() {
    let iso = Iso::of(&["a", "b/c"]);
    let record = iso.file(b"A.;1");
    let times = iso.field(record, b"TF\x1a\x01");
    let moved = |block: usize| {
        let mut moved = iso.clone();
        moved.put(times, b"CL\x0c\x01").set(times + 4, block).put(times + 12, b"XX\x0e\x01");
        moved
    };
    moved(0).refused(Kind::Malformed, "no directory");
    moved(1 << 30).refused(Kind::Truncated, "");
    moved(iso.root(PRIMARY) / SECTOR).refused(Kind::Malformed, "around itself");
}

#[test]
fn a_boot_catalog_that_is_none_is_a_hazard() {
    let iso = Iso::of(&["boot"]);
    let record = PRIMARY + SECTOR;
    assert_eq!(&iso.0[record..record + 6], b"\0CD001");
    let catalog = iso.number(record + 71) * SECTOR;
    assert!(iso.hazards().is_empty());
    let firmware = |iso: &Iso| format!("{:?}", iso.facts().unwrap().details);
    assert!(firmware(&iso).contains("bios"));
    assert_eq!(iso.clone().put(catalog + 28, b"xx").hazards(), [HazardKind::Irregular]);
    assert_eq!(iso.clone().put(catalog, b"\x02").hazards(), [HazardKind::Irregular]);
    let far = (u32::MAX).to_le_bytes();
    assert_eq!(iso.clone().put(record + 71, &far).hazards(), [HazardKind::Corrupt]);
    // A section that claims more entries than there is room for.
    let mut many = iso.clone();
    many.put(catalog + 64, &[0x91, 0xef, 0xff, 0xff]).put(catalog + 96, &[0x88]);
    assert!(many.facts().is_ok() && firmware(&many).contains("uefi"));
}

#[test]
fn descriptors_without_a_volume_are_malformed() {
    let iso = Iso::of(&["a"]);
    for block in [0_u16, 7, 4096] {
        let mut odd = iso.clone();
        odd.put(PRIMARY + BLOCK, &block.to_le_bytes()).refused(Kind::Malformed, "blocks of");
        assert_eq!(odd.facts().unwrap_err().kind(), Kind::Malformed);
    }
    iso.clone().put(PRIMARY, &[255]).refused(Kind::Malformed, "no primary");
    iso.clone().put(PRIMARY + ROOT + 32, &[9]).refused(Kind::Malformed, "no root");
    let mut endless = iso.clone();
    let end = (PRIMARY..).step_by(SECTOR).find(|at| iso.0[*at] == 255).unwrap();
    assert_eq!(endless.put(end, b"\0other").hazards(), [HazardKind::Irregular]);
}

#[test]
fn a_volume_that_is_another_container_too_is_refused_and_partitions_are_lawful() {
    let probe = |iso: &Iso| formats::probe(FORMATS, &Memory::new(iso.0.clone())).map(|f| f.name);
    let iso = Iso::of(&["a"]);
    assert_eq!(probe(&iso).unwrap(), "iso");
    let mut tables = iso.clone();
    tables.put(510, &[0x55, 0xaa]).put(446 + 12, &[1]).put(512, b"EFI PART");
    assert_eq!(probe(&tables).unwrap(), "iso");
    assert!(tables.hazards().is_empty());
    assert!(format!("{:?}", tables.facts().unwrap().details).contains("gpt"));
    let mut both = iso.clone();
    both.put(0, b"QFI\xfb\0\0\0\x03");
    assert_eq!(probe(&both).unwrap_err().kind(), Kind::Refused);
}

#[test]
fn a_stream_is_looked_at_as_it_goes_by_with_its_catalog_far_behind() {
    let mut iso = Iso::of(&["boot"]);
    let catalog = iso.number(PRIMARY + SECTOR + 71) * SECTOR;
    let bytes = iso.0[catalog..catalog + SECTOR].to_vec();
    iso.0.resize(5 << 20, 0x33);
    let far = 3 << 20;
    let sector = ((far / SECTOR) as u32).to_le_bytes();
    iso.put(far, &bytes).put(PRIMARY + SECTOR + 71, &sector);
    let facts = iso.facts().unwrap();
    for size in [511, 65_536, usize::MAX] {
        let mut ingest = Ingest::new(FORMATS, Limits::default());
        iso.0.chunks(size.min(iso.0.len())).for_each(|chunk| drop(ingest.push(chunk).unwrap()));
        assert_eq!(ingest.finish().unwrap(), facts, "{size}");
    }
}

#[test]
fn no_byte_that_is_changed_breaks_more_than_its_volume() {
    let long = format!("a link>{}", "folder/".repeat(400));
    let iso = Iso::of(&["boot", "a folder/with a file", &long]);
    let content = iso.0.len() - 2 * SECTOR;
    for at in (PRIMARY..content).filter(|at| iso.0[*at] != 0 || at % 7 == 0) {
        for flip in [0xff, 1] {
            let mut changed = iso.clone();
            changed.0[at] ^= flip;
            for result in [changed.entries().map(drop), changed.facts().map(drop)] {
                assert!(result.is_ok() || result.is_err_and(|e| e.kind() != Kind::Awaiting));
            }
        }
    }
}

/// A disk formatted with UDF and sectors of 512 bytes was taken for a DVD, whose sectors have 2048:
/// what an operator wanted to convert was refused as an iso.
#[test]
fn udf_on_a_hard_disk_is_a_disk() {
    let mut bytes = vec![0; 1 << 20];
    for (sector, mark) in [b"BEA01", b"NSR03", b"TEA01"].into_iter().enumerate() {
        bytes[PRIMARY + sector * SECTOR + 1..][..5].copy_from_slice(mark);
    }
    for (sector, expected) in [(SECTOR, "iso"), (512, "raw")] {
        let mut disk = bytes.clone();
        let anchor = 256 * sector;
        disk[anchor] = 2;
        disk[anchor + 12..anchor + 16].copy_from_slice(&256_u32.to_le_bytes());
        assert_eq!(formats::probe(FORMATS, &Memory::new(disk)).unwrap().name, expected);
    }
}
