//! VMDKs that we write, as others read them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;
mod oracle;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use disks::{Made, disk, made, raw};
use formats::{
    Codec, CompareOptions, Comparison, CopyOptions, Create, Decoder, Faulty, Format, Kind, Memory,
    Options, Stream, Target, compare,
};
use oracle::{Place, has};

const KINDS: [&str; 5] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
];

fn vmdk() -> &'static Format {
    formats::format("vmdk").unwrap()
}

fn settings(size: u64, pairs: &[(&str, &str)]) -> Create {
    let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Create { size, options: Options::new(pairs), ..Create::default() }
}

/// A disk with data at its very end, the last byte included.
fn odd_disk(size: usize) -> Vec<u8> {
    let mut bytes = disk(size as u64, size);
    let end = size.saturating_sub(2000);
    bytes[end..].fill(0x77);
    bytes
}

/// What qemu-img says: it is sound, and the same as the raw disk.
fn qemu_agrees(place: &Place, kind: &str, image: &str) {
    place.must("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", "disk", image]);
    // Of flat extents there is nothing to check.
    if !kind.contains("Flat") {
        place.must("qemu-img", &["check", "-f", "vmdk", image]);
    }
}

/// We read the raw disk.
fn we_agree(place: &Place, what: &str, image: &str) {
    let (one, two) = (place.open("disk", "raw"), place.open(image, "vmdk"));
    let same = compare(&*one, &*two, &CompareOptions::default());
    assert_eq!(same.unwrap_or_else(|e| panic!("{what}: {e:?}")), Comparison::Same, "{what}");
}

/// What 7-Zip takes out of it is the raw disk.
fn seven_zip_agrees(place: &Place, what: &str, image: &str) {
    place.must("7zz", &["t", image]);
    let out = place.run("7zz", &["x", "-so", image]);
    assert!(out.stdout == place.get("disk"), "{what}: {}", String::from_utf8_lossy(&out.stderr));
}

/// libvmdk shows the raw disk; `false` where it cannot mount.
fn libvmdk_agrees(place: &Place, what: &str, image: &str) -> bool {
    let mount = tempfile::tempdir().unwrap();
    let at = mount.path().to_str().unwrap();
    if !place.run("vmdkmount", &[image, at]).status.success() {
        let said = place.must("vmdkinfo", &[image]);
        eprintln!("skipped: vmdkmount cannot mount here; {}", String::from_utf8_lossy(&said));
        return false;
    }
    let read = std::fs::read(mount.path().join("vmdk1"));
    place.unmount(at);
    assert!(read.unwrap() == place.get("disk"), "{what}");
    true
}

#[test]
fn others_read_every_kind_that_we_write_of_every_size() {
    if !has(&["qemu-img"]) {
        return;
    }
    let (zip, libvmdk) = (has(&["7zz"]), has(&["vmdkmount", "fusermount"]));
    let mut mounted = 0;
    for size in [83_971 * 512, 65_536 + 3 * 512, 512, (1 << 20) + 512, 40 << 20] {
        let place = Place::new();
        place.put("disk", &odd_disk(size));
        let raw = place.open("disk", "raw");
        for kind in KINDS {
            let what = format!("{kind} of {size}");
            place.write(
                "image.vmdk",
                "vmdk",
                &settings(size as u64, &[("subformat", kind)]),
                &*raw,
            );
            qemu_agrees(&place, &what, "image.vmdk");
            if zip {
                seven_zip_agrees(&place, &what, "image.vmdk");
            }
            // libvmdk calls a monolithicFlat, qemu's too, an unsupported kind of disk.
            let mounts = libvmdk && kind != "monolithicFlat";
            mounted += usize::from(mounts && libvmdk_agrees(&place, &what, "image.vmdk"));
        }
    }
    assert!(!libvmdk || mounted == 0 || mounted == 20, "{mounted} were mounted");
}

#[test]
fn others_read_images_with_every_setting() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let size = (3 << 20) + 1536;
    place.put("disk", &odd_disk(size));
    let raw = place.open("disk", "raw");
    let mut all = 0;
    for variant in disks::variants(vmdk(), size as u64) {
        place.write("image.vmdk", "vmdk", &variant.create, &*raw);
        qemu_agrees(&place, &variant.name, "image.vmdk");
        all += 1;
    }
    assert!(all > 30, "{all} variants");
}

#[test]
fn names_with_blanks_dots_and_letters_of_other_lands_lead_to_the_extents() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &odd_disk(1 << 20));
    let raw = place.open("disk", "raw");
    for name in ["größe 1.0.vmdk", "ohne", ".vmdk", "ディスク.img"] {
        for kind in KINDS {
            place.write(name, "vmdk", &settings(1 << 20, &[("subformat", kind)]), &*raw);
            qemu_agrees(&place, kind, name);
        }
    }
    let folder = Folded("a\"b.vmdk");
    let create = settings(1 << 20, &[("subformat", "monolithicFlat")]);
    let create = Create { beside: Some(Arc::new(folder)), ..create };
    let refused = (vmdk().create.unwrap())(Arc::new(Memory::default()), &create).err().unwrap();
    assert_eq!(refused.kind(), Kind::Invalid);
    let alone = Create { beside: None, ..create };
    let refused = (vmdk().create.unwrap())(Arc::new(Memory::default()), &alone).err().unwrap();
    assert!(refused.to_string().contains("wants files beside it"), "{refused}");
}

/// An image of this name, beside which nothing can be.
struct Folded(&'static str);

impl formats::Beside for Folded {
    fn name(&self) -> &str {
        self.0
    }

    fn make(&self, _: &str) -> formats::Result<Arc<dyn Target>> {
        Err(formats::Error::refused("no files beside it"))
    }
}

#[test]
fn disks_over_four_gibibytes_are_read_by_others() {
    if !has(&["qemu-img"]) {
        return;
    }
    let zip = has(&["7zz"]);
    let place = Place::new();
    let size = (4_u64 << 30) + 1536;
    place.sparse("disk", size);
    let raw = place.open("disk", "raw");
    for kind in KINDS {
        place.write("image.vmdk", "vmdk", &settings(size, &[("subformat", kind)]), &*raw);
        qemu_agrees(&place, kind, "image.vmdk");
        we_agree(&place, kind, "image.vmdk");
        if zip && !kind.contains("Flat") {
            place.must("7zz", &["t", "image.vmdk"]);
        }
        let pieces = (1..=9).filter(|number| {
            ["s", "f"].iter().any(|c| place.path(&format!("image-{c}{number:03}.vmdk")).exists())
        });
        assert_eq!(pieces.count(), if kind.starts_with("two") { 3 } else { 0 }, "{kind}");
        for number in 1..=3 {
            for letter in ["s", "f"] {
                let path = place.path(&format!("image-{letter}{number:03}.vmdk"));
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

#[test]
fn a_disk_of_three_tebibytes_takes_what_its_data_and_tables_take() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let size = (3_u64 << 40) + 512;
    place.sparse("disk", size);
    let raw = place.open("disk", "raw");
    for kind in ["monolithicSparse", "monolithicFlat", "streamOptimized"] {
        place.write("image.vmdk", "vmdk", &settings(size, &[("subformat", kind)]), &*raw);
        we_agree(&place, kind, "image.vmdk");
        let said = place.must("qemu-img", &["info", "-f", "vmdk", "--output=json", "image.vmdk"]);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains(&format!("\"virtual-size\": {size}")), "{kind}: {said}");
    }
    let files = settings(size, &[("subformat", "twoGbMaxExtentFlat")]);
    let create = Create { beside: Some(Arc::new(disks::Folder::default())), ..files };
    let refused = (vmdk().create.unwrap())(Arc::new(Memory::default()), &create).err().unwrap();
    assert_eq!(refused.kind(), Kind::Invalid, "1537 files are more than anybody opens");
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// A grain: its sector on the disk, its offset in the file, its compressed bytes.
    Grain(u64, u64, Vec<u8>),
    /// Metadata of a kind, with its offset in the file.
    Metadata(u32, u64, Vec<u8>),
}

/// The parts of a stream up to its end, which must be the end of the file.
fn parts(bytes: &[u8]) -> Vec<Part> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (mut at, mut found) = (65_536, Vec::new());
    loop {
        let (value, len) = (long(at), word(at + 8) as usize);
        if len > 0 {
            let end = at + 12 + len;
            found.push(Part::Grain(value, at as u64, bytes[at + 12..end].to_vec()));
            assert!(bytes[end..end.next_multiple_of(512)].iter().all(|byte| *byte == 0));
            at = end.next_multiple_of(512);
            continue;
        }
        assert!(bytes[at + 16..at + 512].iter().all(|byte| *byte == 0), "a marker at {at}");
        let (kind, from) = (word(at + 12), at + 512);
        at = from + value as usize * 512;
        if kind == 0 {
            assert_eq!((value, at), (0, bytes.len()), "it ends where the file ends");
            return found;
        }
        found.push(Part::Metadata(kind, from as u64, bytes[from..at].to_vec()));
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A stream with this disk, with threads enough to come out of order.
fn stream(bytes: &[u8], pairs: &[(&str, &str)]) -> Vec<u8> {
    let create =
        settings(bytes.len() as u64, &[pairs, &[("subformat", "streamOptimized")]].concat());
    disks::image(vmdk(), &create, &*raw(bytes), 4)
}

// TRUTH row 3: qemu-img 10.0.2 writes no tables' markers and no footer, and 64512 zeros behind the
// end of the stream; we write what VirtualBox and ovftool write, and the file ends with the stream.
#[test]
fn a_stream_has_its_tables_and_a_footer_and_nothing_behind_its_end() {
    // Three tables, of which the second has no data.
    let mut bytes = vec![0; (96 << 20) - 512];
    bytes[..3 << 20].copy_from_slice(&odd_disk(3 << 20));
    bytes[(64 << 20) + 100] = 1;
    bytes[(96 << 20) - 513] = 2;
    let file = stream(&bytes, &[]);
    let parts = parts(&file);
    let kinds: Vec<u32> = parts
        .iter()
        .map(|part| match part {
            Part::Grain(..) => 0,
            Part::Metadata(kind, ..) => *kind,
        })
        .collect();
    let [.., 0, 0, 1, 2, 3] = kinds[..] else { panic!("{kinds:?}") };
    assert_eq!(kinds.iter().filter(|kind| **kind == 1).count(), 2, "no table without data");
    let mut last = None;
    let mut grains = BTreeSet::new();
    let mut tables = Vec::new();
    for part in &parts {
        match part {
            Part::Grain(sector, offset, _) => {
                assert!(last < Some(*sector) && sector % 128 == 0, "in order of the disk");
                last = Some(*sector);
                grains.insert((*sector, *offset));
            }
            Part::Metadata(1, offset, table) => tables.push((*offset, words(table))),
            Part::Metadata(..) => {}
        }
    }
    let Part::Metadata(2, directory_at, directory) = &parts[parts.len() - 2] else { panic!() };
    let Part::Metadata(3, _, footer) = &parts[parts.len() - 1] else { panic!() };
    let directory = words(directory);
    assert_eq!(directory.len(), 128);
    let mut said = BTreeSet::new();
    for (index, table) in directory.iter().enumerate().filter(|(_, table)| **table != 0) {
        let offset = u64::from(*table) * 512;
        let (_, entries) = tables.iter().find(|(at, _)| *at == offset).expect("a table is there");
        for (grain, entry) in entries.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            said.insert(((index as u64 * 512 + grain as u64) * 128, u64::from(*entry) * 512));
        }
    }
    assert_eq!(said, grains, "the tables say where the grains are");
    let header = &file[..512];
    assert_eq!(header[56..64], [0xff; 8], "the footer knows where the directory is");
    assert_eq!(footer[56..64], (directory_at / 512).to_le_bytes());
    assert_eq!((&footer[..56], &footer[64..]), (&header[..56], &header[64..]));
    assert_eq!(header[4..12], [3, 0, 0, 0, 1, 0, 3, 0]);
}

// TRUTH row 4: qemu-img compresses a last grain that the disk cuts short as it is, and VirtualBox
// reads none of that; ours unpacks to a full grain.
#[test]
fn the_last_grain_of_a_stream_is_a_full_one() {
    for size in [83_971 * 512, 512, 65_536 + 3 * 512] {
        let bytes = odd_disk(size);
        let parts = parts(&stream(&bytes, &[]));
        let grain = parts.iter().rev().find_map(|part| match part {
            Part::Grain(sector, _, packed) => Some((*sector as usize * 512, packed)),
            Part::Metadata(..) => None,
        });
        let (start, packed) = grain.expect("there is data at the end");
        let mut out = vec![1; 65_536];
        Decoder::default().decode(Codec::Zlib, packed, &mut out).expect("a full grain");
        let (disk, behind) = out.split_at(size - start);
        assert!(disk == &bytes[start..] && behind.iter().all(|byte| *byte == 0));
    }
}

// TRUTH row 22: qemu-img leaves zeros at the front of a CID out; ours has eight digits.
#[test]
fn a_cid_has_all_its_digits() {
    let bytes = odd_disk(70_000 / 512 * 512);
    for kind in KINDS {
        let pairs = [("subformat", kind), ("cid", "000ec5b2")];
        let create = settings(bytes.len() as u64, &pairs);
        let Made { file, .. } = made(vmdk(), &create, &*raw(&bytes), 1);
        let text = String::from_utf8_lossy(&file[..file.len().min(10_000)]).into_owned();
        assert!(text.contains("\nCID=000ec5b2\n"), "{text}");
        assert!(text.contains("000ec5b2\"\n"), "the longer one ends with it: {text}");
        assert!(text.contains("\nparentCID=ffffffff\n"), "{text}");
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_pipe_gets_the_bytes_that_a_file_gets() {
    let bytes = odd_disk(70 << 20);
    let file = stream(&bytes, &[]);
    let create = settings(bytes.len() as u64, &[("subformat", "streamOptimized")]);
    for threads in [1, 8] {
        let kept = Kept::default();
        let pipe = Arc::new(Stream::new(kept.clone()));
        let writer = (vmdk().create.unwrap())(pipe, &create).unwrap();
        let options = CopyOptions { threads, ..CopyOptions::default() };
        formats::copy(&*raw(&bytes), &*writer, &options).unwrap();
        let kept = kept.0.lock().unwrap();
        let name = |bytes: &[u8]| String::from_utf8_lossy(&bytes[512..1500]).into_owned();
        assert!(name(&kept).contains("SPARSE \"disk.vmdk\""), "a pipe has no name that lasts");
        let same = name(&file).replace("image.file", "disk.vmdk");
        assert!(name(&kept).starts_with(same.trim_end_matches('\0')), "{same}");
        assert!(kept[65_536..] == file[65_536..], "with {threads} threads");
    }
}

#[test]
fn storage_that_dies_has_no_descriptor_or_all_of_the_image() {
    let bytes = disk(1, 150 << 10);
    for kind in ["monolithicFlat", "twoGbMaxExtentSparse"] {
        let create = settings(bytes.len() as u64, &[("subformat", kind)]);
        let mut writes = 0;
        loop {
            let (own, beside) =
                (Arc::new(Faulty::new(Memory::default(), writes)), disks::Folder::default());
            let create = Create { beside: Some(Arc::new(beside.clone())), ..create.clone() };
            let writer = (vmdk().create.unwrap())(own.clone(), &create).unwrap();
            let done = formats::copy(&*raw(&bytes), &*writer, &CopyOptions::default());
            let file = own.inner().to_vec();
            if file.starts_with(b"#") {
                let made = Made { format: vmdk(), file, beside };
                assert!(disks::read_all(&*made.open().unwrap()).unwrap() == bytes, "{kind}");
            }
            if done.is_ok() {
                break;
            }
            writes += 1;
        }
        assert!(writes > 3, "{kind}: the descriptor was written in {writes} steps");
    }
}

#[test]
fn identifiers_follow_from_the_content_or_are_those_that_were_given() {
    let text = |bytes: &[u8], pairs: &[(&str, &str)]| {
        let made = made(vmdk(), &settings(bytes.len() as u64, pairs), &*raw(bytes), 2);
        String::from_utf8_lossy(&made.file[512..2000]).into_owned()
    };
    let (one, two) = (odd_disk(1 << 20), vec![9; 1 << 20]);
    assert_eq!(text(&one, &[]), text(&one, &[]));
    assert_ne!(text(&one, &[]), text(&two, &[]));
    let named = [("cid", "12345678"), ("uuid", "00112233-4455-6677-8899-aabbccddeeff")];
    assert_eq!(text(&one, &named), text(&two, &named), "neither is asked for its content");
    let uuid = "ddb.uuid = \"00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff\"";
    assert!(text(&one, &named).contains(uuid));
}
