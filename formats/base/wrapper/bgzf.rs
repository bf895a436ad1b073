//! Blocked gzip: members of at most 64 KiB, each of which says in its header how long it is.
//!
//! Source: RFC 1952, section 2.3; the SAM/BAM format specification, section 4.1.

use libdeflater::{CompressionLvl, Compressor, Decompressor};

use super::{Block, damaged, lay_out};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Source, Window};

/// Bytes of a member's header, with its one extra field.
const HEADER: usize = 18;
/// CRC-32 and length of the content.
const TRAILER: usize = 8;
/// Bytes of content that go into a member, so that it fits even if it does not shrink.
pub(super) const CONTENT: usize = 0xff00;
/// Bytes of content that are unpacked in one go.
const TOGETHER: u64 = 1 << 20;
/// The empty member that ends a file.
const END: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 27, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// The length that a member's header says it has.
fn member_len(head: &[u8]) -> Option<u64> {
    let expected = head.starts_with(&[0x1f, 0x8b, 8, 4]) && head.get(10..16)? == b"\x06\0BC\x02\0";
    let size = u64::from(u16::from_le_bytes([*head.get(16)?, *head.get(17)?])) + 1;
    (expected && size >= (HEADER + TRAILER) as u64).then_some(size)
}

/// The members of a file that is made of such ones only; `None` if it is not. `near`: reading a
/// few bytes here and there is cheap.
pub(super) fn blocks(
    source: &dyn Source,
    near: bool,
    limits: &Limits,
) -> Result<Option<Vec<Block>>> {
    let window: &dyn Window = source;
    let mut head = [0; HEADER];
    let (mut at, mut sizes, mut content) = (0, Vec::new(), 0_u64);
    while at < source.len() {
        if source.len() - at < (HEADER + TRAILER) as u64 || (!near && at > 0) {
            return Ok(None);
        }
        window.read(at, &mut head)?;
        let Some(size) = member_len(&head).filter(|size| at + size <= source.len()) else {
            return Ok(None);
        };
        let mut len = [0; 4];
        window.read(at + size - 4, &mut len)?;
        sizes.push((size, u64::from(u32::from_le_bytes(len))));
        content += u64::from(u32::from_le_bytes(len));
        let count = sizes.len() as u64;
        if count > limits.max_table / 32 || super::crumbles(count, content, limits) {
            return Ok(None);
        }
        at += size;
    }
    // Content of a member that is larger than the format allows is not a member's.
    if sizes.iter().any(|(_, len)| *len > 1 << 16) {
        return Ok(None);
    }
    Ok(lay_out(0, sizes, limits).map(together).filter(|blocks| blocks.len() > 1))
}

/// Members that follow each other, as blocks that are worth a thread's while.
fn together(members: Vec<Block>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for member in members {
        match blocks.last_mut() {
            Some(last) if last.len + member.len <= TOGETHER => {
                last.packed += member.packed;
                last.len += member.len;
            }
            _ => blocks.push(member),
        }
    }
    blocks.retain(|block| block.len > 0);
    blocks
}

/// Unpacks one or several members.
pub(super) fn unpack(mut packed: &[u8], out: &mut [u8]) -> std::io::Result<()> {
    let mut decoder = Decompressor::new();
    let mut done = 0;
    while !packed.is_empty() {
        let size = member_len(packed).and_then(|size| usize::try_from(size).ok());
        let member = size.and_then(|size| packed.get(..size));
        let member = member.ok_or_else(|| damaged("a member does not end where it says"))?;
        let (body, trailer) = member[HEADER..].split_at(member.len() - HEADER - TRAILER);
        let len = u32::from_le_bytes(trailer[4..].try_into().expect("four bytes"));
        let end = done + usize::try_from(len).unwrap_or(usize::MAX);
        let room = out.get_mut(done..end).ok_or_else(|| damaged("a member is too long"))?;
        let given = decoder.deflate_decompress(body, room);
        if !given.is_ok_and(|given| given == room.len()) {
            return Err(damaged("a member does not unpack"));
        }
        if crc32fast::hash(room).to_le_bytes() != trailer[..4] {
            return Err(damaged("a member has another CRC-32 than it says"));
        }
        (done, packed) = (end, &packed[member.len()..]);
    }
    match done == out.len() {
        true => Ok(()),
        false => Err(damaged("the members hold less than they say")),
    }
}

/// Packs bytes into members.
pub(super) fn pack(level: u32, bytes: &[u8]) -> Result<Vec<u8>> {
    let wrong = || Error::invalid(format!("gzip has no level {level}"));
    let level = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
    let mut encoder = Compressor::new(level.ok_or_else(wrong)?);
    let mut out = Vec::new();
    for content in bytes.chunks(CONTENT) {
        let begin = out.len();
        out.extend(&END[..16]);
        out.resize(begin + HEADER + encoder.deflate_compress_bound(content.len()), 0);
        let len = encoder.deflate_compress(content, &mut out[begin + HEADER..]);
        let len = len.map_err(|_| Error::invalid("a member has no room"))?;
        let size = HEADER + len + TRAILER;
        let stored = u16::try_from(size - 1);
        let stored = stored.map_err(|_| Error::invalid("a member grew beyond 64 KiB"))?;
        out[begin + 16..begin + 18].copy_from_slice(&stored.to_le_bytes());
        out.truncate(begin + HEADER + len);
        out.extend(crc32fast::hash(content).to_le_bytes());
        out.extend(u32::try_from(content.len()).expect("64 KiB at most").to_le_bytes());
    }
    Ok(out)
}

/// What stands behind all members.
pub(super) fn trailer() -> Vec<u8> {
    END.to_vec()
}
