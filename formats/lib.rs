//! Disk-image formats: inspect, read, write, check, compare, convert.
//!
//! What an image holds:
//!
//! ```
//! # fn main() -> formats::Result<()> {
//! use std::sync::Arc;
//! use formats::{FORMATS, Limits, Memory, OpenOptions};
//!
//! let source = Arc::new(Memory::new(vec![7; 1000]));
//! let format = formats::probe(FORMATS, &*source)?;
//! let facts = (format.inspect)(&*source, &Limits::default())?;
//! assert_eq!((facts.format, facts.disk_size), ("raw", 1000));
//!
//! let limits = Limits::default();
//! let disk = formats::open(source, format, &OpenOptions::new(FORMATS, &limits))?;
//! let mut bytes = [0; 2];
//! disk.read(998, &mut bytes)?;
//! assert_eq!(bytes, [7, 7]);
//! # Ok(())
//! # }
//! ```
//!
//! An image made of another:
//!
//! ```
//! # fn main() -> formats::Result<()> {
//! use std::sync::Arc;
//! use formats::{CopyOptions, Create, FORMATS, Limits, Memory, OpenOptions};
//!
//! let limits = Limits::default();
//! let raw = Arc::new(Memory::new(vec![7; 1 << 20]));
//! let disk = formats::open(raw, formats::format("raw")?, &OpenOptions::new(FORMATS, &limits))?;
//!
//! let target = Arc::new(Memory::default());
//! let create = Create { size: disk.disk_size(), compress: true, ..Default::default() };
//! let qcow2 = formats::format("qcow2")?;
//! let writer = (qcow2.create.expect("qcow2 can be written"))(target.clone(), &create)?;
//! formats::copy(&*disk, &*writer, &CopyOptions::default())?;
//! assert_eq!(formats::probe(FORMATS, &*target)?.name, "qcow2");
//! # Ok(())
//! # }
//! ```
//!
//! Every failure is an [`Error`] with a [`Kind`]. No name that an image utters is followed
//! unless the [`Resolver`] that the caller gives follows it.

mod base;
#[cfg(feature = "broken")]
#[path = "tests/broken.rs"]
mod broken;
mod compare;
mod container;
mod copy;
mod digesting;
mod export;
mod forward;
mod holes;
mod ingest;
mod intake;
mod layers;
mod open;
mod plan;
mod pool;
mod pour;
mod probe;
mod registry;
mod rehearse;
mod slate;

pub use base::codec::{Codec, Decoder, Encoder, Packing};
pub use base::digest::{Algorithm, Digest, Hasher};
pub use base::error::{Error, Kind, Result};
pub use base::limits::Limits;
pub use base::model::create::{Beside, Create, OptionHelp, Options, parse_size};
pub use base::model::entry::{Entry, EntryKind, Held, Stretch, Vouch};
pub use base::model::extent::{Extent, Packed, Place};
pub use base::model::facts::{Detail, Facts, Hazard, HazardKind, Snapshot, Value};
pub use base::model::finding::{Finding, Repair, Severity, Tally};
pub use base::model::format::{
    CheckFn, CreateFn, EntriesFn, Format, ForwardFn, LikenessFn, Links, MeasureFn, OpenFn,
    RepairFn, ResizeFn, Usage,
};
pub use base::model::image::{Image, Joined, Promise, Reader, Stack, Walk};
pub use base::model::machine::{DescribeFn, Machine, MachineDisk, System};
pub use base::model::reference::{Reference, Role};
pub use base::model::writer::{Measure, Piece, Slot, Writer};
pub use base::storage::{
    Access, Allocated, Buffer, Caching, Faulty, ImageFile, Memory, Output, Slice, Source, Span,
    Storage, Stream, Target, Window, keep_scratch,
};
pub use base::wrapper::{Packer, Wrapper};
pub use compare::{CompareOptions, Comparison, compare};
pub use container::{disks, inside};
pub use copy::{Allows, Copied, CopyOptions, Stage, copy};
pub use digesting::{Mark, digests, follow};
pub use export::{Export, export};
pub use forward::{Passing, Way, way};
pub use ingest::{Ingest, Verdict};
pub use intake::{Forward, Input, spool, unwrap, unwrapped};
pub use open::{
    Beneath, Given, Layer, OpenOptions, Refuse, Resolved, Resolver, chain, links, open,
};
pub use plan::Survey;
pub use pool::{Unwatched, Watch, default_threads};
pub use pour::{PourOptions, pour};
pub use probe::{foreign, matches, probe};
pub use registry::{FORMATS, IsoAuthor, describe, format, machine};
pub use rehearse::{Performance, Rehearsal};
