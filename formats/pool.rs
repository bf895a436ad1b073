//! Threads of our own, never the host's.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

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
    std::thread::available_parallelism().map_or(1, usize::from).min(16)
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

impl Crew {
    /// Lets `threads` workers do `work` until each returns. The first failure stops all.
    pub(crate) fn run(threads: usize, work: impl Fn(&Crew) -> Result<()> + Sync) -> Result<()> {
        let crew = Crew {
            failure: Mutex::new(None),
            stopped: AtomicBool::new(false),
            turn: Mutex::new(Turn::default()),
            next: Condvar::new(),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|number| format!("disk-{number}"))
            .build()
            .map_err(|error| Error::io("cannot start threads", std::io::Error::other(error)))?;
        pool.broadcast(|_| {
            if let Err(error) = work(&crew) {
                crew.fail(error);
            }
        });
        drop(pool);
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
