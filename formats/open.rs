//! From bytes to a disk, as far as the policy lets us.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::Facts;
use crate::base::model::finding::{Finding, Severity};
use crate::base::model::format::{Format, Links};
use crate::base::model::image::{Image, Stack};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Access, Caching, ImageFile, Source};
use crate::container;

/// The policy. It alone turns a name into bytes; a room cannot even name it.
pub trait Resolver: Send + Sync {
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
        if name.is_empty() {
            return Err(unnamed(*role));
        }
        Err(Error::refused(format!(
            "it refers to the {} '{}', which is not followed; --allow-refs allows files beside \
             it, --allow-refs=DIR files below DIR",
            role.name(),
            name.escape_debug()
        )))
    }
}

/// An image that knows that there is another one, and not where.
fn unnamed(role: Role) -> Error {
    let hint = if role == Role::Backing { "; --parent FILE says it" } else { "" };
    Error::refused(format!("it has a {} and does not say which{hint}", role.name()))
}

/// Files that the caller names as the images underneath, in their order; for any other name it
/// asks the policy of the image that utters it.
pub struct Given {
    /// The images underneath, the next one first, each with the policy for the names in it.
    pub parents: Vec<(Arc<dyn Source>, Arc<dyn Resolver>)>,
    /// The policy for the names in this image.
    pub policy: Arc<dyn Resolver>,
}

impl Resolver for Given {
    fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        match self.parents.split_first() {
            Some(((source, policy), rest)) if reference.role == Role::Backing => {
                let below = Given { parents: rest.to_vec(), policy: policy.clone() };
                Ok(Resolved { source: source.clone(), resolver: Arc::new(below) })
            }
            _ => self.policy.resolve(reference),
        }
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
        if name.is_empty() {
            return Err(unnamed(reference.role));
        }
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
        let unseen = |error| Error::io(format!("cannot look at '{shown}'"), error);
        if !file.metadata().map_err(unseen)?.is_file() {
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
#[derive(Clone)]
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
    /// Which of the disks that a container holds, from 1 on; the first if not said.
    pub disk: Option<usize>,
    /// Whether an image is refused in which its check finds a corruption.
    pub strict: bool,
}

impl<'a> OpenOptions<'a> {
    /// These formats within these limits, and no name followed.
    pub fn new(formats: &'a [&'static Format], limits: &'a Limits) -> OpenOptions<'a> {
        let resolver = Arc::new(Refuse);
        let (snapshot, backing_format, disk) = (None, None, None);
        OpenOptions { formats, resolver, limits, snapshot, backing_format, disk, strict: false }
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
    extents: Vec<Arc<dyn Source>>,
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
    if format.holds_disks {
        let facts = (format.inspect)(&*source, options.limits);
        let image = facts.and_then(|facts| container::open_inside(&source, &facts, options));
        return image.map_err(|error| error.format(format.name).path(source.name()));
    }
    let layers = chain(source, format, options)?;
    let mut images = Vec::new();
    for (depth, layer) in layers.into_iter().enumerate() {
        let snapshot = options.snapshot.clone().filter(|_| depth == 0);
        let Layer { source, format, data_file, extents, .. } = layer;
        let path = source.name();
        let links = Links { source, data_file, extents, snapshot };
        let sound = if options.strict { sound(format, &links, options.limits) } else { Ok(()) };
        let unread = || Error::unsupported("images of this format are described, and not read");
        let open = format.open.ok_or_else(unread);
        let image = sound.and(open).and_then(|open| open(links, options.limits));
        images.push(image.map_err(|e| e.format(format.name).path(path))?);
    }
    Ok(if images.len() == 1 { images.remove(0) } else { Box::new(Stack::new(images)) })
}

/// `Refused` if the check of an image finds a corruption.
fn sound(format: &Format, links: &Links, limits: &Limits) -> Result<()> {
    let Some(check) = format.check else { return Ok(()) };
    let mut first = None;
    let mut find = |finding: Finding| {
        if finding.severity != Severity::Leak && first.is_none() {
            first = Some(finding);
        }
    };
    check(links.clone(), limits, &mut find)?;
    match first {
        None => Ok(()),
        Some(finding) => {
            let what = format!("not sound, and only sound images are wanted: {}", finding.what);
            Err(Error::refused(what).at(finding.at))
        }
    }
}

/// An image with the files that its own disk lies in, and without what lies underneath: what a
/// check looks at. `Refused` for a name that the policy does not follow.
pub fn links(
    source: Arc<dyn Source>,
    format: &'static Format,
    options: &OpenOptions,
) -> Result<Links> {
    let facts = (format.inspect)(&*source, options.limits)?;
    let extents = extents(&facts, &*options.resolver, options.limits)?;
    Ok(Links { extents, ..Links::alone(source) })
}

/// An image and the images underneath, as far as the policy allows; the one on top first.
pub fn chain(
    source: Arc<dyn Source>,
    format: &'static Format,
    options: &OpenOptions,
) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut next = Some((source, format, options.resolver.clone()));
    let mut expects = Vec::new();
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
            .and_then(|layer| expected(&layer.facts, &expects).map(|()| layer))
            .map_err(|e| e.format(format.name).path(&path))?;
        let backing = layer.facts.references.iter().find(|r| r.role == Role::Backing).cloned();
        if let Some(backing) = backing {
            let below = underneath(&backing, &*resolver, options);
            next = Some(below.map_err(|e| e.format(format.name).path(&path))?);
            expects = backing.expects;
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
    let extents = extents(&facts, resolver, limits)?;
    Ok(Layer { source, facts, format, data_file, extents })
}

/// The files that the disk of an image lies in, as the policy gives them; each is opened once.
fn extents(
    facts: &Facts,
    resolver: &dyn Resolver,
    limits: &Limits,
) -> Result<Vec<Arc<dyn Source>>> {
    let mut opened: HashMap<&str, Arc<dyn Source>> = HashMap::new();
    let mut extents = Vec::new();
    for reference in facts.references.iter().filter(|r| r.role == Role::Extent) {
        if !opened.contains_key(&*reference.name) {
            if opened.len() == limits.max_files {
                let most = limits.max_files;
                return Err(Error::limit(format!("its disk lies in more than {most} files")));
            }
            opened.insert(&reference.name, resolver.resolve(reference)?.source);
        }
        extents.push(opened[&*reference.name].clone());
    }
    Ok(extents)
}

/// `Refused` if an image is not the one that the image on top of it was made for.
fn expected(facts: &Facts, expects: &[String]) -> Result<()> {
    if expects.is_empty() || facts.identity.as_ref().is_some_and(|is| expects.contains(is)) {
        return Ok(());
    }
    let is = facts.identity.as_deref().unwrap_or("unknown").escape_debug();
    let wanted = expects.join(" or ");
    let wanted = wanted.escape_debug();
    Err(Error::refused(format!(
        "it is not what the image on top of it was made for, or has been changed since: its \
         identity is {is}, and {wanted} is wanted"
    )))
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
