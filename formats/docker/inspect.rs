//! Members and texts → facts.

use std::collections::BTreeMap;

use super::layout::{
    Config, Descriptor, Index, Manifest, Mark, Repositories, Saved, blob, called, digest, parse,
};
use crate::base::digest::Digest;
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Entry, EntryKind, Held, Vouch};
use crate::base::model::facts::{Detail, Facts, Value};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};
use crate::base::tar::{self, Archive, Links, Member};
use crate::base::wrapper::Wrapper;

/// Members that are looked at before it is decided what the archive is.
const EARLY: usize = 8;
/// Bytes of a text that are looked at for that.
const GLANCE: u64 = 4096;
/// Bytes that a text may have: registries take no larger ones.
const MAX_TEXT: u64 = 4 << 20;
/// Members up to this size may be texts, and are kept where the archive goes by.
const SMALL: u64 = 64 << 10;
/// Bytes that are kept so.
const KEPT: u64 = 8 << 20;
/// Indexes that may lie in each other.
const MAX_DEPTH: usize = 4;

/// Whether the first members are those of container images.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    if !tar::probe(window)? {
        return Ok(false);
    }
    let limits = Limits::default();
    for member in Archive::new(window, Links::Listed, &limits).take(EARLY) {
        let member = match member {
            Ok(member) => member,
            Err(error) if error.kind() == Kind::Awaiting => return Err(error),
            Err(_) => return Ok(false),
        };
        match Mark::of(&member.path) {
            Mark::Yes => return Ok(true),
            Mark::No => return Ok(false),
            Mark::Perhaps => {}
            Mark::If(text) => {
                let front = front(window, &member, GLANCE, &limits)?;
                if front.windows(text.len()).any(|part| part == text.as_bytes()) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// The members of the archive.
pub(super) fn entries(
    window: &dyn Window,
    limits: &Limits,
    visit: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    for member in Archive::new(window, Links::Listed, limits) {
        visit(member?.into())?;
    }
    Ok(())
}

pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let archive = Images::read(window, limits)?;
    if archive.members.contains_key("manifest.json") {
        archive.saved()
    } else if archive.members.contains_key("index.json") {
        archive.oci()
    } else if archive.members.contains_key("repositories") {
        archive.old()
    } else {
        let what = "container images without manifest.json, index.json or repositories";
        Err(Error::malformed(0, what))
    }
}

/// The first bytes of a member.
fn front(window: &dyn Window, member: &Member, most: u64, limits: &Limits) -> Result<Vec<u8>> {
    match member.stretches.first().and_then(|first| Some((first.offset?, first.len))) {
        None => Ok(Vec::new()),
        Some((offset, len)) => {
            let span = Span::new(offset, len.min(most))?;
            window.bytes(span, "the front of a file in it", limits)
        }
    }
}

/// An archive of container images.
struct Images<'a> {
    window: &'a dyn Window,
    limits: &'a Limits,
    members: BTreeMap<String, Member>,
}

/// What indexes lead to.
#[derive(Default)]
struct Found<'a> {
    /// Descriptors that were followed.
    seen: u64,
    /// Each with its digest, and where its manifest lies.
    images: Vec<(Descriptor, Digest, &'a Member)>,
}

/// What is known of the first image.
#[derive(Default)]
struct Image {
    tags: Vec<String>,
    config: Config,
    layers: Vec<Reference>,
    vouches: Vec<Vouch>,
}

impl<'a> Images<'a> {
    fn read(window: &'a dyn Window, limits: &'a Limits) -> Result<Images<'a>> {
        let mut members = BTreeMap::new();
        let mut kept = 0_u64;
        for member in Archive::new(window, Links::Listed, limits) {
            let member = member?;
            // Who tells what they are may come behind them.
            let len = if member.size <= SMALL { member.size } else { GLANCE };
            let stored = member.stretches.first().and_then(|first| first.offset);
            if let Some(offset) = stored.filter(|_| kept + len <= KEPT) {
                window.expect(offset, len);
                kept += len;
            }
            members.insert(member.path.clone(), member);
        }
        Ok(Images { window, limits, members })
    }

    /// A member by the name that a text calls it.
    fn find(&self, name: &str) -> Result<&Member> {
        let shown = name.escape_debug();
        let mut path = name.trim_start_matches("./").to_string();
        for _ in 0..MAX_DEPTH {
            let Some(member) = self.members.get(&path) else {
                return Err(Error::malformed(0, format!("there is no '{shown}' in it")));
            };
            match &member.kind {
                EntryKind::File => return Ok(member),
                // A layer that several images have is stored once.
                EntryKind::Link(to) => path = beside(&path, to),
                EntryKind::Folder | EntryKind::Other => break,
            }
        }
        Err(Error::malformed(0, format!("'{shown}' is no file in it")))
    }

    /// The text of a member.
    fn text(&self, member: &Member) -> Result<Vec<u8>> {
        let name = member.path.escape_debug();
        if member.size > MAX_TEXT {
            let size = member.size;
            let what = format!("'{name}' has {size} bytes, {MAX_TEXT} at most");
            return Err(Error::limit(what).at(member.header));
        }
        match member.stretches[..] {
            [] => Ok(Vec::new()),
            [only] if only.offset.is_some() => front(self.window, member, MAX_TEXT, self.limits),
            _ => Err(Error::unsupported(format!("'{name}' is a sparse file")).at(member.header)),
        }
    }

    /// `manifest.json`.
    fn saved(&self) -> Result<Facts> {
        let member = self.find("manifest.json")?;
        let images: Vec<Saved> = parse(&self.text(member)?, &member.path, member.header)?;
        let mut image = Image::default();
        if let Some(first) = images.first() {
            image.tags.clone_from(first.repo_tags.as_ref().unwrap_or(&Vec::new()));
            if let Some(config) = &first.config {
                let config = self.find(config)?;
                image.config = parse(&self.text(config)?, &config.path, config.header)?;
                image.vouch(config, called(&config.path));
            }
            let ids = image.config.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.clone());
            for (index, name) in first.layers.iter().flatten().enumerate() {
                let layer = self.find(name)?;
                let id = ids.as_ref().and_then(|ids| ids.get(index));
                let said = match called(&layer.path) {
                    None => self.plain(layer)?.then(|| digest(id?)).flatten(),
                    called => called,
                };
                image.vouch(layer, said);
                image.layer(layer, Some("tar".to_string()), false, self.limits)?;
            }
        }
        let all = images.iter().flat_map(|image| image.repo_tags.iter().flatten());
        Ok(image.facts("docker", images.len() as u64, all.cloned().collect()))
    }

    /// Whether a layer is called as those are that were never compressed, and is not.
    fn plain(&self, layer: &Member) -> Result<bool> {
        let is = || Ok(Wrapper::of(&front(self.window, layer, 10, self.limits)?).is_none());
        if layer.path.ends_with("layer.tar") { is() } else { Ok(false) }
    }

    /// `index.json`, and what it leads to.
    fn oci(&self) -> Result<Facts> {
        let member = self.find("index.json")?;
        let index: Index = parse(&self.text(member)?, &member.path, member.header)?;
        let mut found = Found::default();
        let mut tags = Vec::new();
        let top = index.manifests.unwrap_or_default();
        for descriptor in &top {
            tags.extend(descriptor.tags().cloned());
        }
        self.manifests(top, MAX_DEPTH, &mut found)?;
        let found = found.images;
        let Some((first, digest, member)) = found.first() else {
            return Ok(Image::default().facts("oci", 0, tags));
        };
        let mut image = Image { tags: first.tags().cloned().collect(), ..Image::default() };
        image.vouch(member, Some(digest.clone()));
        let manifest: Manifest = parse(&self.text(member)?, &member.path, member.header)?;
        if let Some(config) = &manifest.config {
            let (digest, config) = self.blob(config, member.header)?;
            image.config = parse(&self.text(config)?, &config.path, config.header)?;
            image.vouch(config, Some(digest));
        }
        for layer in manifest.layers.iter().flatten() {
            let (digest, blob) = self.blob(layer, member.header)?;
            image.vouch(blob, Some(digest));
            image.layer(blob, layer.media_type.clone(), layer.is_disk(), self.limits)?;
        }
        Ok(image.facts("oci", found.len() as u64, tags))
    }

    /// The images that these descriptors lead to, as far as they are here: an index may tell of
    /// images for other machines that were left out.
    fn manifests<'b>(
        &'b self,
        descriptors: Vec<Descriptor>,
        depth: usize,
        found: &mut Found<'b>,
    ) -> Result<()> {
        for descriptor in descriptors {
            if found.seen == self.limits.max_entries {
                let most = self.limits.max_entries;
                return Err(Error::limit(format!("more than {most} images and indexes")));
            }
            found.seen += 1;
            let digest = descriptor.digest(0)?;
            if !self.members.contains_key(&blob(&digest)) {
                continue;
            }
            let (digest, member) = self.blob(&descriptor, 0)?;
            if !descriptor.is_index() {
                found.images.push((descriptor, digest, member));
                continue;
            }
            if depth == 0 {
                let what = format!("more than {MAX_DEPTH} indexes in each other");
                return Err(Error::limit(what).at(member.header));
            }
            let index: Index = parse(&self.text(member)?, &member.path, member.header)?;
            self.manifests(index.manifests.unwrap_or_default(), depth - 1, found)?;
        }
        Ok(())
    }

    /// A blob, and what it digests to.
    fn blob(&self, descriptor: &Descriptor, at: u64) -> Result<(Digest, &Member)> {
        let digest = descriptor.digest(at)?;
        let member = self.find(&blob(&digest))?;
        if member.size != descriptor.size {
            let (name, is, said) = (member.path.escape_debug(), member.size, descriptor.size);
            let what = format!("'{name}' has {is} bytes, and {said} are said of it");
            return Err(Error::malformed(member.header, what));
        }
        Ok((digest, member))
    }

    /// `repositories`, from before there were manifests.
    fn old(&self) -> Result<Facts> {
        let member = self.find("repositories")?;
        let all: Repositories = parse(&self.text(member)?, &member.path, member.header)?;
        let tags =
            all.iter().flat_map(|(name, tags)| tags.keys().map(move |tag| format!("{name}:{tag}")));
        let tags: Vec<_> = tags.collect();
        Ok(Image::default().facts("docker-1.0", tags.len() as u64, tags))
    }
}

impl Image {
    fn vouch(&mut self, member: &Member, digest: Option<Digest>) {
        let Some(digest) = digest else { return };
        let (name, stretches) = (member.path.clone(), Some(member.stretches.clone()));
        let vouch = Vouch { name, stretches, digest };
        // A layer may lie twice in one image.
        if !self.vouches.contains(&vouch) {
            self.vouches.push(vouch);
        }
    }

    fn layer(
        &mut self,
        member: &Member,
        format: Option<String>,
        is_disk: bool,
        limits: &Limits,
    ) -> Result<()> {
        if self.layers.len() >= limits.max_files {
            let most = limits.max_files;
            return Err(Error::limit(format!("more than {most} layers")));
        }
        let role = if is_disk { Role::Disk } else { Role::Layer };
        let mut layer = Reference::new(role, member.path.as_str());
        layer.format = format;
        let stretches = Some(member.stretches.clone());
        layer.held = Some(Held { stretches, ..Held::default() });
        self.layers.push(layer);
        Ok(())
    }

    /// What is told of the archive; `tags` are those of all its images.
    fn facts(self, variant: &'static str, images: u64, tags: Vec<String>) -> Facts {
        let mut facts = Facts::new("docker", variant, 0);
        let mut add = |name, value: Value| facts.details.push(Detail { name, value });
        add("images", Value::Number(images));
        if !tags.is_empty() {
            add("tags", Value::List(tags.into_iter().map(Value::Text).collect()));
        }
        add("layers", Value::Number(self.layers.len() as u64));
        for (name, value) in [("architecture", self.config.architecture), ("os", self.config.os)] {
            if let Some(value) = value {
                add(name, Value::Text(value));
            }
        }
        facts.references = self.layers;
        facts.vouches = self.vouches;
        facts
    }
}

/// The path that a link at `path` leads to; nothing that lies in the archive if it leads out.
fn beside(path: &str, to: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return "..".to_string();
                }
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
