//! Without a key there is nothing to read.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Links;
use crate::base::model::image::Image;

use super::inspect;

/// `Unsupported`: the content is encrypted. A damaged header is an error of its own.
#[expect(clippy::needless_pass_by_value, reason = "an open takes it by value")]
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    inspect::inspect(&*links.source, limits)?;
    Err(Error::unsupported("its content is encrypted, and there is no key for it"))
}
