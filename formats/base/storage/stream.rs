//! A pipe, a socket: bytes go out in the order of their offsets, and none comes back.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Span, Target};

/// How long nothing may go out that others wait for: then something is wrong.
const PATIENCE: Duration = Duration::from_secs(600);

/// A target that only appends. Whoever comes early with bytes that lie further on waits until
/// those in front of them have come; a gap is never filled.
pub struct Stream {
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    at: u64,
    failed: bool,
}

impl Stream {
    /// What is written goes into `out`.
    pub fn new(out: impl Write + Send + 'static) -> Stream {
        let state = State { out: Box::new(out), at: 0, failed: false };
        Stream { state: Mutex::new(state), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Stream {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        while state.at < offset && !state.failed {
            let seen = state.at;
            let waited = self.moved.wait_timeout(state, PATIENCE);
            let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            // A reader that takes its time is no reason to give up: who writes to it has the lock.
            if waited.timed_out() && state.at == seen {
                break;
            }
        }
        let done = match (state.failed, state.at == offset) {
            (true, _) => Err(io::Error::other("an earlier write has failed")),
            (false, false) => Err(io::Error::other(format!("a stream cannot go to {offset:#x}"))),
            (false, true) => state.out.write_all(bytes),
        };
        match done {
            Ok(()) => state.at += bytes.len() as u64,
            Err(_) => state.failed = true,
        }
        self.moved.notify_all();
        done
    }

    fn zero(&self, _: Span) -> io::Result<()> {
        Err(io::Error::other("a stream has no room for zeros"))
    }

    fn allocate(&self, _: Span) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.lock().at == len {
            true => Ok(()),
            false => Err(io::Error::other("a stream has the length that was written")),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.lock().out.flush()
    }

    fn is_fresh(&self) -> bool {
        false
    }

    fn appends_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() + bytes.len() > 100 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            kept.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_go_out_in_order_whoever_comes_first() {
        let kept = Kept::default();
        let stream = Stream::new(kept.clone());
        std::thread::scope(|scope| {
            for number in (0..10_u8).rev() {
                let stream = &stream;
                scope.spawn(move || stream.write_at(u64::from(number) * 10, &[number; 10]));
            }
        });
        let bytes: Vec<u8> = (0..100).map(|at| at / 10).collect();
        assert_eq!(*kept.0.lock().expect("nobody panicked"), bytes);
        assert!(stream.write_at(5, b"back").is_err());
    }

    #[test]
    fn who_waits_for_a_write_that_failed_is_told() {
        let stream = Stream::new(Kept::default());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| stream.write_at(200, b"later"));
            assert!(stream.write_at(0, &[1; 200]).is_err());
            assert!(waits.join().expect("it does not panic").is_err());
        });
    }
}
