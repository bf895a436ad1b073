//! The format extension: a cluster with a list of features, of which dirty bitmaps are known.

use md5::{Digest, Md5};

use super::layout::{Geometry, SECTOR};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Value;
use crate::base::model::identity::uuid_text;
use crate::base::storage::{Le32, Le64, Span, Window, Word};

/// What the cluster begins with; the MD5 of what follows it comes next.
const MAGIC: u64 = 0xab23_4cef_23dc_ea87;
const SUMMED: usize = 24;
/// Bytes of a feature before its data.
const FIXED: usize = 24;
/// The feature that ends the list, and the one that is a dirty bitmap.
const END: u64 = 0;
const BITMAP: u64 = 0x2038_5fae_252c_b34a;
/// Bytes of a bitmap before its table.
const BITMAP_FIXED: usize = 32;
/// Flags: who does not know it must not change the image, and: who does not know it keeps it.
const NECESSARY: u64 = 1;
const TRANSIT: u64 = 1 << 1;

/// What an image has beside its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) bitmaps: Vec<Bitmap>,
    /// Features that are not known here: magic and flags.
    pub(super) unknown: Vec<(u64, u64)>,
    /// Stretches of the file that it and its bitmaps take.
    pub(super) spans: Vec<(u64, u64)>,
}

/// Which parts of the disk have been written since some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    id: [u8; 16],
    granularity: u64,
    size: u64,
}

impl Bitmap {
    pub(super) fn value(&self) -> Value {
        Value::Map(vec![
            ("id", Value::Text(uuid_text(self.id))),
            ("granularity", self.granularity.into()),
            ("size", Value::Bytes(self.size)),
        ])
    }
}

impl Extension {
    /// A feature that is not known here and whose writer says that nobody may change the image
    /// who does not know it.
    pub(super) fn forbids_changes(&self) -> bool {
        self.unknown.iter().any(|(_, flags)| flags & NECESSARY != 0)
    }
}

/// In words, whether a feature that is not known may be passed over.
pub(super) fn flags_text(flags: u64) -> &'static str {
    match (flags & NECESSARY != 0, flags & TRANSIT != 0) {
        (true, _) => "necessary",
        (false, true) => "to be kept",
        (false, false) => "to be dropped",
    }
}

/// Reads the extension at this sector.
pub(super) fn read(
    window: &dyn Window,
    sector: u64,
    geometry: Geometry,
    limits: &Limits,
) -> Result<Extension> {
    let start = bytes_of(sector)?;
    let span = Span::new(start, geometry.cluster)?;
    if start < geometry.data {
        let what = format!("the format extension lies at {start:#x}, over the table");
        return Err(Error::malformed(56, what));
    }
    let bytes = window.bytes(span, "the format extension", limits)?;
    if Le64::get(&bytes) != MAGIC {
        return Err(Error::malformed(start, "no format extension where the header says"));
    }
    if Md5::digest(&bytes[SUMMED..])[..] != bytes[8..SUMMED] {
        return Err(Error::malformed(start + 8, "the checksum of the format extension is wrong"));
    }
    let mut found =
        Extension { bitmaps: vec![], unknown: vec![], spans: vec![(start, span.len())] };
    let mut rest = &bytes[SUMMED..];
    loop {
        let at = start + (bytes.len() - rest.len()) as u64;
        let past = || Error::malformed(at, "a feature goes past the end of the format extension");
        let head = rest.get(..FIXED).ok_or_else(past)?;
        let (magic, flags, len) = (Le64::get(head), Le64::get(&head[8..]), Le32::get(&head[16..]));
        if magic == END {
            return Ok(found);
        }
        let len = usize::try_from(len).map_err(|_| past())?;
        let data = rest[FIXED..].get(..len).ok_or_else(past)?;
        let rows = found.bitmaps.len() + found.unknown.len() + found.spans.len();
        if rows as u64 > limits.max_entries {
            return Err(Error::limit("too many features in the format extension").at(at));
        }
        match magic {
            BITMAP => bitmap(data, at, geometry, limits, &mut found)?,
            _ => found.unknown.push((magic, flags)),
        }
        rest = rest.get(FIXED + len.next_multiple_of(8)..).ok_or_else(past)?;
    }
}

fn bytes_of(sector: u64) -> Result<u64> {
    let what = || Error::malformed(56, format!("sector {sector} lies past 2^64 bytes"));
    sector.checked_mul(SECTOR).ok_or_else(what)
}

fn bitmap(
    data: &[u8],
    at: u64,
    geometry: Geometry,
    limits: &Limits,
    found: &mut Extension,
) -> Result<()> {
    let head = data.get(..BITMAP_FIXED);
    let head = head.ok_or_else(|| Error::malformed(at, "a bitmap has no head"))?;
    let (size, granularity) = (Le64::get(head), Le32::get(&head[24..]));
    let table = data[BITMAP_FIXED..].chunks_exact(8).map(Le64::get);
    let count = Le32::get(&head[28..]);
    if count > limits.max_entries {
        return Err(Error::limit(format!("a bitmap of {count} clusters")).at(at));
    }
    if count > table.len() as u64 {
        let what = format!("a bitmap of {count} clusters in {} bytes", data.len());
        return Err(Error::malformed(at, what));
    }
    for (sector, _) in table.zip(0..count) {
        // 0 and 1 are clusters of zeros and of ones.
        if sector > 1 {
            found.spans.push((bytes_of(sector)?, geometry.cluster));
        }
    }
    let id = head[8..24].try_into().expect("sixteen of them");
    let (size, granularity) = (bytes_of(size)?, granularity * SECTOR);
    found.bitmaps.push(Bitmap { id, granularity, size });
    Ok(())
}
