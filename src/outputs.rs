//! What a command writes: an image's own file or a pipe, and the files beside it.
//!
//! ```text
//!   image ─▶ its file                          any byte at any place
//!   image ─▶ Stream ─▶ [pack] ─▶ digest ─▶ pipe, or its file
//! ```

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use formats::{
    Algorithm, Beside, Caching, Digest, Error, Format, Hasher, ImageFile, Kind, Options, Output,
    Packer, Result, Source, Stream, Target, Wrapper,
};

use rustix::fs::OFlags;

use crate::policy;

/// Files under way. None of them appears before [`commit`](Outputs::commit).
pub(crate) struct Outputs {
    target: Arc<dyn Target>,
    /// The image's own file, unless it goes into a pipe.
    own: Option<Output>,
    /// What its bytes go through on their way, if they go from front to end.
    flow: Option<Flow>,
    beside: Arc<Siblings>,
}

/// What becomes of an image on its way out.
#[derive(Default)]
pub(crate) struct How {
    /// Compression around the whole of it, and how hard that tries.
    pub(crate) packing: Option<(Wrapper, Option<u32>)>,
    /// How many threads compress.
    pub(crate) threads: usize,
    /// Digests that are wanted of what is stored.
    pub(crate) algorithms: Vec<Algorithm>,
}

/// The way of bytes that go from front to end.
#[derive(Clone)]
struct Flow {
    sink: Arc<Mutex<Sink>>,
    hashers: Arc<Mutex<Vec<Hasher>>>,
}

enum Sink {
    Plain(Tee),
    Packed(Packer),
}

/// The files beside an image.
struct Siblings {
    name: String,
    folder: PathBuf,
    caching: Caching,
    inputs: Vec<Arc<dyn Source>>,
    made: Mutex<Vec<Output>>,
}

/// Where an image will go: open, and empty still.
pub(crate) struct Place {
    path: PathBuf,
    caching: Caching,
    open: Open,
}

enum Open {
    Pipe(Box<dyn Write + Send>),
    File(Output),
    /// Over what is there and stays.
    Over(Output),
}

impl Place {
    /// For a new image at `path`, or into the pipe that `path` is; `-` is the standard output.
    pub(crate) fn new(path: &Path, caching: Caching) -> Result<Place> {
        let open = match is_pipe(path) {
            true => Open::Pipe(Box::new(pipe(path)?)),
            false => Open::File(Output::create(path, caching)?),
        };
        Ok(Place { path: path.into(), caching, open })
    }

    /// Into what takes bytes from front to end, and is called `path`.
    pub(crate) fn stream(path: &Path, out: impl Write + Send + 'static) -> Place {
        Place { path: path.into(), caching: Caching::Auto, open: Open::Pipe(Box::new(out)) }
    }

    /// Whether bytes go there from front to end only.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.open, Open::Pipe(_))
    }

    /// Over a file or device that is there and stays. `zero`: all of it reads as zeros.
    pub(crate) fn over(path: &Path, caching: Caching, zero: bool) -> Result<Place> {
        let open = Open::Over(Output::in_place(path, caching, zero)?);
        Ok(Place { path: path.into(), caching, open })
    }

    /// The name that it still has to get, and whether one goes away in that folder.
    pub(crate) fn named(&self) -> Option<(PathBuf, bool)> {
        let Open::File(own) = &self.open else { return None };
        if !own.gets_a_name() {
            return None;
        }
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        Some((path, own.takes_a_name_away()))
    }
}

impl Outputs {
    /// An image in its place. `Invalid` if one of the inputs lies there.
    pub(crate) fn at(place: Place, inputs: &[Arc<dyn Source>], how: &How) -> Result<Outputs> {
        let Place { path, caching, open } = place;
        policy::not_an_input(&path, inputs)?;
        let beside = Arc::new(Siblings::of(&path, caching, inputs));
        let (own, out): (_, Box<dyn Write + Send>) = match open {
            Open::Pipe(pipe) => (None, pipe),
            Open::File(own) if how.packing.is_some() => {
                let out = Appender { file: own.target(), at: 0 };
                (Some(own), Box::new(out))
            }
            Open::File(own) | Open::Over(own) => {
                return Ok(Outputs { target: own.target(), own: Some(own), flow: None, beside });
            }
        };
        let flow = Flow::new(out, how).map_err(|error| error.path(path))?;
        let target = Arc::new(Stream::new(flow.clone()));
        Ok(Outputs { target, own, flow: Some(flow), beside })
    }

    /// Where the image goes.
    pub(crate) fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    /// Whether the image has to be written from front to end.
    pub(crate) fn streams(&self) -> bool {
        self.flow.is_some()
    }

    /// The image's own file, if its bytes are those of the image.
    pub(crate) fn file(&self) -> Option<Arc<ImageFile>> {
        self.own.as_ref().filter(|_| self.flow.is_none()).map(Output::target)
    }

    /// The image's own file, whatever is around the image; none if it goes into a pipe.
    pub(crate) fn stored(&self) -> Option<Arc<ImageFile>> {
        self.own.as_ref().map(Output::target)
    }

    /// Where files beside it go.
    pub(crate) fn beside(&self) -> Arc<dyn Beside> {
        self.beside.clone()
    }

    /// Brings everything on its way out. Returns the digests of what was stored, if it went from
    /// front to end.
    pub(crate) fn finish(&self) -> Result<Vec<Digest>> {
        let Some(flow) = &self.flow else { return Ok(Vec::new()) };
        flow.finish()?;
        if let Some(own) = &self.own {
            let fail = |error| Error::io("cannot bring it to storage", error);
            own.target().sync().map_err(fail)?;
        }
        let mut hashers = flow.hashers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(hashers.drain(..).map(Hasher::finish).collect())
    }

    /// Gives all files their names; the image itself is the last one.
    pub(crate) fn commit(self) -> Result<()> {
        let made = std::mem::take(&mut *self.beside.lock());
        Output::commit_together(made.into_iter().chain(self.own).collect())
    }
}

impl Flow {
    fn new(out: Box<dyn Write + Send>, how: &How) -> Result<Flow> {
        let hashers = how.algorithms.iter().copied().map(Hasher::new).collect();
        let hashers = Arc::new(Mutex::new(hashers));
        let tee = Tee { out, hashers: hashers.clone() };
        let sink = match how.packing {
            None => Sink::Plain(tee),
            Some((wrapper, level)) => {
                Sink::Packed(Packer::new(wrapper, level, how.threads.max(1), tee)?)
            }
        };
        Ok(Flow { sink: Arc::new(Mutex::new(sink)), hashers })
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) -> Result<()> {
        match &mut *self.lock() {
            Sink::Plain(tee) => tee.flush().map_err(|error| Error::io("cannot write", error)),
            Sink::Packed(packer) => packer.finish(),
        }
    }
}

impl Write for Flow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            Sink::Plain(tee) => tee.write(bytes),
            Sink::Packed(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.lock() {
            Sink::Plain(tee) => tee.flush(),
            Sink::Packed(packer) => packer.flush(),
        }
    }
}

/// Bytes that are digested on their way out.
struct Tee {
    out: Box<dyn Write + Send>,
    hashers: Arc<Mutex<Vec<Hasher>>>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        for hasher in &mut *self.hashers.lock().unwrap_or_else(PoisonError::into_inner) {
            hasher.update(&bytes[..len]);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that grows at its end.
struct Appender {
    file: Arc<ImageFile>,
    at: u64,
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Siblings {
    fn of(path: &Path, caching: Caching, inputs: &[Arc<dyn Source>]) -> Siblings {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (folder, inputs) = (policy::folder(path).to_path_buf(), inputs.to_vec());
        Siblings { name, folder, caching, inputs, made: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Output>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beside for Siblings {
    fn name(&self) -> &str {
        &self.name
    }

    fn make(&self, name: &str) -> Result<Arc<dyn Target>> {
        let path = self.folder.join(name);
        policy::not_an_input(&path, &self.inputs)?;
        let output = Output::create(&path, self.caching)?;
        let target = output.target();
        self.lock().push(output);
        Ok(target)
    }
}

/// Says of storage that failed that it was this output's, unless it is known whose it was.
pub(crate) fn blamed(path: &Path) -> impl Fn(Error) -> Error {
    move |error| if error.kind() == Kind::Io { error.path(path) } else { error }
}

/// Whether a new image of this format is written from front to end.
pub(crate) fn appends(format: &Format, options: &Options) -> bool {
    format.appends.is_some_and(|appends| appends(options))
}

/// Whether `path` is the standard output, a pipe or something like it.
pub(crate) fn is_pipe(path: &Path) -> bool {
    let kind = path.metadata().map(|data| data.file_type());
    path == Path::new("-") || kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device())
}

fn pipe(path: &Path) -> Result<File> {
    let fail = |error| Error::io("cannot write to it", error).path(path);
    if path != Path::new("-") {
        return File::options().write(true).open(path).map_err(fail);
    }
    if std::io::stdout().is_terminal() {
        return Err(Error::invalid("an image is nothing for a terminal").path(path));
    }
    standard_output().map_err(fail)
}

/// The standard output, for bytes. Fails if there is none: a process that is started without one
/// gets the null device in its place, open both ways, as no shell opens it.
pub(crate) fn standard_output() -> io::Result<File> {
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let device = |data: &Metadata| data.file_type().is_char_device().then(|| data.rdev());
    let null = std::fs::metadata("/dev/null").ok().as_ref().and_then(device);
    let both_ways = rustix::fs::fcntl_getfl(&out)? & OFlags::ACCMODE == OFlags::RDWR;
    match both_ways && null.is_some() && device(&out.metadata()?) == null {
        true => Err(rustix::io::Errno::BADF.into()),
        false => Ok(out),
    }
}
