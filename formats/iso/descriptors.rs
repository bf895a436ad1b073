//! The descriptors behind the system area: what file systems there are.

use super::layout::{
    ANCHOR, ANCHOR_TAG, BOOT, EL_TORITO, MAGIC, MAX_DESCRIPTORS, PRIMARY, SECTOR, SECTOR_BYTES,
    SUPPLEMENTARY, SYSTEM_AREA, TERMINATOR, UDF_BEGIN, UDF_VERSIONS, Volume,
};
use crate::base::error::{Error, Kind, Result};
use crate::base::storage::Window;

/// What was found, one sector after the other.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// The descriptor that every ISO 9660 volume has, and where it stands.
    pub(super) primary: Option<(u64, Volume)>,
    /// The one of Joliet.
    pub(super) joliet: Option<(u64, Volume)>,
    /// The sector of the boot catalog.
    pub(super) catalog: Option<u32>,
    /// The mark of UDF's version.
    pub(super) udf: Option<[u8; 5]>,
    /// Whether the list has an end.
    pub(super) ended: bool,
}

impl Descriptors {
    /// Bytes that the volume has, as it says; 0 if it says nothing.
    pub(super) fn declared(&self) -> u64 {
        self.primary.as_ref().map_or(0, |(_, volume)| volume.declared())
    }
}

/// A descriptor of ISO 9660 in sector 16, or those of UDF from there on.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    if window.starts_with(SYSTEM_AREA + 1, &MAGIC)? {
        return Ok(true);
    }
    if !window.starts_with(SYSTEM_AREA + 1, &UDF_BEGIN)? {
        return Ok(false);
    }
    // Between the two, boot descriptors may stand.
    for sector in 1..4 {
        for version in &UDF_VERSIONS {
            if window.starts_with(SYSTEM_AREA + sector * SECTOR + 1, version)? {
                return is_anchored(window);
            }
        }
    }
    Ok(false)
}

/// Whether UDF's anchor stands where a medium with sectors of 2048 bytes has it. UDF is on hard
/// disks as well, with sectors of other sizes: those are disks.
fn is_anchored(window: &dyn Window) -> Result<bool> {
    match window.array::<16>(ANCHOR) {
        Ok(tag) => {
            let location = u32::from_le_bytes([tag[12], tag[13], tag[14], tag[15]]);
            Ok(tag[..2] == ANCHOR_TAG && u64::from(location) == ANCHOR / SECTOR)
        }
        Err(error) if error.kind() == Kind::Truncated => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads descriptors up to the last one. `Malformed` if there is none that tells of a volume.
pub(super) fn read(window: &dyn Window) -> Result<Descriptors> {
    let mut found = Descriptors::default();
    let mut at = SYSTEM_AREA;
    for _ in 0..MAX_DESCRIPTORS {
        let bytes = window.array::<SECTOR_BYTES>(at)?;
        if bytes[1..6] != MAGIC {
            break;
        }
        found.take(at, &bytes);
        at += SECTOR;
        if bytes[0] == TERMINATOR {
            found.ended = true;
            break;
        }
    }
    found.udf = udf(window, at)?;
    if found.primary.is_none() && found.udf.is_none() {
        return Err(Error::malformed(SYSTEM_AREA, "there is no primary volume descriptor"));
    }
    if let Some((at, volume)) = &found.primary {
        let block = volume.block.value;
        if ![512, 1024, 2048].contains(&block) {
            let what = format!("blocks of {block} bytes are not of 512, 1024 or 2048");
            return Err(Error::malformed(*at + 128, what));
        }
    }
    Ok(found)
}

impl Descriptors {
    /// One descriptor more; the first of each kind counts.
    fn take(&mut self, at: u64, bytes: &[u8; SECTOR_BYTES]) {
        match bytes[0] {
            BOOT if bytes[7..].starts_with(EL_TORITO) => {
                let sector = u32::from_le_bytes([bytes[71], bytes[72], bytes[73], bytes[74]]);
                self.catalog.get_or_insert(sector);
            }
            PRIMARY => drop(self.primary.get_or_insert_with(|| (at, Volume::parse(bytes)))),
            SUPPLEMENTARY => {
                let volume = Volume::parse(bytes);
                if volume.joliet().is_some() {
                    self.joliet.get_or_insert((at, volume));
                }
            }
            _ => {}
        }
    }
}

/// The version of UDF that descriptors from `at` on tell of.
fn udf(window: &dyn Window, at: u64) -> Result<Option<[u8; 5]>> {
    if !window.starts_with(at + 1, &UDF_BEGIN)? {
        return Ok(None);
    }
    for sector in 1..4 {
        for version in UDF_VERSIONS {
            if window.starts_with(at + sector * SECTOR + 1, &version)? {
                return Ok(Some(version));
            }
        }
    }
    Ok(None)
}
