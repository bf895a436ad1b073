//! Disks packed for a machine: an archive with its description in front, images of the disks, and
//! digests of all.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::digest::{Algorithm, Digest, Hasher};
use crate::base::error::{Error, Result};
use crate::base::model::create::{Create, Options};
use crate::base::model::format::Format;
use crate::base::model::image::Image;
use crate::base::model::machine::{DescribeFn, Machine, MachineDisk};
use crate::base::storage::{Put, Stream, Target};
use crate::base::tar::{self, Dialect};
use crate::copy::{Copied, CopyOptions, copy};
use crate::pool::Watch;

/// What is packed, and how.
pub struct Export<'a> {
    /// The disks, each with the bytes of data that it is known to have.
    pub disks: &'a [(&'a dyn Image, u64)],
    /// The machine that they are for.
    pub machine: &'a Machine,
    /// What the files in the archive are called, but for their endings.
    pub name: &'a str,
    /// Who describes it.
    pub describe: DescribeFn,
    /// The format of the images, one that is written from front to end.
    pub format: &'static Format,
    /// Its settings.
    pub settings: Options,
    /// How the files are digested, if they are.
    pub manifest: Option<Algorithm>,
}

/// An image as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    size: u64,
    digest: Option<Digest>,
}

/// Packs the disks into `target`. A pipe takes them as well: every disk is then read twice, for
/// what stands in front of it says how large it becomes, and what it digests to.
pub fn export(export: &Export, target: &Arc<dyn Target>, options: &CopyOptions) -> Result<Copied> {
    let plan = Plan::of(export)?;
    let data: u64 = export.disks.iter().map(|(_, data)| *data).fold(0, u64::saturating_add);
    let twice = target.appends_only();
    let mut job = Job {
        export,
        plan: &plan,
        options,
        total: if twice { data.saturating_mul(2) } else { data },
        done: 0,
        copied: Copied::default(),
    };
    if !twice {
        let (made, end) = job.disks(Some(target))?;
        job.texts(target, &made)?;
        return job.finish(target, end);
    }
    let (known, _) = job.disks(None)?;
    job.texts(target, &known)?;
    let (made, end) = job.again(target, &known)?;
    match made == known {
        true => job.finish(target, end),
        false => Err(Error::invalid("a disk has changed while it was read")),
    }
}

/// Names and places that do not depend on the content.
struct Plan {
    descriptor: String,
    manifest: String,
    /// The disks, with sizes that are as wide as any.
    disks: Vec<MachineDisk>,
    /// Bytes of the description and of the manifest.
    descriptor_len: u64,
    manifest_len: u64,
    /// Where the first disk's header goes.
    start: u64,
}

impl Plan {
    fn of(export: &Export) -> Result<Plan> {
        let Export { name, format, settings, .. } = export;
        let mut disks = Vec::new();
        for (number, (image, _)) in (1..).zip(export.disks) {
            let capacity = (format.padded)(image.disk_size(), settings)
                .map_err(|error| error.format(format.name))?;
            let ending = format.extensions.first().unwrap_or(&format.name);
            let file = format!("{name}-disk{number}.{ending}");
            disks.push(MachineDisk { file, size: u64::MAX, capacity });
        }
        let text = (export.describe)(export.machine, &disks)?;
        let mut plan = Plan {
            descriptor: format!("{name}.ovf"),
            manifest: format!("{name}.mf"),
            disks,
            descriptor_len: text.len() as u64,
            manifest_len: 0,
            start: 0,
        };
        plan.start = behind(&plan.descriptor, plan.descriptor_len, 0)?;
        if let Some(algorithm) = export.manifest {
            let files = plan.disks.iter().map(|disk| &disk.file).chain([&plan.descriptor]);
            let lines = files.map(|file| line(algorithm, file, "").len() + 2 * algorithm.size());
            plan.manifest_len = lines.sum::<usize>() as u64;
            plan.start = behind(&plan.manifest, plan.manifest_len, plan.start)?;
        }
        Ok(plan)
    }

    /// The description with the sizes as they are, as long as it was planned to be.
    fn describe(&self, export: &Export, made: &[Made]) -> Result<Vec<u8>> {
        let mut disks = self.disks.clone();
        for (disk, made) in disks.iter_mut().zip(made) {
            disk.size = made.size;
        }
        let mut text = (export.describe)(export.machine, &disks)?;
        let len = usize::try_from(self.descriptor_len).map_err(|_| Error::limit("a text"))?;
        text.resize(len, b' ');
        // A text ends with a line's end.
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
        Ok(text)
    }
}

/// Where the member behind one of this size goes.
fn behind(name: &str, size: u64, at: u64) -> Result<u64> {
    let header = header(name, size)?.len() as u64;
    let end = at.checked_add(header).and_then(|at| at.checked_add(size));
    let next = end.and_then(|end| end.checked_add(tar::padding(size)));
    next.ok_or_else(|| Error::limit("an archive that does not end in 2^64"))
}

fn header(name: &str, size: u64) -> Result<Vec<u8>> {
    tar::header(name, size, 0, Dialect::Ustar)
}

/// A line of the manifest, as the strictest readers want it.
fn line(algorithm: Algorithm, name: &str, hex: &str) -> String {
    format!("{}({name})= {hex}\n", algorithm.name().to_ascii_uppercase())
}

struct Job<'a> {
    export: &'a Export<'a>,
    plan: &'a Plan,
    options: &'a CopyOptions<'a>,
    /// Bytes to copy in all, and those that were.
    total: u64,
    done: u64,
    copied: Copied,
}

impl Job<'_> {
    /// Writes all disks, each with its header and what fills it up; without a target only finds
    /// out what they become. Tells where they end.
    fn disks(&mut self, target: Option<&Arc<dyn Target>>) -> Result<(Vec<Made>, u64)> {
        let (mut all, mut at) = (Vec::new(), self.plan.start);
        for (index, disk) in self.plan.disks.iter().enumerate() {
            let content = at + header(&disk.file, 0)?.len() as u64;
            let made = self.disk(index, target.map(|target| (target, content)))?;
            if let Some(target) = target {
                target.put(at, &header(&disk.file, made.size)?)?;
                fill(target, content + made.size, tar::padding(made.size))?;
            }
            at = behind(&disk.file, made.size, at)?;
            all.push(made);
        }
        Ok((all, at))
    }

    /// Writes all disks into a pipe, now that it is known what they become.
    fn again(&mut self, target: &Arc<dyn Target>, known: &[Made]) -> Result<(Vec<Made>, u64)> {
        let (mut all, mut at) = (Vec::new(), self.plan.start);
        for (index, (disk, known)) in self.plan.disks.iter().zip(known).enumerate() {
            let front = header(&disk.file, known.size)?;
            target.put(at, &front)?;
            let content = at + front.len() as u64;
            let made = self.disk(index, Some((target, content)))?;
            fill(target, content + made.size, tar::padding(made.size))?;
            at = behind(&disk.file, made.size, at)?;
            all.push(made);
        }
        Ok((all, at))
    }

    /// Writes one disk at a place.
    fn disk(&mut self, index: usize, place: Option<(&Arc<dyn Target>, u64)>) -> Result<Made> {
        let Export { format, settings, manifest, .. } = self.export;
        let (image, data) = self.export.disks[index];
        let passed = Arc::new(Mutex::new(Passed { len: 0, hasher: manifest.map(Hasher::new) }));
        let (target, start) = place.map_or((None, 0), |(to, at)| (Some(to.clone()), at));
        let stream = Stream::new(Sink { target, start, passed: passed.clone() });
        let (size, options) = (self.plan.disks[index].capacity, settings.clone());
        let create = Create { size, compress: true, options, ..Create::default() };
        let lacks = || Error::unsupported(format!("{} is not written", format.name));
        let make = format.create.ok_or_else(lacks)?;
        let writer = make(Arc::new(stream), &create).map_err(|e| e.format(format.name))?;
        let (before, total, inner) = (self.done, self.total, self.options.watch);
        let watch = Part { before, total, inner };
        let copied = copy(image, &*writer, &CopyOptions { watch: &watch, ..*self.options })?;
        drop(writer);
        self.done = self.done.saturating_add(data);
        self.copied.read += copied.read;
        self.copied.written += copied.written;
        let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Made { size: passed.len, digest: passed.hasher.take().map(Hasher::finish) })
    }

    /// Writes the description and the manifest.
    fn texts(&self, target: &Arc<dyn Target>, made: &[Made]) -> Result<()> {
        let plan = self.plan;
        let text = plan.describe(self.export, made)?;
        member(target, 0, &plan.descriptor, &text)?;
        let Some(algorithm) = self.export.manifest else { return Ok(()) };
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&text);
        let mut lines = line(algorithm, &plan.descriptor, &hasher.finish().hex());
        for (disk, made) in plan.disks.iter().zip(made) {
            let hex = made.digest.as_ref().map(Digest::hex).unwrap_or_default();
            lines += &line(algorithm, &disk.file, &hex);
        }
        let at = behind(&plan.descriptor, plan.descriptor_len, 0)?;
        member(target, at, &plan.manifest, lines.as_bytes())
    }

    /// Ends the archive.
    fn finish(&self, target: &Arc<dyn Target>, end: u64) -> Result<Copied> {
        let zeros = tar::trailer(end);
        fill(target, end, zeros)?;
        target.set_len(end + zeros).map_err(|error| Error::io("cannot finish", error))?;
        target.settle()?;
        Ok(self.copied)
    }
}

fn member(target: &Arc<dyn Target>, at: u64, name: &str, text: &[u8]) -> Result<()> {
    let front = header(name, text.len() as u64)?;
    target.put(at, &front)?;
    let at = at + front.len() as u64;
    target.put(at, text)?;
    fill(target, at + text.len() as u64, tar::padding(text.len() as u64))
}

/// Writes a few zeros.
fn fill(target: &Arc<dyn Target>, at: u64, len: u64) -> Result<()> {
    let zeros = vec![0; usize::try_from(len).map_err(|_| Error::limit("zeros"))?];
    if zeros.is_empty() { Ok(()) } else { target.put(at, &zeros) }
}

/// What went by.
struct Passed {
    len: u64,
    hasher: Option<Hasher>,
}

/// Takes the bytes of an image from front to end, digests them, and puts them at their place.
struct Sink {
    target: Option<Arc<dyn Target>>,
    start: u64,
    passed: Arc<Mutex<Passed>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &self.target {
            target.write_at(self.start + passed.len, bytes)?;
        }
        if let Some(hasher) = &mut passed.hasher {
            hasher.update(bytes);
        }
        passed.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells of one of several disks.
struct Part<'a> {
    before: u64,
    total: u64,
    inner: &'a dyn Watch,
}

impl Watch for Part<'_> {
    fn progress(&self, done: u64, _: u64) -> ControlFlow<()> {
        self.inner.progress(self.before.saturating_add(done).min(self.total), self.total)
    }
}
