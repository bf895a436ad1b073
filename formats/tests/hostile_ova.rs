//! Packages of virtual machines that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod packages;

use std::sync::Arc;

use disks::read_all;
use formats::{
    Error, FORMATS, Facts, Finding, HazardKind, Ingest, Kind, Limits, Links, Memory, OpenOptions,
    Result, Tally, Window,
};
use packages::{Tar, descriptor, digest_line};

fn ova() -> &'static formats::Format {
    formats::format("ova").unwrap()
}

/// A raw disk of two sectors.
const DISK: [u8; 1024] = [7; 1024];

/// An archive with that disk.
fn sound() -> Tar {
    let text = descriptor(&[("disk.img", Some(1024), "1024", "")]);
    let mut tar = Tar::default();
    tar.file("a.ovf", text.as_bytes());
    let lines =
        digest_line("SHA256", "a.ovf", text.as_bytes()) + &digest_line("SHA256", "disk.img", &DISK);
    tar.file("a.mf", lines.as_bytes());
    tar.file("disk.img", &DISK);
    tar
}

/// An archive with this descriptor and that disk, and no manifest.
fn with_text(text: &str) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.file("a.ovf", text.as_bytes()).file("disk.img", &DISK);
    tar.end()
}

fn facts(bytes: &[u8]) -> Result<Facts> {
    (ova().inspect)(&Memory::new(bytes), &Limits::default())
}

fn open(bytes: &[u8], disk: Option<usize>) -> Result<Vec<u8>> {
    let limits = Limits::default();
    let options = OpenOptions { disk, ..OpenOptions::new(FORMATS, &limits) };
    let image = formats::open(Arc::new(Memory::new(bytes)), ova(), &options)?;
    for promise in image.promises() {
        promise.keep(&|| Ok(()))?;
    }
    read_all(&*image)
}

fn kind(bytes: &[u8]) -> Kind {
    failure(bytes).kind()
}

fn failure(bytes: &[u8]) -> Error {
    open(bytes, None).map(drop).expect_err("it is hostile")
}

fn check(bytes: &[u8]) -> Result<(Tally, Vec<Finding>)> {
    let links = Links::alone(Arc::new(Memory::new(bytes)));
    let mut findings = Vec::new();
    let tally = ova().check.unwrap()(links, &Limits::default(), &mut |one| findings.push(one))?;
    Ok((tally, findings))
}

#[test]
fn the_archive_that_is_damaged_below_is_sound_before() {
    let bytes = sound().end();
    assert_eq!(formats::probe(FORMATS, &Memory::new(&*bytes)).unwrap().name, "ova");
    assert_eq!(open(&bytes, None).unwrap(), DISK);
    let (tally, findings) = check(&bytes).unwrap();
    assert!(tally.is_clean(), "{findings:?}");
    assert!(facts(&bytes).unwrap().hazards.is_empty());
}

#[test]
fn members_whose_names_lead_out_are_refused() {
    for name in ["../evil", "/etc/passwd", "a/../../evil", "..", "./../evil"] {
        let mut tar = sound();
        tar.file(name, b"evil");
        let bytes = tar.end();
        assert_eq!(kind(&bytes), Kind::Refused, "{name}");
        assert!(formats::probe(FORMATS, &Memory::new(&*bytes)).is_ok(), "{name}");
        let mut first = Tar::default();
        first.file(name, b"evil").add(&sound());
        assert_eq!(kind(&first.end()), Kind::Refused, "{name} in front");
    }
    // By way of headers that say another name than the member's own one.
    let mut long = sound();
    long.member(b"././@LongLink", b'L', b"../evil\0").file("good", b"");
    assert_eq!(kind(&long.end()), Kind::Refused);
    let mut pax = sound();
    pax.member(b"pax", b'x', b"16 path=../evil\n").file("good", b"");
    assert_eq!(kind(&pax.end()), Kind::Refused);
    let mut zero = sound();
    zero.member(b"pax", b'x', b"13 path=a\0b\n\n".as_slice()).file("good", b"");
    assert!(open(&zero.end(), None).is_err());
}

#[test]
fn members_that_are_no_files_are_refused() {
    for (kind_of, name) in
        [(b'1', "hard link"), (b'2', "link"), (b'3', "device"), (b'4', "device"), (b'6', "pipe")]
    {
        let mut tar = sound();
        tar.member(b"evil", kind_of, b"");
        assert_eq!(kind(&tar.end()), Kind::Refused, "{name}");
    }
    // Written through: a link first, a file by its name then.
    let mut tar = sound();
    tar.member(b"out", b'2', b"").file("out/evil", b"evil");
    assert_eq!(kind(&tar.end()), Kind::Refused);
}

#[test]
fn which_of_two_files_is_meant_is_never_guessed() {
    let mut twice = sound();
    twice.file("disk.img", &[8; 1024]);
    assert_eq!(kind(&twice.end()), Kind::Refused);
    let mut dotted = sound();
    dotted.file("./disk.img", &[8; 1024]);
    assert_eq!(kind(&dotted.end()), Kind::Refused);
    for name in ["b.ovf", "folder/c.OVF", "b.mf"] {
        let mut tar = sound();
        tar.file(name, b"<Envelope/>");
        assert_eq!(kind(&tar.end()), Kind::Refused, "{name}");
    }
    let mut chunked = sound();
    chunked.file("disk.img.000000000", &DISK);
    assert_eq!(kind(&chunked.end()), Kind::Refused, "whole, and in chunks");
}

#[test]
fn sizes_of_members_that_cannot_be_are_refused() {
    for (size, wanted) in [
        (*b"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", Kind::Malformed),
        (*b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Kind::Malformed),
        (*b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Kind::Malformed),
        (*b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Kind::Truncated),
        (*b"777777777777", Kind::Truncated),
        (*b"0000000x000\0", Kind::Malformed),
    ] {
        let mut tar = sound();
        tar.sized(b"huge", b'0', size, b"");
        assert_eq!(kind(&tar.end()), wanted, "{size:?}");
    }
    let mut tar = sound();
    tar.member(b"pax", b'x', b"29 size=18446744073709551615\n").file("huge", b"");
    assert_eq!(kind(&tar.end()), Kind::Malformed);
}

#[test]
fn a_sparse_member_is_bounded_before_anything_is_read() {
    let mut tar = sound();
    // 2^63 bytes of holes, of which none is stored.
    tar.sparse(b"bomb", &[], 1 << 63, b"");
    assert_eq!(kind(&tar.end()), Kind::Limit);
    // A disk of holes is a disk of zeros, of as many bytes as the descriptor says.
    let text = descriptor(&[("disk.img", None, "4096", "")]);
    let mut tar = Tar::default();
    tar.file("a.ovf", text.as_bytes()).sparse(b"disk.img", &[(512, 512)], 4096, &[5; 512]);
    let disk = open(&tar.end(), None).unwrap();
    assert!(disk[..512] == [0; 512] && disk[512..1024] == [5; 512] && disk[1024..] == [0; 3072]);
    for list in [vec![(512, 512), (0, 512)], vec![(0, 512), (100, 512)], vec![(4000, 512)]] {
        let mut tar = Tar::default();
        let stored = vec![5; 512 * list.len()];
        tar.file("a.ovf", text.as_bytes()).sparse(b"disk.img", &list, 4096, &stored);
        assert_eq!(kind(&tar.end()), Kind::Malformed, "{list:?}");
    }
}

#[test]
fn names_in_a_descriptor_lead_nowhere_outside_of_the_archive() {
    for href in [
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:9/disk.img",
        "https://example.com/disk.img",
    ] {
        let text = descriptor(&[(href, None, "1024", "")]);
        let bytes = with_text(&text);
        assert_eq!(kind(&bytes), Kind::Refused, "{href}");
        let told = facts(&bytes).unwrap().hazards;
        assert!(told.iter().any(|hazard| hazard.kind == HazardKind::Irregular), "{href}");
        // By itself, a descriptor is told of, and nothing it names is opened.
        let ovf = formats::format("ovf").unwrap();
        let source = Arc::new(Memory::new(text.as_bytes()));
        let facts = (ovf.inspect)(&*source, &Limits::default()).unwrap();
        assert_eq!(facts.references[0].name, href);
        let limits = Limits::default();
        let opened = formats::open(source, ovf, &OpenOptions::new(FORMATS, &limits));
        assert_eq!(opened.err().unwrap().kind(), Kind::Refused, "{href}");
    }
}

#[test]
fn a_descriptor_expands_nothing_and_asks_for_nothing() {
    let body = descriptor(&[("disk.img", Some(1024), "1024", "")]);
    let body = body.split_once("?>").unwrap().1;
    let laughs = "<!DOCTYPE a [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>";
    let outside = "<!DOCTYPE a SYSTEM \"http://127.0.0.1:9/x.dtd\">";
    let file = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
    for front in [laughs, outside, file] {
        assert_eq!(
            kind(&with_text(&format!("<?xml version=\"1.0\"?>{front}{body}"))),
            Kind::Refused
        );
    }
    let entity = body.replace("<Info>", "<Info>&x;");
    assert_eq!(kind(&with_text(&entity)), Kind::Refused);
    let attribute = body.replace("disk.img", "&x;");
    assert_eq!(kind(&with_text(&attribute)), Kind::Malformed);
}

#[test]
fn a_descriptor_of_a_million_items_is_refused_soon() {
    let items = "<Item><a>1</a></Item>".repeat(1_000_000);
    let text = descriptor(&[("disk.img", None, "1024", "")]);
    let text = text.replace("</VirtualSystem>", &format!("{items}</VirtualSystem>"));
    assert_eq!(kind(&with_text(&text)), Kind::Limit);
    let few = "<Item/>".repeat(400_000);
    let text = text.replace(&items, &few);
    assert_eq!(kind(&with_text(&text)), Kind::Limit);
    let deep = "<a>".repeat(100_000);
    assert_eq!(kind(&with_text(&deep)), Kind::Limit);
}

#[test]
fn capacities_that_cannot_be_are_refused() {
    for (capacity, units, wanted) in [
        ("1", "byte * 2^999", Kind::Malformed),
        ("1", "byte * 2^64", Kind::Malformed),
        ("18446744073709551615", "byte * 2^10", Kind::Malformed),
        ("18446744073709551616", "", Kind::Malformed),
        ("-1", "", Kind::Malformed),
        ("1e3", "", Kind::Malformed),
        ("${size}", "", Kind::Malformed),
        ("1", "furlong", Kind::Malformed),
        ("1", "byte * 2^62", Kind::Limit),
        ("512", "", Kind::Malformed),
    ] {
        let bytes = with_text(&descriptor(&[("disk.img", Some(1024), capacity, units)]));
        assert_eq!(kind(&bytes), wanted, "{capacity} {units}");
    }
    let property = descriptor(&[("disk.img", Some(1024), "${size}", "byte * 2^10")]).replace(
        "<VirtualSystem",
        "<ProductSection><Property o:key='size' o:value='2'/></ProductSection><VirtualSystem",
    );
    assert_eq!(open(&with_text(&property), None).unwrap().len(), 2048);
}

#[test]
fn what_a_descriptor_says_of_another_file_is_not_believed() {
    let bytes = with_text(&descriptor(&[("disk.img", Some(5000), "50", "byte * 2^30")]));
    assert_eq!(open(&bytes, None).unwrap().len(), 1024);
    let told = facts(&bytes).unwrap().hazards;
    assert!(told.iter().any(|hazard| hazard.what.contains("5000") && hazard.what.contains("1024")));
    assert_eq!(check(&bytes).unwrap().0.corruptions, 1);
}

#[test]
fn chunks_that_are_missing_are_noticed() {
    let archive = |chunks: &[&str], size: Option<u64>| {
        let text = descriptor(&[("disk.img", size, "1536", "")]);
        let mut tar = Tar::default();
        tar.file("a.ovf", text.as_bytes());
        for chunk in chunks {
            tar.file(&format!("disk.img.{chunk}"), &[9; 512]);
        }
        tar.end()
    };
    let all = ["000000000", "000000001", "000000002"];
    assert_eq!(open(&archive(&all, Some(1536)), None).unwrap(), [9; 1536]);
    for (chunks, size) in [
        (&["000000000", "000000002"][..], None),
        (&["000000001", "000000002"], None),
        (&["000000000", "000000001"], Some(1536)),
        (&["000000000", "000000001", "000000300"], None),
        (&["00000000", "00000001"], None),
    ] {
        let bytes = archive(chunks, size);
        assert_eq!(kind(&bytes), Kind::Malformed, "{chunks:?}");
        assert!(check(&bytes).unwrap().0.corruptions > 0, "{chunks:?}");
    }
}

#[test]
fn many_disks_in_the_same_chunks_do_not_take_all_memory() {
    let names: Vec<_> = (0..4000).map(|_| ("disk.img", None, "1024", "")).collect();
    let text = descriptor(&names);
    let mut tar = Tar::default();
    tar.file("a.ovf", text.as_bytes());
    for number in 0..2000 {
        tar.file(&format!("disk.img.{number:09}"), b"x");
    }
    assert_eq!(kind(&tar.end()), Kind::Limit);
    assert_eq!(check(&tar.end()).unwrap_err().kind(), Kind::Limit);
    let names: Vec<_> = (0..5000).map(|_| ("disk.img", None, "1024", "")).collect();
    assert_eq!(kind(&with_text(&descriptor(&names))), Kind::Limit);
}

#[test]
fn a_broken_promise_names_the_file() {
    let text = descriptor(&[("disk.img", Some(1024), "1024", "")]);
    for (name, content) in [("disk.img", &b"other"[..]), ("a.ovf", b"other")] {
        let mut tar = Tar::default();
        let right = [("a.ovf", text.as_bytes()), ("disk.img", &DISK[..])];
        let mut lines = String::new();
        for (file, bytes) in right {
            lines += &digest_line("SHA1", file, if file == name { content } else { bytes });
        }
        tar.file("a.ovf", text.as_bytes()).file("a.mf", lines.as_bytes()).file("disk.img", &DISK);
        let bytes = tar.end();
        let error = failure(&bytes);
        assert!(error.kind() == Kind::Malformed && error.to_string().contains(name), "{error}");
        let (tally, findings) = check(&bytes).unwrap();
        assert!(tally.corruptions == 1 && findings[0].what.contains(name), "{findings:?}");
    }
}

#[test]
fn a_manifest_names_what_is_there_and_all_of_it() {
    let mut tar = Tar::default();
    let text = descriptor(&[("disk.img", Some(1024), "1024", "")]);
    let lines = digest_line("SHA1", "a.ovf", text.as_bytes()) + &digest_line("SHA1", "gone", b"");
    tar.file("a.ovf", text.as_bytes()).file("a.mf", lines.as_bytes()).file("disk.img", &DISK);
    let bytes = tar.end();
    let told = facts(&bytes).unwrap().hazards;
    assert!(told.iter().any(|hazard| hazard.what.contains("'gone'")), "{told:?}");
    let (tally, findings) = check(&bytes).unwrap();
    assert_eq!((tally.corruptions, tally.check_errors), (1, 1), "{findings:?}");
    assert!(findings.iter().any(|one| one.what.contains("'disk.img'")));
    for broken in ["SHA1(a.ovf)= 12\n", "MD5(a.ovf)= 00\n", "nonsense\n"] {
        let mut tar = Tar::default();
        tar.file("a.ovf", text.as_bytes()).file("a.mf", broken.as_bytes()).file("disk.img", &DISK);
        assert!(matches!(kind(&tar.end()), Kind::Malformed | Kind::Unsupported), "{broken}");
    }
}

#[test]
fn a_descriptor_that_makes_no_sense_is_an_error() {
    let sound = descriptor(&[("disk.img", Some(1024), "1024", "")]);
    for (what, from, to) in [
        ("another root", "Envelope", "Elope"),
        ("a disk of an unknown file", "fileRef='file0'", "fileRef='file9'"),
        ("a file without a name", "o:href=", "o:bref="),
        ("a file without an id", "<File o:id=", "<File o:ib="),
        ("a disk without an id", "o:diskId=", "o:diskIb="),
        ("a size that is no number", "o:size='1024'", "o:size='many'"),
        ("two names", "o:href=", "b:href='other' o:href="),
    ] {
        let text = sound.replace(from, to);
        assert!(text != sound, "{what}");
        assert_eq!(kind(&with_text(&text)), Kind::Malformed, "{what}");
    }
    let twice = sound.replace("</References>", "<File o:id='file0' o:href='x'/></References>");
    assert_eq!(kind(&with_text(&twice)), Kind::Malformed);
    let delta = sound.replace("o:diskId=", "o:parentRef='other' o:diskId=");
    assert_eq!(kind(&with_text(&delta)), Kind::Unsupported);
    let nothing = descriptor(&[]);
    assert_eq!(kind(&with_text(&nothing)), Kind::Unsupported);
    assert_eq!(open(&with_text(&sound), Some(2)).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn an_archive_that_was_cut_is_noticed_wherever_that_was() {
    let (bytes, end) = (sound().end(), sound().len() + 1024);
    for len in (0..end).step_by(97).chain([end - 1]) {
        let clean = check(&bytes[..len]).is_ok_and(|(tally, _)| tally.is_clean());
        assert!(!clean, "cut at {len}");
    }
    assert!(check(&bytes[..end]).unwrap().0.is_clean());
}

#[test]
fn every_flipped_byte_is_found() {
    let bytes = sound().end();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let found = check(&bytes).map(|(tally, _)| !tally.is_clean());
            assert!(found.unwrap_or(true), "byte {at:#x} ^ {flip:#x}");
        }
    }
}

#[test]
fn an_archive_is_known_from_a_stream_too() {
    let bytes = sound().end();
    for chunk in [1, 100, 512, 10_000] {
        let mut ingest = Ingest::new(FORMATS, Limits::default());
        for piece in bytes.chunks(chunk) {
            ingest.push(piece).unwrap();
        }
        let seen = ingest.finish().unwrap();
        assert_eq!(seen, facts(&bytes).unwrap(), "in pieces of {chunk}");
    }
}

#[test]
fn an_archive_without_a_descriptor_is_none_of_ours_and_no_raw_disk_either() {
    let mut tar = Tar::default();
    tar.file("disk.img", &DISK);
    let bytes = tar.end();
    let memory = Memory::new(&*bytes);
    assert_eq!(formats::probe(FORMATS, &memory).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(kind(&bytes), Kind::Malformed);
    let soap = b"<?xml version='1.0'?><e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/'/>";
    let window: &dyn Window = &Memory::new(&soap[..]);
    assert!(!(formats::format("ovf").unwrap().probe)(window).unwrap());
}
