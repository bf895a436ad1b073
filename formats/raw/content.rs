//! What the bytes of a disk are, as far as their front tells: kernels and their first file systems
//! as Amazon's machines boot them, file systems without a partition table, and partition tables.
//!
//! It describes, and decides nothing: whatever they are, they are the disk.

use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Value};
use crate::base::model::identity::{swap_uuid, uuid_text};
use crate::base::sniff::{self, Packed};
use crate::base::storage::{Span, Window};

/// Bytes that are looked at; compressed files may need more before they unpack.
const FRONT: u64 = 64 << 10;
/// Where btrfs has its superblock, and the bytes of it that are looked at.
const BTRFS: (u64, usize) = (64 << 10, 0x22b);

/// What a disk holds.
pub(super) struct Content {
    /// What clouds call such an image: `aki`, `ari`, `ami`; `raw` for any other.
    pub(super) variant: &'static str,
    pub(super) details: Vec<Detail>,
}

impl Content {
    fn new(variant: &'static str, what: impl Into<String>) -> Content {
        let what: String = what.into();
        Content { variant, details: vec![Detail::new("content", what.as_str())] }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Content {
        self.details.push(Detail::new(name, value));
        self
    }

    /// With a text of the disk's own, if there is one.
    fn named(self, name: &'static str, text: &[u8]) -> Content {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        match &text[..end] {
            [] => self,
            text => self.with(name, String::from_utf8_lossy(text).as_ref()),
        }
    }

    fn identified(self, uuid: [u8; 16]) -> Content {
        if uuid == [0; 16] { self } else { self.with("uuid", uuid_text(uuid).as_str()) }
    }
}

/// What the disk behind this window holds. `Awaiting` until its front has come.
pub(super) fn describe(window: &dyn Window, limits: &Limits) -> Result<Content> {
    let bytes = sniff::front(window, FRONT, limits)?;
    let front = Front(&bytes);
    let kernel = || bz_image(front).or_else(|| arm_image(front)).or_else(|| elf(front));
    if let Some(found) = kernel().or_else(|| cpio(front)) {
        return Ok(found);
    }
    if let Some(found) = packed(window, limits)? {
        return Ok(found);
    }
    if let Some(found) = gpt(front).or_else(|| ext(front)).or_else(|| xfs(front)) {
        return Ok(found);
    }
    if let Some(found) = btrfs(window, limits)? {
        return Ok(found);
    }
    Ok(mbr(front).unwrap_or(Content { variant: "raw", details: Vec::new() }))
}

/// The first bytes of a file: what lies behind them reads as nothing.
#[derive(Clone, Copy)]
struct Front<'a>(&'a [u8]);

impl Front<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn has(self, at: usize, magic: &[u8]) -> bool {
        self.0.get(at..).is_some_and(|rest| rest.starts_with(magic))
    }

    fn le16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn le32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn le64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// Linux for x86, as boot loaders take it (The Linux/x86 Boot Protocol).
fn bz_image(front: Front) -> Option<Content> {
    if !front.has(510, b"\x55\xaa") || !front.has(0x202, b"HdrS") {
        return None;
    }
    let [minor, major] = front.array(0x206)?;
    let version = usize::from(front.le16(0x20e)?);
    let protocol = format!("{major}.{minor:02}");
    let found = Content::new("aki", "linux kernel, bzImage");
    let found = found.with("boot-protocol", protocol.as_str());
    let text = version.checked_add(0x200).and_then(|at| front.0.get(at..));
    let text = text.filter(|_| version != 0).unwrap_or_default();
    Some(found.named("kernel-version", &text[..text.len().min(200)]))
}

/// Linux for arm64, not compressed ("Booting `AArch64` Linux").
fn arm_image(front: Front) -> Option<Content> {
    let size = front.le64(16)?;
    let found = || Content::new("aki", "linux kernel, arm64 image");
    front.has(56, b"ARM\x64").then(|| found().with("image-size", Value::Bytes(size)))
}

/// A program that runs on nothing but the machine.
fn elf(front: Front) -> Option<Content> {
    let [class, order] = front.array(4).filter(|_| front.has(0, b"\x7fELF"))?;
    let word = |at| {
        let bytes = front.array(at)?;
        match order {
            1 => Some(u16::from_le_bytes(bytes)),
            2 => Some(u16::from_be_bytes(bytes)),
            _ => None,
        }
    };
    // One that is loaded where it says: programs of today's systems are loaded anywhere.
    if word(16)? != 2 || !(1..=2).contains(&class) {
        return None;
    }
    let machine = match word(18)? {
        3 => "i386".to_string(),
        62 => "x86-64".to_string(),
        183 => "arm64".to_string(),
        other => format!("machine {other}"),
    };
    Some(Content::new("aki", "kernel, ELF").with("architecture", machine.as_str()))
}

/// Linux' first file system, not compressed; or the part of it that must not be, in front.
fn cpio(front: Front) -> Option<Content> {
    if !sniff::is_cpio(front.0) {
        return None;
    }
    let what = match behind(front) {
        Some(packed) => format!("initramfs, cpio, and {} behind it", packed.name()),
        None => "initramfs, cpio".to_string(),
    };
    Some(Content::new("ari", what))
}

/// What compressed file follows an archive that ends within the front.
fn behind(front: Front) -> Option<Packed> {
    let hex = |at: usize| {
        let digits = std::str::from_utf8(front.0.get(at..at.checked_add(8)?)?).ok()?;
        usize::from_str_radix(digits, 16).ok()
    };
    let even = |at: usize| at.checked_next_multiple_of(4);
    let mut at = 0_usize;
    while front.has(at, b"070701") || front.has(at, b"070702") {
        let name = at.checked_add(110)?;
        let (size, name_len) = (hex(at.checked_add(54)?)?, hex(at.checked_add(94)?)?);
        let data = even(name.checked_add(name_len)?)?;
        let is_last = front.has(name, b"TRAILER!!!\0");
        at = even(data.checked_add(size)?)?;
        if is_last {
            let zeros = front.0.get(at..)?.iter().take_while(|byte| **byte == 0).count();
            return Packed::of(front.0.get(at.checked_add(zeros)?..)?);
        }
    }
    None
}

/// Linux' first file system, compressed.
fn packed(window: &dyn Window, limits: &Limits) -> Result<Option<Content>> {
    let Some(how) = sniff::packed(window)? else { return Ok(None) };
    let unpacked = sniff::packed_front(window, limits)?.unwrap_or_default();
    let is = sniff::is_cpio(&unpacked);
    Ok(is.then(|| Content::new("ari", format!("initramfs, {}", how.name()))))
}

/// ext2, ext3, ext4 (the kernel's documentation of ext4, "Super Block").
fn ext(front: Front) -> Option<Content> {
    let start = 1024;
    if !front.has(start + 0x38, &0xef53_u16.to_le_bytes()) {
        return None;
    }
    let word = |at: usize| front.le32(start + at);
    let (compatible, incompatible, read_only) = (word(0x5c)?, word(0x60)?, word(0x64)?);
    let (inodes, blocks, shift) = (word(0)?, word(4)?, word(0x18)?);
    if inodes == 0 || blocks == 0 || shift > 6 {
        return None;
    }
    let name = match (incompatible & 0x3c0 != 0 || read_only & 0x478 != 0, compatible & 4 != 0) {
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    };
    let high = if incompatible & 0x80 != 0 { word(0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(blocks);
    let found = Content::new("ami", format!("{name} file system"));
    let found = found.named("label", &front.array::<16>(start + 0x78)?);
    let found = found.identified(front.array(start + 0x68)?);
    Some(sized(found, blocks.checked_mul(1024 << shift)))
}

fn xfs(front: Front) -> Option<Content> {
    let block = u32::from_be_bytes(front.array(4)?);
    let blocks = u64::from_be_bytes(front.array(8)?);
    if !front.has(0, b"XFSB") || !block.is_power_of_two() {
        return None;
    }
    let found = Content::new("ami", "xfs file system");
    let found = found.named("label", &front.array::<12>(108)?);
    Some(sized(found.identified(front.array(32)?), blocks.checked_mul(u64::from(block))))
}

fn btrfs(window: &dyn Window, limits: &Limits) -> Result<Option<Content>> {
    let (at, len) = BTRFS;
    if window.total().is_some_and(|total| total < at + len as u64)
        || !window.starts_with(at + 0x40, b"_BHRfS_M")?
    {
        return Ok(None);
    }
    let bytes = window.bytes(Span::new(at, len as u64)?, "the superblock", limits)?;
    let front = Front(&bytes);
    let found = Content::new("ami", "btrfs file system");
    let label = front.array::<256>(0x12b).unwrap_or([0; 256]);
    let found = found.named("label", &label);
    let found = found.identified(front.array(0x20).unwrap_or_default());
    Ok(Some(sized(found, front.le64(0x70))))
}

/// With the size that the file system says it has, which need not be the disk's.
fn sized(found: Content, size: Option<u64>) -> Content {
    match size {
        Some(size) => found.with("file-system-size", Value::Bytes(size)),
        None => found,
    }
}

/// A GUID partition table, for sectors of 512 or 4096 bytes (UEFI, "GUID Partition Table"). Its
/// partitions are counted if all that it has room for are in the front.
fn gpt(front: Front) -> Option<Content> {
    let sector = [512, 4096].into_iter().find(|at| front.has(*at, b"EFI PART"))?;
    let disk: [u8; 16] = front.array(sector + 56)?;
    let found = Content::new("raw", "gpt partition table").identified(swap_uuid(disk));
    let count = || -> Option<u64> {
        let first = usize::try_from(front.le64(sector + 72)?).ok()?.checked_mul(sector)?;
        let room = usize::try_from(front.le32(sector + 80)?).ok()?;
        let size = usize::try_from(front.le32(sector + 84)?).ok()?;
        let entries = front.0.get(first..first.checked_add(room.checked_mul(size)?)?)?;
        let is_used = |entry: &&[u8]| entry.iter().take(16).any(|byte| *byte != 0);
        (size >= 128).then(|| entries.chunks_exact(size).filter(is_used).count() as u64)
    };
    Some(match count() {
        Some(count) => found.with("partitions", count),
        None => found,
    })
}

/// The partition table that PCs have had from the start; not the boot sector of a file system,
/// which ends in the same two bytes.
fn mbr(front: Front) -> Option<Content> {
    let is_boot_sector = front.has(3, b"NTFS") || front.has(54, b"FAT") || front.has(82, b"FAT");
    if !front.has(510, b"\x55\xaa") || is_boot_sector {
        return None;
    }
    let mut count = 0;
    for entry in front.0.get(446..510)?.chunks_exact(16) {
        let number = |at: usize| Front(entry).le32(at).unwrap_or(0);
        let used = entry[4] != 0 && number(12) != 0;
        if entry[0] & 0x7f != 0 || used && number(8) == 0 {
            return None;
        }
        count += u64::from(used);
    }
    (count > 0).then(|| Content::new("raw", "mbr partition table").with("partitions", count))
}
