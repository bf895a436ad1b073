//! Outcomes → text or JSON: the only place that prints.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use formats::{Error, Result};
use serde_json::Value;

use crate::args::OutputKind;

/// Where results go.
pub(crate) struct Report {
    kind: OutputKind,
    quiet: bool,
}

impl Report {
    /// Results of this kind; none for people if `quiet`.
    pub(crate) fn new(kind: OutputKind, quiet: bool) -> Report {
        Report { kind, quiet }
    }

    /// Whether machines read it.
    pub(crate) fn is_json(&self) -> bool {
        self.kind == OutputKind::Json
    }

    /// Lines for people.
    pub(crate) fn text(&self, text: &str) {
        if !self.quiet {
            print(text);
        }
    }
}

/// Prints a value for machines.
pub(crate) fn print_json(value: &Value) {
    print(&json_text(value));
}

/// A value as JSON. It may end up on a terminal too: what would steer that is spelled out, which
/// in JSON is the same text still.
fn json_text(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).expect("values of ours have string keys");
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && steers(c) {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Why standard output did not take everything, if it did not.
static UNPRINTED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line on standard output.
pub(crate) fn print(text: &str) {
    print_part(text);
    print_part("\n");
}

/// Prints a part of a line on standard output.
pub(crate) fn print_part(text: &str) {
    keep(io::stdout().lock().write_all(text.as_bytes()));
}

/// Says whether everything that was printed has gone out. Whoever reads it may have left: that is
/// no failure of ours. A full disk is.
pub(crate) fn printed() -> Result<()> {
    keep(io::stdout().lock().flush());
    match UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(Error::io("cannot write to standard output", error)),
        None => Ok(()),
    }
}

/// Remembers the first failure.
fn keep(done: io::Result<()>) {
    let Some(error) = done.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) else {
        return;
    };
    UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// Prints a line on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells of a failure: which file, what, where, and why, each once.
pub(crate) fn failure(error: &Error) {
    let mut line = String::from("diskwright: ");
    if let Some(path) = error.file() {
        let _ = write!(line, "{}: ", escape(&path.to_string_lossy()));
    }
    let _ = write!(line, "{}", escape(&error.to_string()));
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        let _ = write!(line, ": {}", escape(&unnumbered(&text)));
        cause = source.source();
    }
    note(&line);
}

/// The system's words without the number behind them, which says nothing to people.
fn unnumbered(text: &str) -> String {
    let parted = text.split_once(" (os error ");
    match parted.and_then(|(words, rest)| Some((words, rest.split_once(')')?.1))) {
        Some((words, rest)) => format!("{words}{rest}"),
        None => text.to_string(),
    }
}

/// Text from outside, made safe for a terminal: control characters, and those that turn the
/// direction of writing, are spelled out.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        if steers(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// How many of something: `1 file`, `2 files`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Whether a terminal acts on this character instead of showing it.
fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A number of bytes as people say it: `1.5 GiB`, or `1000 B`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let power = (number.ilog2() / 10) as usize;
    let scale = 1_u128 << (10 * power);
    // To the third digit, rounded: 1.75 GiB, 17.5 GiB, 175 GiB.
    let thousandths = (u128::from(number) * 1000 + scale / 2) / scale;
    let (whole, part) = (thousandths / 1000, thousandths % 1000);
    let digits = match whole {
        0..=9 => format!("{:02}", (part + 5) / 10),
        10..=99 => format!("{:01}", (part + 50) / 100),
        _ => String::new(),
    };
    let carries = digits.len()
        > match whole {
            0..=9 => 2,
            _ => 1,
        };
    let text = if carries { format!("{}", whole + 1) } else { format!("{whole}.{digits}") };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS[power - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        let pairs = [
            (0, "0 B"),
            (1000, "1000 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (4 << 30, "4 GiB"),
            (10_737_418_241, "10 GiB"),
            (1_234_567, "1.18 MiB"),
            (175 << 20, "175 MiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (number, text) in pairs {
            assert_eq!(bytes(number), text);
        }
    }

    // Seen: a line that broke for good was told without the number of attempts. Why: all that stood
    // behind the system's number was left out with it.
    #[test]
    fn only_the_number_behind_the_systems_words_is_left_out() {
        let pairs = [
            ("reset by peer (os error 104); 4 attempts", "reset by peer; 4 attempts"),
            ("no such file (os error 2)", "no such file"),
            ("cut (os error 2", "cut (os error 2"),
            ("plain", "plain"),
        ];
        for (text, wanted) in pairs {
            assert_eq!(unnumbered(text), wanted);
        }
    }

    #[test]
    fn what_an_image_says_cannot_steer_the_terminal() {
        assert_eq!(escape("a\x1b[2Jb\nü\u{202e}x"), "a\\u{1b}[2Jb\\nü\\u{202e}x");
    }

    // Seen: the name of a file in a package, with the control character that begins a sequence in
    // eight bits, went to the terminal as it was. Why: JSON only wants those below 32 escaped.
    #[test]
    fn what_an_image_says_cannot_steer_the_terminal_by_way_of_json_either() {
        let value = serde_json::json!({"name": "a\u{9b}2J\u{7f}\u{202e}\u{1b}x\nü"});
        let text = json_text(&value);
        assert!(text.contains(r"a\u009b2J\u007f\u202e\u001bx\nü"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
    }
}
