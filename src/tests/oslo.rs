//! What `inspect` says, beside what the gate of an image service says: ours lets nothing pass that
//! theirs does not, but for what stands in testdata/oslo.toml with a reason.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

#[path = "samples.rs"]
#[allow(dead_code, reason = "other tests use other parts of it")]
mod samples;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use formats::{Access, Caching, ImageFile};
use metadata::{Gate, Verdict};
use samples::{Sample, root, samples};

/// The lines of the gate: its version, then a verdict for each file. `None` if it is not here.
fn gate(samples: &[Sample]) -> Option<(String, Vec<String>)> {
    let own = root().join("target/oslo/bin/python3");
    let own = if own.exists() { own } else { "python3".into() };
    let python = std::env::var_os("DISKWRIGHT_OSLO_PYTHON").map_or(own, PathBuf::from);
    let mut command = Command::new(python);
    command.arg(root().join("testdata/inspector.py")).args(samples.iter().map(|s| &s.path));
    let output = command.stderr(Stdio::null()).output().ok()?;
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let version = lines.next().unwrap().rsplit(' ').next().unwrap().to_string();
    let verdict = |line: &str| line.split('\t').skip(1).collect::<Vec<_>>().join(" ");
    Some((version, lines.map(verdict).collect()))
}

/// Our verdict in words: `safe FORMAT`, or the hazards, or the kind of the error.
fn inspect(sample: &Sample) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    let output = command.args(["inspect", "--output=json"]).arg(&sample.path).output().unwrap();
    let told = || -> serde_json::Value { serde_json::from_slice(&output.stdout).unwrap() };
    let word = match output.status.code().unwrap() {
        0 => format!("safe {}", told()["format"].as_str().unwrap()),
        1 => {
            let told = told();
            let hazards = told["hazards"].as_array().unwrap().iter();
            return hazards.map(|one| one["kind"].as_str().unwrap().to_string()).collect();
        }
        3 => "malformed".into(),
        4 => "unsupported".into(),
        5 => "limit".into(),
        6 => "refused".into(),
        other => panic!("{}: exit code {other}", sample.name),
    };
    vec![word]
}

/// A row of the table.
type Row = BTreeMap<String, String>;

fn table() -> (String, Vec<Row>) {
    let text = std::fs::read_to_string(root().join("testdata/oslo.toml")).unwrap();
    let mut parts = text.split("[[difference]]");
    let pairs = |part: &str| -> Row {
        let lines = part.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(" = "));
        pairs.map(|(key, value)| (key.to_string(), value.trim_matches('"').to_string())).collect()
    };
    let head = pairs(parts.next().unwrap());
    let rows: Vec<_> = parts.map(pairs).collect();
    assert!(rows.iter().all(|row| row["reason"].ends_with('.')), "a reason is a sentence");
    (head["version"].clone(), rows)
}

/// Whether a text is so; `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(front) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| fits(rest, &text[at..]))
}

/// Whether a row of the table speaks of this difference.
fn explains(row: &Row, name: &str, theirs: &str, ours: &[String]) -> bool {
    let safe = ours[0].starts_with("safe ");
    let known = |word: &String| row["ours"].split(' ').any(|known| known == word);
    let same = if safe { ours[0] == row["ours"] } else { ours.iter().all(known) };
    fits(&row["files"], name) && fits(&row["theirs"], theirs) && same
}

#[test]
fn ours_is_as_strict_as_the_gate_of_an_image_service_or_there_is_a_reason() {
    let place = tempfile::tempdir().unwrap();
    let (samples, own) = samples(place.path());
    let Some((version, verdicts)) = gate(&samples) else {
        return eprintln!("skipped: there is no oslo.utils here; test.sh gets it");
    };
    let (known, rows) = table();
    if version != known {
        eprintln!("this is oslo.utils {version}; the table is of {known}");
    }
    assert_eq!(verdicts.len(), samples.len());
    let (mut used, mut wrong) = (vec![0; rows.len()], Vec::new());
    let (mut stricter, mut laxer) = (0, 0);
    for (sample, theirs) in samples.iter().zip(&verdicts) {
        let ours = inspect(sample);
        let (theirs_safe, ours_safe) = (theirs.ends_with(" safe"), ours[0].starts_with("safe "));
        let format = |verdict: &str, at: usize| verdict.split(' ').nth(at).map(str::to_string);
        let same = match (theirs_safe, ours_safe) {
            (true, true) => format(theirs, 0) == format(&ours[0], 1),
            (theirs, ours) => theirs == ours,
        };
        if same {
            continue;
        }
        stricter += usize::from(theirs_safe && !ours_safe);
        laxer += usize::from(ours_safe && !theirs_safe);
        match rows.iter().position(|row| explains(row, &sample.name, theirs, &ours)) {
            Some(index) => used[index] += 1,
            None => wrong.push(format!("{}: theirs {theirs}, ours {ours:?}", sample.name)),
        }
    }
    for (row, _) in rows.iter().zip(&used).filter(|(_, used)| **used == 0) {
        if own < samples.len() {
            wrong.push(format!("no file needs the row {row:?}"));
        }
    }
    let all = samples.len();
    eprintln!("{all} files: ours alone refuses {stricter}, theirs alone {laxer}");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_the_gate_says_is_foretold() {
    let place = tempfile::tempdir().unwrap();
    let (samples, _) = samples(place.path());
    let Some((version, verdicts)) = gate(&samples) else {
        return eprintln!("skipped: there is no oslo.utils here; test.sh gets it");
    };
    let mut wrong = Vec::new();
    for (sample, theirs) in samples.iter().zip(&verdicts) {
        let file = ImageFile::open(&sample.path, Access::Read, Caching::Writeback).unwrap();
        let gate = Gate::of(&file).unwrap();
        let ours = match (&gate.verdict, gate.format()) {
            (Verdict::Confused, _) => "none AttributeError".to_string(),
            (_, None) => format!("none several {}", gate.formats.join("+")),
            (verdict, Some(format)) => format!("{format} {verdict}"),
        };
        if ours != *theirs {
            wrong.push(format!("{}: theirs {theirs}, foretold {ours}", sample.name));
        }
    }
    eprintln!("oslo.utils {version}: {} files, {} foretold wrong", samples.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
