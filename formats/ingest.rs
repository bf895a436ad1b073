//! Inspects a stream while it goes by.
//!
//! `inspect` is straight-line code. When it asks for bytes that have not arrived, it fails with
//! `Awaiting`; we keep those bytes as they pass and run the inspection again from its first line.
//! There is no second parser, and no state machine to keep in step with the first.

use std::cell::RefCell;
use std::sync::Arc;

use crate::base::error::{Error, Kind, Need, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Facts, Hazard, HazardKind};
use crate::base::model::format::Format;
use crate::base::storage::Window;
use crate::probe;

/// The front of the stream that is always kept.
const HEAD: usize = 1 << 20;
/// The end of it that is always kept.
const TAIL: usize = 64 << 10;
/// The most that is taken in at once: what goes by while an inspection waits is still in the tail.
const PIECE: usize = TAIL / 2;
/// The most that is waited for beyond what an inspection asked for.
const PATIENCE: u64 = PIECE as u64;
/// Ranges that are no further apart are kept as one.
const PADDING: u64 = 4096;

/// What is known so far.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing final.
    Undecided,
    /// All that its headers say; the rest of the stream can add hazards, and take nothing back.
    Known(Arc<Facts>),
}

/// Inspects a stream that is pushed through it. Memory does not grow with the stream.
pub struct Ingest {
    candidates: Vec<Candidate>,
    arrived: Arrived,
    limits: Limits,
    /// Whether the caller said which format it is.
    named: bool,
}

/// A format that it may yet be.
struct Candidate {
    format: &'static Format,
    state: State,
    /// How much of the stream there must be before the inspection is run again.
    patience: u64,
}

enum State {
    /// Waits for bytes.
    Waiting(Need),
    /// It is one, and this is what it says.
    Known(Arc<Facts>),
    /// It is not, or is a damaged one.
    Out(Option<Error>),
}

impl Ingest {
    /// Any of these formats; with one format only, anything else is an error.
    pub fn new(formats: &[&'static Format], limits: Limits) -> Ingest {
        let first = Need::Range { start: 0, len: 1 };
        let candidate = |format: &&'static Format| Candidate {
            format,
            state: State::Waiting(first),
            patience: 0,
        };
        Ingest {
            named: formats.len() == 1,
            candidates: formats.iter().map(candidate).collect(),
            arrived: Arrived::default(),
            limits,
        }
    }

    /// The next bytes of the stream. Never blocks. Fails as soon as the format that was named is
    /// known not to match, or to be damaged.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Verdict> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let len = if self.is_idle_for(rest.len()) { rest.len() } else { PIECE };
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            self.arrived.push(piece);
            self.advance()?;
            rest = behind;
        }
        Ok(match self.containers().next() {
            Some(Candidate { state: State::Known(facts), .. }) => Verdict::Known(facts.clone()),
            _ => Verdict::Undecided,
        })
    }

    /// The end of the stream: what it was.
    pub fn finish(mut self) -> Result<Facts> {
        self.arrived.ended = true;
        self.advance()?;
        let names: Vec<_> = self.containers().map(|candidate| candidate.format.name).collect();
        if names.len() > 1 {
            let names = names.join(" and ");
            return Err(Error::refused(format!("it is {names} at once; say which with -f")));
        }
        let window = &self.arrived as &dyn Window;
        let foreign = if names.is_empty() && !self.named { probe::foreign(window)? } else { None };
        let mut reason = None;
        for candidate in self.candidates {
            match candidate.state {
                State::Known(facts) => {
                    return Ok(with_foreign(Arc::unwrap_or_clone(facts), foreign));
                }
                State::Out(Some(error)) => return Err(error.format(candidate.format.name)),
                State::Out(None) => {}
                State::Waiting(_) => {
                    let what = "the stream ended while more of it was needed";
                    reason.get_or_insert(Error::new(Kind::Truncated, what));
                }
            }
        }
        Err(reason.unwrap_or_else(|| Error::unsupported("no format matches")))
    }

    /// Whether nobody will have what is waited for before so many bytes have come.
    fn is_idle_for(&self, len: usize) -> bool {
        let reached = self.arrived.len.saturating_add(len as u64);
        self.candidates.iter().all(|candidate| match candidate.state {
            State::Waiting(Need::Range { start, len }) => start.saturating_add(len) > reached,
            State::Waiting(Need::End) | State::Known(_) | State::Out(_) => true,
        })
    }

    /// Those that it is, raw left out.
    fn containers(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| {
            let is = matches!(candidate.state, State::Known(_) | State::Out(Some(_)));
            is && !probe::is_any(candidate.format)
        })
    }

    /// Runs every inspection whose bytes have come.
    fn advance(&mut self) -> Result<()> {
        for candidate in &mut self.candidates {
            while let State::Waiting(need) = candidate.state {
                let patient = self.arrived.len < candidate.patience && !self.arrived.ended;
                if !self.arrived.has(need) || patient {
                    break;
                }
                candidate.state = inspect(candidate.format, &self.arrived, &self.limits);
                if matches!(candidate.state, State::Waiting(next) if next == need) {
                    break;
                }
                // A long table asks for one row after the other, and every time it is read from
                // its first row: the later, the more rows we let come.
                let len = self.arrived.len;
                candidate.patience = len.saturating_add((len / 16).min(PATIENCE));
            }
            if self.named
                && let State::Out(reason) = &mut candidate.state
            {
                let name = candidate.format.name;
                let other = || Error::new(Kind::Malformed, format!("it is not {name}"));
                return Err(reason.take().unwrap_or_else(other).format(name));
            }
        }
        Ok(())
    }
}

fn with_foreign(mut facts: Facts, foreign: Option<&'static str>) -> Facts {
    if let Some(name) = foreign {
        let what = format!("it looks like {name}, which is not read yet");
        facts.hazards.push(Hazard { kind: HazardKind::Foreign, what });
    }
    facts
}

fn inspect(format: &'static Format, arrived: &Arrived, limits: &Limits) -> State {
    let state = |error: Error| match error.need() {
        Some(need) => {
            arrived.want(need);
            State::Waiting(need)
        }
        None => State::Out(Some(error)),
    };
    match (format.probe)(arrived) {
        Ok(true) => {}
        Ok(false) => return State::Out(None),
        Err(error) => return state(error),
    }
    match (format.inspect)(arrived, limits) {
        Ok(facts) => State::Known(Arc::new(facts)),
        Err(error) => state(error),
    }
}

/// As much of a stream as has arrived and was kept.
#[derive(Default)]
struct Arrived {
    head: Vec<u8>,
    /// The last bytes; at least [`TAIL`] of them once there were so many.
    tail: Vec<u8>,
    /// How many bytes have come.
    len: u64,
    ended: bool,
    /// Ranges that somebody will look at, with as much of each as has come.
    kept: RefCell<Vec<Kept>>,
}

struct Kept {
    start: u64,
    len: u64,
    bytes: Vec<u8>,
}

impl Arrived {
    fn push(&mut self, chunk: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&chunk[..chunk.len().min(room)]);
        for kept in self.kept.get_mut() {
            kept.take(self.len, chunk);
        }
        self.len = self.len.saturating_add(chunk.len() as u64);
        // Twice the room, so that old bytes are moved out seldom.
        if self.tail.len() + chunk.len() > 2 * TAIL {
            let keep = TAIL.saturating_sub(chunk.len()).min(self.tail.len());
            self.tail.drain(..self.tail.len() - keep);
        }
        self.tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL)..]);
    }

    fn has(&self, need: Need) -> bool {
        match need {
            Need::End => self.ended,
            Need::Range { start, len } => self.ended || start.saturating_add(len) <= self.len,
        }
    }

    /// Keeps a range from now on, with what is still here of it.
    fn want(&self, need: Need) {
        let Need::Range { start, len } = need else { return };
        let end = start.saturating_add(len);
        let mut all = self.kept.borrow_mut();
        if all.iter().any(|kept| kept.start <= start && end <= kept.end()) {
            return;
        }
        // The rows of a table follow each other, but for some padding: they are kept as one range,
        // for many small ones take long to go through.
        let (here, tail_start) = (self.len, self.len - self.tail.len() as u64);
        let goes_on = |kept: &Kept| {
            let reaches = kept.arrived() >= start.min(here) || kept.arrived() >= tail_start;
            (kept.start..=kept.end().saturating_add(PADDING)).contains(&start) && reaches
        };
        let index = all.iter().position(goes_on).unwrap_or(all.len());
        if index == all.len() {
            all.push(Kept { start, len, bytes: Vec::new() });
        }
        let kept = &mut all[index];
        kept.len = end.max(kept.end()) - kept.start;
        kept.take(0, &self.head);
        kept.take(tail_start, &self.tail);
    }
}

impl Kept {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Up to where its bytes are here.
    fn arrived(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Adds what `chunk`, which lies at `at`, has of the bytes still missing.
    fn take(&mut self, at: u64, chunk: &[u8]) {
        let next = self.arrived();
        let end = self.end().min(at + chunk.len() as u64);
        if at <= next && next < end {
            let range = [next - at, end - at].map(|n| usize::try_from(n).expect("in the chunk"));
            self.bytes.extend_from_slice(&chunk[range[0]..range[1]]);
        }
    }
}

/// Copies `buf.len()` bytes at `offset` out of a stretch that begins at `start`, if it has them.
fn copy_from(start: u64, bytes: &[u8], offset: u64, buf: &mut [u8]) -> bool {
    let from = offset.checked_sub(start).and_then(|from| usize::try_from(from).ok());
    let found = from.and_then(|from| bytes.get(from..from.checked_add(buf.len())?));
    if let Some(found) = found {
        buf.copy_from_slice(found);
    }
    found.is_some()
}

impl Window for Arrived {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len() as u64;
        let end = offset.checked_add(len).ok_or_else(|| Error::truncated(offset, "past 2^64"))?;
        let tail_start = self.len - self.tail.len() as u64;
        if copy_from(0, &self.head, offset, buf) {
            return Ok(());
        }
        if self.kept.borrow().iter().any(|kept| copy_from(kept.start, &kept.bytes, offset, buf)) {
            return Ok(());
        }
        if copy_from(tail_start, &self.tail, offset, buf) {
            // The inspection may ask for it again, when the tail has moved on.
            self.want(Need::Range { start: offset, len });
            return Ok(());
        }
        if end <= self.len {
            let what = format!("it looks back at {len} bytes that the stream has gone past");
            return Err(Error::unsupported(what).at(offset));
        }
        if self.ended {
            let total = self.len;
            let what = format!("{len} bytes wanted, and the file ends at {total}");
            return Err(Error::truncated(offset, what));
        }
        Err(Error::awaiting(Need::Range { start: offset, len }))
    }

    fn total(&self) -> Option<u64> {
        self.ended.then_some(self.len)
    }

    fn expect(&self, offset: u64, len: u64) {
        self.want(Need::Range { start: offset, len });
    }
}
