//! Which file system lies in a partition, what it is called and how large it is.

mod linux;
mod others;
mod windows;

use crate::Place;
use crate::bytes::Bytes;
use crate::disk::{Fault, Read, Volume};

/// A file system, or what else has a name of its own: swap space, a part of a volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// The number of its partition; none if it takes the whole disk, or a logical volume.
    pub partition: Option<u32>,
    /// The logical volume that it lies in, with the name of its group in front: `ubuntu-vg/root`.
    pub volume: Option<String>,
    /// Which one: `ext4`, `xfs`, `btrfs`, `vfat`, `ntfs`, `swap`, `lvm2`, `luks`, ...
    pub kind: &'static str,
    /// Its name.
    pub label: Option<String>,
    /// What it is known by, as it writes that itself: most have a UUID, those of Microsoft a serial
    /// number.
    pub uuid: Option<String>,
    /// The size that it says it has.
    pub size: Option<u64>,
}

impl FileSystem {
    pub(crate) fn of(place: &Place) -> FileSystem {
        let found = place.found.clone();
        let partition = place.partition.as_ref().map(|partition| partition.number);
        let volume = place.logical.clone();
        let Found { kind, label, uuid, size } = found;
        FileSystem { partition, volume, kind, label, uuid, size }
    }
}

/// What lies in a volume.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) kind: &'static str,
    pub(crate) label: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Found {
    fn new(kind: &'static str) -> Found {
        Found { kind, label: None, uuid: None, size: None }
    }

    fn label(mut self, label: Option<String>) -> Found {
        self.label = label;
        self
    }

    fn uuid(mut self, uuid: Option<String>) -> Found {
        self.uuid = uuid;
        self
    }

    fn size(mut self, size: Option<u64>) -> Found {
        self.size = size;
        self
    }
}

/// Looks for one thing: at most a few pages of the volume.
type Look = fn(&Volume) -> Read<Option<Found>>;

/// In this order: what others lie in comes before what may lie in it, and what has the surest sign
/// before what has little of one.
const LOOKS: [Look; 21] = [
    linux::luks,
    linux::lvm2,
    linux::raid,
    windows::bitlocker,
    windows::ntfs,
    windows::exfat,
    windows::refs,
    linux::xfs,
    linux::squashfs,
    linux::ext,
    linux::f2fs,
    linux::erofs,
    linux::btrfs,
    linux::swap,
    others::apfs,
    others::hfs,
    others::iso9660,
    others::udf,
    others::ufs,
    windows::vfat,
    others::zfs,
];

/// What lies in a volume. Behind a partition table only what can share a disk with one is looked
/// for: the file system of CDs.
pub(crate) fn identify(volume: &Volume, behind_table: bool) -> Option<Found> {
    let looks: &[Look] = if behind_table { &[others::iso9660] } else { &LOOKS };
    for look in looks {
        match look(volume) {
            Ok(Some(found)) => return Some(found),
            // The volume ends before such a file system could begin.
            Ok(None) | Err(Fault::Damaged(_)) => {}
            Err(Fault::Spent) => return None,
            Err(fault @ Fault::Unreadable(_)) => {
                volume.disk.complain("looking for a file system", &fault);
                return None;
            }
        }
    }
    None
}

/// `len` bytes at `at`, in which there is the magic number of a file system at `sign`.
fn signed(
    volume: &Volume,
    at: u64,
    len: usize,
    sign: usize,
    magic: &[u8],
) -> Read<Option<Vec<u8>>> {
    let bytes = volume.bytes(at, len)?;
    Ok(Bytes(&bytes).has(sign, magic).then_some(bytes))
}

pub(crate) use linux::ext_features;
