//! Members, one after the other, forward only.

use std::collections::BTreeMap;

use super::BLOCK;
use super::header::Header;
use super::pax::Attributes;
use super::sparse::Sparse;
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Entry, EntryKind, Stretch};
use crate::base::storage::{Span, Window};

/// Bytes that a header of names or records may have.
const MAX_RECORDS: u64 = 1 << 20;
/// Bytes of a name.
const MAX_NAME: usize = 4096;

/// What is done about members that are no files and no folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Links, devices and pipes are refused.
    Refused,
    /// They are told of, and never followed.
    Listed,
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its path: `/` between its parts, never absolute, never with `..`, `./` left out.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Bytes of its content.
    pub(crate) size: u64,
    /// Where those lie, in order.
    pub(crate) stretches: Vec<Stretch>,
    /// Where the first header that speaks of it lies.
    pub(crate) header: u64,
    /// Where what is stored of it ends: zeros follow up to the next block.
    pub(crate) end: u64,
    /// Whether its headers are spelled as all writers of today do.
    pub(crate) usual: bool,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// When it was changed: seconds since 1970.
    pub(crate) modified: Option<i64>,
}

impl From<Member> for Entry {
    fn from(member: Member) -> Entry {
        Entry {
            path: member.path,
            kind: member.kind,
            size: member.size,
            stretches: member.stretches,
            packing: None,
            mode: member.mode,
            modified: member.modified,
        }
    }
}

/// Whether the first block is the header of a member.
pub(crate) fn probe(window: &dyn Window) -> Result<bool> {
    match window.array(0) {
        Ok(block) => Ok(Header::new(&block, 0).is_ok()),
        Err(error) if error.kind() == Kind::Truncated => Ok(false),
        Err(error) => Err(error),
    }
}

/// An archive that is gone through from its front. Gives members until there are no more, or until
/// the first error; never asks for the length of the window, nor for the bytes of a member.
pub(crate) struct Archive<'a> {
    window: &'a dyn Window,
    limits: &'a Limits,
    links: Links,
    /// Where the next header lies.
    at: u64,
    /// Where the bytes of the last member end.
    end: u64,
    /// What holds for all members from here on.
    global: Attributes,
    /// The paths so far, and whether each is a folder.
    paths: BTreeMap<String, bool>,
    /// Bytes of those.
    letters: u64,
    headers: u64,
    /// Whether names are only looked at: none is refused.
    glance: bool,
    done: bool,
}

/// What the headers in front of a member say of it.
#[derive(Default)]
struct Front {
    start: Option<u64>,
    local: Attributes,
    /// From GNU headers.
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    unusual: bool,
}

impl<'a> Archive<'a> {
    /// The archive in this window.
    pub(crate) fn new(window: &'a dyn Window, links: Links, limits: &'a Limits) -> Archive<'a> {
        Archive {
            window,
            limits,
            links,
            at: 0,
            end: 0,
            global: Attributes::default(),
            paths: BTreeMap::new(),
            letters: 0,
            headers: 0,
            glance: false,
            done: false,
        }
    }

    /// The same, for a look at the names only: as they stand there, none of them refused.
    pub(crate) fn glance(window: &'a dyn Window, limits: &'a Limits) -> Archive<'a> {
        Archive { glance: true, ..Archive::new(window, Links::Listed, limits) }
    }

    /// Where the zeros begin that end it, once all members have been given.
    pub(crate) fn trailer(&self) -> u64 {
        self.at
    }

    /// The next header; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; 512];
        if let Err(error) = self.window.read(self.at, &mut block) {
            let total = self.window.total().filter(|_| error.kind() == Kind::Truncated);
            return match total {
                // Some writers leave out the zeros that end an archive, and fill up nothing.
                Some(total) if (self.end..=self.at).contains(&total) => Ok(None),
                _ => Err(error),
            };
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.headers += 1;
        // A long name takes headers of its own.
        if self.headers > self.limits.max_entries.saturating_mul(4) {
            return Err(Error::limit("too many headers in a tar archive").at(self.at));
        }
        let header = Header::new(&block, self.at)?;
        self.at = self.at.saturating_add(BLOCK);
        self.end = self.at;
        Ok(Some(header))
    }

    /// Goes past `size` bytes and what fills them up.
    fn skip(&mut self, from: u64, size: u64) -> Result<()> {
        let end = from.checked_add(size);
        let next = end.and_then(|end| end.checked_next_multiple_of(BLOCK));
        let (Some(end), Some(next)) = (end, next) else {
            let what = format!("a tar member of {size} bytes does not end in 2^64");
            return Err(Error::malformed(self.at, what));
        };
        if self.window.total().is_some_and(|total| end > total) {
            let what = format!("the archive ends within a member of {size} bytes");
            return Err(Error::truncated(from, what));
        }
        (self.end, self.at) = (end, next);
        Ok(())
    }

    /// The content of a header that speaks of the member behind it.
    fn records(&mut self, header: &Header) -> Result<Vec<u8>> {
        let (size, from) = (header.size()?, self.at);
        if size > MAX_RECORDS {
            let what = format!("a tar header of {size} bytes, {MAX_RECORDS} at most");
            return Err(Error::limit(what).at(header.at));
        }
        let span = Span::new(from, size)?;
        let bytes = self.window.bytes(span, "a tar header", self.limits)?;
        self.skip(from, size)?;
        Ok(bytes)
    }

    /// Goes on to the next member.
    fn advance(&mut self) -> Result<Option<Member>> {
        let mut front = Front::default();
        loop {
            let Some(header) = self.header()? else {
                return match front.start {
                    None => Ok(None),
                    Some(at) => Err(Error::malformed(at, "a tar header without its member")),
                };
            };
            let start = *front.start.get_or_insert(header.at);
            front.unusual |= !header.is_usual();
            let at = self.at;
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.records(&header)?;
                    front.local.read(&records, at)?;
                }
                b'g' => {
                    let records = self.records(&header)?;
                    self.global.read(&records, at)?;
                }
                b'L' => front.name = Some(name_of(self.records(&header)?)),
                b'K' => front.link = Some(name_of(self.records(&header)?)),
                // The label of a volume.
                b'V' => {
                    let size = header.size()?;
                    self.skip(at, size)?;
                    front = Front::default();
                }
                _ => {
                    let member = self.member(&header, std::mem::take(&mut front), start)?;
                    if member.is_some() {
                        return Ok(member);
                    }
                }
            }
        }
    }

    /// The member of this header; `None` if it is the folder that all others lie in.
    fn member(&mut self, header: &Header, front: Front, start: u64) -> Result<Option<Member>> {
        let said = front.local.or(&self.global);
        let holes = match said.sparse {
            Some(sparse) => Some(sparse.known().ok_or_else(|| {
                let what = "a sparse tar member of an old kind of pax";
                Error::unsupported(what).at(header.at)
            })?),
            None => None,
        };
        let (real_name, real_size) = holes.unzip();
        let name = real_name.or(said.path).or(front.name).unwrap_or_else(|| header.name());
        let link = said.link.or(front.link).unwrap_or_else(|| header.link());
        let stored = said.size.map_or_else(|| header.size(), Ok)?;
        let folder = name.ends_with(b"/");
        let path = match self.glance {
            true => String::from_utf8_lossy(&name).into_owned(),
            false => path_of(&name, header.at)?,
        };
        let kind = self.kind(header, folder, stored, &path, &link)?;
        let data = self.at;
        let (size, stretches, data) = match (header.kind(), real_size) {
            (b'S', _) => {
                let sparse = Sparse::read(header, stored, self.window, self.limits)?;
                (sparse.size, sparse.stretches, sparse.data)
            }
            (_, Some(size)) => {
                let (window, limits) = (self.window, self.limits);
                let sparse = Sparse::read_in_front(data, stored, size, window, limits)?;
                (sparse.size, sparse.stretches, data)
            }
            _ if stored == 0 => (0, Vec::new(), data),
            _ => (stored, vec![Stretch::stored(data, stored)], data),
        };
        self.skip(data, stored)?;
        if path.is_empty() {
            return match kind == EntryKind::Folder {
                true => Ok(None),
                false => Err(Error::malformed(header.at, "a tar member without a name")),
            };
        }
        if !self.glance {
            self.remember(&path, kind == EntryKind::Folder, header.at)?;
        }
        let (mode, usual) = (header.mode(), !front.unusual);
        let modified = said.modified.or_else(|| header.modified());
        let (header, end) = (start, self.end);
        Ok(Some(Member { path, kind, size, stretches, header, end, usual, mode, modified }))
    }

    fn kind(
        &self,
        header: &Header,
        folder: bool,
        stored: u64,
        path: &str,
        link: &[u8],
    ) -> Result<EntryKind> {
        let (at, shown) = (header.at, path.escape_debug());
        let (kind, what) = match header.kind() {
            b'0' | b'7' | 0 if !folder => return Ok(EntryKind::File),
            b'S' => return Ok(EntryKind::File),
            b'0' | b'7' | 0 | b'5' => (EntryKind::Folder, "folder"),
            b'1' => (link_to(link), "hard link"),
            b'2' => (link_to(link), "symbolic link"),
            b'3' | b'4' => (EntryKind::Other, "device"),
            b'6' => (EntryKind::Other, "pipe"),
            kind => {
                let kind = char::from(kind).escape_debug();
                let what = format!("the tar member '{shown}' is of the kind '{kind}'");
                return Err(Error::unsupported(what).at(at));
            }
        };
        if kind != EntryKind::Folder && self.links == Links::Refused {
            return Err(Error::refused(format!("the tar member '{shown}' is a {what}")).at(at));
        }
        if stored > 0 {
            // Some readers go past these bytes, others take them for the next header.
            let what = format!("the tar member '{shown}' is a {what} with {stored} bytes");
            return Err(Error::refused(what).at(at));
        }
        Ok(kind)
    }

    /// A path may come once, but for folders: which of two files is meant, readers do not agree.
    fn remember(&mut self, path: &str, folder: bool, at: u64) -> Result<()> {
        if self.paths.len() as u64 >= self.limits.max_entries {
            let most = self.limits.max_entries;
            return Err(Error::limit(format!("more than {most} members")).at(at));
        }
        self.letters += path.len() as u64;
        if self.letters > self.limits.max_table {
            let most = self.limits.max_table;
            return Err(Error::limit(format!("names of more than {most} bytes")).at(at));
        }
        match self.paths.insert(path.to_string(), folder) {
            Some(earlier) if !(earlier && folder) => {
                let path = path.escape_debug();
                Err(Error::refused(format!("two tar members are called '{path}'")).at(at))
            }
            _ => Ok(()),
        }
    }
}

impl Iterator for Archive<'_> {
    type Item = Result<Member>;

    fn next(&mut self) -> Option<Result<Member>> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The name in a GNU header, without the zero that ends it.
fn name_of(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn link_to(link: &[u8]) -> EntryKind {
    EntryKind::Link(String::from_utf8_lossy(link).into_owned())
}

/// A path with nothing in it that leads out.
fn path_of(name: &[u8], at: u64) -> Result<String> {
    if name.len() > MAX_NAME {
        let what = format!("a tar member with a name of {} bytes, {MAX_NAME} at most", name.len());
        return Err(Error::limit(what).at(at));
    }
    let name = String::from_utf8_lossy(name);
    let mut parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    if name.starts_with('/') || name.contains('\0') || parts.clone().any(|part| part == "..") {
        let name = name.escape_debug();
        return Err(Error::refused(format!("the tar member '{name}' leads out of it")).at(at));
    }
    let first = parts.next().unwrap_or_default().to_string();
    Ok(parts.fold(first, |path, part| path + "/" + part))
}
