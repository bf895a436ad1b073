//! The length of the file is the size of the disk.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Put, Storage};

/// `Io` where storage has no such length: a block device.
#[expect(clippy::needless_pass_by_value, reason = "a ResizeFn takes it by value")]
pub(super) fn resize(file: Arc<dyn Storage>, size: u64, _: &Limits) -> Result<()> {
    file.set_len(size).map_err(|error| Error::io("cannot set its length", error))?;
    file.settle()
}
