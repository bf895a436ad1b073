//! The same work with ours and with qemu-img, in turn, and how they compare.
//!
//! A program, not a test: it reports, and judges nothing but the content, which `qemu-img compare`
//! has to find the same before a time counts.
//!
//! ```text
//! cargo bench --bench against -- [--in DIR] [--out DIR] [--runs N] [--only TEXT] [--quick]
//! ```
//!
//! DIR of inputs holds os.raw, os.qcow2, os.zlib.qcow2, os.zstd.qcow2, sparse.raw, sparse.qcow2,
//! dense.raw; what is not there is made small by the bench itself, or left out.
//! qemu-img runs with its defaults, with `-W -m 16` and with `-t none -T none`; the fastest of
//! these counts. Whoever flushes at the end, as ours does, is also shown against `-t writeback`.

#![expect(clippy::cast_precision_loss, reason = "a table shows three digits")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

/// A cell of the table: name, arguments, input, ending of the output.
struct Cell(&'static str, &'static [&'static str], &'static str, &'static str);

const ZSTD: &[&str] = &["-c", "-O", "qcow2", "-o", "compression_type=zstd"];
const CELLS: &[Cell] = &[
    Cell("raw to qcow2", &["-O", "qcow2"], "os.raw", "qcow2"),
    Cell("raw to raw", &["-f", "raw", "-O", "raw"], "os.raw", "raw"),
    Cell("qcow2 to raw", &["-O", "raw"], "os.qcow2", "raw"),
    Cell("qcow2 to qcow2", &["-O", "qcow2"], "os.qcow2", "qcow2"),
    Cell("dense raw to qcow2", &["-f", "raw", "-O", "qcow2"], "dense.raw", "qcow2"),
    Cell("sparse raw to qcow2", &["-f", "raw", "-O", "qcow2"], "sparse.raw", "qcow2"),
    Cell("sparse qcow2 to raw", &["-O", "raw"], "sparse.qcow2", "raw"),
    Cell("raw to qcow2 -c zlib", &["-c", "-O", "qcow2"], "os.raw", "qcow2"),
    Cell("raw to qcow2 -c zstd", ZSTD, "os.raw", "qcow2"),
    Cell("qcow2 zlib to raw", &["-O", "raw"], "os.zlib.qcow2", "raw"),
    Cell("qcow2 zstd to raw", &["-O", "raw"], "os.zstd.qcow2", "raw"),
    Cell("qcow2 zlib to qcow2 zlib", &["-c", "-O", "qcow2"], "os.zlib.qcow2", "qcow2"),
];
/// Work without an output: name, arguments with the names of inputs among them.
const QUESTIONS: &[(&str, &[&str])] = &[
    ("info", &["info", "os.qcow2"]),
    ("map", &["map", "--output", "json", "os.qcow2"]),
    ("check", &["check", "os.qcow2"]),
    ("check zlib", &["check", "os.zlib.qcow2"]),
    ("measure", &["measure", "-O", "qcow2", "os.raw"]),
    ("compare", &["compare", "-f", "raw", "os.raw", "os.qcow2"]),
    ("compare zlib", &["compare", "-f", "raw", "os.raw", "os.zlib.qcow2"]),
];
const VARIANTS: &[(&str, &[&str])] = &[
    ("default", &[]),
    ("-W -m 16", &["-W", "-m", "16"]),
    ("-t none -T none", &["-t", "none", "-T", "none"]),
];

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    wall: f64,
    cpu: f64,
    /// Bytes of the largest resident set.
    memory: u64,
}

struct Setting {
    inputs: PathBuf,
    outputs: PathBuf,
    runs: usize,
    only: String,
}

fn main() {
    let setting = setting();
    if Command::new("qemu-img").arg("--version").stdout(Stdio::null()).status().is_err() {
        say("skipped: there is no qemu-img to compare with");
        return;
    }
    std::fs::create_dir_all(&setting.outputs).expect("the folder for outputs can be made");
    make_inputs(&setting.inputs);
    say(&format!(
        "{:<26} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} {:<16} | {:>6} {:>6} {:>6}",
        "work",
        "wall s",
        "cpu s",
        "MiB",
        "wall s",
        "cpu s",
        "MiB",
        "qemu-img at best",
        "wall",
        "cpu",
        "size"
    ));
    for cell in CELLS.iter().filter(|cell| cell.0.contains(&setting.only)) {
        conversion(&setting, cell);
    }
    for (name, words) in QUESTIONS.iter().filter(|(name, _)| name.contains(&setting.only)) {
        question(&setting, name, words);
    }
}

fn setting() -> Setting {
    let mut setting = Setting {
        inputs: std::env::temp_dir().join("diskwright-bench/in"),
        outputs: std::env::temp_dir().join("diskwright-bench/out"),
        runs: 5,
        only: String::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--in" => setting.inputs = next().into(),
            "--out" => setting.outputs = next().into(),
            "--runs" => setting.runs = next().parse().expect("--runs takes a number"),
            "--only" => setting.only = next(),
            "--quick" => setting.runs = 3,
            "--bench" => {}
            other => panic!("{other} is not known: --in, --out, --runs, --only, --quick"),
        }
    }
    setting
}

/// A small set where none was given: 512 MiB, a third of it noise, a third text, a third zeros.
fn make_inputs(folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder for inputs can be made");
    let raw = folder.join("os.raw");
    if !raw.exists() {
        let mut file = std::fs::File::create(&raw).expect("the input can be made");
        let mut seed = 1_u64;
        for block in 0..8192_u32 {
            let mut bytes = vec![0_u8; 65536];
            for chunk in bytes.chunks_mut(8).filter(|_| block % 3 > 0) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = if block % 3 == 1 { seed } else { seed >> 60 };
                chunk.copy_from_slice(&number.to_be_bytes());
            }
            file.write_all(&bytes).expect("room for the input");
        }
    }
    let derived: &[(&str, &[&str])] = &[
        ("os.qcow2", &[]),
        ("os.zlib.qcow2", &["-c"]),
        ("os.zstd.qcow2", &["-c", "-o", "compression_type=zstd"]),
    ];
    for (name, words) in derived {
        let path = folder.join(name);
        if !path.exists() {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", "qcow2"]).args(*words).arg(&raw).arg(&path);
            assert!(command.status().expect("qemu-img runs").success());
        }
    }
}

fn conversion(setting: &Setting, Cell(name, words, input, ending): &Cell) {
    let input = setting.inputs.join(input);
    if !input.exists() {
        say(&format!("{name:<26} left out: {} is not there", input.display()));
        return;
    }
    let output = setting.outputs.join(format!("against.{ending}"));
    let ours = || command(env!("CARGO_BIN_EXE_diskwright"), &["convert"], words, &input, &output);
    let theirs = |extra: &[&str]| {
        let words = [extra, *words].concat();
        command("qemu-img", &["convert"], &words, &input, &output)
    };
    let (mut mine, mut sizes) = (Vec::new(), (0, 0));
    let mut variants: Vec<(&str, Vec<Run>)> =
        VARIANTS.iter().map(|(n, _)| (*n, Vec::new())).collect();
    for round in 0..=setting.runs {
        // Whoever comes first pays for memory that was given back before: the turns go round.
        for turn in 0..=VARIANTS.len() {
            let who = (turn + round) % (VARIANTS.len() + 1);
            let Some((_, extra)) = VARIANTS.get(who) else {
                let run = timed(ours(), &output);
                sizes.0 = stored(&output);
                match round {
                    0 => same_content(&input, &output),
                    _ => mine.push(run),
                }
                continue;
            };
            let run = timed(theirs(extra), &output);
            sizes.1 = stored(&output);
            if round > 0 {
                variants[who].1.push(run);
            }
        }
    }
    let _ = std::fs::remove_file(&output);
    report(name, &mine, &variants, Some(sizes));
}

fn question(setting: &Setting, name: &str, words: &[&str]) {
    let place = |word: &&str| {
        let path = setting.inputs.join(word);
        if path.is_file() { path } else { PathBuf::from(word) }
    };
    let words: Vec<_> = words.iter().map(place).collect();
    let nothing = setting.outputs.join("against.nothing");
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.args(&words);
        command
    };
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs.max(5) {
        mine.push(timed(command(env!("CARGO_BIN_EXE_diskwright")), &nothing));
        theirs.push(timed(command("qemu-img"), &nothing));
    }
    report(name, &mine, &[("default", theirs)], None);
}

fn command(program: &str, verb: &[&str], words: &[&str], input: &Path, output: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(verb).args(words).arg(input).arg(output);
    command
}

fn timed(mut command: Command, output: &Path) -> Run {
    let _ = std::fs::remove_file(output);
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
    let used = child.wait4().expect("the program ends");
    let wall = begun.elapsed().as_secs_f64();
    assert!(used.status.success(), "{command:?} failed");
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    Run { wall, cpu, memory: used.rusage.maxrss }
}

fn same_content(input: &Path, output: &Path) {
    let mut compare = Command::new("qemu-img");
    let status = compare.args(["compare", "-q"]).arg(input).arg(output).status();
    assert!(status.expect("qemu-img runs").success(), "{} is wrong", output.display());
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

fn report(name: &str, mine: &[Run], variants: &[(&str, Vec<Run>)], sizes: Option<(u64, u64)>) {
    let wall = |runs: &[Run]| median(runs, |run| run.wall);
    let cpu = |runs: &[Run]| median(runs, |run| run.cpu);
    let memory = |runs: &[Run]| median(runs, |run| run.memory as f64) / f64::from(1 << 20);
    let best = variants.iter().min_by(|one, two| wall(&one.1).total_cmp(&wall(&two.1)));
    let (variant, best) = best.expect("there is one variant at least");
    let least_cpu = variants.iter().map(|(_, runs)| cpu(runs)).fold(f64::MAX, f64::min);
    let size = sizes.map_or("-".into(), |(a, b)| format!("{:.3}", a as f64 / b as f64));
    say(&format!(
        "{name:<26} {:>8.3} {:>8.3} {:>8.1} | {:>8.3} {:>8.3} {:>8.1} {variant:<16} | {:>6.2} {:>6.2} {size:>6}",
        wall(mine),
        cpu(mine),
        memory(mine),
        wall(best),
        cpu(best),
        memory(best),
        wall(mine) / wall(best),
        cpu(mine) / least_cpu
    ));
}

#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
fn say(line: &str) {
    println!("{line}");
}
