//! From bytes to a disk, as far as the policy lets us.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Facts;
use crate::base::model::format::{Format, Links};
use crate::base::model::image::{Image, Stack};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Access, Caching, ImageFile, Source};

/// The policy. It alone turns a name into bytes; a room cannot even name it.
pub trait Resolver {
    /// The thing named, or `Refused`.
    fn resolve(&self, reference: &Reference) -> Result<Resolved>;
}

/// What a name turned out to be.
pub struct Resolved {
    /// Its bytes.
    pub source: Arc<dyn Source>,
    /// The policy for the names that it utters in turn.
    pub resolver: Arc<dyn Resolver>,
}

/// Follows nothing: the default.
pub struct Refuse;

impl Resolver for Refuse {
    fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let Reference { role, name, .. } = reference;
        Err(Error::refused(format!(
            "it refers to the {} '{}', which is not followed; --allow-refs allows files beside \
             it, --allow-refs=DIR files below DIR",
            role.name(),
            name.escape_debug()
        )))
    }
}

/// Follows names to regular files below one folder: no links, no devices, no protocols.
pub struct Beneath {
    root: Arc<OwnedFd>,
    /// The folder as it was given, made absolute: absolute names may begin with it.
    path: PathBuf,
    /// Where the image that utters names lies, below the root.
    inside: PathBuf,
    access: Access,
}

impl Beneath {
    /// Names below `root`, uttered by an image that lies in `folder`. `Io` if there is no such
    /// folder. Where `folder` is not below `root`, names count from `root`.
    pub fn new(root: &Path, folder: &Path, access: Access) -> Result<Beneath> {
        let fail = |error| Error::io("cannot open the folder", error).path(root);
        let path = root.canonicalize().map_err(fail)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
        let inside = folder.canonicalize().ok();
        let inside = inside.and_then(|folder| Some(folder.strip_prefix(&path).ok()?.to_path_buf()));
        Ok(Beneath { root: Arc::new(handle), path, inside: inside.unwrap_or_default(), access })
    }
}

impl Resolver for Beneath {
    fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let name = &reference.name;
        let shown = name.escape_debug();
        let refuse = |why: &str| {
            let role = reference.role.name();
            Error::refused(format!("the {role} '{shown}' is not followed: {why}"))
        };
        if names_a_protocol(name) {
            return Err(refuse("only names of files are"));
        }
        let path = name.strip_prefix("file:").map_or(Path::new(name), Path::new);
        let path = match path.strip_prefix(&self.path) {
            Ok(below) => below.to_path_buf(),
            Err(_) if path.is_absolute() => return Err(refuse("it lies outside the folder")),
            Err(_) => self.inside.join(path),
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&*self.root, &path, flags, Mode::empty(), resolve);
        let file = opened.map_err(|errno| match errno {
            rustix::io::Errno::XDEV => refuse("it leads outside the folder"),
            rustix::io::Errno::LOOP => refuse("a symbolic link is on the way"),
            other => Error::io(format!("cannot open '{shown}'"), other.into()),
        })?;
        let file = std::fs::File::from(file);
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return Err(refuse("it is not a regular file"));
        }
        let source =
            ImageFile::from_file(file, &self.path.join(&path), self.access, Caching::Writeback)?;
        let inside = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let resolver = Beneath {
            root: self.root.clone(),
            path: self.path.clone(),
            inside: without_dots(&inside),
            access: self.access,
        };
        Ok(Resolved { source: Arc::new(source), resolver: Arc::new(resolver) })
    }
}

/// `json:`, `nbd:` and the like. A colon behind a slash is part of a file's name.
fn names_a_protocol(name: &str) -> bool {
    let Some((front, _)) = name.split_once(':') else { return false };
    front != "file" && !front.contains('/')
}

/// The folder without `a/..`: it has been resolved, so nothing in it is a link.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    plain
}

/// How images are opened.
pub struct OpenOptions<'a> {
    /// The formats there are.
    pub formats: &'a [&'static Format],
    /// The policy for the names that the image utters.
    pub resolver: Arc<dyn Resolver>,
    /// What it may not push us past.
    pub limits: &'a Limits,
    /// Which of its snapshots to read, by name or identifier, instead of the current state.
    pub snapshot: Option<String>,
    /// The format of its backing file, where the image does not say: it is never guessed.
    pub backing_format: Option<&'static Format>,
}

impl<'a> OpenOptions<'a> {
    /// These formats within these limits, and no name followed.
    pub fn new(formats: &'a [&'static Format], limits: &'a Limits) -> OpenOptions<'a> {
        let resolver = Arc::new(Refuse);
        OpenOptions { formats, resolver, limits, snapshot: None, backing_format: None }
    }
}

/// One image of a chain.
pub struct Layer {
    /// The file it lies in.
    pub source: Arc<dyn Source>,
    /// What it says of itself.
    pub facts: Facts,
    format: &'static Format,
    data_file: Option<Arc<dyn Source>>,
}

/// The disk in a file of this format, with everything underneath that the policy allows.
///
/// Fails with `Refused` for a name that the policy does not follow, a backing file of unknown
/// format or one that is on the chain already; with `Limit` for too long a chain; and with what
/// the format's own opening fails with.
pub fn open(
    source: Arc<dyn Source>,
    format: &'static Format,
    options: &OpenOptions,
) -> Result<Box<dyn Image>> {
    let layers = chain(source, format, options)?;
    let mut images = Vec::new();
    for (depth, layer) in layers.into_iter().enumerate() {
        let snapshot = options.snapshot.clone().filter(|_| depth == 0);
        let path = layer.source.name();
        let links = Links { source: layer.source, data_file: layer.data_file, snapshot };
        let image = (layer.format.open)(links, options.limits);
        images.push(image.map_err(|e| e.format(layer.format.name).path(path))?);
    }
    Ok(if images.len() == 1 { images.remove(0) } else { Box::new(Stack::new(images)) })
}

/// An image and the images underneath, as far as the policy allows; the one on top first.
pub fn chain(
    source: Arc<dyn Source>,
    format: &'static Format,
    options: &OpenOptions,
) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut next = Some((source, format, options.resolver.clone()));
    while let Some((source, format, resolver)) = next.take() {
        let path = source.name();
        if layers.len() == options.limits.max_chain {
            let most = options.limits.max_chain;
            return Err(Error::limit(format!("more than {most} images on top of each other")));
        }
        let id = source.identity();
        if id.is_some() && layers.iter().any(|layer| layer.source.identity() == id) {
            return Err(Error::refused("it is its own backing file, by way of itself").path(path));
        }
        let layer = look(source, format, &*resolver, options.limits)
            .map_err(|e| e.format(format.name).path(&path))?;
        let backing = layer.facts.references.iter().find(|r| r.role == Role::Backing).cloned();
        if let Some(backing) = backing {
            let below = underneath(&backing, &*resolver, options);
            next = Some(below.map_err(|e| e.format(format.name).path(&path))?);
        }
        layers.push(layer);
    }
    Ok(layers)
}

fn look(
    source: Arc<dyn Source>,
    format: &'static Format,
    resolver: &dyn Resolver,
    limits: &Limits,
) -> Result<Layer> {
    let facts = (format.inspect)(&*source, limits)?;
    if facts.disk_size > limits.max_disk_size {
        let (size, most) = (facts.disk_size, limits.max_disk_size);
        return Err(Error::limit(format!("a disk of {size} bytes, {most} at most")));
    }
    if facts.encrypted {
        return Err(Error::unsupported("its content is encrypted, and there is no key for it"));
    }
    let data_file = facts.references.iter().find(|r| r.role == Role::DataFile);
    let data_file = data_file.map(|reference| resolver.resolve(reference)).transpose()?;
    let data_file = data_file.map(|resolved| resolved.source);
    Ok(Layer { source, facts, format, data_file })
}

type Below = (Arc<dyn Source>, &'static Format, Arc<dyn Resolver>);

fn underneath(
    backing: &Reference,
    resolver: &dyn Resolver,
    options: &OpenOptions,
) -> Result<Below> {
    let resolved = resolver.resolve(backing)?;
    let named = backing.format.as_deref();
    let known = |name: &str| {
        let is = |format: &&&'static Format| format.name == name || format.aliases.contains(&name);
        options.formats.iter().find(is).copied().ok_or_else(|| {
            let name = name.escape_debug();
            Error::unsupported(format!("its backing file is of the format '{name}', unknown here"))
        })
    };
    let format = match (named, options.backing_format) {
        (Some(name), _) => known(name)?,
        (None, Some(stated)) => stated,
        (None, None) => {
            return Err(Error::refused(
                "it does not say of which format its backing file is, and that is never guessed; \
                 --backing-format states it",
            ));
        }
    };
    Ok((resolved.source, format, resolved.resolver))
}
