//! Time and memory by the size of a disk, and by the number of stretches in which its data lie.
//!
//! A program that reports: `cargo bench --bench scale -- [DIR]`, where DIR takes files with holes and
//! has room for 10 GiB; best in memory, for a disk's file system takes its time over a million
//! stretches in one file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use scattered::scattered;
use wait4::Wait4;

#[path = "against/scattered.rs"]
mod scattered;

const GIB: u64 = 1 << 30;
/// Bytes of data in a disk whose size grows.
const DATA: u64 = 64 << 20;
const CLUSTER: u64 = 64 << 10;
const BLOCK: u64 = 4096;

/// What is done with a disk.
struct Work {
    name: &'static str,
    words: &'static [&'static str],
    /// What the output is called, if there is one.
    output: Option<&'static str>,
    /// Stretches up to which it is done: the output of more, filled up to whole clusters, is large.
    most: u64,
}

const WORK: [Work; 4] = [
    Work {
        name: "map",
        words: &["map", "--output", "json", "-f", "raw"],
        output: None,
        most: u64::MAX,
    },
    Work {
        name: "to raw",
        words: &["convert", "-q", "-f", "raw", "-O", "raw"],
        output: Some("out.raw"),
        most: u64::MAX,
    },
    Work {
        name: "to qcow2",
        words: &["convert", "-q", "-f", "raw", "-O", "qcow2"],
        output: Some("out.qcow2"),
        most: 100_000,
    },
    Work {
        name: "to vhdx",
        words: &["convert", "-q", "-f", "raw", "-O", "vhdx"],
        output: Some("out.vhdx"),
        most: 100_000,
    },
];

fn main() {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from).join("diskwright-scale");
    std::fs::create_dir_all(&folder).expect("a folder for the work");
    let disk = folder.join("disk.raw");
    // The last is as much as ext4 takes: 16 TiB but for a block.
    for gib in [1, 16, 256, 4096, 16_383] {
        let runs = DATA / CLUSTER;
        scattered(&disk, gib * GIB, runs, CLUSTER);
        all_work(&folder, &disk, &format!("{gib} GiB"), runs);
    }
    for stretches in [1, 1_000, 100_000, 1_000_000] {
        scattered(&disk, stretches.max(16) * 4 * BLOCK, stretches, BLOCK);
        all_work(&folder, &disk, &format!("{stretches} stretches"), stretches);
    }
    std::fs::remove_dir_all(&folder).expect("it was ours");
}

/// Does all the work once to warm the caches and once to tell what it takes.
fn all_work(folder: &Path, disk: &Path, what: &str, stretches: u64) {
    for Work { name, words, output, .. } in WORK.iter().filter(|work| stretches <= work.most) {
        let output = output.map(|name| folder.join(name));
        timed(words, disk, output.as_deref());
        let (wall, cpu, memory) = timed(words, disk, output.as_deref());
        say(&format!("| {what} | {name} | {wall:.3} | {cpu:.3} | {memory:.1} |"));
        if let Some(output) = output {
            std::fs::remove_file(output).expect("it was ours");
        }
    }
}

/// Seconds, seconds of all cores, and MiB of memory.
fn timed(words: &[&str], disk: &Path, output: Option<&Path>) -> (f64, f64, f64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    command.args(words).arg(disk).args(output).stdout(Stdio::null());
    let begun = Instant::now();
    let used = command.spawn().expect("it starts").wait4().expect("it ends");
    let wall = begun.elapsed().as_secs_f64();
    assert!(used.status.success(), "{command:?}");
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a table shows three digits")]
    let memory = used.rusage.maxrss as f64 / 1_048_576.0;
    (wall, cpu, memory)
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
fn say(line: &str) {
    println!("{line}");
}
