//! One program, then the other, and again: what each took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

use crate::cells::{CACHED, Cell, Question, VARIANTS};
use crate::report::{Figures, Line, say};

/// Seconds that are measured well enough by one run.
const LONG: f64 = 20.0;

/// Seconds of runs after which a cell needs no more of them than it was given.
const ENOUGH: f64 = 25.0;
/// How many times as many runs there are at most.
const MORE: usize = 4;
/// What waits for storage, and takes that many times as long as the best, goes no further.
const SLOW: f64 = 2.0;
/// Rounds that show which of theirs is the best; they count for nothing else.
const TRIALS: usize = 2;

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    wall: f64,
    cpu: f64,
    /// Bytes of the largest resident set.
    memory: u64,
    /// Bytes that the output takes on disk.
    size: u64,
}

/// What a conversion takes; none if its input is not there.
pub(crate) fn conversion(inputs: &Path, outputs: &Path, runs: usize, cell: &Cell) -> Option<Line> {
    let input = there(inputs, &cell.input, &cell.name)?;
    let output = outputs.join(format!("against.{}", cell.ending()));
    // Bytes that are nobody's format want to be called so.
    let is_raw = input.extension().is_some_and(|ending| ending == "raw");
    let from: &[&str] = if is_raw { &["-f", "raw"] } else { &[] };
    let command = |program: &str, extra: &[&str]| {
        let mut command = Command::new(program);
        command.arg("convert").args(extra).args(from).args(cell.words).arg(&input).arg(&output);
        command
    };
    let run = |who: usize| match VARIANTS.get(who) {
        Some((_, extra)) => timed(command("qemu-img", extra), Some(&output)),
        None => timed(command(env!("CARGO_BIN_EXE_diskwright"), cell.ours), Some(&output)),
    };
    let (mine, theirs) = rounds(runs, cell.computes, run, || same_content(&input, &output));
    let _ = std::fs::remove_file(&output);
    let place = outputs.file_name().map(|name| name.to_string_lossy().into_owned());
    Some(line(&cell.name, place.unwrap_or_default(), &mine, &theirs))
}

/// Runs of ours, and of the best of theirs, in turn; ours is the last number. The first round of all
/// warms the caches, and shows that ours is right; it counts where theirs computes so long that
/// nothing blurs it, or where no more are wanted.
fn rounds(
    runs: usize,
    computes: bool,
    run: impl Fn(usize) -> Run,
    is_right: impl Fn(),
) -> (Vec<Run>, Vec<Vec<Run>>) {
    let ours = VARIANTS.len();
    let mut all = vec![Vec::new(); ours + 1];
    let is_long =
        |all: &[Vec<Run>]| computes && all[..ours].iter().flatten().any(|run| run.wall > LONG);
    for who in 0..=ours {
        // What computes that long does not wait for storage, however that is reached.
        if who < CACHED || who == ours || !is_long(&all) {
            all[who].push(run(who));
        }
    }
    is_right();
    if !is_long(&all) && runs > 0 {
        let best = trial(&run, &all[..ours]);
        all.iter_mut().for_each(Vec::clear);
        go_on(runs, &run, [best, ours], &mut all);
    }
    let mine = all.pop().unwrap_or_default();
    (mine, all)
}

/// Which of theirs is the best, by a few runs of each after the `first`. Those that go by the page
/// cache come last, as what is measured next does.
fn trial(run: impl Fn(usize) -> Run, first: &[Vec<Run>]) -> usize {
    let best = first[fastest(first)][0].wall;
    let takes_part = |who: &usize| *who < CACHED || first[*who][0].wall <= best * SLOW;
    let mut theirs = vec![Vec::new(); first.len()];
    for who in (0..TRIALS).flat_map(|_| (0..first.len()).rev().filter(takes_part)) {
        theirs[who].push(run(who));
    }
    fastest(&theirs)
}

/// As many rounds as are wanted, and more where they are short: a machine that is shared blurs them.
/// They follow each other at once, so that memory which one run gives back is what the next takes:
/// after a pause a host may have taken it.
fn go_on(runs: usize, run: impl Fn(usize) -> Run, pair: [usize; 2], all: &mut [Vec<Run>]) {
    let begun = Instant::now();
    for round in 1..=runs * MORE {
        if round > runs && begun.elapsed().as_secs_f64() > ENOUGH {
            break;
        }
        let mut turns = pair;
        // Whoever comes first pays for memory that was given back before: the turns change, and
        // not in a rhythm that the machine could have as well.
        if round.count_ones() % 2 == 1 {
            turns.reverse();
        }
        for who in turns {
            all[who].push(run(who));
        }
    }
}

/// What a question takes; none if what it is about is not there.
pub(crate) fn question(inputs: &Path, out: &Path, runs: usize, asked: &Question) -> Option<Line> {
    let mut words = Vec::new();
    for word in asked.words {
        let is_file = word.starts_with("os.") || word.starts_with("sparse.");
        words.push(match is_file {
            true => there(inputs, word, asked.name)?,
            false => PathBuf::from(word),
        });
    }
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.args(&words).current_dir(out);
        command
    };
    let (mut mine, mut theirs) = (Vec::new(), vec![Vec::new()]);
    for round in 0..=(runs * MORE).max(3) {
        let ours = timed(command(env!("CARGO_BIN_EXE_diskwright")), None);
        let other = timed(command("qemu-img"), None);
        if round > 0 {
            mine.push(ours);
            theirs[0].push(other);
        }
    }
    Some(line(asked.name, String::new(), &mine, &theirs))
}

fn there(folder: &Path, name: &str, of: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        return Some(path.canonicalize().expect("it is there"));
    }
    say(&format!("{of:<28} left out: {} is not there", path.display()));
    None
}

fn timed(mut command: Command, output: Option<&Path>) -> Run {
    if let Some(output) = output {
        let _ = std::fs::remove_file(output);
    }
    let begun = Instant::now();
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let used = child.wait4().expect("the program ends");
    let wall = begun.elapsed().as_secs_f64();
    // To a question "no" is an answer, too: qemu's own vhdx is not sound.
    let answered = output.is_none() && used.status.code() == Some(1);
    assert!(used.status.success() || answered, "{command:?} failed");
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    Run { wall, cpu, memory: used.rusage.maxrss, size: output.map_or(0, stored) }
}

/// Says loudly if the output is another disk. A vhd has the size that its header says: where
/// qemu-img goes by cylinders, it is told to.
fn same_content(input: &Path, output: &Path) {
    let file = |path: &Path| {
        let driver = match path.extension().and_then(|ending| ending.to_str()) {
            Some("vhd") => "vpc,force_size_calc=current_size",
            Some(driver) => driver,
            None => "raw",
        };
        format!("driver={driver},file.driver=file,file.filename={}", path.display())
    };
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-q", "--image-opts"]).arg(file(input)).arg(file(output));
    let status = compare.status().expect("qemu-img runs");
    assert!(status.success(), "{} is not the disk of {}", output.display(), input.display());
}

fn stored(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |data| data.blocks() * 512)
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut numbers: Vec<_> = runs.iter().map(of).collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Of time, what the rest of the machine added least to.
fn figures(runs: &[Run]) -> Figures {
    Figures {
        wall: least(runs, |run| run.wall),
        cpu: least(runs, |run| run.cpu),
        memory: median(runs, |run| run.memory as f64),
        size: median(runs, |run| run.size as f64),
    }
}

fn least(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    runs.iter().map(of).fold(f64::INFINITY, f64::min)
}

/// Which of them has the fastest run.
fn fastest(theirs: &[Vec<Run>]) -> usize {
    let wall = |who: &usize| least(&theirs[*who], |run| run.wall);
    let best = (0..theirs.len()).min_by(|a, b| wall(a).total_cmp(&wall(b)));
    best.expect("there is one variant at least")
}

/// The medians are of runs that were beside each other, so that they survive a machine whose speed
/// drifts.
fn line(name: &str, place: String, mine: &[Run], theirs: &[Vec<Run>]) -> Line {
    let best = fastest(theirs);
    let mut ratios: Vec<_> = mine.iter().zip(&theirs[best]).map(|(a, b)| a.wall / b.wall).collect();
    ratios.sort_by(f64::total_cmp);
    let (ours, other) = (figures(mine), figures(&theirs[best]));
    Line {
        name: name.into(),
        place,
        runs: ratios.len(),
        wall: ours.wall / other.wall,
        cpu: ours.cpu / other.cpu,
        median: ratios[ratios.len() / 2],
        ours,
        theirs: other,
        variant: VARIANTS[best].0.into(),
    }
}
