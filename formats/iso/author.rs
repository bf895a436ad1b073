//! A new volume: ISO 9660 with Rock Ridge, Joliet beside it, images to boot from.
//!
//! Where everything lies is known before the first byte is written, so that it is written from
//! front to end, and a pipe can take it. The same files under the same names make the same bytes.

use std::collections::BTreeMap;

use super::layout::{SECTOR, SYSTEM_AREA_BYTES};
use super::plan::{PRIMARY_SECTOR, Plan};
use super::records::Place;
use super::tree::{NodeKind, Opener, Tree};
use crate::base::error::{Error, Result};
use crate::base::storage::{Put, Source, Target, Window};

/// 1980-01-01: a moment that every file system knows.
const DATE: i64 = 315_532_800;
/// Sectors of 512 bytes that a BIOS loads, unless told otherwise.
const LOAD: u16 = 4;
/// Where the table lies in a boot image that tells it where it lies, and how long it is.
const TABLE: usize = 8;
const TABLE_LEN: usize = 56;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A volume in the making: files are added to it, and then it is written.
pub struct IsoAuthor {
    pub(super) label: String,
    pub(super) tree: Tree,
    pub(super) date: i64,
    pub(super) bios: Option<Bios>,
    pub(super) efi: Option<usize>,
}

/// How a BIOS boots.
pub(super) struct Bios {
    pub(super) file: usize,
    /// Sectors of 512 bytes that it loads.
    pub(super) load: u16,
    /// Whether the image is told where it lies.
    table: bool,
}

impl IsoAuthor {
    /// A volume with this label, kept as it is. `Invalid` if it is longer than 32 bytes, or holds
    /// control characters.
    pub fn new(label: &str) -> Result<IsoAuthor> {
        if label.len() > 32 {
            let len = label.len();
            return Err(Error::invalid(format!("a label of {len} bytes, 32 at most")));
        }
        if label.chars().any(char::is_control) {
            let label = label.escape_debug();
            return Err(Error::invalid(format!("the label '{label}' has control characters")));
        }
        let (label, tree) = (label.to_owned(), Tree::new());
        Ok(IsoAuthor { label, tree, date: DATE, bios: None, efi: None })
    }

    /// The moment that the volume and all files in it say they were made at: seconds since 1970,
    /// 1980-01-01 if not set.
    pub fn date(&mut self, seconds: i64) {
        self.date = seconds;
    }

    /// Adds a folder with these permissions; those on the way to a file come by themselves.
    /// `Invalid` if the path is none, or taken.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.tree.add(path, mode & 0o7777, NodeKind::Folder(BTreeMap::new()))
    }

    /// Adds a file of `len` bytes, which are had when its turn comes. `Invalid` if the path is
    /// none, or taken.
    pub fn file(&mut self, path: &str, mode: u32, len: u64, open: Opener) -> Result<()> {
        self.tree.add(path, mode & 0o7777, NodeKind::File { len, open })
    }

    /// Adds a symbolic link. `Invalid` if the path is none, or taken, or if it points to nothing.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        if target.is_empty() || target.contains('\0') {
            let (path, target) = (path.escape_debug(), target.escape_debug());
            return Err(Error::invalid(format!("the link '{path}' points to '{target}'")));
        }
        self.tree.add(path, 0o777, NodeKind::Link(target.to_owned()))
    }

    /// Makes a BIOS boot from a file that was added: `load` sectors of 512 bytes of it, 4 if not
    /// said. With `table`, bytes 8 to 64 of it tell it where it lies. `Invalid` if there is no such
    /// file.
    pub fn boot_bios(&mut self, path: &str, load: Option<u16>, table: bool) -> Result<()> {
        let (file, len) = self.image(path)?;
        if table && len < (TABLE + TABLE_LEN) as u64 {
            let path = path.escape_debug();
            return Err(Error::invalid(format!("'{path}' has no room for a boot table")));
        }
        self.bios = Some(Bios { file, load: load.unwrap_or(LOAD), table });
        Ok(())
    }

    /// Makes EFI boot from a file that was added: the image of a file system. `Invalid` if there is
    /// no such file.
    pub fn boot_efi(&mut self, path: &str) -> Result<()> {
        self.efi = Some(self.image(path)?.0);
        Ok(())
    }

    fn image(&self, path: &str) -> Result<(usize, u64)> {
        let found = self.tree.find(path).map(|file| (file, &self.tree.node(file).kind));
        match found {
            Some((file, NodeKind::File { len, .. })) => Ok((file, *len)),
            Some((_, NodeKind::Folder(_) | NodeKind::Link(_))) | None => {
                let path = path.escape_debug();
                Err(Error::invalid(format!("there is no file '{path}' to boot from")))
            }
        }
    }

    /// Writes the volume from front to end, and returns how long it is. `ask` is told how many
    /// bytes are written, of how many, every now and then; what it fails with ends it. `Limit` if
    /// it would be larger than volumes can be, `Invalid` if a file has another length than was
    /// said.
    pub fn write(&self, target: &dyn Target, ask: &dyn Fn(u64, u64) -> Result<()>) -> Result<u64> {
        let plan = Plan::new(self)?;
        let total = plan.sectors * SECTOR;
        let mut out = Out { target, at: 0, total, ask };
        out.put(&vec![0; SYSTEM_AREA_BYTES])?;
        out.put(&plan.head)?;
        for number in plan.order {
            let NodeKind::File { len, open } = &self.tree.node(number).kind else { continue };
            let source = open()?;
            if source.len() != *len {
                let (is, path) = (source.len(), source.name());
                let what = format!("it has {is} bytes now, and had {len}");
                return Err(Error::invalid(what).path(path));
            }
            let table = self.bios.as_ref().filter(|bios| bios.table && bios.file == number);
            let table = table.map(|_| boot_table(&*source, plan.files[number])).transpose()?;
            out.copy(&*source, table)?;
        }
        debug_assert_eq!(out.at, total, "everything lies where the plan says");
        let fail = |error| Error::io("cannot finish", error);
        target.set_len(total).map_err(fail)?;
        target.settle()?;
        Ok(total)
    }
}

/// What a boot image is told: where the volume's descriptor and itself lie, its length, and the sum
/// of its words behind the table.
fn boot_table(source: &dyn Source, place: Place) -> Result<[u8; TABLE_LEN]> {
    let mut sum = 0_u32;
    let mut buffer = vec![0; PIECE];
    let mut at = (TABLE + TABLE_LEN) as u64;
    while at < source.len() {
        let part = usize::try_from(source.len() - at).unwrap_or(usize::MAX).min(PIECE);
        Window::read(source, at, &mut buffer[..part])?;
        for word in buffer[..part].chunks(4) {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            sum = sum.wrapping_add(u32::from_le_bytes(bytes));
        }
        at += part as u64;
    }
    let len = u32::try_from(place.len).map_err(|_| {
        let what = format!("a boot image of {} bytes is too long for its table", place.len);
        Error::invalid(what).path(source.name())
    })?;
    let mut table = [0; TABLE_LEN];
    for (index, word) in [PRIMARY_SECTOR, place.sector, len, sum].into_iter().enumerate() {
        table[index * 4..index * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    Ok(table)
}

/// Where the bytes go, one after the other.
struct Out<'a> {
    target: &'a dyn Target,
    at: u64,
    total: u64,
    ask: &'a dyn Fn(u64, u64) -> Result<()>,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        (self.ask)(self.at, self.total)?;
        self.target.put(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The content of a file, and zeros up to the end of its last sector.
    fn copy(&mut self, source: &dyn Source, table: Option<[u8; TABLE_LEN]>) -> Result<()> {
        let leaves_holes = !self.target.appends_only() && self.target.is_fresh();
        let fail = |error| Error::io("cannot read", error).path(source.name());
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < source.len() {
            let found = source.allocated(at).map_err(fail)?;
            let end = found.end.min(source.len());
            if !found.data && leaves_holes {
                self.at += end - at;
                at = end;
                continue;
            }
            let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE);
            Window::read(source, at, &mut buffer[..part])
                .map_err(|error| error.path(source.name()))?;
            if let Some(table) = table.filter(|_| at == 0) {
                buffer[TABLE..TABLE + TABLE_LEN].copy_from_slice(&table);
            }
            self.put(&buffer[..part])?;
            at += part as u64;
        }
        let rest = self.at.next_multiple_of(SECTOR) - self.at;
        let rest = usize::try_from(rest).expect("less than a sector");
        self.put(&vec![0; rest])
    }
}
