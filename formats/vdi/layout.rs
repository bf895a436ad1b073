//! Bytes ↔ structs. All integers are little endian; offsets and sizes are bytes.
//!
//! Source: `VirtualBox`, `VDICore.h`.

use binrw::{BinRead, BinResult, BinWrite};

use crate::base::model::identity::swap_uuid;

/// Where the signature stands; before it there is text that means nothing.
pub(super) const SIGNATURE_AT: u64 = 64;
/// What an image is known by.
pub(super) const SIGNATURE: [u8; 4] = [0x7f, 0x10, 0xda, 0xbe];
/// Bytes up to the version, which says what follows.
pub(super) const PRELUDE: usize = 72;
/// The version that this writes, and the first one there was.
pub(super) const VERSION: u32 = 0x0001_0001;
pub(super) const OLD_VERSION: u32 = 2;
/// Bytes up to the end of a header of version 1 and of one with another geometry in it.
pub(super) const SHORT: usize = 456;
pub(super) const FULL: usize = 472;
/// Bytes up to the end of a header of the old version; the map follows.
pub(super) const OLD: usize = 420;
/// Bytes that a sector of the geometry has.
pub(super) const SECTOR: u32 = 512;

/// Kinds of image.
pub(super) const DYNAMIC: u32 = 1;
pub(super) const FIXED: u32 = 2;
pub(super) const UNDO: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// The flags that have a meaning: new blocks are filled with zeros.
pub(super) const FLAGS: u32 = 1;

/// The largest block that is read; there is hardly one that has not 1 MiB.
pub(super) const MAX_BLOCK: u64 = 64 << 20;
/// Bytes of an entry of the map.
pub(super) const ENTRY: u64 = 4;
/// An entry of a block that was never written.
pub(super) const FREE: u32 = u32::MAX;
/// An entry of a block of zeros.
pub(super) const ZERO: u32 = u32::MAX - 1;

/// A header of version 1, from the first byte of the file on.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Version1 {
    pub(super) text: [u8; 64],
    #[brw(magic = b"\x7f\x10\xda\xbe")]
    pub(super) version: u32,
    /// Bytes of what follows the version.
    pub(super) len: u32,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) comment: [u8; 256],
    pub(super) map: u32,
    pub(super) data: u32,
    /// Cylinders, heads, sectors, bytes of a sector.
    pub(super) old_geometry: [u32; 4],
    pub(super) unused: u32,
    pub(super) size: u64,
    pub(super) block: u32,
    pub(super) extra: u32,
    pub(super) blocks: u32,
    pub(super) allocated: u32,
    pub(super) uuids: Uuids,
    pub(super) parent_modify: [u8; 16],
    #[br(if(len as usize >= FULL - PRELUDE))]
    #[bw(if(*len as usize >= FULL - PRELUDE))]
    pub(super) geometry: [u32; 4],
}

/// A header of the old version.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
struct Version0 {
    text: [u8; 64],
    #[brw(magic = b"\x7f\x10\xda\xbe")]
    version: u32,
    kind: u32,
    flags: u32,
    comment: [u8; 256],
    old_geometry: [u32; 4],
    size: u64,
    block: u32,
    blocks: u32,
    allocated: u32,
    uuids: Uuids,
}

/// Who an image is and whose child, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Uuids {
    pub(super) create: [u8; 16],
    pub(super) modify: [u8; 16],
    pub(super) parent: [u8; 16],
}

impl Version1 {
    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write(&mut bytes).expect("a Vec takes any bytes");
        bytes.into_inner()
    }
}

/// A header of any version. UUIDs are as they are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) old: bool,
    /// Where the header ends.
    pub(super) end: u64,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) comment: String,
    pub(super) map: u64,
    pub(super) data: u64,
    pub(super) size: u64,
    pub(super) block: u64,
    /// Bytes in front of each block in the file.
    pub(super) extra: u64,
    /// Entries of the map.
    pub(super) blocks: u64,
    /// Blocks that the file has room for.
    pub(super) allocated: u64,
    pub(super) create: [u8; 16],
    pub(super) modify: [u8; 16],
    pub(super) parent: [u8; 16],
    pub(super) parent_modify: [u8; 16],
    /// Bytes of a sector, where there is a second geometry.
    pub(super) sector: Option<u32>,
}

/// Where fields stand that are changed in place.
pub(super) struct Fields {
    pub(super) map: u64,
    pub(super) data: u64,
    pub(super) size: u64,
    pub(super) block: u64,
    pub(super) extra: u64,
    pub(super) blocks: u64,
    pub(super) allocated: u64,
    pub(super) create: u64,
    pub(super) modify: u64,
    pub(super) kind: u64,
    pub(super) flags: u64,
    pub(super) sector: u64,
}

const FIELDS: Fields = Fields {
    kind: 76,
    flags: 80,
    map: 340,
    data: 344,
    size: 368,
    block: 376,
    extra: 380,
    blocks: 384,
    allocated: 388,
    create: 392,
    modify: 408,
    sector: 468,
};

/// The old version says nothing of map, data, extra and sector: those are never looked for.
const OLD_FIELDS: Fields = Fields {
    kind: 72,
    flags: 76,
    map: 68,
    data: 68,
    size: 352,
    block: 360,
    extra: 68,
    blocks: 364,
    allocated: 368,
    create: 372,
    modify: 388,
    sector: 68,
};

/// What an entry of the map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Free,
    Zero,
    Block(u32),
}

impl Entry {
    /// What this word says.
    pub(super) fn of(word: u64) -> Entry {
        match u32::try_from(word) {
            Ok(ZERO) => Entry::Zero,
            Ok(number) if number != FREE => Entry::Block(number),
            Ok(_) | Err(_) => Entry::Free,
        }
    }

    /// The word that says it.
    pub(super) fn word(self) -> u32 {
        match self {
            Entry::Free => FREE,
            Entry::Zero => ZERO,
            Entry::Block(number) => number,
        }
    }
}

impl Header {
    /// The header in these bytes: of version 1, as long as it says itself that it is.
    pub(super) fn parse(bytes: &[u8]) -> BinResult<Header> {
        let one = Version1::read(&mut std::io::Cursor::new(bytes))?;
        let long = one.len as usize >= FULL - PRELUDE;
        Ok(Header {
            old: false,
            end: PRELUDE as u64 + u64::from(one.len),
            kind: one.kind,
            flags: one.flags,
            comment: text(&one.comment),
            map: one.map.into(),
            data: one.data.into(),
            size: one.size,
            block: one.block.into(),
            extra: one.extra.into(),
            blocks: one.blocks.into(),
            allocated: one.allocated.into(),
            create: swap_uuid(one.uuids.create),
            modify: swap_uuid(one.uuids.modify),
            parent: swap_uuid(one.uuids.parent),
            parent_modify: swap_uuid(one.parent_modify),
            sector: long.then_some(one.geometry[3]),
        })
    }

    /// The header of the old version in these bytes.
    pub(super) fn parse_old(bytes: &[u8; OLD]) -> BinResult<Header> {
        let old = Version0::read(&mut std::io::Cursor::new(&bytes[..]))?;
        let map = OLD as u64;
        Ok(Header {
            old: true,
            end: map,
            kind: old.kind,
            flags: old.flags,
            comment: text(&old.comment),
            map,
            data: map + u64::from(old.blocks) * ENTRY,
            size: old.size,
            block: old.block.into(),
            extra: 0,
            blocks: old.blocks.into(),
            allocated: old.allocated.into(),
            create: swap_uuid(old.uuids.create),
            modify: swap_uuid(old.uuids.modify),
            parent: swap_uuid(old.uuids.parent),
            parent_modify: [0; 16],
            sector: None,
        })
    }

    /// Where its fields stand.
    pub(super) fn fields(&self) -> &'static Fields {
        if self.old { &OLD_FIELDS } else { &FIELDS }
    }

    /// Bytes from one block in the file to the next.
    pub(super) fn stride(&self) -> u64 {
        self.block + self.extra
    }

    /// Blocks that the disk reaches into.
    pub(super) fn needed(&self) -> u64 {
        self.size.div_ceil(self.block)
    }

    /// Where in the file the bytes of this block lie; `None` if no file is so long.
    pub(super) fn place(&self, number: u32) -> Option<u64> {
        self.end_of(u64::from(number) + 1).map(|end| end - self.block)
    }

    /// Where so many blocks end in the file; `None` if no file is so long.
    pub(super) fn end_of(&self, blocks: u64) -> Option<u64> {
        let end = self.stride().checked_mul(blocks)?.checked_add(self.data)?;
        i64::try_from(end).is_ok().then_some(end)
    }
}

/// The text up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version1(len: u32) -> Version1 {
        Version1 {
            text: [b'x'; 64],
            version: VERSION,
            len,
            kind: DYNAMIC,
            flags: 1,
            comment: [b'c'; 256],
            map: 512,
            data: 4096,
            old_geometry: [1, 2, 3, 512],
            unused: 7,
            size: 0x0123_4567_89ab_cdef,
            block: 1 << 20,
            extra: 512,
            blocks: 77,
            allocated: 76,
            uuids: Uuids { create: [1; 16], modify: [2; 16], parent: [3; 16] },
            parent_modify: [4; 16],
            geometry: if len >= 400 { [5, 6, 7, 512] } else { [0; 4] },
        }
    }

    #[test]
    fn headers_of_both_lengths_come_back() {
        for (len, size) in [(384, SHORT), (400, FULL)] {
            let header = version1(len);
            let bytes = header.to_bytes();
            assert_eq!(bytes.len(), size);
            let back = Version1::read(&mut std::io::Cursor::new(&bytes)).expect("a header");
            assert_eq!(back, header);
            let any = Header::parse(&bytes).expect("a header");
            assert_eq!((any.end, any.size), (72 + u64::from(len), header.size));
            assert_eq!(any.sector, (len == 400).then_some(512));
            let fields = any.fields();
            for (at, value) in [
                (fields.kind, header.kind),
                (fields.flags, header.flags),
                (fields.map, header.map),
                (fields.data, header.data),
                (fields.block, header.block),
                (fields.extra, header.extra),
                (fields.blocks, header.blocks),
                (fields.allocated, header.allocated),
            ] {
                let at = usize::try_from(at).expect("small");
                assert_eq!(bytes[at..at + 4], value.to_le_bytes(), "the field at {at}");
            }
        }
    }

    #[test]
    fn an_old_header_is_understood() {
        let old = Version0 {
            text: [0; 64],
            version: OLD_VERSION,
            kind: FIXED,
            flags: 0,
            comment: [0; 256],
            old_geometry: [0; 4],
            size: 3 << 20,
            block: 1 << 20,
            blocks: 3,
            allocated: 2,
            uuids: Uuids { create: [1; 16], modify: [2; 16], parent: [0; 16] },
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        old.write(&mut bytes).expect("a Vec takes any bytes");
        let bytes: [u8; OLD] = bytes.into_inner().try_into().expect("so many");
        let header = Header::parse_old(&bytes).expect("a header");
        assert_eq!((header.map, header.data, header.extra), (420, 432, 0));
        assert_eq!((header.blocks, header.allocated), (3, 2));
        let at = usize::try_from(header.fields().allocated).expect("small");
        assert_eq!(bytes[at..at + 4], 2_u32.to_le_bytes());
    }

    #[test]
    fn a_block_past_every_file_has_no_place() {
        let mut header = Header::parse(&version1(400).to_bytes()).expect("a header");
        assert_eq!(header.place(2), Some(4096 + 2 * ((1 << 20) + 512) + 512));
        (header.block, header.extra) = (1 << 31, 1 << 31);
        assert_eq!(header.place(u32::MAX - 2), None);
    }
}
