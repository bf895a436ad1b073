//! Looks for damage: compares the stored refcounts with what the tables use.
//!
//! Findings and their number are those of `qemu-img check`, with these differences. Reported here
//! and not there: the mark that says the image is corrupt; metadata that lies over data or other
//! metadata, even where the refcounts agree; zero clusters in version 2. An L2 table that several
//! L1 entries lead to is read once, and its damage counts once. Where a table cannot be read that
//! leads to others, nothing is called a leak.

use std::ops::Range;

use super::inspect::{self, Head};
use super::layout::CORRUPT;
use super::stored::{Block, Stored};
use super::survey::Survey;
use super::usage::Usage;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::Pages;

/// Checks an image. Fails only if its header cannot be used, or past a limit.
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    tally(&Pages::new(links.source), limits, found).map_err(|error| error.format("qcow2"))
}

fn tally(pages: &Pages, limits: &Limits, found: &mut dyn FnMut(Finding)) -> Result<Tally> {
    let head = inspect::head(&**pages.source())?;
    let mut survey = examine(&head, pages, limits, found)?;
    if head.header.incompatible & CORRUPT != 0 {
        survey.report.corruption(72, MARKED);
    }
    Ok(survey.report.tally)
}

/// The finding for an image that says so of itself.
pub(super) const MARKED: &str = "it is marked as corrupt";

/// All that can be wrong but the marks in the header.
pub(super) fn examine<'a>(
    head: &'a Head,
    pages: &'a Pages,
    limits: &'a Limits,
    found: &'a mut (dyn FnMut(Finding) + 'a),
) -> Result<Survey<'a>> {
    let mut survey = Survey::new(head, pages, limits, found)?;
    survey.disk()?;
    survey.refcounts()?;
    let Survey { report, usage, stored, incomplete, failed, broken, .. } = &mut survey;
    let bits = head.geometry.cluster_bits;
    let mut end = 0;
    compare(stored, usage, pages, &mut |compared| match compared {
        Compared::Cluster { number, refcount, users } => {
            end = number + 1;
            let at = number << bits;
            let shared = usage.overlaps(number);
            let with = if shared { ", which cannot share it" } else { "" };
            if refcount < users {
                *broken |= refcount == 0 && !has_block(stored, pages, number);
                let what = format!("cluster {number} has refcount {refcount} and {users} users");
                report.corruption(at, what + with);
            } else if shared {
                report.corruption(at, format!("cluster {number} has {users} users{with}"));
            }
            if refcount > users && !*incomplete {
                let what = format!("cluster {number} has refcount {refcount} and {users} users");
                report.add(Severity::Leak, at, what);
            }
        }
        Compared::Unreadable { block, error } => {
            let what = format!("refcount block {} cannot be read: {error}", block.index);
            report.add(Severity::Unreadable, block.at, what);
            failed.get_or_insert(error);
        }
    })?;
    report.tally.image_end_offset = end << bits;
    Ok(survey)
}

/// Whether there is a block for the refcount of this cluster.
fn has_block(stored: &Stored, pages: &Pages, cluster: u64) -> bool {
    let block = stored.block(pages, cluster / stored.per_block());
    block.is_ok_and(|block| block.offset() != 0)
}

/// What a comparison comes upon.
pub(super) enum Compared {
    /// A cluster whose refcount, or number of users, is not 0.
    Cluster { number: u64, refcount: u64, users: u64 },
    /// A block that could be read a moment ago.
    Unreadable { block: Block, error: Error },
}

/// Goes over the clusters of the file in their order.
pub(super) fn compare(
    stored: &Stored,
    usage: &Usage,
    pages: &Pages,
    look: &mut dyn FnMut(Compared),
) -> Result<()> {
    let (end, per_block) = (usage.clusters(), stored.per_block());
    let mut next = 0;
    stored.blocks(pages, |block| {
        let first = block.index.saturating_mul(per_block);
        if first >= end || first < next {
            return Ok(());
        }
        uncounted(usage, next..first, look);
        next = first + per_block;
        if stored.is_block_unknown(block.index) {
            return Ok(());
        }
        let mut seen = first;
        let read = stored.pieces(pages, block, |first, bytes| {
            seen = first + stored.counts.per(bytes.len() as u64);
            for (number, index) in (first..seen.min(end)).zip(0..) {
                let (refcount, users) = (stored.counts.get(bytes, index), usage.users(number));
                if refcount | users != 0 {
                    look(Compared::Cluster { number, refcount, users });
                }
            }
        });
        match read {
            Ok(()) => uncounted(usage, seen..next, look),
            Err(error) => look(Compared::Unreadable { block, error }),
        }
        Ok(())
    })?;
    uncounted(usage, next..end, look);
    Ok(())
}

/// Clusters for which there is no block: their refcount is 0.
fn uncounted(usage: &Usage, clusters: Range<u64>, look: &mut dyn FnMut(Compared)) {
    let mut at = clusters.start;
    while let Some(number) = usage.next_used(at, clusters.end) {
        look(Compared::Cluster { number, refcount: 0, users: usage.users(number) });
        at = number + 1;
    }
}
