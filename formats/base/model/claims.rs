//! Which parts of a file are in use: a bit for each unit of it.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::Report;
use crate::base::storage::Spool;

/// Units of a file at most: a map of 2 GiB.
const MAX_UNITS: u64 = 1 << 34;
/// Entries of tables that are visited for each one that `Limits::max_entries` allows a list to
/// have: 4 Gi of them, which is 32 GiB of tables. More than that only a hostile image has.
const VISITS: u64 = 65_536;

/// Notes what is in use while the tables of an image are walked; what is claimed twice shows at
/// once, and what is claimed by nobody at the end.
pub(crate) struct Claims {
    bits: Spool,
    unit: u64,
    units: u64,
    file_len: u64,
    end: u64,
    visits: u64,
}

/// What a stretch was before it was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// In use by nobody.
    Free,
    /// Part of it is in use by someone else.
    Taken,
    /// Part of it lies behind the end of the file: nothing of it is claimed.
    Beyond,
}

impl Claims {
    /// A file of this length, in which nothing is in use. `Limit` if it has too many units.
    pub(crate) fn new(file_len: u64, unit: u64, limits: &Limits) -> Result<Claims> {
        let units = file_len.div_ceil(unit);
        let bytes = usize::try_from(units.div_ceil(8)).ok().filter(|_| units <= MAX_UNITS);
        let Some(bytes) = bytes else {
            let what = format!("the file has {units} units, {MAX_UNITS} can be checked");
            return Err(Error::limit(what));
        };
        let visits = limits.max_entries.saturating_mul(VISITS);
        Ok(Claims { bits: Spool::new(bytes)?, unit, units, file_len, end: 0, visits })
    }

    /// Takes so many entries of a table, which are about to be visited, off what may still be.
    pub(crate) fn visit(&mut self, entries: u64) -> Result<()> {
        self.visits = self
            .visits
            .checked_sub(entries)
            .ok_or_else(|| Error::limit("its tables have more entries than a check goes over"))?;
        Ok(())
    }

    /// The length of the file.
    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Claims every unit that a stretch touches.
    pub(crate) fn take(&mut self, start: u64, len: u64) -> Claim {
        let Some(end) = start.checked_add(len).filter(|end| *end <= self.file_len) else {
            return Claim::Beyond;
        };
        if len == 0 {
            return Claim::Free;
        }
        let (first, from) = place(start / self.unit);
        let (last, to) = place((end - 1) / self.unit);
        // The units from the first one on in its byte, and up to the last one in its.
        let (from, to) = (!(from - 1), to | (to - 1));
        let taken = match &mut self.bits[first..=last] {
            [byte] => add(byte, from & to),
            [front, whole @ .., back] => {
                let ends = add(front, from) | add(back, to);
                let inside = whole.iter().fold(0, |all, byte| all | byte);
                whole.fill(u8::MAX);
                ends | inside
            }
            [] => 0,
        };
        self.end = self.end.max(end);
        if taken == 0 { Claim::Free } else { Claim::Taken }
    }

    /// Claims a stretch for `what`, to which the word at `at` leads; reports it if it was not free.
    pub(crate) fn claim(
        &mut self,
        report: &mut Report,
        at: u64,
        (offset, len): (u64, u64),
        what: &str,
    ) -> bool {
        let claim = self.take(offset, len);
        let total = self.file_len;
        match claim {
            Claim::Free => {}
            Claim::Taken => {
                report.corruption(at, format!("{what} lies at {offset:#x}, over something else"));
            }
            Claim::Beyond => {
                let what = format!("{what} has {len} bytes at {offset:#x}");
                report.corruption(at, format!("{what}, the file ends at {total:#x}"));
            }
        }
        claim == Claim::Free
    }

    /// Where the last stretch in use ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Hands over runs of whole units that nobody claimed: where each begins, and how many.
    pub(crate) fn unused(&self, mut look: impl FnMut(u64, u64)) {
        let whole = self.file_len / self.unit;
        let (mut run, mut unit) = (0, 0);
        while unit < whole.min(self.units) {
            let (byte, bit) = place(unit);
            if self.bits[byte] == u8::MAX && run == 0 {
                unit += 8 - unit % 8;
                continue;
            }
            if self.bits[byte] & bit == 0 {
                run += 1;
            } else if run > 0 {
                look((unit - run) * self.unit, run);
                run = 0;
            }
            unit += 1;
        }
        if run > 0 {
            look((whole - run) * self.unit, run);
        }
    }
}

fn place(unit: u64) -> (usize, u8) {
    (usize::try_from(unit / 8).expect("the map was made for it"), 1 << (unit % 8))
}

/// Sets bits of a byte; those of them that were set before.
fn add(byte: &mut u8, bits: u8) -> u8 {
    let taken = *byte & bits;
    *byte |= bits;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_a_stretch_is_claimed_and_no_other() {
        for (first, last) in (0..40).flat_map(|first| (first..40).map(move |last| (first, last))) {
            let mut claims = Claims::new(40, 1, &Limits::default()).expect("a small map");
            assert_eq!(claims.take(first, last - first + 1), Claim::Free);
            let free: u64 = {
                let mut free = 0;
                claims.unused(|_, units| free += units);
                free
            };
            assert_eq!(free, 40 - (last - first + 1), "{first} to {last}");
            for unit in 0..40 {
                let taken = (first..=last).contains(&unit);
                let mut again = Claims::new(40, 1, &Limits::default()).expect("a small map");
                again.take(first, last - first + 1);
                assert_eq!(again.take(unit, 1) == Claim::Taken, taken, "{unit}");
            }
        }
    }

    #[test]
    fn what_is_claimed_twice_shows_and_what_is_claimed_by_nobody() {
        let mut claims = Claims::new(100 * 512 + 7, 512, &Limits::default()).expect("a small map");
        assert_eq!(claims.take(0, 512), Claim::Free);
        assert_eq!(claims.take(1024, 3000), Claim::Free);
        assert_eq!(claims.take(4023, 1), Claim::Taken);
        assert_eq!(claims.take(100 * 512, 8), Claim::Beyond);
        assert_eq!(claims.take(u64::MAX, 2), Claim::Beyond);
        assert_eq!(claims.take(99 * 512, 519), Claim::Free);
        assert_eq!(claims.end(), 100 * 512 + 7);
        let mut runs = Vec::new();
        claims.unused(|start, units| runs.push((start, units)));
        assert_eq!(runs, [(512, 1), (8 * 512, 91)]);
    }
}
