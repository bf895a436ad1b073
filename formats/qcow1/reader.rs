//! Disk offset → extents.

use std::sync::Arc;

use super::inspect;
use super::layout::{Entry, Geometry};
use crate::base::codec::Codec;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Packed, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Be64, Pages, Source, Span, Word};

struct Qcow {
    pages: Pages,
    geometry: Geometry,
    size: u64,
    l1: Span,
    /// What lies where no cluster was given out.
    missing: Place,
    files: [Arc<dyn Source>; 1],
}

/// `Truncated` if the file ends inside the L1 table.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let head = inspect::head(&*links.source, limits)?;
    if head.header.crypt_method != 0 {
        return Err(Error::unsupported("its content is encrypted, and there is no key for it"));
    }
    let l1 = head.l1.within(links.source.len(), "the L1 table")?;
    let pages = Pages::new(links.source.clone());
    let table = head.geometry.l2_len();
    pages.room_for_tables::<Be64>((l1.start(), l1.len() / 8), table, limits, |entry| entry != 0)?;
    Ok(Box::new(Qcow {
        pages,
        geometry: head.geometry,
        size: head.header.size,
        l1,
        missing: if head.backing.is_some() { Place::Backing } else { Place::Hole },
        files: [links.source],
    }))
}

impl Image for Qcow {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let reach = self.geometry.l2_reach();
        let index = start / reach;
        let at = self.l1.start() + index * 8;
        let (entry, empty) = self.pages.look(at, self.l1.end() - at, |bytes| {
            let mut entries = bytes.chunks_exact(8).map(Be64::get);
            let first = entries.next().unwrap_or(0);
            (first, 1 + entries.take_while(|entry| *entry == 0).count() as u64)
        })?;
        if entry == 0 {
            // As many empty L1 entries as one look shows.
            let end = (index + empty).saturating_mul(reach).min(self.size);
            out.push(Extent { start, len: end - start, place: self.missing, depth: 0 });
            return Ok(());
        }
        let table = Span::new(entry, self.geometry.l2_len()).map_err(|error| error.at(at))?;
        if !entry.is_multiple_of(8) || table.overlaps(self.l1) {
            let what = format!("an L2 table lies at {entry:#x}, over the L1 table or not aligned");
            return Err(Error::malformed(at, what));
        }
        self.l2_extents(entry, index * reach, start, out)
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Qcow {
    /// Goes over an L2 table, which is for the disk from `base` on, beginning at `start`.
    fn l2_extents(&self, table: u64, base: u64, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let bits = self.geometry.cluster_bits;
        let first = (start - base) >> bits;
        let left = (self.size - base).div_ceil(self.geometry.cluster());
        let count = left.min(self.geometry.l2_entries()) - first;
        let at = table + first * 8;
        self.pages.look(at, count * 8, |bytes| {
            if bytes.len() < 8 {
                return Err(Error::truncated(at, "the file ends inside an L2 table"));
            }
            for (index, word) in (0..).zip(bytes.chunks_exact(8)) {
                let start = base + ((first + index) << bits);
                let len = self.geometry.cluster().min(self.size - start);
                let place = self.place(Be64::get(word), at + index * 8)?;
                push(out, Extent { start, len, place, depth: 0 });
            }
            Ok(())
        })?
    }

    fn place(&self, word: u64, at: u64) -> Result<Place> {
        match self.geometry.entry(word) {
            Entry::Unallocated => Ok(self.missing),
            // Compressed clusters end anywhere; the plain ones begin at a sector behind them.
            Entry::Data { offset } if offset.is_multiple_of(512) => {
                Ok(Place::Data { file: 0, offset })
            }
            Entry::Data { offset } => {
                let what = format!("a cluster lies at {offset:#x}, inside a sector");
                Err(Error::malformed(at, what))
            }
            Entry::Packed { len: 0, .. } => {
                Err(Error::malformed(at, "a compressed cluster has no bytes"))
            }
            Entry::Packed { offset, len } => {
                let (unit, codec) = (self.geometry.cluster(), Codec::Deflate);
                Ok(Place::Packed(Packed { file: 0, offset, len, unit, skip: 0, codec }))
            }
        }
    }
}
