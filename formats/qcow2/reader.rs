//! Disk offset → extents.

use std::sync::Arc;

use super::inspect::{self, Head};
use super::layout::{COMPRESSED, Entry, Geometry, OFFSET, Subcluster, subcluster};
use super::snapshot::{self, Snapshot};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Packed, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Be64, Pages, Source, Span, Word};

struct Qcow2 {
    pages: Pages,
    geometry: Geometry,
    size: u64,
    /// Offset of the L1 table in use: the current one or a snapshot's.
    l1: u64,
    /// What lies where no cluster was given out.
    missing: Place,
    files: Vec<Arc<dyn Source>>,
    /// Which file has the plain clusters.
    data: usize,
}

/// Opens the current state, or the snapshot that was asked for by identifier or name.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let head = inspect::head(&*links.source)?;
    let header = &head.header;
    if header.crypt_method != 0 {
        return Err(Error::unsupported("its content is encrypted, and there is no key for it"));
    }
    let (mut l1, mut l1_size, mut size) = (header.l1_offset, header.l1_size, header.size);
    if let Some(wanted) = &links.snapshot {
        let found = find(&snapshot::read(&*links.source, header, limits)?, wanted)?;
        (l1, l1_size, size) = (found.l1_offset, found.l1_size, found.facts.disk_size);
    }
    check_l1(&head, l1, l1_size, size)?;
    let total = links.source.len();
    Span::new(l1, u64::from(l1_size) * 8)?.within(total, "the L1 table")?;
    // Not needed to read the disk; but where it is missing the file was cut, and what else is
    // missing shows only when it is read.
    let clusters = u64::from(header.refcount_table_clusters);
    let refcounts = Span::new(header.refcount_table_offset, clusters * head.geometry.cluster())?;
    refcounts.within(total, "the refcount table")?;
    let missing = if head.backing.is_some() { Place::Backing } else { Place::Hole };
    let mut files = vec![links.source.clone()];
    files.extend(links.data_file);
    if head.geometry.data_file && files.len() == 1 {
        return Err(Error::refused("its bytes are in a data file, which was not given"));
    }
    let data = files.len() - 1;
    let geometry = head.geometry;
    let pages = Pages::new(links.source);
    let count = u64::from(l1_size).min(size.div_ceil(geometry.l2_reach()));
    let leads = |entry| entry & OFFSET != 0;
    pages.room_for_tables::<Be64>((l1, count), geometry.cluster(), limits, leads)?;
    Ok(Box::new(Qcow2 { pages, geometry, size, l1, missing, files, data }))
}

fn find(list: &[Snapshot], wanted: &str) -> Result<Snapshot> {
    let by_id = list.iter().find(|snapshot| snapshot.facts.id == wanted);
    let found = by_id.or_else(|| list.iter().find(|snapshot| snapshot.facts.name == wanted));
    found.cloned().ok_or_else(|| {
        Error::invalid(format!("there is no snapshot '{wanted}' in it; {} are there", list.len()))
    })
}

fn check_l1(head: &Head, l1: u64, l1_size: u32, size: u64) -> Result<()> {
    let reach = u128::from(l1_size) * u128::from(head.geometry.l2_reach());
    if !l1.is_multiple_of(head.geometry.cluster()) || reach < u128::from(size) {
        let what = format!("an L1 table of {l1_size} entries for {size} bytes of disk");
        return Err(Error::malformed(l1, what));
    }
    Ok(())
}

impl Image for Qcow2 {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let reach = self.geometry.l2_reach();
        let index = start / reach;
        let count = self.size.div_ceil(reach) - index;
        let at = self.l1 + index * 8;
        let (entry, empty) = self.pages.look(at, count * 8, |bytes| {
            let mut entries = bytes.chunks_exact(8).map(Be64::get);
            let first = entries.next().map_or(0, |entry| entry & OFFSET);
            (first, 1 + entries.take_while(|entry| entry & OFFSET == 0).count() as u64)
        })?;
        if entry == 0 {
            // As many empty L1 entries as one look shows.
            let end = (index + empty).saturating_mul(reach).min(self.size);
            out.push(Extent { start, len: end - start, place: self.missing, depth: 0 });
            return Ok(());
        }
        if !entry.is_multiple_of(self.geometry.cluster()) {
            let what = format!("an L2 table lies at {entry:#x}, inside a cluster");
            return Err(Error::malformed(at, what));
        }
        self.l2_extents(entry, index * reach, start, out)
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

impl Qcow2 {
    /// Goes over an L2 table, which is for the disk from `base` on, beginning at `start`.
    fn l2_extents(&self, table: u64, base: u64, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let Geometry { cluster_bits, .. } = self.geometry;
        let size = self.geometry.entry_size();
        let first = (start - base) >> cluster_bits;
        let left = (self.size - base).div_ceil(self.geometry.cluster());
        let count = left.min(self.geometry.l2_entries()) - first;
        let at = table + first * size;
        // Extended entries can be 32 extents each.
        let count = if self.geometry.extended { count.min(512) } else { count };
        self.pages.look(at, count * size, |bytes| {
            let size = usize::try_from(size).expect("8 or 16");
            let start = |index: usize| base + ((first + index as u64) << cluster_bits);
            let mut index = 0;
            while let Some(entry) = bytes.get(index * size..(index + 1) * size) {
                let left = bytes[index * size..].chunks_exact(size);
                let empty = left.take_while(|entry| entry.iter().all(|byte| *byte == 0)).count();
                if empty > 0 {
                    // Most of a large disk: at once, and not cluster by cluster.
                    let (start, end) = (start(index), start(index + empty).min(self.size));
                    push(out, Extent { start, len: end - start, place: self.missing, depth: 0 });
                } else {
                    let at = at + (index * size) as u64;
                    self.cluster_extents(entry, at, start(index), out)?;
                }
                index += empty.max(1);
            }
            if bytes.len() < size {
                return Err(Error::truncated(at, "the file ends inside an L2 table"));
            }
            Ok(())
        })?
    }

    /// What one entry says about the cluster that begins at `start`; `at` is where it stands.
    fn cluster_extents(
        &self,
        entry: &[u8],
        at: u64,
        start: u64,
        out: &mut Vec<Extent>,
    ) -> Result<()> {
        let word = Be64::get(entry);
        let bitmap = if self.geometry.extended { Be64::get(&entry[8..]) } else { 0 };
        let len = self.geometry.cluster().min(self.size - start);
        let aligned = |offset: u64| match offset.is_multiple_of(self.geometry.cluster()) {
            true => Ok(offset),
            false => {
                Err(Error::malformed(at, format!("a cluster lies at {offset:#x}, inside another")))
            }
        };
        let place = match self.geometry.entry(word, bitmap) {
            Entry::Unallocated => self.missing,
            Entry::Zero { .. } if self.geometry.version == 2 => {
                return Err(Error::malformed(at, "a zero cluster, which version 2 does not have"));
            }
            Entry::Zero { offset } => Place::Zero { offset: offset.map(aligned).transpose()? },
            Entry::Data { offset } => Place::Data { file: self.data, offset: aligned(offset)? },
            Entry::Mixed { offset, bitmap } => {
                return self.mixed_extents(aligned(offset)?, bitmap, at, start, out);
            }
            Entry::Packed { .. } if self.geometry.data_file => {
                return Err(Error::malformed(at, "a compressed cluster in a data file"));
            }
            Entry::Packed { offset, len } => {
                let codec = self.geometry.codec;
                let unit = self.geometry.cluster();
                Place::Packed(Packed { file: 0, offset, len, unit, skip: 0, codec })
            }
        };
        if word & COMPRESSED == 0
            && self.data == 0
            && matches!(place, Place::Data { offset: 0, .. })
        {
            return Err(Error::malformed(at, "a cluster of the disk lies at 0, over the header"));
        }
        push(out, Extent { start, len, place, depth: 0 });
        Ok(())
    }

    /// A cluster whose subclusters differ.
    fn mixed_extents(
        &self,
        offset: u64,
        bitmap: u64,
        at: u64,
        start: u64,
        out: &mut Vec<Extent>,
    ) -> Result<()> {
        let size = self.geometry.subcluster();
        for index in 0..32 {
            let skip = u64::from(index) * size;
            if start + skip >= self.size {
                break;
            }
            let place = match subcluster(bitmap, index) {
                Some(Subcluster::Unallocated) => self.missing,
                Some(Subcluster::Zero) => {
                    Place::Zero { offset: (offset != 0).then_some(offset + skip) }
                }
                Some(Subcluster::Data) if offset == 0 && self.data == 0 => {
                    return Err(Error::malformed(at, "subclusters with data, and no cluster"));
                }
                Some(Subcluster::Data) => Place::Data { file: self.data, offset: offset + skip },
                None => {
                    let what = format!("subcluster {index} is both data and zeros");
                    return Err(Error::malformed(at + 8, what));
                }
            };
            let len = size.min(self.size - (start + skip));
            push(out, Extent { start: start + skip, len, place, depth: 0 });
        }
        Ok(())
    }
}
