//! Goes over all tables of an image: marks what is in use, and reports entries that cannot be.

use std::collections::BTreeMap;

use super::inspect::Head;
use super::layout::{
    BITMAP_ONES, BITMAP_RESERVED, BITMAPS, COMPRESSED, COPIED, L1_RESERVED, L2_RESERVED, OFFSET,
    ZERO, has_data,
};
use super::stored::Stored;
use super::usage::{Role, Usage};
use super::{bitmap, encryption, snapshot};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Report, Severity};
use crate::base::storage::{Be64, Pages, Window, Word};

/// Entries of L1 and bitmap tables that are visited for each one that `Limits::max_entries`
/// allows a list to have: 256 Mi of them, which is 2 GiB of tables. More than that only an image
/// has whose thousands of snapshots overlap.
const VISITS: u64 = 4096;
/// L2 tables for each such entry: 8 Mi, which is 4 PiB of disk with clusters of 64 KiB.
const TABLES: u64 = 128;
/// Bytes of L2 tables that are read at once, if they are more than one table.
const RUN: u64 = 1 << 20;
/// Bytes between two tables that are rather read than skipped.
const GAP: u64 = 4096;

/// How many L1 entries lead to an L2 table. However many they are, it is read once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refs {
    /// Entries of the L1 table in use, whose copied flags must be right.
    pub(super) active: u64,
    /// All, with those of snapshots.
    pub(super) total: u64,
}

/// What a walk over all tables learns.
pub(super) struct Survey<'a> {
    pub(super) head: &'a Head,
    pub(super) pages: &'a Pages,
    pub(super) report: Report<'a>,
    pub(super) usage: Usage,
    pub(super) stored: Stored,
    /// The L2 tables by their offsets: read in the order of the file.
    pub(super) tables: BTreeMap<u64, Refs>,
    /// A table that leads to others could not be read: what looks unused may be in use.
    pub(super) incomplete: bool,
    /// What storage failed with first.
    pub(super) failed: Option<Error>,
    /// The refcount structures are broken, not only their numbers.
    pub(super) broken: bool,
    /// Zero clusters keep clusters that are not aligned.
    pub(super) misplaced: bool,
    /// The first cluster behind the end of the file to which an entry leads.
    pub(super) beyond: Option<u64>,
    limits: &'a Limits,
    visits: u64,
}

impl<'a> Survey<'a> {
    /// `found` is told what is wrong.
    pub(super) fn new(
        head: &'a Head,
        pages: &'a Pages,
        limits: &'a Limits,
        found: &'a mut (dyn FnMut(Finding) + 'a),
    ) -> Result<Survey<'a>> {
        Ok(Survey {
            head,
            pages,
            report: Report::new(found),
            usage: Usage::new(pages.source().len(), head.geometry)?,
            stored: Stored::new(&head.header, head.geometry),
            tables: BTreeMap::new(),
            incomplete: false,
            failed: None,
            broken: false,
            misplaced: false,
            beyond: None,
            limits,
            visits: limits.max_entries.saturating_mul(VISITS),
        })
    }

    /// Goes over everything but the refcounts, of which it notes which are one.
    pub(super) fn disk(&mut self) -> Result<()> {
        self.singles()?;
        let header = &self.head.header;
        self.mark(0, (0, self.head.geometry.cluster()), Role::Sole, 1, "the header");
        self.l1_table(40, (header.l1_offset, header.l1_size), 1, true, "the L1 table")?;
        self.snapshots()?;
        self.encryption();
        self.bitmaps()?;
        self.l2_tables()?;
        let all = header.size.div_ceil(self.head.geometry.cluster());
        self.report.tally.total_clusters = all;
        Ok(())
    }

    /// Reports a failure to read; what only a limit stops, stops.
    pub(super) fn unreadable(&mut self, at: u64, what: &str, error: Error) -> Result<()> {
        match error.kind() {
            Kind::Limit | Kind::Cancelled => return Err(error),
            Kind::Malformed | Kind::Truncated | Kind::Unsupported => {
                self.report.corruption(at, format!("{what} cannot be used: {error}"));
            }
            Kind::Refused | Kind::Invalid | Kind::Io | Kind::Awaiting => {
                let what = format!("{what} cannot be read: {error}");
                self.report.add(Severity::Unreadable, at, what);
                self.keep(error);
            }
        }
        self.incomplete = true;
        Ok(())
    }

    /// Remembers what storage failed with.
    pub(super) fn keep(&mut self, error: Error) {
        if error.kind() == Kind::Io {
            self.failed.get_or_insert(error);
        }
    }

    /// Fails if not everything was seen: then what is in use may look free.
    pub(super) fn has_seen_all(&mut self) -> Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None if self.incomplete => Err(Error::malformed(0, "not all its tables can be read")),
            None => Ok(()),
        }
    }

    /// Takes a number of table entries off what may still be visited.
    fn spend(&mut self, entries: u64, at: u64) -> Result<()> {
        self.visits = self.visits.checked_sub(entries).ok_or_else(|| {
            let most = self.limits.max_entries.saturating_mul(VISITS);
            Error::limit(format!("its tables have more than {most} entries to go over")).at(at)
        })?;
        Ok(())
    }

    /// Counts `users` users of `len` bytes from `offset` on, which the entry at `at` names.
    /// Whether they lie in the file; if not, that is reported.
    pub(super) fn mark(
        &mut self,
        at: u64,
        span: (u64, u64),
        role: Role,
        users: u64,
        what: &str,
    ) -> bool {
        let (offset, len) = span;
        if len == 0 {
            return true;
        }
        let Some(clusters) = self.usage.touched(offset, len) else {
            let total = self.usage.file_len();
            let what =
                format!("{what} has {len} bytes at {offset:#x}, the file ends at {total:#x}");
            self.report.corruption(at, what);
            let bits = self.head.geometry.cluster_bits;
            let first = (offset >> bits).max(total >> bits);
            self.beyond = Some(self.beyond.map_or(first, |before| before.min(first)));
            return false;
        };
        for cluster in clusters {
            self.usage.add(cluster, role, users);
        }
        true
    }

    /// Marks an L1 table, and notes the L2 tables that it leads to.
    fn l1_table(
        &mut self,
        at: u64,
        table: (u64, u32),
        users: u64,
        active: bool,
        what: &str,
    ) -> Result<()> {
        let (offset, entries) = (table.0, u64::from(table.1));
        self.spend(entries, at)?;
        // What can be read of a table that the file's end cuts is gone over all the same.
        self.incomplete |= !self.mark(at, (offset, entries * 8), Role::Sole, users, what);
        let pages = self.pages;
        let walked = pages.words::<Be64>(offset, entries, |_, at, word| {
            if word == 0 { Ok(()) } else { self.l1_entry(at, word, users, active) }
        });
        walked.or_else(|error| self.unreadable(offset, what, error))
    }

    fn l1_entry(&mut self, at: u64, word: u64, users: u64, active: bool) -> Result<()> {
        let cluster = self.head.geometry.cluster();
        let offset = word & OFFSET;
        if word & L1_RESERVED != 0 {
            self.report.corruption(at, format!("L1 entry {word:#x} has reserved bits set"));
        }
        if offset == 0 {
            if word & COPIED != 0 {
                self.report.corruption(at, format!("L1 entry {word:#x} leads to the header"));
            }
            return Ok(());
        }
        if !offset.is_multiple_of(cluster) {
            self.report
                .corruption(at, format!("an L2 table lies at {offset:#x}, inside a cluster"));
        }
        self.mark(at, (offset, cluster), Role::Table, users, "an L2 table");
        if active {
            self.check_copied(at, word, "L1", false);
        }
        let most = self.limits.max_entries.saturating_mul(TABLES);
        if self.tables.len() as u64 >= most && !self.tables.contains_key(&offset) {
            return Err(Error::limit(format!("there are more than {most} L2 tables")).at(at));
        }
        let refs = self.tables.entry(offset).or_default();
        refs.total = refs.total.saturating_add(users);
        refs.active += u64::from(active);
        Ok(())
    }

    fn snapshots(&mut self) -> Result<()> {
        let head = self.head;
        let source: &dyn Window = &**self.pages.source();
        let list = snapshot::read(source, &head.header, self.limits).and_then(|list| {
            let len = snapshot::table_len(&list, source, &head.header)?;
            Ok((list, len))
        });
        let at = head.header.snapshots_offset;
        let (list, len) = match list {
            Ok(found) => found,
            Err(error) if error.kind() == Kind::Limit => {
                // A row that says too much says nothing; the others are still to be checked.
                self.report.corruption(at, format!("the snapshot table cannot be used: {error}"));
                self.incomplete = true;
                return Ok(());
            }
            Err(error) => return self.unreadable(at, "the snapshot table", error),
        };
        self.mark(64, (at, len), Role::Sole, 1, "the snapshot table");
        if head.geometry.data_file && !list.is_empty() {
            let what = format!("{} snapshots, which a data file does not have", list.len());
            self.report.corruption(60, what);
        }
        // Snapshots of one L1 table are one walk.
        let mut tables: BTreeMap<(u64, u32), (u64, u64)> = BTreeMap::new();
        for snapshot in &list {
            let table = (snapshot.l1_offset, snapshot.l1_size);
            tables.entry(table).or_insert((snapshot.at, 0)).1 += 1;
        }
        for (table, (at, users)) in tables {
            if !table.0.is_multiple_of(head.geometry.cluster()) {
                let what =
                    format!("a snapshot's L1 table lies at {:#x}, inside a cluster", table.0);
                self.report.corruption(at, what);
                self.incomplete = true;
                continue;
            }
            self.l1_table(at, table, users, false, "a snapshot's L1 table")?;
        }
        Ok(())
    }

    fn encryption(&mut self) {
        match encryption::place(&**self.pages.source(), self.head) {
            Ok(None) => {}
            Ok(Some(place)) => {
                let span = (place.offset, place.len);
                self.incomplete |= !self.mark(place.at, span, Role::Sole, 1, "the LUKS header");
            }
            Err(error) => {
                let what = format!("where the LUKS header lies cannot be read: {error}");
                self.report.add(Severity::Unreadable, 0, what);
                self.incomplete = true;
            }
        }
    }

    /// Bitmaps that the autoclear bit does not vouch for are not there: a writer that does not
    /// know them may have used their clusters for something else.
    fn bitmaps(&mut self) -> Result<()> {
        let head = self.head;
        let Some(directory) = head.bitmaps.filter(|_| head.header.autoclear & BITMAPS != 0) else {
            return Ok(());
        };
        let (at, len) = (directory.span.start(), directory.span.len());
        if directory.count == 0 {
            return Ok(());
        }
        self.mark(at, (at, len), Role::Sole, 1, "the bitmap directory");
        match bitmap::read(&**self.pages.source(), &directory, head.geometry) {
            Ok(list) => list.iter().try_for_each(|bitmap| {
                self.bitmap_table(at, bitmap.table_offset, u64::from(bitmap.table_size))
            }),
            Err(error) => self.unreadable(at, "the bitmap directory", error),
        }
    }

    fn bitmap_table(&mut self, at: u64, offset: u64, entries: u64) -> Result<()> {
        let cluster = self.head.geometry.cluster();
        let what = "a bitmap's table";
        self.spend(entries, at)?;
        if !offset.is_multiple_of(cluster) {
            self.report.corruption(at, format!("{what} lies at {offset:#x}, inside a cluster"));
            self.incomplete = true;
            return Ok(());
        }
        self.incomplete |= !self.mark(at, (offset, entries * 8), Role::Sole, 1, what);
        let pages = self.pages;
        let walked = pages.words::<Be64>(offset, entries, |_, at, word| {
            let place = word & OFFSET;
            let ones = place != 0 && word & BITMAP_ONES != 0;
            if word & BITMAP_RESERVED != 0 || ones || !place.is_multiple_of(cluster) {
                self.report.corruption(at, format!("entry {word:#x} of a bitmap's table"));
                // It may still be the only word about a cluster.
                self.incomplete |= place != 0;
            } else if place != 0 {
                self.mark(at, (place, cluster), Role::Sole, 1, "a bitmap");
            }
            Ok(())
        });
        walked.or_else(|error| self.unreadable(offset, what, error))
    }

    /// Goes over the L2 tables in the order of the file: those that lie together are one read.
    fn l2_tables(&mut self) -> Result<()> {
        let tables = std::mem::take(&mut self.tables);
        let cluster = self.head.geometry.cluster();
        let (mut run, mut bytes) = (Vec::new(), Vec::new());
        let mut rest = tables.iter().map(|(offset, refs)| (*offset, *refs)).peekable();
        while let Some(first) = rest.next() {
            run.clear();
            run.push(first);
            let mut end = first.0 + cluster;
            let follows =
                |next: u64, end: u64| next <= end + GAP && next + cluster - first.0 <= RUN;
            while let Some(next) = rest.next_if(|next| follows(next.0, end)) {
                end = next.0 + cluster;
                run.push(next);
            }
            if self.l2_run(&run, &mut bytes).is_ok() {
                continue;
            }
            for table in &run {
                if let Err(error) = self.l2_run(&[*table], &mut bytes) {
                    self.unreadable(table.0, "an L2 table", error)?;
                }
            }
        }
        self.tables = tables;
        Ok(())
    }

    /// Reads tables with one read, then goes over each: nothing is counted if that fails. What
    /// lies behind the end of the file is zeros.
    fn l2_run(&mut self, run: &[(u64, Refs)], bytes: &mut Vec<u8>) -> Result<()> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let (start, cluster) = (first.0, self.head.geometry.cluster());
        let end = (last.0 + cluster).min(self.usage.file_len());
        let place = |at: u64| usize::try_from(at).expect("inside a run");
        bytes.resize(place(end.saturating_sub(start)), 0);
        Window::read(&**self.pages.source(), start, bytes)?;
        for (offset, refs) in run {
            let from = place(offset - start).min(bytes.len());
            let to = place(offset - start + cluster).min(bytes.len());
            self.l2_table(*offset, *refs, &bytes[from..to]);
        }
        Ok(())
    }

    fn l2_table(&mut self, offset: u64, refs: Refs, bytes: &[u8]) {
        let geometry = self.head.geometry;
        let size = usize::try_from(geometry.entry_size()).expect("8 or 16");
        let mut next = None;
        for (index, entry) in bytes.chunks_exact(size).enumerate() {
            let word = Be64::get(entry);
            let bitmap = if geometry.extended { Be64::get(&entry[8..]) } else { 0 };
            if word | bitmap == 0 {
                continue;
            }
            let at = offset + (index * size) as u64;
            if word & COMPRESSED != 0 {
                self.packed_entry(at, word, bitmap, refs);
            } else {
                self.plain_entry(at, (word, bitmap), refs, &mut next);
            }
        }
    }

    fn packed_entry(&mut self, at: u64, word: u64, bitmap: u64, refs: Refs) {
        let geometry = self.head.geometry;
        if word & COPIED != 0 {
            self.report.corruption(at, format!("compressed entry {word:#x} has the copied flag"));
        }
        if bitmap != 0 {
            let what = format!("compressed entry {word:#x} has subclusters ({bitmap:#x})");
            self.report.corruption(at, what);
        }
        if geometry.data_file {
            let what = format!("compressed entry {word:#x}, which a data file does not have");
            return self.report.corruption(at, what);
        }
        let (offset, len) = geometry.packed(word);
        self.mark(at, (offset, len), Role::Data, refs.total, "a compressed cluster");
        self.report.tally.allocated_clusters += refs.active;
        self.report.tally.compressed_clusters += refs.active;
        // Its bytes do not begin where a cluster does, so it counts as fragmented.
        self.report.tally.fragmented_clusters += refs.active;
    }

    /// `next` is where the cluster would lie that follows the one before in this table.
    fn plain_entry(&mut self, at: u64, entry: (u64, u64), refs: Refs, next: &mut Option<u64>) {
        let (word, bitmap) = entry;
        let geometry = self.head.geometry;
        let (offset, cluster) = (word & OFFSET, geometry.cluster());
        self.check_plain(at, word, bitmap);
        let zero = word & ZERO != 0 && !geometry.extended;
        // In a data file the first cluster has offset 0; there, bit 63 tells it from none.
        if offset == 0 && (!geometry.data_file || word & COPIED == 0 || zero) {
            if has_data(bitmap) {
                let what = format!("L2 entry {word:#x} has data ({bitmap:#x}) and no cluster");
                self.report.corruption(at, what);
            }
            return;
        }
        if !offset.is_multiple_of(cluster) {
            let what = format!("a cluster of the disk lies at {offset:#x}, inside another");
            self.report.corruption(at, what);
            self.misplaced |= zero || (geometry.extended && !has_data(bitmap));
        }
        self.report.tally.allocated_clusters += refs.active;
        if next.is_some_and(|next| next != offset) {
            self.report.tally.fragmented_clusters += refs.active;
        }
        *next = Some(offset + cluster);
        if !geometry.data_file {
            self.mark(at, (offset, cluster), Role::Data, refs.total, "a cluster of the disk");
        }
        if refs.active > 0 {
            self.check_copied(at, word, "L2", geometry.data_file);
        }
    }

    /// The bits of an entry that can be wrong by themselves.
    fn check_plain(&mut self, at: u64, word: u64, bitmap: u64) {
        let geometry = self.head.geometry;
        let reserved = if geometry.extended { L2_RESERVED | ZERO } else { L2_RESERVED };
        if word & reserved != 0 {
            self.report.corruption(at, format!("L2 entry {word:#x} has reserved bits set"));
        }
        if bitmap >> 32 & bitmap != 0 {
            let what = format!("subclusters ({bitmap:#x}) are both data and zeros");
            self.report.corruption(at + 8, what);
        }
        if geometry.version == 2 && word & ZERO != 0 {
            let what =
                format!("L2 entry {word:#x} is a zero cluster, which version 2 does not have");
            self.report.corruption(at, what);
        }
    }

    /// The copied flag says that the stored refcount is one; in a data file nothing is shared.
    fn check_copied(&mut self, at: u64, word: u64, level: &str, always: bool) {
        let cluster = (word & OFFSET) >> self.head.geometry.cluster_bits;
        if !always && self.stored.is_unknown(cluster) {
            return;
        }
        let single = match self.usage.is_single(cluster) {
            _ if always => true,
            Some(single) => single,
            // Behind the end of the file; what cannot be read is reported elsewhere.
            None => self.stored.count(self.pages, cluster).is_ok_and(|count| count == 1),
        };
        if single != (word & COPIED != 0) {
            let flag = if single { "lacks the copied flag" } else { "has the copied flag" };
            let of = if single { "one" } else { "not one" };
            let what = format!("{level} entry {word:#x} {flag}, and the refcount is {of}");
            self.report.corruption(at, what);
        }
    }
}
