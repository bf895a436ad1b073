//! Bytes ↔ structs. All integers are little endian.
//!
//! Source: qemu `docs/interop/qed_spec.txt`.

use binrw::{BinRead, BinWrite};

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"QED\0";
/// Bytes of the header.
pub(super) const LENGTH: usize = 64;
/// Bytes of a backing file's name at most.
pub(super) const MAX_BACKING_NAME: u32 = 1023;

/// Features: an unknown one means "do not read".
pub(super) const BACKING_FILE: u64 = 1;
pub(super) const NEED_CHECK: u64 = 1 << 1;
pub(super) const BACKING_IS_RAW: u64 = 1 << 2;

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"QED\0")]
pub(super) struct Header {
    pub(super) cluster_size: u32,
    /// Clusters of a table, of either level.
    pub(super) table_clusters: u32,
    /// Clusters of the header.
    #[expect(clippy::struct_field_names, reason = "the specification calls it so")]
    pub(super) header_clusters: u32,
    pub(super) features: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) l1_offset: u64,
    pub(super) size: u64,
    pub(super) backing_offset: u32,
    pub(super) backing_len: u32,
}

impl Header {
    /// The header in these bytes, which begin with the magic.
    pub(super) fn parse(bytes: &[u8; LENGTH]) -> binrw::BinResult<Header> {
        Header::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// How disk and file are cut; its sizes are powers of two.
    pub(super) fn geometry(&self) -> Geometry {
        let cluster = u64::from(self.cluster_size);
        let table = cluster * u64::from(self.table_clusters);
        Geometry { cluster, table, header: cluster * u64::from(self.header_clusters) }
    }
}

/// How disk and file are cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of a cluster.
    pub(super) cluster: u64,
    /// Bytes of a table.
    pub(super) table: u64,
    /// Bytes in front that belong to the header.
    pub(super) header: u64,
}

/// What an L2 entry says about its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Unallocated,
    Zero,
    Data { offset: u64 },
}

impl Entry {
    /// What an entry says.
    pub(super) fn of(entry: u64) -> Entry {
        match entry {
            0 => Entry::Unallocated,
            1 => Entry::Zero,
            offset => Entry::Data { offset },
        }
    }
}

impl Geometry {
    /// Entries of a table.
    pub(super) fn entries(self) -> u64 {
        self.table / 8
    }

    /// Bytes of disk behind one L1 entry.
    pub(super) fn l2_reach(self) -> u64 {
        self.entries() * self.cluster
    }

    /// Bytes of the largest disk.
    pub(super) fn max_size(self) -> u128 {
        u128::from(self.entries()) * u128::from(self.l2_reach())
    }

    /// Whether a cluster may lie at this offset: aligned, behind the header, below 2^64.
    pub(super) fn is_place(self, offset: u64) -> bool {
        let fits = offset.checked_add(self.cluster).is_some();
        offset.is_multiple_of(self.cluster) && offset >= self.header && fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            cluster_size: 65_536,
            table_clusters: 4,
            header_clusters: 1,
            features: BACKING_FILE | BACKING_IS_RAW,
            compatible: 8,
            autoclear: 16,
            l1_offset: 65_536,
            size: (1 << 40) + 512,
            backing_offset: 64,
            backing_len: 9,
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        header.write(&mut bytes).expect("a Vec takes any bytes");
        let bytes: [u8; LENGTH] = bytes.into_inner().try_into().expect("as long as it says");
        assert_eq!(Header::parse(&bytes).expect("a header"), header);
        assert_eq!(header.geometry().max_size(), 64 << 40);
    }
}
