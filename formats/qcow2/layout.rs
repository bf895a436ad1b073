//! Bytes ↔ structs. All integers are big endian; offsets and sizes are bytes.
//!
//! Source: qemu docs/interop/qcow2.txt.

use binrw::{BinRead, BinWrite};

use crate::base::codec::Codec;

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a header of version 2.
pub(super) const V2_LENGTH: u32 = 72;
/// Bytes of the shortest header of version 3.
pub(super) const V3_LENGTH: u32 = 104;
/// Bytes of a header that names its compression type.
pub(super) const FULL_LENGTH: u32 = 112;

/// Incompatible features: an unknown one means "do not read".
pub(super) const DIRTY: u64 = 1;
pub(super) const CORRUPT: u64 = 1 << 1;
pub(super) const DATA_FILE: u64 = 1 << 2;
pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
pub(super) const EXTENDED_L2: u64 = 1 << 4;
/// Compatible features.
pub(super) const LAZY_REFCOUNTS: u64 = 1;
/// Autoclear features: whoever writes and does not know one clears it.
pub(super) const BITMAPS: u64 = 1;
pub(super) const DATA_FILE_RAW: u64 = 1 << 1;

/// Header extensions.
pub(super) const EXTENSION_END: u32 = 0;
pub(super) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
pub(super) const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
pub(super) const EXTENSION_BITMAPS: u32 = 0x2385_2875;
pub(super) const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
pub(super) const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;

/// Limits of qemu, which are limits of the format in practice.
pub(super) const MAX_L1: u64 = 32 << 20;
pub(super) const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
pub(super) const MAX_SNAPSHOTS: u32 = 65_536;
pub(super) const MAX_SNAPSHOT_TABLE: u64 = 64 << 20;
pub(super) const MAX_SNAPSHOT_EXTRA: u32 = 1024;
pub(super) const MAX_BITMAPS: u32 = 65_535;
pub(super) const MAX_BACKING_NAME: u32 = 1023;

/// Bits 9 to 55 of an L1 or L2 entry: an offset in the file.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster behind the entry has a refcount of exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// The entry describes a compressed cluster.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros (version 3, without extended L2).
pub(super) const ZERO: u64 = 1;
/// Bits of a standard L2 entry that mean nothing yet.
pub(super) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// Bits of an L1 entry that mean nothing yet.
pub(super) const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Bits of a refcount table entry that mean nothing yet.
pub(super) const REFCOUNT_RESERVED: u64 = 0x1ff;
/// Bits of an entry of a bitmap's table that mean nothing yet.
pub(super) const BITMAP_RESERVED: u64 = 0xff00_0000_0000_01fe;
/// The bits of an entry of a bitmap's table without a cluster are all ones.
pub(super) const BITMAP_ONES: u64 = 1;

/// The header, up to where both versions and all writers agree.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big, magic = b"QFI\xfb")]
pub(super) struct Header {
    pub(super) version: u32,
    /// 0: none.
    pub(super) backing_offset: u64,
    pub(super) backing_len: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) crypt_method: u32,
    /// Entries.
    pub(super) l1_size: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) snapshot_count: u32,
    pub(super) snapshots_offset: u64,
    #[br(if(version >= 3, 0))]
    #[bw(if(*version >= 3))]
    pub(super) incompatible: u64,
    #[br(if(version >= 3, 0))]
    #[bw(if(*version >= 3))]
    pub(super) compatible: u64,
    #[br(if(version >= 3, 0))]
    #[bw(if(*version >= 3))]
    pub(super) autoclear: u64,
    /// A refcount has 2 to this power bits.
    #[br(if(version >= 3, 4))]
    #[bw(if(*version >= 3))]
    pub(super) refcount_order: u32,
    #[br(if(version >= 3, V2_LENGTH))]
    #[bw(if(*version >= 3))]
    #[expect(clippy::struct_field_names, reason = "the specification calls it so")]
    pub(super) header_length: u32,
    #[br(if(header_length > V3_LENGTH, 0))]
    #[bw(if(*header_length > V3_LENGTH))]
    pub(super) compression_type: u8,
}

impl Header {
    /// The header in these bytes, which begin with the magic; what is missing counts as zero.
    pub(super) fn parse(bytes: &[u8; FULL_LENGTH as usize]) -> binrw::BinResult<Header> {
        Header::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// Its bytes, `header_length` of them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write(&mut bytes).expect("a Vec takes any bytes");
        let mut bytes = bytes.into_inner();
        bytes.resize(self.header_length as usize, 0);
        bytes
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            version: self.version,
            cluster_bits: self.cluster_bits,
            extended: self.incompatible & EXTENDED_L2 != 0,
            data_file: self.incompatible & DATA_FILE != 0,
            codec: if self.compression_type == 1 { Codec::Zstd } else { Codec::Deflate },
        }
    }
}

/// A header extension: where its data lie, so that a writer can keep what it does not know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension {
    pub(super) kind: u32,
    pub(super) at: u64,
    pub(super) len: u32,
}

/// How disk and file are cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Whether L2 entries have 16 bytes, with bits for 32 subclusters.
    pub(super) extended: bool,
    /// Whether the bytes of the disk lie in another file.
    pub(super) data_file: bool,
    pub(super) codec: Codec,
}

/// What an L2 entry says about its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Unallocated,
    /// Reads as zeros; may keep a cluster.
    Zero {
        offset: Option<u64>,
    },
    Data {
        offset: u64,
    },
    /// With extended L2: each subcluster by its two bits.
    Mixed {
        offset: u64,
        bitmap: u64,
    },
    /// At most `len` bytes from `offset` on.
    Packed {
        offset: u64,
        len: u64,
    },
}

/// What one subcluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subcluster {
    Unallocated,
    Zero,
    Data,
}

impl Geometry {
    /// Bytes of a cluster.
    pub(super) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of a subcluster.
    pub(super) fn subcluster(self) -> u64 {
        self.cluster() / 32
    }

    /// Bytes of an L2 entry.
    pub(super) fn entry_size(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries of an L2 table, which takes one cluster.
    pub(super) fn l2_entries(self) -> u64 {
        self.cluster() / self.entry_size()
    }

    /// Bytes of disk behind one L1 entry.
    pub(super) fn l2_reach(self) -> u64 {
        self.l2_entries() << self.cluster_bits
    }

    /// The offset and the bytes that a compressed cluster's entry gives.
    pub(super) fn packed(self, entry: u64) -> (u64, u64) {
        let bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << bits) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> bits) + 1;
        (offset, sectors * 512 - (offset & 511))
    }

    /// The entry of a compressed cluster.
    pub(super) fn packed_entry(self, offset: u64, len: u64) -> u64 {
        let bits = 62 - (self.cluster_bits - 8);
        let sectors = (offset + len - 1) / 512 - offset / 512;
        COMPRESSED | sectors << bits | offset
    }

    /// What an entry says; `bitmap` is its second half with extended L2, and 0 without.
    pub(super) fn entry(self, entry: u64, bitmap: u64) -> Entry {
        let offset = entry & OFFSET;
        // In a data file the first cluster has offset 0; there, bit 63 tells it from none.
        let has_cluster = offset != 0 || (self.data_file && entry & COPIED != 0);
        if entry & COMPRESSED != 0 {
            let (offset, len) = self.packed(entry);
            return Entry::Packed { offset, len };
        }
        if self.extended {
            return match bitmap {
                0 => Entry::Unallocated,
                0xffff_ffff => Entry::Data { offset },
                0xffff_ffff_0000_0000 => Entry::Zero { offset: has_cluster.then_some(offset) },
                _ => Entry::Mixed { offset, bitmap },
            };
        }
        match (entry & ZERO != 0, has_cluster) {
            (true, has_cluster) => Entry::Zero { offset: has_cluster.then_some(offset) },
            (false, true) => Entry::Data { offset },
            (false, false) => Entry::Unallocated,
        }
    }
}

/// Whether any subcluster has data.
pub(super) fn has_data(bitmap: u64) -> bool {
    bitmap << 32 != 0
}

/// What the two bits of subcluster `index` (0 to 31) say; `None` if both are set.
pub(super) fn subcluster(bitmap: u64, index: u32) -> Option<Subcluster> {
    match (bitmap >> index & 1, bitmap >> (index + 32) & 1) {
        (0, 0) => Some(Subcluster::Unallocated),
        (1, 0) => Some(Subcluster::Data),
        (0, 1) => Some(Subcluster::Zero),
        _ => None,
    }
}

/// Refcounts of 2 to the power of `order` bits in a block of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) order: u32,
}

impl Counts {
    /// The largest refcount.
    pub(super) fn max(self) -> u64 {
        u64::MAX >> (64 - (1_u32 << self.order))
    }

    /// How many there are in so many bytes.
    pub(super) fn per(self, bytes: u64) -> u64 {
        (bytes * 8) >> self.order
    }

    /// The refcount at `index`.
    pub(super) fn get(self, block: &[u8], index: usize) -> u64 {
        if self.order < 3 {
            let (byte, shift) = self.bit(index);
            return u64::from(block[byte] >> shift) & self.max();
        }
        let size = 1 << (self.order - 3);
        let bytes = &block[index * size..][..size];
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Sets the refcount at `index`.
    pub(super) fn set(self, block: &mut [u8], index: usize, count: u64) {
        let bytes = count.to_be_bytes();
        if self.order < 3 {
            let (byte, shift) = self.bit(index);
            let mask = (self.max() << shift).to_be_bytes()[7];
            block[byte] = block[byte] & !mask | (count << shift).to_be_bytes()[7] & mask;
            return;
        }
        let size = 1 << (self.order - 3);
        block[index * size..][..size].copy_from_slice(&bytes[8 - size..]);
    }

    fn bit(self, index: usize) -> (usize, u32) {
        let bit = index << self.order;
        (bit / 8, u32::try_from(bit % 8).expect("below 8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, extended: bool) -> Geometry {
        Geometry { version: 3, cluster_bits, extended, data_file: false, codec: Codec::Deflate }
    }

    #[test]
    fn headers_of_both_versions_come_back() {
        for (version, header_length) in [(2, V2_LENGTH), (3, V3_LENGTH), (3, FULL_LENGTH)] {
            let header = Header {
                version,
                backing_offset: 0x1122,
                backing_len: 9,
                cluster_bits: 16,
                size: 1 << 40 | 7,
                crypt_method: 2,
                l1_size: 77,
                l1_offset: 3 << 16,
                refcount_table_offset: 1 << 16,
                refcount_table_clusters: 2,
                snapshot_count: 5,
                snapshots_offset: 6 << 16,
                incompatible: if version == 3 { 0x8000_0000_0000_0001 } else { 0 },
                compatible: u64::from(version == 3),
                autoclear: if version == 3 { 2 } else { 0 },
                refcount_order: if version == 3 { 6 } else { 4 },
                header_length,
                compression_type: u8::from(header_length == FULL_LENGTH),
            };
            let bytes = header.to_bytes();
            assert_eq!(bytes.len(), header_length as usize);
            let mut all = [0; FULL_LENGTH as usize];
            all[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(Header::parse(&all).expect("a header"), header);
        }
    }

    #[test]
    fn compressed_entries_come_back_and_cover_their_bytes() {
        for cluster_bits in 9..=21 {
            let geometry = geometry(cluster_bits, false);
            for offset in [0x5_0000, 0x5_0001, 0x5_01ff, 0x5_0200, (1 << 40) + 511] {
                for len in [1, 2, 511, 512, 513, geometry.cluster() - 1] {
                    let entry = geometry.packed_entry(offset, len);
                    let (at, most) = geometry.packed(entry);
                    assert_eq!(at, offset);
                    assert!(most >= len && most < len + 512, "{len} bytes in {most}");
                    assert!(matches!(geometry.entry(entry, 0), Entry::Packed { .. }));
                }
            }
        }
    }

    #[test]
    fn refcounts_of_every_width_come_back_and_leave_their_neighbours() {
        for order in 0..=6 {
            let counts = Counts { order };
            let mut block = vec![0; 512];
            let n = usize::try_from(counts.per(512)).expect("small");
            assert_eq!(n << order, 4096);
            for index in [0, 1, 7, n - 1] {
                counts.set(&mut block, index, counts.max());
                assert_eq!(counts.get(&block, index), counts.max(), "{order} {index}");
            }
            assert_eq!(counts.get(&block, 2), 0);
            counts.set(&mut block, 1, 0);
            assert_eq!(counts.get(&block, 0), counts.max());
            assert_eq!(counts.get(&block, 1), 0);
        }
    }

    #[test]
    fn subclusters_have_two_bits_each() {
        let bitmap = 1 | 1 << 33 | 1 << 2 | 1 << 34;
        assert_eq!(subcluster(bitmap, 0), Some(Subcluster::Data));
        assert_eq!(subcluster(bitmap, 1), Some(Subcluster::Zero));
        assert_eq!(subcluster(bitmap, 2), None);
        assert_eq!(subcluster(bitmap, 31), Some(Subcluster::Unallocated));
    }
}
