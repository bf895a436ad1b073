//! Refcounts of a file that grows: who uses each cluster, written as the file passes by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::{Counts, MAX_REFCOUNT_TABLE};
use crate::base::error::{Error, Result};
use crate::base::storage::{Put, Target};

/// Gives out clusters, one behind the other, and counts their users. Memory does not grow with
/// the file: refcount blocks are written as soon as the file has left them behind.
pub(super) struct Allocator {
    target: Arc<dyn Target>,
    cluster_bits: u32,
    counts: Counts,
    /// Number of the next cluster to give out.
    next: u64,
    /// Refcount blocks that still change.
    open: BTreeMap<u64, Vec<u8>>,
    /// Offsets of the refcount blocks written.
    table: Vec<u64>,
}

impl Allocator {
    /// Of a file in which nothing has been given out.
    pub(super) fn new(target: Arc<dyn Target>, cluster_bits: u32, order: u32) -> Allocator {
        let counts = Counts { order };
        Allocator {
            target,
            cluster_bits,
            counts,
            next: 0,
            open: BTreeMap::new(),
            table: Vec::new(),
        }
    }

    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Where the file ends so far.
    pub(super) fn end(&self) -> u64 {
        self.next << self.cluster_bits
    }

    /// The largest refcount.
    pub(super) fn max(&self) -> u64 {
        self.counts.max()
    }

    /// Clusters that one refcount block counts.
    fn per_block(&self) -> u64 {
        self.counts.per(self.cluster())
    }

    /// `count` clusters in a row, each used once; the offset of the first. Blocks that lie before
    /// `keep`, a cluster whose users are still being counted, may be written out.
    pub(super) fn take(&mut self, count: u64, keep: Option<u64>) -> Result<u64> {
        let first = self.next;
        self.next += count;
        for cluster in first..self.next {
            self.add(cluster)?;
        }
        let settled = keep.unwrap_or(first).min(first) / self.per_block();
        while let Some((&index, _)) = self.open.first_key_value() {
            if index >= settled {
                break;
            }
            self.write_block(index)?;
        }
        Ok(first << self.cluster_bits)
    }

    /// One more user of a cluster; how many there are now.
    pub(super) fn add(&mut self, cluster: u64) -> Result<u64> {
        let (per_block, bytes, counts) = (self.per_block(), self.cluster(), self.counts);
        let bytes = usize::try_from(bytes).expect("a cluster is 2 MiB at most");
        let block = self.open.entry(cluster / per_block).or_insert_with(|| vec![0; bytes]);
        let index = usize::try_from(cluster % per_block).expect("inside a block");
        let users = counts.get(block, index) + 1;
        if users > counts.max() {
            return Err(Error::limit(format!(
                "a cluster has {users} users, {} at most",
                counts.max()
            )));
        }
        counts.set(block, index, users);
        Ok(users)
    }

    /// Writes a block into a cluster of its own, which may open another block.
    fn write_block(&mut self, index: u64) -> Result<()> {
        let offset = self.end();
        self.next += 1;
        self.add(offset >> self.cluster_bits)?;
        let Some(block) = self.open.remove(&index) else { return Ok(()) };
        self.target.put(offset, &block)?;
        let index = usize::try_from(index).map_err(|_| Error::limit("too many refcount blocks"))?;
        if self.table.len() <= index {
            self.table.resize(index + 1, 0);
        }
        self.table[index] = offset;
        Ok(())
    }

    /// Writes all that is left, and the table: its offset and its clusters.
    pub(super) fn finish(&mut self) -> Result<(u64, u64)> {
        let per_block = self.per_block();
        let written = self.table.iter().filter(|offset| **offset != 0).count() as u64;
        // The blocks and the table need clusters themselves, which need blocks: both grow until
        // they agree.
        let (mut blocks, mut clusters) = (0, 1);
        loop {
            let all = (self.next + blocks + clusters).div_ceil(per_block);
            let need = (all - written, (all * 8).div_ceil(self.cluster()));
            if need == (blocks, clusters) {
                break;
            }
            (blocks, clusters) = need;
        }
        if clusters << self.cluster_bits > MAX_REFCOUNT_TABLE {
            let what = "the image is too large for clusters and refcounts of these sizes";
            return Err(Error::limit(what));
        }
        let first_block = self.next;
        self.next += blocks + clusters;
        for cluster in first_block..self.next {
            self.add(cluster)?;
        }
        let mut offset = first_block << self.cluster_bits;
        for (index, block) in std::mem::take(&mut self.open) {
            self.target.put(offset, &block)?;
            let index =
                usize::try_from(index).map_err(|_| Error::limit("too many refcount blocks"))?;
            if self.table.len() <= index {
                self.table.resize(index + 1, 0);
            }
            self.table[index] = offset;
            offset += self.cluster();
        }
        let at = (first_block + blocks) << self.cluster_bits;
        let mut bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let room = clusters << self.cluster_bits;
        bytes.resize(usize::try_from(room).map_err(|_| Error::limit("too large a table"))?, 0);
        self.target.put(at, &bytes)?;
        Ok((at, clusters))
    }
}
