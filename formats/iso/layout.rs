//! Bytes ↔ structs: volume descriptors, directory records, boot catalog. What both orders of bytes
//! are said in, is a [`Twice`].
//!
//! Source: ECMA-119; the Joliet specification; the El Torito specification, 1.0.

use binrw::{BinRead, BinWrite};

/// Bytes of a logical sector: descriptors take one each, and no directory record lies in two.
pub(super) const SECTOR: u64 = 2048;
pub(super) const SECTOR_BYTES: usize = 2048;
/// Where the volume descriptors begin, behind the system area.
pub(super) const SYSTEM_AREA: u64 = 16 * SECTOR;
pub(super) const SYSTEM_AREA_BYTES: usize = 16 * SECTOR_BYTES;
/// Descriptors looked at, at most.
pub(super) const MAX_DESCRIPTORS: u64 = 64;

/// What every volume descriptor has behind its first byte.
pub(super) const MAGIC: [u8; 5] = *b"CD001";
/// Kinds of volume descriptors.
pub(super) const BOOT: u8 = 0;
pub(super) const PRIMARY: u8 = 1;
pub(super) const SUPPLEMENTARY: u8 = 2;
pub(super) const TERMINATOR: u8 = 255;

/// Where UDF's first anchor stands, and how its tag begins.
pub(super) const ANCHOR: u64 = 256 * SECTOR;
pub(super) const ANCHOR_TAG: [u8; 2] = [2, 0];
/// What descriptors of UDF have there: the first one, and those that say which version.
pub(super) const UDF_BEGIN: [u8; 5] = *b"BEA01";
pub(super) const UDF_VERSIONS: [[u8; 5]; 2] = [*b"NSR02", *b"NSR03"];

/// What a boot record of El Torito says it is for.
pub(super) const EL_TORITO: &[u8; 23] = b"EL TORITO SPECIFICATION";

/// Escape sequences of Joliet, by its levels 1 to 3.
pub(super) const JOLIET: [[u8; 3]; 3] = [*b"%/@", *b"%/C", *b"%/E"];

/// Flags of a directory record.
pub(super) const DIRECTORY: u8 = 2;
/// It is about another file: a resource fork.
pub(super) const ASSOCIATED: u8 = 4;
/// The file goes on in the next record.
pub(super) const CONTINUED: u8 = 0x80;
/// Bytes of a directory record in front of its name.
pub(super) const RECORD: usize = 33;
/// The shortest record there is, with a name of one byte.
pub(super) const SHORTEST: usize = RECORD + 1;

/// A number of four bytes, said in both orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
pub(super) struct Twice {
    #[brw(little)]
    pub(super) value: u32,
    #[brw(big)]
    pub(super) again: u32,
}

impl Twice {
    pub(super) fn new(value: u32) -> Twice {
        Twice { value, again: value }
    }

    /// The one in these eight bytes.
    pub(super) fn parse(bytes: [u8; 8]) -> Twice {
        let half = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
        Twice { value: u32::from_le_bytes(half(0)), again: u32::from_be_bytes(half(4)) }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.value.to_le_bytes());
        bytes[4..].copy_from_slice(&self.again.to_be_bytes());
        bytes
    }

    pub(super) fn agrees(self) -> bool {
        self.value == self.again
    }
}

/// A number of two bytes, said in both orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
pub(super) struct Twice16 {
    #[brw(little)]
    pub(super) value: u16,
    #[brw(big)]
    pub(super) again: u16,
}

impl Twice16 {
    pub(super) fn new(value: u16) -> Twice16 {
        Twice16 { value, again: value }
    }

    pub(super) fn agrees(self) -> bool {
        self.value == self.again
    }
}

/// A primary or supplementary volume descriptor.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Volume {
    pub(super) kind: u8,
    pub(super) magic: [u8; 5],
    pub(super) version: u8,
    pub(super) flags: u8,
    pub(super) system: [u8; 32],
    pub(super) label: [u8; 32],
    unused: [u8; 8],
    /// Blocks of the volume.
    pub(super) blocks: Twice,
    pub(super) escapes: [u8; 32],
    pub(super) volumes: Twice16,
    pub(super) number: Twice16,
    /// Bytes of a block.
    pub(super) block: Twice16,
    /// Bytes of a path table.
    pub(super) table: Twice,
    /// Blocks of the path tables, of one order and of the other.
    pub(super) little_table: u32,
    pub(super) other_little_table: u32,
    #[brw(big)]
    pub(super) big_table: u32,
    #[brw(big)]
    pub(super) other_big_table: u32,
    /// The record of the root.
    pub(super) root: [u8; 34],
    pub(super) set: [u8; 128],
    pub(super) publisher: [u8; 128],
    pub(super) preparer: [u8; 128],
    pub(super) application: [u8; 128],
    /// Names of files with a copyright, an abstract, a bibliography.
    pub(super) files: [[u8; 37]; 3],
    /// When it was created, changed, expires, counts.
    pub(super) dates: [[u8; 17]; 4],
    pub(super) structure: u8,
    reserved: u8,
    /// What the application that made it wrote here.
    pub(super) own: [u8; 512],
    rest: [u8; 653],
}

impl Volume {
    /// The descriptor in these bytes.
    pub(super) fn parse(bytes: &[u8; SECTOR_BYTES]) -> Volume {
        let volume = Volume::read(&mut std::io::Cursor::new(&bytes[..]));
        volume.expect("a sector has all its bytes, and any will do")
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write(&mut bytes).expect("a Vec takes any bytes");
        bytes.into_inner()
    }

    /// A descriptor of this kind with blanks for its texts, and no times.
    pub(super) fn blank(kind: u8) -> Volume {
        let never = *b"0000000000000000\0";
        Volume {
            kind,
            magic: MAGIC,
            version: 1,
            flags: 0,
            system: [b' '; 32],
            label: [b' '; 32],
            unused: [0; 8],
            blocks: Twice::default(),
            escapes: [0; 32],
            volumes: Twice16::new(1),
            number: Twice16::new(1),
            block: Twice16::new(2048),
            table: Twice::default(),
            little_table: 0,
            other_little_table: 0,
            big_table: 0,
            other_big_table: 0,
            root: [0; 34],
            set: [b' '; 128],
            publisher: [b' '; 128],
            preparer: [b' '; 128],
            application: [b' '; 128],
            files: [[b' '; 37]; 3],
            dates: [never; 4],
            structure: 1,
            reserved: 0,
            own: [0; 512],
            rest: [0; 653],
        }
    }

    /// Which level of Joliet it is in, if it is.
    pub(super) fn joliet(&self) -> Option<u64> {
        let level = JOLIET.iter().position(|level| self.escapes.starts_with(level))?;
        (self.kind == SUPPLEMENTARY).then_some(level as u64 + 1)
    }

    /// Bytes that it says the volume has.
    pub(super) fn declared(&self) -> u64 {
        u64::from(self.blocks.value) * u64::from(self.block.value)
    }

    /// What it says twice, and not the same.
    pub(super) fn mismatch(&self) -> Option<&'static str> {
        let pairs = [
            (self.blocks.agrees(), "volume space"),
            (self.block.agrees(), "block size"),
            (self.volumes.agrees(), "volume set size"),
            (self.number.agrees(), "volume number"),
            (self.table.agrees(), "path table size"),
        ];
        pairs.into_iter().find(|(agrees, _)| !agrees).map(|(_, what)| what)
    }
}

/// A directory record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Blocks of extended attributes, in front of the content.
    pub(super) attributes: u8,
    /// Block where its extent begins.
    pub(super) extent: Twice,
    /// Bytes of its content.
    pub(super) size: Twice,
    pub(super) date: [u8; 7],
    pub(super) flags: u8,
    /// Blocks of a unit and of a gap, where a file is interleaved with others.
    pub(super) unit: u8,
    pub(super) gap: u8,
    pub(super) volume: [u8; 4],
    pub(super) name: Vec<u8>,
    /// What is behind the name.
    pub(super) system_use: Vec<u8>,
}

impl Record {
    /// The record that is all of these bytes; `None` if its parts do not fit into them.
    pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
        let head: [u8; RECORD] = bytes.get(..RECORD)?.try_into().ok()?;
        let eight = |at: usize| <[u8; 8]>::try_from(&head[at..at + 8]).expect("eight bytes");
        let name_end = RECORD + usize::from(head[32]);
        let name = bytes.get(RECORD..name_end).filter(|name| !name.is_empty())?.to_vec();
        // Behind a name of even length is a byte of padding, unless the record ends there.
        let system_use = bytes.get(name_end + (name.len() + 1) % 2..).unwrap_or_default().to_vec();
        Some(Record {
            attributes: head[1],
            extent: Twice::parse(eight(2)),
            size: Twice::parse(eight(10)),
            date: head[18..25].try_into().expect("seven bytes"),
            flags: head[25],
            unit: head[26],
            gap: head[27],
            volume: head[28..32].try_into().expect("four bytes"),
            name,
            system_use,
        })
    }

    /// Its bytes: an even number of them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let name = u8::try_from(self.name.len()).expect("whoever makes names keeps them short");
        let mut bytes = vec![0, self.attributes];
        bytes.extend(self.extent.to_bytes());
        bytes.extend(self.size.to_bytes());
        bytes.extend(self.date);
        bytes.extend([self.flags, self.unit, self.gap]);
        bytes.extend(self.volume);
        bytes.push(name);
        bytes.extend(&self.name);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes.extend(&self.system_use);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes[0] = u8::try_from(bytes.len()).expect("whoever fills records keeps to 254 bytes");
        bytes
    }

    /// Whether it stands for its own folder, or for the one above.
    pub(super) fn is_dot(&self) -> bool {
        self.name == [0] || self.name == [1]
    }

    pub(super) fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }
}

/// An entry of the boot catalog takes so many bytes.
pub(super) const BOOT_ENTRY: usize = 32;
/// The first one, and those that begin a section, which may be the last.
pub(super) const VALIDATION: u8 = 1;
pub(super) const SECTION: u8 = 0x90;
pub(super) const LAST_SECTION: u8 = 0x91;
pub(super) const BOOTABLE: u8 = 0x88;
/// More of what the entry before says.
pub(super) const EXTENSION: u8 = 0x44;
/// Platforms.
pub(super) const PC: u8 = 0;
pub(super) const EFI: u8 = 0xef;

/// What the boot catalog says of an image to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootImage {
    pub(super) bootable: bool,
    pub(super) platform: u8,
    /// How it shows itself: 0 as it is, 1 to 3 as a floppy disk, 4 as a hard disk.
    pub(super) media: u8,
    pub(super) segment: u16,
    /// Sectors of 512 bytes to load.
    pub(super) sectors: u16,
    /// Sector of 2048 bytes where it lies.
    pub(super) sector: u32,
}

impl BootImage {
    pub(super) fn parse(bytes: &[u8; BOOT_ENTRY], platform: u8) -> BootImage {
        BootImage {
            bootable: bytes[0] == BOOTABLE,
            platform,
            media: bytes[1] & 15,
            segment: u16::from_le_bytes([bytes[2], bytes[3]]),
            sectors: u16::from_le_bytes([bytes[6], bytes[7]]),
            sector: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; BOOT_ENTRY] {
        let mut bytes = [0; BOOT_ENTRY];
        bytes[0] = if self.bootable { BOOTABLE } else { 0 };
        bytes[1] = self.media;
        bytes[2..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sector.to_le_bytes());
        bytes
    }
}

/// The sum of the 16-bit words of the first entry: 0 if it is sound.
pub(super) fn boot_sum(entry: &[u8; BOOT_ENTRY]) -> u16 {
    let words = entry.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    words.fold(0, u16::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_descriptor_is_what_was_written() {
        let mut volume = Volume::blank(PRIMARY);
        (volume.blocks, volume.big_table) = (Twice::new(77), 19);
        let bytes = volume.to_bytes();
        assert_eq!((bytes.len(), &bytes[..7]), (SECTOR_BYTES, &b"\x01CD001\x01"[..]));
        assert_eq!(bytes[80..88], [77, 0, 0, 0, 0, 0, 0, 77]);
        assert_eq!(bytes[148..152], [0, 0, 0, 19]);
        assert_eq!((bytes[881], &bytes[813..829]), (1, &b"0000000000000000"[..]));
        let bytes = bytes.try_into().expect("a sector");
        assert_eq!(Volume::parse(&bytes), volume);
    }

    #[test]
    fn a_record_is_what_was_written() {
        for name in [&b"A.;1"[..], b"AB.C;1", b"\0"] {
            let record = Record {
                attributes: 0,
                extent: Twice::new(20),
                size: Twice::new(5),
                date: [80, 1, 1, 0, 0, 0, 0],
                flags: CONTINUED,
                unit: 0,
                gap: 0,
                volume: [1, 0, 0, 1],
                name: name.to_vec(),
                system_use: b"NMx\x01".to_vec(),
            };
            let bytes = record.to_bytes();
            assert_eq!(usize::from(bytes[0]), bytes.len());
            assert_eq!(Record::parse(&bytes), Some(record));
        }
        assert_eq!(Record::parse(&[34; 33]), None, "no room for a name");
    }
}
