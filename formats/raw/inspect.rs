//! The length is all there is to know; the front of the disk tells what it may be for.

use super::content::describe;
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
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let size = window.len()?;
    let content = describe(window, limits)?;
    let mut facts = Facts::new("raw", content.variant, size);
    facts.details = content.details;
    Ok(facts)
}
