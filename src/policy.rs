//! Flags become a Resolver, and paths become disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{
    Beneath, Caching, Error, FORMATS, Format, Forward, Given, Image, ImageFile, Input, Limits,
    OpenOptions, Refuse, Resolver, Result, Source, Wrapper,
};

use crate::args::Opening;
use crate::input;
use crate::progress::Progress;
use crate::remote;
use crate::report::{escape, note};

/// What was named on the command line, and its format.
pub(crate) struct Named {
    /// Its bytes.
    pub(crate) source: Arc<dyn Source>,
    /// Its format: stated, or found out.
    pub(crate) format: &'static Format,
}

/// Opens what was named, through the compression around it; finds its format unless one was
/// stated. What goes by only once is put into a temporary file first, and that is said.
pub(crate) fn named(
    path: &Path,
    format: Option<&str>,
    opening: &Opening,
    caching: Caching,
) -> Result<Named> {
    let format = format.map(formats::format).transpose()?;
    let found = input::find(path, format, opening, caching, &[]);
    let source = found.and_then(|found| whole(found.input, &found.wrappers, opening));
    known(path, source.map_err(|error| error.path(remote::shown(path)))?, format)
}

/// Opens a file as it is, without a look at what may be inside.
pub(crate) fn file(
    path: &Path,
    format: Option<&str>,
    opening: &Opening,
    caching: Caching,
) -> Result<Named> {
    let format = format.map(formats::format).transpose()?;
    known(path, Arc::new(ImageFile::open(path, opening.access(), caching)?), format)
}

/// These bytes, with their format.
pub(crate) fn known(
    path: &Path,
    source: Arc<dyn Source>,
    format: Option<&'static Format>,
) -> Result<Named> {
    let format = match format {
        Some(format) => format,
        None => formats::probe(FORMATS, &*source).map_err(|e| e.path(remote::shown(path)))?,
    };
    // What is at its end may be missing by now: then it looks like another format.
    source.still_whole()?;
    Ok(Named { source, format })
}

/// Bytes that can be read at any place.
pub(crate) fn whole(
    input: Input,
    wrappers: &[Wrapper],
    opening: &Opening,
) -> Result<Arc<dyn Source>> {
    match input {
        Input::Whole(source) => Ok(source),
        Input::Forward(forward) => {
            let why = match wrappers.last() {
                Some(wrapper) => format!("its {} has no index", wrapper.name()),
                None => "it goes by only once".into(),
            };
            spooled(forward, &why, opening)
        }
    }
}

/// Puts bytes that go by into a temporary file, and says why.
pub(crate) fn spooled(forward: Forward, why: &str, opening: &Opening) -> Result<Arc<dyn Source>> {
    let name = escape(&forward.name);
    note(&format!("diskwright: {name}: read into a temporary file first, for {why}"));
    formats::spool(forward, &opening.limits(), &Progress::new(false))
}

/// The policy for the names that the image at `path` utters.
pub(crate) fn resolver(path: &Path, opening: &Opening) -> Result<Arc<dyn Resolver>> {
    let policy = followed(path, opening)?;
    if opening.parents.is_empty() {
        return Ok(policy);
    }
    let parent = |path: &PathBuf| {
        let source = ImageFile::open(path, opening.access(), Caching::Writeback)?;
        Ok((Arc::new(source) as Arc<dyn Source>, followed(path, opening)?))
    };
    let parents = opening.parents.iter().map(parent).collect::<Result<_>>()?;
    Ok(Arc::new(Given { parents, policy }))
}

/// As far as names are followed that nobody gave.
fn followed(path: &Path, opening: &Opening) -> Result<Arc<dyn Resolver>> {
    let folder = folder(path);
    let allowed = opening.allow_refs.as_ref().filter(|_| !opening.untrusted);
    Ok(match allowed {
        None => Arc::new(Refuse),
        Some(None) => Arc::new(Beneath::new(folder, folder, opening.access())?),
        Some(Some(dir)) => Arc::new(Beneath::new(dir, folder, opening.access())?),
    })
}

/// The folder that a file lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How the image at `path` is opened.
pub(crate) fn open_options<'a>(
    path: &Path,
    opening: &Opening,
    limits: &'a Limits,
) -> Result<OpenOptions<'a>> {
    let mut options = OpenOptions::new(FORMATS, limits);
    options.resolver = resolver(path, opening)?;
    options.strict = opening.strict();
    options.disk = opening.disk;
    options.backing_format = opening.backing_format.as_deref().map(formats::format).transpose()?;
    Ok(options)
}

/// The disk in a file, with everything underneath that the flags allow.
pub(crate) fn disk(
    path: &Path,
    named: &Named,
    snapshot: Option<&str>,
    opening: &Opening,
) -> Result<Box<dyn Image>> {
    let limits = opening.limits();
    let mut options = open_options(path, opening, &limits)?;
    options.snapshot = snapshot.map(str::to_owned);
    formats::open(named.source.clone(), named.format, &options).map_err(|error| error.path(path))
}

/// Says that a container holds more disks than the one that is read, if nobody said which.
pub(crate) fn tell_of_others(named: &Named, opening: &Opening) -> Result<()> {
    if opening.disk.is_some() || named.format.open.is_some() {
        return Ok(());
    }
    let facts = (named.format.inspect)(&*named.source, &opening.limits())?;
    if let [first, _, ..] = formats::disks(&facts)[..] {
        let (count, first) = (formats::disks(&facts).len(), escape(&first.name));
        note(&format!(
            "diskwright: it holds {count} disks, and this is the first, '{first}'; --disk N reads \
             another one, a folder as output takes all"
        ));
    }
    Ok(())
}

/// `Invalid` if the output is one of these files that will be read: it would be lost.
pub(crate) fn is_none_of<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<()> {
    let files = inputs.into_iter().map(|input| formats::Output::occupant(input));
    is_elsewhere(output, files)
}

/// `Invalid` if the output is one of the files that are read: it would be lost.
pub(crate) fn not_an_input(output: &Path, inputs: &[Arc<dyn Source>]) -> Result<()> {
    is_elsewhere(output, inputs.iter().map(|input| input.identity()))
}

fn is_elsewhere(output: &Path, mut files: impl Iterator<Item = Option<(u64, u64)>>) -> Result<()> {
    let there = formats::Output::occupant(output);
    if there.is_some() && files.any(|file| file == there) {
        return Err(Error::invalid("the output is also an input").path(output));
    }
    Ok(())
}
