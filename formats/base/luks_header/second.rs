//! Version 2: two copies of a binary header with a JSON text behind it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256, Sha512};

use super::{Be64, LONG_KEY, Luks, MAGIC, MANY_ITERATIONS, MANY_STRIPES, Word, text};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Value;
use crate::base::storage::{Span, Window};

/// Bytes of the binary header, in front of the text.
const BINARY: usize = 4096;
/// What the second copy begins with.
const SECOND_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";
/// Where the checksum of a copy lies, and its bytes.
const SUM: std::ops::Range<usize> = 448..512;
/// Rows of each list of the text at most: key slots, segments, digests.
const ROWS: usize = 32;
/// More of these for Argon2 than cryptsetup ever writes: KiB of memory, rounds, threads.
const MUCH_MEMORY: u64 = 4 << 20;
const MANY_ROUNDS: u64 = 1000;
const MANY_THREADS: u64 = 16;

/// One copy, whose checksum is right.
struct Copy {
    sequence: u64,
    label: String,
    uuid: String,
    subsystem: String,
    text: Text,
}

/// Reads both copies; the one that was written later counts.
pub(super) fn read(window: &dyn Window, start: u64, limits: &Limits) -> Result<Luks> {
    let binary = window.array::<16>(start)?;
    let len = Be64::get(&binary[8..]);
    if !(14..=22).any(|bits| len == 1 << bits) {
        let what = format!("a header of {len} bytes is not a power of two, 16 KiB to 4 MiB");
        return Err(Error::malformed(start + 8, what));
    }
    let both = Span::new(start, 2 * len)?;
    window.expect(both.start(), both.len());
    let one = copy(window, start, (0, len), limits);
    let two = copy(window, start, (len, len), limits);
    let mut oddities = Vec::new();
    let best = match (one, two) {
        // The second one has not come yet: nothing is known before it has.
        (Err(error), _) | (_, Err(error)) if error.kind() == Kind::Awaiting => return Err(error),
        (Ok(one), Ok(two)) => {
            if one.sequence != two.sequence {
                let what = format!("its two headers are {} and {}", one.sequence, two.sequence);
                oddities.push(what);
            }
            if two.sequence > one.sequence { two } else { one }
        }
        (Ok(only), Err(error)) | (Err(error), Ok(only)) if error.kind() == Kind::Malformed => {
            oddities.push(format!("one of its two headers cannot be used: {error}"));
            only
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    luks(best, start, oddities)
}

/// The copy at an offset from `start`, with its length.
fn copy(window: &dyn Window, start: u64, place: (u64, u64), limits: &Limits) -> Result<Copy> {
    let (offset, len) = place;
    let at = start + offset;
    let mut bytes = window.bytes(Span::new(at, len)?, "a LUKS header", limits)?;
    let magic = if offset == 0 { MAGIC } else { SECOND_MAGIC };
    if bytes[..8] != [&magic[..], &[0, 2]].concat() || Be64::get(&bytes[8..]) != len {
        return Err(Error::malformed(at, "a copy of the LUKS header does not begin like one"));
    }
    if Be64::get(&bytes[256..]) != offset {
        return Err(Error::malformed(at + 256, "a LUKS header says that it lies elsewhere"));
    }
    let sum = bytes[SUM].to_vec();
    bytes[SUM].fill(0);
    let algorithm = text(&bytes[72..104]);
    let counted = match algorithm.as_str() {
        "sha256" => Sha256::digest(&bytes).to_vec(),
        "sha512" => Sha512::digest(&bytes).to_vec(),
        other => {
            let what = format!("a checksum '{}' over its LUKS header", other.escape_debug());
            return Err(Error::unsupported(what).at(at + 72));
        }
    };
    if sum[..counted.len()] != counted {
        return Err(Error::malformed(at + 448, "the checksum of a LUKS header is wrong"));
    }
    let json = &bytes[BINARY..];
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let parsed = serde_json::from_slice(&json[..end]).map_err(|error| {
        Error::malformed(at + BINARY as u64, format!("the text of a LUKS header: {error}"))
    })?;
    Ok(Copy {
        sequence: Be64::get(&bytes[16..]),
        label: text(&bytes[24..72]),
        uuid: text(&bytes[168..208]),
        subsystem: text(&bytes[208..256]),
        text: parsed,
    })
}

/// The JSON text, as far as we want to know it. What it has beside is passed over.
#[derive(serde::Deserialize)]
struct Text {
    #[serde(deserialize_with = "rows")]
    keyslots: Vec<(String, Keyslot)>,
    #[serde(deserialize_with = "rows")]
    segments: Vec<(String, Segment)>,
}

#[derive(serde::Deserialize)]
struct Keyslot {
    r#type: String,
    #[serde(default)]
    key_size: u64,
    af: Option<Stripes>,
    area: Option<Area>,
    kdf: Option<Kdf>,
}

#[derive(serde::Deserialize)]
struct Stripes {
    #[serde(default)]
    stripes: u64,
    hash: Option<String>,
}

#[derive(serde::Deserialize)]
struct Area {
    offset: String,
    size: String,
    encryption: Option<String>,
}

#[derive(serde::Deserialize)]
struct Kdf {
    r#type: String,
    hash: Option<String>,
    iterations: Option<u64>,
    time: Option<u64>,
    /// KiB.
    memory: Option<u64>,
    cpus: Option<u64>,
}

#[derive(serde::Deserialize)]
struct Segment {
    r#type: String,
    offset: String,
    size: String,
    encryption: Option<String>,
    sector_size: Option<u64>,
}

/// A JSON object as a list that has an end.
fn rows<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, T)>, D::Error> {
    struct Rows<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Rows<T> {
        type Value = Vec<(String, T)>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "an object with up to {ROWS} members")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(row) = map.next_entry()? {
                if list.len() == ROWS {
                    return Err(A::Error::custom(format!("more than {ROWS} rows in a list")));
                }
                list.push(row);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_map(Rows(PhantomData))
}

fn luks(copy: Copy, start: u64, mut oddities: Vec<String>) -> Result<Luks> {
    let Copy { sequence, label, uuid, subsystem, text } = copy;
    let at = start + BINARY as u64;
    let mut payload = None::<u64>;
    let mut len = Some(0_u64);
    let mut segments = Vec::new();
    for (id, segment) in &text.segments {
        let offset = number(&segment.offset, at)?;
        let size = match segment.size.as_str() {
            "dynamic" => None,
            size => Some(number(size, at)?),
        };
        payload = Some(payload.map_or(offset, |first| first.min(offset)));
        len =
            match (len, size) {
                (Some(sum), Some(size)) => Some(sum.checked_add(size).ok_or_else(|| {
                    Error::malformed(at, "its segments together do not end in 2^64")
                })?),
                _ => None,
            };
        segments.push(segment.value(id, offset, size));
    }
    let slots = text.keyslots.iter().map(|(id, slot)| {
        slot.oddities(id, &mut oddities);
        slot.value(id, at)
    });
    let slots = slots.collect::<Result<Vec<_>>>()?;
    let mut facts: Vec<(&'static str, Value)> = Vec::new();
    let mut say = |name, value: &str| {
        if !value.is_empty() {
            facts.push((name, value.into()));
        }
    };
    let crypt = text.segments.iter().find_map(|(_, segment)| segment.encryption.as_deref());
    say("cipher", crypt.unwrap_or_default());
    say("uuid", &uuid);
    say("label", &label);
    say("subsystem", &subsystem);
    let payload = payload.unwrap_or(0);
    facts.push(("sequence", sequence.into()));
    facts.push(("detached-header", (payload == 0).into()));
    facts.push(("payload-offset", payload.into()));
    facts.push(("segments", Value::List(segments)));
    facts.push(("slots", Value::List(slots)));
    Ok(Luks { version: 2, payload, payload_len: len, facts, oddities })
}

/// A number of 64 bits, which the text holds as a string.
fn number(text: &str, at: u64) -> Result<u64> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(40).collect();
        Error::malformed(at, format!("'{}' is no number of bytes", text.escape_debug()))
    })
}

impl Segment {
    fn value(&self, id: &str, offset: u64, size: Option<u64>) -> Value {
        let mut map = vec![("id", Value::from(id)), ("type", self.r#type.as_str().into())];
        map.push(("offset", offset.into()));
        map.extend(size.map(|size| ("size", size.into())));
        map.extend(self.encryption.as_deref().map(|cipher| ("cipher", cipher.into())));
        map.extend(self.sector_size.map(|size| ("sector-size", size.into())));
        Value::Map(map)
    }
}

impl Keyslot {
    fn value(&self, id: &str, at: u64) -> Result<Value> {
        let mut map = vec![("id", Value::from(id)), ("type", self.r#type.as_str().into())];
        map.push(("key-size", self.key_size.into()));
        if let Some(kdf) = &self.kdf {
            map.push(("kdf", kdf.r#type.as_str().into()));
            map.extend(kdf.hash.as_deref().map(|hash| ("hash-alg", hash.into())));
            map.extend(kdf.iterations.map(|number| ("iters", number.into())));
            map.extend(kdf.time.map(|number| ("time", number.into())));
            map.extend(kdf.memory.map(|kib| ("memory", kib.saturating_mul(1024).into())));
            map.extend(kdf.cpus.map(|number| ("threads", number.into())));
        }
        if let Some(stripes) = &self.af {
            map.push(("stripes", stripes.stripes.into()));
            map.extend(stripes.hash.as_deref().map(|hash| ("stripes-hash-alg", hash.into())));
        }
        if let Some(area) = &self.area {
            map.push(("key-offset", number(&area.offset, at)?.into()));
            map.push(("key-length", number(&area.size, at)?.into()));
            map.extend(area.encryption.as_deref().map(|cipher| ("cipher", cipher.into())));
        }
        Ok(Value::Map(map))
    }

    fn oddities(&self, id: &str, found: &mut Vec<String>) {
        let kdf = |get: fn(&Kdf) -> Option<u64>| self.kdf.as_ref().and_then(get).unwrap_or(0);
        let stripes = self.af.as_ref().map_or(0, |stripes| stripes.stripes);
        let costs = [
            (kdf(|kdf| kdf.iterations), MANY_ITERATIONS, "iterations"),
            (kdf(|kdf| kdf.time), MANY_ROUNDS, "rounds"),
            (kdf(|kdf| kdf.memory), MUCH_MEMORY, "KiB of memory"),
            (kdf(|kdf| kdf.cpus), MANY_THREADS, "threads"),
            (stripes, MANY_STRIPES, "stripes"),
            (self.key_size, LONG_KEY, "bytes of a key"),
        ];
        for (number, most, what) in costs {
            if number > most {
                found.push(format!("its key slot {id} takes {number} {what}"));
            }
        }
    }
}
