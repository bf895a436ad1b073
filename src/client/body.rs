//! The way from whoever makes the bytes of an image to the request that sends them.
//!
//! ```text
//!   job ─▶ Sending ─▶ inspection, digests ─▶ a few parts ═▶ Body ─▶ the line
//! ```
//!
//! What is sent is inspected as it goes by: a body ends well only if all of it was what the record
//! says that it is. Otherwise the request breaks off, and the service has no image.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use formats::{
    Algorithm, Digest, Error, FORMATS, Facts, Format, Ingest, Kind, Limits, Result, Verdict,
};

use super::digester::Digester;
use crate::progress::is_stopped;

/// Bytes of a part.
const PART: usize = 1 << 20;
/// Parts between who makes them and who sends them.
const BETWEEN: usize = 4;
/// How often whoever waits looks whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// What the bytes have to be.
#[derive(Clone)]
pub(crate) struct Expected {
    /// Their format.
    pub(crate) format: &'static Format,
    /// Bytes of the disk, where they are known in advance.
    pub(crate) disk_size: Option<u64>,
    /// What they may not push us past.
    pub(crate) limits: Limits,
}

/// What was sent.
pub(crate) struct Sent {
    /// How many bytes.
    pub(crate) len: u64,
    /// Their digests: MD5 and SHA-512.
    pub(crate) digests: Vec<Digest>,
    /// What they are.
    pub(crate) facts: Facts,
}

/// The end into which bytes are written.
#[derive(Clone)]
pub(crate) struct Sending {
    inner: Arc<Mutex<Inner>>,
    queue: Arc<Queue>,
}

struct Inner {
    part: Vec<u8>,
    len: u64,
    digester: Option<Digester>,
    ingest: Option<Ingest>,
    expected: Expected,
    /// Whether its headers have been seen and are as they should be.
    seen: bool,
}

/// The end from which they are sent.
pub(super) struct Body {
    queue: Arc<Queue>,
    part: Arc<Vec<u8>>,
    at: usize,
    /// Whether nobody listens any more.
    hung_up: Arc<AtomicBool>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Arc<Vec<u8>>>,
    /// How the parts ended: well, or not.
    ended: Option<bool>,
    /// The body is gone.
    gone: bool,
}

/// Both ends of a way.
pub(super) fn way(expected: Expected, hung_up: Arc<AtomicBool>) -> (Sending, Body) {
    let queue = Arc::new(Queue::default());
    // A raw disk must not look like anything else; another format needs no look at all others.
    let formats = match expected.format.name {
        "raw" => FORMATS,
        _ => std::slice::from_ref(&expected.format),
    };
    let inner = Inner {
        part: Vec::with_capacity(PART),
        len: 0,
        digester: Some(Digester::new(&[Algorithm::Md5, Algorithm::Sha512])),
        ingest: Some(Ingest::new(formats, expected.limits.clone())),
        expected,
        seen: false,
    };
    let sending = Sending { inner: Arc::new(Mutex::new(inner)), queue: queue.clone() };
    (sending, Body { queue, part: Arc::default(), at: 0, hung_up })
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All has been written. Fails if that is not what it should be.
    pub(crate) fn finish(&self) -> Result<Sent> {
        let mut inner = self.lock();
        inner.pass_on(&self.queue).map_err(|error| Error::io("cannot send it", error))?;
        let ingest = inner.ingest.take().ok_or_else(|| Error::invalid("it was sent already"))?;
        let facts = ingest.finish()?;
        inner.expected.are(&facts)?;
        let digests = inner.digester.take().map(Digester::finish).unwrap_or_default();
        self.queue.end(true);
        Ok(Sent { len: inner.len, digests, facts })
    }

    /// No more will come, and what came is not to be kept.
    pub(crate) fn give_up(&self) {
        self.queue.end(false);
    }

    /// Whether whoever sends it has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.lock().gone
    }
}

impl Inner {
    fn pass_on(&mut self, queue: &Queue) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = Arc::new(std::mem::replace(&mut self.part, Vec::with_capacity(PART)));
        self.len += part.len() as u64;
        if let Some(ingest) = &mut self.ingest {
            let verdict = ingest.push(&part).map_err(io::Error::other)?;
            if let (Verdict::Known(facts), false) = (verdict, self.seen) {
                self.expected.are(&facts).map_err(io::Error::other)?;
                self.seen = true;
            }
        }
        if let Some(digester) = &self.digester {
            digester.push(&part)?;
        }
        queue.push(part)
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.lock();
        let len = bytes.len().min(PART - inner.part.len());
        inner.part.extend_from_slice(&bytes[..len]);
        if inner.part.len() == PART {
            inner.pass_on(&self.queue)?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().pass_on(&self.queue)
    }
}

impl Expected {
    /// `Refused` if these facts are not those of what is to be sent.
    fn are(&self, facts: &Facts) -> Result<()> {
        let (wanted, is) = (self.format.name, facts.format);
        if is != wanted {
            let what = format!("its bytes are {is}, and would be taken for that, not {wanted}");
            return Err(Error::refused(what));
        }
        if let Some(size) = self.disk_size.filter(|size| *size != facts.disk_size) {
            let what = format!("a disk of {size} bytes is sent as one of {}", facts.disk_size);
            return Err(Error::new(Kind::Malformed, what).format(wanted));
        }
        safe(facts)
    }
}

/// `Refused` if a cautious host would not take what has these facts.
pub(crate) fn safe(facts: &Facts) -> Result<()> {
    match facts.hazards.first() {
        None => Ok(()),
        Some(hazard) => {
            let (kind, what) = (hazard.kind.name(), &hazard.what);
            let text = format!("it is not safe to hand on: {kind}: {what}");
            Err(Error::refused(text).format(facts.format))
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.moved.wait_timeout(state, TICK);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Fails when nobody takes it.
    fn push(&self, part: Arc<Vec<u8>>) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            if is_stopped() {
                return Err(io::Error::other(Error::cancelled()));
            }
            if state.gone {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the service takes no more"));
            }
            if state.parts.len() < BETWEEN {
                state.parts.push_back(part);
                self.moved.notify_all();
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    fn end(&self, well: bool) {
        self.lock().ended.get_or_insert(well);
        self.moved.notify_all();
    }

    /// The next part; none at a good end.
    fn pop(&self, hung_up: &AtomicBool) -> io::Result<Option<Arc<Vec<u8>>>> {
        let mut state = self.lock();
        loop {
            if hung_up.load(Ordering::SeqCst) {
                return Ok(None);
            }
            if state.ended == Some(false) {
                return Err(io::Error::other("what is sent was given up"));
            }
            if let Some(part) = state.parts.pop_front() {
                self.moved.notify_all();
                return Ok(Some(part));
            }
            if state.ended == Some(true) {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.part.len() || self.hung_up.load(Ordering::SeqCst) {
            match self.queue.pop(&self.hung_up)? {
                None => return Ok(0),
                Some(part) => (self.part, self.at) = (part, 0),
            }
        }
        let len = out.len().min(self.part.len() - self.at);
        out[..len].copy_from_slice(&self.part[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.queue.lock().gone = true;
        self.queue.moved.notify_all();
    }
}
