//! The house keeps its order: who may know whom, the shape of a room, the length of things.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

use std::path::{Path, PathBuf};

/// Files that every room may have; what else it has is a noun of its format.
const NEVER: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
/// What stands beside the rooms, and works on formats that are handed to it.
const DEEDS: [&str; 16] = [
    "digesting.rs",
    "layers.rs",
    "export.rs",
    "intake.rs",
    "forward.rs",
    "pour.rs",
    "rehearse.rs",
    "probe.rs",
    "ingest.rs",
    "open.rs",
    "container.rs",
    "plan.rs",
    "copy.rs",
    "compare.rs",
    "pool.rs",
    "lib.rs",
];
/// What a room may not touch: it gets bytes, and gives facts.
const WORLD: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::path",
    "std::thread",
    "std::net",
    "SystemTime",
    "Instant",
    "println!",
];

/// A source file: its path inside `formats`, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The code without its tests and comments, line by line, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The room it belongs to.
    fn room(&self) -> Option<&str> {
        let (folder, _) = self.path.split_once('/')?;
        (!["base", "tests", "benches"].contains(&folder)).then_some(folder)
    }

    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn collect(folder: &Path, inside: &Path, ends: &[&str], files: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !name.starts_with('.')
            && !["target", "corpus", "artifacts"].contains(&&*name)
        {
            collect(&path, inside, ends, files);
        } else if path.extension().is_some_and(|end| ends.contains(&&*end.to_string_lossy())) {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(inside).unwrap().to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
}

fn sources() -> Vec<File> {
    let mut files = Vec::new();
    collect(&root(), &root(), &["rs"], &mut files);
    assert!(files.len() > 40, "{} files", files.len());
    files
}

/// The crates beside this one, which look at what lies on a disk and at what services want to
/// know; their paths inside of them.
fn beside() -> Vec<File> {
    let mut files = Vec::new();
    for (name, least) in [("contents", 20), ("metadata", 10)] {
        let (root, before) = (root().join("..").join(name), files.len());
        collect(&root, &root, &["rs"], &mut files);
        assert!(files.len() >= before + least, "{name}: {} files", files.len() - before);
    }
    files
}

/// Everything people read or run: code, scripts, settings, texts.
fn everything() -> Vec<File> {
    let mut files = Vec::new();
    let workspace = root().join("..").canonicalize().unwrap();
    collect(&workspace, &workspace, &["rs", "toml", "md", "sh", "yml", "trycmd"], &mut files);
    files
}

fn rooms(files: &[File]) -> Vec<String> {
    let mut rooms: Vec<_> = files.iter().filter_map(File::room).map(str::to_string).collect();
    rooms.sort();
    rooms.dedup();
    rooms
}

/// Whether a line speaks of a module by this name: as part of a path, not of a word.
fn names(line: &str, module: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(module).any(|(at, _)| {
        let (front, back) = (&line[..at], &line[at + module.len()..]);
        let path = back.starts_with("::") || front.ends_with("::") || front.ends_with("mod ");
        path && !front.ends_with(word) && !back.starts_with(word)
    })
}

/// Arrows that must not be, as sentences.
fn arrows(file: &File, rooms: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in file.code() {
        let mut breach = |what: String| found.push(format!("{}:{number}: {what}", file.path));
        if line.contains("super::super") {
            breach("super::super:: is a way round the walls".into());
        }
        if line.contains("crate::tests") {
            breach("code knows its tests".into());
        }
        let others = || rooms.iter().filter(|room| Some(&***room) != file.room());
        if let Some(room) = file.room() {
            if let Some(other) = others().find(|other| names(line, other)) {
                breach(format!("the room {room} knows the room {other}"));
            }
            if line.contains("use crate::") && !line.contains("use crate::base::") {
                breach(format!("the room {room} knows more than the ground"));
            }
            if let Some(world) = WORLD.iter().find(|world| line.contains(*world)) {
                breach(format!("the room {room} touches {world}"));
            }
            let above = ["reader", "writer", "inspect", "check", "repair", "resize", "options"];
            if file.stem() == "layout" && above.iter().any(|name| names(line, name)) {
                breach("layout.rs knows who uses it".into());
            }
        } else if file.path.starts_with("base/") {
            let up = line.contains("use crate::") && !line.contains("use crate::base::");
            if up && !line.contains("use crate::Kind") {
                breach("the ground knows what stands on it".into());
            }
        } else if DEEDS.contains(&file.path.as_str()) && file.path != "lib.rs" {
            if let Some(room) = others().find(|room| names(line, room)) {
                breach(format!("it knows the room {room}"));
            }
            if line.contains("crate::registry") {
                breach("formats come to it as arguments".into());
            }
        }
    }
    found
}

/// What is wrong with the shape of a file, as sentences.
fn shape(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let path = &file.path;
    if !file.text.starts_with("//! ") {
        found.push(format!("{path}: its first line does not say what it is for"));
    }
    for (index, line) in file.text.lines().enumerate() {
        if line.chars().count() > 100 {
            found.push(format!("{path}:{}: a line of more than 100 columns", index + 1));
        }
        if line.ends_with([' ', '\t']) {
            found.push(format!("{path}:{}: a line ends with a space", index + 1));
        }
    }
    let test = path.starts_with("tests/");
    let end = file.text.find("\n#[cfg(test)]").unwrap_or(file.text.len());
    let lines = file.text[..end].lines().count();
    if lines > 700 && !test {
        found.push(format!("{path}: {lines} lines, 700 at most"));
    }
    for (number, name, lines) in functions(&file.text) {
        if lines > 70 {
            found.push(format!("{path}:{number}: {name} has {lines} lines, 70 at most"));
        }
    }
    if NEVER.contains(&file.stem()) {
        found.push(format!("{path}: a name that says nothing"));
    }
    found
}

/// Every function: the line it begins at, its name, its lines. Formatted code ends a function with
/// a brace in the column of its first word.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start().trim_start_matches("pub(crate) ");
        let head = head.trim_start_matches("pub(super) ").trim_start_matches("pub ");
        let Some(name) = head.strip_prefix("fn ") else { continue };
        let close = |line: &&str| **line == format!("{}}}", " ".repeat(indent));
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let len = lines[index..].iter().position(close).unwrap_or(0);
        let name = name.split(['(', '<']).next().unwrap_or_default();
        found.push((index + 1, name.to_string(), len + 1));
    }
    found
}

/// Paths of somebody's machine.
fn machine_paths(file: &File) -> Vec<String> {
    // Put together here, so that this file is no breach itself.
    let paths = ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let lines = file.text.lines().enumerate();
    let breaches = lines.filter(|(_, line)| paths.iter().any(|path| starts_in(line, path)));
    breaches.map(|(index, _)| format!("{}:{}: a path of a machine", file.path, index + 1)).collect()
}

/// Whether a line has this path, from its root on.
fn starts_in(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || ".-_}/".contains(c)))
}

/// All breaches, one a line.
fn expect_none(breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<_> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "{}:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn nobody_knows_whom_he_must_not_know() {
    let files = sources();
    let rooms = rooms(&files);
    assert!(rooms.contains(&"qcow2".to_string()) && rooms.contains(&"raw".to_string()));
    let inside = files.iter().filter(|file| !file.path.starts_with("tests/"));
    expect_none(inside.flat_map(|file| arrows(file, &rooms)));
}

#[test]
fn every_file_has_the_shape_of_the_house() {
    expect_none(sources().iter().chain(&beside()).flat_map(shape));
}

#[test]
fn what_looks_at_disks_touches_nothing_else() {
    let files = beside();
    let inside = files
        .iter()
        .filter(|file| !["tests/", "examples/"].iter().any(|f| file.path.starts_with(f)));
    let breaches = inside.flat_map(|file| {
        let touches = |line: &str| WORLD.iter().any(|world| line.contains(world));
        let lines = file.code().filter(move |(_, line)| touches(line));
        lines.map(|(number, line)| format!("{}:{number}: {line}", file.path)).collect::<Vec<_>>()
    });
    expect_none(breaches);
}

#[test]
fn every_room_has_a_door_and_a_way_in() {
    let files = sources();
    for room in rooms(&files) {
        let has = |name: &str| files.iter().any(|file| file.path == format!("{room}/{name}.rs"));
        for name in ["mod", "inspect"] {
            assert!(has(name), "the room {room} has no {name}.rs");
        }
        let door = files.iter().find(|file| file.path == format!("{room}/mod.rs")).unwrap();
        assert!(door.text.contains("static FORMAT: Format"), "{room} has no sign");
        let reads = door.text.contains("open: Some");
        assert_eq!(has("reader"), reads, "{room} is read, and has no reader; or the other way");
        assert!(door.text.contains("//! ```text"), "{room} has no drawing of its file");
        assert!(!door.code().any(|(_, line)| line.contains("fn ")), "{room}'s door does something");
    }
}

#[test]
fn nothing_speaks_of_the_machine_it_was_written_on() {
    expect_none(everything().iter().flat_map(machine_paths));
}

#[test]
fn every_good_image_has_its_recipe() {
    let data = root().join("../testdata");
    let recipe = std::fs::read_to_string(data.join("make.sh")).unwrap();
    let mut size = 0;
    for format in std::fs::read_dir(data.join("good")).unwrap() {
        for file in std::fs::read_dir(format.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            size += path.metadata().unwrap().len();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let made = recipe.lines().any(|line| line.split(' ').any(|word| word == name));
            assert!(made, "{} has no recipe in make.sh", path.display());
            assert!(path.with_extension("toml").exists() && path.with_extension("zst").exists());
        }
    }
    assert!(size < 800 << 10, "testdata/good has {size} bytes");
}

fn planted(path: &str, text: &str) -> Vec<String> {
    let file = File { path: path.into(), text: format!("//! What it is for.\n{text}\n") };
    let rooms = ["qcow2", "raw", "vhd"].map(str::to_string);
    [arrows(&file, &rooms), shape(&file), machine_paths(&file)].concat()
}

#[test]
fn a_planted_breach_is_caught() {
    let home = format!("let path = \"/{}/me/disk\";", "home");
    let long = format!("fn f() {{\n{}}}", "    work();\n".repeat(80));
    let wide = "x".repeat(101);
    let breaches = [
        ("base/limits.rs", "use crate::probe::probe;"),
        ("base/storage/file.rs", "use crate::qcow2::layout;"),
        ("qcow2/reader.rs", "use super::super::raw::reader;"),
        ("qcow2/reader.rs", "use crate::registry::raw::reader;"),
        ("vhd/reader.rs", "use crate::qcow2::layout;"),
        ("vhd/reader.rs", "use crate::open::Resolver;"),
        ("vhd/reader.rs", "let file = std::fs::File::open(name);"),
        ("vhd/reader.rs", "let now = std::time::SystemTime::now();"),
        ("vhd/reader.rs", "    println!(\"{x}\");"),
        ("vhd/util.rs", "fn f() {}"),
        ("qcow2/layout.rs", "use super::reader::Qcow2;"),
        ("qcow2/layout.rs", "use super::inspect;"),
        ("probe.rs", "use crate::registry::FORMATS;"),
        ("copy.rs", "use crate::registry::qcow2::FORMAT;"),
        ("copy.rs", "    let format = qcow2::FORMAT;"),
        ("copy.rs", &home),
        ("copy.rs", &long),
        ("copy.rs", &wide),
        ("copy.rs", "let x = 1; "),
    ];
    for (path, text) in breaches {
        assert!(!planted(path, text).is_empty(), "not caught: {path}: {text}");
    }
    let blank = File { path: "copy.rs".into(), text: "use std::io;\n".into() };
    assert_eq!(shape(&blank).len(), 1, "a file that does not say what it is for");
    let endless = File { path: "copy.rs".into(), text: "//! x\n".repeat(701) };
    assert_eq!(shape(&endless).len(), 1, "a file of 701 lines");
}

#[test]
fn what_is_allowed_is_not_caught() {
    let allowed = [
        ("base/limits.rs", "use crate::base::error::Error;"),
        ("qcow2/reader.rs", "use super::layout::Header;"),
        ("qcow2/reader.rs", "use crate::base::model::image::Image;"),
        ("qcow2/inspect.rs", "    format: Some(\"raw\".into()),"),
        ("qcow2/inspect.rs", "// See std::fs: never here."),
        ("registry.rs", "use crate::registry::qcow2::FORMAT;"),
        ("copy.rs", "let unit = self.unit();"),
    ];
    for (path, text) in allowed {
        assert_eq!(planted(path, text), Vec::<String>::new());
    }
}
