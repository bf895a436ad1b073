//! VHDX images that attack, or are damaged: each is refused with the right kind of error, and none
//! panics, spins, takes memory, or becomes wrong bytes in silence.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;
mod vhdx;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use disks::{Dice, open, read_all};
use formats::{
    Access, Beneath, Caching, FORMATS, ImageFile, Ingest, Kind, Limits, Memory, OpenOptions, Place,
    Result, Source, Survey,
};
use vhdx::{Change, Entry, GUID, HEADERS, KIB, LOG, MIB, TABLES, Vhdx, guid, vhdx};

fn inspect_kind(image: &Vhdx) -> Kind {
    image.inspect().expect_err("it is damaged").kind()
}

fn read_kind(image: &Vhdx) -> Kind {
    image.read().expect_err("it is damaged").kind()
}

/// A sound image, changed.
fn with(change: impl FnOnce(&mut Vhdx)) -> Vhdx {
    let mut image = Vhdx::small();
    change(&mut image);
    image
}

// ---- headers and regions

#[test]
fn of_two_headers_the_sound_one_with_the_higher_number_counts() {
    let disk = Vhdx::small_disk();
    for broken in HEADERS {
        assert!(with(|v| v.0[broken + 100] ^= 1).read().unwrap() == disk);
    }
    let neither = with(|v| HEADERS.map(|at| v.0[at + 100] ^= 1).into_iter().collect());
    assert_eq!(inspect_kind(&neither), Kind::Malformed);
    let identity = |image: &Vhdx| image.inspect().unwrap().identity.unwrap();
    let older = with(|v| {
        v.set64(HEADERS[0] + 8, 9).set64(HEADERS[1] + 8, 8).put(HEADERS[0] + 32, &GUID).seal();
    });
    assert!(identity(&older).starts_with("5a5a5a5a-"));
    // As Disk2vhd writes them.
    let equal = with(|v| {
        v.headers(8, &[1; 8]);
    });
    assert!(equal.read().unwrap() == disk);
    let differing = with(|v| {
        v.headers(8, &[1; 8]).put(HEADERS[0] + 32, &GUID).seal();
    });
    assert_eq!(inspect_kind(&differing), Kind::Malformed);
    assert_eq!(
        inspect_kind(&with(|v| {
            v.headers(66, &[2]);
        })),
        Kind::Unsupported
    );
}

#[test]
fn tables_of_regions_that_cannot_be_are_refused() {
    use Kind::{Malformed, Unsupported};
    let disk = Vhdx::small_disk();
    for broken in TABLES {
        // qemu never looks at the second one.
        assert!(with(|v| v.0[broken + 5000] ^= 1).read().unwrap() == disk);
    }
    let neither = with(|v| TABLES.map(|at| v.0[at + 5000] ^= 1).into_iter().collect());
    assert_eq!(inspect_kind(&neither), Kind::Malformed);
    let unknown = |required: u8| {
        let mut row = GUID.to_vec();
        row.extend((64_u64 << 20).to_le_bytes());
        row.extend((1_u32 << 20).to_le_bytes());
        row.extend([required, 0, 0, 0]);
        row
    };
    let le64 = |number: u64| number.to_le_bytes().to_vec();
    let le32 = |number: u32| number.to_le_bytes().to_vec();
    let bat = Vhdx::small().region(0) as u64;
    let cases: &[(&str, usize, Vec<u8>, Kind)] = &[
        ("2048 regions", 8, le32(2048), Malformed),
        ("2^32 - 1 regions", 8, le32(u32::MAX), Malformed),
        ("no regions", 8, le32(0), Malformed),
        ("one region", 8, le32(1), Malformed),
        ("a BAT at 0", 32, le64(0), Malformed),
        ("a BAT inside a MiB", 32, le64(bat + 4096), Malformed),
        ("a BAT over the metadata", 32, le64(bat - (1 << 20)), Malformed),
        ("a BAT at the end of all offsets", 32, le64(u64::MAX << 20), Malformed),
        ("a BAT of 0 bytes", 40, le32(0), Malformed),
        ("a BAT of 4 KiB", 40, le32(4096), Malformed),
        ("metadata past the end", 64, le64(1 << 40), Kind::Truncated),
        ("two BATs", 48, guid(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08).to_vec(), Malformed),
        ("a third region that is unknown and required", 8, le32(3), Unsupported),
    ];
    for (what, at, bytes, kind) in cases {
        let image = with(|v| {
            v.tables(80, &unknown(1)).tables(*at, bytes);
        });
        assert_eq!(inspect_kind(&image), *kind, "{what}");
    }
    let optional = with(|v| {
        v.tables(80, &unknown(0)).tables(8, &[3]);
    });
    assert!(optional.read().unwrap() == disk);
    let past = with(|v| {
        v.tables(32, &(1_u64 << 40).to_le_bytes());
    });
    assert_eq!(read_kind(&past), Kind::Truncated, "a BAT past the end");
}

#[test]
fn a_bat_that_claims_four_gibibytes_takes_no_memory() {
    let image = with(|v| {
        v.tables(40, &0xfff0_0000_u32.to_le_bytes());
    });
    let begun = Instant::now();
    assert!(image.read().unwrap() == Vhdx::small_disk());
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let (_, found) = image.check().unwrap();
    assert!(found.iter().any(|finding| finding.what.contains("the BAT ends")), "{found:?}");
    // And a disk that needs more than there is.
    let large = with(|v| {
        let (_, size) = v.item(1);
        v.set64(size, 64 << 40);
    });
    assert_eq!(inspect_kind(&large), Kind::Malformed);
}

// ---- metadata

#[test]
fn metadata_that_cannot_be_are_refused() {
    use Kind::{Malformed, Unsupported};
    let sound = Vhdx::small();
    let (file, size, sector) = (sound.item(0).1, sound.item(1).1, sound.item(3).1);
    let row = |index: usize| sound.item(index).0;
    let region = sound.region(1);
    let words: &[(&str, usize, u32, Kind)] = &[
        ("no mark", region, 0, Malformed),
        ("65535 items", region + 10, 0xffff, Malformed),
        ("2048 items", region + 10, 2048, Malformed),
        ("no items", region + 10, 0, Malformed),
        ("blocks of 0 bytes", file, 0, Malformed),
        ("blocks of 512 KiB", file, 512 << 10, Malformed),
        ("blocks of 512 MiB", file, 512 << 20, Malformed),
        ("blocks of 3 MiB", file, 3 << 20, Malformed),
        ("blocks of 2^32 - 1 bytes", file, u32::MAX, Malformed),
        ("a parent and no locator", file + 4, 2, Malformed),
        ("sectors of 0 bytes", sector, 0, Malformed),
        ("sectors of 520 bytes", sector, 520, Malformed),
        ("sectors of 2^31 bytes", sector, 1 << 31, Malformed),
        ("a disk of half a sector", size, 256, Malformed),
        ("a disk of 2^40 TiB", size + 4, u32::MAX, Malformed),
        ("a disk of 64 TiB and a MiB", size + 4, 64 << 8 | 1, Malformed),
        ("an unknown item that is required", row(4), 7, Unsupported),
        ("a known one that is the user's, and required", row(4) + 24, 5, Unsupported),
        ("an item in the table", row(1) + 16, 64, Malformed),
        ("an item behind the region", row(1) + 16, 1 << 20, Malformed),
        ("an item at the last offset", row(1) + 16, u32::MAX, Malformed),
        ("an item of 4 GiB", row(1) + 20, u32::MAX, Malformed),
        ("a size of four bytes", row(1) + 20, 4, Malformed),
        ("a size of no bytes", row(1) + 20, 0, Malformed),
        ("the size over the block size", row(1) + 16, 64 << 10, Malformed),
    ];
    for (what, at, value, kind) in words {
        assert_eq!(
            inspect_kind(&with(|v| {
                v.set32(*at, *value);
            })),
            *kind,
            "{what}"
        );
    }
    let twice = with(|v| {
        let bytes = v.0[row(1)..row(1) + 32].to_vec();
        v.put(row(2), &bytes);
    });
    assert_eq!(inspect_kind(&twice), Malformed, "the size twice");
    for index in [0, 1, 3] {
        let without = with(|v| {
            v.put(row(index), &GUID).set32(row(index) + 24, 0);
        });
        assert_eq!(inspect_kind(&without), Malformed, "without item {index}");
    }
    let unknown = with(|v| {
        v.put(row(4), &GUID).set32(row(4) + 24, 0);
    });
    assert!(unknown.read().unwrap() == Vhdx::small_disk(), "an unknown item that is optional");
}

// ---- the BAT

#[test]
fn entries_of_the_bat_that_cannot_be_are_refused() {
    use Kind::{Malformed, Truncated};
    let cases: &[(&str, u64, Kind)] = &[
        ("a block past the end", 1 << 40 | 6, Truncated),
        ("a block at the end of all offsets", u64::MAX << 20 | 6, Malformed),
        ("a block over the headers", 6, Malformed),
        ("the state 4", 5 << 20 | 4, Malformed),
        ("a block in part, without a parent", 5 << 20 | 7, Malformed),
    ];
    for (what, entry, kind) in cases {
        let image = with(|v| {
            v.set64(v.bat(0), *entry);
        });
        assert_eq!(read_kind(&image), *kind, "{what}");
        let (tally, found) = image.check().unwrap();
        assert!(tally.corruptions > 0 && !found.is_empty(), "{what}");
    }
    for state in [0, 1, 2, 3, 5] {
        let image = with(|v| {
            v.set64(v.bat(0), state);
        });
        assert!(image.read().unwrap()[..MIB].iter().all(|byte| *byte == 0), "state {state}");
    }
}

#[test]
fn blocks_that_share_a_place_are_findings() {
    let twice = with(|v| {
        let entry = v.get64(v.bat(0));
        v.set64(v.bat(1), entry);
    });
    for (what, image) in [
        ("two blocks", twice),
        (
            "over the log",
            with(|v| {
                v.set64(v.bat(1), (LOG | 6) as u64);
            }),
        ),
        (
            "over the metadata",
            with(|v| {
                v.set64(v.bat(1), v.region(1) as u64 | 6);
            }),
        ),
        (
            "over the BAT",
            with(|v| {
                v.set64(v.bat(1), v.region(0) as u64 | 6);
            }),
        ),
    ] {
        let (_, found) = image.check().unwrap();
        assert!(found.iter().any(|one| one.what.contains("over something else")), "{what}");
        let limits = Limits::default();
        let mut strict = OpenOptions::new(FORMATS, &limits);
        strict.strict = true;
        let opened = formats::open(image.source(), vhdx(), &strict);
        assert_eq!(opened.err().unwrap().kind(), Kind::Refused, "{what}");
    }
}

#[test]
fn a_few_mebibytes_that_claim_to_be_tebibytes_are_refused_at_once() {
    let bomb = with(|v| {
        let (size, entry) = (v.item(1).1, v.get64(v.bat(0)));
        v.set64(size, 100 << 30);
        for index in 0..110_000 {
            v.set64(v.bat(index), entry);
        }
    });
    let begun = Instant::now();
    let image = open(bomb.source(), vhdx()).unwrap();
    assert_eq!(Survey::of(&*image, &Limits::default()).unwrap_err().kind(), Kind::Limit);
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
}

#[test]
fn the_bat_of_the_largest_disk_is_walked_without_being_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.vhdx");
    let create = vhdx::create(64 << 40, &[("block_size", "1M")]);
    let output = formats::Output::create(&path, Caching::Unsafe).unwrap();
    let writer = (vhdx().create.unwrap())(output.target(), &create).unwrap();
    writer.finish().unwrap();
    drop(writer);
    output.commit().unwrap();
    let source = Arc::new(ImageFile::open(&path, Access::Read, Caching::Writeback).unwrap());
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    let disk = open(source, vhdx()).unwrap();
    let extents: Vec<_> = disk.walk(0, disk.disk_size()).map(Result::unwrap).collect();
    assert!(matches!(extents[..], [one] if one.len == 64 << 40 && one.place == Place::Hole));
    // The other trials of this file take their share meanwhile.
    assert!(resident().saturating_sub(before) < 300 << 20);
}

// ---- the log

/// A sector of the disk of a sound image, and where it lies in the file.
fn sector(image: &Vhdx) -> (u64, Vec<u8>) {
    let at = image.get64(image.bat(0)) as usize / MIB * MIB + 8192;
    (at as u64, image.0[at..at + 4096].to_vec())
}

/// A sound image with this log.
fn with_log(entries: impl FnOnce(&Vhdx) -> Vec<Entry>) -> Vhdx {
    with(|v| {
        let entries = entries(v);
        v.log(&entries);
    })
}

// TRUTH row 14: qemu-img refuses to read an image whose log is pending, and libvhdi shows what was
// there before; we read what the file will hold after a replay, and write nothing.
#[test]
fn a_pending_log_is_replayed_in_memory_and_the_file_stays_as_it_is() {
    let image = with_log(|v| {
        let (at, _) = sector(v);
        let changes = vec![Change::Data(at, vec![0x11; 4096]), Change::Zero(at + 4096, 8192)];
        vec![Entry::alone(changes, v.0.len())]
    });
    let source = image.source();
    let disk = read_all(&*open(source.clone(), vhdx()).unwrap()).unwrap();
    let mut expected = Vhdx::small_disk();
    expected[8192..12_288].fill(0x11);
    expected[12_288..20_480].fill(0);
    assert!(disk == expected);
    assert!(source.to_vec() == image.0, "nothing was written");
    let facts = image.inspect().unwrap();
    assert!(facts.dirty && facts.disk_size == disk.len() as u64);
}

#[test]
fn a_log_may_change_metadata_bat_and_regions() {
    let image = with_log(|v| {
        let sector = |at: usize| v.0[at / 4096 * 4096..][..4096].to_vec();
        let mut bat = sector(v.bat(0));
        // The first two blocks change places.
        let (one, two) = (bat[..8].to_vec(), bat[16..24].to_vec());
        bat[..8].copy_from_slice(&two);
        bat[16..24].copy_from_slice(&one);
        let (_, size) = v.item(1);
        let mut items = sector(size);
        items[size % 4096..][..8].copy_from_slice(&(2_u64 << 20).to_le_bytes());
        let changes = vec![
            Change::Data(v.bat(0) as u64 / 4096 * 4096, bat),
            Change::Data((size / 4096 * 4096) as u64, items),
        ];
        vec![Entry::alone(changes, v.0.len())]
    });
    assert_eq!(image.inspect().unwrap().disk_size, 2 << 20);
    let disk = image.read().unwrap();
    assert!(disk[..MIB - 512].iter().all(|byte| *byte == 0x99) && disk.len() == 2 * MIB);
    // A table of regions that is sound only after a replay.
    let image = with(|v| {
        let table = v.0[TABLES[0]..TABLES[0] + 4096].to_vec();
        for at in TABLES {
            v.0[at..at + 64].fill(0);
        }
        let mut entry = Entry::alone(vec![Change::Data(TABLES[0] as u64, table)], v.0.len());
        entry.sequence = 70;
        let bytes = entry.bytes();
        v.put(LOG, &bytes);
        for at in HEADERS {
            v.put(at + 48, &GUID);
            vhdx::seal(&mut v.0[at..at + 4096]);
        }
    });
    assert!(image.read().unwrap() == Vhdx::small_disk());
}

#[test]
fn entries_of_a_log_follow_each_other_round_the_ring() {
    for first in [0, 5, 250, 251, 252, 253, 254, 255] {
        let image = with_log(|v| {
            let (at, _) = sector(v);
            let entry = |number: u64, start: usize, changes| {
                let (at, tail) = ((first + start) % 256, first);
                let len = v.0.len() as u64;
                Entry { sequence: 40 + number, at, tail, changes, flushed: len, last: len }
            };
            vec![
                entry(0, 0, vec![Change::Data(at, vec![1; 4096]), Change::Zero(at + 4096, 65_536)]),
                entry(1, 2, vec![Change::Data(at + 8192, vec![2; 4096])]),
                entry(2, 4, vec![Change::Data(at, vec![3; 4096]), Change::Zero(at + 61_440, 4096)]),
            ]
        });
        let mut expected = Vhdx::small_disk();
        expected[8192..12_288].fill(3);
        expected[12_288..77_824].fill(0);
        expected[16_384..20_480].fill(2);
        assert!(image.read().unwrap() == expected, "from sector {first} on");
    }
}

#[test]
fn of_several_sequences_the_one_with_the_highest_number_is_active() {
    let image = with_log(|v| {
        let (at, len) = (sector(v).0, v.0.len() as u64);
        let entry = |sequence, start, tail, byte| {
            let changes = vec![Change::Data(at, vec![byte; 4096])];
            Entry { sequence, at: start, tail, changes, flushed: len, last: len }
        };
        // 7 and 8 are old, 21 and 22 count; 30 says that it begins at an entry that is not there.
        vec![
            entry(7, 10, 10, 1),
            entry(8, 12, 10, 2),
            entry(21, 20, 20, 3),
            entry(22, 22, 20, 4),
            entry(30, 40, 41, 5),
        ]
    });
    assert!(image.read().unwrap()[8192..12_288].iter().all(|byte| *byte == 4));
    // The last one is torn: the one before it is the last.
    let mut torn = image.clone();
    torn.0[LOG + 23 * 4096 + 100] ^= 1;
    assert!(torn.read().unwrap()[8192..12_288].iter().all(|byte| *byte == 3));
    // Of another session: it is not there.
    let mut other = image;
    other.headers(48, &[0x33; 16]);
    assert_eq!(inspect_kind(&other), Kind::Malformed);
}

#[test]
fn a_log_is_no_way_to_write_where_one_may_not() {
    use Kind::{Limit, Malformed, Truncated};
    let data = vec![0xee; 4096];
    let cases: Vec<(&str, Change, Kind)> = vec![
        ("the identifier", Change::Data(0, data.clone()), Malformed),
        ("a header", Change::Data(HEADERS[0] as u64, data.clone()), Malformed),
        ("the other header", Change::Zero(HEADERS[1] as u64, 4096), Malformed),
        ("the log", Change::Data(LOG as u64 + 8192, data.clone()), Malformed),
        ("from the tables into the log", Change::Zero(TABLES[0] as u64, 1 << 20), Malformed),
        ("half a sector", Change::Data(TABLES[0] as u64 + 512, data.clone()), Malformed),
        ("zeros of half a sector", Change::Zero(8 << 20, 512), Malformed),
        ("zeros of 2^63 bytes", Change::Zero(8 << 20, 1 << 63), Malformed),
        ("zeros past 2^64", Change::Zero(u64::MAX - 4095, 8192), Malformed),
        ("past the end", Change::Data(1 << 40, data.clone()), Malformed),
        ("at the last offset", Change::Data(u64::MAX - 4095, data), Malformed),
    ];
    for (what, change, kind) in cases {
        let image = with_log(|v| vec![Entry::alone(vec![change], v.0.len())]);
        assert_eq!(read_kind(&image), kind, "{what}");
        let storage = image.source();
        let repaired = (vhdx().repair.unwrap())(
            storage.clone(),
            formats::Repair::All,
            &Limits::default(),
            &mut |_| {},
        );
        assert_eq!(repaired.unwrap_err().kind(), kind, "{what}, repaired");
        assert!(storage.to_vec() == image.0, "{what}: the file has changed");
    }
    let ends = |flushed: u64, last: u64| {
        let image = with_log(|v| {
            let changes = vec![Change::Zero(sector(v).0, 4096)];
            vec![Entry { flushed, last, ..Entry::alone(changes, v.0.len()) }]
        });
        image.read().err().map(|error| error.kind())
    };
    assert_eq!(ends(1 << 40, 1 << 40), Some(Truncated), "a file that was longer");
    assert_eq!(ends(1 << 20, 1 << 60), Some(Limit), "a file that grows to 2^60 bytes");
    assert_eq!(ends(1 << 20, 64 << 20), None, "a file that grows a little");
}

#[test]
fn a_log_that_makes_the_file_longer_gives_zeros_there() {
    let image = with_log(|v| {
        let end = v.0.len() as u64;
        let mut bat = v.0[v.bat(0)..v.bat(0) + 4096].to_vec();
        bat[8..16].copy_from_slice(&(end | 6).to_le_bytes());
        let changes =
            vec![Change::Data(v.bat(0) as u64, bat), Change::Data(end + 4096, vec![5; 4096])];
        vec![Entry { last: end + (1 << 20), ..Entry::alone(changes, v.0.len()) }]
    });
    let mut expected = Vhdx::small_disk();
    expected[MIB + 4096..MIB + 8192].fill(5);
    assert!(image.read().unwrap() == expected);
    let (tally, found, mended) = image.repair(formats::Repair::All);
    assert!(tally.is_clean() && tally.corruptions_fixed == 1, "{found:?}");
    assert!(mended.read().unwrap() == expected && mended.0.len() == image.0.len() + MIB);
}

#[test]
fn logs_that_are_none_are_refused() {
    use Kind::{Limit, Malformed, Unsupported};
    let log =
        |v: &Vhdx| vec![Entry::alone(vec![Change::Data(sector(v).0, vec![1; 4096])], v.0.len())];
    let empty = with(|v| {
        v.headers(48, &GUID);
    });
    assert_eq!(inspect_kind(&empty), Malformed, "nothing in it");
    let header = |at: usize, bytes: &[u8]| {
        let mut image = with_log(log);
        inspect_kind(image.headers(at, bytes))
    };
    assert_eq!(header(64, &[1]), Unsupported, "version 1");
    assert_eq!(header(68, &0_u32.to_le_bytes()), Malformed, "no bytes");
    assert_eq!(header(68, &4096_u32.to_le_bytes()), Malformed, "4 KiB");
    assert_eq!(header(68, &0xfff0_0000_u32.to_le_bytes()), Limit, "4 GiB");
    assert_eq!(header(68, &(64_u32 << 20).to_le_bytes()), Kind::Truncated, "past the end");
    assert_eq!(header(72, &0_u64.to_le_bytes()), Malformed, "over the headers");
    assert_eq!(header(72, &(u64::MAX << 20).to_le_bytes()), Malformed, "at the last offset");
    assert_eq!(header(68, &(2_u32 << 20).to_le_bytes()), Malformed, "over the metadata");
    // Sound checksums, and nonsense under them.
    let entry = |at: usize, bytes: &[u8]| {
        let mut image = with_log(log);
        image.put(LOG + at, bytes);
        vhdx::seal(&mut image.0[LOG..LOG + 8192]);
        inspect_kind(&image)
    };
    assert_eq!(entry(24, &u64::MAX.to_le_bytes()), Malformed, "2^32 - 1 descriptors");
    assert_eq!(entry(24, &0_u64.to_le_bytes()), Malformed, "data of no descriptor");
    assert_eq!(entry(24, &2_u64.to_le_bytes()), Malformed, "a descriptor that is none");
    assert_eq!(entry(12, &4096_u32.to_le_bytes()), Malformed, "a tail that is no entry");
    assert_eq!(entry(12, &u32::MAX.to_le_bytes()), Malformed, "a tail inside a sector");
    assert_eq!(entry(8, &4096_u32.to_le_bytes()), Malformed, "an entry cut short");
    assert_eq!(entry(8, &u32::MAX.to_le_bytes()), Malformed, "an entry of 4 GiB");
    assert_eq!(entry(16, &0_u64.to_le_bytes()), Malformed, "the number 0");
    assert_eq!(entry(64 + 24, &[9]), Malformed, "a descriptor with another number");
    assert_eq!(entry(4096, b"atad"), Malformed, "a sector of data that is none");
    assert_eq!(entry(8188, &[9]), Malformed, "a sector of data with another number");
}

#[test]
fn a_log_of_tangled_entries_ends() {
    let begun = Instant::now();
    // Every sector begins an entry as long as the ring.
    let image = with(|v| {
        for at in 0..256 {
            let entry = Entry { sequence: 1 + at as u64, at, ..Entry::alone(vec![], 1 << 20) };
            let mut bytes = entry.bytes();
            bytes[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
            v.put(LOG + at * 4096, &bytes);
        }
        v.headers(48, &GUID);
    });
    assert_eq!(inspect_kind(&image), Kind::Limit);
    // Every entry says that it follows the next one: a loop, and no sequence.
    let image = with_log(|_| {
        let entry = |at: usize| {
            let (sequence, tail) = (300 - at as u64, (at + 1) % 256);
            Entry { sequence, at, tail, ..Entry::alone(vec![], 1 << 20) }
        };
        (0..256).map(entry).collect()
    });
    assert_eq!(inspect_kind(&image), Kind::Malformed);
    // Nothing but changes.
    let few = Limits { max_entries: 100, ..Default::default() };
    let image = with_log(|v| {
        let changes = (0..101).map(|index| Change::Zero((8 << 20) + index * 4096, 4096));
        vec![Entry::alone(changes.collect(), v.0.len())]
    });
    let inspected = (vhdx().inspect)(&*image.source(), &few);
    assert_eq!(inspected.unwrap_err().kind(), Kind::Limit);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn a_stream_with_a_pending_log_is_inspected_as_it_passes() {
    let image = with_log(|v| {
        let (_, size) = v.item(1);
        let mut items = v.0[size / 4096 * 4096..][..4096].to_vec();
        items[size % 4096..][..8].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        vec![Entry::alone(vec![Change::Data((size / 4096 * 4096) as u64, items)], v.0.len())]
    });
    let expected = image.inspect().unwrap();
    assert!(expected.dirty && expected.disk_size == 1 << 20);
    // And with the metadata before the log.
    let swapped = with(|v| {
        let (metadata, len) = (v.region(1), v.0.len());
        let moved = v.0[metadata..metadata + MIB].to_vec();
        v.put(LOG, &moved).tables(64, &(LOG as u64).to_le_bytes());
        v.0.resize(len + MIB, 0);
        let entry = Entry::alone(vec![Change::Zero(3 << 20, 4096)], len).bytes();
        v.put(len, &entry).headers(72, &(len as u64).to_le_bytes()).headers(48, &GUID);
    });
    for (image, expected) in [(&image, expected), (&swapped, swapped.inspect().unwrap())] {
        for size in [1000, 65_536, 1 << 20, usize::MAX] {
            let mut ingest = Ingest::new(FORMATS, Limits::default());
            for chunk in image.0.chunks(size.min(image.0.len())) {
                ingest.push(chunk).unwrap();
            }
            assert_eq!(ingest.finish().unwrap(), expected, "in pieces of {size}");
        }
    }
}

// ---- parents

/// An image of this name over another one.
fn over(rows: &[(&str, &str)]) -> Vhdx {
    with(|v| {
        v.over(rows);
    })
}

/// What a child reads, with names followed below its folder, or not at all.
fn opened(path: &Path, follow: bool) -> Result<Vec<u8>> {
    let limits = Limits::default();
    let mut options = OpenOptions::new(FORMATS, &limits);
    let folder = path.parent().unwrap();
    if follow {
        options.resolver = Arc::new(Beneath::new(folder, folder, Access::Read)?);
    }
    let source = Arc::new(ImageFile::open(path, Access::Read, Caching::Writeback)?);
    read_all(&*formats::open(source, vhdx(), &options)?)
}

#[test]
fn a_parent_is_named_by_its_relative_path_first() {
    let name = |rows: &[(&str, &str)]| {
        let facts = over(rows).inspect().unwrap();
        assert_eq!(facts.variant, "differencing");
        (facts.references[0].name.clone(), facts.references[0].expects.clone())
    };
    let linkage = ("parent_linkage", "{5A5A5A5A-5A5A-5A5A-5A5A-5A5A5A5A5A5A}");
    let (named, expects) = name(&[
        linkage,
        ("parent_linkage2", "{00000000-0000-0000-0000-000000000000}"),
        ("absolute_win32_path", "C:\\disks\\base.vhdx"),
        ("relative_path", ".\\deep\\base.vhdx"),
    ]);
    assert_eq!(named, "deep/base.vhdx");
    assert_eq!(expects, ["5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a"]);
    assert_eq!(name(&[("relative_path", "..\\base.vhdx")]).0, "../base.vhdx");
    let absolute = ("absolute_win32_path", "C:\\base.vhdx");
    assert_eq!(name(&[absolute]).0, "C:/base.vhdx");
    let volume = ("volume_path", "\\\\?\\Volume{1}\\base.vhdx");
    assert_eq!(name(&[absolute, volume]).0, "//?/Volume{1}/base.vhdx");
    assert_eq!(name(&[linkage]).0, "");
}

#[test]
fn parents_outside_of_the_folder_are_not_followed() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("images");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["base.vhdx", "images/base.vhdx"] {
        std::fs::write(outer.path().join(name), Vhdx::small().0).unwrap();
    }
    let path = folder.join("child.vhdx");
    let names = [
        ("relative_path", "..\\base.vhdx"),
        ("absolute_win32_path", "C:\\base.vhdx"),
        ("absolute_win32_path", "\\\\server\\share\\base.vhdx"),
        ("volume_path", "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\base.vhdx"),
        ("absolute_win32_path", "/etc/passwd"),
        ("relative_path", "\\etc\\passwd"),
        ("relative_path", "file:///etc/passwd"),
        ("parent_linkage", "{5A5A5A5A-5A5A-5A5A-5A5A-5A5A5A5A5A5A}"),
    ];
    for (key, name) in names {
        std::fs::write(&path, over(&[(key, name)]).0).unwrap();
        assert_eq!(opened(&path, true).unwrap_err().kind(), Kind::Refused, "{name}");
        assert_eq!(opened(&path, false).unwrap_err().kind(), Kind::Refused, "{name}");
    }
    std::fs::write(&path, over(&[("relative_path", "base.vhdx")]).0).unwrap();
    assert_eq!(opened(&path, false).unwrap_err().kind(), Kind::Refused);
    assert!(opened(&path, true).unwrap() == Vhdx::small_disk());
    std::fs::write(&path, over(&[("relative_path", "child.vhdx")]).0).unwrap();
    assert_eq!(opened(&path, true).unwrap_err().kind(), Kind::Refused, "itself");
}

#[test]
fn a_parent_that_has_changed_since_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, base) = (folder.path().join("child.vhdx"), Vhdx::small());
    std::fs::write(folder.path().join("base.vhdx"), &base.0).unwrap();
    let identity = base.inspect().unwrap().identity.unwrap();
    let other = "{5A5A5A5A-5A5A-5A5A-5A5A-5A5A5A5A5A5A}";
    let right = format!("{{{}}}", identity.to_uppercase());
    for (one, two, fits) in [(&*right, other, true), (other, &*right, true), (other, other, false)]
    {
        let rows =
            [("parent_linkage", one), ("parent_linkage2", two), ("relative_path", "base.vhdx")];
        std::fs::write(&path, over(&rows).0).unwrap();
        let kind = opened(&path, true).err().map(|error| error.kind());
        assert_eq!(kind, if fits { None } else { Some(Kind::Refused) }, "{one} {two}");
    }
}

/// A child with a block that is here in part: every third sector of the second block.
fn partly(sector: usize) -> (Vhdx, Vec<u8>) {
    let mut disk = Vhdx::small_disk();
    disk.truncate(3 * MIB - 4096);
    let mut child = Vhdx::of(&disk, &[("logical_sector_size", &sector.to_string())]);
    child.over(&[("relative_path", "base.vhdx")]);
    let ratio = (1 << 23) * sector / MIB;
    let block = child.0.len();
    child.0.resize(block + MIB, 0xc4);
    let bitmap = child.0.len();
    child.0.resize(bitmap + MIB, 0);
    for index in (0..MIB / sector).step_by(3) {
        let (at, bytes) = (index * sector, index * sector..(index + 1) * sector);
        disk[MIB + at..MIB + at + sector].copy_from_slice(&child.0[block..][bytes]);
        child.0[bitmap + MIB / sector / 8 + index / 8] |= 1 << (index % 8);
    }
    child.set64(child.bat(1), (block | 7) as u64);
    child.set64(child.bat(ratio), (bitmap | 6) as u64);
    (child, disk)
}

#[test]
fn sectors_of_a_block_that_is_here_in_part_are_told_apart() {
    for sector in [512, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let mut base = Vhdx::small_disk();
        base.truncate(3 * MIB - 4096);
        base[MIB..2 * MIB].fill(0x1b);
        let options = [("logical_sector_size", sector.to_string())];
        let options = options.each_ref().map(|(key, value)| (*key, value.as_str()));
        std::fs::write(folder.path().join("base.vhdx"), Vhdx::of(&base, &options).0).unwrap();
        let (child, disk) = partly(sector);
        let mut expected = disk;
        for (index, part) in expected[MIB..2 * MIB].chunks_mut(sector).enumerate() {
            if index % 3 != 0 {
                part.fill(0x1b);
            }
        }
        let path = folder.path().join("child.vhdx");
        std::fs::write(&path, &child.0).unwrap();
        assert!(opened(&path, true).unwrap() == expected, "sectors of {sector}");
        let (tally, found) = child.check().unwrap();
        assert!(tally.is_clean() && tally.allocated_clusters == 3, "{found:?}");
    }
}

#[test]
fn bitmaps_that_are_not_there_are_found() {
    let (sound, _) = partly(512);
    for (what, entry, kind) in [
        ("no bitmap", 0, Kind::Malformed),
        ("a bitmap over the headers", 6, Kind::Malformed),
        ("a bitmap past the end", 1 << 40 | 6, Kind::Truncated),
        ("a bitmap at the last offset", u64::MAX << 20 | 6, Kind::Malformed),
    ] {
        let mut image = sound.clone();
        image.set64(image.bat(4096), entry);
        // Without what lies underneath: the map alone says so.
        let links = formats::Links::alone(image.source());
        let disk = (vhdx().open.unwrap())(links, &Limits::default()).unwrap();
        let error = disk.walk(0, disk.disk_size()).find_map(Result::err);
        assert_eq!(error.unwrap().kind(), kind, "{what}");
        assert!(image.check().unwrap().0.corruptions > 0, "{what}");
    }
}

#[test]
fn locators_that_cannot_be_are_refused() {
    let rows = [("relative_path", "base.vhdx"), ("parent_linkage", "{}")];
    let at = over(&rows).item(5).1;
    let cases: &[(&str, usize, &[u8], Kind)] = &[
        ("another type", at, &[0], Kind::Unsupported),
        ("65535 rows", at + 18, &[0xff, 0xff], Kind::Malformed),
        ("a key past the end", at + 20, &[0xff; 4], Kind::Malformed),
        ("a value past the end", at + 24, &[0xff; 4], Kind::Malformed),
        ("a long value", at + 30, &[0xff; 2], Kind::Malformed),
    ];
    for (what, at, bytes, kind) in cases {
        let mut image = over(&rows);
        assert_eq!(inspect_kind(image.put(*at, bytes)), *kind, "{what}");
    }
    let mut short = over(&rows);
    let (row, _) = short.item(5);
    assert_eq!(inspect_kind(short.set32(row + 20, 19)), Kind::Malformed, "cut short");
}

// ---- bytes

/// Looks at everything that a program would look at, but not for ever.
fn look_at(image: &Vhdx) {
    let source: Arc<Memory> = image.source();
    let limits = Limits::default();
    let _ = (vhdx().inspect)(&*source, &limits);
    let links = formats::Links::alone(source.clone());
    let _ = (vhdx().check.unwrap())(links, &limits, &mut |_| {});
    let Ok(disk) = open(source.clone(), vhdx()) else { return };
    assert!(!Source::is_empty(&*source));
    for extent in disk.walk(0, disk.disk_size()).take(100) {
        let Ok(extent) = extent else { break };
        let mut bytes = vec![0; extent.len.min(1 << 12) as usize];
        let _ = disk.read(extent.start, &mut bytes);
    }
}

#[test]
fn no_byte_of_headers_log_or_tables_can_be_changed_into_a_panic() {
    let logged = with_log(|v| {
        let (at, _) = sector(v);
        let changes = vec![Change::Data(at, vec![1; 4096]), Change::Zero(at + 8192, 4096)];
        vec![Entry::alone(changes, v.0.len())]
    });
    let child = over(&[("relative_path", "base.vhdx")]);
    let places = |v: &Vhdx| {
        let (items, table, bat) = (v.item(0).1, v.region(1), v.bat(0));
        let mut list: Vec<usize> = (HEADERS[1]..HEADERS[1] + 80).collect();
        list.extend(TABLES[0]..TABLES[0] + 80);
        list.extend((table..table + 224).chain(items..items + 40).chain(bat..bat + 24));
        list.extend((LOG..LOG + 128).chain(LOG + 4096..LOG + 4104));
        list.extend(table + 128 * KIB..table + 128 * KIB + 60);
        list
    };
    for sound in [logged, child] {
        for at in places(&sound) {
            for mask in [0xff, 0x80, 0x01] {
                let mut image = sound.clone();
                image.0[at] ^= mask;
                if at < MIB {
                    image.seal();
                } else if at < LOG + 12_288 && image.0[LOG] == b'l' {
                    vhdx::seal(&mut image.0[LOG..LOG + 8192]);
                }
                let tried = std::panic::catch_unwind(|| look_at(&image));
                assert!(tried.is_ok(), "byte {at:#x} changed by {mask:#x}");
            }
        }
    }
}

/// Where damage is most likely to matter: the start of a structure, and its length.
fn structures(image: &Vhdx) -> Vec<(usize, usize)> {
    let (metadata, bat) = (image.region(1), image.bat(0));
    vec![
        (HEADERS[0], 80),
        (HEADERS[1], 80),
        (TABLES[0], 80),
        (TABLES[1], 80),
        (metadata, 224),
        (metadata + 64 * KIB, 40),
        (metadata + 128 * KIB, 120),
        (bat, 24),
        (bat + 4096 * 8, 8),
        (LOG, 64),
        (LOG, 160),
        (LOG + 2 * 4096, 160),
        (LOG + 5 * 4096, 12),
    ]
}

/// Changes a few bytes, most of them to ones that mean something.
fn bend(image: &mut Vhdx, dice: &mut Dice) {
    let places = structures(image);
    for _ in 0..=dice.below(3) {
        let (start, len) = *dice.one_of(&places);
        let at = start + dice.below(len);
        let old = image.get64(at);
        let value = match dice.below(8) {
            0 => dice.next(),
            1 => 0,
            2 => u64::MAX,
            3 => old ^ 1 << dice.below(64),
            4 => ((dice.next() % 12) << 20) | (dice.next() % 8),
            5 => (dice.next() % 9) << 12,
            6 => old.wrapping_add(dice.next() % 3).wrapping_sub(1),
            _ => image.get64(start + dice.below(len)),
        };
        let bytes = value.to_le_bytes();
        image.put(at, &bytes[..*dice.one_of(&[1, 2, 4, 8])]);
    }
    // Behind right checksums, mostly: wrong ones are refused early.
    if dice.below(8) > 0 {
        image.seal();
        for at in (LOG..LOG + 64 * KIB).step_by(4096) {
            let len = image.get32(at + 8) as usize;
            if image.0[at..].starts_with(b"loge") && (4096..=256 * KIB).contains(&len) {
                vhdx::seal(&mut image.0[at..at + len]);
            }
        }
    }
}

/// What a repair leaves can be checked, and holds no more damage than it said.
fn mend(image: &Vhdx) {
    let limits = Limits::default();
    let (check, repair) = (vhdx().check.unwrap(), vhdx().repair.unwrap());
    let before = check(formats::Links::alone(image.source()), &limits, &mut |_| {});
    let storage = image.source();
    let mended = repair(storage.clone(), formats::Repair::All, &limits, &mut |_| {});
    let Ok(mended) = mended else { return };
    assert!(before.is_ok(), "it was repaired, and cannot be checked");
    let after = check(formats::Links::alone(storage.clone()), &limits, &mut |_| {}).unwrap();
    assert_eq!(after.corruptions, mended.corruptions);
    for size in [64 << 20, 1 << 20] {
        let resized = (vhdx().resize.unwrap())(storage.clone(), size, &limits);
        if after.corruptions == 0 && resized.is_ok() {
            let links = formats::Links::alone(storage.clone());
            let tally = check(links, &limits, &mut |_| {}).unwrap();
            assert!(tally.is_clean(), "{tally:?}");
        }
    }
}

/// A stream of these bytes ends as the whole file does, as far as the stream can know.
fn pass(image: &Vhdx) {
    let mut ingest = Ingest::new(&[vhdx()], Limits::default());
    let pushed = image.0.chunks(100_000).try_for_each(|chunk| ingest.push(chunk).map(drop));
    let streamed = pushed.and_then(|()| ingest.finish());
    match (image.inspect(), streamed) {
        (Ok(whole), Ok(streamed)) => assert_eq!(whole, streamed),
        // Things in another order than they are looked at pass by.
        (Ok(_), Err(error)) => assert_eq!(error.kind(), Kind::Unsupported, "{error:?}"),
        (Err(_), streamed) => assert!(streamed.is_err()),
    }
}

#[test]
fn random_damage_behind_right_checksums_is_an_error_or_a_finding() {
    let turns = std::env::var("TURNS").ok().and_then(|turns| turns.parse().ok()).unwrap_or(300);
    let logged = with_log(|v| {
        let (at, len) = (sector(v).0, v.0.len() as u64);
        let entry = |number: u64, start, changes| Entry {
            sequence: 7 + number,
            at: start,
            tail: 0,
            changes,
            flushed: len,
            last: len,
        };
        let zeros = Change::Zero(at + 8192, 16_384);
        vec![
            entry(0, 0, vec![Change::Data(at, vec![1; 4096]), zeros]),
            entry(
                1,
                2,
                vec![Change::Data(at + 4096, vec![2; 4096]), Change::Data(at, vec![3; 4096])],
            ),
        ]
    });
    let sound = [Vhdx::small(), logged, partly(512).0, over(&[("relative_path", "base.vhdx")])];
    for seed in 0..turns {
        let mut dice = Dice::new(seed);
        let mut image = dice.one_of(&sound).clone();
        bend(&mut image, &mut dice);
        let tried = std::panic::catch_unwind(|| {
            look_at(&image);
            mend(&image);
            pass(&image);
        });
        assert!(tried.is_ok(), "seed {seed}");
    }
}
