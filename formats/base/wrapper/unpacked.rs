//! A packed file whose blocks can be unpacked one by one, as a source of what it holds.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Block, Budget, Wrapper, bgzf, seekable, xz};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Source, Window};

/// Unpacked blocks that are kept: so many bytes, or the ones at work.
const KEPT: u64 = 24 << 20;
/// The most bytes that are unpacked before anybody asks for them.
const AHEAD: u64 = 32 << 20;

/// A source in the blocks of a packed file. Whoever reads it from front to end has the next
/// blocks unpacked by other threads meanwhile.
pub(crate) struct Unpacked {
    inner: Arc<Inner>,
    /// How many threads unpack ahead.
    threads: usize,
}

struct Inner {
    wrapper: Wrapper,
    source: Arc<dyn Source>,
    blocks: Vec<Block>,
    len: u64,
    /// The header of the first .xz stream.
    header: [u8; 12],
    budget: Budget,
    limits: Limits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    slots: HashMap<usize, Slot>,
    kept: u64,
    /// Counts uses, so that the one longest unused is known.
    clock: u64,
    /// The block that was asked for last.
    last: usize,
    /// Threads that unpack ahead now.
    ahead: usize,
}

enum Slot {
    Busy,
    Ready { bytes: Arc<Vec<u8>>, used: u64 },
    Failed(Kind, String),
}

impl Unpacked {
    /// The content of a packed file; `None` if it does not say where its blocks are. `near`:
    /// reading a few bytes here and there is cheap.
    pub(crate) fn new(
        wrapper: Wrapper,
        source: &Arc<dyn Source>,
        near: bool,
        threads: usize,
        limits: &Limits,
    ) -> Result<Option<Unpacked>> {
        let mut header = [0; 12];
        let blocks = match wrapper {
            Wrapper::Gzip => bgzf::blocks(&**source, near, limits)?,
            Wrapper::Zstd => seekable::blocks(&**source, near, limits)?,
            Wrapper::Xz => {
                let blocks = xz::blocks(&**source, limits)?;
                header = if blocks.is_some() { xz::header_before(&**source)? } else { header };
                blocks
            }
            Wrapper::Bzip2 | Wrapper::Lz4 => None,
        };
        let Some(blocks) = blocks else { return Ok(None) };
        let len = blocks.last().map_or(0, |last| last.start + last.len);
        let budget = Budget::new(Some(source.len()), limits);
        let (state, changed) = (Mutex::new(State::default()), Condvar::new());
        let (source, limits) = (source.clone(), limits.clone());
        let inner = Inner { wrapper, source, blocks, len, header, budget, limits, state, changed };
        Ok(Some(Unpacked { inner: Arc::new(inner), threads }))
    }

    /// Lets other threads unpack what comes behind block `index`.
    fn look_ahead(&self, index: usize) {
        let inner = &self.inner;
        let mut room = AHEAD.min(inner.limits.max_memory / 4);
        for next in index + 1..(index + 1 + self.threads).min(inner.blocks.len()) {
            let len = inner.blocks[next].len;
            let mut state = inner.lock();
            if len > room || state.ahead >= self.threads {
                return;
            }
            room -= len;
            if state.slots.contains_key(&next) {
                continue;
            }
            state.slots.insert(next, Slot::Busy);
            state.ahead += 1;
            drop(state);
            let inner = inner.clone();
            std::thread::spawn(move || {
                inner.fill(next);
                inner.lock().ahead -= 1;
            });
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of a block.
    fn block(&self, index: usize) -> io::Result<Arc<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            state.clock += 1;
            let now = state.clock;
            match state.slots.get_mut(&index) {
                Some(Slot::Ready { bytes, used }) => {
                    *used = now;
                    return Ok(bytes.clone());
                }
                Some(Slot::Failed(kind, why)) => {
                    return Err(io::Error::other(Error::new(*kind, why.clone())));
                }
                Some(Slot::Busy) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    state.slots.insert(index, Slot::Busy);
                    drop(state);
                    self.fill(index);
                    state = self.lock();
                }
            }
        }
    }

    /// Unpacks a block whose slot is busy.
    fn fill(&self, index: usize) {
        let slot = match self.unpack(index) {
            Ok(bytes) => Ok(Arc::new(bytes)),
            Err(error) => Err((error.kind(), error.to_string())),
        };
        let mut state = self.lock();
        state.clock += 1;
        let used = state.clock;
        let slot = match slot {
            Ok(bytes) => {
                state.kept += bytes.len() as u64;
                Slot::Ready { bytes, used }
            }
            Err((kind, why)) => Slot::Failed(kind, why),
        };
        state.slots.insert(index, slot);
        while state.kept > KEPT.min(self.limits.max_memory / 4) && state.drop_oldest(index) {}
        self.changed.notify_all();
    }

    fn unpack(&self, index: usize) -> Result<Vec<u8>> {
        let block = self.blocks[index];
        let size = |len: u64| usize::try_from(len).map_err(|_| Error::limit("a block too large"));
        let mut packed = vec![0; size(block.packed)?];
        Window::read(&*self.source, block.offset, &mut packed)?;
        let mut out = vec![0; size(block.len)?];
        let done = match self.wrapper {
            Wrapper::Xz => xz::unpack(&self.header, &packed, &mut out, &self.limits),
            Wrapper::Zstd => seekable::unpack(&packed, &mut out, &self.limits),
            Wrapper::Gzip | Wrapper::Bzip2 | Wrapper::Lz4 => bgzf::unpack(&packed, &mut out),
        };
        done.map_err(|error| super::failed(self.wrapper, error).at(block.offset))?;
        self.budget.spend(&out)?;
        Ok(out)
    }
}

impl State {
    /// Lets go of the block that was not used for longest, but not of `but`; `false` if there is
    /// none.
    fn drop_oldest(&mut self, but: usize) -> bool {
        let ready = self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Ready { used, bytes } if *index != but => Some((*used, *index, bytes.len())),
            Slot::Busy | Slot::Ready { .. } | Slot::Failed(..) => None,
        });
        let Some((_, index, len)) = ready.min() else { return false };
        self.slots.remove(&index);
        self.kept -= len as u64;
        true
    }
}

impl Source for Unpacked {
    fn len(&self) -> u64 {
        self.inner.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inner = &self.inner;
        if offset >= inner.len || buf.is_empty() {
            return Ok(0);
        }
        let index = inner.blocks.partition_point(|block| block.start <= offset) - 1;
        let last = std::mem::replace(&mut inner.lock().last, index);
        if self.threads > 0 && (last == index || last + 1 == index) {
            self.look_ahead(index);
        }
        let bytes = inner.block(index)?;
        let from = usize::try_from(offset - inner.blocks[index].start).expect("inside a block");
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn still_whole(&self) -> Result<()> {
        self.inner.source.still_whole()
    }

    fn name(&self) -> String {
        self.inner.source.name()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.inner.source.identity()
    }
}
