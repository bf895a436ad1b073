//! Who uses each cluster of the file, as the tables say: what the stored refcounts should be.

use std::collections::BTreeMap;

use super::layout::Geometry;
use crate::base::error::{Error, Result};
use crate::base::storage::Spool;

/// What a cluster is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Something that only one user can have: a header, a list, a refcount block, an L1 table.
    Sole,
    /// An L2 table, which snapshots share.
    Table,
    /// Bytes of the disk, which snapshots share, and compressed clusters of each other.
    Data,
}

/// The bits of a cluster's word: how it is used, and by how many.
const SOLE: u16 = 1 << 15;
const TABLE: u16 = 1 << 14;
const DATA: u16 = 1 << 13;
/// The stored refcount is one.
const SINGLE: u16 = 1 << 12;
/// The largest number of users that fits; this one means "look in the other map".
const MANY: u16 = SINGLE - 1;

/// Clusters whose words share a mark that says whether one of them is in use.
const GROUP: u64 = 2048;
/// Clusters of a file at most: what qemu takes, and a map of 4 GiB.
const MAX_CLUSTERS: u64 = 1 << 31;

/// A map over the clusters of a file. It is as large as the file asks for, never as an entry does.
pub(super) struct Usage {
    /// Two bytes per cluster.
    words: Spool,
    groups: Vec<bool>,
    /// The users of clusters that have very many.
    many: BTreeMap<u64, u64>,
    clusters: u64,
    cluster_bits: u32,
    file_len: u64,
}

impl Usage {
    /// Of a file of this length, in which nothing is in use.
    pub(super) fn new(file_len: u64, geometry: Geometry) -> Result<Usage> {
        // The last sector of a compressed cluster may lie behind the end: one cluster more.
        let clusters = file_len.div_ceil(geometry.cluster()) + 1;
        if clusters > MAX_CLUSTERS {
            return Err(Error::limit(format!(
                "the file has {clusters} clusters, {MAX_CLUSTERS} can be checked"
            )));
        }
        let fail = |_| Error::limit(format!("{clusters} clusters do not fit into memory"));
        let bytes = usize::try_from(clusters * 2).map_err(fail)?;
        let groups = usize::try_from(clusters.div_ceil(GROUP)).map_err(fail)?;
        Ok(Usage {
            words: Spool::new(bytes)?,
            groups: vec![false; groups],
            many: BTreeMap::new(),
            clusters,
            cluster_bits: geometry.cluster_bits,
            file_len,
        })
    }

    /// Clusters of the file, with the one behind its end if that is in use.
    pub(super) fn clusters(&self) -> u64 {
        let last = self.clusters - 1;
        if self.users(last) > 0 { self.clusters } else { last }
    }

    /// The bytes of the file.
    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The clusters that a stretch touches; `None` if it ends a cluster or more behind the end of
    /// the file. Less than that is what the last sectors of a compressed cluster do. An empty
    /// stretch touches none.
    pub(super) fn touched(&self, offset: u64, len: u64) -> Option<std::ops::Range<u64>> {
        let cluster = 1 << self.cluster_bits;
        let end = offset.checked_add(len)?;
        let first = offset >> self.cluster_bits;
        let behind = if len == 0 { first } else { end.div_ceil(cluster) };
        (end < self.file_len + cluster).then_some(first..behind)
    }

    /// So many users more.
    pub(super) fn add(&mut self, cluster: u64, role: Role, users: u64) {
        let bit = match role {
            Role::Sole => SOLE,
            Role::Table => TABLE,
            Role::Data => DATA,
        };
        let word = self.word(cluster);
        let count = self.users(cluster).saturating_add(users);
        let stored = match u16::try_from(count) {
            Ok(count) if count < MANY => count,
            _ => {
                self.many.insert(cluster, count);
                MANY
            }
        };
        self.groups[place(cluster / GROUP)] = true;
        self.set_word(cluster, word & !MANY | bit | stored);
    }

    /// How many users there are.
    pub(super) fn users(&self, cluster: u64) -> u64 {
        match self.word(cluster) & MANY {
            MANY => self.many.get(&cluster).copied().unwrap_or(u64::from(MANY)),
            few => u64::from(few),
        }
    }

    /// Whether two of its users cannot share it.
    pub(super) fn overlaps(&self, cluster: u64) -> bool {
        let word = self.word(cluster);
        (word & SOLE != 0 && self.users(cluster) > 1) || word & (TABLE | DATA) == TABLE | DATA
    }

    /// Notes that its stored refcount is one.
    pub(super) fn set_single(&mut self, cluster: u64) {
        if cluster < self.clusters {
            self.set_word(cluster, self.word(cluster) | SINGLE);
        }
    }

    /// Whether its stored refcount is one; `None` for a cluster that is not in the map.
    pub(super) fn is_single(&self, cluster: u64) -> Option<bool> {
        (cluster < self.clusters).then(|| self.word(cluster) & SINGLE != 0)
    }

    /// The first cluster in use from `from` on, before `end`.
    pub(super) fn next_used(&self, from: u64, end: u64) -> Option<u64> {
        let end = end.min(self.clusters);
        let mut at = from;
        while at < end {
            if !self.groups[place(at / GROUP)] {
                at = (at / GROUP + 1) * GROUP;
            } else if self.users(at) > 0 {
                return Some(at);
            } else {
                at += 1;
            }
        }
        None
    }

    /// `count` clusters in a row inside the file that nobody uses: the offset of the first.
    pub(super) fn find_free(&self, count: u64) -> Option<u64> {
        let end = self.file_len >> self.cluster_bits;
        let mut first = 0_u64;
        while first.checked_add(count)? <= end {
            match self.next_used(first, first + count) {
                None => return Some(first),
                Some(used) => first = used + 1,
            }
        }
        None
    }

    fn word(&self, cluster: u64) -> u16 {
        let at = place(cluster) * 2;
        u16::from_le_bytes([self.words[at], self.words[at + 1]])
    }

    fn set_word(&mut self, cluster: u64, word: u16) {
        let at = place(cluster) * 2;
        self.words[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).expect("the map was made for it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec::Codec;

    fn usage(file_len: u64) -> Usage {
        let codec = Codec::Deflate;
        let geometry =
            Geometry { version: 3, cluster_bits: 9, extended: false, data_file: false, codec };
        Usage::new(file_len, geometry).expect("a small map")
    }

    #[test]
    fn a_cluster_with_very_many_users_keeps_their_number() {
        let mut usage = usage(10 << 9);
        for users in [1, 4000, 94, 1, 1 << 40] {
            usage.add(3, Role::Data, users);
        }
        assert_eq!(usage.users(3), 4096 + (1 << 40));
        assert!(!usage.overlaps(3));
        usage.add(3, Role::Table, 1);
        assert!(usage.overlaps(3));
    }

    #[test]
    fn only_a_compressed_cluster_may_reach_past_the_end() {
        let usage = usage(1000);
        assert_eq!(usage.touched(512, 512), Some(1..2));
        assert_eq!(usage.touched(512, 600), Some(1..3));
        assert_eq!(usage.touched(1000, 512), None);
        assert_eq!(usage.touched(u64::MAX, 2), None);
    }

    // Seen: checking an image without a refcount table, said to lie at 0, panicked. Why: the last
    // byte of no bytes was asked for.
    #[test]
    fn an_empty_stretch_touches_no_cluster() {
        let usage = usage(1024);
        assert_eq!(usage.touched(0, 0), Some(0..0));
        assert_eq!(usage.touched(700, 0), Some(1..1));
    }

    #[test]
    fn free_clusters_are_found_between_used_ones() {
        let mut usage = usage(5000 << 9);
        for cluster in [0, 3, 10, 4000] {
            usage.add(cluster, Role::Sole, 1);
        }
        assert_eq!(usage.next_used(11, u64::MAX), Some(4000));
        assert_eq!(usage.find_free(6), Some(4));
        assert_eq!(usage.find_free(2000), Some(11));
        assert_eq!(usage.find_free(4000), None);
    }
}
