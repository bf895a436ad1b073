//! Disk offset → bytes of the member, or a hole in it.

use std::sync::Arc;

use super::inspect::disk;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::Stretch;
use crate::base::model::extent::{Extent, Place};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::Source;

/// Extents that one look gives.
const AT_ONCE: usize = 64;

struct Disk {
    files: [Arc<dyn Source>; 1],
    /// Each with where it begins on the disk.
    stretches: Vec<(u64, Stretch)>,
    size: u64,
}

pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    Ok(Box::new(Disk::new(links.source, limits)?))
}

/// The stretches lie in the archive in the order of the disk.
pub(super) fn forward(source: Arc<dyn Source>, limits: &Limits) -> Result<Option<Box<dyn Image>>> {
    Ok(Some(Box::new(Disk::new(source, limits)?)))
}

impl Disk {
    fn new(source: Arc<dyn Source>, limits: &Limits) -> Result<Disk> {
        let member = disk(&*source, limits)?;
        let mut stretches = Vec::new();
        let mut start = 0_u64;
        for stretch in member.stretches {
            stretches.push((start, stretch));
            start = start.checked_add(stretch.len).ok_or_else(|| {
                Error::malformed(member.header, "the stretches of the disk do not end in 2^64")
            })?;
        }
        Ok(Disk { files: [source], stretches, size: start })
    }
}

impl Image for Disk {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let after = self.stretches.partition_point(|(first, _)| *first <= start);
        for (first, stretch) in self.stretches.iter().skip(after.saturating_sub(1)).take(AT_ONCE) {
            let place = match stretch.offset {
                Some(offset) => Place::Data { file: 0, offset },
                None => Place::Zero { offset: None },
            };
            out.push(Extent { start: *first, len: stretch.len, place, depth: 0 });
        }
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}
