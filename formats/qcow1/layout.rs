//! Bytes ↔ structs. All integers are big endian; offsets and sizes are bytes.
//!
//! Source: qemu block/qcow.c.

use binrw::{BinRead, BinWrite};

/// What a file begins with: the magic and the version.
pub(super) const MAGIC: [u8; 8] = *b"QFI\xfb\0\0\0\x01";
/// Bytes of the header.
pub(super) const LENGTH: usize = 48;
/// Bytes of a backing file's name at most.
pub(super) const MAX_BACKING_NAME: u32 = 1023;
/// Encryption methods.
pub(super) const CRYPT_NONE: u32 = 0;
pub(super) const CRYPT_AES: u32 = 1;

/// The entry describes a compressed cluster.
pub(super) const COMPRESSED: u64 = 1 << 63;

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big, magic = b"QFI\xfb\0\0\0\x01")]
pub(super) struct Header {
    /// 0: none.
    pub(super) backing_offset: u64,
    pub(super) backing_len: u32,
    /// When the backing file was last changed; not used.
    pub(super) mtime: u32,
    pub(super) size: u64,
    pub(super) cluster_bits: u8,
    /// An L2 table has 2 to this power entries.
    #[brw(pad_after = 2)]
    pub(super) l2_bits: u8,
    pub(super) crypt_method: u32,
    pub(super) l1_offset: u64,
}

impl Header {
    /// The header in these bytes, which begin with the magic.
    pub(super) fn parse(bytes: &[u8; LENGTH]) -> binrw::BinResult<Header> {
        Header::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// How disk and file are cut; its bits are small enough to shift by.
    pub(super) fn geometry(&self) -> Geometry {
        let (cluster_bits, l2_bits) = (u32::from(self.cluster_bits), u32::from(self.l2_bits));
        Geometry { cluster_bits, l2_bits }
    }
}

/// How disk and file are cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cluster_bits: u32,
    pub(super) l2_bits: u32,
}

/// What an L2 entry says about its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Unallocated,
    Data {
        offset: u64,
    },
    /// `len` bytes from `offset` on.
    Packed {
        offset: u64,
        len: u64,
    },
}

impl Geometry {
    /// Bytes of a cluster.
    pub(super) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table.
    pub(super) fn l2_entries(self) -> u64 {
        1 << self.l2_bits
    }

    /// Bytes of an L2 table.
    pub(super) fn l2_len(self) -> u64 {
        8 << self.l2_bits
    }

    /// Bytes of disk behind one L1 entry.
    pub(super) fn l2_reach(self) -> u64 {
        1 << (self.cluster_bits + self.l2_bits)
    }

    /// What an entry says.
    pub(super) fn entry(self, entry: u64) -> Entry {
        if entry & COMPRESSED == 0 {
            return match entry {
                0 => Entry::Unallocated,
                offset => Entry::Data { offset },
            };
        }
        let bits = 63 - self.cluster_bits;
        let len = (entry >> bits) & (self.cluster() - 1);
        Entry::Packed { offset: entry & ((1 << bits) - 1), len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            backing_offset: 48,
            backing_len: 7,
            mtime: 0x1234_5678,
            size: (1 << 40) | 512,
            cluster_bits: 12,
            l2_bits: 9,
            crypt_method: 1,
            l1_offset: 56,
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        header.write(&mut bytes).expect("a Vec takes any bytes");
        let bytes: [u8; LENGTH] = bytes.into_inner().try_into().expect("as long as it says");
        assert_eq!(Header::parse(&bytes).expect("a header"), header);
    }

    #[test]
    fn entries_are_understood_at_every_size_of_a_cluster() {
        for cluster_bits in 9..=16 {
            let geometry = Geometry { cluster_bits, l2_bits: 9 };
            let (offset, len) = (0x12_3457, geometry.cluster() - 1);
            let word = COMPRESSED | len << (63 - cluster_bits) | offset;
            assert_eq!(geometry.entry(word), Entry::Packed { offset, len });
        }
        let geometry = Geometry { cluster_bits: 12, l2_bits: 9 };
        assert_eq!(geometry.entry(0), Entry::Unallocated);
        assert_eq!(geometry.entry(0x3000), Entry::Data { offset: 0x3000 });
    }
}
