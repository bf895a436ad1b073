//! Every number that an image may not push us past.

use std::time::Instant;

/// Bounds on what an image can make us do. Each is checked before memory or time is spent.
///
/// ```
/// let limits = formats::Limits { max_disk_size: 1 << 40, ..Default::default() };
/// assert_eq!(limits.max_chain, 16);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    /// Size of the disk, as the guest sees it.
    pub max_disk_size: u64,
    /// Size of one table (L1, refcount table, snapshot table, ...) in the file.
    pub max_table: u64,
    /// Memory that unpacking what is wrapped around an image may take: half of it for one decoder
    /// and its dictionary, a quarter for a block that has to be held whole.
    pub max_memory: u64,
    /// Entries of one list (snapshots, bitmaps, extensions).
    pub max_entries: u64,
    /// Files that the disk of one image lies in.
    pub max_files: usize,
    /// Compression around an image, one in another.
    pub max_wrappers: usize,
    /// Images on top of each other, the first one included.
    pub max_chain: usize,
    /// Bytes that a conversion may hand on, holes not counted. `u64::MAX` for no bound.
    pub max_output: u64,
    /// How often larger the data handed on may be than the files they come from.
    pub max_ratio: u64,
    /// Data up to this size are handed on whatever the ratio.
    pub ratio_floor: u64,
    /// What is wrapped around an image may unpack to this size whatever the ratio: that takes time
    /// before anything is known of the image.
    pub unpacked_floor: u64,
    /// When all work on an image has to be done: bytes that were given by
    /// [`Input::within`](crate::Input::within) cannot be read any more then.
    pub deadline: Option<Instant>,
}

impl Limits {
    /// For a service that takes images from strangers: room for every honest disk, and little
    /// else. One file, nothing underneath, compressed once at most.
    pub fn untrusted() -> Limits {
        Limits {
            max_disk_size: 64 << 40,
            max_table: 16 << 20,
            max_memory: 64 << 20,
            max_entries: 16_384,
            max_files: 16,
            max_wrappers: 1,
            max_chain: 1,
            max_output: 1 << 40,
            max_ratio: 200,
            ratio_floor: 256 << 20,
            unpacked_floor: 32 << 20,
            deadline: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_disk_size: 1 << 60,
            max_table: 64 << 20,
            max_memory: 512 << 20,
            max_entries: 65_536,
            max_files: 512,
            max_wrappers: 2,
            max_chain: 16,
            max_output: u64::MAX,
            max_ratio: 1_000,
            ratio_floor: 1 << 30,
            unpacked_floor: 1 << 30,
            deadline: None,
        }
    }
}
