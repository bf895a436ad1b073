//! What is sent: bytes as they are stored, bytes that go by, or a disk that is converted.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use formats::{
    Caching, Error, FORMATS, Facts, Format, Forward, HazardKind, Ingest, Input, Limits, Options,
    Result, Source, Verdict, Watch, Window,
};
use metadata::{Gate, Subject, Weight};

use crate::args::Opening;
use crate::client::{Sending, safe};
use crate::commands::convert::{self, Job, Passage};
use crate::input::{self, Digesting, Found};
use crate::inspection;
use crate::origin::{self, Disk, Origin};
use crate::outputs::Place;
use crate::policy;

/// What is written to, by name.
const SERVICE: &str = "image service";
/// Bytes that are looked at before a record is made of a stream.
const FRONT: usize = 1 << 20;
/// Bytes that are passed on at a time.
const PORTION: usize = 1 << 20;

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) path: &'a Path,
    pub(super) format: Option<&'a str>,
    pub(super) convert: Option<(&'static Format, &'a Options)>,
    pub(super) compress: bool,
    pub(super) progress: bool,
    /// What the record will say, if that was typed.
    pub(super) disk_format: Option<&'a str>,
    /// Whether it is sent whatever the service's gate would say.
    pub(super) ungated: bool,
    pub(super) opening: &'a Opening,
}

/// Something that can be sent.
pub(super) struct Cargo<'a> {
    load: Load<'a>,
    /// The format of what is sent.
    pub(super) format: &'static Format,
    /// Bytes of its disk, if they are known in advance.
    pub(super) disk_size: Option<u64>,
}

enum Load<'a> {
    /// Bytes that can be read again.
    File(Arc<dyn Source>),
    /// Bytes that go by: taken when they are sent.
    Stream(Option<Forward>),
    /// A disk.
    Disk(Job<'a>, Disk),
    /// A disk that goes by: taken when it is sent.
    Raw(Job<'a>, Option<Forward>),
    /// Nothing: the service has it already.
    Elsewhere,
}

impl Asked<'_> {
    /// What a conversion has to know.
    pub(super) fn job(&self) -> convert::Args {
        let format = self.format.map(str::to_string);
        let Asked { path, compress, progress, opening, .. } = *self;
        Passage { path, format, compress, progress, opening }.into()
    }

    fn find(&self) -> Result<(Found, Option<&'static Format>)> {
        let stated = self.format.map(formats::format).transpose()?;
        let found = input::find(self.path, stated, self.opening, Caching::Writeback, &[])?;
        Ok((found, stated))
    }
}

/// What will be sent. `Refused` if it is not safe to hand on.
pub(super) fn load<'a>(asked: &Asked<'a>, args: &'a convert::Args) -> Result<Cargo<'a>> {
    let (found, stated) = asked.find()?;
    let opening = asked.opening;
    let limits = opening.limits();
    if let Some((format, options)) = asked.convert {
        let options = options.clone();
        let job = Job { args, format, output: Path::new(SERVICE), options };
        return converted(asked, found, stated, job);
    }
    // A strict look needs all of it.
    let input = match found.input {
        forward @ Input::Forward(_) if opening.strict() => {
            Input::Whole(policy::whole(forward, &found.wrappers, opening)?)
        }
        input @ (Input::Whole(_) | Input::Forward(_)) => input,
    };
    match input {
        Input::Whole(source) => {
            let facts = looked_at(&source, stated, opening)?;
            safe(&facts)?;
            passes(&*source, &facts, asked)?;
            let (format, disk_size) = (formats::format(facts.format)?, Some(facts.disk_size));
            Ok(Cargo { load: Load::File(source), format, disk_size })
        }
        Input::Forward(forward) => passing(forward, stated, &limits),
    }
}

/// What lies on a server, and the bytes of it: looked at here, and fetched by somebody else.
pub(super) fn remote(asked: &Asked) -> Result<(Cargo<'static>, u64)> {
    let (found, stated) = asked.find()?;
    if let Some(wrapper) = found.wrappers.first() {
        let what = format!("it is in {}, which the service would not take off", wrapper.name());
        return Err(Error::refused(what));
    }
    let limits = asked.opening.limits();
    let (facts, len) = match found.input {
        Input::Whole(source) => (looked_at(&source, stated, asked.opening)?, source.len()),
        Input::Forward(forward) => inspection::stream(forward, stated, &limits, false)?,
    };
    safe(&facts)?;
    let (format, disk_size) = (formats::format(facts.format)?, Some(facts.disk_size));
    Ok((Cargo { load: Load::Elsewhere, format, disk_size }, len))
}

/// What an inspection says of a file.
fn looked_at(
    source: &Arc<dyn Source>,
    stated: Option<&'static Format>,
    opening: &Opening,
) -> Result<Facts> {
    let (facts, formats) = inspection::whole(source, stated, opening)?;
    if facts.format == "raw" {
        let other = formats.iter().find(|name| **name != "raw").copied();
        if let Some(name) = other.or(formats::foreign(&**source as &dyn Window)?) {
            let what = format!("it looks like {name}, and would be taken for that, not for raw");
            return Err(Error::refused(what));
        }
    }
    Ok(facts)
}

/// `Refused` for what the service would refuse in the end, once all of it has been sent.
fn passes(source: &dyn Source, facts: &Facts, asked: &Asked) -> Result<()> {
    if asked.ungated {
        return Ok(());
    }
    let gate = Gate::of(source)?;
    let subject = Subject { disk_format: asked.disk_format, ..Subject::new(&gate, facts) };
    let judgement = metadata::target("glance")?.judge(&subject);
    let refused = judgement.remarks.iter().find(|remark| remark.weight == Weight::Refused);
    match refused {
        None => Ok(()),
        Some(remark) => {
            let how = "--convert qcow2 makes what it takes, --no-gate sends it all the same";
            let what = format!("the service would refuse it: {}; {how}", remark.what);
            Err(Error::refused(what).format(facts.format))
        }
    }
}

/// A disk that is converted. Names in the image are followed as the flags allow.
fn converted<'a>(
    asked: &Asked<'a>,
    found: Found,
    stated: Option<&'static Format>,
    job: Job<'a>,
) -> Result<Cargo<'a>> {
    let (path, opening, format) = (asked.path, asked.opening, job.format);
    if let Input::Whole(source) = &found.input {
        let (mut facts, _) = inspection::whole(source, stated, opening)?;
        let followed = opening.allow_refs.is_some() || !opening.parents.is_empty();
        facts.hazards.retain(|hazard| hazard.kind != HazardKind::Reference || !followed);
        safe(&facts)?;
    }
    let wants = job.wants(true);
    let origin = match found.input {
        Input::Forward(forward) if !opening.strict() => {
            origin::passing(path, forward, stated, &wants, opening)?
        }
        input @ (Input::Whole(_) | Input::Forward(_)) => {
            let disk = origin::disk(path, input, &found.wrappers, stated, &wants, opening)?;
            Origin::Disk(Disk::Whole(disk))
        }
    };
    Ok(match origin {
        Origin::Raw(forward) => {
            Cargo { load: Load::Raw(job, Some(forward)), format, disk_size: None }
        }
        Origin::Disk(disk) => {
            let disk_size = Some(job.disk_size(&disk)?);
            Cargo { load: Load::Disk(job, disk), format, disk_size }
        }
    })
}

/// A stream, of which the front says what it is.
fn passing(
    mut forward: Forward,
    stated: Option<&'static Format>,
    limits: &Limits,
) -> Result<Cargo<'static>> {
    let mut front = Vec::with_capacity(FRONT);
    let fail = |error| Error::io("cannot read", error);
    (&mut forward.bytes).take(FRONT as u64).read_to_end(&mut front).map_err(fail)?;
    let formats = stated.as_ref().map_or(FORMATS, std::slice::from_ref);
    let mut ingest = Ingest::new(formats, limits.clone());
    let verdict = ingest.push(&front)?;
    let facts = match verdict {
        Verdict::Known(facts) => Some(facts),
        Verdict::Undecided if front.len() < FRONT => Some(Arc::new(ingest.finish()?)),
        Verdict::Undecided => None,
    };
    let (format, disk_size) = match &facts {
        Some(facts) => {
            safe(facts)?;
            (formats::format(facts.format)?, Some(facts.disk_size))
        }
        // Nothing that begins with a mark: the end will show whether it is raw.
        None => (stated.map_or_else(|| formats::format("raw"), Ok)?, None),
    };
    let rest = std::mem::replace(&mut forward.bytes, Box::new(std::io::empty()));
    forward.bytes = Box::new(std::io::Cursor::new(front).chain(rest));
    Ok(Cargo { load: Load::Stream(Some(forward)), format, disk_size })
}

impl Cargo<'_> {
    /// Whether it can be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.load {
            Load::File(_) => true,
            Load::Disk(_, disk) => matches!(disk, Disk::Whole(_)),
            Load::Stream(_) | Load::Raw(..) | Load::Elsewhere => false,
        }
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, mut out: Sending, watch: &dyn Watch) -> Result<()> {
        let place = |job: &Job, out| Place::stream(job.output, out);
        let gone = || Error::invalid("its bytes have gone by");
        match &mut self.load {
            Load::File(source) => {
                let len = source.len();
                let mut at = 0;
                let read = |buffer: &mut [u8]| {
                    let part = usize::try_from(len - at).unwrap_or(buffer.len()).min(buffer.len());
                    Window::read(&**source, at, &mut buffer[..part])?;
                    at += part as u64;
                    Ok(part)
                };
                pump(read, len, &mut out, watch)?;
                source.still_whole()
            }
            Load::Stream(forward) => {
                let mut forward = forward.take().ok_or_else(gone)?;
                let total = forward.len.unwrap_or(0);
                let read = |buffer: &mut [u8]| loop {
                    match forward.bytes.read(buffer) {
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        other => return other.map_err(|error| Error::io("cannot read", error)),
                    }
                };
                pump(read, total, &mut out, watch)
            }
            Load::Disk(job, disk) => {
                job.convert(disk, Digesting::None, place(job, out)).map(|_| ())
            }
            Load::Raw(job, forward) => {
                let origin = Origin::Raw(forward.take().ok_or_else(gone)?);
                job.write(origin, Digesting::None, place(job, out)).map(|_| ())
            }
            Load::Elsewhere => Ok(()),
        }
    }
}

/// Passes bytes on until there are no more.
fn pump(
    mut read: impl FnMut(&mut [u8]) -> Result<usize>,
    total: u64,
    out: &mut Sending,
    watch: &dyn Watch,
) -> Result<()> {
    let mut buffer = vec![0; PORTION];
    let mut done = 0;
    loop {
        let len = read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        std::io::Write::write_all(out, &buffer[..len])
            .map_err(|error| Error::io("cannot send it", error))?;
        done += len as u64;
        if watch.progress(done, total).is_break() {
            return Err(Error::cancelled());
        }
    }
}
