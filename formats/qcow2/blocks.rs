//! Goes over the refcount table and its blocks: the part of a survey that looks at what is stored.

use super::stored::{Block, Stored};
use super::survey::Survey;
use super::usage::Role;
use crate::base::error::Result;
use crate::base::model::finding::Severity;

impl Survey<'_> {
    /// Notes which refcounts are one, and which cannot be read.
    pub(super) fn singles(&mut self) -> Result<()> {
        let (pages, cluster) = (self.pages, self.head.geometry.cluster());
        let (usage, stored) = (&mut self.usage, &self.stored);
        let counts = stored.counts;
        let mut unknown = Vec::new();
        let walked = stored.blocks(pages, |block| {
            let first = block.index.saturating_mul(stored.per_block());
            if usage.is_single(first).is_none() {
                return Ok(());
            }
            if !block.offset().is_multiple_of(cluster) {
                unknown.push((block, None));
                return Ok(());
            }
            let read = stored.pieces(pages, block, |first, bytes| {
                let number = counts.per(bytes.len() as u64);
                for (cluster, index) in (first..first.saturating_add(number)).zip(0..) {
                    if counts.get(bytes, index) == 1 {
                        usage.set_single(cluster);
                    }
                }
            });
            if let Err(error) = read {
                unknown.push((block, Some(error)));
            }
            Ok(())
        });
        for (block, error) in unknown {
            self.stored.set_unknown(block.index);
            let what = match &error {
                Some(error) => format!("a refcount block cannot be read: {error}"),
                None => format!("what the refcount block of entry {} says", block.index),
            };
            self.report.add(Severity::Unreadable, block.at, what);
            if let Some(error) = error {
                self.keep(error);
            }
        }
        let table = self.stored.table;
        walked.or_else(|error| self.unreadable(table, "the refcount table", error))
    }

    /// Marks the refcount table and its blocks, which must have no other user.
    pub(super) fn refcounts(&mut self) -> Result<()> {
        let span = (self.stored.table, self.stored.table_len());
        self.broken |= !self.mark(48, span, Role::Sole, 1, "the refcount table");
        let pages = self.pages;
        let stored = Stored::new(&self.head.header, self.head.geometry);
        let walked = stored.blocks(pages, |block| {
            self.refcount_block(block);
            Ok(())
        });
        walked.or_else(|error| self.unreadable(span.0, "the refcount table", error))?;
        let bits = self.head.geometry.cluster_bits;
        let shared = self.usage.touched(span.0, span.1).into_iter().flatten();
        let broken = span.1 > 0 && shared.into_iter().any(|c| self.usage.users(c) > 1);
        self.broken |= broken || (span.0 >> bits == 0 && span.1 > 0);
        Ok(())
    }

    fn refcount_block(&mut self, block: Block) {
        let (offset, cluster) = (block.offset(), self.head.geometry.cluster());
        let (at, index) = (block.at, block.index);
        if block.is_reserved() {
            self.broken = true;
            let what = format!("refcount table entry {:#x} has reserved bits set", block.word);
            return self.report.corruption(at, what);
        }
        if !offset.is_multiple_of(cluster) {
            self.broken = true;
            let what = format!("refcount block {index} lies at {offset:#x}, inside a cluster");
            return self.report.corruption(at, what);
        }
        let place = offset >> self.head.geometry.cluster_bits;
        if !self.mark(at, (offset, cluster), Role::Sole, 1, "a refcount block") {
            self.broken = true;
        } else if self.usage.users(place) != 1 {
            self.broken = true;
            let users = self.usage.users(place);
            let what = format!("refcount block {index} at {offset:#x} has {users} users");
            self.report.corruption(at, what);
        }
    }
}
