//! Disks that lie in a container: a whole image inside an archive, or beside a descriptor.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::model::entry::{Held, Stretch};
use crate::base::model::extent::{Extent, Place};
use crate::base::model::facts::Facts;
use crate::base::model::image::{Image, Promise};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Pieces, Source};
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
    let number = options.disk.unwrap_or(1);
    let Some(chosen) = number.checked_sub(1).and_then(|index| all.get(index)) else {
        return Err(match all.len() {
            0 => Error::unsupported("it holds no disk"),
            count => Error::invalid(format!("there is no disk {number}: it holds {count}")),
        });
    };
    let none = Held::default();
    let held = chosen.held.as_ref().unwrap_or(&none);
    let outer: Arc<dyn Resolver> = options.resolver.clone();
    let (content, inner) = content(source, chosen, held, &outer)?;
    let size = held.capacity;
    let image = match content.len() {
        0 => blank(size)?,
        _ => image(content, options, inner).and_then(|image| grown(image, size))?,
    };
    let promises = promises(source, facts, chosen)?;
    Ok(Box::new(Contained { image, promises }))
}

type Content = (Arc<dyn Source>, Arc<dyn Resolver>);

/// The bytes of a disk's image, and the policy for names in it: inside an archive none is
/// followed.
fn content(
    source: &Arc<dyn Source>,
    chosen: &Reference,
    held: &Held,
    policy: &Arc<dyn Resolver>,
) -> Result<Content> {
    if let Some(stretches) = &held.stretches {
        let inside = inside(source, &chosen.name, stretches)?;
        return Ok((inside, Arc::new(Refuse)));
    }
    if held.parts.is_empty() {
        let resolved = policy.resolve(chosen)?;
        return Ok((resolved.source, resolved.resolver));
    }
    let mut pieces = Pieces::new(chosen.name.as_str());
    for part in &held.parts {
        let part = Reference::new(chosen.role, part.as_str());
        let source = policy.resolve(&part)?.source;
        pieces.add(Some((&source, 0)), source.len())?;
    }
    Ok((Arc::new(pieces), Arc::new(Refuse)))
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

/// The disk of an image that lies inside: of what format it is, its bytes say.
fn image(
    content: Arc<dyn Source>,
    options: &OpenOptions,
    resolver: Arc<dyn Resolver>,
) -> Result<Box<dyn Image>> {
    let name = content.name();
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
