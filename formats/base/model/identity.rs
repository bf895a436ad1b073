//! Identifiers that follow from what is written: the same disk gets the same ones, another disk
//! others.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::create::Create;

/// Collects what a new image is made of.
#[derive(Clone)]
pub(crate) struct Identity(Sha256);

impl Identity {
    /// Of an image with these settings, and nothing in it yet.
    pub(crate) fn of(format: &str, create: &Create) -> Identity {
        let mut hash = Sha256::new();
        hash.update(format);
        hash.update(create.size.to_be_bytes());
        for (key, value) in create.options.pairs() {
            for text in [key, value] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        }
        Identity(hash)
    }

    /// Adds a unit of data: where it begins on the disk, and a digest of it.
    pub(crate) fn add(&mut self, start: u64, digest: u32) {
        self.0.update(start.to_be_bytes());
        self.0.update(digest.to_be_bytes());
    }

    /// A UUID for this purpose, in the order in which it is printed (RFC 9562, version 8).
    pub(crate) fn uuid(&self, purpose: &str) -> [u8; 16] {
        let hash = self.hash(purpose);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// A number for this purpose; neither 0 nor one of the two largest, which often have a meaning.
    pub(crate) fn number(&self, purpose: &str) -> u32 {
        let hash = self.hash(purpose);
        let number = hash[..4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        number.clamp(1, u32::MAX - 2)
    }

    fn hash(&self, purpose: &str) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(purpose);
        hash.finalize().into()
    }
}

/// A UUID as people write it: 32 hexadecimal digits, with or without dashes and braces.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let digits: Vec<u32> =
        inside.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let digits: [u32; 32] = digits.try_into().ok()?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(uuid)
}

/// A UUID as text, in small letters, with dashes.
pub(crate) fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::new();
    for (index, byte) in uuid.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of a UUID as Windows stores it, from those as it is printed, and back: the first
/// three fields have their least significant byte first.
pub(crate) fn swap_uuid(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_from_size_settings_and_content_alone() {
        let of = |size, key: &str, units: &[(u64, u32)]| {
            let mut create = Create { size, ..Create::default() };
            create.options.set(key, "1");
            let mut identity = Identity::of("any", &create);
            for (start, digest) in units {
                identity.add(*start, *digest);
            }
            (identity.uuid("disk"), identity.number("disk"))
        };
        let one = of(512, "a", &[(0, 7)]);
        assert_eq!(one, of(512, "a", &[(0, 7)]));
        for other in [of(1024, "a", &[(0, 7)]), of(512, "b", &[(0, 7)]), of(512, "a", &[(0, 8)])] {
            assert!(one.0 != other.0 && one.1 != other.1);
        }
    }

    #[test]
    fn a_uuid_is_read_as_people_write_it() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let uuid = parse_uuid(text).expect("a uuid");
        assert_eq!(uuid_text(uuid), text);
        assert_eq!(parse_uuid(&format!("{{{}}}", text.to_uppercase())), Some(uuid));
        assert_eq!(swap_uuid(swap_uuid(uuid)), uuid);
        assert_eq!(swap_uuid(uuid)[..8], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        for bad in ["", "0011", "{00112233-4455-6677-8899-aabbccddeeff", "g0112233-4455-6677"] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }
}
