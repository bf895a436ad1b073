//! What is known of the disk that is sent, as properties of its record.

use std::collections::BTreeMap;

use formats::{Error, Result};

use super::load::Asked;
use crate::inspection::Inspection;
use crate::report::{escape, note};

/// The properties of what is sent. `Invalid` for what goes by only once: its record is made before.
pub(super) fn properties(asked: &Asked) -> Result<BTreeMap<&'static str, String>> {
    let once = || Error::invalid("--describe wants an image that can be read twice");
    if asked.path.as_os_str() == "-" {
        return Err(once());
    }
    let stated = asked.format.map(formats::format).transpose()?;
    let inspection = Inspection::of(asked.path, stated, asked.opening, &[])?;
    if inspection.source.is_none() {
        return Err(once());
    }
    let known = inspection.metadata(asked.path, asked.opening, false)?;
    for why in &known.notes {
        note(&format!("diskwright: {}", escape(why)));
    }
    let mut properties = known.properties;
    // What is true of the file that is read, and not of the one that is made of it.
    if asked.convert.is_some() {
        properties.retain(|name, _| !name.starts_with("vmware_") && *name != "hw_disk_bus");
    }
    Ok(properties)
}
