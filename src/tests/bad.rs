//! The program over every image of testdata/bad, each in a process of its own: it says what it
//! should, in the words of nobody else, and takes little for it.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "figures are for people")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use wait4::Wait4;

/// What an image service says.
const UNTRUSTED: &str = "--untrusted";
/// The most that an inspection may keep in memory.
const MEMORY: u64 = 64 << 20;

/// An image, and what its facts say of it.
struct Bad {
    name: String,
    packed: PathBuf,
    facts: Vec<(String, String)>,
}

impl Bad {
    fn fact(&self, key: &str) -> &str {
        let found = self.facts.iter().find(|(is, _)| is == key);
        found.map_or_else(|| panic!("{} says no {key}", self.name), |(_, value)| value)
    }

    /// Its bytes, as a file of this name.
    fn lay_out(&self, folder: &Path) -> PathBuf {
        let path = folder.join(&self.name);
        let mut unpack = Command::new("zstd");
        unpack.args(["-qdf", "-o"]).arg(&path).arg(&self.packed);
        assert!(unpack.status().unwrap().success(), "{}", self.name);
        path
    }
}

fn bads() -> Vec<Bad> {
    let all = kept("bad");
    assert!(all.len() > 100, "{}", all.len());
    all
}

/// The images of a folder of testdata.
fn kept(folder: &str) -> Vec<Bad> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let list = |path: &Path| std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    let files: Vec<_> = list(&root).flat_map(|folder| list(&folder)).collect();
    let notes = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "toml"));
    let mut all: Vec<_> = notes.map(|path| bad(&path)).collect();
    all.sort_by(|one, two| one.name.cmp(&two.name));
    all
}

fn bad(path: &Path) -> Bad {
    let text = std::fs::read_to_string(path).unwrap();
    let pair = |line: &str| {
        let (key, value) = line.split_once(" = ")?;
        Some((key.to_string(), value.trim_matches('"').to_string()))
    };
    let name = path.file_stem().unwrap().to_str().unwrap().to_string();
    Bad { name, packed: path.with_extension("zst"), facts: text.lines().filter_map(pair).collect() }
}

/// What came of a run.
struct Ran {
    code: i32,
    out: Vec<u8>,
    err: Vec<u8>,
    cpu: Duration,
    memory: u64,
}

fn run(folder: &Path, words: &[&str]) -> Ran {
    run_as(Command::new(env!("CARGO_BIN_EXE_diskwright")), folder, words)
}

/// In so many KiB of addresses: whoever asks for more gets none, and dies of it.
fn run_within(space: u64, folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {space}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_diskwright")]);
    run_as(command, folder, words)
}

fn run_as(mut command: Command, folder: &Path, words: &[&str]) -> Ran {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    command.args(words).current_dir(folder).stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let used = command.spawn().unwrap().wait4().unwrap();
    let code = used.status.code().unwrap_or_else(|| panic!("{words:?}: {:?}", used.status));
    let (cpu, memory) = (used.rusage.utime + used.rusage.stime, used.rusage.maxrss);
    let (out, err) = (std::fs::read(out).unwrap(), std::fs::read(err).unwrap());
    Ran { code, out, err, cpu, memory }
}

/// Text of ours has lines, and nothing that steers a terminal.
fn is_plain(bytes: &[u8]) -> bool {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| !text.chars().any(|c| (c != '\n' && c.is_control()) || turns(c)))
}

/// The exit code that the table in src/exit.rs has for what must come of an image.
fn code_of(kind: &str) -> i32 {
    match kind {
        "right" => 0,
        "malformed" | "truncated" => 3,
        "unsupported" => 4,
        "limit" => 5,
        "refused" => 6,
        told if told.starts_with("hazard: ") => 1,
        other => panic!("there is no kind '{other}'"),
    }
}

/// Whether the program is there that unpacks the images; said aloud if not.
fn has_zstd() -> bool {
    let there = Command::new("zstd").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("skipped: there is no zstd here");
    }
    there
}

/// An inspection of each image with these flags, each looked over: what it cost, and its name.
fn inspected(flags: &[&str], look: impl Fn(&Bad, &Ran, &str)) {
    let mut rows = Vec::new();
    for bad in bads() {
        let folder = tempfile::tempdir().unwrap();
        bad.lay_out(folder.path());
        let mut words = [&["inspect"], flags].concat();
        if bad.fact("deed") == "inspect" {
            words.extend(["-f", bad.fact("format")]);
        }
        words.push(&bad.name);
        let ran = run(folder.path(), &words);
        let said = String::from_utf8_lossy(&ran.err).into_owned();
        assert!(matches!(ran.code, 0 | 1 | 3..=6), "{}: {} {said}", bad.name, ran.code);
        assert!(is_plain(&ran.out) && is_plain(&ran.err), "{}: {said}", bad.name);
        assert!(said.lines().count() <= 2, "{}: {said}", bad.name);
        look(&bad, &ran, &said);
        rows.push((ran.cpu, ran.memory, bad.name));
    }
    eprintln!("{} images, inspected {flags:?}", rows.len());
    rows.sort();
    for (cpu, memory, name) in rows.iter().rev().take(8) {
        eprintln!("  CPU {:>4} ms, {:>4} MiB: {name}", cpu.as_millis(), memory >> 20);
    }
    rows.sort_by_key(|row| row.1);
    for (cpu, memory, name) in rows.iter().rev().take(8) {
        eprintln!("  memory {:>4} MiB, {:>4} ms: {name}", memory >> 20, cpu.as_millis());
    }
}

#[test]
fn an_inspection_of_any_bad_image_is_plain_and_ends_by_the_table() {
    if !has_zstd() {
        return;
    }
    inspected(&[], |bad, ran, said| {
        if matches!(bad.fact("deed"), "inspect" | "probe") {
            let wanted = code_of(bad.fact("kind"));
            let told = ran.code == wanted || (bad.fact("format") == "raw" && ran.code == 1);
            assert!(told, "{}: {} and not {wanted}: {said}", bad.name, ran.code);
        }
    });
}

/// What an inspection does not look at, and whoever opens the disk refuses: the files in layers of
/// a container image, compressed data, and what a package says of a disk's capacity.
fn may_pass(bad: &Bad) -> bool {
    bad.fact("format") == "docker"
        || ["vmdk-stream-grain-none", "ova-capacity-small"].contains(&&*bad.name)
}

#[test]
fn an_inspection_for_a_service_lets_nothing_bad_pass_in_64_mebibytes() {
    if !has_zstd() {
        return;
    }
    inspected(&[UNTRUSTED], |bad, ran, said| {
        assert!(ran.memory <= MEMORY, "{}: {} MiB", bad.name, ran.memory >> 20);
        let harmless = bad.fact("kind") == "right" || may_pass(bad);
        assert!(ran.code != 0 || harmless, "{} passes", bad.name);
        assert!(!said.contains("sandbox"), "{}: {said}", bad.name);
    });
}

/// Commands that look at an image without more being said.
const LOOKS: [&[&str]; 4] =
    [&["info"], &["info", "--output=json"], &["inspect", "--output=json"], &["ls"]];

#[test]
fn no_command_that_looks_at_a_bad_image_hands_on_what_steers_a_terminal() {
    if !has_zstd() {
        return;
    }
    for bad in bads().iter().filter(|bad| bad.fact("class") == "control-characters") {
        let folder = tempfile::tempdir().unwrap();
        bad.lay_out(folder.path());
        for words in LOOKS {
            let ran = run(folder.path(), &[words, &[&bad.name]].concat());
            assert!(is_plain(&ran.err) && is_plain(&ran.out), "{words:?} {}", bad.name);
        }
    }
}

#[test]
fn a_conversion_of_a_bad_image_fails_and_leaves_nothing() {
    if !has_zstd() {
        return;
    }
    for bad in bads() {
        if !matches!(bad.fact("deed"), "open" | "read" | "survey" | "follow") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        bad.lay_out(folder.path());
        let mut words = vec!["convert", "-q", "-f", bad.fact("format"), "-O", "raw"];
        if bad.fact("deed") == "follow" {
            words.push("--allow-refs");
        }
        words.extend([&bad.name, "out.raw"]);
        let ran = run(folder.path(), &words);
        let said = String::from_utf8_lossy(&ran.err).into_owned();
        // What lies beside it here and is wanted is not laid out: then it cannot be opened.
        let wanted = code_of(bad.fact("kind"));
        let gone = bad.facts.iter().any(|(key, _)| key == "beside") && ran.code == 7;
        assert!(ran.code == wanted || gone, "{}: {} and not {wanted}: {said}", bad.name, ran.code);
        assert!(is_plain(&ran.err), "{}: {said}", bad.name);
        assert!(!folder.path().join("out.raw").exists(), "{} leaves an output", bad.name);
    }
}

/// All that lies in a folder, links not followed.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn files_taken_out_of_a_bad_image_stay_in_their_folder() {
    if !has_zstd() {
        return;
    }
    for bad in bads().iter().filter(|bad| matches!(bad.fact("class"), "escape" | "cycle" | "bomb"))
    {
        for links in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let inner = place.path().join("a/b/c");
            std::fs::create_dir_all(&inner).unwrap();
            bad.lay_out(&inner);
            let mut words = vec!["extract", "-q", "--max-output=64M", "-C", "out", &bad.name];
            words.extend(links.then_some("--links"));
            let ran = run(&inner, &words);
            let said = String::from_utf8_lossy(&ran.err).into_owned();
            assert!(matches!(ran.code, 0 | 3..=6), "{}: {} {said}", bad.name, ran.code);
            let out = inner.join("out");
            for path in everything(place.path()) {
                let ours = path == inner.join(&bad.name) || inner.starts_with(&path);
                let told = ["stdout", "stderr"].iter().any(|name| path == inner.join(name));
                assert!(ours || told || path.starts_with(&out), "{}: {path:?}", bad.name);
                if path.is_symlink() {
                    let target = std::fs::read_link(&path).unwrap();
                    let inside = target.is_relative() && !target.starts_with("..");
                    assert!(links && inside, "{}: {path:?} to {target:?}", bad.name);
                }
            }
        }
    }
}

#[test]
fn a_check_or_map_of_a_bad_image_ends_by_the_table_in_little_memory() {
    if !has_zstd() {
        return;
    }
    let (mut runs, mut most) = (0, (0, String::new()));
    for bad in bads().iter().filter(|bad| bad.fact("deed") != "unwrap") {
        let folder = tempfile::tempdir().unwrap();
        bad.lay_out(folder.path());
        for command in ["check", "map"] {
            let ran = run(folder.path(), &[command, "-f", bad.fact("format"), &bad.name]);
            let said = String::from_utf8_lossy(&ran.err).into_owned();
            assert!(
                matches!(ran.code, 0 | 1 | 3..=6),
                "{command} {}: {} {said}",
                bad.name,
                ran.code
            );
            assert!(is_plain(&ran.out) && is_plain(&ran.err), "{command} {}: {said}", bad.name);
            most = most.max((ran.memory >> 20, format!("{command} {}", bad.name)));
            runs += 1;
        }
    }
    eprintln!("{runs} runs; most memory {most:?} MiB");
    assert!(most.0 <= 128, "{most:?}");
}

/// Address space for stacks, for code, and for what an image may ask for; in KiB.
const SPACE: u64 = 640 << 10;

#[test]
fn whatever_is_done_with_a_bad_image_takes_no_more_memory_than_there_is() {
    if !has_zstd() {
        return;
    }
    for bad in bads() {
        let folder = tempfile::tempdir().unwrap();
        bad.lay_out(folder.path());
        for words in [&["convert", "-q", "-O", "raw"][..], &["info"], &["check", "-q"]] {
            let mut words = [words, &["--max-memory", "128M", &bad.name]].concat();
            if words[0] == "convert" {
                words.push("out.raw");
            }
            // Images that take their time are let go: this is about room.
            words.extend(["--timeout", "20"]);
            let ran = run_within(SPACE, folder.path(), &words);
            let said = String::from_utf8_lossy(&ran.err).into_owned();
            assert!(matches!(ran.code, 0..=7), "{}: {} {said}", bad.name, ran.code);
        }
    }
}

/// Good images that a service should look at twice: they are encrypted, name files, or break a rule
/// that the program which made them breaks.
const DOUBTFUL: [&str; 7] = [
    "luks-1",
    "luks-2",
    "ova-descriptor-last",
    "ovf-by-itself",
    "vhdx-dynamic",
    "vhdx-fixed",
    "vhdx-out-of-order",
];

#[test]
fn a_good_image_passes_an_inspection_for_a_service() {
    if !has_zstd() {
        return;
    }
    let mut doubted = Vec::new();
    for good in kept("good") {
        let folder = tempfile::tempdir().unwrap();
        good.lay_out(folder.path());
        let ran = run(folder.path(), &["inspect", UNTRUSTED, &good.name]);
        let said = String::from_utf8_lossy(&ran.err).into_owned();
        assert!(matches!(ran.code, 0 | 1), "{}: {said}", good.name);
        if ran.code == 1 {
            doubted.push(good.name);
        }
    }
    assert_eq!(doubted, DOUBTFUL);
}
