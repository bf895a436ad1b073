//! What a conversion reads: a disk at any place, a disk that goes by, or bytes that go by.

use std::path::{Path, PathBuf};

use formats::{
    Algorithm, Caching, FORMATS, Format, Forward, Image, Input, Joined, Passing, Result, Way,
};

use crate::args::Opening;
use crate::input::{self, Digests};
use crate::policy;

/// What is read.
pub(crate) enum Origin {
    /// A disk.
    Disk(Disk),
    /// The bytes of a raw disk, of which nobody knows how many there are.
    Raw(Forward),
}

/// A disk to be read.
pub(crate) enum Disk {
    /// At any place, as often as one likes.
    Whole(Box<dyn Image>),
    /// From front to end, once.
    Passing(Passing),
}

impl Disk {
    /// The disk itself.
    pub(crate) fn image(&self) -> &dyn Image {
        match self {
            Disk::Whole(image) => &**image,
            Disk::Passing(passing) => passing.image(),
        }
    }

    /// Whether all was as it should be, to the end of what it was read from.
    pub(crate) fn finish(&self) -> Result<()> {
        match self {
            Disk::Whole(_) => Ok(()),
            Disk::Passing(passing) => passing.finish(),
        }
    }
}

/// What is wanted of the inputs.
pub(crate) struct Wants<'a> {
    /// Their format, if it is said.
    pub(crate) format: Option<&'a str>,
    /// Which internal snapshot.
    pub(crate) snapshot: Option<&'a str>,
    /// How their files are opened.
    pub(crate) caching: Caching,
    /// Digests of the first one, as it is stored.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Whether reading it once, from front to end, is enough.
    pub(crate) once: bool,
    /// Whether bytes are enough, whose number is not known.
    pub(crate) bytes: bool,
    /// Whether nothing is to be said but errors.
    pub(crate) quiet: bool,
}

/// Opens the inputs, behind each other if there are several.
pub(crate) fn open(
    paths: &[PathBuf],
    wants: &Wants,
    opening: &Opening,
) -> Result<(Origin, Digests)> {
    let format = wants.format.map(formats::format).transpose()?;
    let find = |path: &PathBuf, algorithms| {
        let found = input::find(path, format, opening, wants.caching, algorithms);
        found.map_err(|error| error.path(crate::remote::shown(path)))
    };
    let (first, rest) = paths.split_first().expect("the caller has one");
    let found = find(first, &wants.algorithms)?;
    if let ([], Input::Forward(_)) = (rest, &found.input)
        && wants.snapshot.is_none()
        && !opening.strict()
        && let Input::Forward(forward) = found.input
    {
        let origin = passing(first, forward, format, wants, opening)?;
        return Ok((origin, found.digests));
    }
    let digests = found.digests;
    let mut disks = vec![disk(first, found.input, &found.wrappers, format, wants, opening)?];
    for path in rest {
        let found = find(path, &[])?;
        disks.push(disk(path, found.input, &found.wrappers, format, wants, opening)?);
    }
    let disk: Box<dyn Image> = match disks.len() {
        1 => disks.remove(0),
        _ => Box::new(Joined::new(disks)?),
    };
    Ok((Origin::Disk(Disk::Whole(disk)), digests))
}

/// A disk that can be read at any place; what goes by is put aside first.
pub(crate) fn disk(
    path: &Path,
    input: Input,
    wrappers: &[formats::Wrapper],
    format: Option<&'static Format>,
    wants: &Wants,
    opening: &Opening,
) -> Result<Box<dyn Image>> {
    let source = policy::whole(input, wrappers, opening)?;
    let named = policy::known(path, source, format)?;
    let disk = policy::disk(path, &named, wants.snapshot, opening)?;
    if !wants.quiet {
        policy::tell_of_others(&named, opening)?;
    }
    Ok(disk)
}

/// What goes by, if it can be used as it does; else put aside first.
pub(crate) fn passing(
    path: &Path,
    forward: Forward,
    format: Option<&'static Format>,
    wants: &Wants,
    opening: &Opening,
) -> Result<Origin> {
    let shown = crate::remote::shown(path);
    let way = formats::way(forward, format, FORMATS, opening.disk, &opening.limits());
    let (forward, why) = match way.map_err(|error| error.path(shown))? {
        Way::Raw(forward) if wants.bytes => return Ok(Origin::Raw(forward)),
        Way::Disk(passing) if wants.once => return Ok(Origin::Disk(Disk::Passing(passing))),
        Way::Raw(forward) => (forward, "the output wants to know its size in advance"),
        Way::Disk(passing) => (passing.again()?, "the output is written in two goes"),
        Way::Aside(forward, why) => (forward, why),
    };
    let source = policy::spooled(forward, why, opening)?;
    let named = policy::known(path, source, format)?;
    let disk = policy::disk(path, &named, wants.snapshot, opening)?;
    Ok(Origin::Disk(Disk::Whole(disk)))
}
