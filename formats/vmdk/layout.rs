//! Bytes ↔ structs. All integers are little endian; sectors and grains become bytes here.
//!
//! Source: libyal `libvmdk` documentation; VMware `open-vmdk` `vmware_vmdk.h`.

use binrw::{BinRead, BinResult, BinWrite};

/// Bytes of a sector, always.
pub(super) const SECTOR: u64 = 512;
/// Bytes of a header as it lies in the file.
pub(super) const HEADER: usize = 512;
/// What a sparse extent begins with.
pub(super) const MAGIC: [u8; 4] = *b"KDMV";
/// What a sparse extent of an ESX server of old begins with.
pub(super) const COWD: [u8; 4] = *b"COWD";
/// What a sparse extent of a newer one begins with.
pub(super) const SE_MAGIC: [u8; 8] = [0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];
/// What its volatile header begins with.
pub(super) const SE_VOLATILE: u64 = 0xcafe_cafe;

/// Flags of a header. Unknown ones in the upper half mean "do not read".
pub(super) const NEWLINE_TEST: u32 = 1;
pub(super) const REDUNDANT: u32 = 1 << 1;
pub(super) const ZERO_GRAINS: u32 = 1 << 2;
pub(super) const COMPRESSED: u32 = 1 << 16;
pub(super) const MARKERS: u32 = 1 << 17;
pub(super) const INCOMPATIBLE: u32 = 0xffff_0000;
/// These four bytes are spoiled when a file is transferred as if it were text.
pub(super) const NEWLINES: [u8; 4] = *b"\n \r\n";
/// A grain directory that is found by way of the footer.
pub(super) const AT_END: u64 = u64::MAX;
/// Entries of a grain table.
pub(super) const ENTRIES: u32 = 512;
/// Deflate, in the wrapping of zlib.
pub(super) const DEFLATE: u16 = 1;

/// Entries of a grain table in an extent of the old kind.
const COWD_ENTRIES: u64 = 4096;
/// The largest grain and the longest table that are read.
const MAX_GRAIN_SECTORS: u64 = 1 << 17;
const MAX_ENTRIES: u32 = 1 << 16;

/// Kinds of metadata in a stream.
pub(super) const MARKER_END: u32 = 0;
pub(super) const MARKER_TABLE: u32 = 1;
pub(super) const MARKER_DIRECTORY: u32 = 2;
pub(super) const MARKER_FOOTER: u32 = 3;
/// Bytes in front of a compressed grain: its sector on the disk, and its length.
pub(super) const GRAIN_MARKER: u64 = 12;
/// Bytes in front of it where there are no markers: its length.
pub(super) const GRAIN_LENGTH: u64 = 4;

/// The header of a sparse extent, and its footer: as the file has it, in sectors.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"KDMV")]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) flags: u32,
    pub(super) capacity: u64,
    pub(super) grain: u64,
    pub(super) descriptor: u64,
    pub(super) descriptor_len: u64,
    /// Entries of a grain table.
    pub(super) entries: u32,
    pub(super) redundant: u64,
    pub(super) directory: u64,
    pub(super) overhead: u64,
    pub(super) unclean: u8,
    pub(super) newlines: [u8; 4],
    pub(super) compression: u16,
}

/// Where the byte stands that says that an extent was not closed.
pub(super) const UNCLEAN_AT: u64 = 72;

impl Header {
    /// The header in these bytes, which begin with the magic.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> BinResult<Header> {
        Header::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// A sector of the file.
    pub(super) fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write(&mut bytes).expect("a Vec takes any bytes");
        let mut sector = [0; HEADER];
        let bytes = bytes.into_inner();
        sector[..bytes.len()].copy_from_slice(&bytes);
        sector
    }

    /// How the extent is cut; `Err` with what is wrong and where.
    pub(super) fn shape(&self) -> Result<Shape, (u64, String)> {
        let grains = self.grain.is_power_of_two() && self.grain <= MAX_GRAIN_SECTORS;
        if !grains {
            return Err((20, format!("grains of {} sectors", self.grain)));
        }
        if self.entries == 0 || self.entries > MAX_ENTRIES {
            return Err((44, format!("grain tables of {} entries", self.entries)));
        }
        let bytes = |at, sectors: u64| {
            let bytes = sectors.checked_mul(SECTOR).filter(|bytes| i64::try_from(*bytes).is_ok());
            bytes.ok_or_else(|| (at, format!("{sectors} sectors are past every file's end")))
        };
        let codec = match (self.flags & COMPRESSED != 0, self.flags & MARKERS != 0) {
            (false, _) => Grains::Plain,
            (true, false) => Grains::Packed { front: GRAIN_LENGTH },
            (true, true) => Grains::Packed { front: GRAIN_MARKER },
        };
        let size = bytes(12, self.capacity)?;
        let grain = self.grain * SECTOR;
        let entries = u64::from(self.entries);
        Ok(Shape {
            size,
            grain,
            entries,
            directory: bytes(56, if self.directory == AT_END { 0 } else { self.directory })?,
            tables: size.div_ceil(grain * entries),
            words: Words::Sectors { zeros: self.flags & ZERO_GRAINS != 0 },
            grains: codec,
        })
    }
}

/// The header of a sparse extent of the old kind, in sectors.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"COWD")]
pub(super) struct OldHeader {
    pub(super) version: u32,
    pub(super) flags: u32,
    pub(super) capacity: u32,
    pub(super) grain: u32,
    pub(super) directory: u32,
    pub(super) directory_entries: u32,
    pub(super) free: u32,
}

impl OldHeader {
    /// The header in these bytes, which begin with the magic.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> BinResult<OldHeader> {
        OldHeader::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// How the extent is cut; `Err` with what is wrong and where.
    pub(super) fn shape(&self) -> Result<Shape, (u64, String)> {
        let grain = u64::from(self.grain);
        if !grain.is_power_of_two() || grain > MAX_GRAIN_SECTORS {
            return Err((16, format!("grains of {grain} sectors")));
        }
        let (size, grain) = (u64::from(self.capacity) * SECTOR, grain * SECTOR);
        let tables = size.div_ceil(grain * COWD_ENTRIES);
        if tables > u64::from(self.directory_entries) {
            let what = format!("a grain directory of {} entries", self.directory_entries);
            return Err((24, format!("{what}, and {tables} are needed")));
        }
        Ok(Shape {
            size,
            grain,
            entries: COWD_ENTRIES,
            directory: u64::from(self.directory) * SECTOR,
            tables,
            words: Words::Sectors { zeros: false },
            grains: Grains::Plain,
        })
    }
}

/// The constant header of a space-efficient sparse extent, in sectors.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct SeHeader {
    pub(super) magic: u64,
    pub(super) version: u64,
    pub(super) capacity: u64,
    pub(super) grain: u64,
    pub(super) table: u64,
    pub(super) flags: u64,
    pub(super) reserved: [u64; 4],
    pub(super) volatile: Region,
    pub(super) journal_header: Region,
    pub(super) journal: Region,
    pub(super) directory: Region,
    pub(super) tables: Region,
    pub(super) free: Region,
    pub(super) backmap: Region,
    pub(super) grains: Region,
}

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// Versions, grains and tables of the only kind there is.
const SE_VERSION: u64 = 0x0000_0002_0000_0001;
const SE_GRAIN: u64 = 8;
const SE_TABLE: u64 = 64;

impl SeHeader {
    /// The header in these bytes.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> BinResult<SeHeader> {
        SeHeader::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// How the extent is cut; `Err` with what is wrong and where.
    pub(super) fn shape(&self) -> Result<Shape, (u64, String)> {
        for (at, is, wanted, what) in [
            (8, self.version, SE_VERSION, "version"),
            (24, self.grain, SE_GRAIN, "grain size"),
            (32, self.table, SE_TABLE, "grain table size"),
            (40, self.flags, 0, "flags"),
        ] {
            if is != wanted {
                return Err((at, format!("the {what} is {is:#x}, not {wanted:#x}")));
            }
        }
        let bytes = |at, sectors: u64| {
            let bytes = sectors.checked_mul(SECTOR).filter(|bytes| i64::try_from(*bytes).is_ok());
            bytes.ok_or_else(|| (at, format!("{sectors} sectors are past every file's end")))
        };
        let (grain, entries) = (SE_GRAIN * SECTOR, SE_TABLE * SECTOR / 8);
        let size = bytes(16, self.capacity)?;
        Ok(Shape {
            size,
            grain,
            entries,
            directory: bytes(128, self.directory.start)?,
            tables: size.div_ceil(grain * entries),
            words: Words::Indices {
                tables: bytes(144, self.tables.start)?,
                grains: bytes(192, self.grains.start)?,
            },
            grains: Grains::Plain,
        })
    }
}

/// How a sparse extent is cut, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of disk.
    pub(super) size: u64,
    /// Bytes of a grain.
    pub(super) grain: u64,
    /// Entries of a grain table.
    pub(super) entries: u64,
    /// Offset of the grain directory.
    pub(super) directory: u64,
    /// Its entries.
    pub(super) tables: u64,
    pub(super) words: Words,
    pub(super) grains: Grains,
}

/// What the words of directory and tables mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// Four bytes: a sector of the file; with `zeros`, 1 in a table is a grain of zeros.
    Sectors { zeros: bool },
    /// Eight bytes: an index into the parts of the file for tables and grains, which begin here.
    Indices { tables: u64, grains: u64 },
}

/// How a grain lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grains {
    /// As it is.
    Plain,
    /// Compressed, behind so many bytes that say how long it is.
    Packed { front: u64 },
}

/// What an entry of a grain table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Missing,
    Zero,
    /// Bytes at this offset.
    Grain(u64),
    /// Nothing that is known.
    Wrong,
}

impl Shape {
    /// Bytes of a word of directory or table.
    pub(super) fn word(&self) -> u64 {
        match self.words {
            Words::Sectors { .. } => 4,
            Words::Indices { .. } => 8,
        }
    }

    /// Bytes of disk behind one table.
    pub(super) fn reach(&self) -> u64 {
        self.grain * self.entries
    }

    /// The offset of the table that a word of the directory leads to; `Missing`, or `Wrong`.
    pub(super) fn table(&self, word: u64) -> Entry {
        match self.words {
            _ if word == 0 => Entry::Missing,
            Words::Sectors { .. } => Entry::Grain(word * SECTOR),
            Words::Indices { tables, .. } if word >> 32 == 0x1000_0000 => {
                let index = word & 0xffff_ffff;
                Entry::Grain(tables.saturating_add(index * SE_TABLE * SECTOR))
            }
            Words::Indices { .. } => Entry::Wrong,
        }
    }

    /// What a word of a table says.
    pub(super) fn entry(&self, word: u64) -> Entry {
        match self.words {
            _ if word == 0 => Entry::Missing,
            Words::Sectors { zeros: true } if word == 1 => Entry::Zero,
            Words::Sectors { .. } => Entry::Grain(word * SECTOR),
            Words::Indices { grains, .. } => match word >> 60 {
                0 => Entry::Missing,
                1 | 2 => Entry::Zero,
                3 => {
                    let high = (word & 0x0fff_0000_0000_0000) >> 48;
                    let low = (word & 0x0000_ffff_ffff_ffff) << 12;
                    let offset = (high | low).checked_mul(self.grain);
                    let offset = offset.and_then(|offset| offset.checked_add(grains));
                    let offset = offset.filter(|offset| i64::try_from(*offset).is_ok());
                    offset.map_or(Entry::Wrong, Entry::Grain)
                }
                _ => Entry::Wrong,
            },
        }
    }
}

/// A marker in a stream: in front of metadata, or, with a length, of a grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// Sectors of the metadata; or the grain's sector on the disk.
    pub(super) value: u64,
    /// Bytes of the compressed grain; 0 for metadata.
    pub(super) len: u32,
    /// What metadata it is.
    pub(super) kind: u32,
}

impl Marker {
    pub(super) fn parse(bytes: &[u8; 16]) -> Marker {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let value = u64::from(word(0)) | u64::from(word(4)) << 32;
        Marker { value, len: word(8), kind: word(12) }
    }

    /// A sector that announces metadata.
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut sector = [0; HEADER];
        sector[..8].copy_from_slice(&self.value.to_le_bytes());
        sector[8..12].copy_from_slice(&self.len.to_le_bytes());
        sector[12..16].copy_from_slice(&self.kind.to_le_bytes());
        sector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: 1,
            flags: 3,
            capacity: 83_971,
            grain: 128,
            descriptor: 1,
            descriptor_len: 20,
            entries: ENTRIES,
            redundant: 21,
            directory: 26,
            overhead: 128,
            unclean: 0,
            newlines: NEWLINES,
            compression: 0,
        }
    }

    #[test]
    fn a_header_comes_back_and_its_sectors_are_bytes() {
        let bytes = header().to_bytes();
        assert_eq!(bytes[usize::try_from(UNCLEAN_AT).expect("small") + 1..][..4], NEWLINES);
        assert_eq!(Header::parse(&bytes).expect("a header"), header());
        let shape = header().shape().expect("a shape");
        assert_eq!((shape.size, shape.grain), (83_971 * 512, 65_536));
        assert_eq!((shape.tables, shape.directory), (2, 26 * 512));
        for (at, bad) in [
            (20, Header { grain: 3, ..header() }),
            (20, Header { grain: 0, ..header() }),
            (44, Header { entries: 0, ..header() }),
            (12, Header { capacity: u64::MAX / 512, ..header() }),
        ] {
            assert_eq!(bad.shape().expect_err("nonsense").0, at);
        }
    }

    #[test]
    fn markers_come_back() {
        let marker = Marker { value: 1 << 40 | 7, len: 0, kind: MARKER_DIRECTORY };
        let bytes = marker.to_bytes();
        assert_eq!(Marker::parse(bytes[..16].try_into().expect("sixteen")), marker);
    }

    #[test]
    fn entries_of_all_kinds_are_told_apart() {
        let shape = header().shape().expect("a shape");
        assert_eq!(shape.entry(0), Entry::Missing);
        assert_eq!(shape.entry(1), Entry::Grain(512));
        let zeros = Shape { words: Words::Sectors { zeros: true }, ..shape };
        assert_eq!(zeros.entry(1), Entry::Zero);
        let words = Words::Indices { tables: 1 << 20, grains: 1 << 30 };
        let se = Shape { words, grain: 4096, ..shape };
        assert_eq!(se.table(0x1000_0000_0000_0002), Entry::Grain((1 << 20) + 2 * 32_768));
        assert_eq!(se.table(2), Entry::Wrong);
        assert_eq!(se.entry(0x1000_0000_0000_0000), Entry::Zero);
        assert_eq!(se.entry(0x3002_0000_0000_0001), Entry::Grain((1 << 30) + 0x1002 * 4096));
        assert_eq!(se.entry(0x4000_0000_0000_0000), Entry::Wrong);
    }
}
