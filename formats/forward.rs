//! A disk that goes by: read from its front to its end, with nothing put aside.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::digest::{Algorithm, Digest, Hasher};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::Stretch;
use crate::base::model::facts::{Facts, HazardKind};
use crate::base::model::format::Format;
use crate::base::model::image::Image;
use crate::base::storage::{Ahead, Source, Window};
use crate::container::{disks, grown};
use crate::ingest::{Ingest, Verdict};
use crate::intake::Forward;
use crate::probe;

/// As much of a stream as is looked at to see what it is.
const FRONT: u64 = 64 << 10;

/// How a stream can be dealt with.
pub enum Way {
    /// It is a raw disk of unknown length: its bytes can be poured on.
    Raw(Forward),
    /// Its disk can be read from front to end.
    Disk(Passing),
    /// It has to be put aside first: its format, if that is known, and why.
    Aside(Forward, &'static str),
}

/// A disk that goes by.
pub struct Passing {
    image: Box<dyn Image>,
    ahead: Arc<Ahead>,
    seen: Arc<Mutex<Seen>>,
}

/// What is found out while the bytes go by.
struct Seen {
    ingest: Option<Ingest>,
    /// What the stream turned out to be wrong with.
    failure: Option<Error>,
    /// The stretch of the archive that the disk is read from, and its digests so far.
    member: Option<Stretch>,
    hashers: Vec<Hasher>,
}

impl Passing {
    /// The disk. Its extents are asked for in order, each once.
    pub fn image(&self) -> &dyn Image {
        &*self.image
    }

    /// All of the stream from its front again. `Invalid` once any of the disk has been read.
    pub fn again(self) -> Result<Forward> {
        let bytes = self.ahead.again()?;
        Ok(Forward { name: self.ahead.name(), len: None, bytes })
    }

    /// `Limit` if so many bytes of data are more than the limits allow for as much of the stream
    /// as has come.
    pub fn allows(&self, data: u64, limits: &Limits) -> Result<()> {
        if data > limits.max_output {
            let most = limits.max_output;
            return Err(Error::limit(format!("it holds more than {most} bytes of data")));
        }
        let came = self.ahead.came();
        let most = came.saturating_mul(limits.max_ratio).max(limits.ratio_floor);
        if data > most {
            let times = limits.max_ratio;
            let what = format!("{came} bytes of stream hold more than {most} bytes of data");
            return Err(Error::limit(format!("{what}, over {times} times as many")));
        }
        Ok(())
    }

    /// Reads what is left of the stream, now that the disk has been copied, and says whether all
    /// of it was as it should be: its end, the checksums of its compression, the digests that a
    /// manifest promises.
    pub fn finish(&self) -> Result<()> {
        self.ahead.drain()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = seen.failure.take() {
            return Err(error);
        }
        let Some(ingest) = seen.ingest.take() else { return Ok(()) };
        let facts = ingest.finish()?;
        let digests: Vec<_> = seen.hashers.drain(..).map(Hasher::finish).collect();
        kept(&facts, seen.member, &digests)
    }
}

/// `Malformed` if what went by digests to something else than the manifest promises.
fn kept(facts: &Facts, member: Option<Stretch>, digests: &[Digest]) -> Result<()> {
    if let Some(hazard) = facts.hazards.iter().find(|hazard| hazard.kind == HazardKind::Corrupt) {
        return Err(Error::new(Kind::Malformed, hazard.what.clone()));
    }
    let Some(member) = member else { return Ok(()) };
    let of_disk = |vouch: &&crate::Vouch| vouch.stretches.as_deref() == Some(&[member][..]);
    for vouch in facts.vouches.iter().filter(of_disk) {
        let algorithm = vouch.digest.algorithm;
        let is = digests.iter().find(|digest| digest.algorithm == algorithm);
        if let Some(is) = is.filter(|is| **is != vouch.digest) {
            let (name, how, said) = (vouch.name.escape_debug(), algorithm.name(), &vouch.digest);
            let (is, said) = (is.hex(), said.hex());
            let what = format!("the {how} digest of '{name}' is {is}, and {said} was promised");
            return Err(Error::new(Kind::Malformed, what));
        }
    }
    Ok(())
}

/// Looks at the front of a stream and says what can be done with it. `stated`: the format that
/// the caller says it has. `disk`: which of the disks of a container is wanted.
pub fn way(
    mut forward: Forward,
    stated: Option<&'static Format>,
    formats: &'static [&'static Format],
    disk: Option<usize>,
    limits: &Limits,
) -> Result<Way> {
    let bytes = std::mem::replace(&mut forward.bytes, Box::new(io::empty()));
    let ahead = Ahead::new(forward.name.clone(), bytes);
    let found = match stated {
        Some(format) => Some(format),
        None => found(&ahead, formats)?,
    };
    let passing = match found {
        None => return Ok(Way::Raw(Forward { bytes: ahead.again()?, ..forward })),
        Some(format) if probe::is_any(format) => {
            return Ok(Way::Raw(Forward { bytes: ahead.again()?, ..forward }));
        }
        Some(format) => passing(&ahead, format, formats, disk, limits)?,
    };
    if let Some(passing) = passing {
        return Ok(Way::Disk(passing));
    }
    let why = "it cannot be read from its front to its end";
    Ok(Way::Aside(Forward { bytes: ahead.again()?, ..forward }, why))
}

/// The format whose mark the stream bears in its front: `None` if it may be raw, as far as that
/// can be told before its end.
fn found(ahead: &Ahead, formats: &[&'static Format]) -> Result<Option<&'static Format>> {
    // So that the end of a short stream is known.
    let mut front = vec![0; usize::try_from(FRONT).expect("64 KiB")];
    let _ = ahead.read_at(FRONT, &mut front).map_err(|e| Error::io("cannot read", e))?;
    let mut containers = Vec::new();
    for format in formats.iter().filter(|format| !probe::is_any(format)) {
        match (format.probe)(ahead) {
            Ok(true) => containers.push(*format),
            Ok(false) => {}
            Err(error) if error.kind() == Kind::Awaiting => {}
            Err(error) => return Err(error),
        }
    }
    match containers[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let names: Vec<_> = containers.iter().map(|format| format.name).collect();
            let names = names.join(" and ");
            Err(Error::refused(format!("it is {names} at once; say which with -f")))
        }
    }
}

/// The disk of a stream of this format, if it can be read as it goes by.
fn passing(
    ahead: &Arc<Ahead>,
    format: &'static Format,
    formats: &'static [&'static Format],
    disk: Option<usize>,
    limits: &Limits,
) -> Result<Option<Passing>> {
    let seen = |ingest| Seen { ingest, failure: None, member: None, hashers: Vec::new() };
    if let Some(open) = format.forward {
        let Some(image) = open(ahead.clone(), limits)? else { return Ok(None) };
        bounded(&*image, limits)?;
        return Ok(Some(Passing::new(image, ahead, seen(None))));
    }
    if !format.holds_disks {
        return Ok(None);
    }
    let Ok(facts) = (format.inspect)(&Front(ahead), limits) else { return Ok(None) };
    let all = disks(&facts);
    let chosen = disk.unwrap_or(1).checked_sub(1).and_then(|index| all.get(index));
    let Some(held) = chosen.and_then(|chosen| chosen.held.as_ref()) else { return Ok(None) };
    let Some([member]) = held.stretches.as_deref() else { return Ok(None) };
    let Some(offset) = member.offset else { return Ok(None) };
    let inside: Arc<dyn Source> =
        Arc::new(Within { outer: ahead.clone(), offset, len: member.len });
    let Some(inner) = formats
        .iter()
        .find(|inner| inner.forward.is_some() && (inner.probe)(&*inside).is_ok_and(|is| is))
    else {
        return Ok(None);
    };
    let open = inner.forward.expect("asked above");
    let Some(image) = open(inside, limits)? else { return Ok(None) };
    let image = grown(image, held.capacity)?;
    bounded(&*image, limits)?;
    let ingest = Ingest::new(&[format], limits.clone());
    let algorithms = [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512].into_iter();
    // A manifest in front says which digests are needed; one behind may want any.
    let wanted = |algorithm: &Algorithm| {
        let mut of_disk = facts.vouches.iter();
        facts.vouches.is_empty() || of_disk.any(|vouch| vouch.digest.algorithm == *algorithm)
    };
    let hashers = algorithms.filter(wanted).map(Hasher::new).collect();
    let member = Some(*member);
    Ok(Some(Passing::new(image, ahead, Seen { member, hashers, ..seen(Some(ingest)) })))
}

fn bounded(image: &dyn Image, limits: &Limits) -> Result<()> {
    let (size, most) = (image.disk_size(), limits.max_disk_size);
    match size <= most {
        true => Ok(()),
        false => Err(Error::limit(format!("a disk of {size} bytes, {most} at most"))),
    }
}

impl Passing {
    fn new(image: Box<dyn Image>, ahead: &Arc<Ahead>, seen: Seen) -> Passing {
        let seen = Arc::new(Mutex::new(seen));
        let witness = seen.clone();
        ahead.let_go(Box::new(move |at, bytes| {
            witness.lock().unwrap_or_else(PoisonError::into_inner).see(at, bytes);
        }));
        Passing { image, ahead: ahead.clone(), seen }
    }
}

impl Seen {
    fn see(&mut self, at: u64, bytes: &[u8]) {
        if let Some(Err(error)) = self.ingest.as_mut().map(|ingest| ingest.push(bytes)) {
            self.failure.get_or_insert(error);
            self.ingest = None;
        }
        let Some(Stretch { offset: Some(offset), len }) = self.member else { return };
        let end = at + bytes.len() as u64;
        let (from, to) = (offset.max(at), (offset + len).min(end));
        if from < to {
            let index = |place: u64| usize::try_from(place - at).expect("inside a chunk");
            for hasher in &mut self.hashers {
                hasher.update(&bytes[index(from)..index(to)]);
            }
        }
    }
}

/// The front of an archive that goes by: as much as can be held. Behind that it ends, as far as
/// anyone can see who looks through this.
struct Front<'a>(&'a Arc<Ahead>);

impl Window for Front<'_> {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match Window::read(&**self.0, offset, buf) {
            Err(error) if matches!(error.kind(), Kind::Limit | Kind::Truncated) => {
                buf.fill(0);
                Ok(())
            }
            other => other,
        }
    }

    fn total(&self) -> Option<u64> {
        None
    }
}

/// A stretch of a stream that goes by.
struct Within {
    outer: Arc<Ahead>,
    offset: u64,
    len: u64,
}

impl Source for Within {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buf.len());
        match len {
            0 => Ok(0),
            len => self.outer.read_at(self.offset + offset, &mut buf[..len]),
        }
    }

    fn name(&self) -> String {
        self.outer.name()
    }
}

/// Looks at the bytes of a raw disk while they go by: whether they are something else after all.
pub(crate) struct Raw {
    ingest: Option<Ingest>,
}

impl Raw {
    /// `stated`: the caller says that it is raw, whatever it looks like.
    pub(crate) fn new(formats: &[&'static Format], stated: bool, limits: &Limits) -> Raw {
        Raw { ingest: (!stated).then(|| Ingest::new(formats, limits.clone())) }
    }

    /// The next bytes.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Result<()> {
        match self.ingest.as_mut().map(|ingest| ingest.push(bytes)).transpose()? {
            Some(Verdict::Known(facts)) => Err(not_raw(facts.format)),
            _ => Ok(()),
        }
    }

    /// The end. `Refused` if it was not a raw disk: its end may say so.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(ingest) = self.ingest else { return Ok(()) };
        let facts = ingest.finish()?;
        match facts.hazards.first() {
            _ if facts.format != "raw" => Err(not_raw(facts.format)),
            Some(hazard) => Err(Error::refused(format!("{}; say so with -f raw", hazard.what))),
            None => Ok(()),
        }
    }
}

fn not_raw(format: &str) -> Error {
    let what = format!("its end says that it is {format}: save it as a file first, or say -f raw");
    Error::refused(what)
}
