//! Packs a stream of bytes in blocks, by several threads, in order.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::{Wrapper, bgzf, seekable, xz};
use crate::base::error::{Error, Result};
use crate::base::storage::is_zero;

/// Bytes that go into one piece of work.
fn block_len(wrapper: Wrapper) -> usize {
    match wrapper {
        Wrapper::Gzip | Wrapper::Bzip2 | Wrapper::Lz4 => 16 * bgzf::CONTENT,
        Wrapper::Xz => 16 << 20,
        Wrapper::Zstd => 4 << 20,
    }
}

/// Packs what is written to it. Nothing is complete before [`finish`](Packer::finish).
///
/// The same bytes come out however many threads there are.
pub struct Packer {
    block: usize,
    buffer: Vec<u8>,
    number: u64,
    work: Option<SyncSender<(u64, Vec<u8>)>>,
    /// Buffers that are done with.
    spare: Receiver<Vec<u8>>,
    workers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<Result<()>>>,
}

/// A block that was packed.
#[derive(Clone)]
enum Packed {
    Bytes { bytes: Vec<u8>, len: usize },
    Xz(xz::Packed),
}

impl Packer {
    /// Packs into `out`, by so many threads. `level`: how hard it tries, the packer's own middle
    /// if not said. `Unsupported` for what is only read, `Invalid` for a level it has not.
    pub fn new(
        wrapper: Wrapper,
        level: Option<u32>,
        threads: usize,
        out: impl Write + Send + 'static,
    ) -> Result<Packer> {
        let name = wrapper.name();
        let (usual, most) = match wrapper {
            Wrapper::Bzip2 | Wrapper::Lz4 => {
                return Err(Error::unsupported(format!("{name} is read, not written")));
            }
            Wrapper::Gzip => (6, 12),
            Wrapper::Xz => (6, 9),
            Wrapper::Zstd => (3, 22),
        };
        let level = level.unwrap_or(usual);
        if !(1..=most).contains(&level) {
            let what = format!("{name} has levels from 1 to {most}, and not {level}");
            return Err(Error::invalid(what));
        }
        let threads = threads.max(1);
        let (work, waiting) = sync_channel::<(u64, Vec<u8>)>(threads);
        let waiting = Arc::new(Mutex::new(waiting));
        let (done, packed) = sync_channel(2 * threads);
        let (spare_in, spare) = channel();
        let zeros: Arc<OnceLock<Packed>> = Arc::default();
        let block = block_len(wrapper);
        let worker = |_| {
            let (waiting, done, spare) = (waiting.clone(), done.clone(), spare_in.clone());
            let zeros = zeros.clone();
            std::thread::spawn(move || {
                labour(wrapper, level, block, &waiting, &zeros, &done, &spare);
            })
        };
        let workers = (0..threads).map(worker).collect();
        let writer = std::thread::spawn(move || write_all(wrapper, &packed, out));
        let buffer = Vec::new();
        let (work, writer) = (Some(work), Some(writer));
        Ok(Packer { block, buffer, number: 0, work, spare, workers, writer })
    }

    /// Packs what is left and returns when all of it was written.
    pub fn finish(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            // If that fails, the writer knows why.
            let _ = self.send();
        }
        self.work = None;
        for worker in self.workers.drain(..) {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        match self.writer.take() {
            Some(writer) => writer.join().unwrap_or_else(|p| std::panic::resume_unwind(p)),
            None => Ok(()),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let next = self.spare.try_recv().unwrap_or_default();
        let bytes = std::mem::replace(&mut self.buffer, next);
        let sent = self.work.as_ref().is_some_and(|work| work.send((self.number, bytes)).is_ok());
        self.number += 1;
        match sent {
            true => Ok(()),
            false => Err(io::Error::other("an earlier write has failed")),
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.block - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        if self.buffer.len() == self.block
            && let Err(error) = self.send()
        {
            // The reason is the writer's.
            return Err(self.finish().map_or_else(io::Error::other, |()| error));
        }
        Ok(len)
    }

    /// Blocks have one length, so that the same bytes come out every time: nothing is sent early.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Packer {
    /// Gone before it was finished: nobody wants what is left.
    fn drop(&mut self) {
        self.work = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

/// What a worker does: takes the next block there is, and packs it.
fn labour(
    wrapper: Wrapper,
    level: u32,
    block: usize,
    waiting: &Mutex<Receiver<(u64, Vec<u8>)>>,
    zeros: &OnceLock<Packed>,
    done: &SyncSender<(u64, Result<Packed>)>,
    spare: &Sender<Vec<u8>>,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, mut bytes)) = next else { return };
        let empty = bytes.len() == block && is_zero(&bytes);
        let packed = match zeros.get().filter(|_| empty) {
            Some(packed) => Ok(packed.clone()),
            None => pack(wrapper, level, &bytes),
        };
        if let Ok(packed) = &packed
            && empty
        {
            zeros.get_or_init(|| packed.clone());
        }
        if done.send((number, packed)).is_err() {
            return;
        }
        bytes.clear();
        let _ = spare.send(bytes);
    }
}

fn pack(wrapper: Wrapper, level: u32, bytes: &[u8]) -> Result<Packed> {
    let len = bytes.len();
    Ok(match wrapper {
        Wrapper::Xz => Packed::Xz(xz::Author::pack(level, bytes)?),
        Wrapper::Zstd => Packed::Bytes { bytes: seekable::pack(level, bytes)?, len },
        Wrapper::Gzip | Wrapper::Bzip2 | Wrapper::Lz4 => {
            Packed::Bytes { bytes: bgzf::pack(level, bytes)?, len }
        }
    })
}

/// Writes packed blocks in their order, and what stands behind them.
fn write_all(
    wrapper: Wrapper,
    packed: &Receiver<(u64, Result<Packed>)>,
    mut out: impl Write,
) -> Result<()> {
    let fail = |error| Error::io("cannot write", error);
    let (mut early, mut next) = (BTreeMap::new(), 0);
    let (mut author, mut sizes) = (xz::Author::default(), Vec::new());
    if wrapper == Wrapper::Xz {
        out.write_all(&xz::Author::header()).map_err(fail)?;
    }
    while let Ok((number, block)) = packed.recv() {
        early.insert(number, block);
        while let Some(block) = early.remove(&next) {
            next += 1;
            let bytes = match block? {
                Packed::Xz(block) => author.place(block),
                Packed::Bytes { bytes, len } => {
                    let size = |len| u32::try_from(len).expect("blocks are a few MiB");
                    sizes.push((size(bytes.len()), size(len)));
                    bytes
                }
            };
            out.write_all(&bytes).map_err(fail)?;
        }
    }
    let trailer = match wrapper {
        Wrapper::Xz => author.trailer(),
        Wrapper::Zstd => seekable::trailer(&sizes),
        Wrapper::Gzip | Wrapper::Bzip2 | Wrapper::Lz4 => bgzf::trailer(),
    };
    out.write_all(&trailer).and_then(|()| out.flush()).map_err(fail)
}
