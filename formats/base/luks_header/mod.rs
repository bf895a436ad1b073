//! The header of a LUKS container, by itself or inside an image: what it says without a key.
//!
//! Source: LUKS1 On-Disk Format Specification 1.2.3; LUKS2 On-Disk Format Specification 1.1.1.

mod second;

use binrw::{BinRead, BinWrite};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Value;
use crate::base::storage::{Be64, Window, Word};

/// What a header begins with.
pub(crate) const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

/// Bytes of a header of version 1.
const V1_LENGTH: usize = 592;
/// A key slot of version 1 that has a key.
const ACTIVE: u32 = 0x00ac_71f3;
/// Bytes of a sector, in which version 1 counts.
const SECTOR: u64 = 512;
/// More iterations of PBKDF2 take minutes on any machine: nobody wants them who wants in.
const MANY_ITERATIONS: u64 = 1 << 27;
/// More stripes than any program writes: 4000.
const MANY_STRIPES: u64 = 8192;
/// More bytes of a key than any cipher takes.
const LONG_KEY: u64 = 512;

/// What a header says.
#[derive(Debug)]
pub(crate) struct Luks {
    /// 1 or 2.
    pub(crate) version: u16,
    /// Where the encrypted bytes begin, counted from the header's first; 0: in another file.
    pub(crate) payload: u64,
    /// How many there are, where it says so: otherwise up to the end of the file.
    pub(crate) payload_len: Option<u64>,
    /// By the names of qemu's `QCryptoBlockInfoLUKS`, and more of version 2.
    pub(crate) facts: Vec<(&'static str, Value)>,
    /// What is out of the ordinary, in sentences.
    pub(crate) oddities: Vec<String>,
}

/// Reads the header that begins at `start`. `Unsupported` for a version that is neither 1 nor 2,
/// `Malformed` if it breaks the rules.
pub(crate) fn read(window: &dyn Window, start: u64, limits: &Limits) -> Result<Luks> {
    let front = window.array::<8>(start)?;
    if front[..6] != MAGIC {
        return Err(Error::malformed(start, "no LUKS header"));
    }
    match u16::from_be_bytes([front[6], front[7]]) {
        1 => first(window, start),
        2 => second::read(window, start, limits),
        other => Err(Error::unsupported(format!("LUKS version {other}")).at(start + 6)),
    }
}

/// The header of version 1.
#[derive(Debug, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big, magic = b"LUKS\xba\xbe\0\x01")]
struct First {
    cipher: [u8; 32],
    mode: [u8; 32],
    hash: [u8; 32],
    /// Sectors.
    payload: u32,
    key_bytes: u32,
    digest: [u8; 20],
    digest_salt: [u8; 32],
    digest_iterations: u32,
    uuid: [u8; 40],
    slots: [Slot; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big)]
struct Slot {
    state: u32,
    iterations: u32,
    salt: [u8; 32],
    /// Sectors.
    offset: u32,
    stripes: u32,
}

fn first(window: &dyn Window, start: u64) -> Result<Luks> {
    let bytes = window.array::<V1_LENGTH>(start)?;
    let header = First::read(&mut std::io::Cursor::new(&bytes[..]))
        .map_err(|_| Error::malformed(start, "no LUKS header of version 1"))?;
    let key_bytes = u64::from(header.key_bytes);
    if key_bytes == 0 || key_bytes > LONG_KEY {
        let what = format!("a key of {key_bytes} bytes, 1 to {LONG_KEY} are possible");
        return Err(Error::malformed(start + 108, what));
    }
    let mode = text(&header.mode);
    let (mode, iv) = mode.split_once('-').unwrap_or((&mode, ""));
    let (iv, iv_hash) = iv.split_once(':').unwrap_or((iv, ""));
    // XTS takes two keys.
    let bits = if mode == "xts" { key_bytes * 4 } else { key_bytes * 8 };
    let payload = u64::from(header.payload) * SECTOR;
    let mut facts: Vec<(&'static str, Value)> = Vec::new();
    let mut say = |name, value: &str| {
        if !value.is_empty() {
            facts.push((name, value.into()));
        }
    };
    say("cipher-alg", &format!("{}-{bits}", text(&header.cipher)));
    say("cipher-mode", mode);
    say("ivgen-alg", iv);
    say("ivgen-hash-alg", iv_hash);
    say("hash-alg", &text(&header.hash));
    say("uuid", &text(&header.uuid));
    facts.push(("detached-header", (payload == 0).into()));
    facts.push(("payload-offset", payload.into()));
    facts.push(("master-key-iters", u64::from(header.digest_iterations).into()));
    facts.push(("slots", Value::List(header.slots.iter().map(Slot::value).collect())));
    let oddities = oddities(&header, payload);
    Ok(Luks { version: 1, payload, payload_len: None, facts, oddities })
}

impl Slot {
    fn value(&self) -> Value {
        let active = self.state == ACTIVE;
        let mut map = vec![("active", Value::from(active))];
        if active {
            map.push(("iters", u64::from(self.iterations).into()));
        }
        map.push(("key-offset", (u64::from(self.offset) * SECTOR).into()));
        if active {
            map.push(("stripes", u64::from(self.stripes).into()));
        }
        Value::Map(map)
    }
}

fn oddities(header: &First, payload: u64) -> Vec<String> {
    let mut found = Vec::new();
    let digest = u64::from(header.digest_iterations);
    if digest > MANY_ITERATIONS {
        found.push(format!("its key's digest takes {digest} iterations"));
    }
    for (index, slot) in header.slots.iter().enumerate().filter(|(_, slot)| slot.state == ACTIVE) {
        let (iterations, stripes) = (u64::from(slot.iterations), u64::from(slot.stripes));
        if iterations > MANY_ITERATIONS {
            found.push(format!("its key slot {index} takes {iterations} iterations"));
        }
        if stripes == 0 || stripes > MANY_STRIPES {
            found.push(format!("its key slot {index} has {stripes} stripes"));
        }
        let from = u64::from(slot.offset) * SECTOR;
        let end = from + stripes * u64::from(header.key_bytes);
        if from < V1_LENGTH as u64 || (payload != 0 && end > payload) {
            let what = format!("its key slot {index} lies at {from:#x}, over something else");
            found.push(what);
        }
    }
    found
}

/// Text that ends at its first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::storage::Memory;

    #[test]
    fn a_header_of_version_1_comes_back() {
        let slot =
            Slot { state: ACTIVE, iterations: 1000, salt: [3; 32], offset: 8, stripes: 4000 };
        let header = First {
            cipher: [b'a'; 32],
            mode: [b'b'; 32],
            hash: [b'c'; 32],
            payload: 4096,
            key_bytes: 64,
            digest: [1; 20],
            digest_salt: [2; 32],
            digest_iterations: 500,
            uuid: [b'd'; 40],
            slots: [slot; 8],
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        header.write(&mut bytes).expect("a Vec takes any bytes");
        let bytes = bytes.into_inner();
        assert_eq!(bytes.len(), V1_LENGTH);
        let back = First::read(&mut std::io::Cursor::new(&bytes)).expect("a header");
        assert_eq!(back, header);
        let luks = read(&Memory::new(bytes), 0, &Limits::default()).expect("a header");
        assert_eq!((luks.version, luks.payload), (1, 4096 * SECTOR));
    }
}
