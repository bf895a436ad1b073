//! Chance that can be had again: the same seed, the same throws.

/// A throw of a die after the other.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }

    /// Brings these into an order of chance.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).expect("an index");
            list.swap(at, other);
        }
    }

    /// A disk with noise, text and zeros.
    pub(crate) fn disk(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let run = 512 * (1 + self.below(300));
            match self.below(3) {
                0 => bytes.extend((0..run).map(|_| 0)),
                1 => bytes.extend((0..run).zip(b"all work ".iter().cycle()).map(|(_, b)| *b)),
                _ => bytes.extend((0..run / 8).flat_map(|_| self.below(u64::MAX).to_be_bytes())),
            }
        }
        bytes.truncate(len);
        bytes
    }
}
