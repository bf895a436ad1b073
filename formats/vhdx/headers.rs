//! Changes of the headers of a file that is there: one at a time, so that one of them is sound at
//! every moment.

use std::sync::Arc;

use super::inspect;
use super::layout::{Guid, HEADERS, Header, guid_text};
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::{Identity, swap_uuid};
use crate::base::storage::{Put, Storage};

/// Writes both headers anew, first the one that is not in use, with higher numbers and what
/// `change` makes of them. Each is in storage before the next thing happens.
pub(super) fn update(storage: &Arc<dyn Storage>, change: impl Fn(&mut Header)) -> Result<()> {
    let (mut header, current) = inspect::header(&**storage)?;
    change(&mut header);
    for index in [1 - current, current] {
        let next = header.sequence.checked_add(1);
        header.sequence = next.ok_or_else(|| {
            Error::malformed(HEADERS[index], "the number of the headers is the highest there is")
        })?;
        storage.put(HEADERS[index], &header.sealed())?;
        storage.settle()?;
    }
    Ok(())
}

/// An identifier for what an image becomes when `change` is done to it: it follows from the old.
pub(super) fn next_guid(old: Guid, change: &str) -> Guid {
    let mut create = Create::default();
    create.options.set("before", guid_text(old));
    swap_uuid(Identity::of("vhdx", &create).uuid(change))
}
