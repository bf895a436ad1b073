//! Bytes ↔ structs. All integers are little endian; identifiers are as Windows stores them.
//!
//! Source: [MS-VHDX], sections 2.2 to 2.6.

use std::io::Cursor;

use binrw::{BinRead, BinWrite};

use crate::base::model::identity::{swap_uuid, uuid_text};

/// What a file begins with.
pub(super) const MAGIC: [u8; 8] = *b"vhdxfile";
/// Everything has its place at a multiple of this.
pub(super) const MIB: u64 = 1 << 20;
/// Where the name of the program stands that made the file: UTF-16, 512 bytes.
pub(super) const CREATOR: u64 = 8;
pub(super) const CREATOR_LEN: usize = 512;
/// Where the two headers stand.
pub(super) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes of a header, all of which its checksum is about.
pub(super) const HEADER_LEN: usize = 4096;
/// Where the two region tables stand.
pub(super) const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a table of regions, and of one of metadata.
pub(super) const TABLE_LEN: usize = 64 << 10;
/// Rows of such a table.
pub(super) const MAX_ROWS: usize = 2047;
/// Bytes of a metadata item at most.
pub(super) const MAX_ITEM: u32 = 1 << 20;
/// Bytes of a disk at most.
pub(super) const MAX_DISK: u64 = 64 << 40;
/// Bytes of a block of the disk.
pub(super) const MIN_BLOCK: u64 = 1 << 20;
pub(super) const MAX_BLOCK: u64 = 256 << 20;
/// Sectors that one bitmap tells of.
const SECTORS_PER_BITMAP: u64 = 1 << 23;

/// A sector of the log, and what it stands for.
pub(super) const LOG_SECTOR: usize = 4096;
/// Bytes of an entry of the log before its descriptors, and of a descriptor.
pub(super) const LOG_HEADER_LEN: usize = 64;
pub(super) const DESCRIPTOR_LEN: usize = 32;

/// An identifier as it stands in a file.
pub(super) type Guid = [u8; 16];

pub(super) const REGION_BAT: Guid = guid(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
pub(super) const REGION_METADATA: Guid = guid(0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e);
pub(super) const ITEM_FILE: Guid = guid(0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b);
pub(super) const ITEM_DISK_SIZE: Guid = guid(0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8);
pub(super) const ITEM_PAGE_83: Guid = guid(0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746);
pub(super) const ITEM_LOGICAL: Guid = guid(0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f);
pub(super) const ITEM_PHYSICAL: Guid = guid(0xcda3_48c7_445d_4471_9cc9_e988_5251_c556);
pub(super) const ITEM_LOCATOR: Guid = guid(0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c);
/// The one type of parent locator that there is.
pub(super) const LOCATOR_TYPE: Guid = guid(0xb04a_efb7_d19e_4a81_b789_25b8_e944_5913);

/// The bytes of an identifier, from its digits as they are printed.
const fn guid(digits: u128) -> Guid {
    let d = digits.to_be_bytes();
    [
        d[3], d[2], d[1], d[0], d[5], d[4], d[7], d[6], d[8], d[9], d[10], d[11], d[12], d[13],
        d[14], d[15],
    ]
}

/// An identifier as people write it.
pub(super) fn guid_text(guid: Guid) -> String {
    uuid_text(swap_uuid(guid))
}

/// Metadata: the item is the user's, not the format's.
pub(super) const ITEM_IS_USER: u32 = 1;
/// It tells of the disk, not of the file.
pub(super) const ITEM_IS_DISK: u32 = 1 << 1;
/// Whoever does not know it may not open the file.
pub(super) const ITEM_IS_REQUIRED: u32 = 1 << 2;

/// File parameters: blocks stay allocated (a fixed image), there is a parent.
pub(super) const LEAVE_ALLOCATED: u32 = 1;
pub(super) const HAS_PARENT: u32 = 1 << 1;

/// One of the two headers.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"head")]
pub(super) struct Header {
    pub(super) checksum: u32,
    pub(super) sequence: u64,
    pub(super) file_write: Guid,
    pub(super) data_write: Guid,
    /// All zeros: the log is empty.
    pub(super) log: Guid,
    pub(super) log_version: u16,
    pub(super) version: u16,
    pub(super) log_length: u32,
    pub(super) log_offset: u64,
}

/// What stands before the rows of a table of regions.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"regi")]
pub(super) struct RegionHead {
    pub(super) checksum: u32,
    pub(super) count: u32,
    pub(super) reserved: u32,
}

/// A row of a table of regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Region {
    pub(super) guid: Guid,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) required: u32,
}

/// What stands before the rows of the table of metadata.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"metadata")]
pub(super) struct MetadataHead {
    #[brw(pad_before = 2, pad_after = 20)]
    pub(super) count: u16,
}

/// A row of the table of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Item {
    pub(super) guid: Guid,
    /// From the start of the region.
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) flags: u32,
    pub(super) reserved: u32,
}

/// What stands before the rows of a parent locator.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct LocatorHead {
    pub(super) kind: Guid,
    #[brw(pad_before = 2)]
    pub(super) count: u16,
}

/// A row of a parent locator; offsets count from its start, lengths are bytes of UTF-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct LocatorRow {
    pub(super) key_offset: u32,
    pub(super) value_offset: u32,
    pub(super) key_len: u16,
    pub(super) value_len: u16,
}

/// What an entry of the log begins with.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"loge")]
pub(super) struct LogEntry {
    pub(super) checksum: u32,
    pub(super) length: u32,
    /// Where in the log the sequence begins that this entry belongs to.
    pub(super) tail: u32,
    pub(super) sequence: u64,
    pub(super) descriptors: u32,
    pub(super) reserved: u32,
    pub(super) guid: Guid,
    /// The file was at least so long, for sure, when the entry was written.
    pub(super) flushed: u64,
    /// The file is at least so long once the entry has been replayed.
    pub(super) last: u64,
}

/// What an entry of the log does to the file.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) enum Descriptor {
    /// Zeros.
    #[brw(magic = b"zero")]
    Zero { reserved: u32, length: u64, offset: u64, sequence: u64 },
    /// A sector, whose first 8 and last 4 bytes stand here, and the others in the log's next one.
    #[brw(magic = b"desc")]
    Data { trailing: [u8; 4], leading: [u8; 8], offset: u64, sequence: u64 },
}

/// A struct out of the front of these bytes; `None` if its mark is not there, or not all of it.
pub(super) fn parse<T>(bytes: &[u8]) -> Option<T>
where
    T: for<'a> BinRead<Args<'a> = ()> + binrw::meta::ReadEndian,
{
    T::read(&mut Cursor::new(bytes)).ok()
}

/// Its bytes.
pub(super) fn to_bytes<T>(what: &T) -> Vec<u8>
where
    T: for<'a> BinWrite<Args<'a> = ()> + binrw::meta::WriteEndian,
{
    let mut bytes = Cursor::new(Vec::new());
    what.write(&mut bytes).expect("a Vec takes any bytes");
    bytes.into_inner()
}

/// The checksum of bytes in which it stands itself, at 4 to 7: those count as zeros.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    checksum_of(bytes, &[])
}

/// The same, of bytes in two parts.
pub(super) fn checksum_of(bytes: &[u8], rest: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&bytes[..4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &bytes[8..]);
    crc32c::crc32c_append(sum, rest)
}

/// Whether bytes have the checksum that they say they have.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    bytes[4..8] == checksum(bytes).to_le_bytes()
}

/// Writes the checksum of bytes into them.
pub(super) fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

impl Header {
    /// Its bytes, with their checksum.
    pub(super) fn sealed(&self) -> Vec<u8> {
        let mut bytes = to_bytes(self);
        bytes.resize(HEADER_LEN, 0);
        seal(&mut bytes);
        bytes
    }
}

/// The bytes of a table of these regions, with their checksum.
pub(super) fn region_table(regions: &[Region]) -> Vec<u8> {
    let count = u32::try_from(regions.len()).expect("2047 at most");
    let mut bytes = to_bytes(&RegionHead { checksum: 0, count, reserved: 0 });
    for region in regions {
        bytes.extend(to_bytes(region));
    }
    bytes.resize(TABLE_LEN, 0);
    seal(&mut bytes);
    bytes
}

/// Text as UTF-16; what is none becomes a replacement character, and a NUL ends it.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units = units.take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// How disk and file are cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Bytes of a block.
    pub(super) block: u64,
    /// Bytes of a logical sector.
    pub(super) sector: u64,
    /// Whether what is not here lies in another image.
    pub(super) parent: bool,
}

impl Geometry {
    /// Blocks whose sectors one bitmap tells of; the entry of the bitmap follows theirs.
    pub(super) fn ratio(self) -> u64 {
        SECTORS_PER_BITMAP * self.sector / self.block
    }

    /// Blocks of the disk.
    pub(super) fn blocks(self) -> u64 {
        self.size.div_ceil(self.block)
    }

    /// Entries that the BAT must have.
    pub(super) fn entries(self) -> u64 {
        let (blocks, ratio) = (self.blocks(), self.ratio());
        if self.parent {
            return blocks.div_ceil(ratio) * (ratio + 1);
        }
        // The last bitmap may be missing: nobody looks at it.
        blocks + blocks.saturating_sub(1) / ratio
    }

    /// Which entry is this block's.
    pub(super) fn entry_of(self, block: u64) -> u64 {
        block + block / self.ratio()
    }

    /// Which block this entry is for; `None` if it is a bitmap's.
    pub(super) fn block_of(self, entry: u64) -> Option<u64> {
        let ratio = self.ratio();
        let (chunk, inside) = (entry / (ratio + 1), entry % (ratio + 1));
        (inside < ratio).then_some(chunk * ratio + inside)
    }

    /// Blocks whose entries stand before this one.
    pub(super) fn blocks_before(self, entry: u64) -> u64 {
        entry - entry / (self.ratio() + 1)
    }

    /// Which entry is that of the bitmap for this block.
    pub(super) fn bitmap_of(self, block: u64) -> u64 {
        let ratio = self.ratio();
        block / ratio * (ratio + 1) + ratio
    }

    /// Bytes of a bitmap that tell of one block.
    pub(super) fn bitmap_len(self) -> u64 {
        self.block / self.sector / 8
    }

    /// Where in its bitmap a block's bytes begin.
    pub(super) fn bitmap_start(self, block: u64) -> u64 {
        block % self.ratio() * self.bitmap_len()
    }
}

/// Bits of an entry of the BAT: its state, what is reserved, the offset of its block.
pub(super) const STATE: u64 = 7;
pub(super) const BAT_RESERVED: u64 = 0x000f_fff8;
pub(super) const BAT_OFFSET: u64 = !0x000f_ffff;

/// States of an entry.
pub(super) const NOT_PRESENT: u64 = 0;
pub(super) const UNDEFINED: u64 = 1;
pub(super) const ZERO: u64 = 2;
pub(super) const UNMAPPED: u64 = 3;
/// What version 0.95 of the specification called unmapped.
pub(super) const UNMAPPED_0_95: u64 = 5;
pub(super) const PRESENT: u64 = 6;
pub(super) const PARTLY_PRESENT: u64 = 7;

/// What an entry of the BAT says about its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// Nothing: what lies underneath, or zeros.
    Missing,
    /// Zeros, whatever lies underneath.
    Zero,
    /// All of it, here.
    Present { offset: u64 },
    /// Those sectors that the bitmap tells of, here.
    Partly { offset: u64 },
}

/// What an entry of the BAT says; `None` for a state that does not exist.
pub(super) fn payload(entry: u64) -> Option<Payload> {
    let offset = entry & BAT_OFFSET;
    match entry & STATE {
        NOT_PRESENT => Some(Payload::Missing),
        UNDEFINED | ZERO | UNMAPPED | UNMAPPED_0_95 => Some(Payload::Zero),
        PRESENT => Some(Payload::Present { offset }),
        PARTLY_PRESENT => Some(Payload::Partly { offset }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_is_sealed() {
        let header = Header {
            checksum: 0,
            sequence: 0x1122_3344_5566_7788,
            file_write: [1; 16],
            data_write: [2; 16],
            log: [3; 16],
            log_version: 0,
            version: 1,
            log_length: 1 << 20,
            log_offset: 5 << 20,
        };
        let bytes = header.sealed();
        assert_eq!((bytes.len(), &bytes[..4]), (HEADER_LEN, &b"head"[..]));
        assert!(is_sound(&bytes));
        let read: Header = parse(&bytes).expect("a header");
        assert_eq!(Header { checksum: 0, ..read }, header);
        let mut torn = bytes;
        torn[4000] = 1;
        assert!(!is_sound(&torn));
        assert_eq!(parse::<Header>(&[0; HEADER_LEN]), None);
    }

    #[test]
    fn rows_of_every_table_come_back() {
        let region = Region { guid: REGION_BAT, offset: 3 << 20, length: 1 << 20, required: 1 };
        let bytes = region_table(&[region]);
        assert!(is_sound(&bytes) && bytes.len() == TABLE_LEN);
        assert_eq!(parse::<RegionHead>(&bytes).expect("a table").count, 1);
        assert_eq!(parse::<Region>(&bytes[16..]), Some(region));
        let head = MetadataHead { count: 7 };
        assert_eq!(to_bytes(&head).len(), 32);
        assert_eq!(parse(&to_bytes(&head)), Some(head));
        let item = Item {
            guid: ITEM_FILE,
            offset: 65_536,
            length: 8,
            flags: ITEM_IS_REQUIRED,
            reserved: 0,
        };
        assert_eq!(to_bytes(&item).len(), 32);
        assert_eq!(parse(&to_bytes(&item)), Some(item));
        let head = LocatorHead { kind: LOCATOR_TYPE, count: 3 };
        assert_eq!(to_bytes(&head).len(), 20);
        assert_eq!(parse(&to_bytes(&head)), Some(head));
        let row = LocatorRow { key_offset: 80, value_offset: 120, key_len: 26, value_len: 76 };
        assert_eq!(to_bytes(&row).len(), 12);
        assert_eq!(parse(&to_bytes(&row)), Some(row));
    }

    #[test]
    fn entries_of_the_log_come_back() {
        let entry = LogEntry {
            checksum: 9,
            length: 8192,
            tail: 4096,
            sequence: 77,
            descriptors: 2,
            reserved: 0,
            guid: [7; 16],
            flushed: 4 << 20,
            last: 5 << 20,
        };
        let bytes = to_bytes(&entry);
        assert_eq!(bytes.len(), LOG_HEADER_LEN);
        assert_eq!(parse(&bytes), Some(entry));
        for descriptor in [
            Descriptor::Zero { reserved: 0, length: 1 << 63, offset: 4096, sequence: 77 },
            Descriptor::Data { trailing: [1; 4], leading: [2; 8], offset: 8192, sequence: 77 },
        ] {
            let bytes = to_bytes(&descriptor);
            assert_eq!(bytes.len(), DESCRIPTOR_LEN);
            assert_eq!(parse(&bytes), Some(descriptor));
        }
        assert_eq!(parse::<Descriptor>(&[0; DESCRIPTOR_LEN]), None);
    }

    #[test]
    fn identifiers_are_those_of_the_specification() {
        assert_eq!(guid_text(REGION_BAT), "2dc27766-f623-4200-9d64-115e9bfd4a08");
        assert_eq!(REGION_BAT[..4], [0x66, 0x77, 0xc2, 0x2d]);
    }

    #[test]
    fn every_block_has_its_entry_and_bitmaps_stand_between() {
        for (sector, block) in [(512, 1 << 20), (512, 32 << 20), (4096, 256 << 20), (4096, 1 << 20)]
        {
            for parent in [false, true] {
                let geometry = Geometry { size: 5 << 40, block, sector, parent };
                let ratio = geometry.ratio();
                for number in [0, 1, ratio - 1, ratio, ratio + 1, 3 * ratio, 3 * ratio + 1] {
                    assert_eq!(geometry.block_of(geometry.entry_of(number)), Some(number));
                    let bitmap = geometry.bitmap_of(number);
                    assert_eq!(geometry.block_of(bitmap), None);
                    assert_eq!(geometry.blocks_before(geometry.entry_of(number)), number);
                    assert_eq!(geometry.blocks_before(bitmap), geometry.blocks_before(bitmap + 1));
                    assert_eq!(geometry.bitmap_start(number) / MIB, 0);
                    assert!(bitmap > geometry.entry_of(number));
                }
                assert_eq!(geometry.bitmap_len() * ratio, MIB);
            }
        }
        let entries = |blocks: u64, parent| {
            let (block, sector) = (32 << 20, 512);
            Geometry { size: blocks * block, block, sector, parent }.entries()
        };
        let (fixed, differencing) = (false, true);
        assert_eq!([0, 1, 128, 129].map(|n| entries(n, fixed)), [0, 1, 128, 130]);
        assert_eq!([0, 1, 128, 129].map(|n| entries(n, differencing)), [0, 129, 129, 258]);
    }
}
