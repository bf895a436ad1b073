//! The file systems of Microsoft.

use super::linux::serial;
use super::{Found, signed};
use crate::bytes::Bytes;
use crate::disk::{Read, Volume};
use crate::tree::fat::Fat;

/// FAT with entries of 12, 16 or 32 bits. Its name is an entry of the first folder, and only where
/// there is none the one in the boot sector.
pub(super) fn vfat(volume: &Volume) -> Read<Option<Found>> {
    let Ok(mut fat) = Fat::open(volume.clone()) else { return Ok(None) };
    let raw = volume.bytes(0, 512)?;
    let raw = Bytes(&raw);
    let at = if fat.is_wide() { 67 } else { 39 };
    let stated = raw.text(at + 4, 11).filter(|name| name != "NO NAME" && raw.has(at + 15, b"FAT"));
    let label = fat.label().ok().flatten().or(stated);
    let uuid = serial(raw, at, 4).map(|number| format!("{}-{}", &number[..4], &number[4..]));
    Ok(Some(Found::new("vfat").label(label).uuid(uuid).size(Some(fat.size()))))
}

/// exFAT (exFAT file system specification, "Main and Backup Boot Sector").
pub(super) fn exfat(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 512, 3, b"EXFAT   ")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let uuid = serial(raw, 100, 4).map(|number| format!("{}-{}", &number[..4], &number[4..]));
    let shift = raw.byte(108).filter(|shift| (9..=12).contains(shift)).unwrap_or(9);
    let size = raw.le64(72).and_then(|sectors| sectors.checked_mul(1 << shift));
    let label = exfat_label(volume, raw, shift).unwrap_or_default();
    Ok(Some(Found::new("exfat").label(label).uuid(uuid).size(size)))
}

/// The name, an entry at the front of the first folder.
fn exfat_label(volume: &Volume, raw: Bytes, shift: u8) -> Read<Option<String>> {
    let per_cluster = raw.byte(109).filter(|more| *more <= 16);
    let place =
        raw.le32(88).zip(raw.le32(96)).zip(per_cluster).and_then(|((heap, first), more)| {
            let clusters = u64::from(first.checked_sub(2)?) << more;
            Some((u64::from(heap) + clusters) << shift)
        });
    let Some(at) = place else { return Ok(None) };
    let folder = volume.front(at, 512)?;
    for entry in folder.chunks_exact(32) {
        match entry[0] {
            0 => break,
            0x83 => return Ok(Bytes(entry).wide(2, usize::from(entry[1].min(11)) * 2)),
            _ => {}
        }
    }
    Ok(None)
}

/// NTFS: its name is in its own file, `$Volume`, the fourth in the table of files.
pub(super) fn ntfs(volume: &Volume) -> Read<Option<Found>> {
    let Some(raw) = signed(volume, 0, 512, 3, b"NTFS    ")? else { return Ok(None) };
    let raw = Bytes(&raw);
    let sector = raw.le16(11).filter(|sector| sector.is_power_of_two() && *sector >= 256);
    let Some(sector) = sector.map(u64::from) else { return Ok(None) };
    let size = raw.le64(40).and_then(|sectors| sectors.checked_mul(sector));
    let label = ntfs_label(volume, raw, sector).ok().flatten();
    Ok(Some(Found::new("ntfs").label(label).uuid(serial(raw, 72, 8)).size(size)))
}

fn ntfs_label(volume: &Volume, raw: Bytes, sector: u64) -> Read<Option<String>> {
    let place = || {
        // Where it is negative, it is a power of two.
        let cluster = match raw.byte(13)? {
            count @ 1..=128 => sector * u64::from(count),
            power => sector.checked_shl(256 - u32::from(power))?,
        };
        let record = match raw.byte(64)? {
            count @ 1..=127 => cluster.checked_mul(u64::from(count))?,
            power => 1_u64.checked_shl(256 - u32::from(power))?,
        };
        let table = raw.le64(48)?.checked_mul(cluster)?;
        let record = Some(record).filter(|record| (512..=8192).contains(record))?;
        Some((table.checked_add(3 * record)?, usize::try_from(record).ok()?))
    };
    let Some((at, len)) = place() else { return Ok(None) };
    let mut record = volume.bytes(at, len)?;
    Ok(mended(&mut record).and_then(|()| name_in(Bytes(&record))))
}

/// Puts back the ends of a record's sectors, in whose place a number stands.
fn mended(record: &mut [u8]) -> Option<()> {
    let raw = Bytes(record);
    let (at, count) = (usize::from(raw.le16(4)?), usize::from(raw.le16(6)?));
    let ends: Vec<[u8; 2]> =
        (1..count.min(17)).filter_map(|index| Bytes(record).array(at + index * 2)).collect();
    for (sector, end) in record.chunks_exact_mut(512).zip(ends) {
        sector[510..].copy_from_slice(&end);
    }
    raw_is_file(record).then_some(())
}

fn raw_is_file(record: &[u8]) -> bool {
    record.starts_with(b"FILE")
}

/// The value of the attribute that holds a volume's name.
fn name_in(record: Bytes) -> Option<String> {
    let mut at = usize::from(record.le16(20)?);
    for _ in 0..32 {
        let (kind, len) = (record.le32(at)?, usize::try_from(record.le32(at + 4)?).ok()?);
        if kind == 0x60 && record.byte(at + 8)? == 0 {
            let size = usize::try_from(record.le32(at + 16)?).ok()?;
            return record.wide(at + usize::from(record.le16(at + 20)?), size.min(256));
        }
        if kind == u32::MAX || len < 16 {
            return None;
        }
        at = at.checked_add(len)?;
    }
    None
}

/// Encrypted by BitLocker.
pub(super) fn bitlocker(volume: &Volume) -> Read<Option<Found>> {
    Ok(signed(volume, 0, 512, 3, b"-FVE-FS-")?.map(|_| Found::new("bitlocker")))
}

pub(super) fn refs(volume: &Volume) -> Read<Option<Found>> {
    Ok(signed(volume, 0, 512, 3, b"ReFS\0")?.map(|_| Found::new("refs")))
}
