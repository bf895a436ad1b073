//! Disk offset → extents.

use std::ops::Range;
use std::sync::Arc;

use super::inspect;
use super::layout::{BAT_OFFSET, Geometry, MIB, PRESENT, Payload, STATE, UNMAPPED, payload};
use super::log::Overlay;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Le64, Pages, Source, Span, Word};

/// Extents that one look finds, more or less: a block can be many.
const ENOUGH: usize = 4096;

struct Vhdx {
    /// The BAT and the bitmaps, as they are after a replay of the log.
    pages: Pages,
    files: [Arc<dyn Source>; 1],
    geometry: Geometry,
    /// Offset of the BAT.
    bat: u64,
    /// What lies where no block was given out.
    missing: Place,
}

/// Opens the disk. A log that is to be replayed is replayed in memory: nothing is written.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let head = inspect::head(&*links.source, limits)?;
    let source: Arc<dyn Source> = match head.log {
        None => links.source,
        Some(log) => Arc::new(Overlay::new(links.source, log, limits)?),
    };
    let geometry = head.metadata.geometry;
    let bat = head.regions.bat.start();
    Span::new(bat, geometry.entries() * 8)?.within(source.len(), "the BAT")?;
    let missing = if geometry.parent { Place::Backing } else { Place::Hole };
    let (pages, files) = (Pages::new(source.clone()), [source]);
    Ok(Box::new(Vhdx { pages, files, geometry, bat, missing }))
}

impl Image for Vhdx {
    fn disk_size(&self) -> u64 {
        self.geometry.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let geometry = self.geometry;
        let first = geometry.entry_of(start / geometry.block);
        let at = self.bat + first * 8;
        let before = out.len();
        self.pages.look(at, (geometry.entries() - first) * 8, |bytes| {
            let mut entries = bytes.chunks_exact(8).map(Le64::get).peekable();
            let mut number = first;
            while let Some(entry) = entries.next() {
                let begin = number;
                number += 1;
                // Runs of blocks without a place are most of a large table.
                while entry & STATE < UNMAPPED && entries.next_if_eq(&entry).is_some() {
                    number += 1;
                }
                let blocks = geometry.blocks_before(begin)..geometry.blocks_before(number);
                if blocks.start >= geometry.blocks() || out.len() - before > ENOUGH {
                    break;
                }
                if !blocks.is_empty() {
                    self.block_extents(entry, self.bat + begin * 8, blocks, out)?;
                }
            }
            Ok(())
        })?
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Vhdx {
    /// What an entry says about its block, or about several if it gives none a place; `at` is where
    /// it stands.
    fn block_extents(
        &self,
        entry: u64,
        at: u64,
        blocks: Range<u64>,
        out: &mut Vec<Extent>,
    ) -> Result<()> {
        let Geometry { size, block: len, parent, .. } = self.geometry;
        let start = blocks.start * len;
        let end = size.min(blocks.end * len);
        let place = match payload(entry) {
            Some(Payload::Missing) => self.missing,
            Some(Payload::Zero) => Place::Zero { offset: None },
            Some(Payload::Present { offset }) => {
                Place::Data { file: 0, offset: sound(offset, len, at)? }
            }
            Some(Payload::Partly { offset }) if parent => {
                return self.partly(sound(offset, len, at)?, blocks.start, out);
            }
            Some(Payload::Partly { .. }) => {
                return Err(Error::malformed(
                    at,
                    "a block is here in part, and there is no parent",
                ));
            }
            None => {
                let what = format!("BAT entry {entry:#x} has the state {}", entry & STATE);
                return Err(Error::malformed(at, what));
            }
        };
        push(out, Extent { start, len: end - start, place, depth: 0 });
        Ok(())
    }

    /// A block of which some sectors are here, and the others underneath.
    fn partly(&self, offset: u64, block: u64, out: &mut Vec<Extent>) -> Result<()> {
        let Geometry { size, block: len, sector, .. } = self.geometry;
        let at = self.bat + self.geometry.bitmap_of(block) * 8;
        let entry = self.pages.look(at, 8, Le64::get)?;
        if entry & STATE != PRESENT {
            let what = format!("a block is here in part, and BAT entry {entry:#x} is no bitmap");
            return Err(Error::malformed(at, what));
        }
        let bitmap = sound(entry & BAT_OFFSET, MIB, at)?;
        let from = bitmap + self.geometry.bitmap_start(block);
        let start = block * len;
        let end = size.min(start + len);
        self.pages.look(from, self.geometry.bitmap_len(), |bits| {
            let mut at = start;
            for byte in bits {
                // Eight at once where they are alike, which most are.
                let step = if matches!(byte, 0 | 0xff) { 8 } else { 1 };
                for bit in (0..8).step_by(step) {
                    let take = (sector * step as u64).min(end.saturating_sub(at));
                    let place = match byte >> bit & 1 {
                        1 => Place::Data { file: 0, offset: offset + (at - start) },
                        _ => Place::Backing,
                    };
                    if take > 0 {
                        push(out, Extent { start: at, len: take, place, depth: 0 });
                    }
                    at += take;
                }
            }
            match at == end {
                true => Ok(()),
                false => Err(Error::truncated(from, "the file ends inside a bitmap of sectors")),
            }
        })?
    }
}

/// An offset at which a stretch of the file may lie.
fn sound(offset: u64, len: u64, at: u64) -> Result<u64> {
    if offset < MIB {
        return Err(Error::malformed(at, "a block of the disk lies at 0, over the header"));
    }
    Span::new(offset, len).map(|_| offset)
}
