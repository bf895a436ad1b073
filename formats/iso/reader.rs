//! The whole file is the disk: what follows the volume may be a partition, or a table of them.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Links;
use crate::base::model::image::{Image, Plain};

use super::descriptors;

/// `Truncated` if the file ends before the volume does.
pub(super) fn open(links: Links, _: &Limits) -> Result<Box<dyn Image>> {
    let size = links.source.len();
    let declared = descriptors::read(&*links.source)?.declared();
    if declared > size {
        let what = format!("the volume takes {declared} bytes, and the file ends at {size}");
        return Err(Error::truncated(size, what));
    }
    Ok(Box::new(Plain::new(links.source, size)))
}
