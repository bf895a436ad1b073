//! Locks as qemu takes them, so that a running virtual machine and we respect each other.
//!
//! qemu: block/file-posix.c. Byte 100 + p of the file is locked by whoever uses permission p,
//! byte 200 + p by whoever lets nobody else have it. All locks are shared ones: what counts is
//! whether somebody else holds a byte. They belong to the open file description.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
const USED: i64 = 100;
const UNSHARED: i64 = 200;

/// What we are about to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Read it; nobody may write meanwhile.
    Read,
    /// Write it; nobody else may, and nobody may rely on its content.
    Write,
}

/// Locks the file for a purpose. `WouldBlock` if somebody else holds it in a way that does not
/// agree. File systems without such locks count as not locked.
pub(super) fn lock(file: &File, purpose: Purpose) -> io::Result<()> {
    let (uses, unshares): (&[i64], &[i64]) = match purpose {
        Purpose::Read => (&[CONSISTENT_READ], &[WRITE, RESIZE]),
        Purpose::Write => (&[CONSISTENT_READ, WRITE, RESIZE], &[WRITE, RESIZE]),
    };
    let held = uses.iter().map(|p| USED + p).chain(unshares.iter().map(|p| UNSHARED + p));
    for byte in held {
        match set(file, byte) {
            Ok(()) => {}
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => return Err(taken()),
            Err(_) => return Ok(()),
        }
    }
    let others = uses.iter().map(|p| UNSHARED + p).chain(unshares.iter().map(|p| USED + p));
    for byte in others {
        if is_held_by_others(file, byte) {
            return Err(taken());
        }
    }
    Ok(())
}

/// Gives all locks on the file back. Closing it is not enough: a process that was forked off in
/// between has the same open file description until it becomes another program.
pub(super) fn release(file: &File) {
    let all = libc::flock { l_len: UNSHARED, ..range(libc::F_UNLCK, USED) };
    // Where there are no locks there is nothing to give back.
    let _ = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&all));
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "another process is using this image")
}

#[expect(clippy::cast_possible_truncation, reason = "F_RDLCK and the like are small constants")]
fn range(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn set(file: &File, byte: i64) -> nix::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte))).map(drop)
}

fn is_held_by_others(file: &File, byte: i64) -> bool {
    let mut probe = range(libc::F_WRLCK, byte);
    let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut probe));
    asked.is_ok() && i32::from(probe.l_type) != libc::F_UNLCK
}
