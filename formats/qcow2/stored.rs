//! The refcounts that a file holds: a table of blocks, read as needed.

use std::collections::BTreeSet;

use super::layout::{Counts, Geometry, Header, REFCOUNT_RESERVED};
use crate::base::error::Result;
use crate::base::storage::{Be64, Pages};

/// Where the refcounts lie. Nothing of them is kept in memory.
pub(super) struct Stored {
    pub(super) counts: Counts,
    /// Offset of the refcount table.
    pub(super) table: u64,
    /// Its entries.
    pub(super) entries: u64,
    cluster: u64,
    /// Blocks that cannot be read: what they say is not known.
    unknown: BTreeSet<u64>,
}

/// An entry of the refcount table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Which one.
    pub(super) index: u64,
    /// What it says.
    pub(super) word: u64,
    /// Where it stands.
    pub(super) at: u64,
}

impl Block {
    /// The offset it gives; 0 for a block that is not there, and counts as zeros.
    pub(super) fn offset(self) -> u64 {
        // The mask of other tables ends at bit 55; here all upper bits belong to the offset.
        self.word & !REFCOUNT_RESERVED
    }

    /// Whether it has bits that mean nothing.
    pub(super) fn is_reserved(self) -> bool {
        self.word & REFCOUNT_RESERVED != 0
    }
}

impl Stored {
    pub(super) fn new(header: &Header, geometry: Geometry) -> Stored {
        let cluster = geometry.cluster();
        Stored {
            counts: Counts { order: header.refcount_order },
            table: header.refcount_table_offset,
            entries: u64::from(header.refcount_table_clusters) * cluster / 8,
            cluster,
            unknown: BTreeSet::new(),
        }
    }

    /// Clusters that one block counts.
    pub(super) fn per_block(&self) -> u64 {
        self.counts.per(self.cluster)
    }

    /// Bytes of the table.
    pub(super) fn table_len(&self) -> u64 {
        self.entries * 8
    }

    /// Hands over all entries of the table that are not 0.
    pub(super) fn blocks(
        &self,
        pages: &Pages,
        mut look: impl FnMut(Block) -> Result<()>,
    ) -> Result<()> {
        pages.words::<Be64>(self.table, self.entries, |index, at, word| {
            if word == 0 { Ok(()) } else { look(Block { index, word, at }) }
        })
    }

    /// One entry of the table; past its end, one that says nothing.
    pub(super) fn block(&self, pages: &Pages, index: u64) -> Result<Block> {
        let at = self.table.saturating_add(index.saturating_mul(8));
        let mut found = Block { index, word: 0, at };
        if index < self.entries {
            pages.words::<Be64>(at, 1, |_, _, word| {
                found.word = word;
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Notes that a block cannot be read.
    pub(super) fn set_unknown(&mut self, index: u64) {
        self.unknown.insert(index);
    }

    /// Whether the refcount of a cluster cannot be read.
    pub(super) fn is_unknown(&self, cluster: u64) -> bool {
        !self.unknown.is_empty() && self.unknown.contains(&(cluster / self.per_block()))
    }

    /// Whether a block cannot be read.
    pub(super) fn is_block_unknown(&self, index: u64) -> bool {
        self.unknown.contains(&index)
    }

    /// Hands over the refcounts in a block, from its first on: the number of the first cluster
    /// of a piece, and the piece. What lies past the end of the file is left out, and is zero.
    pub(super) fn pieces(
        &self,
        pages: &Pages,
        block: Block,
        mut look: impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        let first = block.index.saturating_mul(self.per_block());
        pages.pieces(block.offset(), self.cluster, |done, bytes| {
            look(first.saturating_add(self.counts.per(done)), bytes);
            Ok(())
        })
    }

    /// The refcount of any cluster.
    pub(super) fn count(&self, pages: &Pages, cluster: u64) -> Result<u64> {
        let block = self.block(pages, cluster / self.per_block())?;
        if block.offset() == 0 {
            return Ok(0);
        }
        let index = cluster % self.per_block();
        let (bit, width) = (index << self.counts.order, 1_u64 << self.counts.order);
        let at = block.offset().saturating_add(bit / 8);
        let inside = usize::try_from((bit % 8) / width).expect("below 8");
        let mut count = 0;
        pages.pieces(at, width.div_ceil(8), |_, bytes| {
            if bytes.len() as u64 * 8 >= width {
                count = self.counts.get(bytes, inside);
            }
            Ok(())
        })?;
        Ok(count)
    }
}
