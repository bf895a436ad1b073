//! A folder whose content is known to the byte, so that whatever a process leaves there is seen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What a hole has at least.
const BLOCK: usize = 4096;

/// Everything in a folder: paths and contents. The path of a folder ends with a slash.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A folder that vanishes with the test.
pub(crate) struct Place {
    folder: TempDir,
    /// What is in it before anything goes wrong.
    pub(crate) before: Files,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place::below(&std::env::temp_dir())
    }

    pub(crate) fn below(folder: &Path) -> Place {
        Place { folder: tempfile::tempdir_in(folder).unwrap(), before: Files::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, with holes where there are zeros.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let file = File::create(self.path().join(name)).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, (index * BLOCK) as u64).unwrap();
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// The program, to be run here with these words.
    pub(crate) fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        command.args(words).current_dir(self.path());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Output {
        self.command(&split(words)).output().unwrap()
    }

    pub(crate) fn must(&self, words: &str) {
        let done = self.run(words);
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Remembers what is there now as what was there before; its holes become those that it will
    /// have when it is made so again.
    pub(crate) fn remember(&mut self) {
        self.before = self.seen();
        for (name, bytes) in self.before.iter().filter(|(name, _)| !name.ends_with('/')) {
            self.put(name, bytes);
        }
    }

    /// What is there now.
    pub(crate) fn seen(&self) -> Files {
        let mut files = Files::new();
        see(self.path(), self.path(), &mut files);
        files
    }

    /// Makes everything what it was before.
    pub(crate) fn restore(&self) {
        let now = self.seen();
        for name in now.keys().rev().filter(|name| !self.before.contains_key(*name)) {
            let path = self.path().join(name);
            if name.ends_with('/') { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
        }
        for (name, bytes) in self.before.iter().filter(|(name, _)| !name.ends_with('/')) {
            if now.get(name) != Some(bytes) {
                self.put(name, bytes);
            }
        }
    }
}

fn see(folder: &Path, root: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.insert(format!("{name}/"), Vec::new());
            see(&path, root, files);
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// Words of a command line, none of which has a space in it.
pub(crate) fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}
