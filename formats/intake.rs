//! From what was named to bytes that can be looked at: through compression, from a file or from a
//! stream that goes by once.
//!
//! ```text
//!   file, URL ─▶ Whole ─┐              ┌─▶ Whole: any byte at any time
//!                       ├─▶ unwrap ─▶ ─┤
//!   pipe ─▶ Forward ────┘              └─▶ Forward ─▶ spool ─▶ Whole
//! ```

use std::io::{self, Read};
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Format;
use crate::base::sniff;
use crate::base::storage::{
    Access, BLOCK, Caching, ImageFile, Source, Target as _, Timed, Window, is_zero, scratch,
};
use crate::base::wrapper::{Budget, Counted, Members, Sequence, Unpacked, Wrapper, failed};
use crate::pool::{Watch, default_threads};
use crate::probe;

/// As much of a file as is looked at to see whether something is wrapped around it.
const FRONT: usize = 4096;
/// Bytes that are spooled at a time.
const PORTION: usize = 1 << 20;

/// Bytes, as they can be had.
pub enum Input {
    /// Any of them at any time.
    Whole(Arc<dyn Source>),
    /// From the first to the last, once.
    Forward(Forward),
}

/// Bytes that go by once.
pub struct Forward {
    /// What people know them by.
    pub name: String,
    /// How many there will be, where that is known.
    pub len: Option<u64>,
    /// The bytes.
    pub bytes: Box<dyn Read + Send>,
}

impl Input {
    /// The same bytes, until the deadline of these limits.
    #[must_use]
    pub fn within(self, limits: &Limits) -> Input {
        match (self, limits.deadline) {
            (Input::Whole(source), _) => Input::Whole(Timed::within(source, limits)),
            (Input::Forward(forward), Some(deadline)) => {
                let bytes = Box::new(Timed::new(forward.bytes, deadline));
                Input::Forward(Forward { bytes, ..forward })
            }
            (forward, None) => forward,
        }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Input::Whole(source) => source.name(),
            Input::Forward(forward) => forward.name.clone(),
        }
    }

    /// The first `most` bytes, fewer of a short file; they can be read again.
    fn front(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut front = Vec::new();
        match self {
            Input::Whole(source) => {
                let len = usize::try_from(source.len()).unwrap_or(most).min(most);
                front.resize(len, 0);
                Window::read(&**source, 0, &mut front)?;
            }
            Input::Forward(forward) => {
                let fail = |error| Error::io("cannot read", error);
                let mut part = (&mut forward.bytes).take(most as u64);
                part.read_to_end(&mut front).map_err(fail)?;
                let rest = std::mem::replace(&mut forward.bytes, Box::new(io::empty()));
                forward.bytes = Box::new(io::Cursor::new(front.clone()).chain(rest));
            }
        }
        Ok(front)
    }
}

/// Takes off the compression around a file, as often as the limits allow. Returns what was taken
/// off, the outermost first. Compressed initramfs images are left as they are: for them it is part
/// of the format.
///
/// Where the compression says where its blocks lie, what is inside can be read at any place;
/// otherwise it goes by once. `Refused` if the file is an image of one of these formats as well.
pub fn unwrap(
    mut input: Input,
    formats: &[&'static Format],
    limits: &Limits,
) -> Result<(Input, Vec<Wrapper>)> {
    let mut off = Vec::new();
    loop {
        let Some(wrapper) = Wrapper::of(&input.front(FRONT)?) else { return Ok((input, off)) };
        let front = input.front(sniff::needed(wrapper))?;
        if sniff::holds_cpio(wrapper, &front, limits) {
            return Ok((input, off));
        }
        let name = input.name();
        if off.len() == limits.max_wrappers {
            let most = limits.max_wrappers;
            let what = format!("it is compressed more than {most} times over");
            return Err(Error::limit(what).path(name));
        }
        off.push(wrapper);
        input = take_off(input, wrapper, formats, limits).map_err(|error| error.path(name))?;
    }
}

fn take_off(
    input: Input,
    wrapper: Wrapper,
    formats: &[&'static Format],
    limits: &Limits,
) -> Result<Input> {
    let forward = match input {
        Input::Whole(source) => {
            not_an_image_too(&*source, wrapper, formats)?;
            let near = !source.is_far();
            let threads = default_threads();
            if let Some(unpacked) = Unpacked::new(wrapper, &source, near, threads, limits)? {
                return Ok(Input::Whole(Arc::new(unpacked)));
            }
            let (name, len) = (source.name(), Some(source.len()));
            Forward { name, len, bytes: Box::new(Sequence::new(source)) }
        }
        Input::Forward(forward) => forward,
    };
    let members = Failing { wrapper, members: Members::new(wrapper, forward.bytes, limits) };
    let counted = Counted::new(members, Budget::new(forward.len, limits));
    Ok(Input::Forward(Forward { name: forward.name, len: None, bytes: Box::new(counted) }))
}

/// What members fail with, in our words.
struct Failing {
    wrapper: Wrapper,
    members: Members,
}

impl Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.members.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            other => other.map_err(|error| io::Error::other(failed(self.wrapper, error))),
        }
    }
}

/// A file with the mark of an image, in front or at the end, is not opened as a packed one.
fn not_an_image_too(
    source: &dyn Source,
    wrapper: Wrapper,
    formats: &[&'static Format],
) -> Result<()> {
    let found = probe::matches(formats, source)?;
    match found.iter().find(|format| !probe::is_any(format)) {
        None => Ok(()),
        Some(format) => {
            let (wrapper, format) = (wrapper.name(), format.name);
            let what = format!("it is {wrapper} and {format} at once; say which with -f");
            Err(Error::refused(what))
        }
    }
}

/// Puts bytes that go by into a file without a name, so that each can be read at any time. `watch`
/// is told how far it is.
pub fn spool(forward: Forward, limits: &Limits, watch: &dyn Watch) -> Result<Arc<dyn Source>> {
    let name = forward.name;
    spooled(&name, forward.bytes, forward.len, limits, watch).map_err(|error| error.path(name))
}

fn spooled(
    name: &str,
    mut bytes: Box<dyn Read + Send>,
    len: Option<u64>,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Arc<dyn Source>> {
    let fail = |error| Error::io("cannot spool it", error);
    let file = scratch().map_err(fail)?;
    let file = ImageFile::from_file(file, name.as_ref(), Access::Write, Caching::Unsafe)?;
    let mut portion = vec![0; PORTION];
    let mut at = 0_u64;
    loop {
        let got = fill(&mut bytes, &mut portion).map_err(|e| Error::io("cannot read", e))?;
        for (index, block) in portion[..got].chunks(16 * BLOCK).enumerate() {
            if !is_zero(block) {
                let offset = at + (index * 16 * BLOCK) as u64;
                file.write_at(offset, block).map_err(fail)?;
            }
        }
        at += got as u64;
        if at > limits.max_disk_size {
            let most = limits.max_disk_size;
            return Err(Error::limit(format!("it has more than {most} bytes")));
        }
        if watch.progress(at, len.unwrap_or(0)).is_break() {
            return Err(Error::cancelled());
        }
        if got < portion.len() {
            break;
        }
    }
    file.set_len(at).map_err(fail)?;
    Ok(Arc::new(file))
}

/// Reads until the buffer is full or there is no more.
pub(crate) fn fill(bytes: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match bytes.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Compression is taken off, and what is inside made such that it can be read at any place: for
/// images that lie in another one.
pub fn unwrapped(
    source: Arc<dyn Source>,
    formats: &[&'static Format],
    limits: &Limits,
) -> Result<Arc<dyn Source>> {
    match unwrap(Input::Whole(source), formats, limits)?.0 {
        Input::Whole(source) => Ok(source),
        Input::Forward(forward) => spool(forward, limits, &crate::pool::Unwatched),
    }
}
