//! Digests of bytes, under their names.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// How bytes are digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5: no proof against anybody, still what many lists hold.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];

    /// Its name: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The one of this name, in any case, with or without a hyphen: `SHA-256`.
    pub fn named(name: &str) -> Option<Algorithm> {
        let name = name.to_ascii_lowercase().replace('-', "");
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Bytes of its digests.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// What bytes digest to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// How.
    pub algorithm: Algorithm,
    /// As many bytes as the algorithm gives.
    pub bytes: Vec<u8>,
}

impl Digest {
    /// From hexadecimal digits, of either case; `None` if they are not, or not as many as it
    /// takes.
    pub fn parse(algorithm: Algorithm, hex: &str) -> Option<Digest> {
        let digits = hex.as_bytes();
        if digits.len() != 2 * algorithm.size() {
            return None;
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        let bytes = digits.chunks_exact(2).map(byte).collect::<Option<_>>()?;
        Some(Digest { algorithm, bytes })
    }

    /// In hexadecimal digits, lower case.
    pub fn hex(&self) -> String {
        let digits = self.bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
    }
}

/// Digests bytes as they come.
pub struct Hasher(State);

enum State {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Of nothing, so far.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// What all of them digest to.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.0 {
            State::Md5(state) => (Algorithm::Md5, state.finalize().to_vec()),
            State::Sha1(state) => (Algorithm::Sha1, state.finalize().to_vec()),
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        Digest { algorithm, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_of_nothing_are_the_known_ones() {
        let known = [
            "d41d8cd98f00b204e9800998ecf8427e",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ];
        for (algorithm, hex) in Algorithm::ALL.into_iter().zip(known) {
            let digest = Hasher::new(algorithm).finish();
            assert_eq!(digest.hex(), hex);
            assert_eq!(Digest::parse(algorithm, &hex.to_uppercase()), Some(digest));
        }
        assert_eq!(Algorithm::named("SHA-512"), Some(Algorithm::Sha512));
        assert_eq!(Digest::parse(Algorithm::Md5, "d41d8cd98f00b204e9800998ecf8427"), None);
        assert_eq!(Digest::parse(Algorithm::Md5, "d41d8cd98f00b204e9800998ecf8427ü"), None);
    }
}
