//! Members with holes, as GNU tar has them: a list of stretches in the header and in blocks behind
//! it, or in front of the content.

use super::BLOCK;
use super::header::{Header, number};
use super::pax::decimal;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::Stretch;
use crate::base::storage::Window;

/// Bytes of one entry of the list: an offset and a length.
const ENTRY: usize = 24;

/// A member with holes.
pub(super) struct Sparse {
    /// Bytes of it, holes counted.
    pub(super) size: u64,
    pub(super) stretches: Vec<Stretch>,
    /// Where its content begins.
    pub(super) data: u64,
}

/// What a list becomes, entry by entry.
struct List {
    stretches: Vec<Stretch>,
    /// Up to where the member is known.
    end: u64,
    /// Bytes stored so far.
    stored: u64,
}

impl Sparse {
    /// The member behind this header, which stores `stored` bytes.
    pub(super) fn read(
        header: &Header,
        stored: u64,
        window: &dyn Window,
        limits: &Limits,
    ) -> Result<Sparse> {
        let broken = || Error::malformed(header.at, "a sparse tar member whose list is broken");
        let size = number(&header.block[483..495]).ok_or_else(broken)?;
        bounded(size, header.at, limits)?;
        let mut lists = vec![header.block[386..482].to_vec()];
        let mut more = header.block[482] != 0;
        let mut data = header.at.saturating_add(BLOCK);
        while more {
            if lists.len() as u64 > limits.max_entries / 21 {
                return Err(Error::limit("a sparse tar member in too many pieces").at(header.at));
            }
            let block: [u8; 512] = window.array(data)?;
            lists.push(block[..504].to_vec());
            more = block[504] != 0;
            data = data.checked_add(BLOCK).ok_or_else(broken)?;
        }
        let mut list = List { stretches: Vec::new(), end: 0, stored: 0 };
        for entry in lists.iter().flat_map(|list| list.chunks_exact(ENTRY)) {
            if entry[0] == 0 {
                continue;
            }
            let [offset, len] = [&entry[..12], &entry[12..]].map(number);
            list.add(offset.ok_or_else(broken)?, len.ok_or_else(broken)?, data)
                .ok_or_else(broken)?;
        }
        let stretches = list.finish(size, stored).ok_or_else(broken)?;
        Ok(Sparse { size, stretches, data })
    }

    /// The member whose `stored` bytes at `at` begin with its list: decimal numbers, a line each.
    pub(super) fn read_in_front(
        at: u64,
        stored: u64,
        size: u64,
        window: &dyn Window,
        limits: &Limits,
    ) -> Result<Sparse> {
        let broken = || Error::malformed(at, "a sparse tar member whose list is broken");
        bounded(size, at, limits)?;
        let mut lines = Lines { window, next: at, block: Vec::new() };
        let count = lines.number()?;
        if count > limits.max_entries {
            return Err(Error::limit("a sparse tar member in too many pieces").at(at));
        }
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((lines.number()?, lines.number()?));
        }
        let data = lines.next;
        let mut list = List { stretches: Vec::new(), end: 0, stored: 0 };
        for (offset, len) in pairs {
            list.add(offset, len, data).ok_or_else(broken)?;
        }
        let content = stored.checked_sub(data - at).ok_or_else(broken)?;
        let stretches = list.finish(size, content).ok_or_else(broken)?;
        Ok(Sparse { size, stretches, data: at })
    }
}

fn bounded(size: u64, at: u64, limits: &Limits) -> Result<()> {
    match size <= limits.max_disk_size {
        true => Ok(()),
        false => Err(Error::limit(format!("a sparse tar member of {size} bytes")).at(at)),
    }
}

/// Lines in blocks, from the front.
struct Lines<'a> {
    window: &'a dyn Window,
    /// The block behind the one that is read.
    next: u64,
    /// What is left of that one, the last byte first.
    block: Vec<u8>,
}

impl Lines<'_> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            let broken = || Error::malformed(self.next, "a sparse tar member with a broken list");
            let Some(byte) = self.block.pop() else {
                let block: [u8; 512] = self.window.array(self.next)?;
                self.block.extend(block.iter().rev());
                self.next = self.next.checked_add(BLOCK).ok_or_else(broken)?;
                continue;
            };
            match byte {
                b'\n' => return decimal(&digits).ok_or_else(broken),
                _ if digits.len() == 20 => return Err(broken()),
                _ => digits.push(byte),
            }
        }
    }
}

impl List {
    /// The next stretch of the member. `None` if it does not lie behind the others.
    fn add(&mut self, offset: u64, len: u64, data: u64) -> Option<()> {
        let hole = offset.checked_sub(self.end)?;
        if hole > 0 {
            self.stretches.push(Stretch { offset: None, len: hole });
        }
        if len > 0 {
            self.stretches.push(Stretch::stored(data.checked_add(self.stored)?, len));
        }
        self.stored = self.stored.checked_add(len)?;
        self.end = offset.checked_add(len)?;
        Some(())
    }

    /// All stretches, with the hole at the end. `None` if they have not the bytes that they should.
    fn finish(mut self, size: u64, stored: u64) -> Option<Vec<Stretch>> {
        let hole = size.checked_sub(self.end)?;
        if hole > 0 {
            self.stretches.push(Stretch { offset: None, len: hole });
        }
        (self.stored == stored).then_some(self.stretches)
    }
}
