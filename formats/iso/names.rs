//! Names and other text: from the bytes of a volume, and as a path may have them.

use crate::base::error::{Error, Result};

/// Bytes as text: UTF-8 if they are that, Latin-1 if not.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Bytes as text, two for a character, the more significant one first.
pub(super) fn wide(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
    let units = char::decode_utf16(units);
    units.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Text of a field that is filled up with blanks.
pub(super) fn padded(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| ![b' ', 0].contains(byte)).map_or(0, |last| last + 1);
    text(&bytes[..end])
}

/// The same, two bytes for a character.
pub(super) fn padded_wide(bytes: &[u8]) -> String {
    wide(bytes).trim_end_matches([' ', '\0']).to_owned()
}

/// A name without the number of its version.
pub(super) fn versionless(name: &str) -> &str {
    match name.rsplit_once(';') {
        Some((plain, version)) if version.bytes().all(|c| c.is_ascii_digit()) => plain,
        _ => name,
    }
}

/// A name without the number of its version, and without a point that nothing follows.
pub(super) fn plain(name: &str) -> &str {
    let plain = versionless(name);
    match plain.strip_suffix('.') {
        Some(stem) if !stem.is_empty() && stem != "." => stem,
        _ => plain,
    }
}

/// `Malformed` if a name, which stands at this offset, is none that a path may have.
pub(super) fn check(name: &str, at: u64) -> Result<()> {
    let dots = name.is_empty() || name == "." || name == "..";
    if dots || name.contains(['/', '\0']) {
        let name = name.escape_debug();
        return Err(Error::malformed(at, format!("'{name}' is no name for a file")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_lone_points_are_no_part_of_a_name() {
        let pairs = [
            ("README.TXT;1", "README.TXT"),
            ("BOOT.;1", "BOOT"),
            ("a;b", "a;b"),
            ("..", ".."),
            (".", "."),
            ("A", "A"),
        ];
        for (long, short) in pairs {
            assert_eq!(plain(long), short);
        }
        assert_eq!(wide(&[0, b'a', 0x20, 0xac, 0xd8, 0]), "a€\u{fffd}");
        assert_eq!(text(b"f\xfcr"), "für");
        assert_eq!(padded(b"cidata  \0 "), "cidata");
    }
}
