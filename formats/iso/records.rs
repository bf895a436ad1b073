//! Directories of a new volume, record by record.

use super::dates;
use super::fields::{self, Continuations};
use super::hierarchy::Hierarchy;
use super::layout::{CONTINUED, DIRECTORY, RECORD, Record, SECTOR_BYTES, Twice};
use super::tree::{NodeKind, ROOT, Tree};

/// Bytes of a record, at most: an even number.
const MOST: usize = 254;
/// Bytes of one extent, at most: whole sectors whose number fits into 32 bits.
pub(super) const MAX_EXTENT: u64 = 0xffff_f800;
/// Kinds in a mode.
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Where something lies: sector and bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) sector: u32,
    pub(super) len: u64,
}

/// What records speak of.
pub(super) struct Directories<'a> {
    pub(super) tree: &'a Tree,
    pub(super) hierarchy: &'a Hierarchy,
    /// Where each folder lies, in the order of the hierarchy.
    pub(super) folders: &'a [Place],
    /// Where the content of each node lies, if it is a file.
    pub(super) files: &'a [Place],
    pub(super) date: i64,
}

impl Directories<'_> {
    /// The bytes of every directory, in the order of the hierarchy, in whole sectors. With Rock
    /// Ridge if there is a place for fields that go on.
    pub(super) fn bytes(&self, mut fields: Option<&mut Continuations>) -> Vec<Vec<u8>> {
        let folders = self.hierarchy.folders.iter();
        let one = |(folder, children): &(usize, Vec<usize>)| {
            self.directory(*folder, children, &mut fields)
        };
        folders.map(one).collect()
    }

    /// The record of the root, as descriptors have it.
    pub(super) fn root(&self) -> [u8; 34] {
        let record = self.folder(ROOT, vec![0]).to_bytes();
        record.try_into().expect("a name of one byte, and no fields")
    }

    fn directory(
        &self,
        folder: usize,
        children: &[usize],
        continuations: &mut Option<&mut Continuations>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |record: Record, fields: Vec<Vec<u8>>| {
            let mut record = record;
            if let Some(continuations) = continuations {
                let room = MOST - (RECORD + record.name.len()).next_multiple_of(2);
                record.system_use = continuations.spread(fields, room);
            }
            let record = record.to_bytes();
            if bytes.len() % SECTOR_BYTES + record.len() > SECTOR_BYTES {
                bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
            }
            bytes.extend(record);
        };
        let parent = self.tree.node(folder).parent;
        let mut own = vec![self.mode(folder), fields::times(self.date)];
        if folder == ROOT {
            own.insert(0, fields::used());
            own.push(fields::protocol());
        }
        put(self.folder(folder, vec![0]), own);
        let above = vec![self.mode(parent), fields::times(self.date)];
        put(self.folder(parent, vec![1]), above);
        for child in children {
            for record in self.records(*child) {
                put(record, self.fields(*child));
            }
        }
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        bytes
    }

    /// The records of something: several for a file of several extents.
    fn records(&self, number: usize) -> Vec<Record> {
        let name = self.hierarchy.names[number].bytes.clone();
        match self.tree.node(number).kind {
            NodeKind::Folder(_) => vec![self.folder(number, name)],
            NodeKind::Link(_) => vec![self.record(0, 0, 0, name)],
            NodeKind::File { .. } => {
                let Place { mut sector, mut len } = self.files[number];
                let mut records = Vec::new();
                while len > MAX_EXTENT {
                    records.push(self.record(sector, MAX_EXTENT, CONTINUED, name.clone()));
                    sector += u32::try_from(MAX_EXTENT / SECTOR_BYTES as u64).expect("21 bits");
                    len -= MAX_EXTENT;
                }
                records.push(self.record(sector, len, 0, name));
                records
            }
        }
    }

    fn folder(&self, folder: usize, name: Vec<u8>) -> Record {
        let Place { sector, len } = self.folders[self.hierarchy.place(folder)];
        self.record(sector, len, DIRECTORY, name)
    }

    fn record(&self, sector: u32, len: u64, flags: u8, name: Vec<u8>) -> Record {
        Record {
            attributes: 0,
            extent: Twice::new(sector),
            size: Twice::new(u32::try_from(len).expect("no extent of ours is longer")),
            date: dates::to_short(self.date),
            flags,
            unit: 0,
            gap: 0,
            volume: [1, 0, 0, 1],
            name,
            system_use: Vec::new(),
        }
    }

    fn mode(&self, number: usize) -> Vec<u8> {
        let node = self.tree.node(number);
        let (kind, links) = match node.kind {
            NodeKind::Folder(_) => (FOLDER, self.tree.folders_in(number) + 2),
            NodeKind::File { .. } => (FILE, 1),
            NodeKind::Link(_) => (LINK, 1),
        };
        fields::mode(kind | node.mode, u32::try_from(links).unwrap_or(u32::MAX))
    }

    fn fields(&self, number: usize) -> Vec<Vec<u8>> {
        let node = self.tree.node(number);
        let mut all = vec![self.mode(number), fields::times(self.date)];
        all.extend(fields::name(&node.name));
        if let NodeKind::Link(target) = &node.kind {
            all.extend(fields::link(target));
        }
        all
    }
}
