//! How many instructions fixed work takes, and where they have gone since they were last kept.
//!
//! What a clock says on a shared machine is blurred; the instructions that callgrind counts are the
//! same each time, so that a slow creep shows. One thread, a disk of 64 MiB, and one of 4 GiB with 16
//! MiB scattered over it.
//!
//! ```text
//! cargo instructions [--keep]
//! ```
//!
//! It fails where a cell takes more than a twentieth more than it did, and says in which sources.
//! `--keep` writes the counts down: in the commit that explains them. Counts of another compiler
//! cannot be compared, and are only told.

#![expect(clippy::cast_precision_loss, reason = "ratios have three digits")]

mod count;
#[path = "../against/disk.rs"]
mod disk;
#[path = "../against/scattered.rs"]
mod scattered;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use count::Count;
use serde::{Deserialize, Serialize};

/// What was counted before, beside this source.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/kept.json");
const PROGRAM: &str = env!("CARGO_BIN_EXE_diskwright");
/// More than this is a regression.
const MOST: f64 = 1.05;
/// Moves from this on are told.
const TOLD: f64 = 0.01;

/// The work: its name, and the words. What ends in `out` is made anew.
const CELLS: &[(&str, &str)] = &[
    ("info qcow2", "info disk.qcow2"),
    ("check qcow2", "check disk.qcow2"),
    ("map qcow2", "map --output json disk.qcow2"),
    ("compare raw qcow2", "compare -q -f raw disk.raw disk.qcow2"),
    ("raw to raw", "convert -q --threads 1 -f raw -O raw disk.raw out"),
    ("raw to qcow2", "convert -q --threads 1 -f raw -O qcow2 disk.raw out"),
    ("raw to vhdx", "convert -q --threads 1 -f raw -O vhdx disk.raw out"),
    ("raw to vhd", "convert -q --threads 1 -f raw -O vhd disk.raw out"),
    ("scattered to vhd", "convert -q --threads 1 -f raw -O vhd scattered.raw out"),
    ("scattered to vdi", "convert -q --threads 1 -f raw -O vdi scattered.raw out"),
    ("qcow2 to raw", "convert -q --threads 1 -O raw disk.qcow2 out"),
    ("qcow2 to vmdk", "convert -q --threads 1 -O vmdk disk.qcow2 out"),
    ("zlib to raw", "convert -q --threads 1 -O raw zlib.qcow2 out"),
    ("zlib to zlib", "convert -q --threads 1 -c -O qcow2 zlib.qcow2 out"),
    ("zstd to raw", "convert -q --threads 1 -O raw zstd.qcow2 out"),
    ("stream to raw", "convert -q --threads 1 -O raw stream.vmdk out"),
    ("raw to zlib", "convert -q --threads 1 -c -f raw -O qcow2 disk.raw out"),
    (
        "raw to stream",
        "convert -q --threads 1 -f raw -O vmdk -o subformat=streamOptimized disk.raw out",
    ),
];

/// Images made of the disk first: their names, and how.
const IMAGES: &[(&str, &str)] = &[
    ("disk.qcow2", "-O qcow2"),
    ("zlib.qcow2", "-c -O qcow2"),
    ("zstd.qcow2", "-c -O qcow2 -o compression_type=zstd"),
    ("stream.vmdk", "-O vmdk -o subformat=streamOptimized"),
];

/// What is kept from commit to commit.
#[derive(Serialize, Deserialize)]
struct Kept {
    compiler: String,
    cells: BTreeMap<String, Count>,
}

fn main() -> ExitCode {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        say("skipped: there is no valgrind to count with");
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().expect("a folder for the work");
    make_inputs(folder.path());
    let now = Kept { compiler: compiler(), cells: count_all(folder.path()) };
    if std::env::args().any(|word| word == "--keep") {
        let text = serde_json::to_string_pretty(&now).expect("keys are strings");
        std::fs::write(KEPT, text + "\n").expect("the counts can be kept");
        say(&format!("kept: {KEPT}"));
        return ExitCode::SUCCESS;
    }
    let before = std::fs::read_to_string(KEPT).expect("counts were kept");
    let before: Kept = serde_json::from_str(&before).expect("as they were written");
    judge(&before, &now)
}

/// Tells what moved. Fails if something takes much more than it did, with the same compiler.
fn judge(before: &Kept, now: &Kept) -> ExitCode {
    let mut worse = false;
    for (name, count) in &now.cells {
        let Some(was) = before.cells.get(name) else {
            say(&format!("{name:<20} {:>15} new", count.total));
            continue;
        };
        let ratio = count.total as f64 / was.total as f64;
        say(&format!("{name:<20} {:>15} {:>15} {ratio:>7.3}", was.total, count.total));
        worse |= ratio > MOST;
        if (ratio - 1.0).abs() > TOLD {
            count.moved_from(was).iter().for_each(|line| say(line));
        }
    }
    if before.compiler != now.compiler {
        say(&format!("counted with another compiler before: {}", before.compiler));
        return ExitCode::SUCCESS;
    }
    if worse {
        say("more instructions than before: mend it, or keep the counts and say why");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Counts every cell, two at a time.
fn count_all(folder: &Path) -> BTreeMap<String, Count> {
    let halves: Vec<Vec<_>> =
        (0..2).map(|half| CELLS.iter().skip(half).step_by(2).collect()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = halves
            .iter()
            .enumerate()
            .map(|(half, cells)| {
                scope.spawn(move || {
                    let count = |(name, words): &&(&str, &str)| {
                        (String::from(*name), counted(folder, words, half))
                    };
                    cells.iter().map(count).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it was counted")).collect()
    })
}

/// Runs the program under callgrind.
fn counted(folder: &Path, words: &str, half: usize) -> Count {
    let counts = folder.join(format!("counts.{half}"));
    let output = folder.join(format!("out.{half}"));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", counts.display())).arg(PROGRAM);
    command.args(words.split(' ').map(|word| match word {
        "out" => output.clone(),
        word => PathBuf::from(word),
    }));
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().expect("valgrind runs");
    assert!(status.success(), "{words}: {status}");
    let text = std::fs::read_to_string(&counts).expect("callgrind wrote its counts");
    let _ = std::fs::remove_file(&output);
    Count::of(&text)
}

fn make_inputs(folder: &Path) {
    disk::make(&folder.join("disk.raw"), [0, 1, 2], 1024);
    scattered::scattered(&folder.join("scattered.raw"), 4 << 30, 256, 64 << 10);
    for (name, words) in IMAGES {
        let mut command = Command::new(PROGRAM);
        command.args(["convert", "-q", "-f", "raw"]).args(words.split(' ')).arg("disk.raw");
        let status = command.arg(name).current_dir(folder).status().expect("it runs");
        assert!(status.success(), "{name}: {status}");
    }
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("there is a compiler");
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
fn say(line: &str) {
    println!("{line}");
}
