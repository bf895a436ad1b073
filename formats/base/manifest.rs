//! Manifests: digests of files, a line each: `SHA256(disk.vmdk)= 0123...`.

use crate::base::digest::{Algorithm, Digest};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The file, without `./` in front.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// Where the line begins in the manifest.
    pub(crate) at: u64,
    /// How it is spelled, apart from what it says.
    pub(crate) spelling: Spelling,
}

/// What can differ between lines that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spelling {
    algorithm: String,
    /// What stands around the name and the digest.
    between: [String; 3],
    /// Whether hexadecimal letters are of the upper case, or of the lower; `None` if of both.
    upper: Option<bool>,
}

impl Spelling {
    /// Whether both can be of one writer.
    pub(crate) fn goes_with(&self, other: &Spelling) -> bool {
        self.algorithm == other.algorithm && self.between == other.between && self.upper.is_some()
    }
}

/// All lines of a manifest.
pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (at, line) in split(text) {
        if lines.len() as u64 >= limits.max_entries {
            return Err(Error::limit("a manifest of too many lines").at(at));
        }
        if !line.trim_ascii().is_empty() {
            lines.push(digest_line(line, at)?);
        }
    }
    Ok(lines)
}

/// Lines with where they begin, as they end.
pub(crate) fn split(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    text.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let start = at;
        at += line.len() as u64;
        (start, line)
    })
}

fn digest_line(line: &[u8], at: u64) -> Result<Line> {
    let Signed { algorithm, word, name, hex, between } = signed_line(line, at)?;
    let digest = Digest::parse(algorithm, &hex).ok_or_else(|| {
        let (name, how) = (name.escape_debug(), algorithm.name());
        Error::malformed(at, format!("the manifest has no {how} digest for '{name}'"))
    })?;
    let has = |case: fn(&char) -> bool| hex.chars().any(|digit| case(&digit));
    let upper = match (has(char::is_ascii_uppercase), has(char::is_ascii_lowercase)) {
        (true, true) => None,
        (upper, _) => Some(upper),
    };
    let spelling = Spelling { algorithm: word, between, upper };
    let name = name.strip_prefix("./").unwrap_or(&name).to_string();
    Ok(Line { name, digest, at, spelling })
}

/// A line of a manifest, or the one in front of a certificate: hexadecimal digits for a file.
pub(crate) struct Signed {
    pub(crate) algorithm: Algorithm,
    word: String,
    pub(crate) name: String,
    pub(crate) hex: String,
    between: [String; 3],
}

/// Reads `ALGORITHM(NAME)= HEX`, with spaces or without.
pub(crate) fn signed_line(line: &[u8], at: u64) -> Result<Signed> {
    let broken = |why: &str| {
        let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
        let shown = shown.escape_debug();
        Error::malformed(at, format!("the line '{shown}' of a manifest {why}"))
    };
    let text = std::str::from_utf8(line).map_err(|_| broken("is no UTF-8 text"))?;
    let form = || broken("is not of the form ALGORITHM(NAME)= DIGITS");
    let (front, rest) = text.split_once('(').ok_or_else(form)?;
    let (rest, back) = rest.rsplit_once('=').ok_or_else(form)?;
    let (name, behind) = rest.rsplit_once(')').ok_or_else(form)?;
    let word = front.trim_matches([' ', '\t']);
    // OpenSSL 3 says SHA2-256 for what everybody else calls SHA256.
    let plain = word.to_ascii_lowercase().replace("sha2-", "sha");
    let algorithm = Algorithm::named(&plain).filter(|algorithm| *algorithm != Algorithm::Md5);
    let algorithm = algorithm.ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        let shown = shown.escape_debug();
        Error::unsupported(format!("a manifest with digests of the kind '{shown}'")).at(at)
    })?;
    let hex = back.trim_matches([' ', '\t', '\r', '\n']);
    if !behind.trim_matches([' ', '\t']).is_empty() || name.is_empty() {
        return Err(form());
    }
    let between = [behind.into(), gap(back, hex), front[word.len()..].into()];
    let (word, name, hex) = (word.into(), name.into(), hex.into());
    Ok(Signed { algorithm, word, name, hex, between })
}

/// What stands around a word.
fn gap(text: &str, word: &str) -> String {
    text.replacen(word, "|", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let hex = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let spellings = [
            format!("SHA1(a b.vmdk)= {hex}\n"),
            format!("SHA-1(a b.vmdk)={hex}\r\n"),
            format!("sha1 (a b.vmdk) = {}\n", hex.to_uppercase()),
            format!("SHA1(./a b.vmdk)=   {hex}"),
            format!("\r\nSHA1(a b.vmdk)= {hex}\n\n"),
        ];
        for spelling in spellings {
            let lines = parse(spelling.as_bytes(), &Limits::default()).expect("a line");
            assert_eq!(lines.len(), 1, "{spelling}");
            assert_eq!(lines[0].name, "a b.vmdk");
            assert_eq!(lines[0].digest.hex(), hex);
        }
        let two =
            format!("SHA2-256(a)= {}\nSHA-512(b(1).x)= {}\n", "0".repeat(64), "f".repeat(128));
        let lines = parse(two.as_bytes(), &Limits::default()).expect("two lines");
        assert_eq!(lines[1].name, "b(1).x");
        assert!(!lines[0].spelling.goes_with(&lines[1].spelling));
    }

    #[test]
    fn what_is_no_manifest_is_an_error() {
        let wrong = ["x", "SHA1(a)= 12", "MD5(a)= d41d8cd98f00b204e9800998ecf8427e", "SHA1 a = 1"];
        for text in wrong {
            assert!(parse(text.as_bytes(), &Limits::default()).is_err(), "{text}");
        }
    }
}
