//! The file systems of Linux, and what it keeps in partitions besides.

use super::{Found, signed};
use crate::bytes::{Bytes, hex};
use crate::disk::{Read, Volume};

/// ext2, ext3, ext4 (the kernel's documentation of ext4, "Super Block").
pub(super) fn ext(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 1024, 1024, 0x38, b"\x53\xef")? else { return Ok(None) };
    Ok(parse_ext(Bytes(&raw)))
}

/// The three words that say what an ext file system uses: compatible, incompatible, compatible for
/// reading.
pub(crate) fn ext_features(raw: Bytes) -> Option<[u32; 3]> {
    // Revision 0 has none: what is there means nothing.
    if raw.le32(0x4c)? == 0 {
        return Some([0; 3]);
    }
    Some([raw.le32(0x5c)?, raw.le32(0x60)?, raw.le32(0x64)?])
}

fn parse_ext(raw: Bytes) -> Option<Found> {
    let [compatible, incompatible, reading] = ext_features(raw)?;
    let (inodes, blocks, shift) = (raw.le32(0)?, raw.le32(4)?, raw.le32(0x18)?);
    if inodes == 0 || blocks == 0 || shift > 6 {
        return None;
    }
    let kind = match () {
        // The journal of another file system.
        () if incompatible & 0x8 != 0 => "jbd",
        // What ext3 does not have: all but file types, recovery and meta groups; all but sparse
        // superblocks, large files and sorted directories.
        () if incompatible & !0x16 != 0 || reading & !0x7 != 0 => "ext4",
        () if compatible & 4 != 0 => "ext3",
        () => "ext2",
    };
    let high = if incompatible & 0x80 != 0 { raw.le32(0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(blocks);
    let found = Found::new(kind).label(raw.text(0x78, 16)).uuid(raw.uuid(0x68));
    Some(found.size(blocks.checked_mul(1024 << shift)))
}

/// XFS (XFS Algorithms & Data Structures, "Superblocks").
pub(super) fn xfs(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 512, 0, b"XFSB")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let block = raw.be32(4).filter(|block| block.is_power_of_two());
    let Some((block, blocks)) = block.zip(raw.be64(8)) else { return Ok(None) };
    let found = Found::new("xfs").label(raw.text(108, 12)).uuid(raw.uuid(32));
    Ok(Some(found.size(blocks.checked_mul(u64::from(block)))))
}

/// Btrfs: its size is that of all its devices together.
pub(super) fn btrfs(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 64 << 10, 0x22b, 0x40, b"_BHRfS_M")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let found = Found::new("btrfs").label(raw.text(0x12b, 256)).uuid(raw.uuid(0x20));
    Ok(Some(found.size(raw.le64(0x70))))
}

/// Swap space: its sign stands at the end of the first page, whose size is the machine's.
pub(super) fn swap(volume: &Volume) -> Read<Option<Found>> {
    for page in [4096, 8192, 16384, 65536] {
        if volume.len < page {
            break;
        }
        let sign = volume.bytes(page - 10, 10)?;
        if sign != b"SWAPSPACE2" && sign != b"SWAP-SPACE" {
            continue;
        }
        let raw = volume.bytes(1024, 0x2c)?;
        let raw = Bytes(&raw);
        let pages = raw.le32(4).map(|last| u64::from(last) + 1);
        let size = pages.and_then(|pages| pages.checked_mul(page));
        return Ok(Some(Found::new("swap").label(raw.text(28, 16)).uuid(raw.uuid(12)).size(size)));
    }
    Ok(None)
}

/// A part of a volume group: its label is in one of the first four sectors.
pub(super) fn lvm2(volume: &Volume) -> Read<Option<Found>> {
    for sector in 0..4 {
        let raw = volume.bytes(sector * 512, 512)?;
        let raw = Bytes(&raw);
        if !raw.has(0, b"LABELONE") || !raw.has(24, b"LVM2 001") {
            continue;
        }
        let header = raw.le32(20).and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
        let id = raw.slice(header, 32).filter(|id| id.iter().all(u8::is_ascii_alphanumeric));
        let id = id.map(|id| String::from_utf8_lossy(id).into_owned());
        let id = id.map(|id| {
            let cuts = [(0, 6), (6, 10), (10, 14), (14, 18), (18, 22), (22, 26), (26, 32)];
            cuts.map(|(from, to)| &id[from..to]).join("-")
        });
        let size = header.checked_add(32).and_then(|at| raw.le64(at));
        return Ok(Some(Found::new("lvm2").uuid(id).size(size)));
    }
    Ok(None)
}

/// An encrypted volume (LUKS1 and LUKS2 On-Disk Format).
pub(super) fn luks(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 512, 0, b"LUKS\xba\xbe")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let label = raw.text(24, 48).filter(|_| raw.be16(6) == Some(2));
    Ok(Some(Found::new("luks").label(label).uuid(raw.text(168, 40))))
}

/// A part of a Linux RAID: the superblock is at the start, behind 4 KiB, or near the end.
pub(super) fn raid(volume: &Volume) -> Read<Option<Found>> {
    const MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();
    let end = volume.len / 4096 * 4096;
    let places = [Some(0), Some(4096), end.checked_sub(8192)];
    for (at, version) in places.into_iter().zip([1_u32, 1, 1]) {
        let Some(at) = at.filter(|at| at.saturating_add(256) <= volume.len) else { continue };
        let Some(raw) = signed(volume, at, 256, 0, &MAGIC)? else { continue };
        let raw = Bytes(&raw);
        if raw.le32(4) == Some(version) {
            return Ok(Some(Found::new("raid").label(raw.text(32, 32)).uuid(raw.uuid(16))));
        }
    }
    // Version 0.90: in the last 64 KiB that are whole.
    let Some(at) = (volume.len / 65536 * 65536).checked_sub(65536) else { return Ok(None) };
    let Some(raw) = signed(volume, at, 256, 0, &MAGIC)? else { return Ok(None) };
    let raw = Bytes(&raw);
    Ok((raw.le32(4) == Some(0)).then(|| Found::new("raid")))
}

/// Squashfs, little-endian.
pub(super) fn squashfs(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 96, 0, b"hsqs")? else { return Ok(None) };
    Ok(Some(Found::new("squashfs").size(Bytes(&raw).le64(40))))
}

pub(super) fn f2fs(volume: &Volume) -> Read<Option<Found>> {
    let magic = 0xf2f5_2010_u32.to_le_bytes();
    let Some(raw) = signed(volume, 1024, 0x47c, 0, &magic)? else { return Ok(None) };
    let raw = Bytes(&raw);
    let size = raw.le32(16).zip(raw.le64(36)).and_then(|(shift, blocks)| {
        let block = 1_u64.checked_shl(shift)?;
        blocks.checked_mul(block)
    });
    Ok(Some(Found::new("f2fs").label(raw.wide(0x7c, 1024)).uuid(raw.uuid(0x6c)).size(size)))
}

pub(super) fn erofs(volume: &Volume) -> Read<Option<Found>> {
    let magic = 0xe0f5_e1e2_u32.to_le_bytes();
    let Some(raw) = signed(volume, 1024, 128, 0, &magic)? else { return Ok(None) };
    let raw = Bytes(&raw);
    let size = raw.byte(12).zip(raw.le32(36)).and_then(|(shift, blocks)| {
        let block = 1_u64.checked_shl(u32::from(shift))?;
        u64::from(blocks).checked_mul(block)
    });
    Ok(Some(Found::new("erofs").label(raw.text(64, 16)).uuid(raw.uuid(48)).size(size)))
}

/// A number of eight bytes as some write it who have no UUID.
pub(super) fn serial(raw: Bytes, at: usize, len: usize) -> Option<String> {
    let mut bytes = raw.slice(at, len)?.to_vec();
    bytes.reverse();
    Some(hex(&bytes).to_uppercase()).filter(|_| bytes.iter().any(|byte| *byte != 0))
}
