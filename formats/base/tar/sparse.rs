//! Sparse members as GNU tar has always had them: a list of stretches in the header, and in blocks
//! behind it.

use super::BLOCK;
use super::header::{Header, number};
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
        if size > limits.max_disk_size {
            let what = format!("a sparse tar member of {size} bytes");
            return Err(Error::limit(what).at(header.at));
        }
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
        if list.stored != stored || list.end > size {
            return Err(broken());
        }
        if list.end < size {
            list.stretches.push(Stretch { offset: None, len: size - list.end });
        }
        Ok(Sparse { size, stretches: list.stretches, data })
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
}
