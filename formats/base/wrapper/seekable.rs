//! The frames of a .zst file: by the seek table behind them, or by going over their headers.
//!
//! ```text
//!   frame | frame | ... | skippable frame: (packed, unpacked)... | count, flags, magic
//! ```
//!
//! Source: RFC 8878, section 3.1; zstd's seekable format, version 0.1.0.

use zstd::zstd_safe;

use super::{Block, is_skippable, lay_out};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Source, Span, Window};

const SEEK_TABLE: u32 = 0x184D_2A5E;
const MAGIC: u32 = 0x8F92_EAB1;
/// Bytes behind the entries: how many there are, how they are built, the magic.
const FOOTER: u64 = 9;
/// The most that a frame's header takes.
const HEADER: usize = 18;
/// Blocks that are gone over, at most: 128 KiB each, mostly.
const MOST_BLOCKS: u64 = 16 << 20;

/// The frames of a file that has more than one of them, and each says how much it holds; `None`
/// if not. `near`: reading a few bytes here and there is cheap.
pub(super) fn blocks(
    source: &dyn Source,
    near: bool,
    limits: &Limits,
) -> Result<Option<Vec<Block>>> {
    let found = match table(source, limits)? {
        Some(blocks) => Some(blocks),
        None if near => frames(source, limits)?,
        None => None,
    };
    Ok(found.filter(|blocks| blocks.len() > 1))
}

/// The frames, as the seek table has them.
fn table(source: &dyn Source, limits: &Limits) -> Result<Option<Vec<Block>>> {
    let window: &dyn Window = source;
    let Some(at) = source.len().checked_sub(FOOTER) else { return Ok(None) };
    let footer: [u8; 9] = window.array(at)?;
    let count = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
    let magic = u32::from_le_bytes([footer[5], footer[6], footer[7], footer[8]]);
    let (has_digests, reserved) = (footer[4] & 0x80 != 0, footer[4] & 0x7c);
    if magic != MAGIC || reserved != 0 {
        return Ok(None);
    }
    let entry = if has_digests { 12 } else { 8 };
    let size = count * entry;
    let Some(first) = at.checked_sub(size).filter(|first| *first >= 8 && size <= limits.max_table)
    else {
        return Ok(None);
    };
    let head: [u8; 8] = window.array(first - 8)?;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    if word(&head[..4]) != SEEK_TABLE || u64::from(word(&head[4..])) != size + FOOTER {
        return Ok(None);
    }
    let bytes = window.bytes(Span::new(first, size)?, "the seek table", limits)?;
    let entries = bytes.chunks_exact(if has_digests { 12 } else { 8 });
    let sizes = entries.map(|entry| (u64::from(word(&entry[..4])), u64::from(word(&entry[4..8]))));
    let Some(mut blocks) = lay_out(0, sizes, limits) else { return Ok(None) };
    // They fill all that is in front of the table: nothing is hidden between.
    let end = blocks.last().map(|last| last.offset + last.packed);
    blocks.retain(|block| block.len > 0);
    Ok((end == Some(first - 8)).then_some(blocks))
}

/// The frames, found by going over the headers of their blocks.
fn frames(source: &dyn Source, limits: &Limits) -> Result<Option<Vec<Block>>> {
    let window: &dyn Window = source;
    let (mut at, mut sizes, mut patience) = (0, Vec::new(), MOST_BLOCKS);
    let mut content = 0_u64;
    while at < source.len() {
        let mut head = [0; HEADER];
        let here = usize::try_from(source.len() - at).unwrap_or(usize::MAX).min(HEADER);
        window.read(at, &mut head[..here])?;
        let Some((packed, len)) = frame(source, at, &head[..here], &mut patience)? else {
            return Ok(None);
        };
        sizes.push((packed, len));
        content = content.saturating_add(len);
        let count = sizes.len() as u64;
        if count > limits.max_table / 32 || super::crumbles(count, content, limits) {
            return Ok(None);
        }
        at += packed;
        // One frame that is the whole file is no find.
        if sizes.len() == 1 && at == source.len() {
            return Ok(None);
        }
    }
    let blocks = lay_out(0, sizes, limits);
    Ok(blocks.map(|mut blocks| {
        blocks.retain(|block| block.len > 0);
        blocks
    }))
}

/// Bytes that a frame takes, and that it holds; `None` if it does not say, or is not whole.
fn frame(
    source: &dyn Source,
    at: u64,
    head: &[u8],
    patience: &mut u64,
) -> Result<Option<(u64, u64)>> {
    if is_skippable(head) {
        let Some(size) = head.get(4..8) else { return Ok(None) };
        let size = u64::from(u32::from_le_bytes(size.try_into().expect("four bytes"))) + 8;
        return Ok((at + size <= source.len()).then_some((size, 0)));
    }
    let Ok(Some(len)) = zstd_safe::get_frame_content_size(head) else { return Ok(None) };
    let descriptor = *head.get(4).unwrap_or(&0);
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => u64::from(single),
        size => 1 << size,
    };
    let mut end = at + 5 + u64::from(!single) + dictionary + content;
    loop {
        let mut block = [0; 4];
        if *patience == 0 || end + 3 > source.len() {
            return Ok(None);
        }
        *patience -= 1;
        Window::read(source, end, &mut block[..3])?;
        let block = u32::from_le_bytes(block);
        let (last, kind, size) = (block & 1 == 1, block >> 1 & 3, u64::from(block >> 3));
        // A block of one byte, many times, takes that byte.
        end += 3 + if kind == 1 { 1 } else { size };
        if last {
            break;
        }
    }
    if descriptor & 4 != 0 {
        end += 4;
    }
    Ok((end <= source.len()).then_some((end - at, len)))
}

/// The seek table of frames of these sizes.
pub(super) fn trailer(sizes: &[(u32, u32)]) -> Vec<u8> {
    let mut out = SEEK_TABLE.to_le_bytes().to_vec();
    let size = u32::try_from(sizes.len() * 8 + 9).unwrap_or(u32::MAX);
    out.extend(size.to_le_bytes());
    for (packed, len) in sizes {
        out.extend(packed.to_le_bytes());
        out.extend(len.to_le_bytes());
    }
    out.extend(u32::try_from(sizes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.push(0);
    out.extend(MAGIC.to_le_bytes());
    out
}

/// Unpacks one or several frames.
pub(super) fn unpack(packed: &[u8], out: &mut [u8], limits: &Limits) -> std::io::Result<()> {
    let mut decoder = zstd::bulk::Decompressor::new()?;
    decoder.window_log_max(super::zstd_window(limits))?;
    match decoder.decompress_to_buffer(packed, out)? == out.len() {
        true => Ok(()),
        false => Err(super::damaged("a frame holds less than it says")),
    }
}

/// Packs bytes into a frame with a checksum.
pub(super) fn pack(level: u32, bytes: &[u8]) -> Result<Vec<u8>> {
    let wrong = |_| Error::invalid(format!("zstd has no level {level}"));
    let number = i32::try_from(level).unwrap_or(i32::MAX);
    let mut encoder = zstd::bulk::Compressor::new(number).map_err(wrong)?;
    encoder.include_checksum(true).map_err(wrong)?;
    encoder.compress(bytes).map_err(wrong)
}
