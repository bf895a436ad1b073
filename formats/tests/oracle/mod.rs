//! A folder in which we and other programs work on the same images.

#![allow(dead_code, reason = "each battery takes what it needs of this")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use formats::{
    Access, Beneath, Beside, Caching, CompareOptions, Comparison, CopyOptions, Create, FORMATS,
    Facts, Finding, Image, ImageFile, Kind, Limits, Links, OpenOptions, Output, Result, Tally,
    Target, compare,
};
use tempfile::TempDir;

use super::disks::Dice;

/// Whether all these programs are there; if not, says that a test is skipped.
pub(crate) fn has(programs: &[&str]) -> bool {
    let missing = |program: &&&str| Command::new(program).arg("--help").output().is_err();
    match programs.iter().find(missing) {
        Some(program) => {
            eprintln!("skipped: there is no {program} here");
            false
        }
        None => true,
    }
}

/// The files that an image of ours gets beside it.
struct Siblings {
    name: String,
    folder: PathBuf,
    made: Mutex<Vec<Output>>,
}

impl Beside for Siblings {
    fn name(&self) -> &str {
        &self.name
    }

    fn make(&self, name: &str) -> Result<Arc<dyn Target>> {
        let output = Output::create(&self.folder.join(name), Caching::Unsafe)?;
        let target = output.target();
        self.made.lock().unwrap().push(output);
        Ok(target)
    }
}

/// The folder.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A raw disk of this size, with a little data here and there.
    pub(crate) fn sparse(&self, name: &str, size: u64) {
        let file = std::fs::File::create(self.path(name)).unwrap();
        file.set_len(size).unwrap();
        let mut dice = Dice::new(size);
        for part in 0..6 {
            let mut bytes = vec![0; 70_000];
            dice.fill(&mut bytes);
            file.write_all_at(&bytes, (size - 70_000) / 5 * part).unwrap();
        }
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> process::Output {
        Command::new(program).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// Runs it; it must succeed.
    pub(crate) fn must(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let done = self.run(program, arguments);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success(), "{program} {}: {said}", arguments.join(" "));
        done.stdout
    }

    /// Takes down what another program shows. A process that another trial is about to start holds
    /// it for a moment: that passes.
    pub(crate) fn unmount(&self, at: &str) {
        let down = |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.run("umount", &[at]).status.success()
        };
        assert!((0..100).any(down), "{at} stays busy");
    }

    pub(crate) fn source(&self, name: &str) -> Arc<ImageFile> {
        Arc::new(ImageFile::open(&self.path(name), Access::Read, Caching::Writeback).unwrap())
    }

    /// An image that is to be changed. A process that another trial is about to start holds for a
    /// moment what we held when it was forked: that passes.
    pub(crate) fn to_change(&self, name: &str) -> Arc<ImageFile> {
        let open = || ImageFile::open(&self.path(name), Access::Write, Caching::Writeback);
        for _ in 0..100 {
            match open() {
                Err(error) if error.kind() == Kind::Refused => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                opened => return Arc::new(opened.unwrap()),
            }
        }
        Arc::new(open().unwrap())
    }

    /// The disk of an image, with names in this folder followed.
    pub(crate) fn try_open(
        &self,
        name: &str,
        format: &str,
        change: impl FnOnce(&mut OpenOptions),
    ) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let root = self.folder.path();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(Beneath::new(root, root, Access::Read)?);
        change(&mut options);
        formats::open(self.source(name), formats::format(format)?, &options)
    }

    pub(crate) fn open(&self, name: &str, format: &str) -> Box<dyn Image> {
        let opened = self.try_open(name, format, |_| {});
        opened.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    pub(crate) fn facts(&self, name: &str, format: &str) -> Facts {
        let inspect = formats::format(format).unwrap().inspect;
        inspect(&*self.source(name), &Limits::default()).unwrap()
    }

    /// Writes this disk as an image of ours.
    pub(crate) fn write(&self, name: &str, format: &str, create: &Create, from: &dyn Image) {
        let output = Output::create(&self.path(name), Caching::Unsafe).unwrap();
        let make = formats::format(format).unwrap().create.unwrap();
        let beside = Arc::new(Siblings {
            name: name.into(),
            folder: self.folder.path().into(),
            made: Mutex::default(),
        });
        let create = Create { beside: Some(beside.clone()), ..create.clone() };
        let writer = make(output.target(), &create).unwrap();
        formats::copy(from, &*writer, &CopyOptions::default()).unwrap();
        drop(writer);
        for output in std::mem::take(&mut *beside.made.lock().unwrap()) {
            output.commit().unwrap();
        }
        output.commit().unwrap();
    }

    /// What a check of ours finds.
    pub(crate) fn check(&self, name: &str, format: &str) -> (Tally, Vec<Finding>) {
        let check = formats::format(format).unwrap().check.unwrap();
        let mut findings = Vec::new();
        let links = Links::alone(self.source(name));
        let tally = check(links, &Limits::default(), &mut |one| findings.push(one)).unwrap();
        (tally, findings)
    }

    /// The image is probed as this format, is clean, and has the same disk as the raw file.
    pub(crate) fn we_agree(&self, what: &str, name: &str, format: &str, disk: &str) {
        let probed = formats::probe(FORMATS, &*self.source(name)).unwrap();
        assert_eq!(probed.name, format, "{what}");
        let (one, two) = (self.open(disk, "raw"), self.open(name, format));
        let same = compare(&*one, &*two, &CompareOptions::default());
        assert_eq!(same.unwrap_or_else(|e| panic!("{what}: {e:?}")), Comparison::Same, "{what}");
        let (tally, findings) = self.check(name, format);
        assert!(tally.is_clean(), "{what}: {findings:?}");
    }
}
