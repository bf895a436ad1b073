//! The blocks of an .xz file, by its index; and files of many blocks.
//!
//! ```text
//!   header 12 | block | block | ... | index | footer 12     one stream; several may follow
//! ```
//!
//! Source: the .xz file format, version 1.1.0, sections 2 to 4.

use xz2::stream::{Action, Check, Status, Stream};

use super::{Block, damaged, lay_out};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Source, Span, Window};

const HEADER: u64 = 12;
const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// The least that a record of an index takes.
const RECORD: u64 = 2;

/// The blocks of a file that has more than one of them; `None` if it has not, or if one is too
/// large to be unpacked in memory.
///
/// The indexes are believed only as far as the bytes can bear them out: each block is unpacked by
/// itself and must give as many bytes as its record says.
pub(super) fn blocks(source: &dyn Source, limits: &Limits) -> Result<Option<Vec<Block>>> {
    let mut streams = Vec::new();
    let mut end = source.len();
    let mut count = 0_u64;
    while end > 0 {
        let Some(stream) = stream_before(source, end, limits)? else { return Ok(None) };
        count += stream.blocks.len() as u64;
        if count > limits.max_table / 32 {
            return Ok(None);
        }
        end = stream.start;
        // One header serves for all blocks.
        if streams.last().is_some_and(|other: &Found| other.flags != stream.flags) {
            return Ok(None);
        }
        streams.push(stream);
    }
    let mut all = Vec::new();
    for stream in streams.into_iter().rev() {
        let sizes = stream.blocks.into_iter().map(|(packed, len)| (padded(packed), len));
        let Some(blocks) = lay_out(stream.start + HEADER, sizes, limits) else { return Ok(None) };
        let start = all.last().map_or(0, |last: &Block| last.start + last.len);
        let end = blocks.last().map_or(0, |last| last.start + last.len);
        if start.checked_add(end).is_none() {
            return Ok(None);
        }
        all.extend(blocks.into_iter().map(|b| Block { start: start + b.start, ..b }));
    }
    all.retain(|block| block.len > 0);
    Ok((all.len() > 1).then_some(all))
}

/// Blocks end at a multiple of four.
fn padded(packed: u64) -> u64 {
    packed.next_multiple_of(4)
}

struct Found {
    /// Where the stream begins.
    start: u64,
    /// Bytes without padding, and unpacked.
    blocks: Vec<(u64, u64)>,
    /// Which check its blocks have.
    flags: [u8; 2],
}

/// The stream that ends at `end`, with zeros perhaps behind it. `None` if there is none: whoever
/// reads it from its front will say what is wrong.
fn stream_before(source: &dyn Source, mut end: u64, limits: &Limits) -> Result<Option<Found>> {
    let window: &dyn Window = source;
    let mut footer = [0; 12];
    loop {
        let Some(at) = end.checked_sub(12).filter(|at| *at >= HEADER) else { return Ok(None) };
        window.read(at, &mut footer)?;
        if footer[8..12] != [0; 4] {
            break;
        }
        end -= 4;
    }
    if &footer[10..] != b"YZ" || word(&footer[..4]) != crc32fast::hash(&footer[4..10]) {
        return Ok(None);
    }
    let index_len = (u64::from(word(&footer[4..8])) + 1) * 4;
    let index_at = (end - 12).checked_sub(index_len).filter(|at| *at >= HEADER);
    let Some(index_at) = index_at.filter(|_| index_len <= limits.max_table) else {
        return Ok(None);
    };
    let index = window.bytes(Span::new(index_at, index_len)?, "the index", limits)?;
    let Some(blocks) = records(&index) else { return Ok(None) };
    let taken = blocks
        .iter()
        .try_fold(0_u64, |sum, (packed, _)| sum.checked_add(packed.checked_next_multiple_of(4)?));
    let start = taken.and_then(|taken| index_at.checked_sub(taken)?.checked_sub(HEADER));
    let Some(start) = start.filter(|start| start.is_multiple_of(4)) else { return Ok(None) };
    let header: [u8; 12] = window.array(start)?;
    let same = header.starts_with(MAGIC) && header[6..8] == footer[8..10];
    let flags = [header[6], header[7]];
    Ok(same.then_some(Found { start, blocks, flags }))
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// The records of an index: `None` if it is damaged.
fn records(index: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (content, digest) = index.split_at_checked(index.len().checked_sub(4)?)?;
    if crc32fast::hash(content) != word(digest) {
        return None;
    }
    let (&0, mut rest) = content.split_first()? else { return None };
    let count = number(&mut rest)?;
    if count > rest.len() as u64 / RECORD {
        return None;
    }
    let mut records = Vec::new();
    for _ in 0..count {
        records.push((number(&mut rest)?, number(&mut rest)?));
    }
    (rest.len() < 4 && rest.iter().all(|byte| *byte == 0)).then_some(records)
}

/// A number of seven bits a byte, the lowest first; nine bytes at most.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in 0..9 {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

fn push_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

/// Unpacks one block, which lies behind a stream's header.
pub(super) fn unpack(
    header: &[u8],
    block: &[u8],
    out: &mut [u8],
    limits: &Limits,
) -> std::io::Result<()> {
    let mut stream = Stream::new_stream_decoder(super::xz_memory(limits), 0)?;
    let mut done = 0;
    for part in [header, block] {
        let mut from = 0;
        while from < part.len() {
            let before = (stream.total_in(), stream.total_out());
            let status = stream.process(&part[from..], &mut out[done..], Action::Run)?;
            let consumed = stream.total_in() - before.0;
            let given = stream.total_out() - before.1;
            from += usize::try_from(consumed).expect("no more than there was");
            done += usize::try_from(given).expect("no more than there was room");
            if (consumed == 0 && given == 0) || status == Status::StreamEnd {
                return Err(damaged("a block does not hold what the index says"));
            }
        }
    }
    match done == out.len() {
        true => Ok(()),
        false => Err(damaged("a block holds less than the index says")),
    }
}

/// The header of the stream that a block lies in: what its checks are.
pub(super) fn header_before(source: &dyn Source) -> Result<[u8; 12]> {
    let window: &dyn Window = source;
    window.array(0)
}

/// Writes a stream of many blocks.
#[derive(Default)]
pub(super) struct Author {
    records: Vec<(u64, u64)>,
}

/// A block that was packed, and its record.
#[derive(Clone)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    record: (u64, u64),
}

impl Author {
    /// What a block is packed with, by any thread.
    pub(super) fn pack(level: u32, bytes: &[u8]) -> Result<Packed> {
        let fail = |error: xz2::stream::Error| Error::new(Kind::Invalid, error.to_string());
        let mut stream = Stream::new_easy_encoder(level, Check::Crc64).map_err(fail)?;
        let mut out = Vec::new();
        out.reserve_exact(bytes.len() / 2 + 1024);
        loop {
            let from = usize::try_from(stream.total_in()).expect("no more than there was");
            let status = stream.process_vec(&bytes[from..], &mut out, Action::Finish);
            if status.map_err(fail)? == Status::StreamEnd {
                break;
            }
            out.reserve(out.len() / 2 + 1024);
        }
        // A stream of one block: its index has the only record.
        let footer = out.len() - 12;
        let index = (word(&out[footer + 4..footer + 8]) as usize + 1) * 4;
        let record = records(&out[footer - index..footer]).and_then(|found| found.first().copied());
        let record = record.ok_or_else(|| Error::invalid("the packer wrote no block"))?;
        out.truncate(footer - index);
        out.drain(..12);
        Ok(Packed { bytes: out, record })
    }

    /// What stands in front of all blocks.
    pub(super) fn header() -> Vec<u8> {
        let flags = [0, 4];
        let mut out = MAGIC.to_vec();
        out.extend(flags);
        out.extend(crc32fast::hash(&flags).to_le_bytes());
        out
    }

    /// The bytes of the next block.
    pub(super) fn place(&mut self, block: Packed) -> Vec<u8> {
        self.records.push(block.record);
        block.bytes
    }

    /// What stands behind all blocks.
    pub(super) fn trailer(&self) -> Vec<u8> {
        let mut index = vec![0];
        push_number(self.records.len() as u64, &mut index);
        for (packed, len) in &self.records {
            push_number(*packed, &mut index);
            push_number(*len, &mut index);
        }
        index.resize(index.len().next_multiple_of(4), 0);
        index.extend(crc32fast::hash(&index).to_le_bytes());
        let quads = u32::try_from(index.len() / 4 - 1).unwrap_or(u32::MAX);
        let mut back = quads.to_le_bytes().to_vec();
        back.extend([0, 4]);
        index.extend(crc32fast::hash(&back).to_le_bytes());
        index.extend(back);
        index.extend(b"YZ");
        index
    }
}
