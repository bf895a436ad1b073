//! A file that appears under its name only when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::file::{Access, Caching, ImageFile};
use crate::base::error::{Error, Result};

/// Output under way. Dropped without [`commit`](Output::commit), it leaves nothing behind.
pub struct Output {
    file: Arc<ImageFile>,
    path: PathBuf,
    /// What it is called in front of people.
    shown: PathBuf,
    /// The folder that `path` goes through, kept open.
    folder: Option<Arc<OwnedFd>>,
    /// Whether a file stood there already, which it takes the place of.
    replaces: bool,
    stage: Stage,
}

enum Stage {
    /// No name yet, so that even a killed process leaves nothing.
    Unnamed,
    /// A temporary name, where the file system knows no files without one.
    Named(PathBuf),
    /// Written in place: a block device, or a file that the caller wants kept.
    InPlace,
}

impl Output {
    /// Output that will stand at `path`, beside which it grows until then. A block device is
    /// written in place. `Invalid` if `path` is something else than a file.
    pub fn create(path: &Path, caching: Caching) -> Result<Output> {
        let fail = |error| Error::io("cannot create", error).path(path);
        let place = destination(path).map_err(fail)?;
        if let Some(data) = &place.there {
            if data.file_type().is_block_device() {
                return Output::in_place(path, caching, false);
            }
            if !data.is_file() {
                let what = if data.is_dir() { "a folder" } else { "no file or block device" };
                return Err(Error::invalid(format!("the output is {what}")).path(path));
            }
        }
        let (file, stage) = open_beside(&place.path).map_err(fail)?;
        if let Some(data) = &place.there {
            let mode = std::fs::Permissions::from_mode(data.mode() & 0o7777);
            file.set_permissions(mode).map_err(fail)?;
        }
        let file = ImageFile::new(file, path, false, true, caching).map_err(fail)?;
        file.reflinks();
        let (shown, replaces) = (place.path.clone(), place.there.is_some());
        let file = Arc::new(file);
        Ok(Output { file, path: place.path, shown, folder: None, replaces, stage })
    }

    /// Output that will stand under a name in an open folder, whatever becomes of the path to that
    /// folder; `shown` is what people know it by. `Refused` if the name is taken, but for a file
    /// that is to be replaced: links are not followed.
    pub fn within(
        folder: &Arc<OwnedFd>,
        name: &str,
        shown: &Path,
        replace: bool,
    ) -> Result<Output> {
        let fail = |error| Error::io("cannot create", error).path(shown);
        let there = match rustix::fs::statat(&**folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Some(FileType::from_raw_mode(there.st_mode)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => return Err(fail(error.into())),
        };
        match there {
            None => {}
            Some(FileType::RegularFile) if replace => {}
            Some(FileType::RegularFile) => {
                return Err(Error::refused("there is such a file already").path(shown));
            }
            Some(_) => {
                let what = "there is something of this name already that is no file";
                return Err(Error::refused(what).path(shown));
            }
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        let (file, stage) = open_beside(&path).map_err(fail)?;
        let file = ImageFile::new(file, shown, false, true, Caching::Unsafe).map_err(fail)?;
        let (file, folder) = (Arc::new(file), Some(folder.clone()));
        Ok(Output { file, path, shown: shown.into(), folder, replaces: there.is_some(), stage })
    }

    /// Output over a file or device that is there and stays the same one. `zero`: the caller knows
    /// that all of it reads as zeros.
    pub fn in_place(path: &Path, caching: Caching, zero: bool) -> Result<Output> {
        let mut file = ImageFile::open(path, Access::Write, caching)?;
        (file.kept, file.fresh) = (true, zero);
        file.reflinks();
        let (path, shown) = (PathBuf::from(path), path.into());
        let (file, stage) = (Arc::new(file), Stage::InPlace);
        Ok(Output { file, path, shown, folder: None, replaces: false, stage })
    }

    /// Where the bytes go.
    pub fn target(&self) -> Arc<ImageFile> {
        self.file.clone()
    }

    /// Whether a name goes away when this one gets its own: that of a file that it replaces, or a
    /// temporary one.
    pub fn takes_a_name_away(&self) -> bool {
        match self.stage {
            Stage::Unnamed => self.replaces,
            Stage::Named(_) => true,
            Stage::InPlace => false,
        }
    }

    /// Which file stands at `path` already, if any: (device, inode).
    pub fn occupant(path: &Path) -> Option<(u64, u64)> {
        #[expect(clippy::disallowed_methods, reason = "storage looks at files")]
        let data = std::fs::metadata(path).ok()?;
        let device = data.file_type().is_block_device();
        Some(if device { (u64::MAX, data.rdev()) } else { (data.dev(), data.ino()) })
    }

    /// Gives it its name, in place of the file that had it when this was created. `Refused` if
    /// another one has come to stand there meanwhile: nobody asked for that one to be lost.
    #[expect(clippy::disallowed_methods, reason = "the one place that renames and removes")]
    pub fn commit(mut self) -> Result<()> {
        let fail = |path: &Path, error| Error::io("cannot give it its name", error).path(path);
        if let Stage::Unnamed = self.stage {
            let file = self.file.clone();
            let name = if self.replaces { temporary(&self.path) } else { self.path.clone() };
            link(&file, &name).map_err(|error| {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    let what = "another file has taken its name meanwhile";
                    return Error::refused(what).path(&self.shown);
                }
                fail(&self.shown, error)
            })?;
            self.stage = if self.replaces { Stage::Named(name) } else { Stage::InPlace };
        }
        let Stage::Named(name) = &self.stage else { return Ok(()) };
        std::fs::rename(name, &self.path).map_err(|error| fail(&self.shown, error))?;
        self.stage = Stage::InPlace;
        drop(self.folder.take());
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Stage::Named(name) = &self.stage {
            #[expect(clippy::disallowed_methods, reason = "the one place that renames and removes")]
            let _ = std::fs::remove_file(name);
        }
    }
}

/// Where an output will stand, and what stands there now.
struct Destination {
    path: PathBuf,
    there: Option<std::fs::Metadata>,
}

/// Follows a symbolic link, so that the link stays one.
fn destination(path: &Path) -> io::Result<Destination> {
    #[expect(clippy::disallowed_methods, reason = "storage looks at files")]
    match std::fs::metadata(path) {
        Ok(data) => Ok(Destination { path: path.canonicalize()?, there: Some(data) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            Ok(Destination { path: path.into(), there: None })
        }
        Err(error) => Err(error),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder(path).join(format!(".diskwright-{}-{number}.part", std::process::id()))
}

fn open_beside(path: &Path) -> io::Result<(File, Stage)> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(folder(path), flags | OFlags::TMPFILE, mode) {
        return Ok((file.into(), Stage::Unnamed));
    }
    let name = temporary(path);
    let file = rustix::fs::open(&name, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    Ok((file.into(), Stage::Named(name)))
}

fn link(file: &ImageFile, name: &Path) -> io::Result<()> {
    use super::Source;
    let file = file.file().ok_or(io::ErrorKind::Unsupported)?;
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, handle, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::storage::Target;

    #[test]
    fn nothing_is_there_before_commit_nor_after_a_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a b ü.img");
        let count = || std::fs::read_dir(folder.path()).expect("readable").count();
        let output = Output::create(&path, Caching::Writeback).expect("created");
        output.target().write_at(0, b"half").expect("written");
        drop(output);
        assert_eq!(count(), 0);
        let output = Output::create(&path, Caching::Writeback).expect("created");
        output.target().write_at(0, b"whole").expect("written");
        output.commit().expect("named");
        assert_eq!(count(), 1);
        assert_eq!(path.metadata().expect("there").len(), 5);
        let output = Output::create(&path, Caching::Writeback).expect("created");
        output.target().write_at(0, b"another").expect("written");
        output.commit().expect("in its place");
        assert_eq!((count(), path.metadata().expect("there").len()), (1, 7));
    }

    #[test]
    fn a_file_that_came_meanwhile_is_not_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.img");
        let (one, two) = (
            Output::create(&path, Caching::Writeback).expect("created"),
            Output::create(&path, Caching::Writeback).expect("created"),
        );
        one.target().write_at(0, b"one").expect("written");
        one.commit().expect("named");
        let error = two.commit().expect_err("taken");
        assert_eq!(error.kind(), crate::base::error::Kind::Refused);
        assert_eq!(path.metadata().expect("there").len(), 3);
    }
}
