//! Archives of container images, and of lone disks, that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;

use std::sync::Arc;

use disks::{Dice, read_all};
use formats::{
    Detail, FORMATS, Facts, Image, Ingest, Kind, Limits, Memory, OpenOptions, Result, Role, Value,
};
use sha2::{Digest, Sha256};

/// A member: its name, its kind, its content; of a link, what it leads to.
type Member<'a> = (&'a str, u8, &'a [u8]);

/// A header as POSIX has it.
fn header(name: &str, kind: u8, size: usize, link: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, content) in members {
        let is_link = matches!(kind, b'1' | b'2');
        let (content, link) = if is_link { (&[][..], *content) } else { (*content, &[][..]) };
        bytes.extend_from_slice(&header(name, *kind, content.len(), link));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    disks::hex(&Sha256::digest(bytes))
}

/// An archive as `docker save` writes it: the layers, the first one lowest.
fn saved(layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<_> = (0..layers.len()).map(|n| format!("{n:064x}/layer.tar")).collect();
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{ids:?}}}}}"#
    );
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":["me:1"],"Layers":{names:?}}}]"#);
    let mut members: Vec<Member> = vec![(&name, b'0', config.as_bytes())];
    members.extend(names.iter().zip(layers).map(|(name, layer)| (&**name, b'0', &**layer)));
    members.push(("manifest.json", b'0', manifest.as_bytes()));
    tar(&members)
}

/// An OCI layout with this index, and these blobs.
fn layout(index: &str, blobs: &[&[u8]]) -> Vec<u8> {
    let names: Vec<_> = blobs.iter().map(|blob| format!("blobs/sha256/{}", sha256(blob))).collect();
    let mut members: Vec<Member> = vec![("oci-layout", b'0', b"{}")];
    members.push(("index.json", b'0', index.as_bytes()));
    members.extend(names.iter().zip(blobs).map(|(name, blob)| (&**name, b'0', *blob)));
    tar(&members)
}

/// What names a blob.
fn descriptor(kind: &str, blob: &[u8]) -> String {
    let (digest, size) = (sha256(blob), blob.len());
    format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{size}}}"#)
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn index(manifests: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","))
}

fn facts(bytes: &[u8]) -> Result<Facts> {
    let memory = Memory::new(bytes);
    let format = formats::probe(FORMATS, &memory)?;
    assert_eq!(format.name, "docker");
    let facts = (format.inspect)(&memory, &Limits::default());
    // As it goes by, it is the same.
    let mut ingest = Ingest::new(FORMATS, Limits::default());
    let passing = bytes.chunks(999).try_for_each(|part| ingest.push(part).map(drop));
    match (passing.and_then(|()| ingest.finish()), &facts) {
        (Ok(passing), Ok(facts)) => assert_eq!(&passing, facts),
        (Err(passing), Err(error)) => assert_eq!(passing.kind(), error.kind()),
        (passing, facts) => panic!("{passing:?} and {facts:?}"),
    }
    facts
}

fn kind(bytes: &[u8]) -> Kind {
    facts(bytes).expect_err("it is damaged").kind()
}

fn open(bytes: &[u8], disk: Option<usize>) -> Result<Box<dyn Image>> {
    let limits = Limits::default();
    let source = Arc::new(Memory::new(bytes));
    let format = formats::probe(FORMATS, &*source)?;
    let options = OpenOptions { disk, ..OpenOptions::new(FORMATS, &limits) };
    formats::open(source, format, &options)
}

fn content(bytes: &[u8], disk: Option<usize>) -> Vec<u8> {
    read_all(&*open(bytes, disk).unwrap()).unwrap()
}

/// A disk of which each sector says which it is.
fn disk(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(3 * 512).collect()
}

#[test]
fn a_disk_is_read_through_the_layers_that_lie_over_it() {
    let (one, two) = (disk("one"), disk("two"));
    let low = tar(&[("disk", b'5', b""), ("disk/a.raw", b'0', &one), ("etc/x", b'0', b"x")]);
    let both = tar(&[("disk/b.raw", b'0', &two), ("./disk/a.raw", b'0', &one)]);
    let nothing = tar(&[("etc/y", b'0', b"y")]);
    let gone = |name: &str| tar(&[(name, b'0', b"")]);

    assert_eq!(content(&saved(std::slice::from_ref(&low)), None), one);
    assert_eq!(content(&saved(&[low.clone(), nothing.clone()]), None), one);
    assert_eq!(content(&saved(&[low.clone(), both.clone()]), Some(2)), two);
    assert_eq!(content(&saved(&[low.clone(), vec![0; 10240], vec![]]), None), one);
    assert_eq!(content(&saved(&[both.clone(), gone("disk/.wh.a.raw")]), None), two);
    let cover = ["disk/.wh..wh..opq", ".wh.disk", ".wh..wh..opq"];
    let link = tar(&[("disk", b'2', b"etc")]);
    for above in cover.map(gone).into_iter().chain([link, gone("disk/.wh.a.raw")]) {
        let error = open(&saved(&[low.clone(), above]), None).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    }
    assert_eq!(
        open(&saved(std::slice::from_ref(&low)), Some(2)).err().unwrap().kind(),
        Kind::Invalid
    );
    assert_eq!(open(&saved(&[low]), Some(0)).err().unwrap().kind(), Kind::Invalid);
    assert_eq!(open(&saved(&[nothing]), None).err().unwrap().kind(), Kind::Unsupported);
    assert_eq!(open(&saved(&[]), None).err().unwrap().kind(), Kind::Unsupported);
}

#[test]
fn what_is_no_plain_file_under_disk_is_no_disk() {
    let one = disk("one");
    let deeper = tar(&[("disk/deep/a.raw", b'0', &one)]);
    let link = tar(&[("etc/a", b'0', &one), ("disk/a.raw", b'2', b"../etc/a")]);
    let hard = tar(&[("etc/a", b'0', &one), ("disk/a.raw", b'1', b"etc/a")]);
    let passwd = tar(&[("disk/a.raw", b'2', b"/etc/passwd")]);
    let device = tar(&[("disk/a.raw", b'4', b"")]);
    for layer in [deeper, link, hard, passwd, device] {
        assert_eq!(open(&saved(&[layer]), None).err().unwrap().kind(), Kind::Unsupported);
    }
    let out = tar(&[("../disk/a.raw", b'0', &one)]);
    assert_eq!(open(&saved(&[out]), None).err().unwrap().kind(), Kind::Refused);
    let twice = tar(&[("disk/a.raw", b'0', &one), ("disk/a.raw", b'0', &one)]);
    assert_eq!(open(&saved(&[twice]), None).err().unwrap().kind(), Kind::Refused);
    assert_eq!(
        open(&saved(&[b"no archive".to_vec()]), None).err().unwrap().kind(),
        Kind::Unsupported
    );
}

#[test]
fn an_image_in_an_image_in_an_image_is_not_looked_for() {
    let one = disk("one");
    let inner = saved(&[tar(&[("disk/a.raw", b'0', &one)])]);
    let outer = saved(&[tar(&[("disk/a.tar", b'0', &inner)])]);
    assert_eq!(open(&outer, None).err().unwrap().kind(), Kind::Unsupported);
}

#[test]
fn every_byte_of_a_blob_is_vouched_for() {
    let layer = tar(&[("disk/a.raw", b'0', &disk("one"))]);
    let bytes = saved(std::slice::from_ref(&layer));
    assert_eq!(facts(&bytes).unwrap().vouches.len(), 2);
    let kept = |bytes: &[u8]| -> Result<()> {
        let image = open(bytes, None)?;
        image.promises().iter().try_for_each(|promise| promise.keep(&|| Ok(())))
    };
    kept(&bytes).unwrap();
    let at = bytes.windows(6).position(|part| part == b"oneone").unwrap();
    let mut other = bytes.clone();
    other[at] ^= 1;
    assert_eq!(kept(&other).unwrap_err().kind(), Kind::Malformed);

    let manifest = format!(
        r#"{{"config":{},"layers":[{}]}}"#,
        descriptor("x", b"{}"),
        descriptor("y", &layer)
    );
    let top = index(&[descriptor(MANIFEST, manifest.as_bytes())]);
    let bytes = layout(&top, &[manifest.as_bytes(), b"{}", &layer]);
    assert_eq!(facts(&bytes).unwrap().vouches.len(), 3);
    kept(&bytes).unwrap();
    let at = bytes.windows(6).position(|part| part == b"oneone").unwrap();
    let mut other = bytes.clone();
    other[at] ^= 1;
    assert_eq!(kept(&other).unwrap_err().kind(), Kind::Malformed);
}

#[test]
fn a_layer_that_is_a_disk_is_a_disk() {
    let one = disk("one");
    let kind = "application/vnd.kubevirt.disk.raw";
    let manifest =
        format!(r#"{{"config":{},"layers":[{}]}}"#, descriptor("x", b"{}"), descriptor(kind, &one));
    let top = index(&[descriptor(MANIFEST, manifest.as_bytes())]);
    let bytes = layout(&top, &[manifest.as_bytes(), b"{}", &one]);
    assert_eq!(facts(&bytes).unwrap().references[0].role, Role::Disk);
    assert_eq!(content(&bytes, None), one);
}

#[test]
fn texts_that_are_not_what_they_should_be_are_refused() {
    for text in ["", "{}", "[", "[1]", "[{\"Layers\":[7]}]", "\u{0}", "[{\"Layers\": 1}]"] {
        let text = format!("{text}    \"Layers\"");
        let bytes = tar(&[("manifest.json", b'0', text.as_bytes())]);
        assert_eq!(kind(&bytes), Kind::Malformed, "{text}");
    }
    let deep = format!("{}\"manifests\"", "[".repeat(5000));
    let bytes = tar(&[("oci-layout", b'0', b"{}"), ("index.json", b'0', deep.as_bytes())]);
    assert_eq!(kind(&bytes), Kind::Malformed);
    assert_eq!(kind(&tar(&[("oci-layout", b'0', b"{}")])), Kind::Malformed);
    let absent = br#"[{"Config":"x.json","Layers":["../x"]}]"#;
    assert_eq!(kind(&tar(&[("manifest.json", b'0', absent)])), Kind::Malformed);
    let folder = br#"[{"Config":"x","Layers":[]}]"#;
    let bytes = tar(&[("manifest.json", b'0', folder), ("x", b'5', b"")]);
    assert_eq!(kind(&bytes), Kind::Malformed);
    let large = vec![b' '; (4 << 20) + 1];
    let bytes = tar(&[("oci-layout", b'0', b"{}"), ("index.json", b'0', &large)]);
    assert_eq!(kind(&bytes), Kind::Limit);
}

#[test]
fn links_among_layers_lead_nowhere_else() {
    let layer = tar(&[("disk/a.raw", b'0', &disk("one"))]);
    let manifest = br#"[{"Layers":["b/layer.tar"]}]"#;
    let with = |link: &[u8]| {
        tar(&[
            ("manifest.json", b'0', manifest),
            ("a/layer.tar", b'0', &layer),
            ("b/layer.tar", b'2', link),
        ])
    };
    assert_eq!(content(&with(b"../a/layer.tar"), None), disk("one"));
    for link in [&b"layer.tar"[..], b"../../a/layer.tar", b"../x", b"", b".."] {
        assert_eq!(kind(&with(link)), Kind::Malformed, "{link:?}");
    }
}

#[test]
fn blobs_of_another_size_or_digest_than_said_are_refused() {
    let layer = tar(&[("disk/a.raw", b'0', &disk("one"))]);
    let wrong = descriptor("y", &layer).replace("\"size\":", "\"size\":1");
    let manifest = format!(r#"{{"layers":[{wrong}]}}"#);
    let top = index(&[descriptor(MANIFEST, manifest.as_bytes())]);
    assert_eq!(kind(&layout(&top, &[manifest.as_bytes(), &layer])), Kind::Malformed);
    for digest in ["md5:00", "sha256:00", "sha256:../../etc/passwd", "", "sha256"] {
        let top = index(&[format!(r#"{{"digest":"{digest}","size":1}}"#)]);
        assert_eq!(kind(&layout(&top, &[])), Kind::Malformed, "{digest}");
    }
}

#[test]
fn indexes_in_each_other_end() {
    let mut inner = index(&[]);
    let mut blobs = vec![inner.clone()];
    for _ in 0..6 {
        inner = index(&[descriptor(INDEX, inner.as_bytes())]);
        blobs.push(inner.clone());
    }
    let blobs: Vec<_> = blobs.iter().map(String::as_bytes).collect();
    assert_eq!(kind(&layout(&inner, &blobs)), Kind::Limit);
    // Each names the next a thousand times over.
    for mut inner in [index(&[descriptor(MANIFEST, b"{}")]), index(&[])] {
        let mut blobs = vec!["{}".to_string(), inner.clone()];
        for _ in 0..4 {
            inner = index(&vec![descriptor(INDEX, inner.as_bytes()); 1000]);
            blobs.push(inner.clone());
        }
        let blobs: Vec<_> = blobs.iter().map(String::as_bytes).collect();
        assert_eq!(kind(&layout(&inner, &blobs)), Kind::Limit);
    }
}

#[test]
fn more_layers_than_there_may_be_files_are_refused() {
    let layers = vec!["\"a/layer.tar\""; 600].join(",");
    let manifest = format!(r#"[{{"Layers":[{layers}]}}]"#);
    let layer = tar(&[]);
    let members =
        [("manifest.json", b'0', manifest.as_bytes()), ("a/layer.tar", b'0', layer.as_slice())];
    assert_eq!(kind(&tar(&members)), Kind::Limit);
}

#[test]
fn names_that_lead_out_come_twice_or_are_devices_are_no_way_in() {
    let manifest = saved(&[]);
    let with = |member: Member| {
        let mut bytes = tar(&[("oci-layout", b'0', b"{}"), member]);
        bytes.truncate(bytes.len() - 1024);
        [bytes, manifest.clone()].concat()
    };
    for name in ["/etc/passwd", "../x", "a/../../x", "oci-layout"] {
        assert_eq!(kind(&with((name, b'0', b"x"))), Kind::Refused, "{name}");
    }
}

#[test]
fn archives_of_other_things_are_not_container_images() {
    let others: [&[Member]; 6] = [
        &[("a.ovf", b'0', b"x"), ("manifest.json", b'0', b"[{\"Layers\":[]}]")],
        &[("manifest.json", b'0', b"{\"name\":\"a web page\"}")],
        &[("index.json", b'0', b"{}"), ("x", b'0', b"")],
        &[("repositories", b'0', b"{}")],
        &[("blobs", b'5', b""), ("x", b'0', b"")],
        &[],
    ];
    for members in others {
        let memory = Memory::new(tar(members));
        let docker = formats::format("docker").unwrap();
        assert!(!(docker.probe)(&memory).unwrap(), "{members:?}");
    }
}

#[test]
fn an_archive_that_is_cut_or_changed_is_an_error_or_right() {
    let bytes = saved(&[tar(&[("disk/a.raw", b'0', &disk("one"))])]);
    let limits = Limits::default();
    let look = |bytes: &[u8]| {
        let source = Arc::new(Memory::new(bytes));
        let docker = formats::format("docker").unwrap();
        if (docker.probe)(&*source).unwrap_or(false) {
            let options = OpenOptions::new(FORMATS, &limits);
            let opened = formats::open(source, docker, &options);
            let _ = opened.and_then(|image| read_all(&*image));
        }
    };
    for len in (0..bytes.len()).step_by(37) {
        look(&bytes[..len]);
    }
    let mut dice = Dice::new(3);
    for _ in 0..3000 {
        let mut bytes = bytes.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.next().to_be_bytes()[0];
        }
        look(&bytes);
    }
}

/// The disk of an archive for Google's cloud.
fn lone(bytes: &[u8]) -> Result<Vec<u8>> {
    let source = Arc::new(Memory::new(bytes));
    let format = formats::probe(FORMATS, &*source)?;
    assert_eq!(format.name, "gcp");
    let limits = Limits::default();
    read_all(&*formats::open(source, format, &OpenOptions::new(FORMATS, &limits))?)
}

#[test]
fn the_first_member_decides_whether_it_is_a_lone_disk() {
    let one = disk("one");
    assert_eq!(lone(&tar(&[("disk.raw", b'0', &one)])).unwrap(), one);
    assert_eq!(lone(&tar(&[("./disk.raw", b'0', &one)])).unwrap(), one);
    let both = tar(&[("disk.raw", b'0', &one), ("x", b'0', b"x")]);
    assert_eq!(lone(&both).unwrap(), one);
    let gcp = formats::format("gcp").unwrap();
    let facts = (gcp.inspect)(&Memory::new(both), &Limits::default()).unwrap();
    assert_eq!(facts.hazards[0].what, "'x' lies behind disk.raw, which should be alone");
    for member in [("disk.img", b'0'), ("x/disk.raw", b'0'), ("disk.raw", b'2'), ("disk.raw", b'5')]
    {
        let memory = Memory::new(tar(&[(member.0, member.1, b"")]));
        assert!(!(gcp.probe)(&memory).unwrap_or(false), "{member:?}");
    }
    let whole = tar(&[("disk.raw", b'0', &one)]);
    for len in 0..512 + one.len() {
        let memory = Memory::new(&whole[..len]);
        let damaged = (gcp.inspect)(&memory, &Limits::default());
        assert!(damaged.is_err(), "cut at {len}");
    }
}

#[test]
fn what_is_told_of_container_images_is_what_they_say() {
    let facts = facts(&saved(&[tar(&[("x", b'0', b"")])])).unwrap();
    let said =
        |name: &'static str, value: Value| assert!(facts.details.contains(&Detail { name, value }));
    said("tags", Value::List(vec![Value::Text("me:1".into())]));
    said("architecture", Value::Text("amd64".into()));
    said("os", Value::Text("linux".into()));
    said("layers", Value::Number(1));
    said("images", Value::Number(1));
}
