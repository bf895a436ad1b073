//! What is known of an image, in one record: as machines read it, by a published schema.

use std::collections::BTreeMap;

use contents::Contents;
use formats::{Digest, Facts, Hazard, Reference};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::json::value;
use crate::names;
use crate::properties::{Property, properties};

/// The version of the schema. It changes when a key goes away or means something else; keys may
/// come at any time.
pub const SCHEMA_VERSION: u32 = 1;
/// The schema, as JSON Schema of 2020-12.
pub const SCHEMA: &str = include_str!("schema.json");

/// What is known of an image. What is not known is absent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata {
    /// Version of the schema.
    pub schema: u32,
    /// Its name, as it was given.
    pub filename: String,
    /// Name of the format.
    pub format: &'static str,
    /// Which kind of it.
    pub variant: &'static str,
    /// Every format that the bytes match.
    pub formats: Vec<&'static str>,
    /// The compression around it, the outermost first.
    pub wrappers: Vec<&'static str>,
    /// Bytes of the disk, as the guest sees it.
    pub virtual_size: u64,
    /// Bytes of the file, inside the compression.
    pub file_size: u64,
    /// Bytes that it takes where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual_size: Option<u64>,
    /// GiB of the disk, rounded up.
    pub min_disk: u64,
    /// What an image service calls the format; absent if it has no word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<&'static str>,
    /// What it calls the container.
    pub container_format: &'static str,
    /// Whether nothing about it is dangerous.
    pub safe: bool,
    /// What is.
    pub hazards: Vec<HazardRecord>,
    /// Names that it utters.
    pub references: Vec<ReferenceRecord>,
    /// Whether the content is encrypted.
    pub encrypted: bool,
    /// Whether it was not closed properly.
    pub dirty: bool,
    /// What else its headers say.
    pub details: Map<String, Value>,
    /// Digests of the file as it is stored, in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<&'static str, String>,
    /// How the disk is divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_table: Option<TableRecord>,
    /// What lies in the partitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_systems: Vec<FileSystemRecord>,
    /// How it boots, and what it boots.
    #[serde(skip_serializing_if = "SystemRecord::is_empty")]
    pub system: SystemRecord,
    /// What could not be read of the disk, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// All that as properties of an image service.
    pub properties: BTreeMap<&'static str, String>,
    /// Where each property came from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub explain: BTreeMap<&'static str, String>,
}

/// Something dangerous.
#[derive(Debug, Clone, Serialize)]
pub struct HazardRecord {
    /// Its sort.
    pub kind: &'static str,
    /// It, in a sentence.
    pub what: String,
}

/// A name that an image utters.
#[derive(Debug, Clone, Serialize)]
pub struct ReferenceRecord {
    /// What for.
    pub role: &'static str,
    /// The name.
    pub name: String,
    /// The format that it says the file has.
    pub format: Option<String>,
}

/// A partition table.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableRecord {
    /// `mbr`, `gpt`, `hybrid`.
    pub kind: &'static str,
    /// Bytes of a sector.
    pub sector_size: u64,
    /// What the disk is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionRecord>,
    /// What is wrong with it.
    pub problems: Vec<HazardRecord>,
}

/// A partition.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionRecord {
    /// Its number.
    pub number: u32,
    /// Where it begins.
    pub start: u64,
    /// Its bytes.
    pub size: u64,
    /// A GUID, or `0x` and two digits.
    pub r#type: String,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_name: Option<&'static str>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether PCs boot from it.
    pub bootable: bool,
}

/// A file system.
#[derive(Debug, Clone, Serialize)]
pub struct FileSystemRecord {
    /// Its partition; absent if it takes the whole disk, or a logical volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its logical volume, with the name of the group in front.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// `ext4`, `xfs`, ...
    pub kind: &'static str,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// An operating system, and how it is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SystemRecord {
    /// `bios`, `uefi`, `both`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<&'static str>,
    /// `x86_64`, `aarch64`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<&'static str>,
    /// `linux`, `windows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// `debian`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The newest kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Whether cloud-init is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<bool>,
    /// Whether qemu's guest agent is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_agent: Option<bool>,
}

/// What metadata is made of.
pub struct Findings<'a> {
    /// The name of the image.
    pub filename: String,
    /// What it says of itself.
    pub facts: &'a Facts,
    /// Every format that its bytes match.
    pub formats: &'a [&'static str],
    /// The compression around it.
    pub wrappers: Vec<&'static str>,
    /// Bytes of the file.
    pub len: u64,
    /// Bytes that it takes where it lies.
    pub stored: Option<u64>,
    /// Digests of what is stored.
    pub digests: &'a [Digest],
    /// What lies on the disk, or why nobody looked.
    pub contents: std::result::Result<&'a Contents, String>,
}

impl Metadata {
    /// The record of these findings; with `explain`, where each property came from.
    pub fn of(findings: Findings, explain: bool) -> Metadata {
        let Findings { filename, facts, formats, wrappers, len, stored, digests, contents } =
            findings;
        let nothing = Contents::default();
        let (contents, notes) = match contents {
            Ok(contents) => (contents, contents.notes.clone()),
            Err(why) => (&nothing, vec![why]),
        };
        let all = properties(facts, contents);
        let pairs = |with: fn(&Property) -> &String| {
            all.iter().map(|property| (property.name, with(property).clone())).collect()
        };
        Metadata {
            schema: SCHEMA_VERSION,
            filename,
            format: facts.format,
            variant: facts.variant,
            formats: formats.to_vec(),
            virtual_size: facts.disk_size,
            file_size: len,
            actual_size: stored,
            min_disk: names::min_disk(facts.disk_size),
            disk_format: names::disk_format(facts.format, facts.variant),
            container_format: match wrappers[..] {
                [] => names::container_format(facts.format, facts.variant),
                _ => "compressed",
            },
            wrappers,
            safe: facts.hazards.is_empty(),
            hazards: facts.hazards.iter().map(HazardRecord::of).collect(),
            references: facts.references.iter().map(ReferenceRecord::of).collect(),
            encrypted: facts.encrypted,
            dirty: facts.dirty,
            details: facts.details.iter().map(|d| (d.name.to_owned(), value(&d.value))).collect(),
            digests: digests.iter().map(|one| (one.algorithm.name(), one.hex())).collect(),
            partition_table: contents.table.as_ref().map(TableRecord::of),
            file_systems: contents.file_systems.iter().map(FileSystemRecord::of).collect(),
            system: SystemRecord::of(contents),
            notes,
            properties: pairs(|property| &property.value),
            explain: if explain { pairs(|property| &property.why) } else { BTreeMap::new() },
        }
    }
}

impl HazardRecord {
    fn of(hazard: &Hazard) -> HazardRecord {
        HazardRecord { kind: hazard.kind.name(), what: hazard.what.clone() }
    }
}

impl ReferenceRecord {
    fn of(reference: &Reference) -> ReferenceRecord {
        let Reference { role, name, format, .. } = reference;
        ReferenceRecord { role: role.name(), name: name.clone(), format: format.clone() }
    }
}

impl TableRecord {
    fn of(table: &contents::Table) -> TableRecord {
        let problem = |problem: &contents::Problem| HazardRecord {
            kind: problem.kind.name(),
            what: problem.what.clone(),
        };
        TableRecord {
            kind: table.kind.name(),
            sector_size: table.sector_size,
            id: table.id.clone(),
            partitions: table.partitions.iter().map(PartitionRecord::of).collect(),
            problems: table.problems.iter().map(problem).collect(),
        }
    }
}

impl PartitionRecord {
    fn of(partition: &contents::Partition) -> PartitionRecord {
        let contents::Partition {
            number, start, len, type_id, type_name, name, id, bootable, ..
        } = partition.clone();
        PartitionRecord { number, start, size: len, r#type: type_id, type_name, name, id, bootable }
    }
}

impl FileSystemRecord {
    fn of(found: &contents::FileSystem) -> FileSystemRecord {
        let contents::FileSystem { partition, volume, kind, label, uuid, size } = found.clone();
        FileSystemRecord { partition, volume, kind, label, uuid, size }
    }
}

impl SystemRecord {
    fn of(contents: &Contents) -> SystemRecord {
        let Contents { boot, system, .. } = contents;
        let text = |known: &Option<contents::Known<String>>| {
            known.as_ref().map(|known| known.value.clone())
        };
        SystemRecord {
            firmware: boot.firmware.as_ref().map(|known| known.value.name()),
            architecture: boot.architecture.as_ref().map(|known| known.value),
            r#type: system.os_type.as_ref().map(|known| known.value),
            distribution: text(&system.distro),
            version: text(&system.version),
            name: text(&system.pretty_name),
            kernel: text(&system.kernel),
            cloud_init: system.cloud_init.as_ref().map(|known| known.value),
            guest_agent: system.guest_agent.as_ref().map(|known| known.value),
        }
    }

    fn is_empty(&self) -> bool {
        *self == SystemRecord::default()
    }
}
