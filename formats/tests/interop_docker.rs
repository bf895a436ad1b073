//! Container images and lone disks in archives, as Python's tarfile and GNU tar write them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use formats::{Create, FORMATS, Facts, Kind, Limits, Role, Stream};

use disks::read_all;
use oracle::{Place, has};

/// Makes an archive with a containerDisk of the file `disk.qcow2`: its layout, how layers are
/// packed, how tar headers are written.
const MAKE: &str = r#"
import gzip, hashlib, io, json, sys, tarfile
out, layout, packing, dialect = sys.argv[1:]
dialect = getattr(tarfile, dialect.upper() + "_FORMAT")
def add(tar, name, data, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mtime, info.uid = len(data), kind, 12.5, 107
    tar.addfile(info, io.BytesIO(data))
def layer(*files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=dialect) as tar:
        add(tar, "disk", b"", tarfile.DIRTYPE)
        for name, data in files: add(tar, name, data)
    return raw.getvalue()
sha = lambda data: hashlib.sha256(data).hexdigest()
text = lambda value: json.dumps(value).encode()
disk = open("disk.qcow2", "rb").read()
layers = [
    layer(("disk/old.img", b"x" * 512)),
    layer(("disk/.wh.old.img", b""), ("disk/disk.qcow2", disk)),
    layer(("etc/motd", b"hello")),
]
ids = ["sha256:" + sha(l) for l in layers]
config = text({"architecture": "arm64", "os": "linux", "rootfs": {"diff_ids": ids}})
packed = [gzip.compress(l, mtime=0) if packing == "gzip" else l for l in layers]
def save(tar):
    for l in layers:
        add(tar, sha(l) + "/VERSION", b"1.0")
        add(tar, sha(l) + "/layer.tar", l)
    name, names = sha(config) + ".json", [sha(l) + "/layer.tar" for l in layers]
    add(tar, name, config)
    add(tar, "manifest.json", text([{"Config": name, "RepoTags": ["vm:1"], "Layers": names}]))
def oci(tar):
    def blob(kind, data):
        kind = "application/vnd.oci.image." + kind
        return {"mediaType": kind, "digest": "sha256:" + sha(data), "size": len(data)}
    parts = [blob("layer.v1.tar", l) for l in packed]
    manifest = text({"config": blob("config.v1+json", config), "layers": parts})
    inner = text({"manifests": [blob("manifest.v1+json", manifest)]})
    absent = blob("manifest.v1+json", b"of another machine")
    top = blob("index.v1+json", inner)
    top["annotations"] = {"org.opencontainers.image.ref.name": "vm:1"}
    add(tar, "blobs", b"", tarfile.DIRTYPE)
    add(tar, "blobs/sha256", b"", tarfile.DIRTYPE)
    for data in packed + [config, manifest, inner]: add(tar, "blobs/sha256/" + sha(data), data)
    add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    add(tar, "index.json", text({"schemaVersion": 2, "manifests": [absent, top]}))
with tarfile.open(out, "w", format=dialect) as tar:
    save(tar) if layout == "docker" else oci(tar)
"#;

fn facts(place: &Place, name: &str) -> Facts {
    let source = place.source(name);
    let format = formats::probe(FORMATS, &*source).unwrap();
    (format.inspect)(&*source, &Limits::default()).unwrap()
}

#[test]
fn a_container_disk_is_read_through_its_layers() {
    if !has(&["python3", "qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.sparse("disk.raw", 3 << 20);
    let convert = ["convert", "-c", "-O", "qcow2", "disk.raw", "disk.qcow2"];
    place.must("qemu-img", &convert);
    let disk = place.get("disk.raw");
    for (layout, packing) in [("docker", "none"), ("oci", "none"), ("oci", "gzip")] {
        for dialect in ["ustar", "gnu", "pax"] {
            let name = format!("{layout}-{packing}-{dialect}.tar");
            place.must("python3", &["-c", MAKE, &name, layout, packing, dialect]);
            let facts = facts(&place, &name);
            assert_eq!((facts.format, facts.variant), ("docker", layout));
            let layers = facts.references.iter().filter(|layer| layer.role == Role::Layer);
            assert_eq!(layers.count(), 3, "{name}");
            // Config and layers; for OCI the manifest too.
            assert_eq!(facts.vouches.len(), if layout == "oci" { 5 } else { 4 }, "{name}");
            let image = place.open(&name, "docker");
            assert!(read_all(&*image).unwrap() == disk, "{name}");
            for promise in image.promises() {
                promise.keep(&|| Ok(())).unwrap();
            }
        }
    }
}

#[test]
fn a_disk_in_an_archive_of_its_own_is_read_holes_and_all() {
    if !has(&["tar"]) {
        return;
    }
    let place = Place::new();
    place.sparse("disk.raw", 30 << 20);
    let disk = place.get("disk.raw");
    for words in [
        &["-cf"][..],
        &["-Scf"],
        &["--format=ustar", "-cf"],
        &["--format=oldgnu", "-Scf"],
        &["--format=posix", "-Scf"],
    ] {
        let words: Vec<_> = words.iter().copied().chain(["disk.tar", "disk.raw"]).collect();
        place.must("tar", &words);
        let facts = facts(&place, "disk.tar");
        assert_eq!((facts.format, facts.disk_size, facts.hazards.len()), ("gcp", 30 << 20, 0));
        let image = place.open("disk.tar", "gcp");
        assert!(read_all(&*image).unwrap() == disk, "{words:?}");
        let forward = formats::format("gcp").unwrap().forward.unwrap();
        let image = forward(place.source("disk.tar"), &Limits::default()).unwrap().unwrap();
        assert!(read_all(&*image).unwrap() == disk, "{words:?}");
    }
}

#[test]
fn what_we_write_for_googles_cloud_tar_unpacks() {
    if !has(&["tar", "cmp"]) {
        return;
    }
    let place = Place::new();
    let size = 1 << 30;
    // A smaller disk has zeros behind it.
    place.sparse("disk.raw", 30 << 20);
    let image = place.open("disk.raw", "raw");
    let create = Create { size, ..Default::default() };
    place.write("ours.tar", "gcp", &create, &*image);
    let list = String::from_utf8(place.must("tar", &["-tvf", "ours.tar"])).unwrap();
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(list.contains("1073741824") && list.ends_with("disk.raw\n"), "{list}");
    let magic = |name: &str| {
        let mut bytes = [0; 8];
        formats::Window::read(&*place.source(name), 257, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(&magic("ours.tar"), b"ustar  \0");
    std::fs::create_dir(place.path("out")).unwrap();
    place.must("tar", &["-C", "out", "-xf", "ours.tar"]);
    place.must("truncate", &["-s", "1G", "disk.raw"]);
    place.must("cmp", &["disk.raw", "out/disk.raw"]);
    let ours = place.open("ours.tar", "gcp");
    let image = place.open("disk.raw", "raw");
    let same = formats::compare(&*image, &*ours, &formats::CompareOptions::default()).unwrap();
    assert_eq!(same, formats::Comparison::Same);

    // Into a pipe it is the same.
    place.must("truncate", &["-s", "30M", "disk.raw"]);
    let image = place.open("disk.raw", "raw");
    let file = std::fs::File::create(place.path("piped.tar")).unwrap();
    let make = formats::format("gcp").unwrap().create.unwrap();
    let writer = make(std::sync::Arc::new(Stream::new(file)), &create).unwrap();
    formats::copy(&*image, &*writer, &formats::CopyOptions::default()).unwrap();
    place.must("cmp", &["ours.tar", "piped.tar"]);
}

#[test]
fn disks_for_googles_cloud_have_whole_gibibytes() {
    let gcp = formats::format("gcp").unwrap();
    let options = formats::Options::default();
    for (size, padded) in [(0, 1 << 30), (1, 1 << 30), (1 << 30, 1 << 30), ((1 << 30) + 1, 2 << 30)]
    {
        assert_eq!((gcp.padded)(size, &options).unwrap(), padded);
    }
    assert_eq!((gcp.padded)(u64::MAX, &options).unwrap_err().kind(), Kind::Invalid);
    let target = std::sync::Arc::new(formats::Memory::default());
    let create = Create { size: 512, ..Default::default() };
    let made = (gcp.create.unwrap())(target, &create);
    assert_eq!(made.err().unwrap().kind(), Kind::Invalid);
}
