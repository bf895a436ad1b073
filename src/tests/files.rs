//! Files out of images, and volumes made of folders: what the program leaves behind, and what not.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn diskwright(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    command.env_remove("SOURCE_DATE_EPOCH").args(words).current_dir(folder).output().unwrap()
}

fn code(folder: &Path, words: &[&str]) -> i32 {
    let done = diskwright(folder, words);
    done.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&done.stderr)))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder with a folder `tree` in it, and a volume of that.
fn made(grow: impl FnOnce(&Path)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    grow(&tree);
    let create = ["iso", "create", "-q", "--label", "X", "tree", "x.iso"];
    assert_eq!(code(folder.path(), &create), 0);
    folder
}

#[test]
fn files_come_out_as_they_went_in() {
    let folder = made(|tree| {
        fs::create_dir_all(tree.join("a folder/ünï")).unwrap();
        fs::write(tree.join("a folder/ünï/日本 x"), "one").unwrap();
        fs::write(tree.join("-q"), vec![7; 3 << 20]).unwrap();
        fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("a folder/ünï", tree.join("in")).unwrap();
    });
    let at = folder.path();
    assert_eq!(code(at, &["extract", "x.iso", "-C", "out", "--links"]), 0);
    assert_eq!(names(&at.join("out")), names(&at.join("tree")));
    assert_eq!(fs::read(at.join("out/-q")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(fs::read(at.join("out/in/日本 x")).unwrap(), b"one");
    let mode = |name| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o111;
    assert!(mode("out/run") != 0 && mode("out/-q") == 0);
    let modified = fs::metadata(at.join("out/run")).unwrap().modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 315_532_800);
    // And without links, which are said to be left out.
    let done = diskwright(at, &["extract", "x.iso", "-C", "other"]);
    assert!(done.status.success() && String::from_utf8_lossy(&done.stderr).contains("left out 1"));
    assert!(!names(&at.join("other")).contains(&"in".into()));
}

#[test]
fn nothing_is_written_outside_whatever_lies_in_the_way() {
    let folder = made(|tree| {
        fs::create_dir(tree.join("way")).unwrap();
        fs::write(tree.join("way/file"), "evil").unwrap();
        fs::write(tree.join("name"), "evil").unwrap();
    });
    let at = folder.path();
    for name in ["outside", "out"] {
        fs::create_dir(at.join(name)).unwrap();
    }
    fs::write(at.join("target"), "mine").unwrap();
    symlink("../outside", at.join("out/way")).unwrap();
    symlink("../target", at.join("out/name")).unwrap();
    for force in [&[][..], &["--force"]] {
        for inside in ["way", "name"] {
            let words = [&["extract", "x.iso", inside, "-C", "out"], force].concat();
            assert_eq!(code(at, &words), 6, "{words:?}");
        }
    }
    assert!(names(&at.join("outside")).is_empty());
    assert_eq!(fs::read(at.join("target")).unwrap(), b"mine");
    assert_eq!(names(&at.join("out")), ["name", "way"]);
}

#[test]
fn links_are_made_only_where_they_stay_inside() {
    for target in ["/etc/passwd", "../x", "a/../../x", "a/.."] {
        let folder = made(|tree| symlink(target, tree.join("link")).unwrap());
        let at = folder.path();
        assert_eq!(code(at, &["extract", "x.iso", "-C", "out", "--links"]), 6, "{target}");
        assert!(!at.join("out").exists(), "nothing was begun");
        assert_eq!(code(at, &["extract", "x.iso", "-C", "out", "-q"]), 0, "{target}");
        assert!(names(&at.join("out")).is_empty());
    }
}

#[test]
fn budgets_end_an_extraction_before_it_begins() {
    let folder = made(|tree| fs::write(tree.join("large"), vec![1; 2 << 20]).unwrap());
    let at = folder.path();
    assert_eq!(code(at, &["extract", "--max-output", "1M", "x.iso", "-C", "out"]), 5);
    assert!(!at.join("out").exists());
    assert_eq!(code(at, &["extract", "--max-output", "2M", "x.iso", "-C", "out"]), 0);
}

#[test]
fn a_volume_that_is_cut_short_gives_no_part_of_a_file() {
    let folder = made(|tree| {
        fs::write(tree.join("a"), "whole").unwrap();
        fs::write(tree.join("b"), vec![1; 100_000]).unwrap();
    });
    let at = folder.path();
    let bytes = fs::read(at.join("x.iso")).unwrap();
    fs::write(at.join("x.iso"), &bytes[..bytes.len() - 4096]).unwrap();
    assert_eq!(code(at, &["extract", "x.iso", "-C", "out"]), 3);
    assert_eq!(names(&at.join("out")), ["a"]);
    assert_eq!(code(at, &["convert", "-O", "raw", "x.iso", "y.raw"]), 3);
    assert!(!at.join("y.raw").exists());
}

#[test]
fn a_volume_is_the_same_in_a_pipe_and_beside_its_files() {
    let folder = made(|tree| fs::write(tree.join("a"), "content").unwrap());
    let at = folder.path();
    let expected = fs::read(at.join("x.iso")).unwrap();
    let create = ["iso", "create", "-q", "--label", "X", "tree"];
    let piped = diskwright(at, &[&create[..], &["-"]].concat());
    assert!(piped.status.success() && piped.stdout == expected);
    // In the folder that it is made of, the second time over itself.
    for _ in 0..2 {
        assert_eq!(code(at, &[&create[..], &["tree/x.iso"]].concat()), 0);
        assert_eq!(fs::read(at.join("tree/x.iso")).unwrap(), expected);
    }
    // The variable and the option say when.
    let dated = |words: &[&str], epoch: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        let all = [&create[..], &["-"], words].concat();
        command.env("SOURCE_DATE_EPOCH", epoch).args(all).current_dir(at);
        fs::remove_file(at.join("tree/x.iso")).unwrap_or_default();
        command.stderr(Stdio::inherit()).output().unwrap().stdout
    };
    let (one, two) = (dated(&[], "1000000000"), dated(&["--date", "1000000000"], "7"));
    assert!(one == two && one != expected && !one.is_empty());
    // What cannot be written leaves nothing behind.
    assert_eq!(code(at, &[&create[..], &["missing/x.iso"]].concat()), 7);
    fs::write(at.join("tree").join(std::ffi::OsStr::new("b")), "b").unwrap();
    let bad = ["iso", "create", "--label", "X", "--efi-boot", "no", "tree", "y.iso"];
    assert_eq!(code(at, &bad), 2);
    assert!(!at.join("y.iso").exists());
}

#[test]
fn a_disk_has_no_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), [1; 4096]).unwrap();
    assert_eq!(code(folder.path(), &["ls", "disk"]), 4);
    assert_eq!(code(folder.path(), &["extract", "disk", "-C", "out"]), 4);
}
