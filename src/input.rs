//! What a user names → bytes: a file, a pipe, a URL, through the compression around it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use formats::{
    Algorithm, Caching, Digest, Error, FORMATS, Format, Forward, Hasher, ImageFile, Input, Result,
    Source, Wrapper,
};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use crate::args::Opening;
use crate::progress::is_stopped;
use crate::remote::{self, Opened};

/// Bytes that were named, and what was taken off around them.
pub(crate) struct Found {
    /// The bytes inside.
    pub(crate) input: Input,
    /// What was around them, the outermost first.
    pub(crate) wrappers: Vec<Wrapper>,
    /// The digests of the bytes as they were named.
    pub(crate) digests: Digests,
}

/// Opens what was named, and takes off the compression around it: unless the caller says that it
/// is raw, or it is of the format that the caller says.
pub(crate) fn find(
    path: &Path,
    format: Option<&'static Format>,
    opening: &Opening,
    caching: Caching,
    algorithms: &[Algorithm],
) -> Result<Found> {
    let input = open(path, opening, caching)?.within(&opening.limits());
    inside(input, format, opening, algorithms)
}

/// What is inside these bytes, which are those of a file as it is.
pub(crate) fn inside(
    mut input: Input,
    format: Option<&'static Format>,
    opening: &Opening,
    algorithms: &[Algorithm],
) -> Result<Found> {
    let digests = Digests::of(&mut input, algorithms);
    let as_it_is = match (format, &input) {
        (Some(format), _) if format.name == "raw" => true,
        (Some(format), Input::Whole(source)) => (format.probe)(&**source)?,
        _ => false,
    };
    if as_it_is {
        return Ok(Found { input, wrappers: Vec::new(), digests });
    }
    let (input, wrappers) = formats::unwrap(input, FORMATS, &opening.limits())?;
    Ok(Found { input, wrappers, digests })
}

/// The bytes of what was named, as they are.
pub(crate) fn open(path: &Path, opening: &Opening, caching: Caching) -> Result<Input> {
    if remote::is_url(path) {
        let name = remote::shown(path).to_string_lossy().into_owned();
        return Ok(match remote::open(path)? {
            Opened::Ranged(remote) => Input::Whole(Arc::new(remote)),
            Opened::Forward(bytes, len) => Input::Forward(Forward { name, len, bytes }),
        });
    }
    let path = &remote::local(path)?;
    let fail = |error| Error::io("cannot open", error).path(path);
    if path == Path::new("-") {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(fail)?;
        let mut stdin = File::from(stdin);
        let kind = stdin.metadata().map_err(fail)?.file_type();
        if kind.is_char_device() {
            // A terminal; or the null device, which a process gets that is started without input.
            let what = "standard input is no file, pipe or block device";
            return Err(Error::invalid(what).path(path));
        }
        let is_file = kind.is_file();
        if is_file && stdin.stream_position().is_ok_and(|at| at == 0) {
            // A file that was put there from its front: any of it can be read.
            let path = Path::new("/dev/stdin");
            let file = ImageFile::open(path, opening.access(), caching)?;
            return Ok(Input::Whole(Arc::new(file)));
        }
        return Ok(forward("standard input".into(), stdin));
    }
    let kind = path.metadata().map(|data| data.file_type());
    if kind.is_ok_and(|kind| kind.is_fifo()) {
        // Without waiting for somebody to write: that is done where a signal ends it.
        let mut options = File::options();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path).map_err(fail)?;
        return Ok(forward(path.to_string_lossy().into_owned(), file));
    }
    Ok(Input::Whole(Arc::new(ImageFile::open(path, opening.access(), caching)?)))
}

fn forward(name: String, file: File) -> Input {
    Input::Forward(Forward { name, len: None, bytes: Box::new(Patient(file)) })
}

/// A pipe, which may keep us waiting: a signal ends that.
struct Patient(File);

impl Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let tick = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if is_stopped() {
                return Err(std::io::Error::other(Error::cancelled()));
            }
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => match self.0.read(out) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    other => return other,
                },
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Digests of an input, taken while it is read.
pub(crate) struct Digests {
    algorithms: Vec<Algorithm>,
    way: Way,
}

enum Way {
    /// Nobody wants any.
    None,
    /// The input goes by, and is digested as it does.
    Passing(Arc<Mutex<Vec<Hasher>>>),
    /// The input is read beside the work.
    Beside(Arc<dyn Source>),
}

impl Digests {
    fn of(input: &mut Input, algorithms: &[Algorithm]) -> Digests {
        let way = match input {
            _ if algorithms.is_empty() => Way::None,
            Input::Whole(source) => Way::Beside(source.clone()),
            Input::Forward(forward) => {
                let hashers: Vec<_> = algorithms.iter().copied().map(Hasher::new).collect();
                let hashers = Arc::new(Mutex::new(hashers));
                let bytes = std::mem::replace(&mut forward.bytes, Box::new(std::io::empty()));
                forward.bytes = Box::new(Tee { bytes, hashers: hashers.clone() });
                Way::Passing(hashers)
            }
        };
        Digests { algorithms: algorithms.to_vec(), way }
    }

    /// Whether there will be any.
    pub(crate) fn are_wanted(&self) -> bool {
        !self.algorithms.is_empty()
    }

    /// Begins to read the input, where it does not go by anyway.
    pub(crate) fn begin(self) -> Digesting {
        match self.way {
            Way::None => Digesting::None,
            Way::Passing(hashers) => Digesting::Passing(hashers),
            Way::Beside(source) => {
                let algorithms = self.algorithms;
                Digesting::Beside(std::thread::spawn(move || {
                    formats::digests(&*source, &algorithms)
                }))
            }
        }
    }
}

/// Digests that are being taken.
pub(crate) enum Digesting {
    None,
    Passing(Arc<Mutex<Vec<Hasher>>>),
    Beside(std::thread::JoinHandle<Result<Vec<Digest>>>),
}

impl Digesting {
    /// The digests, once all of the input has been read.
    pub(crate) fn finish(self) -> Result<Vec<Digest>> {
        match self {
            Digesting::None => Ok(Vec::new()),
            Digesting::Passing(hashers) => {
                let mut hashers = hashers.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(hashers.drain(..).map(Hasher::finish).collect())
            }
            Digesting::Beside(thread) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

/// Bytes that are digested as they go by.
struct Tee {
    bytes: Box<dyn Read + Send>,
    hashers: Arc<Mutex<Vec<Hasher>>>,
}

impl Read for Tee {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = self.bytes.read(out)?;
        for hasher in &mut *self.hashers.lock().unwrap_or_else(PoisonError::into_inner) {
            hasher.update(&out[..len]);
        }
        Ok(len)
    }
}
