//! Disk offset is file offset.

use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::format::Links;
use crate::base::model::image::{Image, Plain};

#[expect(clippy::unnecessary_wraps, reason = "the shape of an open")]
pub(super) fn open(links: Links, _: &Limits) -> Result<Box<dyn Image>> {
    let size = links.source.len();
    Ok(Box::new(Plain::new(links.source, size)))
}
