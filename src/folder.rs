//! A folder that files are put into, and nothing outside of it: no link is followed on the way.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{Error, Output, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A folder to put things into.
pub(crate) struct Folder {
    root: Arc<OwnedFd>,
    path: PathBuf,
    /// Whether it was made here, and nothing has come of it yet.
    made: bool,
    /// The folder that was gone to last, and what it is called: files come in company.
    last: Option<(String, Arc<OwnedFd>)>,
}

const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Folder {
    /// The folder at this path, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Folder> {
        let fail = |error: Errno| Error::io("cannot open the folder", error.into()).path(path);
        let made = match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(fail(error)),
        };
        let root = rustix::fs::open(path, FLAGS, Mode::empty()).map_err(fail)?;
        Ok(Folder { root: Arc::new(root), path: path.into(), made, last: None })
    }

    /// Lets it stay, whatever is in it.
    pub(crate) fn keep(mut self) {
        self.made = false;
    }

    /// Makes a folder in it, and those on the way, where they are not there. `Refused` for paths
    /// that lead out, or over something else than folders.
    pub(crate) fn make(&mut self, path: &str) -> Result<Arc<OwnedFd>> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let mut folder = self.root.clone();
        for part in parts(path)? {
            let shown = self.path.join(path);
            let fail = |error: Errno| Error::io("cannot make the folder", error.into());
            match rustix::fs::mkdirat(&*folder, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error).path(shown)),
            }
            let next = rustix::fs::openat(&*folder, part, FLAGS | OFlags::NOFOLLOW, Mode::empty());
            folder = Arc::new(next.map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => {
                    let part = part.escape_debug();
                    Error::refused(format!("'{part}' on the way is no folder")).path(shown)
                }
                other => fail(other).path(shown),
            })?);
        }
        self.last = Some((path.to_owned(), folder.clone()));
        Ok(folder)
    }

    /// A file in it, which appears when it is complete; folders on the way are made. `Refused` if
    /// there is something of that name already, unless it is a file and to be replaced.
    pub(crate) fn file(&mut self, path: &str, replace: bool) -> Result<Output> {
        let (folder, name) = self.beside(path)?;
        Output::within(&folder, name, &self.path.join(path), replace)
    }

    /// A symbolic link in it, with this content.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let (folder, name) = self.beside(path)?;
        rustix::fs::symlinkat(target, &*folder, name).map_err(|error| {
            let shown = self.path.join(path);
            match error {
                Errno::EXIST => Error::refused("there is something of this name already"),
                other => Error::io("cannot make the link", other.into()),
            }
            .path(shown)
        })
    }

    /// The folder that the last part of a path lies in, and that part.
    fn beside<'a>(&mut self, path: &'a str) -> Result<(Arc<OwnedFd>, &'a str)> {
        parts(path)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.make(folder)?, name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.made {
            // With something in it, it stays.
            let _ = rustix::fs::rmdir(&self.path);
        }
    }
}

/// The parts of a path, which leads down only.
fn parts(path: &str) -> Result<Vec<&str>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<_> = path.split('/').collect();
    let sound = |part: &&str| !["", ".", ".."].contains(part) && !part.contains('\0');
    if parts.iter().all(sound) {
        return Ok(parts);
    }
    let path = path.escape_debug();
    Err(Error::refused(format!("the path '{path}' does not lead down from the folder")))
}

/// Whether a link at `path` with this content leads to something in the same folder, whatever links
/// there are beside it: behind the first name no step leads up, for the name may be a link.
pub(crate) fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.matches('/').count();
    let mut parts = target.split('/').filter(|part| *part != "." && !part.is_empty()).peekable();
    let mut up = 0;
    while parts.next_if(|part| *part == "..").is_some() {
        up += 1;
    }
    let relative = !target.is_empty() && !target.starts_with('/') && !target.contains('\0');
    relative && up <= depth && parts.all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_out_is_known() {
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d"), ("a", "./x")] {
            assert!(stays_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in
            [("a", ".."), ("a", "/etc"), ("a/b", "../../c"), ("d/m", "l/../x"), ("a", "")]
        {
            assert!(!stays_inside(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (folder, other) =
            (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        std::os::unix::fs::symlink(other.path(), folder.path().join("way")).expect("a link");
        std::os::unix::fs::symlink(other.path().join("f"), folder.path().join("f")).expect("one");
        let mut into = Folder::open(folder.path()).expect("there");
        for path in ["way/x", "f", "../x", "/x", "a//b", "a/../b", "."] {
            let kind = into.file(path, true).err().map(|error| error.kind());
            assert_eq!(kind, Some(formats::Kind::Refused), "{path}");
        }
        assert_eq!(std::fs::read_dir(other.path()).expect("there").count(), 0);
        into.file("a/b ü", false).expect("new").commit().expect("named");
        assert!(folder.path().join("a/b ü").is_file());
        let kind = into.file("a/b ü", false).err().map(|error| error.kind());
        assert_eq!(kind, Some(formats::Kind::Refused));
        into.file("a/b ü", true).expect("replaced").commit().expect("named");
    }
}
