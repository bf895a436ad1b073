//! Files and block devices.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};

use super::lock::{self, Purpose};
use super::{Allocated, BLOCK, Source, Span, Target};
use crate::base::error::{Error, Result};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// To read, with a lock that keeps writers away.
    #[default]
    Read,
    /// To read, whoever writes meanwhile (`-U`).
    ReadShared,
    /// To change in place, with a lock that keeps everybody away.
    Write,
}

/// How the operating system's cache takes part, in the words of qemu's cache modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caching {
    /// As `Writeback` where storage tells of its errors late: on devices, and on file systems that
    /// belong to another machine or another process. As `Unsafe` elsewhere, as any copy is made.
    #[default]
    Auto,
    /// Through the cache, synced once at the end.
    Writeback,
    /// Through the cache, every write in storage before the next.
    Writethrough,
    /// Around the cache, synced once at the end.
    None,
    /// Around the cache, every write in storage before the next.
    Directsync,
    /// Through the cache, and left to it: fast, and lost if the power fails soon afterwards.
    Unsafe,
}

impl Caching {
    pub(super) fn is_direct(self) -> bool {
        matches!(self, Caching::None | Caching::Directsync)
    }

    fn is_synchronous(self) -> bool {
        matches!(self, Caching::Writethrough | Caching::Directsync)
    }

    fn syncs(self, file: &File, device: bool) -> bool {
        match self {
            Caching::Auto => device || is_foreign(file),
            Caching::Unsafe => false,
            Caching::Writeback | Caching::Writethrough | Caching::None | Caching::Directsync => {
                true
            }
        }
    }
}

/// A regular file or a block device.
pub struct ImageFile {
    file: File,
    /// The same file around the cache, for requests that are aligned.
    direct: Option<File>,
    path: PathBuf,
    len: Mutex<u64>,
    device: bool,
    /// Whether it stays the file that it is, as long as it is.
    pub(super) kept: bool,
    /// Whether what has not been written reads as zeros.
    pub(super) fresh: bool,
    syncs: bool,
    /// Held while writing through the cache. The kernel lets one in at a time, and whoever waits
    /// there burns a core; here it sleeps.
    writing: Mutex<Unsent>,
    /// Whether other files may share its blocks, once it was asked.
    reflinks: OnceLock<bool>,
    /// What of it is allocated, as far as that was asked last and before that; only where nobody
    /// writes to it.
    seen: Option<Mutex<[Seen; 2]>>,
}

/// A stretch of a file that is data, or a hole with data behind it.
#[derive(Clone, Copy)]
struct Seen {
    start: u64,
    found: Allocated,
}

impl Drop for ImageFile {
    fn drop(&mut self) {
        lock::release(&self.file);
    }
}

/// What has been written and not yet sent on its way to storage.
#[derive(Default)]
struct Unsent {
    start: u64,
    end: u64,
}

/// Bytes after which what was written is sent on its way, so that the sync at the end finds little
/// left to wait for.
const SEND: u64 = 32 << 20;

impl ImageFile {
    /// Opens what a user named. `Invalid` if it is neither a file nor a block device, `Refused`
    /// if another process holds it, `Io` if it does not open.
    pub fn open(path: &Path, access: Access, caching: Caching) -> Result<ImageFile> {
        let mut options = File::options();
        // Without waiting: a pipe would keep us until somebody writes to it.
        let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
        options.read(true).write(access == Access::Write).custom_flags(flags.bits().cast_signed());
        #[expect(clippy::disallowed_methods, reason = "storage opens files")]
        let file = options.open(path).map_err(|e| Error::io("cannot open", e).path(path))?;
        ImageFile::from_file(file, path, access, caching)
    }

    /// An image in a file that is open already.
    pub(crate) fn from_file(
        file: File,
        path: &Path,
        access: Access,
        caching: Caching,
    ) -> Result<ImageFile> {
        let fail = |error| Error::io("cannot look at it", error).path(path);
        let kind = file.metadata().map_err(fail)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let what = if kind.is_dir() { "is a folder" } else { "is no file or block device" };
            return Err(Error::invalid(format!("{what}, not a disk image")).path(path));
        }
        let purpose = match access {
            Access::Read => Some(Purpose::Read),
            Access::Write => Some(Purpose::Write),
            Access::ReadShared => None,
        };
        if let Some(Err(error)) = purpose.map(|purpose| lock::lock(&file, purpose)) {
            let mut refused = Error::refused(error.to_string()).path(path);
            if purpose == Some(Purpose::Read) {
                refused = Error::refused(format!("{error}; -U reads it all the same")).path(path);
            }
            return Err(refused);
        }
        let mut this =
            ImageFile::new(file, path, kind.is_block_device(), false, caching).map_err(fail)?;
        if access == Access::Read {
            let found = Allocated { data: false, end: 0 };
            this.seen = Some(Mutex::new([Seen { start: 0, found }; 2]));
        }
        Ok(this)
    }

    pub(super) fn new(
        file: File,
        path: &Path,
        device: bool,
        fresh: bool,
        caching: Caching,
    ) -> io::Result<ImageFile> {
        let len = rustix::fs::seek(&file, SeekFrom::End(0))?;
        let flags = rustix::fs::fcntl_getfl(&file)?;
        let direct = if caching.is_direct() { reopen(&file, flags, OFlags::DIRECT) } else { None };
        let mut this = ImageFile {
            direct,
            path: path.into(),
            len: Mutex::new(len),
            device,
            kept: device,
            fresh,
            syncs: caching.syncs(&file, device),
            file,
            writing: Mutex::default(),
            reflinks: OnceLock::new(),
            seen: None,
        };
        if caching.is_synchronous()
            && let Some(file) = reopen(&this.file, flags, OFlags::DSYNC)
        {
            this.file = file;
        }
        Ok(this)
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file system lets other files share its blocks. Asked once: of an output when
    /// it is opened, for the process may not open files later.
    pub(super) fn reflinks(&self) -> bool {
        *self.reflinks.get_or_init(|| can_reflink(&self.file))
    }

    fn length(&self) -> u64 {
        *self.len.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, len: u64) {
        let mut known = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        *known = len.max(*known);
    }

    /// The handle for a request: around the cache if all of it is aligned.
    fn handle(&self, offset: u64, buf: &[u8]) -> &File {
        let block = BLOCK as u64;
        let aligned = offset.is_multiple_of(block)
            && buf.len().is_multiple_of(BLOCK)
            && buf.as_ptr().align_offset(BLOCK) == 0;
        self.direct.as_ref().filter(|_| aligned).unwrap_or(&self.file)
    }

    /// What lies from here on; `data` if that it is no hole is known.
    fn seek(&self, from: u64, data: bool) -> io::Result<Allocated> {
        let end = self.length();
        if !data {
            match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
                Ok(data) if data > from => {
                    return Ok(Allocated { data: false, end: data.min(end) });
                }
                Ok(_) => {}
                Err(rustix::io::Errno::NXIO) if end <= from => {}
                Err(rustix::io::Errno::NXIO) => {
                    self.reaches(end).map_err(io::Error::other)?;
                    return Ok(Allocated { data: false, end });
                }
                // A file system that does not know: all of it may be data.
                Err(_) => return Ok(Allocated { data: true, end }),
            }
        }
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(from)).unwrap_or(end);
        Ok(Allocated { data: true, end: hole.clamp(from + 1, end.max(from + 1)) })
    }

    /// `Truncated` if another process has cut the file short meanwhile: behind its end there is no
    /// hole, but nothing.
    fn reaches(&self, end: u64) -> Result<()> {
        let fail = |error| Error::io("cannot look at it", error).path(&self.path);
        let there = self.file.metadata().map_err(fail)?.len();
        if there >= end {
            return Ok(());
        }
        let what = format!("it had {} bytes, and now has {there}", self.length());
        Err(Error::truncated(there, what).path(&self.path))
    }

    fn write_zeros(&self, span: Span) -> io::Result<()> {
        let zeros = super::Buffer::new(1 << 20);
        let mut at = span.start();
        while at < span.end() {
            let len = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(zeros.len());
            self.write_at(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(())
    }
}

impl Unsent {
    /// Adds a stretch; gives back what there is once it is enough, or when the next is far away.
    fn add(&mut self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let before = (self.start, self.end - self.start);
        let near = offset <= self.end + SEND && offset + len + SEND >= self.start;
        if near && before.1 < SEND {
            self.start = self.start.min(offset);
            self.end = self.end.max(offset + len);
            return None;
        }
        (self.start, self.end) = (offset, offset + len);
        Some(before)
    }
}

/// The same file once more, with another flag; `None` where the file system does not know it.
fn reopen(file: &File, flags: OFlags, add: OFlags) -> Option<File> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let keep = flags & OFlags::ACCMODE;
    rustix::fs::open(name, keep | add | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .ok()
        .map(File::from)
}

impl Source for ImageFile {
    fn len(&self) -> u64 {
        self.length()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.handle(offset, buf).read_at(buf, offset)
    }

    fn allocated(&self, from: u64) -> io::Result<Allocated> {
        if self.device {
            return Ok(Allocated { data: true, end: self.length() });
        }
        let Some(seen) = &self.seen else { return self.seek(from, false) };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.iter().find(|seen| (seen.start..seen.found.end).contains(&from)) {
            return Ok(seen.found);
        }
        let ends = |seen: &Seen| !seen.found.data && from > 0 && from == seen.found.end;
        let found = self.seek(from, seen.iter().any(ends))?;
        *seen = [Seen { start: from, found }, seen[0]];
        Ok(found)
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn still_whole(&self) -> Result<()> {
        if self.device { Ok(()) } else { self.reaches(self.length()) }
    }

    fn stored(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.file.metadata()?.blocks() * 512))
    }

    fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    fn identity(&self) -> Option<(u64, u64)> {
        let data = self.file.metadata().ok()?;
        // Two names of one device are one disk.
        Some(if self.device { (u64::MAX, data.rdev()) } else { (data.dev(), data.ino()) })
    }
}

impl Target for ImageFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.device && offset.saturating_add(bytes.len() as u64) > self.length() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.direct.is_some() {
            self.handle(offset, bytes).write_all_at(bytes, offset)?;
        } else {
            let mut unsent = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.file.write_all_at(bytes, offset)?;
            let send = unsent.add(offset, bytes.len() as u64).filter(|_| self.syncs);
            drop(unsent);
            if let Some((start, len)) = send {
                // Begins to write these pages out; only the clean ones among them are dropped.
                let _ =
                    rustix::fs::fadvise(&self.file, start, NonZeroU64::new(len), Advice::DontNeed);
            }
        }
        self.grow(offset + bytes.len() as u64);
        Ok(())
    }

    fn zero(&self, span: Span) -> io::Result<()> {
        let len = self.length();
        if span.is_empty() || span.start() >= len {
            return Ok(());
        }
        // What lies past the end reads as zeros once the file reaches there.
        let len = span.end().min(len) - span.start();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for flags in [punch, FallocateFlags::ZERO_RANGE] {
            if rustix::fs::fallocate(&self.file, flags, span.start(), len).is_ok() {
                return Ok(());
            }
        }
        self.write_zeros(Span::new(span.start(), len).map_err(io::Error::other)?)
    }

    fn allocate(&self, span: Span) -> io::Result<()> {
        if self.device || span.is_empty() {
            return Ok(());
        }
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), span.start(), span.len())?;
        self.grow(span.end());
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.kept {
            let fits = len <= self.length();
            return if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        self.file.set_len(len)?;
        *self.len.lock().unwrap_or_else(PoisonError::into_inner) = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn fixed_len(&self) -> Option<u64> {
        self.kept.then(|| self.length())
    }

    fn shares_with(&self, source: &dyn Source) -> bool {
        let device = |file: &File| file.metadata().ok().map(|data| data.dev());
        !self.device
            && source.file().is_some_and(|other| device(other) == device(&self.file))
            && self.reflinks()
    }

    fn share(&self, source: &dyn Source, from: u64, offset: u64, len: u64) -> io::Result<()> {
        let Some(other) = source.file() else { return Err(io::ErrorKind::Unsupported.into()) };
        let (mut from, mut at, mut left) = (from, offset, len);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            let (input, output) = (other.as_fd(), self.file.as_fd());
            let (mut source_at, mut target_at) = (from, at);
            let done = rustix::fs::copy_file_range(
                input,
                Some(&mut source_at),
                output,
                Some(&mut target_at),
                want,
            )? as u64;
            if done == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (from, at, left) = (from + done, at + done, left - done);
        }
        self.grow(offset + len);
        Ok(())
    }
}

/// Whether the file system of this file belongs to another machine or process: what cannot be
/// stored there, for want of room or of a connection, is told by a sync at the earliest.
fn is_foreign(file: &File) -> bool {
    const NFS: i64 = 0x6969;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    const FUSE: i64 = 0x6573_5546;
    const PLAN9: i64 = 0x0102_1997;
    const CEPH: i64 = 0x00c3_6400;
    const AFS: i64 = 0x5346_414f;
    const GFS2: i64 = 0x0116_1970;
    const OCFS2: i64 = 0x7461_636f;
    let known = [NFS, CIFS, SMB2, FUSE, PLAN9, CEPH, AFS, GFS2, OCFS2];
    // Of one that does not say what it is the worst is thought.
    rustix::fs::fstatfs(file).map_or(true, |system| known.contains(&system.f_type))
}

/// Whether the file system of this file lets two files share blocks: asked of the ones known to,
/// with two files of one block that have no name.
fn can_reflink(file: &File) -> bool {
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const BCACHEFS: i64 = 0xca45_1a4e;
    let known = |kind: i64| matches!(kind, XFS | BTRFS | BCACHEFS);
    if !rustix::fs::fstatfs(file).is_ok_and(|system| known(system.f_type)) {
        return false;
    }
    let folder = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Some(folder) = folder.ok().and_then(|path| path.parent().map(Path::to_path_buf)) else {
        return false;
    };
    let unnamed = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(&folder, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
    };
    let (Ok(one), Ok(two)) = (unnamed(), unnamed()) else { return false };
    let one = File::from(one);
    one.write_all_at(&[1; BLOCK], 0).is_ok() && rustix::fs::ioctl_ficlone(&two, &one).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    // Seen: a raw disk whose file was cut short while it was copied became one that ends in zeros.
    // Why: behind the end of a file there are no data, which was taken for a hole.
    #[test]
    fn a_file_that_was_cut_short_has_no_hole_at_its_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("grown");
        let open = |access| ImageFile::open(file.path(), access, Caching::Auto).expect("there");
        let image = open(Access::ReadShared);
        let found = image.allocated(8192).expect("a hole");
        assert_eq!(found, Allocated { data: false, end: 1 << 20 });
        image.still_whole().expect("it is");
        file.as_file().set_len(10_000).expect("cut");
        for from in [8192, 20_000] {
            let error = image.allocated(from).expect_err("it was cut");
            assert_eq!(Error::io("", error).kind(), Kind::Truncated, "{from}");
        }
        assert_eq!(image.still_whole().expect_err("it was cut").kind(), Kind::Truncated);
    }

    #[test]
    fn what_was_seen_is_not_asked_again_and_is_the_same() {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("grown");
        for at in [64 << 10, 100 << 10, 600 << 10] {
            file.as_file().write_all_at(&[1; 8192], at).expect("written");
        }
        let open = |access| ImageFile::open(file.path(), access, Caching::Auto).expect("there");
        let (kept, asked) = (open(Access::Read), open(Access::ReadShared));
        for from in (0..1 << 20).step_by(2048).chain([700 << 10, 4096, (1 << 20) - 1, 0, 1 << 20]) {
            let (kept, asked) = (kept.allocated(from), asked.allocated(from));
            assert_eq!(kept.expect("told"), asked.expect("told"), "{from}");
        }
    }
}
