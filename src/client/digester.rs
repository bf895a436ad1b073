//! Digests of bytes that go by, each on a thread of its own: what takes them is the slowest part
//! of a transfer.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use formats::{Algorithm, Digest, Hasher};

/// Parts that wait for a digest.
const WAITING: usize = 4;

/// Takes digests.
pub(super) struct Digester {
    lines: Vec<SyncSender<Arc<Vec<u8>>>>,
    threads: Vec<JoinHandle<Digest>>,
}

impl Digester {
    /// Of nothing, so far.
    pub(super) fn new(algorithms: &[Algorithm]) -> Digester {
        let mut digester = Digester { lines: Vec::new(), threads: Vec::new() };
        for algorithm in algorithms {
            let (line, parts) = sync_channel::<Arc<Vec<u8>>>(WAITING);
            let mut hasher = Hasher::new(*algorithm);
            digester.lines.push(line);
            digester.threads.push(std::thread::spawn(move || {
                while let Ok(part) = parts.recv() {
                    hasher.update(&part);
                }
                hasher.finish()
            }));
        }
        digester
    }

    /// The next bytes.
    pub(super) fn push(&self, part: &Arc<Vec<u8>>) -> io::Result<()> {
        for line in &self.lines {
            let gone = |_| io::Error::other("a digest was given up");
            line.send(part.clone()).map_err(gone)?;
        }
        Ok(())
    }

    /// What all of them digest to, in the order of the algorithms.
    pub(super) fn finish(self) -> Vec<Digest> {
        drop(self.lines);
        let join = |thread: JoinHandle<Digest>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        self.threads.into_iter().map(join).collect()
    }
}
