//! Files on ext2, ext3 and ext4 (the kernel's documentation of ext4, "Data Structures and
//! Algorithms").
//!
//! Every node of a tree of extents, every block of a folder is a read: the budget bounds what a
//! tree that is made to be walked for hours can cost.

use std::cell::Cell;
use std::collections::HashMap;

use super::journal::{self, Waiting};
use super::{FOLDER, LINK, Node, NodeKind, Tree};
use crate::bytes::Bytes;
use crate::disk::{Read, Volume, damaged};
use crate::systems::ext_features;

/// The inode of the first folder.
const ROOT: u32 = 2;
/// Flags of an inode.
const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;
/// Features: the journal has to be replayed; numbers have 64 bits.
const RECOVER: u32 = 0x4;
const WIDE: u32 = 0x80;
/// All incompatible features that matter nothing to a reader, or are seen to: file types, journal,
/// extents, 64 bits, many mounts, flexible groups, inodes for values, a seed for checksums, large
/// folders, data in inodes, encryption, case folding.
const KNOWN: u32 = 0x3_e7c6;

/// An ext file system.
pub(super) struct Ext {
    volume: Volume,
    block: u64,
    inode_size: u64,
    inodes_per_group: u32,
    inodes: u32,
    descriptors: u64,
    descriptor: u64,
    /// Inodes by path, as they were found.
    found: HashMap<String, Option<u32>>,
    /// Blocks that wait in the journal, and the journal.
    waiting: HashMap<u64, Waiting>,
    journal: Option<Inode>,
    in_journal: Cell<bool>,
}

/// An inode.
struct Inode {
    mode: u32,
    size: u64,
    flags: u32,
    /// Extents, block numbers, a link, or the data themselves.
    body: [u8; 60],
}

impl Inode {
    fn node(&self) -> Node {
        Node::of_mode(self.mode, self.size)
    }
}

/// Where a block of a file lies: `None` is a hole.
type Place = Option<u64>;

impl Ext {
    pub(super) fn open(volume: Volume) -> Read<Ext> {
        let raw = volume.bytes(1024, 1024)?;
        let raw = Bytes(&raw);
        let [_, incompatible, _] = ext_features(raw).unwrap_or_default();
        let unknown = incompatible & !KNOWN;
        if unknown != 0 {
            return damaged(format!("it uses features that are not read here, {unknown:#x}"));
        }
        let Some(mut ext) = Ext::parse(volume, raw, incompatible) else {
            return damaged("its superblock makes no sense");
        };
        if incompatible & RECOVER != 0
            && let Err(fault) = ext.replay(raw.le32(0xe0).unwrap_or(0))
        {
            let what = "an ext file system was in use when the image was made";
            ext.volume.disk.complain(what, &fault);
        }
        Ok(ext)
    }

    /// From now on, blocks that wait in the journal are seen as if they were where they belong.
    fn replay(&mut self, inode: u32) -> Read<()> {
        let inode = self.inode(inode)?;
        if inode.flags & (INLINE | ENCRYPTED) != 0 {
            return damaged("its journal is none");
        }
        let block = |at| match self.place(&inode, at)? {
            Some(place) => self.block(place),
            None => damaged("its journal has holes"),
        };
        self.waiting = journal::waiting(&self.volume.disk, &block)?;
        self.journal = Some(inode);
        Ok(())
    }

    /// `len` bytes at `at`, all in one block.
    fn bytes(&self, at: u64, len: usize) -> Read<Vec<u8>> {
        let (block, within) = (at / self.block, at % self.block);
        let waiting = self.waiting.get(&block).zip(self.journal.as_ref());
        let Some((waiting, inode)) = waiting.filter(|_| !self.in_journal.get()) else {
            return self.volume.bytes(at, len);
        };
        // What says where the journal is does not wait in it.
        self.in_journal.set(true);
        let place = self.place(inode, waiting.at);
        self.in_journal.set(false);
        let place = place?;
        let place = place.and_then(|place| place.checked_mul(self.block)?.checked_add(within));
        let Some(place) = place else { return damaged("its journal has holes") };
        let mut bytes = self.volume.bytes(place, len)?;
        if waiting.escaped {
            let magic = journal::MAGIC
                .to_be_bytes()
                .into_iter()
                .zip(0..)
                .skip_while(|(_, at)| *at < within);
            bytes.iter_mut().zip(magic).for_each(|(byte, (sound, _))| *byte = sound);
        }
        Ok(bytes)
    }

    fn parse(volume: Volume, raw: Bytes, incompatible: u32) -> Option<Ext> {
        let block = 1024_u64.checked_shl(raw.le32(0x18)?).filter(|size| *size <= 65536)?;
        let old = raw.le32(0x4c)? == 0;
        let inode_size = if old { 128 } else { u64::from(raw.le16(0x58)?) };
        let descriptor = match incompatible & WIDE != 0 {
            true => u64::from(raw.le16(0xfe)?).max(64),
            false => 32,
        };
        let inodes_per_group = raw.le32(0x28)?;
        let sound = (128..=block).contains(&inode_size)
            && inode_size.is_power_of_two()
            && descriptor <= block
            && inodes_per_group > 0;
        // The superblock is in block 1 where blocks have 1024 bytes, even if the first group is
        // said to begin before it.
        let superblock = u64::from(raw.le32(0x14)?).max(1024 / block);
        let descriptors = (superblock + 1) * block;
        let inodes = raw.le32(0)?;
        let (found, waiting, journal) = (HashMap::new(), HashMap::new(), None);
        let ext = Ext {
            volume,
            block,
            inode_size,
            inodes_per_group,
            inodes,
            descriptors,
            descriptor,
            found,
            waiting,
            journal,
            in_journal: Cell::new(false),
        };
        sound.then_some(ext)
    }

    fn inode(&self, number: u32) -> Read<Inode> {
        if number == 0 || number > self.inodes {
            return damaged(format!("there is no inode {number}"));
        }
        let (group, index) =
            ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let at = self.descriptors + u64::from(group) * self.descriptor;
        let raw = self.bytes(at, if self.descriptor >= 64 { 64 } else { 32 })?;
        let raw = Bytes(&raw);
        let (low, high) = (raw.le32(8).unwrap_or(0), raw.le32(0x28).unwrap_or(0));
        let table = u64::from(high) << 32 | u64::from(low);
        let at = table.checked_mul(self.block);
        let at = at.and_then(|at| at.checked_add(u64::from(index) * self.inode_size));
        let Some(at) = at else { return damaged("a table of inodes is not on the disk") };
        let raw = self.bytes(at, 128)?;
        Ok(parse_inode(Bytes(&raw)).expect("128 bytes were read"))
    }

    /// Where a block of a file lies, counted in blocks of the volume.
    fn place(&self, inode: &Inode, block: u64) -> Read<Place> {
        match inode.flags & EXTENTS != 0 {
            true => self.by_extents(inode, block),
            false => self.by_pointers(inode, block),
        }
    }

    fn by_extents(&self, inode: &Inode, block: u64) -> Read<Place> {
        let mut node = inode.body.to_vec();
        for level in 0..=5 {
            let raw = Bytes(&node);
            let (entries, depth) = match (raw.le16(0), raw.le16(2), raw.le16(6)) {
                (Some(0xf30a), Some(entries), Some(depth)) => (usize::from(entries), depth),
                _ => return damaged("a node of extents makes no sense"),
            };
            // The last one that begins no later.
            let begins = |index: usize| raw.le32(12 + index * 12).map(u64::from);
            let until =
                (0..entries).take_while(|index| begins(*index).is_some_and(|at| at <= block));
            let Some(at) = until.last().map(|index| 12 + index * 12) else { return Ok(None) };
            let word = |offset| u64::from(raw.le32(at + offset).unwrap_or(0));
            let half = |offset| u64::from(raw.le16(at + offset).unwrap_or(0));
            if depth == 0 {
                let (begin, len) = (word(0), half(4));
                // A longer one is reserved, and not written.
                let within = len <= 32768 && block - begin < len;
                let start = half(6) << 32 | word(8);
                return Ok(within.then(|| start + (block - begin)));
            }
            if level == 5 {
                break;
            }
            node = self.block(half(8) << 32 | word(4))?;
        }
        damaged("a tree of extents is too deep")
    }

    fn by_pointers(&self, inode: &Inode, block: u64) -> Read<Place> {
        let per_block = self.block / 4;
        let pointer = |index: u64| {
            let index = usize::try_from(index).expect("one of fifteen");
            u64::from(Bytes(&inode.body).le32(index * 4).unwrap_or(0))
        };
        if block < 12 {
            return Ok(Some(pointer(block)).filter(|at| *at != 0));
        }
        let mut rest = block - 12;
        let mut span = per_block;
        for level in 0..3 {
            if rest < span {
                let mut at = pointer(12 + level);
                while span > 1 && at != 0 {
                    span /= per_block;
                    at = self.pointer(at, rest / span)?;
                    rest %= span;
                }
                return Ok(Some(at).filter(|at| *at != 0));
            }
            rest -= span;
            span *= per_block;
        }
        damaged("a file has more blocks than it may have")
    }

    /// An entry of a block of block numbers.
    fn pointer(&self, block: u64, index: u64) -> Read<u64> {
        let at = block * self.block + index * 4;
        let raw = self.bytes(at, 4)?;
        Ok(u64::from(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])))
    }

    fn block(&self, number: u64) -> Read<Vec<u8>> {
        let len = usize::try_from(self.block).expect("64 KiB at most");
        match number.checked_mul(self.block) {
            Some(at) => self.bytes(at, len),
            None => damaged("a block is not on the disk"),
        }
    }

    /// The first `most` bytes of what an inode holds.
    fn content(&self, inode: &Inode, most: usize) -> Read<Vec<u8>> {
        if inode.flags & ENCRYPTED != 0 {
            return damaged("it is encrypted");
        }
        let len = usize::try_from(inode.size).unwrap_or(usize::MAX).min(most);
        if inode.flags & INLINE != 0 {
            return match inode.body.get(..len) {
                Some(body) => Ok(body.to_vec()),
                None => damaged("data that continue among the attributes of an inode"),
            };
        }
        let mut bytes = Vec::new();
        let mut block = 0;
        while bytes.len() < len {
            let mut part = if let Some(place) = self.place(inode, block)? {
                self.block(place)?
            } else {
                // What is not there costs as much as what is.
                self.volume.disk.count_entry()?;
                vec![0; usize::try_from(self.block).expect("64 KiB at most")]
            };
            part.truncate(len - bytes.len());
            bytes.append(&mut part);
            block += 1;
        }
        Ok(bytes)
    }

    /// Goes over the entries of a folder until `each` has enough of them.
    fn entries(&self, inode: &Inode, mut each: impl FnMut(&[u8], u32) -> bool) -> Read<()> {
        if inode.size > FOLDER {
            return damaged(format!("a folder of {} bytes", inode.size));
        }
        let bytes = self.content(inode, usize::try_from(FOLDER).expect("a few MiB"))?;
        // In an inode the number of the folder above comes first, and no entry for it.
        let skip = if inode.flags & INLINE != 0 { 4 } else { 0 };
        let block = usize::try_from(self.block).expect("64 KiB at most");
        for part in bytes.get(skip..).unwrap_or_default().chunks(block) {
            let raw = Bytes(part);
            let mut at = 0;
            while let Some((number, len)) = raw.le32(at).zip(raw.le16(at + 4)) {
                // What does not fit into 16 bits is a whole block.
                let len = if [0, 0xffff].contains(&len) { block } else { usize::from(len) };
                let name = raw.byte(at + 6).and_then(|size| raw.slice(at + 8, usize::from(size)));
                let (true, Some(name)) = (len >= 8, name) else {
                    return damaged("an entry of a folder makes no sense");
                };
                self.volume.disk.count_entry()?;
                if number != 0 && !name.is_empty() && !each(name, number) {
                    return Ok(());
                }
                at += len;
            }
        }
        Ok(())
    }

    /// The inode that a path leads to.
    fn find(&mut self, path: &str) -> Read<Option<u32>> {
        let Some((above, name)) = path.trim_end_matches('/').rsplit_once('/') else {
            return Ok(Some(ROOT));
        };
        if let Some(known) = self.found.get(path) {
            return Ok(*known);
        }
        let mut found = None;
        if let Some(folder) = self.find(above)? {
            let folder = self.inode(folder)?;
            if folder.node().kind == NodeKind::Folder {
                self.entries(&folder, |other, number| {
                    if other == name.as_bytes() {
                        found = Some(number);
                    }
                    found.is_none()
                })?;
            }
        }
        self.found.insert(path.to_string(), found);
        Ok(found)
    }

    fn at(&mut self, path: &str) -> Read<Inode> {
        match self.find(path)? {
            Some(number) => self.inode(number),
            None => damaged("a file went missing"),
        }
    }
}

fn parse_inode(raw: Bytes) -> Option<Inode> {
    let mode = u32::from(raw.le16(0)?);
    let high = if mode & 0o170_000 == 0o100_000 { raw.le32(0x6c)? } else { 0 };
    let size = u64::from(high) << 32 | u64::from(raw.le32(4)?);
    Some(Inode { mode, size, flags: raw.le32(0x20)?, body: raw.array(0x28)? })
}

impl Tree for Ext {
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        match self.find(path)? {
            Some(number) => Ok(Some(self.inode(number)?.node())),
            None => Ok(None),
        }
    }

    fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let inode = self.at(path)?;
        let mut names = Vec::new();
        self.entries(&inode, |name, _| {
            if ![&b"."[..], b".."].contains(&name) {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
            true
        })?;
        Ok(names)
    }

    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>> {
        let inode = self.at(path)?;
        self.content(&inode, most)
    }

    fn link(&mut self, path: &str) -> Read<String> {
        let inode = self.at(path)?;
        if inode.node().kind != NodeKind::Link || inode.size > LINK {
            return damaged("a link that is none, or is too long");
        }
        let len = usize::try_from(inode.size).expect("a few KiB");
        // A short one stands where its blocks would be said.
        let short = inode.flags & (EXTENTS | INLINE | ENCRYPTED) == 0 && len < 60;
        let target = match short {
            true => inode.body[..len].to_vec(),
            false => self.content(&inode, len)?,
        };
        Ok(String::from_utf8_lossy(&target).into_owned())
    }
}
