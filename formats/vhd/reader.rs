//! Disk offset → extents.

use std::sync::Arc;

use super::inspect::{self, Dynamic};
use super::layout::{Blocks, DIFFERENCING, ENTRY, FOOTER, HEADER, SECTOR, block_at, runs};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::{Image, Plain};
use crate::base::storage::{Be32, Pages, Source, Span, Window, Word};

pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let head = inspect::head(&*links.source)?;
    let size = head.size;
    let Some(dynamic) = head.dynamic else {
        Span::new(0, size)?.within(head.chosen.end, "the disk")?;
        return Ok(Box::new(Plain::new(links.source, size)));
    };
    let bat = Span::new(dynamic.header.bat, dynamic.blocks.on(size) * ENTRY)?;
    bat.within(links.source.len(), "the BAT")?;
    let differs = head.chosen.footer.kind == DIFFERENCING;
    let (pages, files) = (Pages::new(links.source.clone()), [links.source]);
    let leads = |word| block_at(word).is_some();
    let (entries, bitmap) = ((bat.start(), bat.len() / ENTRY), dynamic.blocks.bitmap);
    pages.room_for_tables::<Be32>(entries, bitmap, limits, leads)?;
    Ok(Box::new(Vhd { pages, dynamic, bat, size, differs, files }))
}

/// A disk in blocks.
struct Vhd {
    pages: Pages,
    dynamic: Dynamic,
    bat: Span,
    size: u64,
    /// What is not here is in the image underneath.
    differs: bool,
    files: [Arc<dyn Source>; 1],
}

impl Image for Vhd {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let Blocks { size, .. } = self.dynamic.blocks;
        let first = start / size;
        let (at, start) = (self.bat.start() + first * ENTRY, first * size);
        let (word, alike) = self.pages.look(at, self.bat.end() - at, |bytes| {
            let mut words = bytes.chunks_exact(4).map(Be32::get);
            let word = words.next();
            (word, 1 + words.take_while(|next| Some(*next) == word).count() as u64)
        })?;
        let word = word.ok_or_else(|| Error::truncated(at, "the BAT ends inside an entry"))?;
        match block_at(word) {
            // As many blocks that are not there as one look shows.
            None => {
                let end = (first + alike).saturating_mul(size).min(self.size);
                let place = if self.differs { Place::Backing } else { Place::Hole };
                out.push(Extent { start, len: end - start, place, depth: 0 });
                Ok(())
            }
            Some(block) => self.block(block, at, start, out),
        }
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Vhd {
    /// What the bitmap says of the block at `block`, which is for the disk from `start` on; `at` is
    /// where its entry stands.
    fn block(&self, block: u64, at: u64, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let Blocks { size, bitmap, .. } = self.dynamic.blocks;
        let span = Span::new(block, self.dynamic.blocks.whole())?;
        let header = Span::new(self.dynamic.at, HEADER)?;
        if [Span::new(0, FOOTER)?, header, self.bat].into_iter().any(|other| span.overlaps(other)) {
            let what = format!("a block lies at {block:#x}, over other structures");
            return Err(Error::malformed(at, what));
        }
        let len = size.min(self.size - start);
        let sectors = len.div_ceil(SECTOR);
        let mut bits = vec![0; usize::try_from(sectors.div_ceil(8)).expect("64 KiB at most")];
        Window::read(&**self.pages.source(), block, &mut bits)?;
        let mut skip = 0;
        for (there, sectors) in runs(&bits, sectors) {
            let run = (sectors * SECTOR).min(len - skip);
            let offset = block + bitmap + skip;
            let place = match (there, self.differs) {
                (true, _) => Place::Data { file: 0, offset },
                (false, true) => Place::Backing,
                (false, false) => Place::Zero { offset: Some(offset) },
            };
            push(out, Extent { start: start + skip, len: run, place, depth: 0 });
            skip += run;
        }
        Ok(())
    }
}
