//! Looks for damage: clusters that are not there, lie over something else, or are used twice.
//!
//! As `qemu-img check` does, and in these cases differently: a file that was cut off is a finding
//! there with an assertion; the format extension and its bitmaps count as lost room there.

use std::sync::Arc;

use super::clusters::{entries, entry_at};
use super::descriptor;
use super::ext::{self, Extension};
use super::inspect::{self, Head};
use super::layout::{DATA_AT, IN_USE_AT, SECTOR};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::claims::{Claim, Claims};
use crate::base::model::finding::{Finding, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Pages, Source};

/// Clusters used twice that are noted at most: more are not mended.
const MAX_DOUBLE: usize = 1 << 20;

/// Checks an image, or every image of a bundle. Fails only if a header or the text cannot be used,
/// or past a limit.
#[expect(clippy::needless_pass_by_value, reason = "a CheckFn takes it by value")]
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    if inspect::is_image(&*links.source)? {
        return examine(&links.source, limits, found).map(|survey| survey.report.tally);
    }
    let bundle = descriptor::read(&*links.source, limits)?;
    let mut files = links.extents.iter();
    let mut sum = Tally::default();
    for storage in &bundle.storages {
        for image in &storage.images {
            let file = files.next().ok_or_else(|| {
                Error::refused("its bytes are in other files, which were not given")
            })?;
            let mut say = |finding: Finding| {
                let what = format!("'{}': {}", image.file, finding.what);
                found(Finding { what, ..finding });
            };
            let tally = match image.plain {
                true => plain(&**file, storage.end - storage.start, &mut say),
                false => examine(file, limits, &mut say)?.report.tally,
            };
            sum = together(sum, tally);
        }
    }
    Ok(sum)
}

/// A file that has all bytes of its range, or not.
fn plain(file: &dyn Source, size: u64, found: &mut dyn FnMut(Finding)) -> Tally {
    let mut report = Report::new(found);
    let len = file.len();
    if len < size {
        report.corruption(len, format!("the file ends at {len}, its range at {size}"));
    }
    report.tally
}

fn together(one: Tally, two: Tally) -> Tally {
    Tally {
        corruptions: one.corruptions + two.corruptions,
        leaks: one.leaks + two.leaks,
        check_errors: one.check_errors + two.check_errors,
        corruptions_fixed: one.corruptions_fixed + two.corruptions_fixed,
        leaks_fixed: one.leaks_fixed + two.leaks_fixed,
        total_clusters: one.total_clusters + two.total_clusters,
        allocated_clusters: one.allocated_clusters + two.allocated_clusters,
        fragmented_clusters: one.fragmented_clusters + two.fragmented_clusters,
        compressed_clusters: one.compressed_clusters + two.compressed_clusters,
        image_end_offset: one.image_end_offset.max(two.image_end_offset),
    }
}

/// What there is to know of the clusters of an image.
pub(super) struct Survey<'a> {
    pub(super) head: Head,
    pub(super) report: Report<'a>,
    pub(super) extension: Option<Extension>,
    /// Where the last cluster in use ends.
    pub(super) end: u64,
    /// Clusters behind that.
    pub(super) lost: u64,
    /// Clusters of the disk whose place another one has, too: number, and that place.
    pub(super) double: Vec<(u64, u64)>,
    claims: Claims,
}

/// Looks at everything.
pub(super) fn examine<'a>(
    source: &Arc<dyn Source>,
    limits: &Limits,
    found: &'a mut (dyn FnMut(Finding) + 'a),
) -> Result<Survey<'a>> {
    let head = inspect::head(&**source)?;
    let (data, cluster) = (head.geometry.data, head.geometry.cluster);
    let claims = Claims::new(source.len().saturating_sub(data), cluster, limits)?;
    let report = Report::new(found);
    let (extension, end, lost, double) = (None, data, 0, Vec::new());
    let mut survey = Survey { head, report, extension, end, lost, double, claims };
    survey.report.tally.total_clusters = survey.head.geometry.needed();
    survey.header(&**source, limits)?;
    survey.table(&Pages::new(source.clone()))?;
    survey.behind(source.len());
    Ok(survey)
}

impl Survey<'_> {
    fn header(&mut self, source: &dyn Source, limits: &Limits) -> Result<()> {
        let Head { header, geometry } = self.head.clone();
        if self.head.is_dirty() {
            self.report.corruption(IN_USE_AT, NOT_CLOSED);
        }
        if geometry.wrong {
            self.report.corruption(DATA_AT, wrong_data(&self.head));
        }
        if geometry.table_end() > source.len() && geometry.entries > 0 {
            let what = format!("the file ends at {}, inside the table", source.len());
            self.report.corruption(source.len(), what);
        }
        if header.ext == 0 {
            return Ok(());
        }
        match ext::read(source, header.ext, geometry, limits) {
            Ok(extension) => {
                for (offset, len) in &extension.spans {
                    self.claim(56, *offset, *len, "the format extension or a bitmap");
                }
                self.extension = Some(extension);
            }
            Err(error) => match error.kind() {
                Kind::Malformed | Kind::Truncated | Kind::Unsupported | Kind::Limit => {
                    let what = format!("the format extension cannot be used: {error}");
                    self.report.corruption(56, what);
                }
                Kind::Refused | Kind::Invalid | Kind::Io | Kind::Cancelled | Kind::Awaiting => {
                    return Err(error);
                }
            },
        }
        Ok(())
    }

    fn table(&mut self, pages: &Pages) -> Result<()> {
        let geometry = self.head.geometry;
        self.claims.visit(geometry.entries)?;
        let mut before = None;
        entries(pages, geometry, 0..geometry.entries, |index, at, offset| {
            self.report.tally.allocated_clusters += u64::from(index < geometry.needed());
            let follows = |(last, end): (u64, u64)| last + 1 != index || end == offset;
            self.report.tally.fragmented_clusters += u64::from(!before.is_none_or(follows));
            before = Some((index, offset + geometry.cluster));
            let len = geometry.reached(index);
            if self.claim(at, offset, len, "a cluster of the disk") == Some(Claim::Taken)
                && self.double.len() <= MAX_DOUBLE
            {
                self.double.push((index, offset));
            }
            Ok(())
        })
    }

    /// Claims a stretch for what the word at `at` leads to. Says what it was, or nothing if
    /// nothing can lie there.
    fn claim(&mut self, at: u64, offset: u64, len: u64, what: &str) -> Option<Claim> {
        let geometry = self.head.geometry;
        if !geometry.is_place(offset) {
            let what = format!("{what} lies at {offset:#x}, over the table or inside a cluster");
            self.report.corruption(at, what);
            return None;
        }
        let claim = self.claims.take(offset - geometry.data, len);
        match claim {
            Claim::Free => {}
            Claim::Taken => {
                let what = format!("{what} lies at {offset:#x}, where something else lies, too");
                self.report.corruption(at, what);
            }
            Claim::Beyond => {
                let total = geometry.data + self.claims.file_len();
                let what =
                    format!("{what} has {len} bytes at {offset:#x}, the file ends at {total:#x}");
                self.report.corruption(at, what);
            }
        }
        if claim != Claim::Beyond {
            self.end = self.end.max(offset.saturating_add(geometry.cluster));
        }
        Some(claim)
    }

    /// Room behind the last cluster in use. What lies between clusters, a writer uses again.
    fn behind(&mut self, len: u64) {
        self.report.tally.image_end_offset = self.end;
        self.lost = len.saturating_sub(self.end).div_ceil(self.head.geometry.cluster);
        if self.lost > 0 {
            let what = format!("{} clusters behind the last one in use", self.lost);
            self.report.add(Severity::Leak, self.end, what);
            self.report.tally.leaks += self.lost - 1;
        }
    }

    /// Whether nothing is wrong that a repair cannot mend.
    pub(super) fn is_mendable(&self) -> bool {
        let marks = u64::from(self.head.is_dirty()) + u64::from(self.head.geometry.wrong);
        let known = self.double.len() as u64 + marks;
        self.report.tally.corruptions == known && self.double.len() <= MAX_DOUBLE
    }
}

/// The finding for an image that says so of itself.
pub(super) const NOT_CLOSED: &str = "it was not closed properly";

/// The finding for a header that is wrong about where clusters begin.
pub(super) fn wrong_data(head: &Head) -> String {
    let (sector, data) = (head.header.data, head.geometry.data / SECTOR);
    format!("clusters begin at sector {sector}, it says, where they cannot; {data} would be right")
}

/// The finding for a cluster that another one uses, too.
pub(super) fn shared(index: u64, offset: u64) -> (u64, String) {
    (entry_at(index), format!("cluster {index} lay at {offset:#x}, where something else lies, too"))
}
