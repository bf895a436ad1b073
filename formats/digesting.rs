//! Digests of files: of whole ones, and of one that is still being written.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::digest::{Algorithm, Digest, Hasher};
use crate::base::error::{Error, Result};
use crate::base::storage::{Source, Window};

/// Bytes that are digested at a time.
const PORTION: usize = 1 << 20;

/// How far a file is final: what is in front of it changes no more.
#[derive(Default)]
pub struct Mark {
    place: Mutex<Place>,
    moved: Condvar,
}

#[derive(Default)]
struct Place {
    at: u64,
    ended: bool,
}

impl Mark {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in front of `at` is final.
    pub fn reach(&self, at: u64) {
        let mut place = self.lock();
        place.at = place.at.max(at);
        self.moved.notify_all();
    }

    /// Nothing more will come: the file is final, or given up.
    pub fn end(&self) {
        self.lock().ended = true;
        self.moved.notify_all();
    }

    /// Waits until more than `at` is final, or the end. Returns how much is, and whether that is
    /// the end.
    fn beyond(&self, at: u64) -> (u64, bool) {
        let waits = |place: &mut Place| place.at <= at && !place.ended;
        let place = self.moved.wait_while(self.lock(), waits);
        let place = place.unwrap_or_else(PoisonError::into_inner);
        (place.at, place.ended)
    }
}

/// The digests of all bytes of a file.
pub fn digests(source: &dyn Source, algorithms: &[Algorithm]) -> Result<Vec<Digest>> {
    let mark = Mark::default();
    mark.end();
    follow(source, &mark, algorithms)
}

/// The digests of all bytes of a file that is being written: whatever the mark has passed is read
/// at once, while it is still in memory.
pub fn follow(source: &dyn Source, mark: &Mark, algorithms: &[Algorithm]) -> Result<Vec<Digest>> {
    let mut hashers: Vec<_> = algorithms.iter().copied().map(Hasher::new).collect();
    let (mut buffer, zeros) = (vec![0; PORTION], vec![0; PORTION]);
    let mut at = 0;
    loop {
        let (reached, ended) = mark.beyond(at);
        let end = if ended { source.len() } else { reached.min(source.len()) };
        while at < end {
            let fail = |error| Error::io("cannot ask what is allocated", error).at(at);
            let found = source.allocated(at).map_err(fail)?;
            let part = usize::try_from(end.min(found.end) - at).unwrap_or(PORTION).min(PORTION);
            if found.data {
                Window::read(source, at, &mut buffer[..part])?;
            }
            let bytes = if found.data { &buffer[..part] } else { &zeros[..part] };
            for hasher in &mut hashers {
                hasher.update(bytes);
            }
            at += part as u64;
        }
        if ended {
            source.still_whole()?;
            return Ok(hashers.into_iter().map(Hasher::finish).collect());
        }
    }
}
