//! Bytes that were read: numbers and texts in them, or nothing where they end before.

/// Some bytes of a disk. Every look past their end is `None`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.slice(at, N)?.try_into().ok()
    }

    pub(crate) fn slice(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    pub(crate) fn has(self, at: usize, magic: &[u8]) -> bool {
        self.0.get(at..).is_some_and(|rest| rest.starts_with(magic))
    }

    pub(crate) fn byte(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn le16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn le32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn le64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn be16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(crate) fn be32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(crate) fn be64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// The text of `len` bytes at `at`, up to its first zero; `None` if it is empty.
    pub(crate) fn text(self, at: usize, len: usize) -> Option<String> {
        let field = self.slice(at, len)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        let text = String::from_utf8_lossy(&field[..end]).trim_end().to_string();
        (!text.is_empty()).then_some(text)
    }

    /// The text of `len` bytes of UTF-16, little-endian, up to its first zero.
    pub(crate) fn wide(self, at: usize, len: usize) -> Option<String> {
        let words = self.slice(at, len)?.chunks_exact(2);
        let words = words.map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let words: Vec<u16> = words.take_while(|word| *word != 0).collect();
        let text = String::from_utf16_lossy(&words);
        (!text.is_empty()).then_some(text)
    }

    /// A UUID as Linux' file systems keep it, all bytes in order; `None` if it is zero.
    pub(crate) fn uuid(self, at: usize) -> Option<String> {
        self.array(at).and_then(uuid_text)
    }

    /// A GUID as Microsoft keeps it, its first three parts turned round; `None` if it is zero.
    pub(crate) fn guid(self, at: usize) -> Option<String> {
        let mut bytes = self.array::<16>(at)?;
        for part in [0..4, 4..6, 6..8] {
            bytes[part].reverse();
        }
        uuid_text(bytes)
    }
}

/// Sixteen bytes as people write them, in small letters.
fn uuid_text(bytes: [u8; 16]) -> Option<String> {
    if bytes == [0; 16] {
        return None;
    }
    let hex = hex(&bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Some(parts.join("-"))
}

/// Bytes in hexadecimal, small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("half a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}
