//! Disk offset → extents.

use std::sync::Arc;

use super::inspect;
use super::layout::{DIFFERENCING, ENTRY, Entry, Header};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Le32, Pages, Source, Span, Word};

struct Vdi {
    pages: Pages,
    header: Header,
    /// What lies where no block was given out.
    missing: Place,
    files: [Arc<dyn Source>; 1],
}

pub(super) fn open(links: Links, _: &Limits) -> Result<Box<dyn Image>> {
    let header = inspect::head(&*links.source)?;
    let map = Span::new(header.map, header.needed() * ENTRY)?;
    map.within(links.source.len(), "the map of blocks")?;
    let missing = if header.kind == DIFFERENCING { Place::Backing } else { Place::Hole };
    let files = [links.source.clone()];
    Ok(Box::new(Vdi { pages: Pages::new(links.source), header, missing, files }))
}

impl Image for Vdi {
    fn disk_size(&self) -> u64 {
        self.header.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let first = start / self.header.block;
        let count = self.header.needed() - first;
        let at = self.header.map + first * ENTRY;
        self.pages.look(at, count * ENTRY, |bytes| {
            let mut at = at;
            let mut start = first * self.header.block;
            for entry in bytes.chunks_exact(4) {
                let place = self.place(Entry::of(Le32::get(entry)), at)?;
                let len = self.header.block.min(self.header.size - start);
                push(out, Extent { start, len, place, depth: 0 });
                start += len;
                at += ENTRY;
            }
            if bytes.len() < 4 {
                return Err(Error::truncated(at, "the map ends inside an entry"));
            }
            Ok(())
        })?
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Vdi {
    fn place(&self, entry: Entry, at: u64) -> Result<Place> {
        match entry {
            Entry::Free => Ok(self.missing),
            Entry::Zero => Ok(Place::Zero { offset: None }),
            Entry::Block(number) => {
                let far = || format!("block {number} of the file lies past every file's end");
                let offset = self.header.place(number);
                let offset = offset.ok_or_else(|| Error::malformed(at, far()))?;
                Ok(Place::Data { file: 0, offset })
            }
        }
    }
}
