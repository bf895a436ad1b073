//! A folder in which other programs make disks, disks that are made here, and looks at both.

#![allow(dead_code, reason = "each battery takes what it needs of this")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contents::{Budget, Contents, Known, ProblemKind, look};
use formats::{
    Access, Caching, Extent, FORMATS, Image, ImageFile, Limits, Memory, OpenOptions, Place as At,
    Result, Source,
};
use tempfile::TempDir;

/// Where the programs of an administrator are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether all these programs are there; if not, says that a test is skipped.
pub(crate) fn has(programs: &[&str]) -> bool {
    let there = |program: &str| {
        PATH.split(':').any(|folder| std::path::Path::new(folder).join(program).exists())
    };
    match programs.iter().find(|program| !there(program)) {
        Some(program) => {
            eprintln!("skipped: there is no {program} here");
            false
        }
        None => true,
    }
}

/// The folder.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A file of zeros.
    pub(crate) fn blank(&self, name: &str, size: u64) {
        std::fs::File::create(self.path(name)).unwrap().set_len(size).unwrap();
    }

    /// Writes a file, and the folders that it lies in.
    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// A link, and the folders that it lies in.
    pub(crate) fn link(&self, name: &str, target: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    /// Runs a line of the shell, which must succeed, and returns what it says.
    pub(crate) fn must(&self, line: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-ec", line]).current_dir(self.0.path());
        let done = command.env("PATH", PATH).env("LC_ALL", "C.UTF-8").output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Puts a file into a disk, as a partition of it.
    pub(crate) fn insert(&self, disk: &str, at: u64, name: &str) {
        let disk = std::fs::File::options().write(true).open(self.path(disk)).unwrap();
        for (index, block) in self.get(name).chunks(1 << 16).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                disk.write_all_at(block, at + (index as u64) * (1 << 16)).unwrap();
            }
        }
    }

    pub(crate) fn open(&self, name: &str) -> Arc<dyn Image> {
        let file = ImageFile::open(&self.path(name), Access::ReadShared, Caching::Writeback);
        raw(Arc::new(file.unwrap()))
    }

    pub(crate) fn look(&self, name: &str) -> Contents {
        look(self.open(name), &Budget::default()).unwrap()
    }
}

/// A raw disk of these bytes.
pub(crate) fn raw(source: Arc<dyn Source>) -> Arc<dyn Image> {
    let limits = Limits::default();
    let options = OpenOptions::new(FORMATS, &limits);
    formats::open(source, formats::format("raw").unwrap(), &options).unwrap().into()
}

/// What lies on a disk of these bytes.
pub(crate) fn look_at(bytes: &[u8]) -> Contents {
    look(raw(Arc::new(Memory::new(bytes))), &Budget::default()).unwrap()
}

pub(crate) fn problems(contents: &Contents) -> Vec<ProblemKind> {
    let table = contents.table.as_ref().unwrap_or_else(|| panic!("no table: {contents:?}"));
    table.problems.iter().map(|problem| problem.kind).collect()
}

pub(crate) fn value<T: Clone>(known: Option<&Known<T>>) -> Option<T> {
    known.map(|known| known.value.clone())
}

/// A disk without its zeros, to change and to look at many times, which counts what is read.
pub(crate) struct Folded {
    size: u64,
    /// Where each block lies in the bytes that are kept.
    blocks: Vec<Option<u64>>,
    bytes: Vec<u8>,
    reads: Arc<AtomicU64>,
}

const BLOCK: u64 = 4096;

impl Folded {
    pub(crate) fn of(bytes: &[u8]) -> Folded {
        let mut folded = Folded {
            size: bytes.len() as u64,
            blocks: Vec::new(),
            bytes: Vec::new(),
            reads: Arc::default(),
        };
        for block in bytes.chunks(BLOCK as usize) {
            let is_zero = block.iter().all(|byte| *byte == 0);
            folded.blocks.push((!is_zero).then_some(folded.bytes.len() as u64));
            if !is_zero {
                folded.bytes.extend(block);
            }
        }
        folded
    }

    /// Bytes that are not in blocks of zeros.
    pub(crate) fn data(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The disk as it is now.
    pub(crate) fn image(&self) -> Arc<dyn Image> {
        let counted = Counted { bytes: Memory::new(&*self.bytes), reads: self.reads.clone() };
        let files: [Arc<dyn Source>; 1] = [Arc::new(counted)];
        Arc::new(Unfolded { size: self.size, blocks: self.blocks.clone(), files })
    }

    /// Bytes that were read of it, ever.
    pub(crate) fn read(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

struct Unfolded {
    size: u64,
    blocks: Vec<Option<u64>>,
    files: [Arc<dyn Source>; 1],
}

impl Image for Unfolded {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let (index, within) = ((start / BLOCK) as usize, start % BLOCK);
        let end = (start - within + BLOCK).min(self.size);
        let place = match self.blocks[index] {
            Some(offset) => At::Data { file: 0, offset: offset + within },
            None => At::Hole,
        };
        out.push(Extent { start, len: end - start, place, depth: 0 });
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}

struct Counted {
    bytes: Memory,
    reads: Arc<AtomicU64>,
}

impl Source for Counted {
    fn len(&self) -> u64 {
        Source::len(&self.bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.reads.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, buf)
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// A partition: its type as it lies on the disk, its first and last sector.
pub(crate) type Part = ([u8; 16], u64, u64);
pub(crate) const LINUX: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

/// A disk with a GPT in sectors of this size, and nothing else on it.
pub(crate) fn gpt(sector: usize, sectors: u64, parts: &[Part]) -> Vec<u8> {
    let mut disk = vec![0; sector * sectors as usize];
    let room = (128 * 128_u64).div_ceil(sector as u64);
    let mut entries = vec![0; 128 * 128];
    for (index, (kind, first, last)) in parts.iter().enumerate() {
        let entry = &mut entries[index * 128..][..128];
        entry[..16].copy_from_slice(kind);
        entry[16..32].fill(index as u8 + 1);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
    }
    let last = sectors - 1;
    let header = |own: u64, other: u64, at: u64| {
        let mut raw = vec![0; sector];
        raw[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
        raw[12..16].copy_from_slice(&92_u32.to_le_bytes());
        let words = [(24, own), (32, other), (40, 2 + room), (48, last - room - 1), (72, at)];
        for (place, word) in words {
            raw[place..place + 8].copy_from_slice(&word.to_le_bytes());
        }
        raw[56..72].fill(0x77);
        raw[80..84].copy_from_slice(&128_u32.to_le_bytes());
        raw[84..88].copy_from_slice(&128_u32.to_le_bytes());
        raw[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&raw[..92]);
        raw[16..20].copy_from_slice(&sum.to_le_bytes());
        raw
    };
    let mut put = |at: u64, bytes: &[u8]| {
        disk[at as usize * sector..][..bytes.len()].copy_from_slice(bytes);
    };
    put(1, &header(1, last, 2));
    put(2, &entries);
    put(last - room, &entries);
    put(last, &header(last, 1, last - room));
    mbr_entry(&mut disk, 0, 0xee, 1, u32::MAX);
    disk
}

/// Makes an entry of the table in the first sector.
pub(crate) fn mbr_entry(disk: &mut [u8], index: usize, kind: u8, first: u32, count: u32) {
    let entry = &mut disk[446 + index * 16..][..16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&first.to_le_bytes());
    entry[12..16].copy_from_slice(&count.to_le_bytes());
    disk[510..512].copy_from_slice(b"\x55\xaa");
}

/// The front of a program for UEFI.
pub(crate) fn pe(machine: u16) -> Vec<u8> {
    let mut raw = vec![0; 512];
    raw[..2].copy_from_slice(b"MZ");
    raw[0x3c] = 0x80;
    raw[0x80..0x84].copy_from_slice(b"PE\0\0");
    raw[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    raw
}

/// The front of a program for Linux of 64 bits, little-endian.
pub(crate) fn elf(machine: u16) -> Vec<u8> {
    let mut raw = vec![0; 64];
    raw[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    raw[16] = 3;
    raw[18..20].copy_from_slice(&machine.to_le_bytes());
    raw
}

/// Makes a part of a volume group with Debian's tree in the volume `vg-1/root`, in two stretches
/// with swap space between them, if that can be done here.
pub(crate) fn volume_group(place: &Place, name: &str) -> bool {
    if !has(&["lvcreate", "losetup", "mkfs.ext4"]) || place.must("id -u").trim() != "0" {
        eprintln!("skipped: no volume group can be made here");
        return false;
    }
    place.blank(name, 48 << 20);
    let device = std::panic::catch_unwind(|| place.must(&format!("losetup --show -f {name}")));
    let Ok(device) = device else {
        eprintln!("skipped: no volume group can be made here");
        return false;
    };
    let device = device.trim();
    let lvm = |what: &str| format!("{what} -q --driverloaded n --devices {device}");
    let volume = |name: &str, size: &str| {
        format!("{} -an -Zn -Wn -n {name} -L {size} vg-1", lvm("lvcreate"))
    };
    let lines = [
        format!("{} {device}", lvm("pvcreate")),
        format!("{} vg-1 {device}", lvm("vgcreate")),
        volume("root", "8M"),
        volume("swap", "4M"),
        format!("{} -L 24M vg-1/root", lvm("lvextend")),
    ];
    let made = std::panic::catch_unwind(|| place.must(&lines.join("; ")));
    place.must(&format!("losetup -d {device}"));
    made.unwrap();
    place.blank("root", 24 << 20);
    let copy = format!("of={name} bs=1M conv=notrunc status=none");
    place.must(&format!(
        "mkfs.ext4 -q -L root -O ^metadata_csum -d tree root; dd if=root count=8 seek=1 {copy}; \
         dd if=root skip=8 seek=13 {copy}"
    ));
    true
}
