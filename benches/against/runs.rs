//! One program, then the other, and again: what each took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

use crate::cells::{Cell, Question, VARIANTS};
use crate::report::{Figures, Line, say};

/// Seconds that are measured well enough by one run.
const LONG: f64 = 20.0;

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
    let (mine, theirs) = rounds(runs, run, || same_content(&input, &output));
    let _ = std::fs::remove_file(&output);
    let place = outputs.file_name().map(|name| name.to_string_lossy().into_owned());
    Some(line(&cell.name, place.unwrap_or_default(), &mine, &theirs))
}

/// Runs of ours, and of each variant of theirs, in turn; ours is the last number. The first round
/// warms the caches, and shows that ours is right; it counts where theirs takes so long that nothing
/// blurs it, or where no more are wanted.
fn rounds(
    runs: usize,
    run: impl Fn(usize) -> Run,
    is_right: impl Fn(),
) -> (Vec<Run>, Vec<Vec<Run>>) {
    let ours = VARIANTS.len();
    let mut all = vec![Vec::new(); ours + 1];
    for (who, took) in all.iter_mut().enumerate() {
        took.push(run(who));
        if who == ours {
            is_right();
        }
    }
    let is_long = all[..ours].iter().flatten().any(|run| run.wall > LONG);
    if !is_long && runs > 0 {
        all.iter_mut().for_each(Vec::clear);
        for round in 1..=runs {
            // Whoever comes first pays for memory that was given back before: the turns go round.
            for who in (0..=ours).map(|turn| (turn + round) % (ours + 1)) {
                // Which of theirs is the best one run of each has shown: it alone goes on.
                if round == 1 || who == ours || who == fastest(&all[..ours]) {
                    all[who].push(run(who));
                }
            }
        }
    }
    let mine = all.pop().unwrap_or_default();
    (mine, all)
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
    for round in 0..=runs.max(3) {
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

fn figures(runs: &[Run]) -> Figures {
    Figures {
        wall: median(runs, |run| run.wall),
        cpu: median(runs, |run| run.cpu),
        memory: median(runs, |run| run.memory as f64),
        size: median(runs, |run| run.size as f64),
    }
}

/// Which of them has the fastest run.
fn fastest(theirs: &[Vec<Run>]) -> usize {
    let least = |runs: &[Run]| runs.iter().map(|run| run.wall).fold(f64::INFINITY, f64::min);
    (0..theirs.len())
        .min_by(|a, b| least(&theirs[*a]).total_cmp(&least(&theirs[*b])))
        .expect("there is one variant at least")
}

/// Ratios are of runs that were beside each other, so that they survive a machine whose speed drifts.
fn line(name: &str, place: String, mine: &[Run], theirs: &[Vec<Run>]) -> Line {
    let best = fastest(theirs);
    let ratio = |of: fn(&Run) -> f64| {
        let pairs = mine.iter().zip(&theirs[best]);
        let mut ratios: Vec<_> = pairs.map(|(a, b)| of(a) / of(b)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    Line {
        name: name.into(),
        place,
        ours: figures(mine),
        theirs: figures(&theirs[best]),
        variant: VARIANTS[best].0,
        wall: ratio(|run| run.wall),
        cpu: ratio(|run| run.cpu),
    }
}
