//! VMDKs that others wrote, and those that nobody writes any more, as we read them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod oracle;

use std::sync::Arc;

use disks::{disk, read_all};
use formats::{Kind, Limits, Memory, Place as Where, Result, Role, Value};
use oracle::{Place, has};

const SECTOR: usize = 512;

/// Puts a descriptor with these lines there.
fn describe(place: &Place, name: &str, lines: &str) {
    let text = format!("# Disk DescriptorFile\nversion=1\nCID=0badcafe\n{lines}\n");
    place.put(name, text.as_bytes());
}

fn read(place: &Place, name: &str) -> Result<Vec<u8>> {
    read_all(&*place.try_open(name, "vmdk", |_| {})?)
}

#[test]
fn images_of_qemu_in_every_kind_and_of_odd_sizes_are_read() {
    if !has(&["qemu-img"]) {
        return;
    }
    let kinds = [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
    ];
    for size in [83_971 * SECTOR, 65_536 + 3 * SECTOR, SECTOR, 3 << 20] {
        let place = Place::new();
        let mut bytes = disk(size as u64, size);
        bytes[size - 1] = 9;
        place.put("disk", &bytes);
        for kind in kinds {
            for more in ["", ",zeroed_grain=on", ",compat6=on", ",adapter_type=buslogic"] {
                let options = format!("subformat={kind}{more}");
                let what = format!("{options} of {size}");
                if more.contains("grain") && kind.contains("Flat") {
                    continue;
                }
                place.must(
                    "qemu-img",
                    &["convert", "-f", "raw", "-O", "vmdk", "-o", &options, "disk", "a.vmdk"],
                );
                let facts = place.facts("a.vmdk", "vmdk");
                assert_eq!((facts.variant, facts.disk_size), (kind, size as u64), "{what}");
                assert!(read(&place, "a.vmdk").unwrap() == bytes, "{what}");
            }
        }
    }
}

#[test]
fn a_sparse_image_of_qemu_over_four_gibibytes_is_read() {
    if !has(&["qemu-img"]) {
        return;
    }
    for kind in ["monolithicSparse", "twoGbMaxExtentSparse", "streamOptimized"] {
        let place = Place::new();
        place.sparse("disk", (5 << 30) + 1536);
        let options = format!("subformat={kind}");
        place.must(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "vmdk", "-o", &options, "disk", "a.vmdk"],
        );
        let (one, two) = (place.open("disk", "raw"), place.open("a.vmdk", "vmdk"));
        let same = formats::compare(&*one, &*two, &formats::CompareOptions::default());
        assert_eq!(same.unwrap(), formats::Comparison::Same, "{kind}");
    }
}

// TRUTH row 5: qemu-img drops extents that are not RW, and those of zeros, without a word: a
// shorter, shifted disk; we count every one.
#[test]
fn every_extent_counts_whatever_its_access() {
    let place = Place::new();
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        place.put(name, &[byte; 2 * SECTOR]);
    }
    describe(
        &place,
        "image.vmdk",
        "createType=\"custom\"\nRDONLY 2 FLAT \"a\" 0\nRW 3 ZERO\nNOACCESS 1 FLAT \"b\" 1\n\
         RW 1 FLAT \"c\" 0\nRDONLY 1 ZERO",
    );
    let wanted = [[1; SECTOR], [1; SECTOR], [0; SECTOR], [0; SECTOR], [0; SECTOR], [2; SECTOR]];
    let wanted = [wanted.concat(), vec![3; SECTOR], vec![0; SECTOR]].concat();
    assert!(read(&place, "image.vmdk").unwrap() == wanted);
    let facts = place.facts("image.vmdk", "vmdk");
    assert_eq!(facts.disk_size, 8 * SECTOR as u64);
    let names: Vec<_> = facts.references.iter().map(|one| (one.role, &*one.name)).collect();
    assert_eq!(names, [(Role::Extent, "a"), (Role::Extent, "b"), (Role::Extent, "c")]);
}

// TRUTH row 6: a lower-case line about an extent ends qemu-img by an assertion, and a blank line in
// front, or blanks round the equals sign, make the text itself the disk.
#[test]
fn descriptors_are_read_as_people_write_them() {
    let place = Place::new();
    place.put("a", &[7; 2 * SECTOR]);
    for text in [
        "# Disk DescriptorFile\nversion=1\nrw 2 flat \"a\" 0\n",
        "\n\n# Disk DescriptorFile\nversion=1\nRW 2 FLAT \"a\" 0\n",
        "# made by hand\r\n\r\n# Disk DescriptorFile\r\nversion = 1\r\nRW 2 FLAT \"a\" 0\r\n",
        "  # disk descriptorfile\n\tversion =1\n\n  Rw\t2  Flat  \"a\"   0  \n\n",
        "# Disk DescriptorFile\nversion=2\nparentCID = ffffffff\nRW 2 VMFS \"a\"\n\0\0junk",
    ] {
        place.put("image.vmdk", text.as_bytes());
        let source = Memory::new(text.as_bytes());
        let probed = formats::probe(formats::FORMATS, &source).unwrap();
        assert_eq!(probed.name, "vmdk", "{text:?}");
        assert!(read(&place, "image.vmdk").unwrap() == [7; 2 * SECTOR], "{text:?}");
    }
    describe(&place, "image.vmdk", "RW 2 FLAT \"a\" 0\nRW two FLAT \"a\" 0");
    let error = read(&place, "image.vmdk").unwrap_err();
    assert!(error.kind() == Kind::Malformed && error.to_string().contains("line 5"), "{error}");
}

// TRUTH row 7: qemu-img refuses these types, all of which lie in plain files.
#[test]
fn every_type_that_lies_in_files_is_read() {
    let place = Place::new();
    place.put("a", &[5; 2 * SECTOR]);
    for (kind, extent) in [
        ("vmfs", "VMFS"),
        ("vmfsThin", "VMFS"),
        ("vmfsPreallocated", "VMFS"),
        ("vmfsEagerZeroedThick", "VMFS"),
        ("vmfseagerzeroedthick", "vmfs"),
        ("2GbMaxExtentFlat", "FLAT"),
        ("twoGbMaxExtentFlat", "FLAT"),
        ("monolithicFlat", "FLAT"),
        ("custom", "FLAT"),
    ] {
        for offset in ["", " 0"] {
            let lines = format!("createType=\"{kind}\"\nRW 2 {extent} \"a\"{offset}");
            describe(&place, "image.vmdk", &lines);
            assert!(read(&place, "image.vmdk").unwrap() == [5; 2 * SECTOR], "{lines}");
            let variant = place.facts("image.vmdk", "vmdk").variant;
            assert!(variant.eq_ignore_ascii_case(kind), "{variant}");
        }
    }
}

// TRUTH row 8: qemu-img fills a flat extent that is too short with zeros.
#[test]
fn a_flat_extent_shorter_than_its_line_says_is_truncated() {
    let place = Place::new();
    place.put("a", &[5; 2 * SECTOR - 1]);
    for line in ["RW 2 FLAT \"a\" 0", "RW 1 FLAT \"a\" 1", "RW 2 VMFS \"a\"", "RW 1 VMFS \"a\" 9"] {
        describe(&place, "image.vmdk", line);
        assert_eq!(read(&place, "image.vmdk").unwrap_err().kind(), Kind::Truncated, "{line}");
        let (source, limits) = (place.source("image.vmdk"), Limits::default());
        let mut options = formats::OpenOptions::new(formats::FORMATS, &limits);
        let folder = place.path("");
        let beneath = formats::Beneath::new(&folder, &folder, formats::Access::Read).unwrap();
        options.resolver = std::sync::Arc::new(beneath);
        let vmdk = formats::format("vmdk").unwrap();
        let links = formats::links(source, vmdk, &options).unwrap();
        let tally = (vmdk.check.unwrap())(links, &limits, &mut |_| {}).unwrap();
        assert_eq!(tally.corruptions, 1, "{line}");
    }
}

#[test]
fn names_are_read_in_the_encoding_of_the_descriptor() {
    let place = Place::new();
    let cases: [(&str, &[u8], &str); 5] = [
        ("UTF-8", "größe".as_bytes(), "größe"),
        ("windows-1252", b"gr\xf6\xdfe", "größe"),
        ("GBK", b"\xb4\xc5\xc5\xcc", "磁盘"),
        ("Shift_JIS", b"\x83f\x83B\x83X\x83N", "ディスク"),
        ("Big5", b"\xba\xcf\xba\xd0", "磁碟"),
    ];
    for (encoding, bytes, name) in cases {
        place.put(name, &[8; SECTOR]);
        let front = format!("# Disk DescriptorFile\nencoding=\"{encoding}\"\nRW 1 FLAT \"");
        let text = [front.as_bytes(), bytes, b"\" 0\n"].concat();
        place.put("image.vmdk", &text);
        assert!(read(&place, "image.vmdk").unwrap() == [8; SECTOR], "{encoding}");
    }
}

/// An extent of ESX's old kind: 10 grains of 8 sectors, of which the second and the last are there.
fn cowd() -> (Vec<u8>, Vec<u8>) {
    let (grain, table) = (8 * SECTOR, 5 * SECTOR);
    let mut file = vec![0; table + 4096 * 4];
    file[..4].copy_from_slice(b"COWD");
    // version, flags, capacity, grain, directory, its entries, what is free
    let words: [u32; 7] = [1, 3, 78, 8, 4, 1, 100];
    for (index, word) in words.iter().enumerate() {
        file[4 + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
    file[4 * SECTOR..][..4].copy_from_slice(&5_u32.to_le_bytes());
    let mut disk = vec![0; 78 * SECTOR];
    for (index, byte) in [(1, 0x61), (9, 0x62)] {
        let sector = (file.len() / SECTOR) as u32;
        file[table + index * 4..][..4].copy_from_slice(&sector.to_le_bytes());
        file.extend(vec![byte; grain]);
        let end = ((index + 1) * grain).min(disk.len());
        disk[index * grain..end].fill(byte);
    }
    (file, disk)
}

#[test]
fn an_extent_of_esx_of_old_is_read_and_qemu_reads_the_same() {
    let place = Place::new();
    let (file, disk) = cowd();
    place.put("image-delta.vmdk", &file);
    let lines =
        "parentCID=ffffffff\ncreateType=\"vmfsSparse\"\nRW 78 VMFSSPARSE \"image-delta.vmdk\"";
    describe(&place, "image.vmdk", lines);
    assert!(read(&place, "image.vmdk").unwrap() == disk);
    assert!(read(&place, "image-delta.vmdk").unwrap() == disk, "and by itself");
    place.put("disk", &disk);
    if has(&["qemu-img"]) {
        place.must("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", "disk", "image.vmdk"]);
    }
}

#[test]
fn a_chain_is_followed_where_the_parent_is_the_one_that_was_meant() {
    let place = Place::new();
    place.put("base-flat.vmdk", &vec![4; 78 * SECTOR]);
    let base = "parentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 78 FLAT \"base-flat.vmdk\" 0";
    describe(&place, "base.vmdk", base);
    let (file, mut disk) = cowd();
    disk.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 4);
    place.put("child-delta.vmdk", &file);
    let child = |parent: &str| {
        let lines = format!(
            "parentCID={parent}\ncreateType=\"vmfsSparse\"\n\
             parentFileNameHint=\"base.vmdk\"\nRW 78 VMFSSPARSE \"child-delta.vmdk\""
        );
        describe(&place, "child.vmdk", &lines);
        read(&place, "child.vmdk")
    };
    // Written with and without the zero in front.
    assert!(child("0badcafe").unwrap() == disk);
    assert!(child("badcafe").unwrap() == disk);
    assert_eq!(child("0badcaff").unwrap_err().kind(), Kind::Refused, "it was changed since");
    child("0badcafe").unwrap();
    let facts = place.facts("child.vmdk", "vmdk");
    assert_eq!(facts.identity.as_deref(), Some("0badcafe"));
    assert_eq!(facts.references[0].expects, ["0badcafe"]);
    assert_eq!(facts.references[0].format.as_deref(), Some("vmdk"));
    if has(&["qemu-img"]) {
        place.put("disk", &disk);
        place.must("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", "disk", "child.vmdk"]);
    }
}

#[test]
fn a_delta_of_qemu_is_read_over_its_parent() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(3, 5 << 20));
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "disk", "base.vmdk"]);
    place.must(
        "qemu-img",
        &["create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "child.vmdk"],
    );
    let write = ["write -P 0x42 100k 200k", "write -z 1M 128k", "write -P 0x43 4M 1M"];
    for command in write {
        place.must("qemu-io", &["-f", "vmdk", "-c", command, "child.vmdk"]);
    }
    place.must("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", "child.vmdk", "wanted"]);
    assert!(read(&place, "child.vmdk").unwrap() == place.get("wanted"));
    // The parent has another identifier as soon as it is written to.
    place.must("qemu-io", &["-f", "vmdk", "-c", "write 0 64k", "base.vmdk"]);
    assert_eq!(read(&place, "child.vmdk").unwrap_err().kind(), Kind::Refused);
}

#[test]
fn grains_of_zeros_hide_the_parent() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    let create = ["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", "a.vmdk", "1M"];
    place.must("qemu-img", &create);
    place.must("qemu-io", &["-f", "vmdk", "-c", "write -P 5 0 256k", "a.vmdk"]);
    place.must("qemu-io", &["-f", "vmdk", "-c", "write -z 64k 64k", "a.vmdk"]);
    let image = place.open("a.vmdk", "vmdk");
    let places: Vec<_> = image.walk(0, 256 << 10).map(|extent| extent.unwrap().place).collect();
    assert!(places.iter().any(|place| matches!(place, Where::Zero { .. })), "{places:?}");
    let mut wanted = vec![0; 1 << 20];
    wanted[..256 << 10].fill(5);
    wanted[64 << 10..128 << 10].fill(0);
    assert!(read(&place, "a.vmdk").unwrap() == wanted);
}

#[test]
fn what_is_told_of_an_image_has_the_names_that_qemu_gives_it() {
    let place = Place::new();
    place.put("a", &[0; 4 * SECTOR]);
    describe(
        &place,
        "image.vmdk",
        "parentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 4 FLAT \"a\" 0\n\
         ddb.adapterType = \"lsilogic\"",
    );
    let facts = place.facts("image.vmdk", "vmdk");
    let detail = |name: &str| {
        let found = facts.details.iter().find(|detail| detail.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).value.clone()
    };
    assert_eq!(detail("create-type"), Value::Text("monolithicFlat".into()));
    assert_eq!(detail("cid"), Value::Number(0x0bad_cafe));
    assert_eq!(detail("parent-cid"), Value::Number(0xffff_ffff));
    let Value::List(extents) = detail("extents") else { panic!() };
    let Value::Map(extent) = &extents[0] else { panic!() };
    assert!(extent.contains(&("virtual-size", Value::Bytes(2048))));
    assert!(extent.contains(&("filename", Value::Text("a".into()))));
}

#[test]
fn images_grow_and_others_read_what_they_became() {
    if !has(&["qemu-img"]) {
        return;
    }
    let vmdk = formats::format("vmdk").unwrap();
    let size = 83_971 * SECTOR;
    let mut bytes = disk(5, size);
    bytes[size - 1] = 9;
    for options in ["", "zeroed_grain=on"] {
        let place = Place::new();
        place.put("disk", &bytes);
        let mut convert = vec!["convert", "-f", "raw", "-O", "vmdk", "disk", "image.vmdk"];
        if !options.is_empty() {
            convert.splice(5..5, ["-o", options]);
        }
        place.must("qemu-img", &convert);
        let file = Arc::new(Memory::new(place.get("image.vmdk")));
        for larger in [size + SECTOR, 64 << 20, (65 << 20) + SECTOR, 5 << 30] {
            (vmdk.resize.unwrap())(file.clone(), larger as u64, &Limits::default()).unwrap();
            place.put("image.vmdk", &file.to_vec());
            let raw = std::fs::OpenOptions::new().write(true).open(place.path("disk")).unwrap();
            raw.set_len(larger as u64).unwrap();
            place.must("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", "disk", "image.vmdk"]);
            place.must("qemu-img", &["check", "-f", "vmdk", "image.vmdk"]);
            place.we_agree(options, "image.vmdk", "vmdk", "disk");
            if has(&["7zz"]) {
                place.must("7zz", &["t", "image.vmdk"]);
            }
        }
        // And it can be written to where it was made larger.
        place.must("qemu-io", &["-f", "vmdk", "-c", "write -P 7 4G 1M", "image.vmdk"]);
        place.must("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", "image.vmdk", "disk"]);
        place.we_agree(options, "image.vmdk", "vmdk", "disk");
    }
}
