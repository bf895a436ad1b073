//! Checks and repairs of qcow2: against qemu-img where it is there, and on images of our own.
//!
//! Where the numbers are not held against qemu's, qemu is wrong or says less:
//!
//! * An image marked as corrupt is "no errors" to qemu-img, which then refuses to write to it.
//! * An L1 entry with the copied flag and offset 0 makes qemu-img read the header as an L2 table,
//!   and report what it takes for entries there: dozens of corruptions for one.
//! * A refcount block that is not aligned is one error per cluster of the file to qemu-img, and
//!   one per block here.
//! * A snapshot's L1 table that lies past the end makes qemu-img call the clusters of the snapshot
//!   leaked, and `-r leaks` frees them; here they stay.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a test stops at what it does not expect, says what it skips, and opens files"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use formats::{
    CopyOptions, Create, FORMATS, Faulty, Finding, Limits, Memory, OpenOptions, Options, Repair,
    Severity, Storage, Tally,
};

const COPIED: u64 = 1 << 63;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const SIZE: usize = 4 << 20;

// ---- an image, byte by byte

/// An image in memory, whose tables can be found and bent.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn get(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn set(&mut self, at: usize, word: u64) {
        self.0[at..at + 8].copy_from_slice(&word.to_be_bytes());
    }

    fn flip(&mut self, at: usize, bits: u64) {
        self.set(at, self.get(at) ^ bits);
    }

    fn cluster(&self) -> usize {
        1 << self.0[23]
    }

    fn l1(&self) -> usize {
        self.get(40) as usize
    }

    /// Where the first L1 entry that leads to a table stands.
    fn l1_entry(&self) -> usize {
        (self.l1()..self.0.len()).step_by(8).find(|at| self.get(*at) & OFFSET != 0).unwrap()
    }

    /// Where the first entry of a plain cluster stands.
    fn l2_entry(&self) -> usize {
        let table = (self.get(self.l1_entry()) & OFFSET) as usize;
        let plain = |at: &usize| self.get(*at) & OFFSET != 0 && self.get(*at) >> 62 & 1 == 0;
        (table..table + self.cluster()).step_by(8).find(plain).unwrap()
    }

    /// Bytes of an L2 entry.
    fn entry_size(&self) -> usize {
        if self.0[79] & 16 == 0 { 8 } else { 16 }
    }

    fn table(&self) -> usize {
        self.get(48) as usize
    }

    fn block(&self) -> usize {
        self.get(self.table()) as usize
    }

    /// The number of the cluster behind the first entry of a plain one.
    fn data_cluster(&self) -> usize {
        (self.get(self.l2_entry()) & OFFSET) as usize / self.cluster()
    }

    /// Sets the 16-bit refcount of a cluster that the first block counts.
    fn set_refcount(&mut self, cluster: usize, count: u16) {
        let at = self.block() + cluster * 2;
        self.0[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    fn check(&self) -> (Tally, Vec<Finding>) {
        let mut found = Vec::new();
        let check = formats::format("qcow2").unwrap().check.unwrap();
        let source = Arc::new(Memory::new(self.0.clone()));
        let tally = check(formats::Links::alone(source), &Limits::default(), &mut |finding| {
            found.push(finding);
        });
        (tally.unwrap(), found)
    }

    fn repair(&self, what: Repair) -> (Tally, Vec<Finding>, Bytes) {
        let mut found = Vec::new();
        let storage = Arc::new(Memory::new(self.0.clone()));
        let tally = repair(storage.clone(), what, &mut |finding| found.push(finding)).unwrap();
        (tally, found, Bytes(storage.to_vec()))
    }

    /// The disk, a piece at a time; `None` for what cannot be read.
    fn disk(&self) -> Option<Vec<Option<Vec<u8>>>> {
        let limits = Limits::default();
        let source = Arc::new(Memory::new(self.0.clone()));
        let options = OpenOptions::new(FORMATS, &limits);
        let disk = formats::open(source, formats::format("qcow2").unwrap(), &options).ok()?;
        let read = |start: u64| {
            let mut piece = vec![0; 4096.min(disk.disk_size() - start) as usize];
            disk.read(start, &mut piece).ok().map(|()| piece)
        };
        Some((0..disk.disk_size()).step_by(4096).map(read).collect())
    }
}

fn repair(
    storage: Arc<dyn Storage>,
    what: Repair,
    found: &mut dyn FnMut(Finding),
) -> formats::Result<Tally> {
    let repair = formats::format("qcow2").unwrap().repair.unwrap();
    repair(storage, what, &Limits::default(), found)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A disk: data that compress and data that do not, with holes between them.
fn content(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = vec![0; SIZE];
    for piece in bytes.chunks_mut(64 << 10) {
        let words = piece.chunks_mut(8);
        match random.below(3) {
            0 => {}
            1 => words.for_each(|word| word.copy_from_slice(&random.next().to_be_bytes())),
            _ => words.for_each(|word| word[0] = random.below(3) as u8),
        }
    }
    let mut words = bytes[..128 << 10].chunks_mut(8);
    words.by_ref().for_each(|word| word.copy_from_slice(&random.next().to_be_bytes()));
    bytes
}

/// An image by our own writer.
fn written(compress: bool, options: &[(&str, &str)]) -> Bytes {
    let limits = Limits::default();
    let raw = Arc::new(Memory::new(content(1)));
    let open = OpenOptions::new(FORMATS, &limits);
    let disk = formats::open(raw, formats::format("raw").unwrap(), &open).unwrap();
    let target = Arc::new(Memory::default());
    let pairs = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let options = Options::new(pairs);
    let create = Create { size: SIZE as u64, compress, options, ..Default::default() };
    let writer = formats::format("qcow2").unwrap().create.unwrap()(target.clone(), &create);
    formats::copy(&*disk, &*writer.unwrap(), &CopyOptions::default()).unwrap();
    Bytes(target.to_vec())
}

/// What could be read is read as before.
fn assert_keeps(before: &Bytes, after: &Bytes, story: &str) {
    let (Some(before), Some(after)) = (before.disk(), after.disk()) else { return };
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        if before.is_some() {
            assert!(before == after, "{story}: the disk at {} has changed", index * 4096);
        }
    }
}

// ---- damage

/// A way to damage an image with 16-bit refcounts and plain clusters.
struct Damage {
    story: &'static str,
    /// Does it.
    bend: fn(&mut Bytes),
    /// Our numbers are qemu's.
    same: bool,
    /// All of it can be mended.
    mendable: bool,
}

const fn damage(story: &'static str, bend: fn(&mut Bytes)) -> Damage {
    Damage { story, bend, same: true, mendable: true }
}

impl Damage {
    const fn ours(self) -> Damage {
        Damage { same: false, ..self }
    }

    const fn lasting(self) -> Damage {
        Damage { mendable: false, ..self }
    }
}

const DAMAGES: &[Damage] = &[
    damage("a leak", |b| b.set_refcount(b.data_cluster(), 2)),
    damage("a refcount of zero", |b| b.set_refcount(b.data_cluster(), 0)),
    damage("data past the end", |b| b.set(b.l2_entry(), COPIED | 1 << 40)).lasting(),
    damage("an L2 table past the end", |b| b.set(b.l1_entry(), COPIED | 1 << 40)).lasting(),
    damage("one cluster twice", |b| {
        let (at, size) = (b.l2_entry(), b.entry_size());
        b.0.copy_within(at..at + size, at + size);
    }),
    damage("no copied flag", |b| b.flip(b.l2_entry(), COPIED)),
    damage("no copied flag in L1", |b| b.flip(b.l1_entry(), COPIED)),
    damage("no refcount block", |b| b.set(b.table(), 0)),
    damage("a refcount block past the end", |b| b.set(b.table(), 1 << 40)),
    damage("a refcount block with reserved bits", |b| b.flip(b.table(), 4)),
    damage("a refcount block inside a cluster", |b| b.flip(b.table(), 512)).ours(),
    damage("one refcount block twice", |b| b.set(b.table() + 8, b.block() as u64)),
    damage("a refcount block over data", |b| {
        b.set(b.table() + 8, b.get(b.l2_entry()) & OFFSET);
    }),
    damage("no refcount table", |b| {
        let (at, len) = (b.table(), b.cluster());
        b.0[at..at + len].fill(0);
    }),
    damage("reserved bits in L2", |b| b.flip(b.l2_entry(), 1 << 57)).lasting(),
    damage("reserved bits in L1", |b| b.flip(b.l1_entry(), 1 << 57)).lasting(),
    damage("the header as an L2 table", |b| b.set(b.l1_entry(), COPIED)).ours().lasting(),
    damage("data inside another cluster", |b| b.flip(b.l2_entry(), 512)).lasting(),
    damage("a zero cluster inside another", |b| {
        let at = b.l2_entry();
        b.flip(at, 512);
        if b.entry_size() == 16 {
            b.set(at + 8, 0xffff_ffff_0000_0000);
        } else {
            b.flip(at, 1);
        }
    }),
    damage("data over the L1 table", |b| b.set(b.l2_entry(), COPIED | b.get(40))).lasting(),
    damage("marked as corrupt", |b| b.0[79] |= 2).ours(),
    damage("marked as dirty", |b| b.0[79] |= 1),
    damage("dirty, and a leak", |b| {
        b.0[79] |= 1;
        b.set_refcount(b.data_cluster(), 3);
    }),
];

/// Bends a few words of the metadata.
fn bend(bytes: &mut Bytes, random: &mut Random) {
    let l2 = (bytes.get(bytes.l1_entry()) & OFFSET) as usize;
    let places = [(bytes.l1(), 2), (l2, 40), (bytes.table(), 2), (bytes.block(), 40)];
    let cluster = bytes.cluster() as u64;
    for _ in 0..=random.below(4) {
        let (place, reach) = places[random.below(4) as usize];
        let at = place + random.below(reach) as usize * 8;
        let word = match random.below(7) {
            0 => bytes.get(at) ^ 1 << random.below(64),
            1 => 0,
            2 => random.next(),
            3 => COPIED | (random.below(bytes.0.len() as u64 / cluster + 4) * cluster),
            4 => bytes.get(at) ^ COPIED,
            5 => bytes.get(at + 8),
            _ => bytes.get(at) ^ random.next() & 0x0001_0001_0001_0001,
        };
        bytes.set(at, word);
    }
}

// ---- on images of our own

// Seen (by the fuzzer): with clusters of 512 bytes and refcounts of 64 bits, images of one length
// in 64 had a refcount block and the refcount table in one cluster. Why: the clusters of both were
// counted until they fit, with the number of blocks of the round before.
#[test]
fn what_we_write_is_clean_whatever_its_length() {
    let raw = formats::format("raw").unwrap();
    let limits = Limits::default();
    for (sectors, bits) in (1..200_usize).flat_map(|n| [(n, "64"), (n, "32"), (n, "1")]) {
        for compress in [false, true] {
            let disk: Vec<u8> =
                (0..sectors * 512).map(|at| (at / (1 + at / 512 % 9)) as u8).collect();
            let mut options = Options::default();
            options.set("cluster_size", "512");
            options.set("refcount_bits", bits);
            let create = Create { size: disk.len() as u64, compress, options, ..Create::default() };
            let source = Arc::new(Memory::new(disk));
            let disk = formats::open(source, raw, &OpenOptions::new(FORMATS, &limits)).unwrap();
            let target = Arc::new(Memory::default());
            let qcow2 = formats::format("qcow2").unwrap();
            let writer = (qcow2.create.unwrap())(target.clone(), &create).unwrap();
            formats::copy(&*disk, &*writer, &CopyOptions::default()).unwrap();
            let mut findings = Vec::new();
            let tally = (qcow2.check.unwrap())(formats::Links::alone(target), &limits, &mut |f| {
                findings.push(f);
            })
            .unwrap();
            assert!(tally.is_clean(), "{sectors} sectors, {bits} bits, {compress}: {findings:?}");
        }
    }
}

#[test]
fn what_our_writer_writes_is_clean() {
    let options: &[&[(&str, &str)]] = &[
        &[],
        &[("cluster_size", "512")],
        &[("cluster_size", "2M"), ("extended_l2", "on")],
        &[("cluster_size", "4k"), ("refcount_bits", "1")],
        &[("refcount_bits", "64")],
        &[("compat", "0.10")],
        &[("preallocation", "metadata")],
    ];
    for options in options {
        for compress in [false, true] {
            if compress && options.contains(&("preallocation", "metadata")) {
                continue;
            }
            let (tally, found) = written(compress, options).check();
            assert!(tally.is_clean() && found.is_empty(), "{options:?}: {found:?}");
            assert_eq!(tally.compressed_clusters > 0, compress, "{options:?}");
        }
    }
}

#[test]
fn every_damage_is_found_and_what_can_be_mended_is() {
    for Damage { story, bend, mendable, .. } in DAMAGES {
        for cluster in ["4k", "64k"] {
            let mut bad = written(false, &[("cluster_size", cluster)]);
            bend(&mut bad);
            let (tally, _) = bad.check();
            assert_eq!(tally.is_clean(), *story == "marked as dirty", "{story}");
            let (tally, found, mended) = bad.repair(Repair::All);
            let left: Vec<_> = found.iter().filter(|finding| !finding.fixed).collect();
            assert_eq!(tally.is_clean(), *mendable, "{story}: {left:?}");
            assert_eq!(left.is_empty(), *mendable, "{story}: {left:?}");
            assert_keeps(&bad, &mended, story);
            assert_eq!(mended.check().0.is_clean(), *mendable, "{story}");
            let marked = mended.0[79] & 3 != 0;
            assert!(!marked || !*mendable, "{story}");
        }
    }
}

#[test]
fn a_repair_of_leaks_touches_nothing_else() {
    let mut bytes = written(false, &[("cluster_size", "4k")]);
    let cluster = bytes.data_cluster();
    bytes.set_refcount(cluster, 5);
    bytes.set_refcount(cluster + 1, 0);
    let (tally, found, mended) = bytes.repair(Repair::Leaks);
    assert_eq!((tally.leaks_fixed, tally.leaks, tally.corruptions_fixed), (1, 0, 0));
    // The refcount of zero, and the copied flag that does not agree with it.
    assert_eq!(tally.corruptions, 2);
    assert_eq!(found.iter().filter(|finding| finding.fixed).count(), 1);
    assert_keeps(&bytes, &mended, "leaks");
}

#[test]
fn metadata_that_share_a_cluster_are_found_even_where_the_refcounts_agree() {
    let mut bytes = written(false, &[("cluster_size", "4k")]);
    let (entry, l1) = (bytes.l2_entry(), bytes.get(40));
    let (lost, l1_cluster) = (bytes.data_cluster(), l1 as usize / bytes.cluster());
    bytes.set(entry, l1);
    bytes.set_refcount(lost, 0);
    bytes.set_refcount(l1_cluster, 2);
    let (tally, found) = bytes.check();
    assert_eq!((tally.corruptions, tally.leaks), (1, 0), "{found:?}");
    assert!(found[0].what.contains("cannot share"), "{found:?}");
}

#[test]
fn nothing_is_freed_while_a_table_cannot_be_read() {
    let mut bytes = written(false, &[("cluster_size", "4k")]);
    // A snapshot whose L1 table lies past the end of the file.
    let table = bytes.0.len();
    bytes.0.resize(table + 4096, 0);
    bytes.set(table, 1 << 40);
    bytes.0[table + 8..table + 12].copy_from_slice(&1_u32.to_be_bytes());
    bytes.0[table + 39] = 16;
    bytes.0[60..64].copy_from_slice(&1_u32.to_be_bytes());
    bytes.set(64, table as u64);
    let cluster = bytes.data_cluster();
    bytes.set_refcount(cluster, 2);
    for what in [Repair::Leaks, Repair::All] {
        let (tally, _, mended) = bytes.repair(what);
        assert!(tally.corruptions > 0 && tally.leaks_fixed == 0);
        let at = bytes.block() + cluster * 2;
        assert_eq!(mended.0[at..at + 2], [0, 2]);
    }
}

#[test]
fn an_l1_table_that_leads_to_one_table_many_times_takes_no_time() {
    let mut bytes = written(false, &[("cluster_size", "64k")]);
    let (entry, end) = (bytes.get(bytes.l1_entry()), bytes.0.len());
    // 4 Mi entries: 2^35 steps if each were followed.
    bytes.0.resize(end + (32 << 20), 0);
    (0..4 << 20).for_each(|index| bytes.set(end + index * 8, entry));
    bytes.0[36..40].copy_from_slice(&(4_u32 << 20).to_be_bytes());
    bytes.set(40, end as u64);
    let start = std::time::Instant::now();
    let check = formats::format("qcow2").unwrap().check.unwrap();
    let mut found = 0;
    let source = Arc::new(Memory::new(bytes.0));
    let tally =
        check(formats::Links::alone(source), &Limits::default(), &mut |_| found += 1).unwrap();
    assert!(tally.corruptions > 0 && found > 0);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn a_crash_during_a_repair_loses_nothing_and_the_next_one_completes_it() {
    for Damage { story, bend, .. } in DAMAGES.iter().filter(|damage| damage.mendable) {
        let mut bad = written(false, &[("cluster_size", "64k")]);
        bend(&mut bad);
        for writes in 0.. {
            let storage = Arc::new(Faulty::new(Memory::new(bad.0.clone()), writes));
            let done = repair(storage.clone(), Repair::All, &mut |_| {}).is_ok();
            let torn = Bytes(storage.inner().to_vec());
            assert_keeps(&bad, &torn, story);
            let (tally, _, mended) = torn.repair(Repair::All);
            assert!(tally.is_clean(), "{story}, {writes} writes: {tally:?}");
            assert_keeps(&bad, &mended, story);
            if done {
                break;
            }
        }
    }
}

#[test]
fn random_damage_is_never_made_worse() {
    for (options, compress) in [
        (&[("cluster_size", "4k")][..], false),
        (&[("cluster_size", "64k")][..], true),
        (&[("cluster_size", "16k"), ("extended_l2", "on")][..], false),
    ] {
        let good = written(compress, options);
        for seed in 0..60 {
            let mut bad = good.clone();
            bend(&mut bad, &mut Random(seed));
            let story = format!("{options:?} {compress} seed {seed}");
            let (before, _) = bad.check();
            for what in [Repair::Leaks, Repair::All] {
                let (tally, _, mended) = bad.repair(what);
                let (after, found) = mended.check();
                assert_eq!(tally.corruptions, after.corruptions, "{story}");
                assert!(after.corruptions <= before.corruptions, "{story} {what:?} {found:?}");
                assert!(after.check_errors <= before.check_errors, "{story} {what:?}");
                assert!(after.leaks <= before.leaks, "{story} {what:?} {found:?}");
                assert_keeps(&bad, &mended, &story);
            }
        }
    }
}

#[test]
fn a_header_that_lies_is_an_error_and_never_a_panic() {
    let good = written(false, &[("cluster_size", "64k")]);
    let check = formats::format("qcow2").unwrap().check.unwrap();
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut bad = good.0.clone();
        for _ in 0..=random.below(3) {
            let at = 4 + random.below(128) as usize;
            bad[at] = if random.below(2) == 0 { random.below(256) as u8 } else { bad[at] ^ 1 };
        }
        let source = Arc::new(Memory::new(bad));
        let _ = check(formats::Links::alone(source.clone()), &Limits::default(), &mut |_| {});
        let _ = repair(source, Repair::All, &mut |_| {});
    }
}

#[test]
fn a_refcount_table_that_is_not_there_or_ends_past_the_end_is_replaced() {
    let mut bytes = written(false, &[("cluster_size", "64k")]);
    bytes.0[59] = 0x22;
    let (tally, _, mended) = bytes.repair(Repair::All);
    assert!(tally.is_clean() && mended.check().0.is_clean(), "{tally:?}");
    assert_keeps(&bytes, &mended, "a long refcount table");
    // Seen: one of no clusters, at 0, made the check panic.
    bytes.0[48..60].fill(0);
    assert!(bytes.check().0.corruptions > 0);
    let (tally, _, mended) = bytes.repair(Repair::All);
    assert!(tally.is_clean() && mended.check().0.is_clean(), "{tally:?}");
    assert_keeps(&bytes, &mended, "no refcount table");
}

#[test]
fn a_finding_says_how_bad_it_is_and_where() {
    let mut bytes = written(false, &[("cluster_size", "4k")]);
    let cluster = bytes.data_cluster();
    bytes.set_refcount(cluster, 2);
    let (_, found) = bytes.check();
    let leak = found.iter().find(|finding| finding.severity == Severity::Leak).unwrap();
    assert_eq!(leak.at, (cluster * 4096) as u64);
    assert_eq!(leak.what, format!("cluster {cluster} has refcount 2 and 1 users"));
}

// ---- against qemu-img

fn qemu_is_there() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no qemu-img");
    }
    found
}

fn qemu(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("qemu-img").current_dir(folder).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn must(folder: &Path, line: &str) {
    let args: Vec<_> = line.split_whitespace().collect();
    let (code, text) = qemu(folder, &args);
    assert_eq!(code, Some(0), "qemu-img {line}: {text}");
}

/// What qemu-img counts, where it gets so far: all but what is fixed.
fn qemu_tally(folder: &Path, name: &str) -> Option<Tally> {
    let (code, text) = qemu(folder, &["check", "-f", "qcow2", "--output=json", name]);
    let number = |key: &str| {
        let (_, rest) = text.split_once(&format!("\"{key}\": "))?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    code.filter(|code| matches!(code, 0 | 2 | 3))?;
    Some(Tally {
        corruptions: number("corruptions").unwrap_or(0),
        leaks: number("leaks").unwrap_or(0),
        check_errors: number("check-errors")?,
        total_clusters: number("total-clusters").unwrap_or(0),
        allocated_clusters: number("allocated-clusters").unwrap_or(0),
        fragmented_clusters: number("fragmented-clusters").unwrap_or(0),
        compressed_clusters: number("compressed-clusters").unwrap_or(0),
        image_end_offset: number("image-end-offset").unwrap_or(0),
        ..Tally::default()
    })
}

/// qemu reads the same before and after.
fn must_compare(folder: &Path, story: &str) {
    let args = ["compare", "-f", "qcow2", "-F", "qcow2", "bad", "mended"];
    let (code, text) = qemu(folder, &args);
    assert_eq!(code, Some(0), "{story}: {text}");
}

/// Makes `image` in the folder: with these options, and what else qemu-img is to do with it.
fn make(folder: &Path, options: &str, also: &[&str]) -> Bytes {
    std::fs::write(folder.join("raw"), content(1)).unwrap();
    std::fs::write(folder.join("other"), content(2)).unwrap();
    must(folder, &format!("convert -f raw -O qcow2 {options} raw image"));
    for line in also {
        must(folder, line);
    }
    Bytes(std::fs::read(folder.join("image")).unwrap())
}

/// Bends it, and has both look.
fn both(folder: &Path, bad: &Bytes) -> (Tally, Vec<Finding>, Option<Tally>) {
    std::fs::write(folder.join("bad"), &bad.0).unwrap();
    let (ours, found) = bad.check();
    (ours, found, qemu_tally(folder, "bad"))
}

const OVERWRITE: &str = "convert -n -f raw -O qcow2 other image";

/// Images that qemu-img makes.
const MADE: &[(&str, &[&str])] = &[
    ("-o cluster_size=512", &[]),
    ("-o cluster_size=4k,refcount_bits=1", &[]),
    ("-o cluster_size=4k,refcount_bits=2", &["snapshot -c one image", OVERWRITE]),
    ("-o cluster_size=64k,refcount_bits=4", &["snapshot -c one image"]),
    ("-o refcount_bits=8", &["snapshot -c a image", OVERWRITE, "snapshot -c b image"]),
    ("-o refcount_bits=32", &[]),
    ("-o refcount_bits=64,cluster_size=1M", &["snapshot -c a image", OVERWRITE]),
    ("-o cluster_size=2M", &[]),
    ("-o compat=0.10", &["snapshot -c a image", OVERWRITE, "snapshot -c b image"]),
    ("-o extended_l2=on,cluster_size=16k", &["snapshot -c a image", OVERWRITE]),
    ("-o extended_l2=on,cluster_size=2M", &[]),
    ("-c", &[]),
    ("-c -o cluster_size=4k", &["snapshot -c a image", OVERWRITE]),
    ("-c -o compression_type=zstd,cluster_size=512", &[]),
    ("-c -o extended_l2=on", &["snapshot -c a image"]),
    ("-o preallocation=metadata", &[]),
    ("-o preallocation=falloc,cluster_size=4k", &[]),
    ("-o lazy_refcounts=on", &["resize image 9M"]),
    ("", &["bitmap --add image one", "bitmap --add -g 512 image two", OVERWRITE]),
    ("-o cluster_size=512", &["bitmap --add -g 512 image one", OVERWRITE]),
    ("-o data_file=data", &[]),
    ("-o data_file=data2,data_file_raw=on,cluster_size=4k", &[]),
];

#[test]
fn clean_images_of_qemu_are_clean_with_the_same_numbers() {
    if !qemu_is_there() {
        return;
    }
    for (options, also) in MADE {
        let folder = tempfile::tempdir().unwrap();
        let bytes = make(folder.path(), options, also);
        let (ours, found) = bytes.check();
        assert_eq!(Some(ours), qemu_tally(folder.path(), "image"), "{options} {also:?} {found:?}");
        assert!(ours.is_clean(), "{options}");
    }
}

#[test]
fn damage_is_counted_as_qemu_counts_it_and_mended_so_that_qemu_is_content() {
    if !qemu_is_there() {
        return;
    }
    for options in ["-o cluster_size=4k", "", "-o extended_l2=on,cluster_size=16k"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let good = make(folder, options, &[]);
        for Damage { story, bend, same, mendable } in DAMAGES {
            let mut bad = good.clone();
            bend(&mut bad);
            let (ours, found, theirs) = both(folder, &bad);
            if *same {
                assert_eq!(Some(ours), theirs, "{options}, {story}: {found:?}");
            }
            if !*mendable {
                continue;
            }
            let (_, _, mended) = bad.repair(Repair::All);
            std::fs::write(folder.join("mended"), &mended.0).unwrap();
            let theirs = qemu_tally(folder, "mended").unwrap();
            assert!(theirs.is_clean(), "{options}, {story}: {theirs:?}");
            assert_eq!(mended.check().0, theirs, "{options}, {story}");
            // Before, qemu cannot read a zero cluster that keeps an offset inside another.
            if !story.starts_with("a zero cluster") {
                must_compare(folder, story);
            }
        }
    }
}

#[test]
fn damage_to_snapshots_and_bitmaps_is_seen_as_qemu_sees_it() {
    if !qemu_is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let also = ["snapshot -c one image", OVERWRITE, "bitmap --add -g 512 image two", OVERWRITE];
    let good = make(folder, "-o cluster_size=4k", &also);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut bad = good.clone();
        // A refcount of any cluster: also of those that hold snapshots and bitmaps.
        let number = random.below((bad.0.len() / bad.cluster()).min(2048) as u64);
        bad.set_refcount(number as usize, random.below(4) as u16);
        let (ours, found, theirs) = both(folder, &bad);
        assert_eq!(Some(ours), theirs, "cluster {number}: {found:?}");
        let (tally, _, mended) = bad.repair(Repair::All);
        std::fs::write(folder.join("mended"), &mended.0).unwrap();
        assert!(tally.is_clean(), "cluster {number}: {tally:?}");
        assert!(qemu_tally(folder, "mended").unwrap().is_clean(), "cluster {number}");
        must_compare(folder, "snapshots");
    }
}

#[test]
fn of_random_damage_the_verdict_is_qemus() {
    if !qemu_is_there() {
        return;
    }
    let verdict = |tally: &Tally| (tally.corruptions + tally.check_errors > 0, tally.leaks > 0);
    for options in ["-o cluster_size=4k", "-c", "-o extended_l2=on,cluster_size=16k"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let good = make(folder, options, &[]);
        for seed in 1000..1060 {
            let mut bad = good.clone();
            bend(&mut bad, &mut Random(seed));
            let (ours, found, theirs) = both(folder, &bad);
            let Some(theirs) = theirs else { continue };
            let (a, b) = (verdict(&ours), verdict(&theirs));
            assert_eq!(a, b, "{options} seed {seed}: {ours:?} {theirs:?} {found:?}");
            let (tally, _, mended) = bad.repair(Repair::All);
            std::fs::write(folder.join("mended"), &mended.0).unwrap();
            if tally.is_clean() {
                let theirs = qemu_tally(folder, "mended").unwrap();
                assert!(theirs.is_clean(), "{options} seed {seed}: {theirs:?}");
            }
        }
    }
}
