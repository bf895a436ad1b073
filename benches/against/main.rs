//! The same work with ours and with qemu-img, in turn, and how they compare.
//!
//! A program, not a test: it reports, and judges nothing but the content, which `qemu-img compare`
//! has to find the same before a time counts.
//!
//! ```text
//! cargo against [--in DIR] [--out DIR]... [--runs N] [--only TEXT] [--but TEXT]... [--save DIR] [--quick]
//! ```
//!
//! DIR of inputs holds os.raw, dense.raw and sparse.raw, and os.qcow2 and others made of the first;
//! what is not there is made small by the bench itself, or left out. With several folders for
//! outputs each is measured: one on disk, and one in memory; but only on the first, where the
//! processor is what takes the time. --only takes the cells with TEXT in their names, --but leaves
//! them out. --save keeps the figures as JSON, as a table, and as a picture; those of other cells
//! which are there already stay. --quick counts the first run of each, over a set of 64 MiB: two to
//! three minutes, and an idea rather than a measurement.
//!
//! qemu-img runs with its defaults, with `-W -m 16` and with `-t none -T none`; the fastest of
//! these is found first, and then runs in turn with ours. Of time the least of the runs is told,
//! since all that a shared machine does is add to it; and the median of how runs beside each other
//! compare. There are N runs, and up to four times as many where they are short; of a question
//! always four times as many.

#![expect(clippy::cast_precision_loss, reason = "a table shows three digits")]

mod cells;
mod disk;
mod report;
mod runs;
mod scattered;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cells::{DERIVED, QUESTIONS, cells};
use report::{Line, say};
use scattered::scattered;

/// What is measured, and where.
struct Setting {
    inputs: PathBuf,
    outputs: Vec<PathBuf>,
    /// Clusters of 64 KiB that an input has which the bench makes itself.
    clusters: usize,
    /// Bytes of the disk with little on it, that it makes.
    sparse: u64,
    /// Rounds of both programs at least; with none the very first run counts.
    runs: usize,
    only: String,
    but: Vec<String>,
    save: Option<PathBuf>,
}

impl Setting {
    /// Whether a cell of this name is measured.
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only) && !self.but.iter().any(|but| name.contains(but))
    }
}

fn main() {
    let setting = setting();
    if Command::new("qemu-img").arg("--version").stdout(Stdio::null()).status().is_err() {
        say("skipped: there is no qemu-img to compare with");
        return;
    }
    make_inputs(&setting);
    let mut lines = setting.save.as_deref().map(report::kept).unwrap_or_default();
    let mut keep = |line: Option<Line>| {
        if let Some(line) = line {
            say(&line.text());
            report::put(&mut lines, line);
            // As it comes: the whole takes hours, and somebody may end it before.
            if let Some(folder) = &setting.save {
                report::save(folder, &lines);
            }
        }
    };
    say(&report::head());
    let cells = cells();
    let first = &setting.outputs[..1];
    for (computes, outputs) in [(false, &setting.outputs[..]), (true, first)] {
        for output in outputs {
            std::fs::create_dir_all(output).expect("the folder for outputs can be made");
            let here = cells.iter().filter(|cell| cell.computes == computes);
            for cell in here.filter(|cell| setting.wants(&cell.name)) {
                keep(runs::conversion(&setting.inputs, output, setting.runs, cell));
            }
        }
    }
    for question in QUESTIONS.iter().filter(|question| setting.wants(question.name)) {
        keep(runs::question(&setting.inputs, &first[0], setting.runs, question));
    }
}

fn setting() -> Setting {
    let place = std::env::temp_dir().join("diskwright-bench");
    let mut setting = Setting {
        inputs: place.join("in"),
        outputs: Vec::new(),
        clusters: 8192,
        sparse: 64 << 30,
        runs: 5,
        only: String::new(),
        but: Vec::new(),
        save: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--in" => setting.inputs = next().into(),
            "--out" => setting.outputs.push(next().into()),
            "--runs" => setting.runs = next().parse().expect("--runs takes a number"),
            "--only" => setting.only = next(),
            "--but" => setting.but.push(next()),
            "--save" => setting.save = Some(next().into()),
            "--quick" => {
                (setting.runs, setting.clusters, setting.sparse) = (0, 1024, 8 << 30);
                setting.inputs = place.join("quick");
            }
            "--bench" => {}
            other => {
                panic!("{other} is not known: --in, --out, --runs, --only, --but, --save, --quick")
            }
        }
    }
    if setting.outputs.is_empty() {
        setting.outputs.push(place.join("out"));
    }
    setting
}

/// A small set where none was given: a disk, a third of it noise, a third text, a third zeros; the
/// same without the zeros; and a large one with little in it. And what is made of the first.
fn make_inputs(setting: &Setting) {
    let folder = setting.inputs.as_path();
    std::fs::create_dir_all(folder).expect("the folder for inputs can be made");
    for (name, kinds) in [("os.raw", [0, 1, 2]), ("dense.raw", [1, 2, 1])] {
        let path = folder.join(name);
        if !path.exists() {
            disk::make(&path, kinds, setting.clusters);
        }
    }
    let sparse = folder.join("sparse.raw");
    if !sparse.exists() {
        scattered(&sparse, setting.sparse, 1600, 64 << 10);
    }
    for (from, name, words) in DERIVED
        .iter()
        .map(|(name, words)| ("os.raw", *name, *words))
        .chain([("sparse.raw", "sparse.qcow2", DERIVED[0].1)])
    {
        let path = folder.join(name);
        if !path.exists() {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw"]).args(words).arg(folder.join(from)).arg(&path);
            assert!(command.status().expect("qemu-img runs").success());
        }
    }
}
