//! Files without a name, for what does not fit into memory: whatever becomes of the process, they
//! leave nothing behind.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};

/// Opened in advance by [`keep_scratch`].
static SPARE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Opens files without a name in advance, for a process that is about to give up opening files.
/// Those that cannot be had are missed only if they are needed.
pub fn keep_scratch(count: usize) {
    let files = (0..count).map_while(|_| unnamed().ok());
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
}

/// An empty file without a name: in the folder for temporary files that TMPDIR says, else in
/// /var/tmp, which has room for a disk where /tmp may be memory.
pub(crate) fn scratch() -> io::Result<File> {
    match SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop() {
        Some(file) => Ok(file),
        None => unnamed(),
    }
}

/// As large as memory is, where there is no other place.
pub(super) fn in_memory() -> io::Result<File> {
    Ok(memfd_create("diskwright-spool", MemfdFlags::CLOEXEC)?.into())
}

fn unnamed() -> io::Result<File> {
    let folder = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => in_memory(),
        Err(errno) => Err(errno.into()),
    }
}
