//! Which parts of some bytes are not zero.

use std::ops::Range;

use crate::base::storage::{BLOCK, is_zero};

/// Adds the runs of blocks that are not zero, `from` added to their places, to the list.
pub(crate) fn add_data(bytes: &[u8], from: usize, out: &mut Vec<Range<usize>>) {
    let mut run: Option<Range<usize>> = None;
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let start = from + index * BLOCK;
        if is_zero(block) {
            out.extend(run.take());
        } else {
            run = Some(run.map_or(start, |run| run.start)..start + block.len());
        }
    }
    out.extend(run);
}

/// What of `range` is to be written where runs of zeros shorter than `hole` are, too: `data` are
/// the runs that are not zero, in their order.
pub(crate) fn joined(
    data: &[Range<usize>],
    range: Range<usize>,
    hole: usize,
) -> impl Iterator<Item = Range<usize>> {
    let hole = hole.max(1);
    let first = data.partition_point(|data| data.end <= range.start);
    let mut rest = data[first..].iter().take_while(move |data| data.start < range.end).peekable();
    let mut at_front = true;
    std::iter::from_fn(move || {
        let next = rest.next()?;
        let (mut start, mut end) = (next.start.max(range.start), next.end);
        if std::mem::take(&mut at_front) && start - range.start < hole {
            start = range.start;
        }
        while let Some(next) = rest.next_if(|next| next.start - end < hole) {
            end = next.end;
        }
        end = end.min(range.end);
        if rest.peek().is_none() && range.end - end < hole {
            end = range.end;
        }
        Some(start..end)
    })
}

/// The stretches between runs of zeros that are at least `hole` bytes long, in blocks.
pub(crate) fn data_runs(bytes: &[u8], hole: usize) -> Vec<Range<usize>> {
    let mut data = Vec::new();
    add_data(bytes, 0, &mut data);
    joined(&data, 0..bytes.len(), hole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_of_zeros_that_are_long_enough_are_left_out() {
        let mut bytes = vec![0; 10 * BLOCK];
        bytes[2 * BLOCK] = 1;
        bytes[4 * BLOCK + 7] = 1;
        bytes[8 * BLOCK] = 1;
        let blocks = |hole: usize| -> Vec<_> {
            data_runs(&bytes, hole * BLOCK).iter().map(|r| r.start / BLOCK..r.end / BLOCK).collect()
        };
        assert_eq!(blocks(1), [2..3, 4..5, 8..9]);
        assert_eq!(blocks(2), [2..5, 8..10]);
        assert_eq!(blocks(3), [0..5, 8..10]);
        assert_eq!(blocks(100).len(), 1, "too short to skip anything");
        assert!(data_runs(&vec![0; 9 * BLOCK], BLOCK).is_empty());
    }
}
