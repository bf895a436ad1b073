//! Whatever is written in whatever order of extents: a disk reads as a plain array does.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::sync::{Arc, LazyLock};

use disks::{lone_variants, open, raw, read_all};
use formats::{
    CopyOptions, Create, FORMATS, Format, Image, Joined, Kind, Limits, Memory, OpenOptions,
    Options, Reference, Resolved, Resolver, Result, Slice, Source, Span,
};
use proptest::prelude::*;

const SIZE: usize = 700 * 512;

/// A way to write a disk of `SIZE`.
struct Way {
    format: &'static Format,
    create: Create,
}

static WAYS: LazyLock<Vec<Way>> = LazyLock::new(|| {
    let writable = disks::writable();
    let ways = writable.flat_map(|format| {
        let all = lone_variants(format, SIZE as u64).into_iter();
        all.map(move |variant| Way { format, create: variant.create })
    });
    ways.collect()
});

/// Bytes put somewhere.
#[derive(Debug, Clone)]
struct Write {
    start: usize,
    len: usize,
    /// 0 makes zeros, 255 noise, anything else that byte.
    byte: u8,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let len = prop_oneof![1..600_usize, 1..70_000_usize, Just(65_536), Just(4096)];
    let byte = prop_oneof![Just(0_u8), Just(255), any::<u8>()];
    let start = prop_oneof![0..SIZE, (0..SIZE / 4096).prop_map(|block| block * 4096)];
    let write = (start, len, byte).prop_map(|(start, len, byte)| Write { start, len, byte });
    proptest::collection::vec(write, 0..12)
}

fn apply(disk: &mut [u8], writes: &[Write]) {
    for write in writes {
        let end = (write.start + write.len).min(disk.len());
        let mut noise = disks::Dice::new(write.len as u64);
        match write.byte {
            255 => noise.fill(&mut disk[write.start.min(end)..end]),
            byte => disk[write.start.min(end)..end].fill(byte),
        }
    }
}

fn ranges() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((0..3 * SIZE, 0..100_000_usize), 1..12)
}

/// Reads at these places give what the array has there, and a walk over them has no gaps.
fn agree(disk: &dyn Image, model: &[u8], ranges: &[(usize, usize)]) -> Result<(), TestCaseError> {
    prop_assert_eq!(disk.disk_size(), model.len() as u64);
    for (start, len) in ranges {
        let start = start % (model.len() + 1);
        let end = (start + len).min(model.len());
        let mut bytes = vec![0xcc; end - start];
        disk.read(start as u64, &mut bytes).unwrap();
        prop_assert!(bytes == model[start..end], "{start} to {end}");
        let mut at = start as u64;
        for extent in disk.walk(start as u64, end as u64) {
            let extent = extent.unwrap();
            prop_assert_eq!(extent.start, at);
            at = extent.end();
            let (from, to) = (extent.start as usize, extent.end() as usize);
            let zero = model[from..to].iter().all(|byte| *byte == 0);
            prop_assert!(!extent.is_zero() || zero, "{extent:?} holds data");
        }
        prop_assert_eq!(at, end as u64);
    }
    prop_assert!(read_all(disk).unwrap() == model);
    Ok(())
}

/// Writes a disk; `base` is what lies underneath.
fn write(way: &Way, create: &Create, disk: &[u8], base: Option<&dyn Image>) -> Vec<u8> {
    let target = Arc::new(Memory::default());
    let writer = (way.format.create.unwrap())(target.clone(), create).unwrap();
    let options = CopyOptions { threads: 2, base, ..Default::default() };
    formats::copy(&*raw(disk), &*writer, &options).unwrap();
    target.to_vec()
}

/// Gives the same bytes for every name.
struct Always(Arc<dyn Source>);

impl Resolver for Always {
    fn resolve(&self, _: &Reference) -> Result<Resolved> {
        Ok(Resolved { source: self.0.clone(), resolver: Arc::new(formats::Refuse) })
    }
}

fn config() -> ProptestConfig {
    // Failures are kept as tests with a name, not as files of seeds.
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_disk_is_an_array(
        way in any::<proptest::sample::Index>(), writes in writes(), ranges in ranges(),
    ) {
        let way = &WAYS[way.index(WAYS.len())];
        let mut model = vec![0; SIZE];
        apply(&mut model, &writes);
        let file = write(way, &way.create, &model, None);
        agree(&*open(Arc::new(Memory::new(file)), way.format).unwrap(), &model, &ranges)?;
    }

    #[test]
    fn an_overlay_is_an_array_with_changes(
        way in any::<proptest::sample::Index>(), under in writes(), over in writes(),
        ranges in ranges(), sizes in (1..SIZE / 512, 1..SIZE / 512),
    ) {
        let ways: Vec<_> = WAYS.iter().filter(|way| takes_backing(way)).collect();
        let way = ways[way.index(ways.len())];
        // Either may be the longer one.
        let (mut below, mut model) = (vec![0; sizes.0 * 512], vec![0; sizes.1 * 512]);
        apply(&mut below, &under);
        let both = below.len().min(model.len());
        model[..both].copy_from_slice(&below[..both]);
        apply(&mut model, &over);
        let create = overlay(way, model.len());
        let file = write(way, &create, &model, Some(&*raw(&below)));
        let limits = Limits::default();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(Always(Arc::new(Memory::new(below))));
        let disk = formats::open(Arc::new(Memory::new(file)), way.format, &options).unwrap();
        agree(&*disk, &model, &ranges)?;
    }

    #[test]
    fn disks_behind_each_other_are_one_array(
        picks in proptest::collection::vec((any::<proptest::sample::Index>(), writes()), 1..4),
        ranges in ranges(),
    ) {
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        for (way, writes) in &picks {
            let way = &WAYS[way.index(WAYS.len())];
            let mut model = vec![0; SIZE];
            apply(&mut model, writes);
            let file = write(way, &way.create, &model, None);
            parts.push(open(Arc::new(Memory::new(file)), way.format).unwrap());
            whole.extend(model);
        }
        agree(&Joined::new(parts).unwrap(), &whole, &ranges)?;
    }

    #[test]
    fn a_slice_is_a_part_of_the_array(
        writes in writes(), start in 0..SIZE, len in 0..SIZE, ranges in ranges(),
    ) {
        let mut model = vec![0; SIZE];
        apply(&mut model, &writes);
        let span = Span::new(start as u64, len as u64).unwrap();
        let slice = Slice::new(Arc::new(Memory::new(model.clone())), span);
        let part = &model[start..(start + len).min(SIZE)];
        let disk = open(Arc::new(slice), formats::format("raw").unwrap()).unwrap();
        agree(&*disk, part, &ranges)?;
    }

    #[test]
    fn options_are_read_or_refused_and_never_panic(
        pairs in proptest::collection::vec(("[a-z_0-9.]{0,12}", "[ -~]{0,12}"), 0..4),
        known in any::<proptest::sample::Index>(), value in "[0-9kMGTPEonf.-]{0,9}",
        size in any::<u64>(),
    ) {
        for format in disks::writable() {
            let mut options = Options::new(pairs.clone());
            if !format.options.is_empty() {
                options.set(format.options[known.index(format.options.len())].name, value.clone());
            }
            // Some sizes are too large for a test's memory, not for a format.
            let create = Create { size: size >> 40, options, ..Default::default() };
            let _ = (format.create.unwrap())(Arc::new(Memory::default()), &create);
            let create = Create { size, ..create };
            let _ = format.measure.map(|measure| measure(&create, &mut |_| Ok(())));
        }
    }
}

// Seen: `cluster_size=1` divided by zero before anybody had asked whether there are such clusters:
// an L2 table of one byte has no entries.
#[test]
fn a_cluster_of_a_byte_is_invalid() {
    let qcow2 = formats::format("qcow2").unwrap();
    for size in ["1", "8", "256", "4M"] {
        let options = Options::new([("cluster_size".into(), size.into())]);
        let create = Create { options, ..Default::default() };
        let made = (qcow2.create.unwrap())(Arc::new(Memory::default()), &create);
        assert!(made.is_err_and(|error| error.kind() == Kind::Invalid), "{size}");
    }
}

fn overlay(way: &Way, size: usize) -> Create {
    let backing = Some(("below".into(), "raw".into()));
    Create { size: size as u64, backing, ..way.create.clone() }
}

fn takes_backing(way: &Way) -> bool {
    (way.format.create.unwrap())(Arc::new(Memory::default()), &overlay(way, SIZE)).is_ok()
}
