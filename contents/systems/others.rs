//! The file systems of CDs, of Apple, of BSD.

use super::linux::serial;
use super::{Found, signed};
use crate::bytes::Bytes;
use crate::disk::{Read, Volume};

/// The file system of CDs (ECMA-119, "Primary Volume Descriptor"). What it is known by is when it
/// was made.
pub(super) fn iso9660(volume: &Volume) -> Read<Option<Found>> {
    for sector in 16..32 {
        let raw = volume.bytes(sector * 2048, 2048)?;
        let raw = Bytes(&raw);
        if !raw.has(1, b"CD001") {
            return Ok(None);
        }
        match raw.byte(0) {
            Some(1) => {
                let blocks = raw.le32(80).zip(raw.le16(128));
                let size = blocks.map(|(count, size)| u64::from(count) * u64::from(size));
                let uuid = moment(raw, 830).or_else(|| moment(raw, 813));
                return Ok(Some(
                    Found::new("iso9660").label(raw.text(40, 32)).uuid(uuid).size(size),
                ));
            }
            Some(255) | None => return Ok(None),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// A moment in digits, from the year to hundredths of a second.
fn moment(raw: Bytes, at: usize) -> Option<String> {
    let digits = raw.slice(at, 16)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits.iter().all(|digit| *digit == b'0') {
        return None;
    }
    let text = String::from_utf8_lossy(digits);
    let cuts = [(0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)];
    Some(cuts.map(|(from, to)| &text[from..to]).join("-"))
}

/// The file system of DVDs, where the one of CDs is not there, too. Its signs follow each other in
/// blocks, or in sectors of CDs where blocks are smaller.
pub(super) fn udf(volume: &Volume) -> Read<Option<Found>> {
    for block in [2048, 4096] {
        for index in 0..8 {
            let raw = volume.bytes(32768 + index * block, 16)?;
            match &raw[1..6] {
                b"NSR02" | b"NSR03" => return Ok(Some(Found::new("udf"))),
                b"BEA01" | b"BOOT2" | b"CD001" | b"CDW02" => {}
                _ => break,
            }
        }
    }
    Ok(None)
}

/// APFS (Apple File System Reference, "Container Superblock").
pub(super) fn apfs(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 128, 32, b"NXSB")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let size = raw.le32(36).zip(raw.le64(40));
    let size = size.and_then(|(block, blocks)| blocks.checked_mul(u64::from(block)));
    Ok(Some(Found::new("apfs").uuid(raw.uuid(72)).size(size)))
}

/// HFS+ and HFSX (Apple Technical Note 1150).
pub(super) fn hfs(volume: &Volume) -> Read<Option<Found>> {
    let raw = volume.bytes(1024, 512)?;
    let raw = Bytes(&raw);
    let version = raw.be16(2);
    if !(raw.has(0, b"H+") && version == Some(4) || raw.has(0, b"HX") && version == Some(5)) {
        return Ok(None);
    }
    let size = raw.be32(40).zip(raw.be32(44));
    let size = size.map(|(block, blocks)| u64::from(block) * u64::from(blocks));
    Ok(Some(Found::new("hfsplus").size(size)))
}

/// The file systems of BSD: UFS2, and the older one.
pub(super) fn ufs(volume: &Volume) -> Read<Option<Found>> {
    for (at, magic) in [(65536, 0x1954_0119_u32), (8192, 0x1954_0119), (8192, 0x0001_1954)] {
        if volume.len < at + 2048 {
            continue;
        }
        let Some(raw) = signed(volume, at, 1376, 1372, &magic.to_le_bytes())? else { continue };
        let raw = Bytes(&raw);
        let label = raw.text(680, 32).filter(|_| magic == 0x1954_0119);
        let id = raw.array::<8>(144).filter(|id| *id != [0; 8]);
        let id =
            id.map(|_| [serial(raw, 144, 4), serial(raw, 148, 4)].map(Option::unwrap_or_default));
        return Ok(Some(
            Found::new("ufs").label(label).uuid(id.map(|id| id.concat().to_lowercase())),
        ));
    }
    Ok(None)
}

/// A part of a ZFS pool, by one of the blocks that say where the newest tree is.
pub(super) fn zfs(volume: &Volume) -> Read<Option<Found>> {
    const RING: u64 = 128 << 10;
    for slot in 0..128 {
        let at = RING + slot * 1024;
        let raw = volume.bytes(at, 8)?;
        let raw = Bytes(&raw);
        if raw.le64(0) == Some(0x00ba_b10c) || raw.be64(0) == Some(0x00ba_b10c) {
            return Ok(Some(Found::new("zfs")));
        }
    }
    Ok(None)
}
