//! A crash while an image is written leaves the whole image or none.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

mod disks;

use std::io;
use std::sync::{Arc, Mutex};

use disks::{Dice, Variant, disk, lone_variants, open, raw, read_all};
use formats::{
    CopyOptions, Create, FORMATS, Faulty, Format, Kind, Limits, Memory, Result, Source, Span,
    Target,
};

const SIZE: u64 = 150 << 10;

/// The formats with a header, for a raw disk is valid at every moment; each in some variants.
fn all() -> impl Iterator<Item = (&'static Format, Variant)> {
    let with_header = |format: &&&Format| format.create.is_some() && format.name != "raw";
    let some = |format: &&'static Format| {
        let format = *format;
        let mut list: Vec<_> = lone_variants(format, SIZE).into_iter().step_by(5).collect();
        let backing = Some(("a-name-that-is-long-enough-to-be-torn/".repeat(20), "raw".into()));
        let create = Create { size: SIZE, backing, ..Default::default() };
        if (format.create.unwrap())(Arc::new(Memory::default()), &create).is_ok() {
            list.push(Variant {
                name: format!("{} with backing", format.name),
                create,
                beside: false,
            });
        }
        list.into_iter().map(move |variant| (format, variant))
    };
    FORMATS.iter().filter(with_header).flat_map(some)
}

fn write(format: &Format, create: &Create, disk: &[u8], target: Arc<dyn Target>) -> Result<()> {
    let writer = (format.create.unwrap())(target, create)?;
    let options = CopyOptions { threads: 1, ..Default::default() };
    formats::copy(&*raw(disk), &*writer, &options).map(drop)
}

/// What a crash left behind is no image, or all of it.
fn judge(name: &str, format: &'static Format, create: &Create, disk: &[u8], left: Vec<u8>) {
    let source = Arc::new(Memory::new(left));
    let is = formats::probe(FORMATS, &*source).is_ok_and(|found| found.name == format.name);
    let Some(facts) = (format.inspect)(&*source, &Limits::default()).ok().filter(|_| is) else {
        return;
    };
    assert_eq!(facts.disk_size, SIZE, "{name}");
    if let Some((backing, _)) = &create.backing {
        assert_eq!(facts.references[0].name, *backing, "{name}");
    } else {
        let back = open(source, format).and_then(|image| read_all(&*image));
        assert!(back.is_ok_and(|back| back == disk), "{name}: a header over half an image");
    }
}

// Seen: with compat=0.10 a header torn in the middle was taken for a valid image, for it had all
// but the place of the L1 table; and one with a long backing file's name, for it had all but the
// end of the name. Why: the header went out in one write. Now its magic is a write of its own,
// after a sync, so that every earlier moment lacks it.
#[test]
fn storage_that_dies_after_any_write_holds_no_image_or_all_of_it() {
    let disk = disk(1, SIZE as usize);
    for (format, variant) in all() {
        let mut writes = 0;
        loop {
            let target = Arc::new(Faulty::new(Memory::default(), writes));
            let done = write(format, &variant.create, &disk, target.clone());
            let name = format!("{} dead after {writes} writes", variant.name);
            judge(&name, format, &variant.create, &disk, target.inner().to_vec());
            match done {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Io, "{name}: {error:?}"),
            }
            writes += 1;
        }
        assert!(writes > 3, "{} was written in {writes} writes", variant.name);
    }
}

/// A target that remembers what was done to it.
#[derive(Default)]
struct Recorder {
    inner: Memory,
    deeds: Mutex<Vec<Deed>>,
}

#[derive(Clone)]
enum Deed {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Recorder {
    fn note(&self, deed: Deed) {
        self.deeds.lock().unwrap().push(deed);
    }
}

impl Target for Recorder {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Deed::Write(offset, bytes.to_vec()));
        self.inner.write_at(offset, bytes)
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        self.inner.zero(span)
    }

    fn allocate(&self, span: Span) -> io::Result<()> {
        self.inner.allocate(span)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(Deed::SetLen(len));
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Deed::Sync);
        self.inner.sync()
    }

    fn is_fresh(&self) -> bool {
        Source::is_empty(&self.inner)
    }
}

#[test]
fn a_power_cut_that_forgets_writes_since_the_last_sync_leaves_no_image_or_all_of_it() {
    let (disk, mut dice) = (disk(2, SIZE as usize), Dice::new(3));
    for (format, variant) in all() {
        let recorder = Arc::new(Recorder::default());
        write(format, &variant.create, &disk, recorder.clone()).unwrap();
        let deeds = recorder.deeds.lock().unwrap().clone();
        let last_sync = deeds.iter().rposition(|deed| matches!(deed, Deed::Sync));
        assert_eq!(last_sync, Some(deeds.len() - 1), "{} ends with a sync", variant.name);
        for cut in 0..40 {
            let end = deeds.len().saturating_sub(cut / 2);
            let safe = deeds[..end].iter().rposition(|deed| matches!(deed, Deed::Sync));
            let left = Memory::default();
            for (index, deed) in deeds[..end].iter().enumerate() {
                // What was not synced may be there or not, each write for itself.
                let kept = safe.is_some_and(|safe| index < safe) || dice.below(3) > 0;
                match deed {
                    Deed::Write(offset, bytes) if kept => left.write_at(*offset, bytes).unwrap(),
                    Deed::SetLen(len) if kept => left.set_len(*len).unwrap(),
                    Deed::Write(..) | Deed::SetLen(_) | Deed::Sync => {}
                }
            }
            let name = format!("{} cut off at {end} of {}", variant.name, deeds.len());
            judge(&name, format, &variant.create, &disk, left.to_vec());
        }
    }
}
