//! The tree of files: folder by folder, each looked at once.

use std::collections::HashSet;
use std::rc::Rc;

use super::dates;
use super::descriptors;
use super::directory::{self, Item};
use super::layout::{Record, SECTOR, SHORTEST, Volume};
use super::names;
use super::rock_ridge::{self, Attributes, Fields};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Entry, EntryKind};
use crate::base::storage::{Span, Window};

/// Bytes of a path, at most: what systems take.
const MAX_PATH: usize = 4096;
/// Bits of a mode that say the kind; and kinds.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Which names count.
enum Naming<'a> {
    RockRidge(Box<Fields<'a>>),
    Joliet,
    Plain,
}

/// The walk.
struct Tree<'a> {
    window: &'a dyn Window,
    limits: &'a Limits,
    block: u64,
    naming: Naming<'a>,
    /// Sectors of the directories looked at.
    seen: HashSet<u64>,
    /// How many items were found.
    count: u64,
}

/// Something that was found and not yet handed over.
struct Node {
    folder: Rc<str>,
    name: String,
    item: Item,
    attributes: Attributes,
}

/// Hands over what is in the volume, a folder before what is in it. `Malformed` for directories
/// that lie over each other, for names that no path may have, and for two of one name.
pub(super) fn entries(
    window: &dyn Window,
    limits: &Limits,
    each: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let found = descriptors::read(window)?;
    let Some((at, primary)) = &found.primary else {
        return Err(Error::unsupported("the files of a volume with UDF alone are not read"));
    };
    let skip = rock_ridge::skip(window, root(*at, primary)?.start())?;
    let (at, volume, naming) = match (skip, &found.joliet) {
        (Some(skip), _) => {
            let fields = Fields::new(window, primary.block.value.into(), skip, limits);
            (at, primary, Naming::RockRidge(Box::new(fields)))
        }
        (None, Some((at, joliet))) => (at, joliet, Naming::Joliet),
        (None, None) => (at, primary, Naming::Plain),
    };
    let (block, seen) = (volume.block.value.into(), HashSet::new());
    let mut tree = Tree { window, limits, block, naming, seen, count: 0 };
    let mut pending = tree.folder(root(*at, volume)?, &"".into())?;
    while let Some(node) = pending.pop() {
        let path = match &*node.folder {
            "" => node.name.clone(),
            folder => format!("{folder}/{}", node.name),
        };
        if path.len() > MAX_PATH {
            let what = format!("a path of {} bytes, {MAX_PATH} at most", path.len());
            return Err(Error::limit(what).at(node.item.at));
        }
        let inside = tree.inside(&node)?;
        each(node.entry(path.clone(), inside.is_some()))?;
        if let Some(span) = inside {
            pending.extend(tree.folder(span, &path.into())?);
        }
    }
    Ok(())
}

/// Where the root directory lies.
fn root(at: u64, volume: &Volume) -> Result<Span> {
    let root = Record::parse(&volume.root);
    let root = root.ok_or_else(|| Error::malformed(at + 156, "there is no root directory"))?;
    let first = u64::from(root.extent.value) + u64::from(root.attributes);
    Span::new(first * u64::from(volume.block.value), root.size.value.into())
}

impl Tree<'_> {
    /// What is in a directory, the first item last.
    fn folder(&mut self, span: Span, path: &Rc<str>) -> Result<Vec<Node>> {
        let bytes = self.window.bytes(span, "a directory", self.limits)?;
        if !span.is_empty() {
            for sector in span.start() / SECTOR..span.end().div_ceil(SECTOR) {
                if !self.seen.insert(sector) {
                    let what = "a directory lies where another one lies, or around itself";
                    return Err(Error::malformed(sector * SECTOR, what));
                }
            }
        }
        let mut nodes = Vec::new();
        let mut taken = HashSet::new();
        for item in directory::items(&bytes, span.start(), self.block)? {
            self.count += 1;
            if self.count > self.limits.max_entries {
                let most = self.limits.max_entries;
                return Err(Error::limit(format!("more than {most} files and folders")));
            }
            let at = item.at;
            let Some((name, attributes)) = self.named(&item)? else { continue };
            names::check(&name, at)?;
            if !taken.insert(name.clone()) {
                let name = name.escape_debug();
                return Err(Error::malformed(at, format!("there is another '{name}' beside it")));
            }
            nodes.push(Node { folder: path.clone(), name, item, attributes });
        }
        nodes.reverse();
        Ok(nodes)
    }

    /// The name of an item and what else is said of it; `None` for a folder that stands elsewhere.
    fn named(&mut self, item: &Item) -> Result<Option<(String, Attributes)>> {
        let name = &item.record.name;
        let plain = || names::plain(&names::text(name)).to_owned();
        match &mut self.naming {
            Naming::RockRidge(fields) => {
                let attributes = fields.of(&item.record, item.at)?;
                let name = attributes.name.as_deref().map_or_else(plain, names::text);
                Ok((!attributes.moved).then_some((name, attributes)))
            }
            Naming::Joliet => {
                let name = names::versionless(&names::wide(name)).to_owned();
                Ok(Some((name, Attributes::default())))
            }
            Naming::Plain => Ok(Some((plain(), Attributes::default()))),
        }
    }

    /// Where the content of a folder lies; `None` if it is none.
    fn inside(&self, node: &Node) -> Result<Option<Span>> {
        let record = &node.item.record;
        if let Some(block) = node.attributes.moved_to {
            let at = u64::from(block) * self.block;
            let own = self.window.array::<SHORTEST>(at)?;
            let own = Record::parse(&own).filter(Record::is_dot).ok_or_else(|| {
                Error::malformed(at, "there is no directory where Rock Ridge says one lies")
            })?;
            return Ok(Some(Span::new(at, own.size.value.into())?));
        }
        let first = u64::from(record.extent.value) + u64::from(record.attributes);
        let span = || Span::new(first * self.block, record.size.value.into());
        record.is_directory().then(span).transpose()
    }
}

impl Node {
    fn entry(self, path: String, is_folder: bool) -> Entry {
        let Node { item, attributes, .. } = self;
        let modified = attributes.modified.or_else(|| dates::short(item.record.date));
        let kind = match (is_folder, attributes.mode.map(|mode| mode & KIND)) {
            (true, _) => EntryKind::Folder,
            (false, Some(LINK)) => EntryKind::Link(target(attributes.link)),
            (false, None) if attributes.link.is_some() => EntryKind::Link(target(attributes.link)),
            (false, None | Some(REGULAR)) => EntryKind::File,
            (false, Some(_)) => EntryKind::Other,
        };
        let mode = attributes.mode.map(|mode| mode & 0o7777);
        let bare = Entry { kind, mode, modified, ..Entry::file(path, Vec::new()) };
        if bare.kind != EntryKind::File {
            return bare;
        }
        let stored = item.stretches.iter().map(|stretch| stretch.len).sum();
        let (size, packing) = match (attributes.unpacked, attributes.sparse, item.interleaved) {
            (Some(size), _, _) => (size, Some("zisofs")),
            (None, true, _) => (stored, Some("sparse")),
            (None, false, true) => (stored, Some("interleaved")),
            (None, false, false) => (stored, None),
        };
        Entry { size, packing, stretches: item.stretches, ..bare }
    }
}

fn target(link: Option<Vec<u8>>) -> String {
    names::text(&link.unwrap_or_default())
}
