//! The boot catalog of El Torito: what firmware boots from.

use super::layout::{
    BOOT_ENTRY, BootImage, EFI, EXTENSION, LAST_SECTION, PC, SECTION, SECTOR, SECTOR_BYTES,
    VALIDATION, boot_sum,
};
use crate::base::error::Result;
use crate::base::storage::Window;

/// What the catalog lists.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) images: Vec<BootImage>,
    /// What is wrong with it, in words.
    pub(super) fault: Option<&'static str>,
}

impl Catalog {
    /// Kinds of firmware that boot from it.
    pub(super) fn firmware(&self) -> Vec<&'static str> {
        let has = |platform| {
            let is = |image: &BootImage| image.bootable && image.platform == platform;
            self.images.iter().any(is)
        };
        let kinds = [(has(PC), "bios"), (has(EFI), "uefi")];
        kinds.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
    }
}

/// Says that the catalog in this sector will be read.
pub(super) fn expect(window: &dyn Window, sector: u32) {
    window.expect(u64::from(sector) * SECTOR, SECTOR);
}

/// Reads the catalog, as far as its first sector has it: 64 entries.
pub(super) fn read(window: &dyn Window, sector: u32) -> Result<Catalog> {
    let bytes = window.array::<SECTOR_BYTES>(u64::from(sector) * SECTOR)?;
    let entries = bytes.chunks_exact(BOOT_ENTRY);
    let mut entries = entries.map(|entry| <&[u8; BOOT_ENTRY]>::try_from(entry).expect("a chunk"));
    let mut catalog = Catalog::default();
    let first = entries.next().expect("a sector has 64");
    if first[0] != VALIDATION || first[30..] != [0x55, 0xaa] {
        catalog.fault = Some("the boot catalog does not begin like one");
        return Ok(catalog);
    }
    if boot_sum(first) != 0 {
        catalog.fault = Some("the checksum of the boot catalog is wrong");
    }
    let platform = first[1];
    catalog.images.extend(entries.next().map(|entry| BootImage::parse(entry, platform)));
    while let Some(head) = entries.next().filter(|head| [SECTION, LAST_SECTION].contains(&head[0]))
    {
        let count = u16::from_le_bytes([head[2], head[3]]);
        let section = entries.by_ref().filter(|entry| entry[0] != EXTENSION).take(count.into());
        catalog.images.extend(section.map(|entry| BootImage::parse(entry, head[1])));
        if head[0] == LAST_SECTION {
            break;
        }
    }
    Ok(catalog)
}

/// The catalog of these images, in a sector; nothing if there is none.
pub(super) fn bytes(images: &[BootImage]) -> Vec<u8> {
    let Some((first, others)) = images.split_first() else { return Vec::new() };
    let mut head = [0; BOOT_ENTRY];
    (head[0], head[1], head[30], head[31]) = (VALIDATION, first.platform, 0x55, 0xaa);
    let sum = boot_sum(&head).wrapping_neg();
    head[28..30].copy_from_slice(&sum.to_le_bytes());
    let mut bytes = [head, first.to_bytes()].concat();
    for (index, image) in others.iter().enumerate() {
        let last = index + 1 == others.len();
        let mut section = [0; BOOT_ENTRY];
        section[0] = if last { LAST_SECTION } else { SECTION };
        (section[1], section[2]) = (image.platform, 1);
        bytes.extend([section, image.to_bytes()].concat());
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
    bytes
}

/// A platform in words.
pub(super) fn platform(number: u8) -> &'static str {
    match number {
        PC => "pc",
        1 => "powerpc",
        2 => "mac",
        EFI => "efi",
        _ => "unknown",
    }
}

/// How an image shows itself, in words.
pub(super) fn media(number: u8) -> &'static str {
    match number {
        0 => "none",
        1 => "floppy-1.2m",
        2 => "floppy-1.44m",
        3 => "floppy-2.88m",
        4 => "hard-disk",
        _ => "unknown",
    }
}
