//! The members of an archive, and which of them tell of the others.

use std::collections::BTreeMap;

use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Entry, EntryKind, Stretch};
use crate::base::storage::{Span, Window};
use crate::base::tar::{Archive, Links, Member};

/// Bytes of a descriptor, of a manifest or of a certificate at most.
pub(super) const MAX_TEXT: u64 = 16 << 20;

/// What an archive holds.
pub(super) struct Contents {
    /// Its files, in their order.
    pub(super) members: Vec<Member>,
    /// Indices of those, by their names.
    names: BTreeMap<String, usize>,
    pub(super) descriptor: Text,
    pub(super) manifest: Option<Text>,
    pub(super) certificate: Option<Text>,
    /// Where the zeros that end it begin.
    pub(super) trailer: u64,
}

/// A file that was read as a whole.
pub(super) struct Text {
    /// Which member it is.
    pub(super) index: usize,
    pub(super) bytes: Vec<u8>,
}

/// Whether this is an archive with a descriptor in it: the names of its members decide. What is
/// wrong with them is for the inspection to find.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    if !crate::base::tar::probe(window)? {
        return Ok(false);
    }
    let limits = Limits::default();
    for name in Archive::glance(window, &limits) {
        match name {
            Ok(member) if ends(&member.path, "ovf") => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), Kind::Awaiting | Kind::Io) => return Err(error),
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

/// Goes over the whole archive, and reads the texts in it as they come.
pub(super) fn read(window: &dyn Window, limits: &Limits) -> Result<Contents> {
    let mut archive = Archive::new(window, Links::Refused, limits);
    let (mut members, mut texts) = (Vec::new(), [const { None }; 3]);
    for member in archive.by_ref() {
        let member = member?;
        if member.kind != EntryKind::File {
            continue;
        }
        let what = ["ovf", "mf", "cert"].iter().position(|end| ends(&member.path, end));
        if let Some(what) = what {
            let text = Text { index: members.len(), bytes: text(window, &member, limits)? };
            if texts[what].replace(text).is_some() {
                let name = ["descriptors", "manifests", "certificates"][what];
                let what = format!("it has several {name}, and does not say which counts");
                return Err(Error::refused(what).at(member.header));
            }
        }
        members.push(member);
    }
    let [descriptor, manifest, certificate] = texts;
    let descriptor = descriptor.ok_or_else(|| {
        Error::malformed(0, "the archive has no descriptor: no member's name ends with .ovf")
    })?;
    let names = members.iter().enumerate();
    let names = names.map(|(index, member)| (member.path.clone(), index)).collect();
    let trailer = archive.trailer();
    Ok(Contents { members, names, descriptor, manifest, certificate, trailer })
}

fn ends(path: &str, end: &str) -> bool {
    let (front, extension) = path.rsplit_once('.').unwrap_or_default();
    !front.is_empty() && extension.eq_ignore_ascii_case(end)
}

fn text(window: &dyn Window, member: &Member, limits: &Limits) -> Result<Vec<u8>> {
    if member.size > MAX_TEXT {
        let (path, size) = (member.path.escape_debug(), member.size);
        let what = format!("'{path}' has {size} bytes, {MAX_TEXT} at most");
        return Err(Error::limit(what).at(member.header));
    }
    let mut all = Vec::new();
    for Stretch { offset, len } in &member.stretches {
        let Some(offset) = offset else {
            let what = format!("'{}' has holes", member.path.escape_debug());
            return Err(Error::unsupported(what).at(member.header));
        };
        let span = Span::new(*offset, *len)?;
        all.extend(window.bytes(span, "a text in the archive", limits)?);
    }
    Ok(all)
}

impl Contents {
    /// The member that the descriptor, or the manifest, means by a name: one beside it.
    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        let folder = self.members[self.descriptor.index].path.rsplit_once('/');
        let path = match folder {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.to_string(),
        };
        self.names.get(&path).map(|index| &self.members[*index])
    }

    /// How many members are called like chunks of a file.
    pub(super) fn count(&self, name: &str) -> usize {
        let Some(first) = self.named(&format!("{name}.000000000")) else { return 0 };
        let front = &first.path[..first.path.len() - 9];
        let all = self.names.range(first.path.clone()..).map(|(path, _)| path);
        let all = all.take_while(|path| path.starts_with(front));
        let digits = |path: &&String| {
            path.len() == first.path.len()
                && path[front.len()..].bytes().all(|b| b.is_ascii_digit())
        };
        all.filter(digits).count()
    }

    /// The name that the descriptor would have for a member: its path, as seen from there.
    pub(super) fn name_of<'a>(&self, member: &'a Member) -> &'a str {
        let folder = self.members[self.descriptor.index].path.rsplit_once('/');
        let inside = folder.and_then(|(folder, _)| member.path.strip_prefix(folder));
        inside.and_then(|path| path.strip_prefix('/')).unwrap_or(&member.path)
    }
}

/// Hands over the members, as files and folders.
pub(super) fn entries(
    window: &dyn Window,
    limits: &Limits,
    found: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    for member in Archive::new(window, Links::Refused, limits) {
        found(Entry::from(member?))?;
    }
    Ok(())
}
