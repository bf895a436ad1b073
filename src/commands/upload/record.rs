//! What the service is told of an image before it comes.

use std::collections::BTreeMap;

use formats::{Error, Format, Result};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Args;
use crate::client::Visibility;

/// What a property may not be called: these are said in other ways, or by the service.
const TAKEN: [&str; 24] = [
    "id",
    "name",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "visibility",
    "tags",
    "protected",
    "os_hidden",
    "status",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "owner",
    "created_at",
    "updated_at",
    "locations",
    "direct_url",
    "self",
    "file",
    "schema",
];

/// Which formats the record says.
pub(super) struct Shape {
    disk: &'static str,
    container: &'static str,
}

impl Shape {
    /// Those of what is sent; `Refused` if others were asked for.
    pub(super) fn of(
        format: &Format,
        disk: Option<&str>,
        container: Option<&str>,
    ) -> Result<Shape> {
        let name = format.name;
        let found = spoken(format)?;
        // Parts of an Amazon machine: raw bytes, which say the same in both places.
        if let Some(amazon) = ["ami", "ari", "aki"].into_iter().find(|n| Some(*n) == disk) {
            if name != "raw" || container.is_some_and(|container| container != amazon) {
                let what = format!("{amazon} is raw, and its container {amazon} as well");
                return Err(Error::refused(what));
            }
            return Ok(Shape { disk: amazon, container: amazon });
        }
        if let Some(stated) = disk {
            let meant = formats::format(stated).map_or(stated, |format| format.name);
            if meant != name && stated != found.disk {
                let what = format!("its bytes are {name}, and --disk-format says {stated}");
                return Err(Error::refused(what));
            }
        }
        match container {
            Some(stated) if stated != found.container => {
                let what = format!(
                    "its container is {}, and --container-format says {stated}",
                    found.container
                );
                Err(Error::refused(what))
            }
            _ => Ok(found),
        }
    }
}

/// A format in the words of image services.
fn spoken(format: &Format) -> Result<Shape> {
    // A descriptor without its disks is nothing to send.
    let disk = Some(format.name).filter(|name| *name != "ovf");
    let disk = disk.and_then(|name| metadata::disk_format(name, name)).ok_or_else(|| {
        let what = "image services know no such format; --convert qcow2 makes one that they do";
        Error::unsupported(format!("{}: {what}", format.name))
    })?;
    let container = metadata::container_format(format.name, format.name);
    Ok(Shape { disk, container })
}

/// A property, as it is typed.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a property is KEY=VALUE")?;
    if key.is_empty() || TAKEN.contains(&key) || key.starts_with("os_glance_") {
        return Err(format!("'{key}' is no name of a property"));
    }
    Ok((key.into(), value.into()))
}

/// A new record. `known`: properties that were read off the disk; those that were typed have it.
pub(super) fn record(
    args: &Args,
    shape: &Shape,
    disk_size: Option<u64>,
    known: &BTreeMap<&'static str, String>,
) -> Map<String, Value> {
    let mut record = Map::new();
    let mut add = |key: &str, value: Value| record.insert(key.into(), value);
    let id = args.id.unwrap_or_else(Uuid::new_v4);
    add("id", json!(id.hyphenated().to_string()));
    add("name", json!(args.name));
    add("disk_format", json!(shape.disk));
    add("container_format", json!(shape.container));
    let smallest = disk_size.map_or(0, metadata::min_disk).max(args.min_disk.unwrap_or(0));
    add("min_disk", json!(smallest));
    if let Some(memory) = args.min_ram {
        add("min_ram", json!(memory));
    }
    if let Some(visibility) = args.visibility {
        let name = match visibility {
            Visibility::Public => "public",
            Visibility::Private => "private",
            Visibility::Shared => "shared",
            Visibility::Community => "community",
        };
        add("visibility", json!(name));
    }
    if !args.tags.is_empty() {
        add("tags", json!(args.tags));
    }
    if args.hidden {
        add("os_hidden", json!(true));
    }
    for (key, value) in known {
        add(key, json!(value));
    }
    for (key, value) in &args.properties {
        add(key, json!(value));
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_has_a_name_of_its_own() {
        assert_eq!(property("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(property("a="), Ok(("a".into(), String::new())));
        for bad in ["a", "=b", "size=1", "os_glance_x=1", "protected=true"] {
            assert!(property(bad).is_err(), "{bad}");
        }
    }
}
