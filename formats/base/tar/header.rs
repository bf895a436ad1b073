//! The block in front of a member: bytes to fields.

use crate::base::error::{Error, Result};

/// Where a field lies in the header.
type Field = std::ops::Range<usize>;

pub(super) const NAME: Field = 0..100;
pub(super) const MODE: Field = 100..108;
pub(super) const OWNER: Field = 108..116;
pub(super) const GROUP: Field = 116..124;
pub(super) const SIZE: Field = 124..136;
pub(super) const MODIFIED: Field = 136..148;
pub(super) const CHECKSUM: Field = 148..156;
pub(super) const KIND: usize = 156;
pub(super) const LINK: Field = 157..257;
pub(super) const MAGIC: Field = 257..265;
const PREFIX: Field = 345..500;

/// The magic and version of POSIX.
pub(super) const USTAR: [u8; 8] = *b"ustar\x0000";
/// The magic and version of GNU.
pub(super) const GNU: [u8; 8] = *b"ustar  \0";

/// One header, whose checksum is right.
pub(super) struct Header {
    pub(super) block: [u8; 512],
    /// Where it lies.
    pub(super) at: u64,
}

impl Header {
    /// The header in this block. `Malformed` if its checksum is wrong.
    pub(super) fn new(block: &[u8; 512], at: u64) -> Result<Header> {
        let header = Header { block: *block, at };
        match header.is_sound() {
            true => Ok(header),
            false => Err(Error::malformed(at, "the checksum of a tar header is wrong")),
        }
    }

    /// Whether the checksum is right: of bytes, or of bytes with a sign, as some old writers had
    /// it.
    fn is_sound(&self) -> bool {
        let Some(stored) = number(&self.block[CHECKSUM]) else { return false };
        if self.block[CHECKSUM].iter().all(|byte| matches!(byte, b' ' | 0)) {
            return false;
        }
        let (mut plain, mut signed) = (0_u64, 0_i64);
        for (index, byte) in self.block.iter().enumerate() {
            let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
            plain += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        plain == stored || u64::try_from(signed) == Ok(stored)
    }

    /// Whether the checksum is spelled as all writers of today do: six digits, a zero, a space.
    pub(super) fn is_usual(&self) -> bool {
        let field = &self.block[CHECKSUM];
        field[..6].iter().all(|digit| matches!(digit, b'0'..=b'7')) && field[6..] == *b"\0 "
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[KIND]
    }

    /// Bytes that lie behind it.
    pub(super) fn size(&self) -> Result<u64> {
        number(&self.block[SIZE])
            .ok_or_else(|| Error::malformed(self.at, "the size of a tar member is no number"))
    }

    /// Permission bits.
    pub(super) fn mode(&self) -> Option<u32> {
        number(&self.block[MODE]).and_then(|mode| u32::try_from(mode & 0o7777).ok())
    }

    /// When it was changed: seconds since 1970.
    pub(super) fn modified(&self) -> Option<i64> {
        number(&self.block[MODIFIED]).and_then(|time| i64::try_from(time).ok())
    }

    /// Its name, as far as it has room here.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.block[NAME]);
        let prefix = text(&self.block[PREFIX]);
        match self.block[MAGIC] == USTAR && !prefix.is_empty() {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }

    /// What a link leads to, as far as it has room here.
    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[LINK]).to_vec()
    }
}

/// A field up to its first zero.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal digits, or in bytes where the first bit says so. `None` if it is neither, is
/// negative, or does not end in 2^64.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let first = (*first != 0xff).then_some(u64::from(first & 0x7f))?;
        return rest.iter().try_fold(first, |sum, byte| {
            sum.checked_mul(256).and_then(|sum| sum.checked_add(u64::from(*byte)))
        });
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        sum.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_bytes() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(b"  1750 \0"), Some(1000));
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(1 << 33));
        for wrong in [&b"0000000x750\0"[..], b"12\x0034", b"8", b"\xff\xff\xff\xff", b""] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None, "2^64");
    }
}
