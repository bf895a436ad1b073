//! Bytes ↔ structs. All integers are big endian; sectors become bytes here.
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification", 2006.

use binrw::{BinRead, BinWrite};

/// What a footer begins with, and a header.
pub(super) const COOKIE: [u8; 8] = *b"conectix";
pub(super) const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// Bytes of a footer, of one by old versions of Virtual PC, and of a header.
pub(super) const FOOTER: u64 = 512;
pub(super) const SHORT_FOOTER: u64 = 511;
pub(super) const HEADER: u64 = 1024;
pub(super) const FOOTER_BYTES: usize = 512;
pub(super) const HEADER_BYTES: usize = 1024;
/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// The version of footers and headers.
pub(super) const VERSION: u32 = 0x0001_0000;
/// Where checksums stand.
pub(super) const FOOTER_SUM: usize = 64;
pub(super) const HEADER_SUM: usize = 36;

/// Kinds of disk.
pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// Who made it: us. Readers that do not know the word take the size that stands there, and not the
/// one that follows from the geometry.
pub(super) const CREATOR: [u8; 4] = *b"dkwt";
/// Those whose size follows from the geometry.
const BY_GEOMETRY: [[u8; 4]; 2] = [*b"vpc ", *b"qemu"];
/// On which system: the one that every reader knows.
pub(super) const SYSTEM: [u8; 4] = *b"Wi2k";
/// A bit of the features that is always set.
pub(super) const RESERVED: u32 = 2;
/// An offset that leads nowhere.
pub(super) const NOWHERE: u64 = u64::MAX;

/// Bytes of an entry of the BAT, and one without a block.
pub(super) const ENTRY: u64 = 4;
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// The largest disk of dynamic images, whose places are counted in sectors: 2040 GiB.
pub(super) const MAX_DYNAMIC: u64 = 2040 << 30;
/// The largest block that is read.
pub(super) const MAX_BLOCK: u64 = 256 << 20;

/// The footer, at the end of a file and in a copy at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big, magic = b"conectix")]
pub(super) struct Footer {
    pub(super) features: u32,
    pub(super) version: u32,
    /// Where the header lies.
    pub(super) header: u64,
    /// Seconds since 2000.
    pub(super) time: u32,
    pub(super) creator: [u8; 4],
    pub(super) creator_version: u32,
    pub(super) creator_system: [u8; 4],
    pub(super) original_size: u64,
    pub(super) current_size: u64,
    pub(super) geometry: Geometry,
    pub(super) kind: u32,
    pub(super) checksum: u32,
    pub(super) uuid: [u8; 16],
    /// Whether a machine was saved with it.
    pub(super) saved: u8,
}

/// Cylinders, heads, sectors of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

/// The header of a dynamic image.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big, magic = b"cxsparse")]
pub(super) struct Header {
    pub(super) next: u64,
    pub(super) bat: u64,
    pub(super) version: u32,
    pub(super) entries: u32,
    pub(super) block: u32,
    pub(super) checksum: u32,
    pub(super) parent: [u8; 16],
    pub(super) parent_time: u32,
    pub(super) reserved: u32,
    pub(super) parent_name: [u8; 512],
    pub(super) locators: [Locator; 8],
}

/// Where the name of the parent stands once more, in the way of some system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
#[brw(big)]
pub(super) struct Locator {
    pub(super) code: [u8; 4],
    /// Sectors by the specification, bytes in the files there are.
    pub(super) space: u32,
    pub(super) len: u32,
    pub(super) reserved: u32,
    pub(super) offset: u64,
}

/// The ones' complement of the sum of all bytes, those of the checksum itself left out.
pub(super) fn checksum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
    !others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

/// The bytes of a structure, filled up with zeros and with their checksum.
fn sealed<T>(what: &T, len: u64, sum: usize) -> Vec<u8>
where
    T: for<'a> BinWrite<Args<'a> = ()> + binrw::meta::WriteEndian,
{
    let mut bytes = std::io::Cursor::new(Vec::new());
    what.write(&mut bytes).expect("a Vec takes any bytes");
    let mut bytes = bytes.into_inner();
    bytes.resize(usize::try_from(len).expect("a few sectors"), 0);
    let right = checksum(&bytes, sum);
    bytes[sum..sum + 4].copy_from_slice(&right.to_be_bytes());
    bytes
}

impl Footer {
    /// The footer in these bytes, if they begin like one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Footer> {
        Footer::read(&mut std::io::Cursor::new(bytes)).ok()
    }

    /// Its bytes, with the right checksum.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        sealed(self, FOOTER, FOOTER_SUM)
    }

    /// Whether the size is one number by its maker's rule, and another one by itself.
    pub(super) fn is_contradictory(&self) -> bool {
        BY_GEOMETRY.contains(&self.creator)
            && self.geometry != Geometry::LARGEST
            && self.geometry.size() != self.current_size
    }

    /// Bytes of the disk, where so many can be there. Two makers mean the size that follows from
    /// the geometry, unless it is the largest one; data that are there are never cut off.
    pub(super) fn disk_size(&self, there: u64) -> u64 {
        if !self.is_contradictory() {
            return self.current_size;
        }
        let by_geometry = self.geometry.size();
        let larger = self.current_size.max(by_geometry);
        if larger <= there { larger } else { by_geometry }
    }
}

impl Geometry {
    /// The largest one: it says nothing of the size.
    pub(super) const LARGEST: Geometry = Geometry { cylinders: 65535, heads: 16, sectors: 255 };

    /// Bytes of a disk like this.
    pub(super) fn size(self) -> u64 {
        let tracks = u64::from(self.cylinders) * u64::from(self.heads);
        tracks * u64::from(self.sectors) * SECTOR
    }

    /// The geometry of a disk of so many bytes, or of a few less.
    // The algorithm of the specification's appendix.
    pub(super) fn of(size: u64) -> Geometry {
        let total = (size / SECTOR).min(65535 * 16 * 255);
        let (sectors, heads, tracks) =
            if total >= 65535 * 16 * 63 { (255, 16, total / 255) } else { Geometry::small(total) };
        Geometry {
            cylinders: u16::try_from(tracks / u64::from(heads)).unwrap_or(u16::MAX),
            heads,
            sectors,
        }
    }

    fn small(total: u64) -> (u8, u8, u64) {
        let tracks = total / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if heads <= 16 && tracks < heads * 1024 {
            return (17, u8::try_from(heads).unwrap_or(16), tracks);
        }
        match total / 31 {
            tracks if tracks < 16 * 1024 => (31, 16, tracks),
            _ => (63, 16, total / 63),
        }
    }

    /// The smallest size of a disk with a geometry of its own that holds so many bytes.
    pub(super) fn round_up(size: u64) -> u64 {
        let mut next = size.next_multiple_of(SECTOR);
        loop {
            let geometry = Geometry::of(next);
            if geometry == Geometry::LARGEST {
                return size.next_multiple_of(SECTOR);
            }
            if geometry.size() >= size {
                return geometry.size();
            }
            next += SECTOR;
        }
    }
}

impl Header {
    /// The header in these bytes, if they begin like one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        Header::read(&mut std::io::Cursor::new(bytes)).ok()
    }

    /// Its bytes, with the right checksum.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        sealed(self, HEADER, HEADER_SUM)
    }

    /// How the disk is cut into pieces.
    pub(super) fn blocks(&self) -> Blocks {
        Blocks::of(u64::from(self.block))
    }
}

/// Blocks of one size, each behind its bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Bytes of a block.
    pub(super) size: u64,
    /// Bytes of its bitmap, in whole sectors.
    pub(super) bitmap: u64,
}

impl Blocks {
    /// Blocks of this size.
    pub(super) fn of(size: u64) -> Blocks {
        Blocks { size, bitmap: size.div_ceil(SECTOR * 8).next_multiple_of(SECTOR).max(SECTOR) }
    }

    /// Bytes of a block with its bitmap.
    pub(super) fn whole(self) -> u64 {
        self.size + self.bitmap
    }

    /// How many of them a disk of this size takes.
    pub(super) fn on(self, size: u64) -> u64 {
        size.div_ceil(self.size)
    }
}

/// Where an entry of the BAT leads: the bitmap; `None` where there is no block.
pub(super) fn block_at(word: u64) -> Option<u64> {
    (word != u64::from(NO_BLOCK)).then_some(word * SECTOR)
}

/// The entry that leads to a block; `None` if it lies too far back, or inside a sector.
pub(super) fn entry_for(at: u64) -> Option<u32> {
    let entry = u32::try_from(at / SECTOR).ok()?;
    (at.is_multiple_of(SECTOR) && entry != NO_BLOCK).then_some(entry)
}

/// Runs of sectors alike: whether they are there, and how many. The first sector is bit 7 of the
/// first byte.
pub(super) fn runs(bitmap: &[u8], sectors: u64) -> Vec<(bool, u64)> {
    let mut found: Vec<(bool, u64)> = Vec::new();
    let mut add = |there: bool, count: u64| match found.last_mut() {
        Some(last) if last.0 == there => last.1 += count,
        _ => found.push((there, count)),
    };
    for (byte, first) in bitmap.iter().zip((0..sectors).step_by(8)) {
        let count = (sectors - first).min(8);
        match byte {
            0 => add(false, count),
            0xff => add(true, count),
            _ => (0..count).for_each(|bit| add(byte >> (7 - bit) & 1 == 1, 1)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            features: RESERVED,
            version: VERSION,
            header: 512,
            time: 7,
            creator: CREATOR,
            creator_version: VERSION,
            creator_system: SYSTEM,
            original_size: 0x0123_4567_89ab_cdef,
            current_size: 0x1123_4567_89ab_cdef,
            geometry: Geometry { cylinders: 1000, heads: 16, sectors: 63 },
            kind: DYNAMIC,
            checksum: 0,
            uuid: [9; 16],
            saved: 1,
        }
    }

    #[test]
    fn footers_and_headers_come_back_with_their_checksum() {
        let bytes = footer().to_bytes();
        let back = Footer::parse(&bytes).expect("a footer");
        assert_eq!(bytes.len() as u64, FOOTER);
        assert_eq!(back.checksum, checksum(&bytes, FOOTER_SUM));
        assert_eq!(Footer { checksum: 0, ..back }, footer());
        let header = Header {
            next: NOWHERE,
            bat: 1536,
            version: VERSION,
            entries: 5,
            block: 2 << 20,
            checksum: 0,
            parent: [1; 16],
            parent_time: 2,
            reserved: 0,
            parent_name: [3; 512],
            locators: [Locator { code: *b"W2ru", len: 4, offset: 4096, ..Default::default() }; 8],
        };
        let bytes = header.to_bytes();
        let back = Header::parse(&bytes).expect("a header");
        assert_eq!(bytes.len() as u64, HEADER);
        assert_eq!(back.checksum, checksum(&bytes, HEADER_SUM));
        assert_eq!(Header { checksum: 0, ..back }, header);
    }

    #[test]
    fn a_checksum_is_that_of_the_specification() {
        let mut bytes = [0; 512];
        (bytes[0], bytes[1], bytes[64]) = (0xff, 2, 77);
        assert_eq!(checksum(&bytes, 64), !0x101);
    }

    // What qemu-img makes of these sizes, measured.
    #[test]
    fn sizes_grow_to_the_next_geometry() {
        for (size, more) in [
            (64 << 20, 16384),
            (1 << 30, 253_952),
            (10 << 30, 475_136),
            (40 << 30, 1_433_600),
            (136_899_993_600, 0),
            (1 << 40, 0),
            (0, 0),
        ] {
            assert_eq!(Geometry::round_up(size), size + more, "{size}");
        }
        for size in (1..1 << 36).step_by(123_456_789) {
            let round = Geometry::round_up(size);
            assert!(round >= size && round < size + (8 << 20), "{size} {round}");
            assert_eq!(Geometry::of(round).size(), round);
        }
    }

    #[test]
    fn geometries_are_those_that_others_write() {
        for (size, geometry) in [
            (4_194_304, (120, 4, 17)),
            (10_485_760, (301, 4, 17)),
            (104_448, (3, 4, 17)),
            (136_365_211_648, (65278, 16, 255)),
            (2040 << 30, (65535, 16, 255)),
        ] {
            let Geometry { cylinders, heads, sectors } = Geometry::of(size);
            assert_eq!((cylinders, heads, sectors), geometry, "{size}");
        }
    }

    #[test]
    fn bits_are_runs_of_sectors() {
        assert_eq!(runs(&[0xff, 0xff], 16), [(true, 16)]);
        assert_eq!(runs(&[0x80, 0], 16), [(true, 1), (false, 15)]);
        assert_eq!(runs(&[0x0f, 0xf0, 0xff], 20), [(false, 4), (true, 8), (false, 4), (true, 4)]);
        assert_eq!(runs(&[0xff], 1), [(true, 1)]);
        assert_eq!(Blocks::of(2 << 20).bitmap, 512);
        assert_eq!(Blocks::of(512).bitmap, 512);
        assert_eq!(Blocks::of(16 << 20).bitmap, 4096);
    }
}
