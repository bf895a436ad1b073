//! Descriptors, boot catalog, partition tables → facts.

use super::catalog::{self, Catalog};
use super::dates;
use super::descriptors::{self, Descriptors};
use super::layout::{BootImage, Record, SECTOR, SYSTEM_AREA_BYTES, Volume};
use super::names;
use super::rock_ridge;
use crate::base::error::{Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::storage::Window;

/// What stands in front of the checksum that some media carry of themselves.
const CHECKSUM: &str = "ISO MD5SUM = ";

/// Everything that the descriptors lead to; the end of the file is asked for last.
pub(super) fn inspect(window: &dyn Window, _: &Limits) -> Result<Facts> {
    let found = descriptors::read(window)?;
    let root = found.primary.as_ref().and_then(|(_, volume)| root(volume));
    if let Some(sector) = found.catalog {
        catalog::expect(window, sector);
    }
    let rock_ridge = match &root {
        Some(at) => there(rock_ridge::skip(window, *at))?.flatten().is_some(),
        None => false,
    };
    let boot = match found.catalog {
        Some(sector) => there(catalog::read(window, sector))?,
        None => None,
    };
    let tables = partition_tables(window)?;
    let size = window.len()?;
    let mut facts = Facts::new("iso", variant(&found), size);
    let mut add = |name, value: Value| facts.details.push(Detail { name, value });
    if let Some((_, volume)) = &found.primary {
        texts(volume, found.joliet.as_ref().map(|(_, joliet)| joliet), &mut add);
        add("declared-size", Value::Bytes(volume.declared()));
    }
    if let Some(level) = found.joliet.as_ref().and_then(|(_, volume)| volume.joliet()) {
        add("joliet", Value::Number(level));
    }
    if found.primary.is_some() {
        add("rock-ridge", rock_ridge.into());
    }
    if let Some(version) = found.udf {
        add("udf", Value::Text(String::from_utf8_lossy(&version).into_owned()));
    }
    if let Some(boot) = &boot {
        add("firmware", words(boot.firmware()));
        add("boot-images", Value::List(boot.images.iter().map(boot_value).collect()));
    }
    if !tables.is_empty() {
        add("partition-tables", words(tables));
    }
    if let Some(sum) = found.primary.as_ref().and_then(|(_, volume)| checksum(volume)) {
        add("md5sum", Value::Text(sum));
    }
    facts.hazards = hazards(&found, root, boot.as_ref(), size);
    Ok(facts)
}

/// What is there; `None` if the file ends before it.
fn there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == Kind::Truncated => Ok(None),
        other => other.map(Some),
    }
}

fn words(list: Vec<&'static str>) -> Value {
    Value::List(list.into_iter().map(Value::from).collect())
}

fn variant(found: &Descriptors) -> &'static str {
    match (&found.primary, &found.joliet, found.udf) {
        (Some(_), _, Some(_)) => "UDF bridge",
        (Some(_), Some(_), None) => "ISO 9660 with Joliet",
        (Some(_), None, None) => "ISO 9660",
        (None, ..) => "UDF",
    }
}

/// Where the root directory begins.
fn root(volume: &Volume) -> Option<u64> {
    let root = Record::parse(&volume.root)?;
    let block = u64::from(root.extent.value) + u64::from(root.attributes);
    Some(block * u64::from(volume.block.value))
}

/// What the descriptor says in words, where it says something.
fn texts(volume: &Volume, joliet: Option<&Volume>, add: &mut impl FnMut(&'static str, Value)) {
    let label = names::padded(&volume.label);
    // Joliet's label has capitals and small letters, and more than Latin ones.
    let wide = joliet.map(|joliet| names::padded_wide(&joliet.label)).unwrap_or_default();
    let differs = wide != label && !wide.is_empty();
    add("volume-id", Value::Text(label));
    if differs {
        add("joliet-volume-id", Value::Text(wide));
    }
    let fields = [
        ("system-id", &volume.system[..]),
        ("volume-set-id", &volume.set),
        ("publisher-id", &volume.publisher),
        ("preparer-id", &volume.preparer),
        ("application-id", &volume.application),
    ];
    for (name, bytes) in fields {
        let text = names::padded(bytes);
        if !text.is_empty() {
            add(name, Value::Text(text));
        }
    }
    if let Some(created) = dates::long(&volume.dates[0]) {
        add("created", Value::Text(dates::text(created)));
    }
}

fn boot_value(image: &BootImage) -> Value {
    Value::Map(vec![
        ("platform", catalog::platform(image.platform).into()),
        ("bootable", image.bootable.into()),
        ("emulation", catalog::media(image.media).into()),
        ("sectors", u64::from(image.sectors).into()),
        ("offset", Value::Number(u64::from(image.sector) * SECTOR)),
    ])
}

/// The tables of partitions in the system area.
fn partition_tables(window: &dyn Window) -> Result<Vec<&'static str>> {
    let area = window.array::<SYSTEM_AREA_BYTES>(0)?;
    let entries = area[446..510].chunks_exact(16);
    let mut used = entries.filter(|entry| entry[12..16] != [0; 4]);
    let mbr = area[510..512] == [0x55, 0xaa] && used.next().is_some();
    let gpt = [512, 2048, 4096].iter().any(|at| area[*at..].starts_with(b"EFI PART"));
    let apm =
        area.starts_with(b"ER") || [512, 2048].iter().any(|at| area[*at..].starts_with(b"PM\0\0"));
    let kinds = [(mbr, "mbr"), (gpt, "gpt"), (apm, "apm")];
    Ok(kinds.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect())
}

/// The checksum that a medium carries of itself.
fn checksum(volume: &Volume) -> Option<String> {
    let text = String::from_utf8_lossy(&volume.own);
    let (_, rest) = text.split_once(CHECKSUM)?;
    let sum = rest.get(..32).filter(|sum| sum.chars().all(|c| c.is_ascii_hexdigit()))?;
    Some(sum.to_owned())
}

fn hazards(
    found: &Descriptors,
    root: Option<u64>,
    boot: Option<&Catalog>,
    size: u64,
) -> Vec<Hazard> {
    let mut hazards = Vec::new();
    let mut add = |kind, what: String| hazards.push(Hazard { kind, what });
    for (at, volume) in found.primary.iter().chain(&found.joliet) {
        if let Some(what) = volume.mismatch() {
            let what = format!("the two copies of the {what} differ (at byte {at:#x})");
            add(HazardKind::Irregular, what);
        }
        if root.is_none() {
            add(HazardKind::Corrupt, format!("there is no root directory (at byte {at:#x})"));
        }
    }
    if found.primary.is_some() && !found.ended {
        add(HazardKind::Irregular, "the list of descriptors has no end".into());
    }
    let declared = found.declared();
    if declared > size {
        let what = format!("the volume takes {declared} bytes, and the file ends at {size}");
        add(HazardKind::Corrupt, what);
    }
    if let Some(fault) = boot.and_then(|boot| boot.fault) {
        add(HazardKind::Irregular, fault.into());
    }
    if found.catalog.is_some() && boot.is_none() {
        add(HazardKind::Corrupt, "the boot catalog lies behind the end of the file".into());
    }
    hazards
}
