//! What was measured: for people as it comes, and kept as JSON, as a table, as a picture.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// Of several runs.
pub(crate) struct Figures {
    /// Seconds, the least.
    pub(crate) wall: f64,
    /// Seconds of all cores, the least.
    pub(crate) cpu: f64,
    /// Bytes of the largest resident set, the median.
    pub(crate) memory: f64,
    /// Bytes that the output takes on disk; 0 for a question.
    pub(crate) size: f64,
}

/// One cell of the matrix.
pub(crate) struct Line {
    pub(crate) name: String,
    /// The folder of the output.
    pub(crate) place: String,
    pub(crate) ours: Figures,
    pub(crate) theirs: Figures,
    /// How qemu-img was the fastest.
    pub(crate) variant: String,
    pub(crate) runs: usize,
    /// Ours by theirs, the least of each.
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    /// Wall time of ours by theirs, the median of runs beside each other.
    pub(crate) median: f64,
}

const MIB: f64 = 1_048_576.0;

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "{:<28} {:<9} {:>8} {:>8} {:>6} | {:>8} {:>8} {:>6} {:<16} | {:>6} {:>6} {:>6} {:>6} {:>4}",
        "work",
        "output",
        "wall s",
        "cpu s",
        "MiB",
        "wall s",
        "cpu s",
        "MiB",
        "qemu-img at best",
        "wall",
        "cpu",
        "median",
        "size",
        "runs"
    )
}

impl Line {
    /// The ratio of the sizes, where there is an output.
    fn size(&self) -> Option<f64> {
        (self.theirs.size > 0.0).then(|| self.ours.size / self.theirs.size)
    }

    fn size_text(&self) -> String {
        self.size().map_or("-".into(), |size| format!("{size:.3}"))
    }

    /// What stands in a row: ours, theirs, the ratios.
    fn cells(&self) -> [String; 14] {
        let seconds = |seconds: f64| format!("{seconds:.3}");
        let mib = |bytes: f64| format!("{:.1}", bytes / MIB);
        let Line { name, place, ours, theirs, variant, runs, wall, cpu, median } = self;
        [
            name.clone(),
            place.clone(),
            seconds(ours.wall),
            seconds(ours.cpu),
            mib(ours.memory),
            seconds(theirs.wall),
            seconds(theirs.cpu),
            mib(theirs.memory),
            variant.clone(),
            format!("{wall:.2}"),
            format!("{cpu:.2}"),
            format!("{median:.2}"),
            self.size_text(),
            runs.to_string(),
        ]
    }

    /// A row of the table.
    pub(crate) fn text(&self) -> String {
        let [name, place, wall, cpu, memory, theirs @ .., by_wall, by_cpu, median, size, runs] =
            self.cells();
        let [their_wall, their_cpu, their_memory, variant] = theirs;
        format!(
            "{name:<28} {place:<9} {wall:>8} {cpu:>8} {memory:>6} | {their_wall:>8} {their_cpu:>8} \
             {their_memory:>6} {variant:<16} | {by_wall:>6} {by_cpu:>6} {median:>6} {size:>6} \
             {runs:>4}"
        )
    }

    fn markdown(&self) -> String {
        format!("| {} |", self.cells().join(" | "))
    }

    fn json(&self) -> Value {
        let figures =
            |f: &Figures| json!({"wall": f.wall, "cpu": f.cpu, "memory": f.memory, "size": f.size});
        json!({
            "work": self.name,
            "output": self.place,
            "runs": self.runs,
            "ours": figures(&self.ours),
            "theirs": figures(&self.theirs),
            "variant": self.variant,
            "ratios": {
                "wall": self.wall, "cpu": self.cpu, "median": self.median, "size": self.size(),
            },
        })
    }

    /// What `json` made; none if it is something else.
    fn from_json(value: &Value) -> Option<Line> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let figures = |who: &str| {
            let number = |name: &str| value[who][name].as_f64();
            Some(Figures {
                wall: number("wall")?,
                cpu: number("cpu")?,
                memory: number("memory")?,
                size: number("size")?,
            })
        };
        let ratio = |name: &str| value["ratios"][name].as_f64();
        Some(Line {
            name: text("work")?,
            place: text("output")?,
            ours: figures("ours")?,
            theirs: figures("theirs")?,
            variant: text("variant")?,
            runs: usize::try_from(value["runs"].as_u64()?).ok()?,
            wall: ratio("wall")?,
            cpu: ratio("cpu")?,
            median: ratio("median")?,
        })
    }
}

/// The lines that were kept in this folder.
pub(crate) fn kept(folder: &Path) -> Vec<Line> {
    let Ok(text) = std::fs::read_to_string(folder.join("against.json")) else { return Vec::new() };
    let all: Vec<Value> = serde_json::from_str(&text).expect("against.json is what a bench kept");
    all.iter().map(|value| Line::from_json(value).expect("a line has all figures")).collect()
}

/// Adds a line, in the place of one of the same work.
pub(crate) fn put(lines: &mut Vec<Line>, line: Line) {
    match lines.iter_mut().find(|old| old.name == line.name && old.place == line.place) {
        Some(old) => *old = line,
        None => lines.push(line),
    }
}

/// Keeps the figures in this folder: against.json, against.md, against.svg.
pub(crate) fn save(folder: &Path, lines: &[Line]) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let all: Vec<_> = lines.iter().map(Line::json).collect();
    let json = serde_json::to_string_pretty(&all).expect("keys are strings");
    for (name, text) in [("json", json + "\n"), ("md", table(lines)), ("svg", picture(lines))] {
        let path = folder.join(format!("against.{name}"));
        std::fs::write(&path, text).expect("the figures can be kept");
    }
}

/// The lines as a table in Markdown.
fn table(lines: &[Line]) -> String {
    let rows: Vec<_> = lines.iter().map(Line::markdown).collect();
    format!(
        "| work | output | wall s | cpu s | MiB | qemu: wall s | cpu s | MiB | at best with | wall \
         | cpu | median | size | runs |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|\n{}\n",
        rows.join("\n")
    )
}

/// A bar for each cell: how long ours takes where qemu-img at best takes the whole width.
fn picture(lines: &[Line]) -> String {
    let (row, left, width) = (18, 260.0, 400.0);
    let height = row * (lines.len() + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"{left}\" y=\"14\">time of ours, \
         where qemu-img at its best takes the whole width</text>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let y = row * (index + 1) + 6;
        let bar = (line.wall * width).clamp(1.0, width * 1.2);
        let colour = if line.wall <= 1.0 { "#4a8" } else { "#c54" };
        let (text, end) = (y + 12, left + bar + 4.0);
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{text}\">{} {}</text><rect x=\"{left}\" y=\"{y}\" \
             width=\"{bar:.0}\" height=\"14\" fill=\"{colour}\"/><text x=\"{end:.0}\" \
             y=\"{text}\">{:.2}</text>",
            line.name, line.place, line.wall
        );
    }
    let (end, x) = (height - 6, left + width);
    let _ = writeln!(svg, "<line x1=\"{x}\" y1=\"20\" x2=\"{x}\" y2=\"{end}\" stroke=\"#888\"/>");
    svg + "</svg>\n"
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
