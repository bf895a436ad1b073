//! What a CD says about how it is booted (El Torito, "Bootable CD-ROM Format Specification").

use crate::bytes::Bytes;
use crate::disk::{Read, Volume};

/// For which firmware a CD has something to boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bootable {
    pub(crate) bios: bool,
    pub(crate) uefi: bool,
}

/// Bytes of a sector of a CD.
const SECTOR: u64 = 2048;

/// What the boot catalogue of a CD lists. Only its first sector is looked at: there is room for 63
/// entries.
pub(crate) fn read(volume: &Volume) -> Read<Bootable> {
    let mut found = Bootable::default();
    let record = volume.bytes(17 * SECTOR, 2048)?;
    let record = Bytes(&record);
    if !record.has(0, b"\0CD001\x01EL TORITO SPECIFICATION") {
        return Ok(found);
    }
    let Some(at) = record.le32(71) else { return Ok(found) };
    let catalogue = volume.bytes(u64::from(at) * SECTOR, 2048)?;
    let sum = catalogue[..32].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    if catalogue[0] != 1 || sum.fold(0, u16::wrapping_add) != 0 {
        return Ok(found);
    }
    // The platform of a section stands in its header, and in the first entry for the default one.
    let mut platform = catalogue[1];
    for entry in catalogue[32..].chunks_exact(32) {
        match entry[0] {
            0x88 if platform == 0 => found.bios = true,
            0x88 if platform == 0xef => found.uefi = true,
            0x90 | 0x91 => platform = entry[1],
            _ => {}
        }
    }
    Ok(found)
}
