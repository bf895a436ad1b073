//! Looks for damage: entries that lead out of the file, or to where something else lies.
//!
//! The format keeps no account of its clusters, so room that nobody uses is no leak of it.

use super::inspect::{self, Head};
use super::layout::{Entry, LENGTH};
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::claims::Claims;
use crate::base::model::finding::{Finding, Report, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Be64, Pages};

/// The unit in which the file is given out: compressed clusters may begin at any byte.
const SECTOR: u64 = 512;

/// Checks an image. Fails only if its header cannot be used, or past a limit.
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let head = inspect::head(&*links.source, limits)?;
    let claims = Claims::new(links.source.len(), SECTOR, limits)?;
    let next = None;
    let mut check = Check { head: &head, report: Report::new(found), claims, next };
    check.tables(&Pages::new(links.source)).map_err(|error| error.format("qcow"))?;
    let mut tally = check.report.tally;
    tally.total_clusters = head.header.size.div_ceil(head.geometry.cluster());
    tally.image_end_offset = check.claims.end();
    Ok(tally)
}

struct Check<'a> {
    head: &'a Head,
    report: Report<'a>,
    claims: Claims,
    /// Where the cluster would lie that follows the one before.
    next: Option<u64>,
}

impl Check<'_> {
    fn tables(&mut self, pages: &Pages) -> Result<()> {
        let l1 = self.head.l1;
        self.claims.take(0, LENGTH as u64);
        if l1.end() > pages.source().len() {
            self.report.corruption(40, "the file ends inside the L1 table");
        }
        // The table may begin in the sector of the header, behind the backing file's name.
        let shared = l1.start() / SECTOR == 0;
        let skip = if shared { (SECTOR - l1.start()).min(l1.len()) } else { 0 };
        self.claim(40, (l1.start() + skip, l1.len() - skip), "the L1 table");
        self.claims.visit(l1.len().min(pages.source().len()) / 8)?;
        pages.words::<Be64>(l1.start(), l1.len() / 8, |index, at, word| {
            if word == 0 {
                return Ok(());
            }
            self.l2_table(pages, index, at, word)
        })
    }

    /// A table is gone over only by the first entry that leads to it: so there is an end to it.
    fn l2_table(&mut self, pages: &Pages, index: u64, at: u64, table: u64) -> Result<()> {
        let geometry = self.head.geometry;
        if !table.is_multiple_of(8) {
            self.report.corruption(at, format!("an L2 table lies at {table:#x}, not aligned"));
            return Ok(());
        }
        if !self.claim(at, (table, geometry.l2_len()), "an L2 table") {
            return Ok(());
        }
        let base = index * geometry.l2_reach();
        let left = (self.head.header.size - base).div_ceil(geometry.cluster());
        let count = left.min(geometry.l2_entries());
        self.claims.visit(count)?;
        pages.words::<Be64>(table, count, |index, at, word| {
            let start = base + (index << geometry.cluster_bits);
            self.cluster(start, at, word);
            Ok(())
        })
    }

    fn cluster(&mut self, start: u64, at: u64, word: u64) {
        let cluster = self.head.geometry.cluster();
        // The last cluster need be there only as far as the disk goes.
        let needed = cluster.min(self.head.header.size - start);
        match self.head.geometry.entry(word) {
            Entry::Unallocated => return,
            Entry::Data { offset } => {
                if !offset.is_multiple_of(SECTOR) {
                    let what = format!("a cluster of the disk lies at {offset:#x}, in a sector");
                    self.report.corruption(at, what);
                }
                self.claim(at, (offset, needed), "a cluster of the disk");
                if self.next.is_some_and(|next| next != offset) {
                    self.report.tally.fragmented_clusters += 1;
                }
                self.next = offset.checked_add(cluster);
            }
            Entry::Packed { offset, len } => {
                if len == 0 {
                    self.report.corruption(at, "a compressed cluster has no bytes");
                }
                // It may share its first and its last sector with others of its kind.
                let inner = offset.next_multiple_of(SECTOR);
                let end = (offset + len) / SECTOR * SECTOR;
                let inside = offset + len <= self.claims.file_len();
                if end > inner || !inside {
                    let span = if inside { (inner, end - inner) } else { (offset, len) };
                    self.claim(at, span, "a compressed cluster");
                }
                self.report.tally.compressed_clusters += 1;
                self.report.tally.fragmented_clusters += 1;
            }
        }
        self.report.tally.allocated_clusters += 1;
    }

    /// Claims a stretch for what the entry at `at` leads to. Whether it was free.
    fn claim(&mut self, at: u64, span: (u64, u64), what: &str) -> bool {
        self.claims.claim(&mut self.report, at, span, what)
    }
}
