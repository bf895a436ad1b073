//! Names as a new volume has them: short ones of capitals for ISO 9660, longer ones for Joliet.
//! Those of one folder differ from each other.

use std::collections::{HashMap, HashSet};

/// Characters of a file's name and its extension together, and of a folder's name.
const MOST: usize = 30;
/// And of the extension.
const EXTENSION: usize = 8;
/// Characters of a name in Joliet.
const WIDE: usize = 64;

/// A name in the bytes of a record, and what records are sorted by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Identifier {
    pub(super) bytes: Vec<u8>,
    pub(super) key: (Vec<u8>, Vec<u8>),
}

/// Names for what one folder holds: the name, and whether it is a folder itself; in their order.
pub(super) type Naming = fn(&[(&str, bool)]) -> Vec<Identifier>;

/// A stem, and what comes behind a number that is added to it.
type Candidate = (Vec<u16>, Vec<u16>);

/// Capitals, digits and `_`, with a number where two would be the same.
pub(super) fn short(children: &[(&str, bool)]) -> Vec<Identifier> {
    let candidates = children.iter().map(|(name, is_folder)| {
        let split = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !is_folder);
        let (stem, extension) = split.unwrap_or((name, ""));
        let extension: Vec<_> = extension.chars().map(capital).take(EXTENSION).collect();
        let stem = stem.chars().map(capital).take(MOST - extension.len()).collect();
        (stem, extension)
    });
    let chosen = unique(candidates.collect(), MOST);
    // Capitals, digits and `_` have one byte.
    let bytes =
        |text: &[u16]| -> Vec<u8> { text.iter().map(|unit| unit.to_le_bytes()[0]).collect() };
    let named = chosen.iter().zip(children).map(|((stem, extension), (_, is_folder))| {
        let key = (bytes(stem), bytes(extension));
        let bytes = match is_folder {
            true => key.0.clone(),
            false => [&key.0[..], b".", &key.1, b";1"].concat(),
        };
        Identifier { bytes, key }
    });
    named.collect()
}

/// All characters that Joliet allows, as many as it allows.
pub(super) fn wide(children: &[(&str, bool)]) -> Vec<Identifier> {
    let candidates = children.iter().map(|(name, is_folder)| {
        let split = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !is_folder);
        let (stem, extension) = split.unwrap_or((name, ""));
        let extension: Vec<_> = match split {
            Some(_) => std::iter::once('.').chain(extension.chars()).map(joliet).collect(),
            None => Vec::new(),
        };
        // An extension that takes up all the room is none.
        if extension.len() > WIDE / 2 {
            return (name.chars().map(joliet).take(WIDE).collect(), Vec::new());
        }
        (stem.chars().map(joliet).take(WIDE - extension.len()).collect(), extension)
    });
    let chosen = unique(candidates.collect(), WIDE);
    let named = chosen.into_iter().map(|(stem, extension)| {
        let units = stem.into_iter().chain(extension);
        let bytes: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
        Identifier { key: (bytes.clone(), Vec::new()), bytes }
    });
    named.collect()
}

fn capital(c: char) -> u16 {
    let c = c.to_ascii_uppercase();
    let allowed = c.is_ascii_uppercase() || c.is_ascii_digit();
    if allowed { c as u16 } else { u16::from(b'_') }
}

fn joliet(c: char) -> u16 {
    let forbidden = c.is_control() || "*/:;?\\".contains(c);
    match u16::try_from(u32::from(c)) {
        Ok(unit) if !forbidden => unit,
        _ => u16::from(b'_'),
    }
}

/// The candidates; where one was there before, its stem ends in a number, the smallest that makes
/// it another one.
fn unique(candidates: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let mut taken: HashSet<Candidate> = HashSet::new();
    let mut numbers: HashMap<Candidate, u64> = HashMap::new();
    let mut chosen = Vec::new();
    for candidate in candidates {
        let mut name = candidate.clone();
        while !taken.insert(name.clone()) {
            let number = numbers.entry(candidate.clone()).or_default();
            *number += 1;
            let digits: Vec<u16> = format!("_{number}").encode_utf16().collect();
            let (stem, extension) = &candidate;
            let room = most.saturating_sub(extension.len() + digits.len());
            let stem = stem[..stem.len().min(room)].iter().chain(&digits);
            name = (stem.copied().collect(), extension.clone());
        }
        chosen.push(name);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<String> {
        let children: Vec<_> = names.iter().map(|name| (*name, name.ends_with('/'))).collect();
        let text = |id: Identifier| String::from_utf8(id.bytes).expect("capitals");
        short(&children).into_iter().map(text).collect()
    }

    #[test]
    fn short_names_are_capitals_and_differ() {
        let names = ["user-data", "user_data", "USER.data", ".x", "a.tar.gz", "ü", "ö"];
        let expected = [
            "USER_DATA.;1",
            "USER_DATA_1.;1",
            "USER.DATA;1",
            "_X.;1",
            "A_TAR.GZ;1",
            "_.;1",
            "__1.;1",
        ];
        assert_eq!(shorts(&names), expected);
        let long = ["a".repeat(200), "a".repeat(201), format!("{}.txt", "b".repeat(100))];
        let short = shorts(&long.each_ref().map(String::as_str));
        assert_eq!(short[0], format!("{}.;1", "A".repeat(30)));
        assert_eq!(short[1], format!("{}_1.;1", "A".repeat(28)));
        assert_eq!(short[2], format!("{}.TXT;1", "B".repeat(27)));
    }

    #[test]
    fn joliet_names_are_cut_and_differ() {
        let long = ["ü".repeat(70), "ü".repeat(71), "a:b".into(), "a*b".into(), "\u{1f600}".into()];
        let children: Vec<_> = long.iter().map(|name| (name.as_str(), false)).collect();
        let names = wide(&children);
        let chars = |id: &Identifier| {
            let units = id.bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).map(|c| c.expect("sound")).collect::<String>()
        };
        let names: Vec<_> = names.iter().map(chars).collect();
        assert_eq!(names[0], "ü".repeat(64));
        assert_eq!(names[1], format!("{}_1", "ü".repeat(62)));
        assert_eq!(names[2..], ["a_b", "a_b_1", "_"]);
    }
}
