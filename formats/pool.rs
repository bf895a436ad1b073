//! Threads of our own, never the host's.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::base::error::{Error, Result};

/// Told how far we are; `Break` stops us. A progress bar, a task record and a cancel button are
/// the same thing.
pub trait Watch: Sync {
    /// `done` of `total` bytes are dealt with.
    fn progress(&self, done: u64, total: u64) -> ControlFlow<()>;
}

/// Watches nothing and lets everything go on.
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// As many threads as the machine runs at once.
pub fn default_threads() -> usize {
    // Asked once: later, the process may not be able to see how many it is allowed.
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(16))
}

/// What workers on one job share: the first failure, and whose turn it is.
pub(crate) struct Crew {
    failure: Mutex<Option<Error>>,
    stopped: AtomicBool,
    turn: Mutex<Turn>,
    next: Condvar,
}

/// Whose turn it is, and how many wait for theirs: waking nobody costs a system call, too.
#[derive(Default)]
struct Turn {
    number: u64,
    waiting: usize,
}

/// Rings when a worker panics: the others would wait for its turn for ever.
struct Bell<'a>(&'a Crew);

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl Crew {
    /// Lets `threads` workers do `work` until each returns. The first failure stops all.
    pub(crate) fn run(threads: usize, work: impl Fn(&Crew) -> Result<()> + Sync) -> Result<()> {
        let crew = Crew {
            failure: Mutex::new(None),
            stopped: AtomicBool::new(false),
            turn: Mutex::new(Turn::default()),
            next: Condvar::new(),
        };
        let work = || {
            let _bell = Bell(&crew);
            if let Err(error) = work(&crew) {
                crew.fail(error);
            }
        };
        if threads <= 1 {
            work();
        } else {
            // Scoped: when it returns, its threads are gone, too.
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|number| format!("disk-{number}"))
                .build_scoped(rayon::ThreadBuilder::run, |pool| pool.broadcast(|_| work()))
                .map_err(|error| Error::io("cannot start threads", std::io::Error::other(error)))?;
        }
        match crew.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether a worker should leave.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.stop();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Under the lock, so that nobody is between looking at the flag and going to sleep.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.next.notify_all();
    }

    /// Does `work` when all with a smaller number have done theirs; `None` if stopped before.
    /// The numbers are 0, 1, 2, ..., each once.
    pub(crate) fn in_turn<T>(
        &self,
        number: u64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.waiting += 1;
        let waits = |turn: &mut Turn| turn.number != number && !self.is_stopped();
        let mut turn = self.next.wait_while(turn, waits).unwrap_or_else(PoisonError::into_inner);
        turn.waiting -= 1;
        if self.is_stopped() {
            return Ok(None);
        }
        let done = work()?;
        turn.number += 1;
        if turn.waiting > 0 {
            self.next.notify_all();
        }
        Ok(Some(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_does_not_leave_the_others_waiting() {
        let next = std::sync::atomic::AtomicU64::new(0);
        let run = std::panic::AssertUnwindSafe(|| {
            Crew::run(3, |crew| {
                let number = next.fetch_add(1, Ordering::SeqCst);
                assert!(number != 0, "on purpose");
                crew.in_turn(number, || Ok(())).map(drop)
            })
        });
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
