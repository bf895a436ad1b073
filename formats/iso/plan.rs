//! Where everything lies in a new volume, and everything but the content of files.

use super::author::IsoAuthor;
use super::catalog;
use super::dates;
use super::fields::Continuations;
use super::hierarchy::{Hierarchy, Order};
use super::identifiers;
use super::layout::{
    BOOT, BootImage, EFI, EL_TORITO, JOLIET, MAGIC, PC, PRIMARY, SECTOR, SECTOR_BYTES,
    SUPPLEMENTARY, SYSTEM_AREA, TERMINATOR, Twice, Volume,
};
use super::records::{Directories, Place};
use super::tree::NodeKind;
use crate::base::error::{Error, Result};

/// Where the first descriptor stands.
pub(super) const PRIMARY_SECTOR: u32 = 16;
/// What the volume says of who made it.
const APPLICATION: &str = "DISKWRIGHT";

/// Everything but the content of files.
pub(super) struct Plan {
    /// From the first descriptor to the first file, in whole sectors.
    pub(super) head: Vec<u8>,
    /// Files that are not empty, in the order in which they lie.
    pub(super) order: Vec<usize>,
    /// Where the content of each node lies.
    pub(super) files: Vec<Place>,
    /// Of the volume.
    pub(super) sectors: u64,
}

/// What lies in front of the files, and where.
struct Parts {
    /// Path tables of the short names, in both orders, and of the wide ones.
    tables: [Place; 4],
    short: Vec<Place>,
    continuations: Place,
    wide: Vec<Place>,
    catalog: Place,
    files: Vec<Place>,
}

/// The bytes of these parts.
struct Bytes {
    tables: [Vec<u8>; 4],
    short: Vec<Vec<u8>>,
    root: [u8; 34],
    continuations: Vec<u8>,
    wide: Vec<Vec<u8>>,
    wide_root: [u8; 34],
}

/// Gives out sectors, from front to end.
struct Cursor(u64);

impl Cursor {
    /// The next sectors, for so many bytes. `Limit` if a volume has not so many.
    fn take(&mut self, len: u64) -> Result<Place> {
        let next = self.0 + len.div_ceil(SECTOR);
        let place = u32::try_from(self.0).ok().filter(|_| u32::try_from(next).is_ok());
        let sector = place.ok_or_else(|| Error::limit(format!("{next} sectors, 2^32 at most")))?;
        self.0 = next;
        Ok(Place { sector, len })
    }

    fn take_each(&mut self, parts: &[Vec<u8>]) -> Result<Vec<Place>> {
        parts.iter().map(|part| self.take(part.len() as u64)).collect()
    }
}

/// The tree under both sorts of names.
struct Names {
    short: Hierarchy,
    wide: Hierarchy,
}

impl Plan {
    /// `Limit` for more files, folders or bytes than a volume can have.
    pub(super) fn new(author: &IsoAuthor) -> Result<Plan> {
        let names = Names {
            short: Hierarchy::new(&author.tree, identifiers::short)?,
            wide: Hierarchy::new(&author.tree, identifiers::wide)?,
        };
        let boots = author.bios.is_some() || author.efi.is_some();
        let mut parts = Parts::nowhere(author, &names);
        let is_filled = |number: &usize| parts.files[*number].len > 0;
        let all = names.short.folders.iter().flat_map(|(_, children)| children.iter().copied());
        let order: Vec<_> = all.filter(is_filled).collect();

        // Once with everything at sector 0, to learn how long it is; then with what was learned.
        let draft = parts.bytes(author, &names);
        let mut cursor = Cursor(SYSTEM_AREA / SECTOR + 3 + u64::from(boots));
        for (place, table) in parts.tables.iter_mut().zip(&draft.tables) {
            *place = cursor.take(table.len() as u64)?;
        }
        parts.short = cursor.take_each(&draft.short)?;
        parts.continuations = cursor.take(draft.continuations.len() as u64)?;
        parts.wide = cursor.take_each(&draft.wide)?;
        parts.catalog = cursor.take(if boots { SECTOR } else { 0 })?;
        for number in &order {
            parts.files[*number] = cursor.take(parts.files[*number].len)?;
        }
        let sectors = cursor.0;
        let head = parts.head(author, &names, boots, u32::try_from(sectors).expect("taken"));
        Ok(Plan { head, order, files: parts.files, sectors })
    }
}

impl Parts {
    /// Everything at sector 0; files have their lengths.
    fn nowhere(author: &IsoAuthor, names: &Names) -> Parts {
        let folders = |hierarchy: &Hierarchy| vec![Place::default(); hierarchy.folders.len()];
        let file = |(_, node): (usize, &super::tree::Node)| match node.kind {
            NodeKind::File { len, .. } => Place { sector: 0, len },
            NodeKind::Folder(_) | NodeKind::Link(_) => Place::default(),
        };
        Parts {
            tables: [Place::default(); 4],
            short: folders(&names.short),
            continuations: Place::default(),
            wide: folders(&names.wide),
            catalog: Place::default(),
            files: author.tree.nodes().map(file).collect(),
        }
    }

    fn bytes(&self, author: &IsoAuthor, names: &Names) -> Bytes {
        let (tree, files, date) = (&author.tree, &self.files[..], author.date);
        let short =
            Directories { tree, hierarchy: &names.short, folders: &self.short, files, date };
        let wide = Directories { tree, hierarchy: &names.wide, folders: &self.wide, files, date };
        let sectors = |places: &[Place]| places.iter().map(|p| p.sector).collect::<Vec<_>>();
        let table = |hierarchy: &Hierarchy, places: &[Place], order| {
            hierarchy.path_table(tree, &sectors(places), order)
        };
        let mut continuations = Continuations::new(self.continuations.sector);
        Bytes {
            tables: [
                table(&names.short, &self.short, Order::Little),
                table(&names.short, &self.short, Order::Big),
                table(&names.wide, &self.wide, Order::Little),
                table(&names.wide, &self.wide, Order::Big),
            ],
            short: short.bytes(Some(&mut continuations)),
            root: short.root(),
            continuations: continuations.bytes,
            wide: wide.bytes(None),
            wide_root: wide.root(),
        }
    }

    /// Everything from the first descriptor to the first file.
    fn head(&self, author: &IsoAuthor, names: &Names, boots: bool, sectors: u32) -> Vec<u8> {
        let bytes = self.bytes(author, names);
        let mut head = self.primary(author, &bytes, sectors).to_bytes();
        if boots {
            head.extend(boot_record(self.catalog.sector));
        }
        head.extend(self.joliet(author, &bytes, sectors).to_bytes());
        head.extend(descriptor(TERMINATOR));
        let mut put = |part: &[u8]| {
            head.extend(part);
            head.resize(head.len().next_multiple_of(SECTOR_BYTES), 0);
        };
        bytes.tables.iter().for_each(|table| put(table));
        bytes.short.iter().for_each(|directory| put(directory));
        put(&bytes.continuations);
        bytes.wide.iter().for_each(|directory| put(directory));
        put(&self.catalog(author));
        head
    }

    fn primary(&self, author: &IsoAuthor, bytes: &Bytes, sectors: u32) -> Volume {
        let narrow = |text: &str, room: usize| {
            let byte = |c: char| if c.is_ascii() { c as u8 } else { b'_' };
            let mut bytes: Vec<_> = text.chars().map(byte).take(room).collect();
            bytes.resize(room, b' ');
            bytes
        };
        let mut volume = Volume::blank(PRIMARY);
        volume.label.copy_from_slice(&narrow(&author.label, 32));
        volume.application.copy_from_slice(&narrow(APPLICATION, 128));
        self.lead(&mut volume, author, sectors, (&bytes.tables[0], 0));
        volume.root = bytes.root;
        volume
    }

    fn joliet(&self, author: &IsoAuthor, bytes: &Bytes, sectors: u32) -> Volume {
        fn wide<const N: usize>(text: &str) -> [u8; N] {
            let units = text.encode_utf16().chain(std::iter::repeat(u16::from(b' ')));
            let mut bytes = [0; N];
            for (pair, unit) in bytes.chunks_exact_mut(2).zip(units) {
                pair.copy_from_slice(&unit.to_be_bytes());
            }
            bytes
        }
        let mut volume = Volume::blank(SUPPLEMENTARY);
        volume.escapes[..3].copy_from_slice(&JOLIET[2]);
        volume.system = wide("");
        volume.label = wide(&author.label);
        (volume.set, volume.publisher, volume.preparer) = (wide(""), wide(""), wide(""));
        volume.application = wide(APPLICATION);
        volume.files = [wide(""); 3];
        self.lead(&mut volume, author, sectors, (&bytes.tables[2], 2));
        volume.root = bytes.wide_root;
        volume
    }

    /// What both descriptors say alike; the path tables from this one on are theirs.
    fn lead(&self, volume: &mut Volume, author: &IsoAuthor, sectors: u32, table: (&[u8], usize)) {
        let (bytes, first) = table;
        volume.blocks = Twice::new(sectors);
        volume.table = Twice::new(u32::try_from(bytes.len()).expect("16 bits of folders"));
        volume.little_table = self.tables[first].sector;
        volume.big_table = self.tables[first + 1].sector;
        let date = dates::to_long(author.date);
        (volume.dates[0], volume.dates[1]) = (date, date);
    }

    /// The boot catalog; nothing if nothing boots.
    fn catalog(&self, author: &IsoAuthor) -> Vec<u8> {
        let image = |file: usize, platform, sectors| BootImage {
            bootable: true,
            platform,
            media: 0,
            segment: 0,
            sectors,
            sector: self.files[file].sector,
        };
        let bios = author.bios.as_ref().map(|bios| image(bios.file, PC, bios.load));
        let efi = author.efi.map(|file| {
            // Firmware takes the largest number for: to the end.
            let sectors = u16::try_from(self.files[file].len.div_ceil(512)).unwrap_or(u16::MAX);
            image(file, EFI, sectors)
        });
        catalog::bytes(&bios.into_iter().chain(efi).collect::<Vec<_>>())
    }
}

/// A descriptor that has nothing but its kind.
fn descriptor(kind: u8) -> Vec<u8> {
    let mut bytes = [&[kind][..], &MAGIC, &[1]].concat();
    bytes.resize(SECTOR_BYTES, 0);
    bytes
}

/// The descriptor that leads to the boot catalog.
fn boot_record(catalog: u32) -> Vec<u8> {
    let mut bytes = descriptor(BOOT);
    bytes[7..7 + EL_TORITO.len()].copy_from_slice(EL_TORITO);
    bytes[71..75].copy_from_slice(&catalog.to_le_bytes());
    bytes
}
