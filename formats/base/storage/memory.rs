//! Bytes in memory.

use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Source, Span, Target};

/// A file that lives in memory: for tests, benches, and callers that have the bytes already.
pub struct Memory {
    bytes: RwLock<Vec<u8>>,
    fresh: bool,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new([])
    }
}

impl Memory {
    /// A file of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Memory {
        let bytes = bytes.into();
        Memory { fresh: bytes.is_empty(), bytes: RwLock::new(bytes) }
    }

    /// Its bytes as they are now.
    pub fn to_vec(&self) -> Vec<u8> {
        self.get().clone()
    }

    fn get(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_mut(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl Source for Memory {
    fn len(&self) -> u64 {
        self.get().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.get();
        let Some(rest) = position(offset).ok().and_then(|at| bytes.get(at..)) else { return Ok(0) };
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn name(&self) -> String {
        "memory".into()
    }
}

impl Target for Memory {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = position(offset)?;
        let end = at.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut all = self.get_mut();
        if all.len() < end {
            all.resize(end, 0);
        }
        all[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        let mut all = self.get_mut();
        let end = position(span.end())?.min(all.len());
        let start = position(span.start())?.min(end);
        all[start..end].fill(0);
        Ok(())
    }

    fn allocate(&self, _: Span) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.get_mut().resize(position(len)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }
}
