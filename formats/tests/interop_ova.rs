//! Packages of virtual machines that other programs make, read by us; and ours, read by them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;
mod packages;

use std::sync::Arc;

use disks::read_all;
use formats::{
    Algorithm, CopyOptions, Detail, Export, FORMATS, HazardKind, Image, Kind, Limits, Links,
    Machine, Memory, Options, Result, Source, Stream, Target, Value,
};
use oracle::{Place, has};
use packages::{descriptor, digest_line};

/// A package as other programs have it: disk.vmdk by qemu-img, its descriptor, its manifest.
fn package(place: &Place) -> Vec<u8> {
    place.sparse("disk.raw", 5 << 20);
    let to = ["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"];
    place.must("qemu-img", &[&to[..], &["disk.raw", "disk.vmdk"]].concat());
    let disk = place.get("disk.vmdk");
    let size = Some(disk.len() as u64);
    let text = descriptor(&[("disk.vmdk", size, "5", "byte * 2^20")]);
    place.put("a.ovf", text.as_bytes());
    let lines = digest_line("SHA256", "a.ovf", text.as_bytes())
        + &digest_line("SHA256", "disk.vmdk", &disk);
    place.put("a.mf", lines.as_bytes());
    place.get("disk.raw")
}

/// The disk of an archive, and whether all that was promised of it is kept.
fn disk(place: &Place, name: &str) -> Result<Vec<u8>> {
    let image = place.try_open(name, "ova", |_| {})?;
    image.promises().iter().try_for_each(|promise| promise.keep(&|| Ok(())))?;
    read_all(&*image)
}

fn text(details: &[Detail], name: &str, key: &str) -> Option<String> {
    let Value::Map(map) = &details.iter().find(|detail| detail.name == name)?.value else {
        return None;
    };
    let value = &map.iter().find(|(is, _)| *is == key)?.1;
    Some(if let Value::Text(text) = value { text.clone() } else { format!("{value:?}") })
}

#[test]
fn archives_of_every_dialect_are_read() {
    if !has(&["qemu-img", "tar", "bsdtar", "python3"]) {
        return;
    }
    let place = Place::new();
    let raw = package(&place);
    let members = ["a.ovf", "a.mf", "disk.vmdk"];
    for dialect in ["ustar", "gnu", "oldgnu", "posix", "v7"] {
        let format = format!("--format={dialect}");
        place.must("tar", &[&["-cf", "x.ova", &format][..], &members].concat());
        assert_eq!(disk(&place, "x.ova").unwrap(), raw, "GNU tar {dialect}");
        assert!(place.check("x.ova", "ova").0.is_clean(), "GNU tar {dialect}");
        let dotted = ["-cf", "x.ova", &format, "./a.ovf", "./disk.vmdk", "./a.mf"];
        place.must("tar", &dotted);
        assert_eq!(disk(&place, "x.ova").unwrap(), raw, "GNU tar {dialect}, ./");
    }
    for dialect in ["ustar", "gnutar", "pax", "v7"] {
        let format = format!("--format={dialect}");
        place.must("bsdtar", &[&["-cf", "x.ova", &format][..], &members].concat());
        assert_eq!(disk(&place, "x.ova").unwrap(), raw, "bsdtar {dialect}");
    }
    for dialect in ["USTAR", "GNU", "PAX"] {
        let script = format!(
            "import tarfile\n\
             with tarfile.open('x.ova', 'w', format=tarfile.{dialect}_FORMAT) as t:\n\
             \x20for n in ['disk.vmdk', 'a.mf', 'a.ovf']: t.add(n)"
        );
        place.must("python3", &["-c", &script]);
        assert_eq!(disk(&place, "x.ova").unwrap(), raw, "tarfile {dialect}");
        let told = place.facts("x.ova", "ova").hazards;
        assert_eq!(told[0].kind, HazardKind::Irregular, "the descriptor is the last one");
    }
}

#[test]
fn long_names_sparse_files_and_sizes_beyond_octal_digits_are_read() {
    if !has(&["qemu-img", "tar", "python3"]) {
        return;
    }
    let place = Place::new();
    place.sparse("disk.raw", 64 << 20);
    let raw = place.get("disk.raw");
    let long = "x".repeat(150) + ".img";
    std::fs::rename(place.path("disk.raw"), place.path(&long)).unwrap();
    place.put("a.ovf", descriptor(&[(&long, None, "64", "byte * 2^20")]).as_bytes());
    for dialect in ["gnu", "posix"] {
        place.must("tar", &["-cf", "x.ova", &format!("--format={dialect}"), "a.ovf", &long]);
        assert_eq!(disk(&place, "x.ova").unwrap(), raw, "{dialect}");
    }
    place.must("tar", &["-cSf", "x.ova", "--format=gnu", "a.ovf", &long]);
    assert!(place.get("x.ova").len() < 4 << 20, "it is sparse");
    assert_eq!(disk(&place, "x.ova").unwrap(), raw, "sparse, as GNU has it");
    place.must("tar", &["-cSf", "x.ova", "--format=posix", "a.ovf", &long]);
    assert!(place.get("x.ova").len() < 4 << 20, "it is sparse");
    assert_eq!(disk(&place, "x.ova").unwrap(), raw, "sparse, as pax has it");
    for version in ["0.0", "0.1"] {
        let old = ["--format=posix", &format!("--sparse-version={version}"), "-cSf", "x.ova"];
        place.must("tar", &[&old[..], &["a.ovf", &long]].concat());
        assert_eq!(disk(&place, "x.ova").unwrap_err().kind(), Kind::Unsupported, "{version}");
    }
    // Nine gibibytes, most of them a hole of the archive's own file.
    place.put("a.ovf", descriptor(&[("big.img", None, "9", "byte * 2^30")]).as_bytes());
    for dialect in ["GNU", "PAX"] {
        let script = format!(
            "import tarfile\n\
             t = tarfile.open('x.ova', 'w', format=tarfile.{dialect}_FORMAT)\n\
             t.add('a.ovf')\n\
             i = tarfile.TarInfo('big.img'); i.size = 9 << 30\n\
             h = i.tobuf(t.format); t.fileobj.write(h); at = t.fileobj.tell()\n\
             t.fileobj.seek(at + i.size - 3); t.fileobj.write(b'end' + bytes(1024))"
        );
        place.must("python3", &["-c", &script]);
        let image = place.open("x.ova", "ova");
        assert_eq!(image.disk_size(), 9 << 30, "{dialect}");
        let mut end = [0; 3];
        image.read((9 << 30) - 3, &mut end).unwrap();
        assert_eq!(&end, b"end", "{dialect}");
    }
}

#[test]
fn chunks_and_gzipped_members_are_read() {
    if !has(&["qemu-img", "tar", "split", "gzip"]) {
        return;
    }
    let place = Place::new();
    let raw = package(&place);
    let size = place.get("disk.vmdk").len() as u64;
    place.must("split", &["-b", "100000", "-a", "9", "-d", "disk.vmdk", "disk.vmdk."]);
    let text = descriptor(&[("disk.vmdk", Some(size), "5", "byte * 2^20")]);
    place.put("a.ovf", text.replace("o:size=", "o:chunkSize='100000' o:size=").as_bytes());
    let all = "rm disk.vmdk && tar -cf x.ova a.ovf disk.vmdk.*";
    place.must("sh", &["-c", all]);
    assert_eq!(disk(&place, "x.ova").unwrap(), raw);
    let beside = place.try_open("a.ovf", "ovf", |_| {}).unwrap();
    assert_eq!(read_all(&*beside).unwrap(), raw, "beside the descriptor");
    place.must("sh", &["-c", "rm disk.vmdk.000000001 && tar -cf x.ova a.ovf disk.vmdk.*"]);
    assert_eq!(disk(&place, "x.ova").unwrap_err().kind(), Kind::Malformed);

    let place = Place::new();
    let raw = package(&place);
    place.must("gzip", &["disk.vmdk"]);
    let size = place.get("disk.vmdk.gz").len() as u64;
    let text = descriptor(&[("disk.vmdk.gz", Some(size), "5", "byte * 2^20")]);
    place.put("a.ovf", text.replace("o:size=", "o:compression='gzip' o:size=").as_bytes());
    place.must("tar", &["-cf", "x.ova", "a.ovf", "disk.vmdk.gz"]);
    assert_eq!(disk(&place, "x.ova").unwrap(), raw);
}

#[test]
fn a_capacity_beyond_the_disk_inside_adds_zeros() {
    if !has(&["qemu-img", "tar"]) {
        return;
    }
    let place = Place::new();
    let raw = package(&place);
    place.put("a.ovf", descriptor(&[("disk.vmdk", None, "7", "MegaBytes")]).as_bytes());
    place.must("tar", &["-cf", "x.ova", "a.ovf", "disk.vmdk"]);
    let grown = disk(&place, "x.ova").unwrap();
    assert!(grown.len() == 7 << 20 && grown[..raw.len()] == raw[..]);
    assert!(grown[raw.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_manifest_beside_a_descriptor_is_kept_too() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let raw = package(&place);
    let read = || {
        let image = place.try_open("a.ovf", "ovf", |_| {})?;
        assert_eq!(image.promises().len(), 2);
        image.promises().iter().try_for_each(|promise| promise.keep(&|| Ok(())))?;
        read_all(&*image)
    };
    assert_eq!(read().unwrap(), raw);
    let mut disk = place.get("disk.vmdk");
    let middle = disk.len() / 2;
    disk[middle] ^= 1;
    place.put("disk.vmdk", &disk);
    let error = read().unwrap_err();
    assert!(error.to_string().contains("disk.vmdk") && error.kind() == Kind::Malformed, "{error}");
}

#[test]
fn who_signed_a_manifest_is_told_and_a_wrong_signature_too() {
    if !has(&["qemu-img", "tar", "openssl"]) {
        return;
    }
    let place = Place::new();
    let raw = package(&place);
    for (bits, how) in [("2048", "sha256"), ("1024", "sha1"), ("4096", "sha512")] {
        let new = ["req", "-x509", "-nodes", "-newkey", &format!("rsa:{bits}"), "-keyout", "key"];
        let more = ["-out", "pem", "-days", "30", "-subj", "/O=Machines/CN=signer"];
        place.must("openssl", &[&new[..], &more].concat());
        place.must("openssl", &["dgst", &format!("-{how}"), "-sign", "key", "-out", "s", "a.mf"]);
        let signature = disks::hex(&place.get("s"));
        let pem = String::from_utf8(place.get("pem")).unwrap();
        for (line, right) in [(signature.clone(), true), (signature.replace('7', "8"), false)] {
            let how = how.to_uppercase();
            place.put("a.cert", format!("{how}(a.mf)= {line}\n{pem}").as_bytes());
            place.must("tar", &["-cf", "x.ova", "a.ovf", "a.mf", "a.cert", "disk.vmdk"]);
            let facts = place.facts("x.ova", "ova");
            let told = |key| text(&facts.details, "certificate", key).unwrap();
            assert!(told("subject").contains("signer"), "{}", told("subject"));
            assert_eq!(told("signature-verifies"), format!("Flag({right})"));
            let odd = facts.hazards.iter().any(|hazard| hazard.what.contains("signature"));
            assert!(odd != right && place.check("x.ova", "ova").0.is_clean() == right);
            // Whom to trust is for the caller to say: the disk is what the manifest promises.
            assert_eq!(disk(&place, "x.ova").unwrap(), raw);
        }
    }
    place.put("a.cert", b"SHA256(a.mf)= 00\nno certificate");
    place.must("tar", &["-cf", "x.ova", "a.ovf", "a.mf", "a.cert", "disk.vmdk"]);
    assert!(!place.check("x.ova", "ova").0.is_clean());
}

/// Packs these disks.
fn pack(disks: &[&dyn Image], name: &str, threads: usize, target: &Arc<dyn Target>) {
    let machine = Machine { networks: vec!["a & <b>".into()], ..Machine::new("it's \"me\"") };
    let disks: Vec<_> = disks.iter().map(|disk| (*disk, 0)).collect();
    let pairs = [("subformat".to_string(), "streamOptimized".to_string())];
    let export = Export {
        disks: &disks,
        machine: &machine,
        name,
        describe: formats::describe,
        format: formats::format("vmdk").unwrap(),
        settings: Options::new(pairs),
        manifest: Some(Algorithm::Sha256),
    };
    let options = CopyOptions { threads, ..CopyOptions::default() };
    formats::export(&export, target, &options).unwrap();
}

fn packed(place: &Place, disks: &[&dyn Image], name: &str) -> Vec<u8> {
    let memory = Arc::new(Memory::default());
    pack(disks, name, 3, &(memory.clone() as Arc<dyn Target>));
    let bytes = memory.to_vec();
    place.put("ours.ova", &bytes);
    bytes
}

#[test]
fn other_programs_read_what_we_pack() {
    if !has(&["qemu-img", "tar", "bsdtar", "xmllint", "sha256sum"]) {
        return;
    }
    let place = Place::new();
    place.sparse("one.raw", 20 << 20);
    place.sparse("two.raw", (3 << 20) + 512);
    let (one, two) = (place.open("one.raw", "raw"), place.open("two.raw", "raw"));
    for name in ["appliance", &"n".repeat(98)] {
        packed(&place, &[&*one, &*two], name);
        let listed = place.must("tar", &["-tf", "ours.ova"]);
        let wanted: String = [".ovf", ".mf", "-disk1.vmdk", "-disk2.vmdk"]
            .map(|end| format!("{name}{end}\n"))
            .concat();
        assert_eq!(String::from_utf8(listed.clone()).unwrap(), wanted);
        assert_eq!(place.must("bsdtar", &["-tf", "ours.ova"]), listed);
        place.must("tar", &["-xf", "ours.ova"]);
        place.must("xmllint", &["--noout", &format!("{name}.ovf")]);
        let lines = String::from_utf8(place.get(&format!("{name}.mf"))).unwrap();
        let lines = lines.lines().map(|line| {
            let (file, hex) = line.strip_prefix("SHA256(").unwrap().split_once(")= ").unwrap();
            format!("{hex}  {file}\n")
        });
        place.put("sums", lines.collect::<String>().as_bytes());
        place.must("sha256sum", &["--strict", "-c", "sums"]);
        for (number, raw) in [(1, "one.raw"), (2, "two.raw")] {
            let disk = format!("{name}-disk{number}.vmdk");
            place.must("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", &disk, raw]);
            let said = String::from_utf8(place.get(&format!("{name}.ovf"))).unwrap();
            let size = place.get(&disk).len();
            assert!(
                said.contains(&format!("{disk}\" ovf:id=\"file{number}\" ovf:size=\"{size}\""))
            );
        }
        place.we_agree("ours", "ours.ova", "ova", "one.raw");
        assert!(place.facts("ours.ova", "ova").hazards.is_empty());
    }
}

#[test]
fn what_we_pack_is_the_same_for_any_threads_and_for_a_pipe() {
    let place = Place::new();
    place.sparse("one.raw", 20 << 20);
    let one = place.open("one.raw", "raw");
    let bytes = packed(&place, &[&*one, &*one], "a");
    for threads in [1, 4] {
        let memory = Arc::new(Memory::default());
        pack(&[&*one, &*one], "a", threads, &(memory.clone() as Arc<dyn Target>));
        assert!(memory.to_vec() == bytes, "{threads} threads");
        let file = std::fs::File::create(place.path("piped")).unwrap();
        let pipe: Arc<dyn Target> = Arc::new(Stream::new(file));
        pack(&[&*one, &*one], "a", threads, &pipe);
        assert!(place.get("piped") == bytes, "a pipe, {threads} threads");
    }
}

#[test]
fn any_flipped_byte_of_what_we_pack_is_found() {
    let place = Place::new();
    place.put("one.raw", &[7; 4096]);
    let one = place.open("one.raw", "raw");
    let bytes = packed(&place, &[&*one], "a");
    let check = formats::format("ova").unwrap().check.unwrap();
    let limits = Limits::default();
    for at in (0..bytes.len()).filter(|at| at % 7 == 0 || !(8192..70_000).contains(at)) {
        let mut bytes = bytes.clone();
        bytes[at] ^= [1, 0x20, 0x80][at % 3];
        let source: Arc<dyn Source> = Arc::new(Memory::new(bytes));
        let clean = check(Links::alone(source), &limits, &mut |_| {}).is_ok_and(|t| t.is_clean());
        assert!(!clean, "byte {at:#x}");
    }
}

#[test]
fn a_machine_is_the_same_when_it_is_packed_again() {
    let place = Place::new();
    place.put("one.raw", &[7; 4096]);
    let one = place.open("one.raw", "raw");
    let bytes = packed(&place, &[&*one], "a");
    let machine = formats::machine(&Memory::new(&*bytes), &Limits::default()).unwrap().unwrap();
    assert_eq!(machine.name, "it's \"me\"");
    assert_eq!(machine.networks, ["a & <b>"]);
    assert_eq!((machine.cpus, machine.memory, &*machine.hardware), (1, 1 << 30, "vmx-13"));
    assert_eq!(formats::probe(FORMATS, &Memory::new(&*bytes)).unwrap().name, "ova");
}
