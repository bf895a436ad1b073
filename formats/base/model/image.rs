//! A disk that can be read. Rooms map; the ground reads.

use std::sync::Arc;

use super::extent::{Extent, Packed, Place, push};
use crate::base::codec::Decoder;
use crate::base::digest::{Digest, Hasher};
use crate::base::error::{Error, Kind, Result};
use crate::base::storage::{Allocated, Buffer, Source, Span, Window};

/// A disk that can be read.
pub trait Image: Send + Sync {
    /// Bytes of the disk.
    fn disk_size(&self) -> u64;

    /// Adds what lies at `start` and behind it, in order and without gaps, as far as one look at
    /// the tables reaches: at least one extent if `start` lies below the size, and none beyond
    /// the size.
    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()>;

    /// The files that [`Place`] speaks of.
    fn files(&self) -> &[Arc<dyn Source>];

    /// What was promised of the bytes that the disk is read from: whoever reads all of it finds
    /// out whether that is so.
    fn promises(&self) -> &[Promise] {
        &[]
    }
}

/// Bytes, and what they are said to digest to.
#[derive(Clone)]
pub struct Promise {
    /// The bytes, with a name that people know them by.
    pub source: Arc<dyn Source>,
    /// What they should digest to.
    pub digest: Digest,
}

impl Promise {
    /// Reads all bytes. `Malformed` if they digest to something else. `ask` is called every now
    /// and then; what it fails with ends it.
    pub fn keep(&self, ask: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut hasher = Hasher::new(self.digest.algorithm);
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.source.len() {
            ask()?;
            let left = usize::try_from(self.source.len() - at).unwrap_or(usize::MAX);
            let part = left.min(buffer.len());
            Window::read(&*self.source, at, &mut buffer[..part])?;
            hasher.update(&buffer[..part]);
            at += part as u64;
        }
        let is = hasher.finish();
        if is == self.digest {
            return Ok(());
        }
        let (name, how) = (self.source.name(), is.algorithm.name());
        let (name, is, said) = (name.escape_debug(), is.hex(), self.digest.hex());
        let what = format!("the {how} digest of '{name}' is {is}, and {said} was promised");
        Err(Error::malformed(0, what))
    }
}

impl dyn Image + '_ {
    /// The extents from `start` to `end`, clipped to that; as many as one look gives. `out` is
    /// emptied first.
    pub fn extents_between(&self, start: u64, end: u64, out: &mut Vec<Extent>) -> Result<()> {
        out.clear();
        let end = end.min(self.disk_size());
        if start >= end {
            return Ok(());
        }
        self.extents(start, out)?;
        out.retain_mut(|extent| {
            let inside = extent.start < end && extent.end() > start;
            if inside {
                *extent = extent.clip(start, end);
            }
            inside
        });
        match out.first() {
            Some(first) if first.start == start => Ok(()),
            _ => Err(Error::malformed(start, "the image does not say what lies here on the disk")),
        }
    }

    /// All extents from `start` to `end`, neighbours of one kind as one.
    pub fn walk(&self, start: u64, end: u64) -> Walk<'_> {
        Walk { image: self, at: start, end, found: Vec::new(), next: 0, failed: false }
    }

    /// Fills `out` with the disk's bytes from `start` on. `Invalid` if the disk ends before.
    ///
    /// # Panics
    ///
    /// Never: what is expected below, the walk has seen to.
    pub fn read(&self, start: u64, out: &mut [u8]) -> Result<()> {
        let end = Span::new(start, out.len() as u64)?.end();
        if end > self.disk_size() {
            let size = self.disk_size();
            return Err(Error::invalid(format!("a read up to {end} of a disk of {size} bytes")));
        }
        let mut reader = Reader::default();
        for extent in self.walk(start, end) {
            let extent = extent?;
            let from = usize::try_from(extent.start - start).expect("inside the buffer");
            let len = usize::try_from(extent.len).expect("inside the buffer");
            reader.fetch(self.files(), &extent, &mut out[from..from + len])?;
        }
        Ok(())
    }
}

/// Goes over the extents of a disk.
pub struct Walk<'a> {
    image: &'a dyn Image,
    at: u64,
    end: u64,
    found: Vec<Extent>,
    next: usize,
    failed: bool,
}

impl Walk<'_> {
    /// The next extent, not yet joined with what follows.
    fn step(&mut self) -> Result<Option<Extent>> {
        if self.next == self.found.len() {
            self.next = 0;
            self.image.extents_between(self.at, self.end, &mut self.found)?;
        }
        let Some(extent) = self.found.get(self.next) else { return Ok(None) };
        if extent.start != self.at || extent.len == 0 {
            return Err(Error::malformed(self.at, "the extents of the image leave a gap"));
        }
        Ok(Some(*extent))
    }

    fn take(&mut self, extent: &Extent) {
        self.next += 1;
        self.at = extent.end();
    }

    fn join(&mut self) -> Result<Option<Extent>> {
        let Some(mut whole) = self.step()? else { return Ok(None) };
        self.take(&whole);
        while let Some(next) = self.step()? {
            if !whole.goes_on_in(&next) {
                break;
            }
            whole.len += next.len;
            self.take(&next);
        }
        Ok(Some(whole))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        if self.failed {
            return None;
        }
        let next = self.join().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Reads extents; keep one a thread, for it keeps its buffers and contexts.
#[derive(Default)]
pub struct Reader {
    decoder: Decoder,
    packed: Option<Buffer>,
    unit: Option<Buffer>,
}

impl Reader {
    /// Fills `out` with the bytes of `extent`; `out` is as long as it. `Truncated` if a file ends
    /// before they do, `Malformed` if they do not unpack.
    pub fn fetch(
        &mut self,
        files: &[Arc<dyn Source>],
        extent: &Extent,
        out: &mut [u8],
    ) -> Result<()> {
        debug_assert_eq!(extent.len, out.len() as u64, "the buffer is as long as the extent");
        match &extent.place {
            Place::Hole | Place::Zero { .. } => out.fill(0),
            Place::Data { file, offset } => {
                let file = &files[*file];
                Window::read(&**file, *offset, out).map_err(|e| e.path(file.name()))?;
            }
            Place::Packed(packed) => {
                let file = &*files[packed.file];
                self.unpack(file, packed, out).map_err(|e| e.path(file.name()))?;
            }
            Place::Backing => {
                let what = "the image underneath was not opened";
                return Err(Error::invalid(what));
            }
        }
        Ok(())
    }

    /// The compressed bytes themselves, unopened; fewer than `packed.len` where the file ends.
    pub fn fetch_packed<'a>(&'a mut self, file: &dyn Source, packed: &Packed) -> Result<&'a [u8]> {
        let left = file.len().saturating_sub(packed.offset).min(packed.len);
        if left == 0 {
            let what = format!("a compressed unit begins at the end of the file, {}", file.len());
            return Err(Error::truncated(packed.offset, what));
        }
        let len = usize::try_from(left).map_err(|_| Error::limit("a compressed unit too large"))?;
        let buffer = self.packed.get_or_insert_with(|| Buffer::new(len));
        buffer.reserve(len);
        Window::read(file, packed.offset, &mut buffer[..len])?;
        Ok(&buffer[..len])
    }

    fn unpack(&mut self, file: &dyn Source, packed: &Packed, out: &mut [u8]) -> Result<()> {
        let all = self.fetch_packed(file, packed)?.len();
        let bytes = &self.packed.as_ref().expect("filled above")[..all];
        let unit = usize::try_from(packed.unit).map_err(|_| Error::limit("a unit too large"))?;
        let decoded = if packed.skip == 0 && out.len() == unit {
            self.decoder.decode(packed.codec, bytes, out)
        } else {
            let skip = usize::try_from(packed.skip).expect("below the size of the unit");
            let buffer = self.unit.get_or_insert_with(|| Buffer::new(unit));
            buffer.reserve(unit);
            // Only as far as it is wanted: the rest of the unit need not be sound.
            let end = skip + out.len();
            let decoded = self.decoder.decode(packed.codec, bytes, &mut buffer[..end]);
            out.copy_from_slice(&buffer[skip..end]);
            decoded
        };
        let cut = (all as u64) < packed.len;
        decoded.map_err(|error| {
            if !cut || error.kind() != Kind::Malformed {
                return error.at(packed.offset);
            }
            // It may be sound, and the file cut short.
            let end = file.len();
            let what = format!("a compressed unit is cut off by the end of the file, {end}");
            Error::truncated(packed.offset, what)
        })
    }
}

/// The front of a file, as it is.
pub(crate) struct Plain {
    size: u64,
    files: [Arc<dyn Source>; 1],
}

impl Plain {
    /// The first `size` bytes of this file, which has so many, or fails when they are read.
    pub(crate) fn new(file: Arc<dyn Source>, size: u64) -> Plain {
        Plain { size, files: [file] }
    }
}

impl Image for Plain {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let fail = |error| Error::io("cannot ask what is allocated", error).at(start);
        let found = match start < self.files[0].len() {
            true => self.files[0].allocated(start).map_err(fail)?,
            // What is not there is asked for, and found missing.
            false => Allocated { data: true, end: self.size },
        };
        let place = match found.data {
            true => Place::Data { file: 0, offset: start },
            false => Place::Zero { offset: Some(start) },
        };
        out.push(Extent { start, len: found.end.min(self.size) - start, place, depth: 0 });
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

/// Images on top of each other: what one lacks, the next one has. To the outside it is one.
pub struct Stack {
    layers: Vec<Box<dyn Image>>,
    files: Vec<Arc<dyn Source>>,
    /// Where each layer's files begin among all.
    first_file: Vec<usize>,
}

impl Stack {
    /// These images, the one on top first; there is at least one.
    pub fn new(layers: Vec<Box<dyn Image>>) -> Stack {
        let mut files: Vec<Arc<dyn Source>> = Vec::new();
        let mut first_file = Vec::new();
        for layer in &layers {
            first_file.push(files.len());
            files.extend(layer.files().iter().cloned());
        }
        Stack { layers, files, first_file }
    }

    /// How many images.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One look at the layers from `depth` on, between `start` and `end`. Returns how far it went.
    fn look(&self, depth: usize, start: u64, end: u64, out: &mut Vec<Extent>) -> Result<u64> {
        let hole = |depth| Extent { start, len: end - start, place: Place::Hole, depth };
        let Some(layer) = self.layers.get(depth) else {
            push(out, hole(depth - 1));
            return Ok(end);
        };
        if start >= layer.disk_size() {
            push(out, hole(depth));
            return Ok(end);
        }
        let mut found = Vec::new();
        layer.extents_between(start, end, &mut found)?;
        let mut at = start;
        for extent in found {
            at = extent.end();
            if extent.place == Place::Backing {
                let reached = self.look(depth + 1, extent.start, extent.end(), out)?;
                if reached < extent.end() {
                    return Ok(reached);
                }
            } else {
                push(out, self.lift(depth, extent));
            }
        }
        Ok(at)
    }

    /// A layer's extent as one of the whole.
    fn lift(&self, depth: usize, mut extent: Extent) -> Extent {
        extent.depth = depth;
        match &mut extent.place {
            Place::Data { file, .. } => *file += self.first_file[depth],
            Place::Packed(packed) => packed.file += self.first_file[depth],
            Place::Hole | Place::Zero { .. } | Place::Backing => {}
        }
        extent
    }
}

impl Image for Stack {
    fn disk_size(&self) -> u64 {
        self.layers[0].disk_size()
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        self.look(0, start, self.disk_size(), out).map(drop)
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }

    fn promises(&self) -> &[Promise] {
        self.layers[0].promises()
    }
}

/// Disks behind each other, as one.
pub struct Joined {
    parts: Vec<(u64, Box<dyn Image>)>,
    first_file: Vec<usize>,
    files: Vec<Arc<dyn Source>>,
    promises: Vec<Promise>,
    size: u64,
}

impl Joined {
    /// These disks, in this order. `Limit` if they take more than 2^64 bytes.
    pub fn new(disks: Vec<Box<dyn Image>>) -> Result<Joined> {
        let (files, promises) = (Vec::new(), Vec::new());
        let (parts, first_file) = (Vec::new(), Vec::new());
        let mut this = Joined { parts, first_file, files, promises, size: 0 };
        for disk in disks {
            this.promises.extend(disk.promises().iter().cloned());
            this.first_file.push(this.files.len());
            this.files.extend(disk.files().iter().cloned());
            let end = this.size.checked_add(disk.disk_size());
            let end = end.ok_or_else(|| Error::limit("the disks together do not end in 2^64"))?;
            this.parts.push((this.size, disk));
            this.size = end;
        }
        Ok(this)
    }
}

impl Image for Joined {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let holds = |(first, disk): &(u64, Box<dyn Image>)| start < first + disk.disk_size();
        let Some(part) = self.parts.iter().position(holds) else { return Ok(()) };
        let (first, disk) = &self.parts[part];
        let mut found = Vec::new();
        disk.extents_between(start - first, u64::MAX, &mut found)?;
        for mut extent in found {
            extent.start += first;
            match &mut extent.place {
                Place::Data { file, .. } => *file += self.first_file[part],
                Place::Packed(packed) => packed.file += self.first_file[part],
                Place::Hole | Place::Zero { .. } | Place::Backing => {}
            }
            out.push(extent);
        }
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }

    fn promises(&self) -> &[Promise] {
        &self.promises
    }
}
