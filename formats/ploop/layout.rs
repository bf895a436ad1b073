//! Bytes ↔ structs. All integers are little endian; sectors and clusters become bytes here.
//!
//! Source: qemu docs/interop/parallels.rst.

use binrw::{BinRead, BinWrite};

/// What a file begins with: the older magic, whose table counts sectors, and the newer one, whose
/// table counts clusters.
pub(super) const OLD_MAGIC: [u8; 16] = *b"WithoutFreeSpace";
pub(super) const NEW_MAGIC: [u8; 16] = *b"WithouFreSpacExt";
/// The one version there is.
pub(super) const VERSION: u32 = 2;
/// Bytes of the header; the table follows.
pub(super) const LENGTH: u64 = HEADER as u64;
pub(super) const HEADER: usize = 64;
/// Bytes of an entry of the table.
pub(super) const ENTRY: u64 = 4;
pub(super) const SECTOR: u64 = 512;

/// Marks of whether it is in use: open for writing, and closed. Older programs have others.
pub(super) const IN_USE: u32 = 0x746f_6e59;
pub(super) const CLOSED: u32 = 0x312e_3276;
/// Where the mark stands.
pub(super) const IN_USE_AT: u64 = 44;
/// Where the word about where clusters begin stands.
pub(super) const DATA_AT: u64 = 48;

/// Limits of qemu, which are limits of the format in practice.
pub(super) const MAX_TRACKS: u32 = 0x7fff_ffff / 513;
pub(super) const MAX_ENTRIES: u32 = 0x7fff_ffff / 4;

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Header {
    pub(super) magic: [u8; 16],
    pub(super) version: u32,
    pub(super) heads: u32,
    pub(super) cylinders: u32,
    /// Sectors of a cluster.
    pub(super) tracks: u32,
    /// Entries of the table.
    pub(super) entries: u32,
    /// Sectors of the disk; with the older magic only the lower half counts.
    pub(super) sectors: u64,
    pub(super) in_use: u32,
    /// Sector behind which clusters lie; with the older magic 0 means: behind the table.
    pub(super) data: u32,
    pub(super) flags: u32,
    /// Sector of the format extension; 0: none.
    pub(super) ext: u64,
}

impl Header {
    /// The header in these bytes.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> binrw::BinResult<Header> {
        Header::read(&mut std::io::Cursor::new(&bytes[..]))
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write(&mut bytes).expect("a Vec takes any bytes");
        bytes.into_inner()
    }

    /// Whether its table counts sectors.
    pub(super) fn is_old(&self) -> bool {
        self.magic == OLD_MAGIC
    }

    /// How disk and file are cut; `None` if that does not fit into 64 bits.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        let cluster = u64::from(self.tracks) * SECTOR;
        let entries = u64::from(self.entries);
        let sectors = if self.is_old() { self.sectors & 0xffff_ffff } else { self.sectors };
        let table_end = LENGTH + entries * ENTRY;
        let data = match self.data {
            0 if self.is_old() => table_end.next_multiple_of(SECTOR),
            sector => u64::from(sector) * SECTOR,
        };
        let unit = if self.is_old() { SECTOR } else { cluster };
        let size = sectors.checked_mul(SECTOR)?;
        // Clusters lie at multiples of themselves, whatever the word says: qemu writes a wrong one
        // where a cluster is no power of two.
        let wrong = !self.is_old() && (data < table_end || !data.is_multiple_of(cluster));
        let data = if wrong { table_end.next_multiple_of(cluster) } else { data };
        Some(Geometry { cluster, unit, entries, data, wrong, size })
    }
}

/// How disk and file are cut into pieces, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cluster: u64,
    /// What entries of the table count.
    pub(super) unit: u64,
    /// Entries of the table.
    pub(super) entries: u64,
    /// Where the first cluster may lie.
    pub(super) data: u64,
    /// The header says something else, which cannot be.
    pub(super) wrong: bool,
    /// Of the disk.
    pub(super) size: u64,
}

impl Geometry {
    /// Clusters of the disk: so many entries are needed.
    pub(super) fn needed(&self) -> u64 {
        self.size.div_ceil(self.cluster)
    }

    /// Where the table ends.
    pub(super) fn table_end(&self) -> u64 {
        LENGTH + self.entries * ENTRY
    }

    /// Where the cluster of an entry lies; `None` if it has none.
    pub(super) fn offset(&self, entry: u64) -> Option<u64> {
        // 32 bits of clusters, which are below 2 GiB.
        (entry != 0).then(|| entry * self.unit)
    }

    /// The entry of a cluster that lies at this offset; `None` if that is too far behind.
    pub(super) fn entry(&self, offset: u64) -> Option<u32> {
        u32::try_from(offset / self.unit).ok()
    }

    /// Whether a cluster may lie at this offset.
    pub(super) fn is_place(&self, offset: u64) -> bool {
        offset >= self.data && (offset - self.data).is_multiple_of(self.cluster)
    }

    /// Bytes of a cluster of the disk that the disk reaches: the last one may be cut off.
    pub(super) fn reached(&self, index: u64) -> u64 {
        // An entry behind the end of the disk has a whole cluster all the same.
        match self.size.checked_sub(index * self.cluster) {
            None | Some(0) => self.cluster,
            Some(left) => left.min(self.cluster),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(magic: [u8; 16]) -> Header {
        Header {
            magic,
            version: VERSION,
            heads: 16,
            cylinders: 77,
            tracks: 63,
            entries: 2081,
            sectors: 131_072,
            in_use: CLOSED,
            data: 0,
            flags: 1,
            ext: 9,
        }
    }

    #[test]
    fn a_header_comes_back() {
        for magic in [OLD_MAGIC, NEW_MAGIC] {
            let bytes = header(magic).to_bytes();
            let bytes = bytes.try_into().expect("64 of them");
            assert_eq!(Header::parse(&bytes).expect("a header"), header(magic));
        }
    }

    // VirtualBox writes such ones: its first cluster lies at sector 17.
    #[test]
    fn without_a_word_clusters_begin_behind_the_table() {
        let geometry = header(OLD_MAGIC).geometry().expect("it fits");
        assert_eq!((geometry.data, geometry.cluster), (17 * 512, 63 * 512));
        assert_eq!(geometry.offset(17), Some(17 * 512));
        assert_eq!(geometry.entry(17 * 512), Some(17));
        assert!(geometry.is_place((17 + 63) * 512) && !geometry.is_place(18 * 512));
        assert_eq!((geometry.reached(2080), geometry.reached(2081)), (32 * 512, 63 * 512));
    }

    #[test]
    fn a_word_that_cannot_be_is_passed_over_where_entries_count_clusters() {
        for data in [0, 1, 62, 64] {
            let header = Header { data, ..header(NEW_MAGIC) };
            let geometry = header.geometry().expect("it fits");
            assert_eq!((geometry.data, geometry.wrong), (63 * 512, true));
        }
        let geometry = Header { data: 126, ..header(NEW_MAGIC) }.geometry().expect("it fits");
        assert_eq!((geometry.data, geometry.wrong), (126 * 512, false));
    }

    #[test]
    fn a_disk_of_more_than_64_bits_has_no_geometry() {
        let header = Header { sectors: 1 << 55, ..header(NEW_MAGIC) };
        assert_eq!(header.geometry(), None);
    }
}
