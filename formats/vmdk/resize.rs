//! A larger disk, in place: more tables at the end of the file; a crash in between leaves the old
//! size or the new one.

use std::sync::Arc;

use super::check::check;
use super::descriptor::Descriptor;
use super::inspect::{self, Form};
use super::layout::{Grains, Header, REDUNDANT, SECTOR, Shape, Words};
use super::survey::second;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Links;
use crate::base::storage::{Pages, Put, Source, Span, Storage};

/// Bytes that are written at once.
const CHUNK: u64 = 1 << 20;
/// What new tables and grains begin at a multiple of.
const ALIGNMENT: u64 = 64 << 10;

/// `Unsupported` for an image in several files, a stream, one with a parent or in tables of another
/// kind, and for a smaller disk; `Malformed` for one that is not sound; `Invalid` for a size that
/// is not of whole sectors or too large for it.
pub(super) fn resize(storage: Arc<dyn Storage>, size: u64, limits: &Limits) -> Result<()> {
    let source: Arc<dyn Source> = storage.clone();
    let refuse = |what: &str| Err(Error::unsupported(what.to_string()));
    let Form::Sparse(head, inside) = inspect::form(&*source, limits)? else {
        return refuse("the size of a disk that lies in other files cannot be changed");
    };
    if head.shape.grains != Grains::Plain {
        return refuse("the size of a compressed vmdk image cannot be changed");
    }
    let Some(header) = head.header else {
        return refuse("the size of such an extent cannot be changed");
    };
    if inside.as_ref().is_some_and(Descriptor::has_parent) {
        return refuse("the size of a vmdk image with a parent cannot be changed");
    }
    let shape = head.shape;
    if size < shape.size {
        return refuse("a vmdk image cannot be made smaller");
    }
    if !(shape.entries * shape.word()).is_multiple_of(SECTOR) {
        return refuse("the size of an extent with such short tables cannot be changed");
    }
    if !check(Links::alone(source.clone()), limits, &mut |_| {})?.is_clean() {
        return Err(Error::malformed(0, "it is not sound; only sound images are resized"));
    }
    if !size.is_multiple_of(SECTOR) {
        return Err(Error::invalid(format!("a disk of {size} bytes: sizes are multiples of 512")));
    }
    let text = match head.descriptor {
        Some(span) => Some((span.start(), resized(&source, span, shape.size, size, limits)?)),
        None => None,
    };
    let job = Job { storage, pages: Pages::new(source), shape };
    job.clear_behind()?;
    let mut header = job.tables(header, size, limits)?;
    header.capacity = size / SECTOR;
    job.storage.put(0, &header.to_bytes())?;
    job.storage.settle()?;
    if let Some((at, text)) = text {
        job.storage.put(at, &text)?;
    }
    job.storage.settle()
}

/// The descriptor, with another size in the line about the extent.
pub(super) fn resized(
    source: &Arc<dyn Source>,
    span: Span,
    old: u64,
    new: u64,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let window: &dyn crate::base::storage::Window = &**source;
    let mut bytes = window.bytes(span, "the descriptor", limits)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (old, new) = ((old / SECTOR).to_string(), (new / SECTOR).to_string());
    let mut text = Vec::new();
    for line in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
        match sectors(line, old.as_bytes()) {
            Some(at) => {
                text.extend_from_slice(&line[..at]);
                text.extend_from_slice(new.as_bytes());
                text.extend_from_slice(&line[at + old.len()..]);
            }
            None => text.extend_from_slice(line),
        }
    }
    if text.len() > bytes.len() {
        return Err(Error::unsupported("the new size does not fit into its descriptor"));
    }
    bytes.fill(0);
    bytes[..text.len()].copy_from_slice(&text);
    Ok(bytes)
}

/// Where in a line about an extent its sectors stand, if they are so many.
fn sectors(line: &[u8], wanted: &[u8]) -> Option<usize> {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let word = line.iter().position(|byte| !blank(byte))?;
    let end = word + line[word..].iter().position(blank)?;
    let known: [&[u8]; 3] = [b"RW", b"RDONLY", b"NOACCESS"];
    if !known.iter().any(|known| known.eq_ignore_ascii_case(&line[word..end])) {
        return None;
    }
    let at = end + line[end..].iter().position(|byte| !blank(byte))?;
    let len = line[at..].iter().position(blank)?;
    (line[at..at + len] == *wanted).then_some(at)
}

struct Job {
    storage: Arc<dyn Storage>,
    pages: Pages,
    shape: Shape,
}

impl Job {
    /// What lies behind the end of the disk in its last grain must not show when it grows.
    fn clear_behind(&self) -> Result<()> {
        let Shape { grain, size, .. } = self.shape;
        let rest = size % grain;
        if rest == 0 {
            return Ok(());
        }
        let mut last = None;
        self.entry(size / grain, |offset| last = offset)?;
        let Some(offset) = last else { return Ok(()) };
        let total = Source::len(&*self.storage);
        let fail = |error| Error::io("cannot write zeros", error).at(offset);
        let (from, end) = (offset + rest, offset + grain);
        if end > total {
            self.storage.set_len(end).map_err(fail)?;
        }
        self.storage.zero(Span::new(from, end - from)?).map_err(fail)?;
        self.storage.settle()
    }

    /// Hands over where a grain lies, if it does.
    fn entry(&self, grain: u64, mut take: impl FnMut(Option<u64>)) -> Result<()> {
        use super::layout::Entry;
        use crate::base::storage::{Le32, Word};
        debug_assert!(matches!(self.shape.words, Words::Sectors { .. }), "others are refused");
        let (table, index) = (grain / self.shape.entries, grain % self.shape.entries);
        let word = self.pages.look(self.shape.directory + table * 4, 4, Le32::get)?;
        let Entry::Grain(table) = self.shape.table(word) else { return Ok(()) };
        let word = self.pages.look(table + index * 4, 4, Le32::get)?;
        if let Entry::Grain(offset) = self.shape.entry(word) {
            take(Some(offset));
        }
        Ok(())
    }

    /// Room in directory and tables for a disk of this size: where there is too little, both sets
    /// get longer directories at the end of the file, which lead to the old tables and to new ones.
    fn tables(&self, mut header: Header, size: u64, limits: &Limits) -> Result<Header> {
        let (old, new) = (self.shape.tables, size.div_ceil(self.shape.reach()));
        if new == old {
            return Ok(header);
        }
        let table = self.shape.entries * 4;
        let directory = new.checked_mul(4).and_then(|len| len.checked_next_multiple_of(SECTOR));
        let directory = directory.filter(|len| *len <= limits.max_table);
        let set = directory.and_then(|len| len.checked_add((new - old).checked_mul(table)?));
        let end = Source::len(&*self.storage).next_multiple_of(ALIGNMENT);
        let (directory, set, mut at) = match (directory, set) {
            (Some(directory), Some(set)) if (end + 2 * set) / SECTOR < 1 << 32 => {
                (directory, set, end)
            }
            _ => {
                let what = format!("{size} bytes are more than such an extent can hold");
                return Err(Error::invalid(what));
            }
        };
        let spare = second(&header).filter(|_| header.flags & REDUNDANT != 0);
        for from in [spare, Some(self.shape.directory)].into_iter().flatten() {
            self.set(from, at, directory, set, old)?;
            match Some(from) == spare {
                true => header.redundant = at / SECTOR,
                false => header.directory = at / SECTOR,
            }
            at += set;
        }
        let grains = at.next_multiple_of(ALIGNMENT);
        let fail = |error| Error::io("cannot set its length", error);
        self.storage.set_len(grains).map_err(fail)?;
        self.storage.settle()?;
        Ok(header)
    }

    /// One set: the words of the old directory, then those for new tables, then these, empty.
    fn set(&self, from: u64, at: u64, directory: u64, set: u64, old: u64) -> Result<()> {
        let fail = |error| Error::io("cannot set its length", error).at(at);
        self.storage.set_len(at + set).map_err(fail)?;
        let mut zeros = at;
        while zeros < at + set {
            let step = (at + set - zeros).min(CHUNK);
            self.storage.zero(Span::new(zeros, step)?).map_err(fail)?;
            zeros += step;
        }
        self.pages.pieces(from, old * 4, |done, bytes| self.storage.put(at + done, bytes))?;
        let table = self.shape.entries * 4;
        let mut words = Vec::new();
        for place in (at + directory..at + set).step_by(usize::try_from(table).unwrap_or(1)) {
            let sector = u32::try_from(place / SECTOR).map_err(|_| Error::limit("out of reach"))?;
            words.extend_from_slice(&sector.to_le_bytes());
        }
        self.storage.put(at + old * 4, &words)
    }
}
