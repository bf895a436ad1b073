//! Files on HTTP servers, as sources: only what is asked for is fetched, and a line that drops is
//! taken up again where it broke.
//!
//! A server that gives ranges is read like a file. One that does not gives a stream, from front
//! to end. Only what a user names is ever fetched: names in images lead to no server.

mod agent;
mod blocks;
mod line;
mod stream;

#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use formats::{Error, Result, Source};
use url::Url;

pub(crate) use agent::{Attempts, Failure, Patience, Trust, config, is_passing, wait_asked_for};
use blocks::{BLOCK, Blocks, Fetch, Look};
use line::{Answer, Line};
use stream::Forward;

/// Whether this names a file on a server.
pub(crate) fn is_url(path: &Path) -> bool {
    starts_with(path, "http://") || starts_with(path, "https://")
}

/// A `file://` URL as the path that it stands for; any other path as it is. `Invalid` if it names
/// another host.
pub(crate) fn local(path: &Path) -> Result<PathBuf> {
    if !starts_with(path, "file://") {
        return Ok(path.to_path_buf());
    }
    let url = path.to_str().and_then(|text| Url::parse(text).ok());
    let here = |url: &Url| matches!(url.host_str(), None | Some("" | "localhost"));
    let found = url.filter(here).and_then(|url| url.to_file_path().ok());
    found.ok_or_else(|| Error::invalid("it is no URL of a file on this machine").path(path))
}

/// A URL as it may be shown: without credentials, and without its query, which may hold some. Any
/// other path as it is.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let url = is_url(path).then(|| path.to_str()).flatten();
    match url.map(Url::parse) {
        None => path.to_path_buf(),
        Some(Ok(url)) => line::shown(&url).into(),
        Some(Err(_)) => "a URL that is none".into(),
    }
}

fn starts_with(path: &Path, scheme: &str) -> bool {
    let front = path.as_os_str().as_encoded_bytes().get(..scheme.len());
    front.is_some_and(|front| front.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// A file on a server, opened.
#[expect(clippy::large_enum_variant, reason = "there is one a file")]
pub(crate) enum Opened {
    /// Read where one likes.
    Ranged(Remote),
    /// Read from front to end only; its length, if the server says it.
    Forward(Box<dyn Read + Send>, Option<u64>),
}

/// Opens a file on a server. `Invalid` if this is no such URL, `Io` if the server does not give
/// it.
pub(crate) fn open(url: &Path) -> Result<Opened> {
    open_with(url, Patience::default())
}

fn open_with(url: &Path, patience: Patience) -> Result<Opened> {
    let text = url.to_str().ok_or_else(|| "it is not UTF-8".to_string());
    let line = text.and_then(|text| Line::new(text, patience)).map_err(|why| {
        Error::invalid(format!("it is no URL that can be fetched: {why}")).path(shown(url))
    })?;
    let name = line.shown();
    connect(line).map_err(|error| Error::io("cannot open", error).path(name))
}

fn connect(mut line: Line) -> io::Result<Opened> {
    let mut attempts = Attempts::new(line.patience, false);
    let answer = loop {
        match line.ask(0, Some(BLOCK)) {
            Ok(answer) => break answer,
            Err(failure) => attempts.next(failure)?,
        }
    };
    line.hold(&answer);
    match answer {
        Answer { range: Some(_), total: Some(len), body, .. } => {
            let remote = Remote::new(line, len);
            remote.keep_front(body);
            Ok(Opened::Ranged(remote))
        }
        Answer { range: None, total, body, .. } => {
            Ok(Opened::Forward(Box::new(Forward::new(line, total, body)), total))
        }
        Answer { range: Some(_), total: None, .. } => {
            Err(io::Error::other("the server gives ranges of it, and does not say how long it is"))
        }
    }
}

/// A file on a server that gives ranges.
pub(crate) struct Remote {
    line: Line,
    len: u64,
    blocks: Mutex<Blocks>,
    /// Blocks have come, or will not come.
    moved: Condvar,
}

impl Remote {
    fn new(line: Line, len: u64) -> Remote {
        Remote { line, len, blocks: Mutex::new(Blocks::new(len)), moved: Condvar::new() }
    }

    /// The block that came with the first answer, if all of it did: otherwise it is asked for when
    /// it is wanted.
    fn keep_front(&self, mut body: Box<dyn Read + Send>) {
        let Ok(len) = usize::try_from(self.len.min(BLOCK)) else { return };
        let mut bytes = vec![0; len];
        if body.read_exact(&mut bytes).is_ok() {
            self.lock().put(0, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a run of blocks that nobody else fetches; hands each over as it comes.
    fn fetch(&self, fetch: Fetch) -> io::Result<()> {
        let mut wanted = Wanted { remote: self, fetch };
        let mut attempts = Attempts::new(self.line.patience, true);
        let mut bytes = Vec::new();
        let end = fetch.end().min(self.len);
        let mut at = fetch.start();
        while at < end {
            let before = at;
            let result = self.attempt(&mut at, end, &mut bytes, &mut wanted);
            if at > before {
                attempts.progress();
            }
            if let Err(failure) = result {
                attempts.next(failure)?;
            }
        }
        Ok(())
    }

    /// One request for the bytes from `at` to `end`; `at` moves with what comes.
    fn attempt(
        &self,
        at: &mut u64,
        end: u64,
        bytes: &mut Vec<u8>,
        wanted: &mut Wanted,
    ) -> Result<(), Failure> {
        let mut answer = self.line.ask(*at, Some(end))?;
        let Some((_, behind)) = answer.range else {
            return Err(match answer.total {
                Some(total) if total != self.len => self.other_length(total),
                _ => Failure::again("the server sent all of it instead of a range"),
            });
        };
        if let Some(total) = answer.total.filter(|total| *total != self.len) {
            return Err(self.other_length(total));
        }
        while *at < behind {
            // Up to the end of the block, or of the answer.
            let block_end = (*at / BLOCK + 1).saturating_mul(BLOCK).min(end);
            let have = bytes.len();
            let left = usize::try_from(block_end.min(behind) - *at).unwrap_or(usize::MAX);
            bytes.resize(have + left, 0);
            let read = answer.body.read(&mut bytes[have..]);
            let count = *read.as_ref().unwrap_or(&0);
            bytes.truncate(have + count);
            *at += count as u64;
            match read {
                Ok(0) => return Err(Failure::again("the line broke")),
                Ok(_) => {}
                Err(error) => return Err(Failure::of_body(error)),
            }
            if *at == block_end {
                wanted.came(std::mem::take(bytes));
            }
        }
        // Up to its end, so that the line can be used again.
        let _ = answer.body.read(&mut [0]);
        Ok(())
    }

    fn other_length(&self, total: u64) -> Failure {
        let len = self.len;
        Failure::last(format!("it changed while it was read: it has {total} bytes, and had {len}"))
    }
}

/// Blocks that somebody fetches. Whoever waits for them is told when they will not come.
struct Wanted<'a> {
    remote: &'a Remote,
    fetch: Fetch,
}

impl Wanted<'_> {
    /// The next of them has come.
    fn came(&mut self, bytes: Vec<u8>) {
        self.remote.lock().put(self.fetch.first, bytes);
        self.fetch.first += 1;
        self.remote.moved.notify_all();
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.remote.lock().give_up(self.fetch);
        self.remote.moved.notify_all();
    }
}

impl Source for Remote {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_far(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        let mut done = 0;
        let mut blocks = self.lock();
        while done < wanted {
            match blocks.look(offset + done as u64, (wanted - done) as u64) {
                Look::Here(block, from) => {
                    let part = (block.len() - from).min(wanted - done);
                    buf[done..done + part].copy_from_slice(&block[from..from + part]);
                    done += part;
                }
                Look::OnItsWay => {
                    blocks = self.moved.wait(blocks).unwrap_or_else(PoisonError::into_inner);
                }
                Look::Fetch(fetch) => {
                    drop(blocks);
                    self.fetch(fetch)?;
                    blocks = self.lock();
                }
            }
        }
        Ok(done)
    }

    fn name(&self) -> String {
        self.line.shown()
    }
}
