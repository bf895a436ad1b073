//! What services and clouds want to know of a disk image, and what they take.
//!
//! ```text
//!   Facts, Contents ──▶ Metadata ──▶ JSON, properties of an image service
//!   bytes ──▶ Gate ─┬─▶ Target::judge ──▶ taken, or why not
//!   Facts ──────────┘
//! ```
//!
//! ```
//! # fn main() -> formats::Result<()> {
//! use formats::{Limits, Memory};
//! use metadata::{Gate, Subject, target};
//!
//! let file = Memory::new(vec![7; 1 << 20]);
//! let facts = (formats::format("raw")?.inspect)(&file, &Limits::default())?;
//! let gate = Gate::of(&file)?;
//! let subject = Subject::new(&gate, &facts);
//! assert!(target("glance")?.judge(&subject).is_ready());
//! assert!(!target("azure")?.judge(&subject).is_accepted());
//! # Ok(())
//! # }
//! ```

mod gate;
mod json;
mod names;
mod properties;
mod record;
mod targets;

pub use gate::{Gate, Verdict};
pub use json::value as json_value;
pub use names::{CONTAINER_FORMATS, DISK_FORMATS, container_format, disk_format, min_disk};
pub use record::{
    FileSystemRecord, Findings, HazardRecord, Metadata, PartitionRecord, ReferenceRecord, SCHEMA,
    SCHEMA_VERSION, SystemRecord, TableRecord,
};
pub use targets::{Judgement, Recipe, Remark, Subject, TARGETS, Target, Weight, target};
