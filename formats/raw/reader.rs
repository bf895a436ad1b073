//! Disk offset is file offset.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::Source;

struct Raw {
    files: [Arc<dyn Source>; 1],
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an open")]
pub(super) fn open(links: Links, _: &Limits) -> Result<Box<dyn Image>> {
    Ok(Box::new(Raw { files: [links.source] }))
}

impl Image for Raw {
    fn disk_size(&self) -> u64 {
        self.files[0].len()
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let fail = |error| Error::io("cannot ask what is allocated", error).at(start);
        let found = self.files[0].allocated(start).map_err(fail)?;
        let place = match found.data {
            true => Place::Data { file: 0, offset: start },
            false => Place::Zero { offset: Some(start) },
        };
        out.push(Extent { start, len: found.end - start, place, depth: 0 });
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}
