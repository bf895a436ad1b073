//! Files on btrfs, from its default subvolume on (the kernel's and btrfs-progs' documentation of
//! the on-disk format).
//!
//! Every node of a tree is a read, and what is unpacked counts as read, too: the budget bounds
//! trees that lead round and files that unpack to more than they should.

use std::collections::{BTreeMap, HashMap};

use formats::{Codec, Decoder};

use super::{FOLDER, LINK, Node, NodeKind, Tree};
use crate::bytes::Bytes;
use crate::disk::{Read, Volume, damaged};

/// Where the superblock is.
const SUPERBLOCK: u64 = 64 << 10;
/// Bytes in front of the items of a node, of an item in a leaf, of one above leaves, of a key.
const HEADER: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;
const KEY: usize = 17;
/// Levels that a tree has at most.
const LEVELS: u8 = 8;
/// Items: an inode, an entry of a folder by its name and by its number, a stretch of a file, the
/// root of a tree, a chunk.
const INODE: u8 = 1;
const NAMED: u8 = 84;
const LISTED: u8 = 96;
const STRETCH: u8 = 108;
const TREE: u8 = 132;
const CHUNK: u8 = 228;
/// The subvolume that holds all others, and the first folder of each.
const TOP: u64 = 5;
const FIRST: u64 = 256;
/// What a chunk says if its bytes lie on one device in one piece, however often; and all that it
/// may say about where they lie.
const WHOLE: u64 = 0x10 | 0x20 | 0x200 | 0x400;
const PROFILES: u64 = WHOLE | 0x8 | 0x40 | 0x80 | 0x100;
/// The most that the kernel packs into one stretch.
const PACKED: usize = 128 << 10;

/// Orders the items of a tree: by object, by kind, by a number.
type Key = (u64, u8, u64);

/// A folder or a file: its number, and the root of the subvolume that it is in.
#[derive(Debug, Clone, Copy)]
struct Place {
    tree: u64,
    object: u64,
}

/// A btrfs whose files can be read.
pub(super) struct Btrfs {
    volume: Volume,
    node: usize,
    /// Where the logical addresses that begin here lie, and how far.
    chunks: BTreeMap<u64, (u64, Option<u64>)>,
    /// The tree of all roots.
    roots: u64,
    /// The first folder.
    first: Place,
    found: HashMap<String, Option<Place>>,
}

impl Btrfs {
    pub(super) fn open(volume: Volume) -> Read<Btrfs> {
        let raw = volume.bytes(SUPERBLOCK, 4096)?;
        let raw = Bytes(&raw);
        let numbers = || {
            let node = raw.le32(0x94).filter(|size| (4096..=65536).contains(size))?;
            let node = usize::try_from(node).ok().filter(|size| size.is_power_of_two())?;
            Some((node, raw.le64(0x50)?, raw.le64(0x58)?, raw.le64(0xc9)?, raw.le64(0x80)?))
        };
        let Some((node, roots, chunk_tree, device, names)) = numbers() else {
            return damaged("its superblock makes no sense");
        };
        let first = Place { tree: 0, object: FIRST };
        let (chunks, found) = (BTreeMap::new(), HashMap::new());
        let mut this = Btrfs { volume, node, chunks, roots, first, found };
        // The chunks that hold the tree of chunks stand in the superblock.
        let len = raw.le32(0xa0).and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
        let mut rest = raw.slice(0x32b, len.min(2048)).unwrap_or_default();
        while let Some((_, _, start)) = key(Bytes(rest), 0) {
            let chunk = rest.get(KEY..).unwrap_or_default();
            this.add_chunk(start, Bytes(chunk), device);
            let stripes = usize::from(Bytes(chunk).le16(44).unwrap_or(0));
            rest = chunk.get(48 + stripes * 32..).unwrap_or_default();
        }
        let mut chunks = Vec::new();
        this.walk(chunk_tree, (FIRST, CHUNK, 0), |(_, kind, start), item| {
            if kind == CHUNK {
                chunks.push((start, item.to_vec()));
            }
            Ok(true)
        })?;
        for (start, item) in chunks {
            this.add_chunk(start, Bytes(&item), device);
        }
        let subvolume = this.default(names)?.unwrap_or(TOP);
        match this.subvolume(subvolume)? {
            Some(first) => this.first = first,
            None => return damaged(format!("there is no subvolume {subvolume}")),
        }
        Ok(this)
    }

    /// Remembers where a chunk lies on this device.
    fn add_chunk(&mut self, start: u64, chunk: Bytes, device: u64) {
        let (Some(len), Some(profile), Some(stripes)) =
            (chunk.le64(0), chunk.le64(24), chunk.le16(44))
        else {
            return;
        };
        let at = (0..usize::from(stripes)).map(|index| 48 + index * 32);
        let mut own = at.filter(|at| chunk.le64(*at) == Some(device));
        let place = own.find_map(|at| chunk.le64(at + 8));
        let is_whole = profile & PROFILES & !WHOLE == 0;
        self.chunks.insert(start, (len, place.filter(|_| is_whole)));
    }

    /// `len` bytes at a logical address, all in one chunk.
    fn logical(&self, at: u64, len: usize) -> Read<Vec<u8>> {
        let Some((start, (size, place))) = self.chunks.range(..=at).next_back() else {
            return damaged(format!("nothing lies at {at}"));
        };
        let within = at - start;
        if within.checked_add(len as u64).is_none_or(|end| end > *size) {
            return damaged(format!("nothing lies at {at}"));
        }
        match place.and_then(|place| place.checked_add(within)) {
            Some(at) => self.volume.bytes(at, len),
            None => damaged("it is spread over devices"),
        }
    }

    /// Hands on the items of a tree from a key on, in their order, until `each` has enough.
    fn walk(
        &self,
        root: u64,
        from: Key,
        mut each: impl FnMut(Key, &[u8]) -> Read<bool>,
    ) -> Read<()> {
        self.descend(root, LEVELS, from, &mut each).map(drop)
    }

    /// The same below a node, which is lower than `above`.
    fn descend(
        &self,
        node: u64,
        above: u8,
        from: Key,
        each: &mut dyn FnMut(Key, &[u8]) -> Read<bool>,
    ) -> Read<bool> {
        let raw = self.logical(node, self.node)?;
        let raw = Bytes(&raw);
        let (Some(level), Some(count)) = (raw.byte(100), raw.le32(96)) else {
            return damaged("a node is too short");
        };
        if raw.le64(48) != Some(node) || level >= above {
            return damaged(format!("what is at {node} is no node of its tree"));
        }
        let size = if level == 0 { ITEM } else { POINTER };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min((self.node - HEADER) / size);
        let keys = (0..count).map_while(|index| key(raw, HEADER + index * size));
        let keys: Vec<Key> = keys.collect();
        // The last one that begins no later may hold what is looked for.
        let first = keys.iter().rposition(|key| *key <= from).unwrap_or(0);
        for (index, key) in keys.iter().enumerate().skip(first) {
            let at = HEADER + index * size + KEY;
            let goes_on = if level == 0 {
                let offset = raw.le32(at).and_then(|at| usize::try_from(at).ok());
                let len = raw.le32(at + 4).and_then(|len| usize::try_from(len).ok());
                let start = offset.and_then(|offset| offset.checked_add(HEADER));
                let item = start.zip(len).and_then(|(start, len)| raw.slice(start, len));
                let Some(item) = item else { return damaged("an item is not in its node") };
                *key < from || each(*key, item)?
            } else {
                self.descend(raw.le64(at).unwrap_or(0), level, from, each)?
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first item of an object of one kind, if there is any.
    fn item(&self, root: u64, object: u64, kind: u8) -> Read<Option<Vec<u8>>> {
        let mut found = None;
        self.walk(root, (object, kind, 0), |(other, other_kind, _), item| {
            if (other, other_kind) == (object, kind) {
                found = Some(item.to_vec());
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// The first folder of a subvolume.
    fn subvolume(&self, id: u64) -> Read<Option<Place>> {
        let root = self.item(self.roots, id, TREE)?;
        let tree = root.and_then(|root| Bytes(&root).le64(176));
        Ok(tree.map(|tree| Place { tree, object: FIRST }))
    }

    /// The subvolume that stands for all if nobody says otherwise.
    fn default(&self, names: u64) -> Read<Option<u64>> {
        let mut found = None;
        self.walk(self.roots, (names, NAMED, 0), |(object, kind, _), item| {
            if (object, kind) != (names, NAMED) {
                return Ok(false);
            }
            if let Some((b"default", (id, TREE, _))) = entry(Bytes(item)) {
                found = Some(id);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Goes over the entries of a folder until `each` has enough of them.
    fn entries(&self, folder: Place, mut each: impl FnMut(&[u8], Key) -> bool) -> Read<()> {
        let Place { tree, object } = folder;
        self.walk(tree, (object, LISTED, 0), |(other, kind, _), item| {
            if (other, kind) != (object, LISTED) {
                return Ok(false);
            }
            self.volume.disk.count_entry()?;
            Ok(entry(Bytes(item)).is_none_or(|(name, target)| each(name, target)))
        })
    }

    /// What a path leads to.
    fn find(&mut self, path: &str) -> Read<Option<Place>> {
        let Some((above, name)) = path.trim_end_matches('/').rsplit_once('/') else {
            return Ok(Some(self.first));
        };
        if let Some(known) = self.found.get(path) {
            return Ok(*known);
        }
        let mut found = None;
        if let Some(folder) = self.find(above)? {
            let mut target = None;
            self.entries(folder, |other, key| {
                if other == name.as_bytes() {
                    target = Some(key);
                }
                target.is_none()
            })?;
            found = match target {
                Some((object, INODE, _)) => Some(Place { tree: folder.tree, object }),
                Some((id, TREE, _)) => self.subvolume(id)?,
                Some(_) | None => None,
            };
        }
        self.found.insert(path.to_string(), found);
        Ok(found)
    }

    fn inode(&self, place: Place) -> Read<Node> {
        let item = self.item(place.tree, place.object, INODE)?.unwrap_or_default();
        match Bytes(&item).le64(16).zip(Bytes(&item).le32(52)) {
            Some((size, mode)) => Ok(Node::of_mode(mode, size)),
            None => damaged(format!("there is no inode {}", place.object)),
        }
    }

    /// The first `most` bytes of a file or a link.
    fn content(&self, place: Place, most: usize) -> Read<Vec<u8>> {
        let size = self.inode(place)?.size;
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; len];
        let Place { tree, object } = place;
        let mut decoder = Decoder::default();
        self.walk(tree, (object, STRETCH, 0), |(other, kind, start), item| {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            if (other, kind) != (object, STRETCH) || start >= len {
                return Ok(false);
            }
            self.stretch(Bytes(item), &mut decoder, &mut bytes[start..])?;
            Ok(true)
        })?;
        Ok(bytes)
    }

    /// Fills the front of `out` with a stretch of a file, as far as that reaches.
    fn stretch(&self, item: Bytes, decoder: &mut Decoder, out: &mut [u8]) -> Read<()> {
        let (Some(unpacked), Some([codec, encryption, 0, 0, kind])) =
            (item.le64(8), item.array(16))
        else {
            return damaged("a stretch of a file makes no sense");
        };
        let codec = match codec {
            0 => None,
            1 => Some(Codec::Zlib),
            3 => Some(Codec::Zstd),
            other => return damaged(format!("a file is compressed in way {other}")),
        };
        if encryption != 0 {
            return damaged("it is encrypted");
        }
        let unpacked = usize::try_from(unpacked).unwrap_or(usize::MAX);
        let inside = item.0.get(21..).unwrap_or_default();
        match (kind, codec) {
            (0, None) => {
                let len = inside.len().min(out.len()).min(unpacked);
                out[..len].copy_from_slice(&inside[..len]);
            }
            (0, Some(codec)) => {
                let len = unpacked.min(out.len());
                self.unpack(decoder, codec, inside, &mut out[..len])?;
            }
            (1, codec) => self.outside(item, codec, decoder, unpacked, out)?,
            // Reserved, and not written.
            (2, _) => {}
            _ => return damaged("a stretch of a file is of no kind"),
        }
        Ok(())
    }

    /// The same for a stretch that lies in a chunk.
    fn outside(
        &self,
        item: Bytes,
        codec: Option<Codec>,
        decoder: &mut Decoder,
        unpacked: usize,
        out: &mut [u8],
    ) -> Read<()> {
        let (Some(at), Some(stored), Some(skip), Some(len)) =
            (item.le64(21), item.le64(29), item.le64(37), item.le64(45))
        else {
            return damaged("a stretch of a file is too short");
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(out.len());
        // A hole.
        if at == 0 {
            return Ok(());
        }
        let Some(codec) = codec else {
            let Some(at) = at.checked_add(skip) else { return damaged("a stretch lies nowhere") };
            out[..len].copy_from_slice(&self.logical(at, len)?);
            return Ok(());
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let stored = usize::try_from(stored).unwrap_or(usize::MAX);
        let end = skip.checked_add(len).filter(|end| *end <= unpacked);
        let (Some(end), true) = (end, unpacked.max(stored) <= PACKED) else {
            return damaged("more is packed into a stretch of a file than there may be");
        };
        let mut whole = vec![0; end];
        self.unpack(decoder, codec, &self.logical(at, stored)?, &mut whole)?;
        out[..len].copy_from_slice(&whole[skip..]);
        Ok(())
    }

    fn unpack(
        &self,
        decoder: &mut Decoder,
        codec: Codec,
        packed: &[u8],
        out: &mut [u8],
    ) -> Read<()> {
        self.volume.disk.count_handed(out.len() as u64)?;
        match decoder.decode(codec, packed, out) {
            Ok(()) => Ok(()),
            Err(error) => damaged(format!("a file does not unpack: {error}")),
        }
    }
}

/// The key at this place.
fn key(raw: Bytes, at: usize) -> Option<Key> {
    Some((raw.le64(at)?, raw.byte(at.checked_add(8)?)?, raw.le64(at.checked_add(9)?)?))
}

/// The name in an entry of a folder, and what it leads to.
fn entry(item: Bytes<'_>) -> Option<(&[u8], Key)> {
    let len = usize::from(item.le16(27)?);
    Some((item.slice(30, len)?, key(item, 0)?))
}

impl Tree for Btrfs {
    fn node(&mut self, path: &str) -> Read<Option<Node>> {
        self.find(path)?.map(|place| self.inode(place)).transpose()
    }

    fn names(&mut self, path: &str) -> Read<Vec<String>> {
        let Some(folder) = self.find(path)? else { return damaged("a folder went missing") };
        let (mut names, mut len) = (Vec::new(), 0);
        self.entries(folder, |name, _| {
            len += name.len() as u64;
            names.push(String::from_utf8_lossy(name).into_owned());
            len < FOLDER
        })?;
        Ok(names)
    }

    fn read(&mut self, path: &str, most: usize) -> Read<Vec<u8>> {
        let Some(place) = self.find(path)? else { return damaged("a file went missing") };
        self.content(place, most)
    }

    fn link(&mut self, path: &str) -> Read<String> {
        let Some(place) = self.find(path)? else { return damaged("a link went missing") };
        let node = self.inode(place)?;
        if node.kind != NodeKind::Link || node.size > LINK {
            return damaged("a link that is none, or is too long");
        }
        let target = self.content(place, usize::try_from(LINK).expect("a few KiB"))?;
        Ok(String::from_utf8_lossy(&target).into_owned())
    }
}
