//! Buffers that the kernel copies into at full speed.

/// Where a buffer begins, and the grain of sparseness: a page.
pub(crate) const BLOCK: usize = 4096;

/// Bytes that begin at a multiple of 4096: what direct I/O wants, and what a copy from the page
/// cache is four times faster into.
pub struct Buffer {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Buffer {
        let bytes = vec![0; len + BLOCK];
        let skip = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Buffer { bytes, skip, len }
    }

    /// Makes it at least this long; what it held is lost if it grows.
    pub fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Buffer::new(len);
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut wide = bytes.chunks_exact(128);
    for chunk in &mut wide {
        // Folding without a branch lets the compiler use its widest registers.
        if chunk.iter().fold(0, |all, byte| all | byte) != 0 {
            return false;
        }
    }
    wide.remainder().iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_bit_anywhere_is_seen() {
        for len in [1, 7, 128, 129, 4096, 5000] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in [0, len / 2, len - 1] {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{len} bytes, bit in byte {at}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn a_buffer_begins_at_a_page() {
        assert_eq!(Buffer::new(12_345).as_ptr().align_offset(BLOCK), 0);
    }
}
