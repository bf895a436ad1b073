//! What a new image is to be like.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::storage::Target;

/// What a new image is to be like.
#[derive(Clone, Default)]
pub struct Create {
    /// Bytes of the disk.
    pub size: u64,
    /// Whether units are to be compressed.
    pub compress: bool,
    /// The image underneath: the name to write down, and its format.
    pub backing: Option<(String, String)>,
    /// Where the bytes of the disk go if not into the image.
    pub data_file: Option<Arc<dyn Target>>,
    /// Where files of the image go that lie beside it.
    pub beside: Option<Arc<dyn Beside>>,
    /// What the format alone knows.
    pub options: Options,
}

/// Makes the files that belong to a new image and lie beside it.
pub trait Beside: Send + Sync {
    /// What the image's own file is called, without a folder.
    fn name(&self) -> &str;

    /// A new file of this name in the same folder. It appears when the image does.
    fn make(&self, name: &str) -> Result<Arc<dyn Target>>;
}

/// `key=value` settings of a format, as text until the format reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

/// The size of a new disk whose format counts it in sectors: up to the next multiple of 512.
pub(crate) fn whole_sectors(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(512)
        .ok_or_else(|| Error::invalid(format!("a disk of {size} bytes is too large")))
}

/// One setting that a format knows.
#[derive(Debug)]
pub struct OptionHelp {
    /// What stands before the `=`.
    pub name: &'static str,
    /// What may stand behind it.
    pub values: &'static str,
    /// What it does, and its default.
    pub about: &'static str,
}

impl Options {
    /// These pairs. Of two with one key the later counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Options {
        Options(pairs.into_iter().collect())
    }

    /// Sets one more.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.push((key.into(), value.into()));
    }

    /// `Invalid` for a key that is not in the list, with what might have been meant.
    pub fn known_by(&self, format: &'static str, known: &[OptionHelp]) -> Result<()> {
        for (key, _) in &self.0 {
            if !known.iter().any(|help| help.name == key) {
                let names: Vec<_> = known.iter().map(|help| help.name).collect();
                let list = if names.is_empty() { "it has none".into() } else { names.join(", ") };
                let what = format!("there is no option '{key}'; options: {list}");
                return Err(Error::invalid(what).format(format));
            }
        }
        Ok(())
    }

    /// All pairs, as they were given.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(is, _)| is == key).map(|(_, value)| value.as_str())
    }

    /// `on` or `off`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.text(key) {
            None => Ok(None),
            Some("on" | "yes" | "true") => Ok(Some(true)),
            Some("off" | "no" | "false") => Ok(Some(false)),
            Some(other) => Err(Error::invalid(format!("{key} is on or off, not '{other}'"))),
        }
    }

    /// A number of bytes; K, M, G, T, P may follow it.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        let parse = |text: &str| {
            parse_size(text).ok_or_else(|| {
                Error::invalid(format!("{key} is a size such as 65536, 64k or 2M, not '{text}'"))
            })
        };
        self.text(key).map(parse).transpose()
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Error::invalid(format!("{key} is a number, not '{text}'")))
        };
        self.text(key).map(parse).transpose()
    }

    /// One of the words given, as its place among them.
    pub fn choice(&self, key: &str, words: &[&str]) -> Result<Option<usize>> {
        let find = |text: &str| {
            words.iter().position(|word| *word == text).ok_or_else(|| {
                Error::invalid(format!("{key} is one of {}, not '{text}'", words.join(", ")))
            })
        };
        self.text(key).map(find).transpose()
    }
}

/// A size as people write it: digits, then nothing or one of b, k, M, G, T, P, E (powers of
/// 1024). Fractions are allowed in front of a letter. `None` if it is nothing like that or does
/// not fit into 64 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "p" | "pib" => 50,
        "e" | "eib" => 60,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(part) || part.len() > 15 {
        return None;
    }
    if !part.is_empty() && shift == 0 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let number: u128 = format!("{whole}{part}").parse().ok()?;
    let bytes = number.checked_mul(1 << shift)?.div_ceil(scale);
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let good = [
            ("0", 0),
            ("512", 512),
            ("64k", 65536),
            ("1.5G", 3 << 29),
            ("64KiB", 65536),
            ("10T", 10 << 40),
            ("0.5k", 512),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "k", "-1", "1.5", "1x", "1 k", "16E", "1e3", "0x10", ".5k", "99999999999999999999"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
