//! A file that goes by once, looked at by position as far as it can be.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Source;
use crate::base::error::{Error, Result};

/// Bytes that are taken in at a time.
const CHUNK: usize = 1 << 20;
/// Bytes that are kept behind the furthest that was asked for: workers are so far apart at most.
const KEPT: usize = 32;
/// Bytes that may be looked at before it is known what they are: in chunks, too.
const HELD: usize = 32;

/// Sees bytes go by: where they lie, and what they are.
pub(crate) type Witness = Box<dyn FnMut(u64, &[u8]) + Send>;

/// The bytes of a reader by position: what was read last is still there, what comes is waited
/// for. At first everything is kept, so that it can be read again from its front.
pub(crate) struct Ahead {
    name: String,
    state: Mutex<State>,
}

struct State {
    input: Box<dyn Read + Send>,
    chunks: VecDeque<Vec<u8>>,
    /// Where the first chunk begins.
    start: u64,
    /// Where the last one ends.
    end: u64,
    ended: bool,
    /// Who sees what is let go of; `None` while everything is held.
    witness: Option<Witness>,
}

impl Ahead {
    /// What `input` will give.
    pub(crate) fn new(name: impl Into<String>, input: Box<dyn Read + Send>) -> Arc<Ahead> {
        let (chunks, ended, witness) = (VecDeque::new(), false, None);
        let state = State { input, chunks, start: 0, end: 0, ended, witness };
        Arc::new(Ahead { name: name.into(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that have come so far.
    pub(crate) fn came(&self) -> u64 {
        self.lock().end
    }

    /// From now on what lies far behind is let go of; `witness` sees every byte from the first
    /// one on, in order.
    pub(crate) fn let_go(&self, witness: Witness) {
        self.lock().witness = Some(witness);
    }

    /// Reads what is left and hands all of it to the witness. Returns the length of the whole.
    pub(crate) fn drain(&self) -> Result<u64> {
        let mut state = self.lock();
        while !state.ended {
            state.pull().map_err(|error| Error::io("cannot read", error))?;
            state.shed(0);
        }
        state.shed(0);
        Ok(state.end)
    }

    /// All of it from its front, as a reader. `Invalid` if something was let go of.
    pub(crate) fn again(&self) -> Result<Box<dyn Read + Send>> {
        let mut state = self.lock();
        if state.start > 0 {
            return Err(Error::invalid("what has gone by cannot be read again"));
        }
        let chunks: Vec<_> = state.chunks.drain(..).collect();
        let input = std::mem::replace(&mut state.input, Box::new(io::empty()));
        let front = chunks.into_iter().map(io::Cursor::new);
        let front = front.fold(Box::new(io::empty()) as Box<dyn Read + Send>, |all, chunk| {
            Box::new(all.chain(chunk))
        });
        Ok(Box::new(front.chain(input)))
    }
}

impl State {
    /// Takes in the next chunk.
    fn pull(&mut self) -> io::Result<()> {
        if self.witness.is_none() && self.chunks.len() >= HELD {
            let most = HELD * CHUNK;
            let what = format!("more than {most} bytes of it would have to be looked at first");
            return Err(io::Error::other(Error::limit(what)));
        }
        let mut chunk = Vec::new();
        let mut part = (&mut self.input).take(CHUNK as u64);
        part.read_to_end(&mut chunk)?;
        self.ended = chunk.len() < CHUNK;
        self.end += chunk.len() as u64;
        self.chunks.push_back(chunk);
        Ok(())
    }

    /// Lets go of all chunks but the last `keep`.
    fn shed(&mut self, keep: usize) {
        let Some(witness) = &mut self.witness else { return };
        while self.chunks.len() > keep {
            let Some(chunk) = self.chunks.pop_front() else { return };
            witness(self.start, &chunk);
            self.start += chunk.len() as u64;
        }
    }
}

impl Source for Ahead {
    fn len(&self) -> u64 {
        self.known_len().unwrap_or(u64::MAX)
    }

    fn known_len(&self) -> Option<u64> {
        let state = self.lock();
        state.ended.then_some(state.end)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let wanted = offset.saturating_add(buf.len() as u64);
        while state.end < wanted && !state.ended {
            state.pull()?;
            state.shed(KEPT);
        }
        let Some(skip) = offset.checked_sub(state.start) else {
            let what = "it looks back at bytes that have gone by";
            return Err(io::Error::other(Error::unsupported(what).at(offset)));
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let Some(chunk) = state.chunks.get(skip / CHUNK) else { return Ok(0) };
        let here = chunk.get(skip % CHUNK..).unwrap_or_default();
        let len = here.len().min(buf.len());
        buf[..len].copy_from_slice(&here[..len]);
        Ok(len)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::storage::Window;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_has_gone_by_is_seen_once_and_in_order() {
        let bytes: Vec<u8> = (0..70 * CHUNK).map(|at| (at / 4096 % 251).to_le_bytes()[0]).collect();
        let ahead = Ahead::new("stream", Box::new(io::Cursor::new(bytes.clone())));
        let mut front = [1; 8];
        Window::read(&*ahead, 3, &mut front).expect("the front");
        let seen = Arc::new(AtomicU64::new(0));
        let counts = seen.clone();
        ahead.let_go(Box::new(move |at, chunk| {
            assert_eq!(at, counts.fetch_add(chunk.len() as u64, Ordering::Relaxed));
        }));
        let mut far = vec![0; 2 * CHUNK];
        let at = 50 * CHUNK;
        Window::read(&*ahead, at as u64, &mut far).expect("further on");
        assert_eq!(far, bytes[at..at + 2 * CHUNK]);
        assert!(Window::read(&*ahead, 0, &mut front).is_err(), "it has gone by");
        assert!(ahead.again().is_err());
        assert_eq!(ahead.drain().expect("the rest"), bytes.len() as u64);
        assert_eq!(seen.load(Ordering::Relaxed), bytes.len() as u64);
    }

    #[test]
    fn what_is_held_can_be_read_again() {
        let ahead = Ahead::new("stream", Box::new(io::Cursor::new(vec![7; 3 * CHUNK + 5])));
        let mut byte = [0];
        Window::read(&*ahead, 2 * CHUNK as u64, &mut byte).expect("a byte");
        let mut all = Vec::new();
        ahead.again().expect("from the front").read_to_end(&mut all).expect("all of it");
        assert_eq!(all, vec![7; 3 * CHUNK + 5]);
    }
}
