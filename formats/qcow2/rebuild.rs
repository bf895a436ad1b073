//! Refcount structures written anew, beside the old ones, which the header then forgets.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Compared, compare};
use super::layout::MAX_REFCOUNT_TABLE;
use super::stored::Stored;
use super::survey::Survey;
use super::usage::Usage;
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::finding::{Report, Severity};
use crate::base::storage::{Put, Storage};

/// Where the new structures lie, in one run of clusters: blocks, then the table.
struct Layout {
    /// Number of the first cluster.
    start: u64,
    /// Indices of the blocks that are needed.
    blocks: BTreeSet<u64>,
    /// Clusters of the table.
    table: u64,
}

impl Layout {
    fn clusters(&self) -> u64 {
        self.blocks.len() as u64 + self.table
    }

    /// The structures for all that is in use, and for themselves. `None` if the table would be
    /// larger than anybody reads.
    fn at(start: u64, usage: &Usage, stored: &Stored, cluster: u64) -> Option<Layout> {
        let per_block = stored.per_block();
        let mut this = Layout { start, blocks: BTreeSet::new(), table: 1 };
        let mut next = 0;
        while let Some(used) = usage.next_used(next, u64::MAX) {
            this.blocks.insert(used / per_block);
            next = (used / per_block + 1) * per_block;
        }
        loop {
            // More clusters may need more blocks, which are more clusters.
            let before = this.clusters();
            let last = (start + before - 1) / per_block;
            let bytes = (this.blocks.last().map_or(last, |index| last.max(*index)) + 1) * 8;
            if bytes.next_multiple_of(cluster) > MAX_REFCOUNT_TABLE.max(cluster) {
                return None;
            }
            this.blocks.extend(start / per_block..=last);
            this.table = this.table.max(bytes.div_ceil(cluster));
            if this.clusters() == before {
                return Some(this);
            }
        }
    }
}

/// Writes new refcount structures and makes the header point at them. `old` is what a check saw;
/// its findings are reported as fixed. If there is no room for them, nothing is changed.
pub(super) fn rebuild(
    storage: &Arc<dyn Storage>,
    old: &Survey,
    limits: &Limits,
    report: &mut Report,
) -> Result<()> {
    let mut ignore = |_| {};
    // Without the old structures: their clusters become free.
    let mut disk = Survey::new(old.head, old.pages, limits, &mut ignore)?;
    disk.disk()?;
    disk.has_seen_all()?;
    let Some(layout) = place(storage, old, &disk) else { return Ok(()) };
    let (table, clusters) = write(storage, &layout, &disk)?;
    let mut pointer = table.to_be_bytes().to_vec();
    pointer.extend(clusters.to_be_bytes());
    storage.put(48, &pointer)?;
    storage.settle()?;
    tell(old, table, report)
}

/// Writes refcounts for all that the disk of this head uses, from cluster `start` on, where nothing
/// lies; `disk` has counted it. Where the table lies, and how many clusters it takes: the header is
/// left as it is. `None` if the table would be larger than anybody reads.
pub(super) fn beside(
    storage: &Arc<dyn Storage>,
    disk: &Survey,
    start: u64,
) -> Result<Option<(u64, u32)>> {
    let cluster = disk.head.geometry.cluster();
    match Layout::at(start, &disk.usage, &disk.stored, cluster) {
        Some(layout) => write(storage, &layout, disk).map(Some),
        None => Ok(None),
    }
}

/// Writes the structures to where they have been laid out.
fn write(storage: &Arc<dyn Storage>, layout: &Layout, disk: &Survey) -> Result<(u64, u32)> {
    let cluster = disk.head.geometry.cluster();
    write_blocks(storage, layout, disk, cluster)?;
    let table = (layout.start + layout.blocks.len() as u64) * cluster;
    let mut entries = vec![0; usize::try_from(layout.table * cluster).expect("8 MiB at most")];
    for (index, number) in layout.blocks.iter().zip(layout.start..) {
        let at = usize::try_from(index * 8).expect("inside the table");
        entries[at..at + 8].copy_from_slice(&(number * cluster).to_be_bytes());
    }
    storage.put(table, &entries)?;
    storage.settle()?;
    Ok((table, u32::try_from(layout.table).expect("8 MiB at most")))
}

/// Behind all that is there; or, where the file cannot grow, where nothing is.
fn place(storage: &Arc<dyn Storage>, old: &Survey, disk: &Survey) -> Option<Layout> {
    let geometry = old.head.geometry;
    let (cluster, stored) = (geometry.cluster(), &old.stored);
    let end = old.usage.file_len().div_ceil(cluster).max(old.usage.clusters());
    let behind = Layout::at(end, &disk.usage, stored, cluster)?;
    let behind_end = end + behind.clusters();
    // An entry that leads behind the end must not come to lead into the new structures.
    let is_free = disk.beyond.is_none_or(|first| first >= behind_end);
    let fits = storage.fixed_len().is_none_or(|len| behind_end * cluster <= len);
    if is_free && fits {
        return Some(behind);
    }
    let mut inside = behind;
    for _ in 0..4 {
        let clusters = inside.clusters();
        let start = old.usage.find_free(clusters)?;
        inside = Layout::at(start, &disk.usage, stored, cluster)?;
        if inside.clusters() <= clusters {
            return Some(inside);
        }
    }
    None
}

fn write_blocks(
    storage: &Arc<dyn Storage>,
    layout: &Layout,
    disk: &Survey,
    cluster: u64,
) -> Result<()> {
    let (counts, per_block) = (disk.stored.counts, disk.stored.per_block());
    let new = layout.start..layout.start + layout.clusters();
    let mut bytes = vec![0; usize::try_from(cluster).expect("2 MiB at most")];
    for (&index, place) in layout.blocks.iter().zip(layout.start..) {
        bytes.fill(0);
        let covers = index * per_block..(index + 1) * per_block;
        let mut set = |number: u64, users: u64| {
            let inside = usize::try_from(number - covers.start).expect("inside a block");
            counts.set(&mut bytes, inside, users.min(counts.max()));
        };
        let mut next = covers.start;
        while let Some(used) = disk.usage.next_used(next, covers.end) {
            set(used, disk.usage.users(used));
            next = used + 1;
        }
        for number in new.start.max(covers.start)..new.end.min(covers.end) {
            set(number, 1);
        }
        storage.put(place * cluster, &bytes)?;
    }
    Ok(())
}

/// Reports what was wrong with the old structures, which still lie there.
fn tell(old: &Survey, table: u64, report: &mut Report) -> Result<()> {
    let what = format!("the refcount structures were broken; new ones lie at {table:#x}");
    report.fixed(Severity::Corruption, 48, what);
    let bits = old.head.geometry.cluster_bits;
    compare(&old.stored, &old.usage, old.pages, &mut |compared| {
        let Compared::Cluster { number, refcount, users } = compared else { return };
        if refcount == users || users > old.stored.counts.max() {
            return;
        }
        let leak = refcount > users;
        let severity = if leak { Severity::Leak } else { Severity::Corruption };
        let what = format!("cluster {number} had refcount {refcount} and {users} users");
        report.fixed(severity, number << bits, what);
    })
}
