//! The settings that an image was made with, to make another one like it.

use super::descriptor::Descriptor;
use super::inspect::{self, Form};
use super::layout::{COMPRESSED, ZERO_GRAINS};
use super::options;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::create::{Create, Options};
use crate::base::storage::Window;

/// `Unsupported` for an image in several files or of a kind that is not written; `Refused` for one
/// with a parent.
pub(super) fn likeness(window: &dyn Window, limits: &Limits) -> Result<Create> {
    let Form::Sparse(head, inside) = inspect::form(window, limits)? else {
        return Err(Error::unsupported("its disk lies in other files, which are not made anew"));
    };
    let Some(header) = &head.header else {
        return Err(Error::unsupported("such an extent is not written"));
    };
    if inside.as_ref().is_some_and(Descriptor::has_parent) {
        return Err(Error::refused("it has a parent, which a new image would not have"));
    }
    let mut settings = Options::default();
    let stream = header.flags & COMPRESSED != 0;
    settings.set("subformat", if stream { "streamOptimized" } else { "monolithicSparse" });
    if header.flags & ZERO_GRAINS != 0 && !stream {
        settings.set("zeroed_grain", "on");
    }
    for (setting, option) in
        [("ddb.adapterType", "adapter_type"), ("ddb.virtualHWVersion", "hwversion")]
    {
        let Some(value) = inside.as_ref().and_then(|text| text.setting(setting)) else { continue };
        let mut tried = settings.clone();
        tried.set(option, value);
        // What we would not write ourselves is left to the default.
        if options::accepts(&tried) {
            settings = tried;
        }
    }
    Ok(Create { size: head.shape.size, options: settings, ..Create::default() })
}
