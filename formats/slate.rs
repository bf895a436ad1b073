//! The bytes of a portion, and which of them are zero without a look at them.

use std::ops::{Deref, Range};

use crate::base::storage::{BLOCK, Buffer, is_zero};
use crate::holes::add_data;

/// A buffer that serves portion after portion. A portion is written from front to back; where it
/// has holes only what an earlier one left there is wiped away, and nobody looks for data there.
pub(crate) struct Slate {
    bytes: Buffer,
    /// Bytes of the portion.
    len: usize,
    /// Where data of the portion are, in order, those that touch as one.
    written: Vec<Range<usize>>,
    /// Where data of earlier portions were when this one began, in order.
    left: Vec<Range<usize>>,
}

impl Slate {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Slate {
        Slate { bytes: Buffer::new(len), len: 0, written: Vec::new(), left: Vec::new() }
    }

    /// A portion of so many bytes begins; all of them are then either written or wiped.
    pub(crate) fn begin(&mut self, len: usize) {
        let behind = self.left.partition_point(|left| left.end <= self.len);
        for left in &self.left[behind..] {
            self.written.push(left.start.max(self.len)..left.end);
        }
        std::mem::swap(&mut self.left, &mut self.written);
        self.written.clear();
        self.len = len;
        if self.bytes.len() < len {
            self.bytes.reserve(len);
            self.left.clear();
        }
    }

    /// Room for the data that come next.
    pub(crate) fn write(&mut self, range: Range<usize>) -> &mut [u8] {
        match self.written.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.written.push(range.clone()),
        }
        &mut self.bytes[range]
    }

    /// Makes zeros of bytes that hold nothing of the portion.
    pub(crate) fn wipe(&mut self, range: Range<usize>) {
        let first = self.left.partition_point(|left| left.end <= range.start);
        for left in self.left[first..].iter().take_while(|left| left.start < range.end) {
            self.bytes[left.start.max(range.start)..left.end.min(range.end)].fill(0);
        }
    }

    /// Whether all these bytes are zero.
    pub(crate) fn is_zero(&self, range: Range<usize>) -> bool {
        self.written_in(&range).all(|part| is_zero(&self.bytes[part]))
    }

    /// Adds the runs of blocks that are not zero, as counted from the front of `range`, to the
    /// list.
    pub(crate) fn add_data(&self, range: Range<usize>, out: &mut Vec<Range<usize>>) {
        let blocks = |part: Range<usize>| {
            let (first, end) = (part.start - range.start, part.end - range.start);
            let end = end.next_multiple_of(BLOCK) + range.start;
            range.start + first / BLOCK * BLOCK..end.min(range.end)
        };
        let mut parts = self.written_in(&range).map(blocks).peekable();
        while let Some(mut part) = parts.next() {
            while let Some(next) = parts.next_if(|next| next.start <= part.end) {
                part.end = next.end;
            }
            add_data(&self.bytes[part.clone()], part.start, out);
        }
    }

    /// Where in these bytes data of the portion are.
    fn written_in(&self, range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let Range { start, end } = *range;
        let first = self.written.partition_point(|written| written.end <= start);
        let parts = self.written[first..].iter().take_while(move |written| written.start < end);
        parts.map(move |written| written.start.max(start)..written.end.min(end))
    }
}

impl Deref for Slate {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Stretches of a portion: how long, and what byte they are full of, if they are no hole.
    fn stretches() -> impl Strategy<Value = Vec<(usize, Option<u8>)>> {
        let len = prop_oneof![Just(BLOCK), 1..3 * BLOCK, 1..200_usize];
        prop::collection::vec((len, prop::option::of(0..3_u8)), 0..12)
    }

    fn lay(slate: &mut Slate, stretches: &[(usize, Option<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        slate.begin(stretches.iter().map(|(len, _)| len).sum());
        for &(len, byte) in stretches {
            let range = bytes.len()..bytes.len() + len;
            bytes.resize(range.end, byte.unwrap_or(0));
            match byte {
                Some(byte) => slate.write(range).fill(byte),
                None => slate.wipe(range),
            }
        }
        bytes
    }

    proptest! {
        /// Whatever earlier portions left, and wherever the holes of this one are known to be.
        #[test]
        fn holes_are_zeros_and_nobody_misses_data(
            portions in prop::collection::vec(stretches(), 1..6),
            unit in prop_oneof![Just(512_usize), Just(BLOCK), Just(3 * BLOCK)],
        ) {
            let mut slate = Slate::new(4 * BLOCK);
            for portion in portions {
                let bytes = lay(&mut slate, &portion);
                prop_assert!(slate[..bytes.len()] == bytes);
                for start in (0..bytes.len()).step_by(unit) {
                    let range = start..(start + unit).min(bytes.len());
                    let (mut found, mut there) = (Vec::new(), Vec::new());
                    slate.add_data(range.clone(), &mut found);
                    add_data(&bytes[range.clone()], start, &mut there);
                    prop_assert_eq!(found, there);
                    prop_assert_eq!(slate.is_zero(range.clone()), is_zero(&bytes[range]));
                }
            }
        }
    }

    #[test]
    fn what_stood_behind_a_short_portion_is_wiped_by_the_next_long_one() {
        let mut slate = Slate::new(100);
        lay(&mut slate, &[(100, Some(7))]);
        lay(&mut slate, &[(10, Some(8))]);
        // The last unit of a disk is padded.
        slate.wipe(10..20);
        assert_eq!(slate[..21], [[8; 10].as_slice(), &[0; 10], &[7]].concat());
        lay(&mut slate, &[(100, None)]);
        assert!(is_zero(&slate));
    }
}
