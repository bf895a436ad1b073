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
    /// What it will take the name from, kept from those who would write to it.
    occupant: Option<ImageFile>,
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
    /// written in place. `Invalid` if `path` is something else than a file, `Refused` if another
    /// process holds the image that is there: what it goes on writing would be lost.
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
        let occupant = match place.there {
            Some(_) => hold(&place.path, path)?,
            None => None,
        };
        let (file, stage) = open_beside(&place.path).map_err(fail)?;
        if let Some(data) = &place.there {
            let mode = std::fs::Permissions::from_mode(data.mode() & 0o7777);
            file.set_permissions(mode).map_err(fail)?;
        }
        let file = ImageFile::new(file, path, false, true, caching).map_err(fail)?;
        file.reflinks();
        let (file, shown) = (Arc::new(file), place.path.clone());
        let (path, replaces) = (place.path, place.there.is_some());
        Ok(Output { file, path, shown, folder: None, replaces, stage, occupant })
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
        let occupant = match there {
            Some(_) => hold(&path, shown)?,
            None => None,
        };
        let (file, stage) = open_beside(&path).map_err(fail)?;
        let file = ImageFile::new(file, shown, false, true, Caching::Auto).map_err(fail)?;
        let (file, folder) = (Arc::new(file), Some(folder.clone()));
        let (shown, replaces) = (shown.into(), there.is_some());
        Ok(Output { file, path, shown, folder, replaces, stage, occupant })
    }

    /// Output over a file or device that is there and stays the same one. `zero`: the caller knows
    /// that all of it reads as zeros.
    pub fn in_place(path: &Path, caching: Caching, zero: bool) -> Result<Output> {
        let mut file = ImageFile::open(path, Access::Write, caching)?;
        (file.kept, file.fresh) = (true, zero);
        file.reflinks();
        let (path, shown) = (PathBuf::from(path), path.into());
        let (file, stage) = (Arc::new(file), Stage::InPlace);
        let (folder, replaces, occupant) = (None, false, None);
        Ok(Output { file, path, shown, folder, replaces, stage, occupant })
    }

    /// Where the bytes go.
    pub fn target(&self) -> Arc<ImageFile> {
        self.file.clone()
    }

    /// Whether it has no name yet, or a temporary one.
    pub fn gets_a_name(&self) -> bool {
        !matches!(self.stage, Stage::InPlace)
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
    pub fn commit(mut self) -> Result<()> {
        if let (Stage::Unnamed, false) = (&self.stage, self.replaces) {
            // It takes the name at once: there is no moment at which it has another one, under
            // which it would stay.
            link(&self.file, &self.path).map_err(|error| self.nameless(error))?;
            self.stage = Stage::InPlace;
            return Ok(());
        }
        let Some(name) = self.name_for_now()? else { return Ok(()) };
        rename(&name, &self.path).map_err(|error| self.nameless(error))?;
        self.stage = Stage::InPlace;
        drop((self.folder.take(), self.occupant.take()));
        Ok(())
    }

    /// Gives the files of one image their names, its own one last. If one of them cannot have its
    /// name, all is as it was. Whoever is killed in between leaves nothing under the last name,
    /// and what had the names before in the same folder, under names that end with `.old`.
    pub fn commit_together(mut outputs: Vec<Output>) -> Result<()> {
        if outputs.len() < 2 {
            return outputs.into_iter().try_for_each(Output::commit);
        }
        let mut renames = Renames::default();
        let mut old = Vec::new();
        for output in outputs.iter_mut().rev() {
            if output.name_for_now()?.is_some() {
                let aside = temporary(&output.path, "old");
                match renames.go(&output.path, &aside) {
                    Ok(()) => old.push(aside),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(output.nameless(error)),
                }
            }
        }
        for output in &outputs {
            if let Stage::Named(name) = &output.stage {
                renames.go(name, &output.path).map_err(|error| output.nameless(error))?;
            }
        }
        renames.0.clear();
        for output in &mut outputs {
            output.stage = Stage::InPlace;
        }
        for aside in &old {
            remove(aside);
        }
        Ok(())
    }

    /// The temporary name, which is given to a file that has none; `None` for one that stays where
    /// it is.
    fn name_for_now(&mut self) -> Result<Option<PathBuf>> {
        if let Stage::Unnamed = self.stage {
            let name = temporary(&self.path, "part");
            link(&self.file, &name).map_err(|error| self.nameless(error))?;
            self.stage = Stage::Named(name);
        }
        Ok(match &self.stage {
            Stage::Named(name) => Some(name.clone()),
            Stage::Unnamed | Stage::InPlace => None,
        })
    }

    fn nameless(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let what = "another file has taken its name meanwhile";
            return Error::refused(what).path(&self.shown);
        }
        Error::io("cannot give it its name", error).path(&self.shown)
    }
}

/// Files that were renamed, from what to what: taken back unless they are to stay so.
#[derive(Default)]
struct Renames(Vec<(PathBuf, PathBuf)>);

impl Renames {
    fn go(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        rename(from, to)?;
        self.0.push((from.into(), to.into()));
        Ok(())
    }
}

impl Drop for Renames {
    fn drop(&mut self) {
        for (from, to) in self.0.drain(..).rev() {
            let _ = rename(&to, &from);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that renames")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Takes a name away that nobody has asked for.
#[expect(clippy::disallowed_methods, reason = "the one place that removes")]
fn remove(name: &Path) {
    let _ = std::fs::remove_file(name);
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Stage::Named(name) = &self.stage {
            remove(name);
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

/// Locks a file that is to be replaced, as if to write to it. `Refused` if another process holds
/// it; whoever may not read it cannot ask.
fn hold(path: &Path, shown: &Path) -> Result<Option<ImageFile>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => {
            ImageFile::from_file(file.into(), shown, Access::Write, Caching::Unsafe).map(Some)
        }
        Err(_) => Ok(None),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path, ending: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder(path).join(format!(".diskwright-{}-{number}.{ending}", std::process::id()))
}

fn open_beside(path: &Path) -> io::Result<(File, Stage)> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(folder(path), flags | OFlags::TMPFILE, mode) {
        return Ok((file.into(), Stage::Unnamed));
    }
    let name = temporary(path, "part");
    match rustix::fs::open(&name, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Ok(file) => Ok((file.into(), Stage::Named(name))),
        Err(error) => {
            // It may have been made all the same, where only opening it is not allowed.
            if error != rustix::io::Errno::EXIST {
                remove(&name);
            }
            Err(error.into())
        }
    }
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
        let create = || Output::create(&path, Caching::Writeback).expect("created");
        let (one, two) = (create(), create());
        one.target().write_at(0, b"one").expect("written");
        one.commit().expect("named");
        let error = two.commit().expect_err("taken");
        assert_eq!(error.kind(), crate::base::error::Kind::Refused);
        assert_eq!(path.metadata().expect("there").len(), 3);
    }

    // Seen: of a disk in several files the first ones had been replaced when a later one could not
    // be, and the old image was lost. Why: each was renamed for itself.
    #[test]
    fn files_of_one_image_get_their_names_together_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let (beside, own) = (folder.path().join("sub/extent"), folder.path().join("image"));
        let sub = folder.path().join("sub");
        let fill = |text: &[u8]| {
            std::fs::create_dir_all(&sub).expect("a folder");
            let outputs = [&beside, &own].map(|path| {
                let output = Output::create(path, Caching::Writeback).expect("created");
                output.target().write_at(0, text).expect("written");
                output
            });
            outputs.into()
        };
        let count = || std::fs::read_dir(folder.path()).expect("readable").count();
        let both = || [&beside, &own].map(|path| path.metadata().map_or(0, |data| data.len()));
        Output::commit_together(fill(b"old")).expect("new names");
        Output::commit_together(fill(b"newer")).expect("replaced");
        assert_eq!((both(), count()), ([5, 5], 2));
        let outputs = fill(b"torn");
        rename(&sub, &folder.path().join("gone")).expect("moved");
        assert!(Output::commit_together(outputs).is_err());
        assert_eq!((both(), count()), ([0, 5], 2));
    }
}
