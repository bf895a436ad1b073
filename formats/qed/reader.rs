//! Disk offset → extents.

use std::sync::Arc;

use super::layout::{Entry, Geometry};
use super::{check, inspect};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Le64, Pages, Source, Span, Word};

struct Qed {
    pages: Pages,
    geometry: Geometry,
    size: u64,
    l1: Span,
    /// What lies where no cluster was given out.
    missing: Place,
    files: [Arc<dyn Source>; 1],
}

/// `Truncated` if the file ends inside the L1 table; `Malformed` if it says that it wants a check,
/// and that finds its tables wrong.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let head = inspect::head(&*links.source, limits)?;
    let l1 = head.l1.within(links.source.len(), "the L1 table")?;
    if head.needs_check() {
        check::sound(&links, limits)?;
    }
    let pages = Pages::new(links.source.clone());
    let table = head.geometry.table;
    pages.room_for_tables::<Le64>((l1.start(), l1.len() / 8), table, limits, |entry| entry != 0)?;
    Ok(Box::new(Qed {
        pages,
        geometry: head.geometry,
        size: head.header.size,
        l1,
        missing: if head.backing.is_some() { Place::Backing } else { Place::Hole },
        files: [links.source],
    }))
}

impl Image for Qed {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let reach = self.geometry.l2_reach();
        let index = start / reach;
        let at = self.l1.start() + index * 8;
        let (entry, empty) = self.pages.look(at, self.l1.end() - at, |bytes| {
            let mut entries = bytes.chunks_exact(8).map(Le64::get);
            let first = entries.next().unwrap_or(0);
            (first, 1 + entries.take_while(|entry| *entry == 0).count() as u64)
        })?;
        if entry == 0 {
            // As many empty L1 entries as one look shows.
            let end = (index + empty).saturating_mul(reach).min(self.size);
            out.push(Extent { start, len: end - start, place: self.missing, depth: 0 });
            return Ok(());
        }
        let table = Span::new(entry, self.geometry.table).map_err(|error| error.at(at))?;
        if !self.geometry.is_place(entry) || table.overlaps(self.l1) {
            let what = format!("an L2 table lies at {entry:#x}, over something else");
            return Err(Error::malformed(at, what));
        }
        self.l2_extents(entry, index * reach, start, out)
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Qed {
    /// Goes over an L2 table, which is for the disk from `base` on, beginning at `start`.
    fn l2_extents(&self, table: u64, base: u64, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let cluster = self.geometry.cluster;
        let first = (start - base) / cluster;
        let left = (self.size - base).div_ceil(cluster);
        let count = left.min(self.geometry.entries()) - first;
        let at = table + first * 8;
        self.pages.look(at, count * 8, |bytes| {
            if bytes.len() < 8 {
                return Err(Error::truncated(at, "the file ends inside an L2 table"));
            }
            for (index, word) in (0..).zip(bytes.chunks_exact(8)) {
                let start = base + (first + index) * cluster;
                let place = match Entry::of(Le64::get(word)) {
                    Entry::Unallocated => self.missing,
                    Entry::Zero => Place::Zero { offset: None },
                    Entry::Data { offset } if self.geometry.is_place(offset) => {
                        Place::Data { file: 0, offset }
                    }
                    Entry::Data { offset } => {
                        let what = format!("a cluster lies at {offset:#x}, over something else");
                        return Err(Error::malformed(at + index * 8, what));
                    }
                };
                let len = cluster.min(self.size - start);
                push(out, Extent { start, len, place, depth: 0 });
            }
            Ok(())
        })?
    }
}
