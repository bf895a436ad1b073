//! The length is all there is to know.

use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::facts::Facts;
use crate::base::storage::Window;

/// Any bytes are a raw disk.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a probe")]
pub(super) fn probe(_: &dyn Window) -> Result<bool> {
    Ok(true)
}

/// `Awaiting` until the length is known.
pub(super) fn inspect(window: &dyn Window, _: &Limits) -> Result<Facts> {
    Ok(Facts::new("raw", "raw", window.len()?))
}
