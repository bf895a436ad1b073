//! A table of ours that may be larger than memory: mapped, from a file that has no name.
//!
//! The one place with `unsafe`. Images are never mapped: another process may cut an image short,
//! and a mapping of it would then kill us.

use std::io;

use memmap2::MmapMut;

use crate::base::error::{Error, Result};

/// Tables up to this size lie in ordinary memory.
const SMALL: usize = 4 << 20;

/// Bytes, all zero at first, backed by memory when small and by an unnamed file when large.
pub(crate) enum Spool {
    /// In memory.
    Small(Vec<u8>),
    /// In an unnamed file.
    Large(MmapMut),
}

impl Spool {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Result<Spool> {
        if len <= SMALL {
            return Ok(Spool::Small(vec![0; len]));
        }
        let fail = |error: io::Error| Error::io(format!("cannot spool {len} bytes"), error);
        Spool::unnamed(len).map(Spool::Large).map_err(fail)
    }

    fn unnamed(len: usize) -> io::Result<MmapMut> {
        let file = super::scratch::scratch().or_else(|_| super::scratch::in_memory())?;
        file.set_len(len as u64)?;
        #[expect(unsafe_code, reason = "the only mapping; proof below")]
        // SAFETY: the file was created above, has no name and never had one that stays, and its
        // only handle is dropped here: nobody else can cut it short or write to it.
        unsafe {
            MmapMut::map_mut(&file)
        }
    }
}

impl std::ops::Deref for Spool {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Spool::Small(bytes) => bytes,
            Spool::Large(bytes) => bytes,
        }
    }
}

impl std::ops::DerefMut for Spool {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Spool::Small(bytes) => bytes,
            Spool::Large(bytes) => bytes,
        }
    }
}
