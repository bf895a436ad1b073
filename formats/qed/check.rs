//! Looks for damage: entries that lead to where nothing can lie or something else lies, and
//! clusters of the file that nothing leads to.

use super::inspect::{self, Head};
use super::layout::Entry;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::claims::Claims;
use crate::base::model::finding::{Finding, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Le64, Pages};

/// Checks an image. Fails only if its header cannot be used, or past a limit.
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let head = inspect::head(&*links.source, limits)?;
    let claims = Claims::new(links.source.len(), head.geometry.cluster, limits)?;
    let mut check = Check { head: &head, report: Report::new(found), claims, next: None };
    check.tables(&Pages::new(links.source)).map_err(|error| error.format("qed"))?;
    check.leaks();
    let mut tally = check.report.tally;
    tally.total_clusters = head.header.size.div_ceil(head.geometry.cluster);
    tally.image_end_offset = check.claims.end();
    Ok(tally)
}

/// `Malformed` if a check finds a corruption: of an image that says that it may have some.
pub(super) fn sound(links: &Links, limits: &Limits) -> Result<()> {
    let mut first = None;
    check(links.clone(), limits, &mut |finding| {
        if finding.severity == Severity::Corruption && first.is_none() {
            first = Some(finding);
        }
    })?;
    match first {
        None => Ok(()),
        Some(Finding { what, at, .. }) => {
            let what = format!("it was not closed properly, and is damaged: {what}");
            Err(Error::malformed(at, what))
        }
    }
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
        let (l1, geometry) = (self.head.l1, self.head.geometry);
        self.claim(12, (0, geometry.header), "the header");
        self.claim(40, (l1.start(), l1.len()), "the L1 table");
        self.claims.visit(geometry.entries())?;
        pages.words::<Le64>(l1.start(), geometry.entries(), |index, at, word| {
            if word == 0 {
                return Ok(());
            }
            self.l2_table(pages, index, at, word)
        })
    }

    /// A table is gone over only by the first entry that leads to it: so there is an end to it.
    fn l2_table(&mut self, pages: &Pages, index: u64, at: u64, table: u64) -> Result<()> {
        let geometry = self.head.geometry;
        if !self.claim(at, (table, geometry.table), "an L2 table") {
            return Ok(());
        }
        self.claims.visit(geometry.entries())?;
        let base = index * geometry.entries();
        let all = self.head.header.size.div_ceil(geometry.cluster);
        self.next = None;
        pages.words::<Le64>(table, geometry.entries(), |index, at, word| {
            match Entry::of(word) {
                Entry::Unallocated | Entry::Zero => {}
                Entry::Data { offset } => self.cluster(at, offset, base + index, all),
            }
            Ok(())
        })
    }

    /// The cluster with this number, of `all`; the table may go on behind the end of the disk.
    fn cluster(&mut self, at: u64, offset: u64, number: u64, all: u64) {
        let Head { geometry, header, .. } = self.head;
        // The last cluster need be there only as far as the disk goes.
        let last = number + 1 == all && !header.size.is_multiple_of(geometry.cluster);
        let len = if last { header.size % geometry.cluster } else { geometry.cluster };
        self.claim(at, (offset, len), "a cluster of the disk");
        self.report.tally.allocated_clusters += u64::from(number < all);
        if self.next.is_some_and(|next| next != offset) {
            self.report.tally.fragmented_clusters += 1;
        }
        self.next = offset.checked_add(geometry.cluster);
    }

    /// Claims a stretch for what the entry at `at` leads to. Whether it was free.
    fn claim(&mut self, at: u64, span: (u64, u64), what: &str) -> bool {
        let (offset, len) = span;
        if offset != 0 && !self.head.geometry.is_place(offset) {
            let what = format!("{what} lies at {offset:#x}, in the header or inside a cluster");
            self.report.corruption(at, what);
            return false;
        }
        self.claims.claim(&mut self.report, at, (offset, len), what)
    }

    fn leaks(&mut self) {
        let (report, cluster) = (&mut self.report, self.head.geometry.cluster);
        self.claims.unused(|start, count| {
            let end = start + count * cluster;
            let what = format!("{count} clusters from {start:#x} to {end:#x} have no user");
            report.add(Severity::Leak, start, what);
            report.tally.leaks += count - 1;
        });
    }
}
