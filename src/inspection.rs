//! A look at what was named: a file in the same light as a stream.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use contents::{Budget, Contents};
use formats::{
    Algorithm, Caching, Digest, Error, FORMATS, Facts, Finding, Format, Forward, Hazard,
    HazardKind, Ingest, Input, Kind, Limits, Links, OpenOptions, Reference, Result, Severity,
    Source, Survey, Verdict, Wrapper,
};
use metadata::{Findings, Metadata};

use crate::args::Opening;
use crate::input::{self, Found};
use crate::policy;
use crate::remote;

/// What a look brings.
pub(crate) struct Inspection {
    /// What the image says of itself, with what is wrong about it.
    pub(crate) facts: Facts,
    /// Every format that the bytes match; `raw` only if no other does.
    pub(crate) formats: Vec<&'static str>,
    /// The compression around it, the outermost first.
    pub(crate) wrappers: Vec<Wrapper>,
    /// How long the file is, inside that compression; of a stream, how much of it has gone by.
    pub(crate) len: u64,
    /// How much room it takes where it lies, as far as that is known.
    pub(crate) stored: Option<u64>,
    /// The bytes inside, where they can be read once more.
    pub(crate) source: Option<Arc<dyn Source>>,
    /// Digests of what was named, as it is stored.
    pub(crate) digests: Vec<Digest>,
}

impl Inspection {
    /// What lies on the disk, read through the image; a sentence if nobody looked.
    pub(crate) fn contents(
        &self,
        path: &Path,
        opening: &Opening,
    ) -> Result<std::result::Result<Contents, String>> {
        let Some(source) = &self.source else {
            return Ok(Err("the disk was not looked into: it went by only once".into()));
        };
        let format = formats::format(self.facts.format)?;
        if format.open.is_none() && !format.holds_disks {
            let name = format.name;
            return Ok(Err(format!("the disk was not looked into: {name} is not read here")));
        }
        let limits = opening.limits();
        let options = policy::open_options(path, opening, &limits)?;
        let looked = formats::open(source.clone(), format, &options)
            .and_then(|disk| contents::look(disk.into(), &Budget::default()));
        // What is cut short meanwhile is no damage of the image.
        source.still_whole()?;
        match looked {
            Err(error) if matches!(error.kind(), Kind::Io | Kind::Cancelled) => Err(error),
            // Its hazards say which.
            Err(error) if error.kind() == Kind::Refused && !self.facts.references.is_empty() => {
                Ok(Err("the disk was not looked into: it needs other files".into()))
            }
            Err(error) => Ok(Err(format!("the disk was not looked into: {error}"))),
            Ok(contents) => Ok(Ok(contents)),
        }
    }

    /// All that is known of what is named `path`, as one record; with `explain`, where each
    /// property came from.
    pub(crate) fn metadata(
        &self,
        path: &Path,
        opening: &Opening,
        explain: bool,
    ) -> Result<Metadata> {
        let contents = self.contents(path, opening)?;
        let findings = Findings {
            filename: remote::shown(path).to_string_lossy().into_owned(),
            facts: &self.facts,
            formats: &self.formats,
            wrappers: self.wrappers.iter().map(|wrapper| wrapper.name()).collect(),
            len: self.len,
            stored: self.stored,
            digests: &self.digests,
            contents: contents.as_ref().map_err(Clone::clone),
        };
        Ok(Metadata::of(findings, explain))
    }

    /// Looks at what is named `path`, which has to be of the format that is stated, if one is.
    pub(crate) fn of(
        path: &Path,
        stated: Option<&'static Format>,
        opening: &Opening,
        algorithms: &[Algorithm],
    ) -> Result<Inspection> {
        let found = input::find(path, stated, opening, Caching::Writeback, algorithms);
        let looked = found.and_then(|found| Inspection::inside(found, stated, opening));
        looked.map_err(|error| error.path(remote::shown(path)))
    }

    /// Looks at what was found.
    pub(crate) fn inside(
        found: Found,
        stated: Option<&'static Format>,
        opening: &Opening,
    ) -> Result<Inspection> {
        let limits = opening.limits();
        look(found, stated, opening, &limits)
    }
}

fn look(
    found: Found,
    stated: Option<&'static Format>,
    opening: &Opening,
    limits: &Limits,
) -> Result<Inspection> {
    let early = !found.digests.are_wanted();
    let (wrappers, digesting) = (found.wrappers, found.digests.begin());
    let mut inspection = match found.input {
        Input::Whole(source) => {
            let (facts, formats) = whole(&source, stated, opening)?;
            let stored =
                source.stored().map_err(|error| Error::io("cannot tell its size", error))?;
            let len = source.len();
            let digests = Vec::new();
            Inspection { facts, formats, wrappers, len, stored, source: Some(source), digests }
        }
        Input::Forward(forward) => {
            // Digests are of all of it, whatever is found on the way.
            let (facts, len) = stream(forward, stated, limits, early)?;
            fits(&facts, limits)?;
            let formats = vec![facts.format];
            let digests = Vec::new();
            Inspection { facts, formats, wrappers, len, stored: None, source: None, digests }
        }
    };
    inspection.digests = digesting.finish()?;
    Ok(inspection)
}

/// What a file is, that can be read at any place, and every format that it matches.
pub(crate) fn whole(
    source: &Arc<dyn Source>,
    stated: Option<&'static Format>,
    opening: &Opening,
) -> Result<(Facts, Vec<&'static str>)> {
    let limits = opening.limits();
    let (mut facts, formats) = file(&**source, stated, &limits)?;
    if opening.strict() {
        check(source.clone(), &mut facts, &limits)?;
    }
    fits(&facts, &limits)?;
    Ok((facts, formats))
}

/// `Limit` if the disk is larger than it may be: nobody could open it.
fn fits(facts: &Facts, limits: &Limits) -> Result<()> {
    let (size, most) = (facts.disk_size, limits.max_disk_size);
    if size > most {
        let what = format!("a disk of {size} bytes, {most} at most");
        return Err(Error::limit(what).format(facts.format));
    }
    Ok(())
}

/// What goes by is looked at as it does. Returns how many bytes that were, too. `early`: nobody
/// needs the rest of what is known to be dangerous.
pub(crate) fn stream(
    mut forward: Forward,
    stated: Option<&'static Format>,
    limits: &Limits,
    early: bool,
) -> Result<(Facts, u64)> {
    let formats = stated.as_ref().map_or(FORMATS, std::slice::from_ref);
    let mut ingest = Ingest::new(formats, limits.clone());
    let (mut chunk, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match forward.bytes.read(&mut chunk) {
            Ok(0) => return Ok((ingest.finish()?, total)),
            Ok(len) => {
                total += len as u64;
                match ingest.push(&chunk[..len])? {
                    Verdict::Known(facts) if early && !facts.hazards.is_empty() => {
                        return Ok((Arc::unwrap_or_clone(facts), total));
                    }
                    Verdict::Known(_) | Verdict::Undecided => {}
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("cannot read", error)),
        }
    }
}

/// A file is looked at in the same light as a stream: what looks like another container, or like
/// two, is said, and what was stated has to be so. Returns every format that it matches, too.
fn file(
    source: &dyn Source,
    stated: Option<&'static Format>,
    limits: &Limits,
) -> Result<(Facts, Vec<&'static str>)> {
    let found = formats::matches(FORMATS, source)?;
    let format = match stated {
        Some(format) if found.iter().any(|other| other.name == format.name) => format,
        Some(format) => {
            let what = format!("it is not {}", format.name);
            return Err(Error::new(Kind::Malformed, what).format(format.name));
        }
        None => match formats::probe(FORMATS, source) {
            Err(error) if error.kind() == Kind::Unsupported => formats::format("raw")?,
            other => other?,
        },
    };
    let mut facts = (format.inspect)(source, limits).map_err(|error| error.format(format.name))?;
    if stated.is_none()
        && format.name == "raw"
        && let Some(name) = formats::foreign(source)?
    {
        let what = format!("it looks like {name}, which is not read yet");
        facts.hazards.push(Hazard { kind: HazardKind::Foreign, what });
    }
    let mut names: Vec<_> = found.iter().map(|format| format.name).collect();
    if names.len() > 1 {
        names.retain(|name| *name != "raw");
    }
    Ok((facts, names))
}

/// What a check finds is a hazard, too: two views of one image may differ where it is unsound. The
/// disk has to be all there and within its budgets, and the files inside such that they can be
/// listed. Images that need other files are hazards without a look.
fn check(source: Arc<dyn Source>, facts: &mut Facts, limits: &Limits) -> Result<()> {
    let format = formats::format(facts.format)?;
    if let Some(entries) = format.entries {
        match entries(&*source, limits, &mut |_| Ok(())) {
            // A volume whose files are not read here is a disk all the same.
            Err(error) if error.kind() == Kind::Unsupported => {}
            listed => listed.map_err(|error| error.format(format.name))?,
        }
    }
    let inside = |reference: &Reference| {
        reference.held.as_ref().is_some_and(|held| held.stretches.is_some())
    };
    let alone = facts.references.iter().all(inside);
    if alone && !facts.encrypted && !format.holds_disks && format.open.is_some() {
        let image = formats::open(source.clone(), format, &OpenOptions::new(FORMATS, limits))?;
        Survey::of(&*image, limits).map_err(|error| error.format(format.name))?;
    }
    let Some(check) = format.check.filter(|_| alone) else { return Ok(()) };
    let mut first = None;
    let mut find = |finding: Finding| {
        if finding.severity != Severity::Leak {
            first.get_or_insert(finding.what);
        }
    };
    let tally = check(Links::alone(source), limits, &mut find)
        .map_err(|error| error.format(format.name))?;
    if let (Some(first), 1..) = (first, tally.corruptions + tally.check_errors) {
        let more = tally.corruptions + tally.check_errors - 1;
        let what = format!("a check finds that {first}; and {more} more");
        facts.hazards.push(Hazard { kind: HazardKind::Irregular, what });
    }
    Ok(())
}
