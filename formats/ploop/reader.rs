//! Disk offset → extents; of a bundle: images on top of each other, and behind each other.

use std::sync::Arc;

use super::descriptor::{self, Bundle};
use super::inspect::{self, Head};
use super::layout::{ENTRY, Geometry, LENGTH};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place, push};
use crate::base::model::format::Links;
use crate::base::model::image::{Image, Joined, Plain, Stack};
use crate::base::storage::{Le32, Pages, Source, Span, Word};

/// An image, or all images of a bundle as one.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    if !inspect::is_image(&*links.source)? {
        let bundle = descriptor::read(&*links.source, limits)?;
        return stacked(&bundle, &links);
    }
    if let Some(wanted) = &links.snapshot {
        let what = format!("there is no snapshot '{wanted}': only bundles have some");
        return Err(Error::invalid(what));
    }
    Ok(Box::new(Ploop::new(links.source, Place::Hole)?))
}

struct Ploop {
    pages: Pages,
    geometry: Geometry,
    /// What lies where no cluster was given out.
    missing: Place,
    /// There is no table at all.
    is_empty: bool,
    files: [Arc<dyn Source>; 1],
}

impl Ploop {
    fn new(source: Arc<dyn Source>, missing: Place) -> Result<Ploop> {
        let Head { geometry, .. } = inspect::head(&*source)?;
        let is_empty = inspect::lacks_table(&*source)?;
        if !is_empty {
            let table = Span::new(LENGTH, geometry.needed() * ENTRY)?;
            table.within(source.len(), "the table")?;
        }
        Ok(Ploop {
            pages: Pages::new(source.clone()),
            geometry,
            missing,
            is_empty,
            files: [source],
        })
    }

    fn place(&self, entry: u64, at: u64) -> Result<Place> {
        match self.geometry.offset(entry) {
            None => Ok(self.missing),
            Some(offset) if offset >= self.geometry.data => Ok(Place::Data { file: 0, offset }),
            Some(offset) => {
                let what = format!("a cluster lies at {offset:#x}, over the table");
                Err(Error::malformed(at, what))
            }
        }
    }
}

impl Image for Ploop {
    fn disk_size(&self) -> u64 {
        self.geometry.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let Geometry { cluster, size, .. } = self.geometry;
        if self.is_empty {
            out.push(Extent { start, len: size - start, place: self.missing, depth: 0 });
            return Ok(());
        }
        let first = start / cluster;
        let at = LENGTH + first * ENTRY;
        let len = (self.geometry.needed() - first) * ENTRY;
        self.pages.look(at, len, |bytes| {
            if bytes.len() < Le32::SIZE {
                return Err(Error::truncated(at, "the file ends inside the table"));
            }
            for (index, word) in (0..).zip(bytes.chunks_exact(Le32::SIZE)) {
                let start = (first + index) * cluster;
                let place = self.place(Le32::get(word), at + index * ENTRY)?;
                push(out, Extent { start, len: cluster.min(size - start), place, depth: 0 });
            }
            Ok(())
        })?
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

/// The images of a bundle, from the state that was asked for downwards.
fn stacked(bundle: &Bundle, links: &Links) -> Result<Box<dyn Image>> {
    if bundle.encrypted {
        return Err(Error::unsupported("its content is encrypted, and there is no key for it"));
    }
    let wanted = links.snapshot.as_deref().map(|wanted| bundle.depth(wanted));
    let depth = wanted.transpose()?.unwrap_or(0);
    let mut files = links.extents.iter();
    let mut ranges: Vec<Box<dyn Image>> = Vec::new();
    for storage in &bundle.storages {
        let size = storage.end - storage.start;
        let last = storage.images.len() - 1;
        let mut layers: Vec<Box<dyn Image>> = Vec::new();
        for (index, image) in storage.images.iter().enumerate() {
            let file = files.next().ok_or_else(|| {
                Error::refused("its bytes are in other files, which were not given")
            })?;
            if index < depth {
                continue;
            }
            let layer = layer(file.clone(), image.plain, size, index < last);
            layers.push(layer.map_err(|error| error.path(file.name()))?);
        }
        let top = layers[0].disk_size();
        if top != size {
            let what = format!("an image of {top} bytes for a range of {size}");
            return Err(Error::malformed(0, what));
        }
        ranges.push(Box::new(Stack::new(layers)));
    }
    Ok(Box::new(Joined::new(ranges)?))
}

fn layer(file: Arc<dyn Source>, plain: bool, size: u64, has_more: bool) -> Result<Box<dyn Image>> {
    if plain {
        return Ok(Box::new(Plain::new(file, size)));
    }
    let missing = if has_more { Place::Backing } else { Place::Hole };
    Ok(Box::new(Ploop::new(file, missing)?))
}
