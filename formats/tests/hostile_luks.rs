//! LUKS headers that attack or are damaged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

use formats::{Facts, HazardKind, Kind, Limits, Memory, Result};
use sha2::{Digest, Sha256};

fn facts(bytes: &[u8]) -> Result<Facts> {
    (formats::format("luks")?.inspect)(&Memory::new(bytes), &Limits::default())
}

fn kind(bytes: &[u8]) -> Kind {
    facts(bytes).expect_err("it is damaged").kind()
}

/// The sentences about what is out of the ordinary.
fn odd(bytes: &[u8]) -> Vec<String> {
    let facts = facts(bytes).unwrap();
    assert!(facts.encrypted);
    let odd = facts.hazards.into_iter().filter(|hazard| hazard.kind == HazardKind::Irregular);
    odd.map(|hazard| hazard.what).collect()
}

/// A header of version 1 with one key, and 64 KiB behind its 2 MiB.
fn first() -> Vec<u8> {
    let mut bytes = vec![0; (2 << 20) + (64 << 10)];
    let mut put = |at: usize, more: &[u8]| bytes[at..at + more.len()].copy_from_slice(more);
    put(0, b"LUKS\xba\xbe\0\x01aes");
    put(40, b"xts-plain64");
    put(72, b"sha256");
    put(104, &4096_u32.to_be_bytes());
    put(108, &64_u32.to_be_bytes());
    put(164, &1000_u32.to_be_bytes());
    put(168, b"00000000-0000-4000-8000-000000000000");
    for slot in 0..8_u32 {
        let at = 208 + slot as usize * 48;
        let state: u32 = if slot == 0 { 0x00ac_71f3 } else { 0xdead };
        put(at, &state.to_be_bytes());
        put(at + 4, &(1000 * u32::from(slot == 0)).to_be_bytes());
        put(at + 40, &(8 + slot * 504).to_be_bytes());
        put(at + 44, &4000_u32.to_be_bytes());
    }
    bytes
}

fn with(at: usize, word: u32) -> Vec<u8> {
    let mut bytes = first();
    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    bytes
}

/// A header of version 2 with this text, and 4 KiB behind its 64 KiB.
fn second(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; (64 << 10) + 4096];
    for (at, magic) in [(0_usize, b"LUKS\xba\xbe"), (16 << 10, b"SKUL\xba\xbe")] {
        let copy = &mut bytes[at..at + (16 << 10)];
        copy[..6].copy_from_slice(magic);
        copy[7] = 2;
        copy[8..16].copy_from_slice(&(16_u64 << 10).to_be_bytes());
        copy[23] = 5;
        copy[72..78].copy_from_slice(b"sha256");
        copy[256..264].copy_from_slice(&(at as u64).to_be_bytes());
        copy[4096..4096 + text.len()].copy_from_slice(text.as_bytes());
        let sum = Sha256::digest(&*copy);
        copy[448..480].copy_from_slice(&sum);
    }
    bytes
}

const SEGMENT: &str = r#""0":{"type":"crypt","offset":"65536","size":"dynamic"}"#;

/// A text with these members of its key slots and segments.
fn text(slots: &str, segments: &str) -> String {
    format!(r#"{{"keyslots":{{{slots}}},"segments":{{{segments}}},"digests":{{"x":[1]}}}}"#)
}

#[test]
fn the_headers_that_are_damaged_below_are_sound_before() {
    assert_eq!((facts(&first()).unwrap().disk_size, odd(&first())), (64 << 10, vec![]));
    let two = second(&text("", SEGMENT));
    assert_eq!((facts(&two).unwrap().disk_size, odd(&two)), (4096, vec![]));
}

#[test]
fn numbers_of_a_first_header_that_cannot_be_are_refused() {
    assert_eq!(kind(&with(4, 0xbabe_0000)), Kind::Unsupported, "version 0");
    assert_eq!(kind(&with(4, 0xbabe_0003)), Kind::Unsupported, "version 3");
    assert_eq!(kind(&with(108, 0)), Kind::Malformed, "a key of no bytes");
    assert_eq!(kind(&with(108, u32::MAX)), Kind::Malformed, "a key of 4 GiB");
    assert_eq!(kind(&with(104, u32::MAX)), Kind::Truncated, "content behind the end");
    for end in [0, 5, 8, 591] {
        assert_eq!(kind(&first()[..end]), Kind::Truncated, "cut at {end}");
    }
    assert_eq!(facts(&with(104, 0)).unwrap().disk_size, 0, "its content is elsewhere");
}

// A key slot says how much work it is to open it: 2^32 - 1 rounds keep a host busy for an hour.
#[test]
fn a_key_derivation_of_huge_cost_is_a_hazard() {
    assert_eq!(odd(&with(164, u32::MAX)).len(), 1, "the digest of the key");
    assert_eq!(odd(&with(212, u32::MAX)).len(), 1, "a slot's iterations");
    assert_eq!(odd(&with(252, u32::MAX)).len(), 2, "a slot's stripes, and where they end");
    assert_eq!(odd(&with(248, 0)).len(), 1, "a slot over the header");
    assert_eq!(odd(&with(248, u32::MAX)).len(), 1, "a slot behind the end");
    let kdf = |kdf: &str| {
        let slot = format!(r#""0":{{"type":"luks2","key_size":64,"kdf":{{{kdf}}}}}"#);
        odd(&second(&text(&slot, SEGMENT))).len()
    };
    assert_eq!(kdf(r#""type":"argon2id","time":4,"memory":1048576,"cpus":4"#), 0);
    assert_eq!(kdf(r#""type":"argon2id","time":4294967295,"memory":65536,"cpus":4"#), 1);
    assert_eq!(kdf(r#""type":"argon2id","time":4,"memory":18446744073709551615,"cpus":4"#), 1);
    assert_eq!(kdf(r#""type":"argon2id","time":4,"memory":65536,"cpus":4000000000"#), 1);
    assert_eq!(kdf(r#""type":"pbkdf2","hash":"sha256","iterations":9223372036854775807"#), 1);
}

#[test]
fn texts_of_a_second_header_that_cannot_be_are_malformed() {
    let slot = |n: u32| format!(r#""{n}":{{"type":"luks2","key_size":64}}"#);
    let many: Vec<_> = (0..33).map(slot).collect();
    let texts = [
        String::new(),
        "{}".into(),
        "[".repeat(10_000),
        r#"{"keyslots":"#.repeat(900),
        text(&many.join(","), SEGMENT),
        text("", &SEGMENT.replace("65536", "-1")),
        text("", &SEGMENT.replace("65536", "99999999999999999999")),
        text("", &SEGMENT.replace("dynamic", "huge")),
        text(&slot(0).replace("64", "-1"), SEGMENT),
        text(&slot(0).replace("64", "1e400"), SEGMENT),
        text(r#""0":{"type":"luks2","area":{"offset":"x","size":"1"}}"#, SEGMENT),
        text("", &format!(r#"{SEGMENT},"1":{{"type":"a","offset":"1","size":"1"}}"#)).repeat(2),
    ];
    for text in texts {
        assert_eq!(kind(&second(&text)), Kind::Malformed, "{}", &text[..text.len().min(200)]);
    }
    let all = r#"{"type":"crypt","offset":"65536","size":"18446744073709551615"}"#;
    let twice = text("", &format!(r#""0":{all},"1":{all}"#));
    assert_eq!(kind(&second(&twice)), Kind::Malformed, "segments of 2^65 bytes");
    let behind = text("", &SEGMENT.replace("65536", "18446744073709551615"));
    assert_eq!(kind(&second(&behind)), Kind::Truncated);
}

#[test]
fn lengths_and_sums_of_a_second_header_that_cannot_be_are_refused() {
    let sound = second(&text("", SEGMENT));
    let set = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    for len in [0_u64, 4096, 20_000, 8 << 20, 1 << 63, u64::MAX] {
        assert_eq!(kind(&set(8, &len.to_be_bytes())), Kind::Malformed, "{len}");
    }
    assert_eq!(kind(&set(8, &(64_u64 << 10).to_be_bytes())), Kind::Malformed, "longer than it is");
    assert_eq!(odd(&set(4100, b"?")).len(), 1, "a damaged first copy");
    assert_eq!(odd(&set((16 << 10) + 4100, b"?")).len(), 1, "a damaged second copy");
    let mut both = set(4100, b"?");
    both[(16 << 10) + 4100] = b'?';
    assert_eq!(kind(&both), Kind::Malformed, "both");
    let mut other = set(72, b"md5\0\0\0");
    other[(16 << 10) + 72..][..6].copy_from_slice(b"md5\0\0\0");
    assert_eq!(kind(&other), Kind::Unsupported, "a sum that is not known");
}
