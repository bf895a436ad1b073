//! A stream is inspected as it goes by, with the same result as the whole file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::sync::Arc;

use disks::{Dice, disk, goods, image, lone_variants, raw};
use formats::{FORMATS, Facts, Ingest, Kind, Limits, Memory, Result, Verdict};

const SIZES: [usize; 8] = [7, 64, 511, 4096, 65_536, 100_000, 1 << 20, usize::MAX];

/// The facts of a stream that comes in pieces of a size.
fn facts(bytes: &[u8], size: usize) -> Result<Facts> {
    let mut ingest = Ingest::new(FORMATS, Limits::default());
    for chunk in bytes.chunks(size.min(bytes.len().max(1))) {
        ingest.push(chunk)?;
    }
    ingest.finish()
}

fn whole(bytes: &[u8]) -> Facts {
    let source = Memory::new(bytes);
    let format = formats::probe(FORMATS, &source).unwrap();
    (format.inspect)(&source, &Limits::default()).unwrap()
}

#[test]
fn a_stream_is_what_the_file_is_at_every_size_of_its_pieces() {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for format in disks::writable() {
        let source = raw(&disk(1, 300 << 10));
        for variant in lone_variants(format, 300 << 10).iter().step_by(4) {
            all.push((variant.name.clone(), image(format, &variant.create, &*source, 2)));
        }
    }
    all.extend(goods().into_iter().map(|good| (good.name, good.bytes)));
    for (name, bytes) in &all {
        let expected = whole(bytes);
        for size in SIZES {
            assert_eq!(facts(bytes, size).unwrap(), expected, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn a_stream_is_what_the_file_is_in_pieces_of_any_sizes() {
    let mut dice = Dice::new(4);
    for good in goods() {
        let expected = whole(&good.bytes);
        for _ in 0..20 {
            let mut ingest = Ingest::new(FORMATS, Limits::default());
            let mut rest = &good.bytes[..];
            while !rest.is_empty() {
                let most = *dice.one_of(&[3, 300, 30_000, 3_000_000]);
                let (chunk, left) = rest.split_at(1 + dice.below(most.min(rest.len())));
                ingest.push(chunk).unwrap();
                rest = left;
            }
            assert_eq!(ingest.finish().unwrap(), expected, "{}", good.name);
        }
    }
}

/// A qcow2 image whose snapshot table begins at `at`, with this many rows.
fn with_snapshots(at: u64, rows: u32) -> Vec<u8> {
    let qcow2 = formats::format("qcow2").unwrap();
    let variant = &lone_variants(qcow2, 1 << 20)[0];
    let mut bytes = image(qcow2, &variant.create, &*raw(&disk(5, 1 << 20)), 1);
    bytes.resize(at as usize, 0xee);
    bytes[60..64].copy_from_slice(&rows.to_be_bytes());
    bytes[64..72].copy_from_slice(&at.to_be_bytes());
    for row in 0..rows {
        let (id, name) = (row.to_string(), format!("state of day {row}"));
        let mut fixed = [0; 40];
        fixed[12..14].copy_from_slice(&(id.len() as u16).to_be_bytes());
        fixed[14..16].copy_from_slice(&(name.len() as u16).to_be_bytes());
        fixed[39] = 16;
        bytes.extend(fixed);
        bytes.extend([0; 8]);
        bytes.extend((1_u64 << 20).to_be_bytes());
        bytes.extend(id.bytes().chain(name.bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes.resize(bytes.len() + 300_000, 0);
    bytes
}

// Seen: "looks back" for a snapshot table that began in one piece of the stream and ended in the
// next. Why: rows that had come out of the tail were not kept, and the inspection, run again from
// its first line, asked for them a second time. Pieces larger than the head lost the table whole.
// Now what was read once is kept, and large pieces are taken in small ones.
#[test]
fn a_snapshot_table_late_in_the_file_is_read_as_it_passes() {
    for (at, rows) in [(2 << 20, 3), (3 << 20, 3000), ((4 << 20) + 65_536, 20_000)] {
        let bytes = with_snapshots(at, rows);
        let expected = whole(&bytes);
        assert_eq!(expected.snapshots.len(), rows as usize);
        for size in SIZES.into_iter().filter(|size| *size > 1000) {
            let got = facts(&bytes, size).map_err(|e| e.to_string());
            assert!(
                got.as_ref() == Ok(&expected),
                "{rows} rows at {at} by {size}: {:?}",
                got.err()
            );
        }
    }
}

// Seen: a table of 20 000 snapshots in pieces of seven bytes took minutes. Why: the inspection
// began anew for every row, and every verdict was a copy of all rows. Now a stream waits for more
// than the next row before it tries again, and a verdict is shared.
#[test]
fn a_long_table_in_tiny_pieces_takes_no_longer_than_it_has_to() {
    let bytes = with_snapshots(2 << 20, 20_000);
    let begun = std::time::Instant::now();
    assert_eq!(facts(&bytes, 7).unwrap().snapshots.len(), 20_000);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    let mut ingest = Ingest::new(FORMATS, Limits::default());
    let (mut chunk, mut dice, mut most) = (vec![0; 1 << 20], Dice::new(6), 0);
    dice.fill(&mut chunk);
    for _ in 0..600 {
        assert_eq!(ingest.push(&chunk).unwrap(), Verdict::Undecided);
        most = most.max(resident());
    }
    assert_eq!(ingest.finish().unwrap().disk_size, 600 << 20);
    // The other trials of this file take their share meanwhile.
    assert!(most - before < 200 << 20, "{} MiB", (most - before) >> 20);
}

#[test]
fn a_stream_that_is_not_what_was_named_fails_at_once() {
    for format in FORMATS.iter().filter(|format| format.name != "raw") {
        let mut ingest = Ingest::new(&[*format], Limits::default());
        // Some formats have their mark at the end: they may wait for it, the others may not.
        let early = ingest.push(&[0x55; 4096]);
        let error = match early {
            Err(error) => error,
            Ok(_) => ingest.finish().unwrap_err(),
        };
        assert_eq!(error.kind(), Kind::Malformed, "{}", format.name);
        if format.name == "qcow2" {
            let mut ingest = Ingest::new(&[*format], Limits::default());
            assert!(ingest.push(&[0x55; 8]).is_err(), "eight bytes are enough to know");
        }
    }
}

#[test]
fn a_stream_that_ends_in_the_middle_of_a_header_is_truncated() {
    let qcow2 = formats::format("qcow2").unwrap();
    let bytes = image(qcow2, &lone_variants(qcow2, 4096)[0].create, &*raw(&[1; 4096]), 1);
    for len in [5, 71, 100] {
        let mut ingest = Ingest::new(&[qcow2], Limits::default());
        ingest.push(&bytes[..len]).unwrap();
        assert_eq!(ingest.finish().unwrap_err().kind(), Kind::Truncated, "{len} bytes");
    }
}

#[test]
fn an_empty_stream_is_an_empty_raw_disk() {
    let facts = Ingest::new(FORMATS, Limits::default()).finish().unwrap();
    assert_eq!((facts.format, facts.disk_size), ("raw", 0));
}

#[test]
fn a_named_raw_stream_is_raw_whatever_its_first_sector_says() {
    // A guest may write what it likes into its own disk.
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let mut ingest = Ingest::new(&[formats::format("raw").unwrap()], Limits::default());
    ingest.push(&bytes).unwrap();
    assert_eq!(ingest.finish().unwrap().format, "raw");
}

#[test]
fn a_verdict_is_known_as_soon_as_the_header_has_passed() {
    let qcow2 = formats::format("qcow2").unwrap();
    let bytes = image(qcow2, &lone_variants(qcow2, 1 << 20)[0].create, &*raw(&disk(7, 1 << 20)), 1);
    let mut ingest = Ingest::new(FORMATS, Limits::default());
    let verdict = ingest.push(&bytes[..4096]).unwrap();
    assert_eq!(verdict, Verdict::Known(Arc::new(whole(&bytes))));
}

// Seen (fuzzing): a LUKS header whose first copy is damaged was refused in a stream, and read in a
// file. Why: the failure of the first copy was told before the second one had come.
#[test]
fn a_copy_that_comes_later_is_waited_for() {
    let good = goods().into_iter().find(|good| good.name == "luks-2").unwrap();
    let mut bytes = good.bytes;
    bytes[450] ^= 1;
    let expected = whole(&bytes);
    assert!(expected.hazards.iter().any(|hazard| hazard.what.contains("two headers")));
    for size in SIZES {
        assert_eq!(facts(&bytes, size).unwrap(), expected, "in pieces of {size}");
    }
}
