//! Disks that lie in a container: a whole image inside an archive, or beside a descriptor.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::manifest;
use crate::base::model::entry::{Held, Stretch};
use crate::base::model::extent::{Extent, Place};
use crate::base::model::facts::Facts;
use crate::base::model::image::{Image, Promise};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Pieces, Source, Span, Window};
use crate::intake::unwrapped;
use crate::layers;
use crate::open::{OpenOptions, Refuse, Resolver, open};
use crate::probe::probe;

/// The disks that a container holds, as its facts name them.
pub fn disks(facts: &Facts) -> Vec<&Reference> {
    facts.references.iter().filter(|reference| reference.role == Role::Disk).collect()
}

/// Opens one of the disks that a container holds: the one that the options ask for, or the first.
pub(crate) fn open_inside(
    source: &Arc<dyn Source>,
    facts: &Facts,
    options: &OpenOptions,
) -> Result<Box<dyn Image>> {
    let all = disks(facts);
    if all.is_empty() {
        return in_layers(source, facts, options);
    }
    let chosen = choose(&all, options.disk)?;
    let none = Held::default();
    let held = chosen.held.as_ref().unwrap_or(&none);
    if let Some((kind, what)) = &held.lacks {
        return Err(Error::new(*kind, what.clone()));
    }
    let outer: Arc<dyn Resolver> = options.resolver.clone();
    let Content { whole, parts, resolver } = content(source, chosen, held, &outer)?;
    // A file of another size than the descriptor says is not the one that it describes.
    let described = held.size.is_none_or(|size| size == whole.len());
    let size = held.capacity.filter(|_| described);
    let image = match whole.len() {
        0 => blank(size)?,
        _ => image(whole, options, resolver).and_then(|image| grown(image, size))?,
    };
    let mut promises = promises(source, facts, chosen)?;
    if !parts.is_empty() {
        promises.extend(beside(source, &parts, outer.as_ref(), options.limits)?);
    }
    Ok(Box::new(Contained { image, promises }))
}

/// The one that is asked for, counted from 1 on, or the first.
fn choose<T>(all: &[T], number: Option<usize>) -> Result<&T> {
    let number = number.unwrap_or(1);
    let chosen = number.checked_sub(1).and_then(|index| all.get(index));
    chosen.ok_or_else(|| match all.len() {
        0 => Error::unsupported("it holds no disk"),
        count => Error::invalid(format!("there is no disk {number}: it holds {count}")),
    })
}

/// A disk that lies as a file in the layers of a container image.
fn in_layers(
    source: &Arc<dyn Source>,
    facts: &Facts,
    options: &OpenOptions,
) -> Result<Box<dyn Image>> {
    let files = layers::disks(source, facts, options.formats, options.limits)?;
    let content = choose(&files, options.disk)?;
    let chosen = Reference::new(Role::Disk, content.name());
    let image = image(content.clone(), options, Arc::new(Refuse))?;
    let promises = promises(source, facts, &chosen)?;
    Ok(Box::new(Contained { image, promises }))
}

/// The bytes of a disk's image.
struct Content {
    whole: Arc<dyn Source>,
    /// The files beside the container that they come from, by their names.
    parts: Vec<(String, Arc<dyn Source>)>,
    resolver: Arc<dyn Resolver>,
}

/// The bytes of a disk's image, and the policy for names in it: inside an archive none is
/// followed.
fn content(
    source: &Arc<dyn Source>,
    chosen: &Reference,
    held: &Held,
    policy: &Arc<dyn Resolver>,
) -> Result<Content> {
    if let Some(stretches) = &held.stretches {
        let whole = inside(source, &chosen.name, stretches)?;
        return Ok(Content { whole, parts: Vec::new(), resolver: Arc::new(Refuse) });
    }
    if held.parts.is_empty() {
        let resolved = policy.resolve(chosen)?;
        let parts = vec![(chosen.name.clone(), resolved.source.clone())];
        return Ok(Content { whole: resolved.source, parts, resolver: resolved.resolver });
    }
    let mut pieces = Pieces::new(chosen.name.as_str());
    let mut parts = Vec::new();
    for part in &held.parts {
        let source = policy.resolve(&Reference::new(chosen.role, part.as_str()))?.source;
        pieces.add(Some((&source, 0)), source.len())?;
        parts.push((part.clone(), source));
    }
    if let Some(size) = held.size.filter(|size| *size != pieces.len()) {
        let (count, is) = (parts.len(), pieces.len());
        let what = format!("its {count} chunks have {is} bytes, and {size} are said");
        return Err(Error::malformed(0, what).path(&chosen.name));
    }
    Ok(Content { whole: Arc::new(pieces), parts, resolver: Arc::new(Refuse) })
}

/// What a manifest beside a descriptor promises of it and of the files that were opened. None if
/// there is no manifest, or the policy does not follow its name.
fn beside(
    source: &Arc<dyn Source>,
    parts: &[(String, Arc<dyn Source>)],
    policy: &dyn Resolver,
    limits: &Limits,
) -> Result<Vec<Promise>> {
    let path = PathBuf::from(source.name());
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = path.with_extension("mf");
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(found) = policy.resolve(&Reference::new(Role::Disk, name)) else {
        return Ok(Vec::new());
    };
    let (window, name) = (&*found.source as &dyn Window, found.source.name());
    let span = Span::new(0, found.source.len())?;
    let bytes = window.bytes(span, "the manifest", limits);
    let lines = bytes.and_then(|bytes| manifest::parse(&bytes, limits));
    let mut promises = Vec::new();
    for line in lines.map_err(|error| error.path(name))? {
        let part = parts.iter().find(|(name, _)| *name == line.name).map(|(_, source)| source);
        let this = own.as_ref() == Some(&line.name);
        if let Some(source) = part.or_else(|| this.then_some(source)) {
            promises.push(Promise { source: source.clone(), digest: line.digest });
        }
    }
    Ok(promises)
}

/// A file inside another: its stretches, as a source of its own.
///
/// `Truncated` if the outer file ends before they do.
pub fn inside(
    source: &Arc<dyn Source>,
    name: &str,
    stretches: &[Stretch],
) -> Result<Arc<dyn Source>> {
    let mut pieces = Pieces::new(name);
    for stretch in stretches {
        pieces.add(stretch.offset.map(|offset| (source, offset)), stretch.len)?;
    }
    Ok(Arc::new(pieces))
}

/// The disk of an image that lies inside, perhaps compressed: of what format it is, its bytes say.
fn image(
    content: Arc<dyn Source>,
    options: &OpenOptions,
    resolver: Arc<dyn Resolver>,
) -> Result<Box<dyn Image>> {
    let name = content.name();
    let content = unwrapped(content, options.formats, options.limits)?;
    let format = probe(options.formats, &*content)?;
    if format.open.is_none() {
        let what = format!("it is {}, and only disks are looked for here", format.name);
        return Err(Error::unsupported(what).path(name));
    }
    let inner = OpenOptions { resolver, disk: None, snapshot: None, ..options.clone() };
    open(content, format, &inner)
}

fn blank(size: Option<u64>) -> Result<Box<dyn Image>> {
    let size = size.ok_or_else(|| Error::unsupported("a disk without an image and a size"))?;
    Ok(Box::new(Grown { image: None, size, files: Vec::new() }))
}

/// The disk with zeros behind it, up to the size that the container says.
pub(crate) fn grown(image: Box<dyn Image>, size: Option<u64>) -> Result<Box<dyn Image>> {
    let is = image.disk_size();
    match size {
        None => Ok(image),
        Some(size) if size == is => Ok(image),
        Some(size) if size < is => {
            let what = format!("the container says {size} bytes of a disk that has {is}");
            Err(Error::malformed(0, what))
        }
        Some(size) => {
            let files = image.files().to_vec();
            Ok(Box::new(Grown { image: Some(image), size, files }))
        }
    }
}

/// What the container promises of the files that the chosen disk is read from, and of those that
/// describe it.
fn promises(source: &Arc<dyn Source>, facts: &Facts, chosen: &Reference) -> Result<Vec<Promise>> {
    let disks = disks(facts);
    let others = disks.iter().filter(|other| other.name != chosen.name);
    let others: Vec<_> = others.flat_map(|other| names(other)).collect();
    let wanted: Vec<_> = names(chosen).collect();
    let mut promises = Vec::new();
    for vouch in &facts.vouches {
        let Some(stretches) = &vouch.stretches else { continue };
        if others.contains(&&*vouch.name) && !wanted.contains(&&*vouch.name) {
            continue;
        }
        let source = inside(source, &vouch.name, stretches)?;
        promises.push(Promise { source, digest: vouch.digest.clone() });
    }
    Ok(promises)
}

fn names(reference: &Reference) -> impl Iterator<Item = &str> {
    let parts = reference.held.iter().flat_map(|held| held.parts.iter().map(String::as_str));
    std::iter::once(&*reference.name).chain(parts)
}

/// A disk with promises of what its bytes digest to.
struct Contained {
    image: Box<dyn Image>,
    promises: Vec<Promise>,
}

impl Image for Contained {
    fn disk_size(&self) -> u64 {
        self.image.disk_size()
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        self.image.extents(start, out)
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        self.image.files()
    }

    fn promises(&self) -> &[Promise] {
        &self.promises
    }
}

/// A disk with zeros behind it, or all zeros.
struct Grown {
    image: Option<Box<dyn Image>>,
    size: u64,
    files: Vec<Arc<dyn Source>>,
}

impl Image for Grown {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        match &self.image {
            Some(image) if start < image.disk_size() => image.extents(start, out),
            _ => {
                let place = Place::Hole;
                out.push(Extent { start, len: self.size - start, place, depth: 0 });
                Ok(())
            }
        }
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}
