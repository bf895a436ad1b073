//! Persistent bitmaps: which parts of the disk have been written since some moment.

use super::layout::{Extension, Geometry, MAX_BITMAPS};
use crate::base::error::{Error, Result};
use crate::base::model::facts::Value;
use crate::base::storage::{Span, Window};

/// Where the list of bitmaps lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    pub(super) count: u32,
    pub(super) span: Span,
}

/// A row of the list.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    pub(super) name: String,
    pub(super) granularity_bits: u8,
    pub(super) in_use: bool,
    pub(super) auto: bool,
    /// Where its table of clusters lies; entries of eight bytes.
    pub(super) table_offset: u64,
    pub(super) table_size: u32,
}

/// Bytes of a row before its extra data.
const FIXED: usize = 24;

pub(super) fn directory(window: &dyn Window, extension: Extension) -> Result<Directory> {
    if extension.len != 24 {
        let what = format!("the bitmaps extension has {} bytes, not 24", extension.len);
        return Err(Error::malformed(extension.at, what));
    }
    let bytes = window.array::<24>(extension.at)?;
    let be32 =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let be64 = |at: usize| u64::from(be32(at)) << 32 | u64::from(be32(at + 4));
    let (count, len, offset) = (be32(0), be64(8), be64(16));
    let most = u64::from(MAX_BITMAPS) * 1024;
    if count > MAX_BITMAPS || len > most || len < u64::from(count) * FIXED as u64 {
        let what = format!("{count} bitmaps in {len} bytes");
        return Err(Error::malformed(extension.at, what));
    }
    Ok(Directory { count, span: Span::new(offset, len)? })
}

pub(super) fn read(
    window: &dyn Window,
    directory: &Directory,
    geometry: Geometry,
) -> Result<Vec<Bitmap>> {
    let mut at = directory.span.start();
    if !at.is_multiple_of(geometry.cluster()) {
        return Err(Error::malformed(at, "the list of bitmaps begins inside a cluster"));
    }
    let mut list = Vec::new();
    for _ in 0..directory.count {
        let (bitmap, next) = row(window, at)?;
        if next > directory.span.end() {
            return Err(Error::malformed(at, "a bitmap's row goes past the end of the list"));
        }
        list.push(bitmap);
        at = next;
    }
    Ok(list)
}

fn row(window: &dyn Window, at: u64) -> Result<(Bitmap, u64)> {
    let fixed = window.array::<FIXED>(at)?;
    let be16 = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
    let table_offset = u64::from(be32(0)) << 32 | u64::from(be32(4));
    let (table_size, flags, name_len, extra_len) = (be32(8), be32(12), be16(18), be32(20));
    let (kind, granularity_bits) = (fixed[16], fixed[17]);
    if kind != 1 || !(9..=31).contains(&granularity_bits) {
        let what = format!("a bitmap of type {kind} with granularity bits {granularity_bits}");
        return Err(Error::malformed(at + 16, what));
    }
    let name_at = at + FIXED as u64 + u64::from(extra_len);
    let mut name = vec![0; usize::from(name_len)];
    window.read(name_at, &mut name)?;
    let bitmap = Bitmap {
        name: String::from_utf8_lossy(&name).into_owned(),
        granularity_bits,
        in_use: flags & 1 != 0,
        auto: flags & 2 != 0,
        table_offset,
        table_size,
    };
    Ok((bitmap, (name_at + u64::from(name_len)).next_multiple_of(8)))
}

impl Bitmap {
    /// As qemu's `Qcow2BitmapInfo`; one that the autoclear bit does not vouch for is in use.
    pub(super) fn value(&self, valid: bool) -> Value {
        let mut flags = Vec::new();
        if self.in_use || !valid {
            flags.push(Value::from("in-use"));
        }
        if self.auto {
            flags.push(Value::from("auto"));
        }
        Value::Map(vec![
            ("flags", Value::List(flags)),
            ("name", Value::Text(self.name.clone())),
            ("granularity", Value::Number(1 << self.granularity_bits)),
        ])
    }
}
