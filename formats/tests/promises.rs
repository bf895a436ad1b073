//! SECURITY.md promises what the tests show, and all of it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use disks::bads;
use formats::Limits;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn security() -> String {
    std::fs::read_to_string(root().join("SECURITY.md")).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// A part of the text, by its heading.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    let level = heading.split(' ').next().unwrap();
    rest.split(&format!("\n{level} ")).next().unwrap()
}

#[test]
fn every_row_of_the_tables_of_attacks_is_shown_by_images_of_which_it_is_true() {
    let text = security();
    let facts: BTreeMap<_, _> = bads().into_iter().map(|bad| (bad.name.clone(), bad)).collect();
    let (mut class, mut seen, mut rows) = (String::new(), BTreeSet::new(), 0);
    for line in part(&text, "## What each attack comes to").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            class = heading.to_string();
        }
        if !line.starts_with('|') || line.starts_with("| format") || line.starts_with("|-") {
            continue;
        }
        rows += 1;
        let [format, deed, kind, names] = cells(line)[..] else { panic!("{line}") };
        let names = quoted(names);
        assert!(!names.is_empty(), "nothing shows it: {line}");
        for name in names {
            let bad = facts.get(name).unwrap_or_else(|| panic!("there is no image '{name}'"));
            let said = [&*class, format, deed, kind];
            assert_eq!(
                ["class", "format", "deed", "kind"].map(|key| bad.fact(key)),
                said,
                "{name}"
            );
            assert!(seen.insert(name.to_string()), "'{name}' stands there twice");
        }
    }
    let missing: Vec<_> = facts.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty() && rows > 100, "{rows} rows, without {missing:?}");
}

#[test]
fn every_test_that_is_named_is_there() {
    let text = security();
    let tests = quoted(&text).into_iter().filter(|word| word.contains('/'));
    let named: Vec<_> = tests.filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 20, "{}", named.len());
    for (file, function) in named {
        let code =
            std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let head = format!("#[test]\nfn {function}()");
        let inner = format!("    #[test]\n    fn {function}()");
        assert!(code.contains(&head) || code.contains(&inner), "{file} has no test {function}");
    }
}

/// A size as people write it.
fn size(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let power = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().position(|u| *u == unit);
    number.parse::<u64>().unwrap() << (10 * power.unwrap())
}

#[test]
fn every_limit_is_told_with_its_flag_and_what_it_is_unless_said() {
    let text = security();
    let table = part(&text, "### Budgets");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let rows: BTreeMap<_, _> = rows.map(|row| (quoted(row)[0].to_string(), cells(row))).collect();
    let flags = std::fs::read_to_string(root().join("src/args.rs")).unwrap();
    for (limits, column) in [(Limits::default(), 2), (Limits::untrusted(), 3)] {
        let limits = format!("{limits:#?}");
        let fields =
            limits.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
        let mut count = 0;
        for (field, value) in fields {
            let row = rows.get(field).unwrap_or_else(|| panic!("{field} is not told"));
            let told = match row[column] {
                "none" if value == "None" => value.to_string(),
                "none" => u64::MAX.to_string(),
                told => size(told).to_string(),
            };
            assert_eq!(value, told, "{field}");
            if let Some(flag) = quoted(row[1]).first() {
                let name = flag.trim_start_matches("--").replace('-', "_");
                assert!(flags.contains(&format!("pub(crate) {name}: ")), "there is no {flag}");
            }
            count += 1;
        }
        assert_eq!(count, rows.len(), "limits that there are not");
    }
}

#[test]
fn what_ours_lets_pass_and_oslo_utils_does_not_is_told() {
    let text = security();
    let told = part(&text, "## Compared with oslo.utils");
    let table = std::fs::read_to_string(root().join("testdata/oslo.toml")).unwrap();
    for row in table.split("[[difference]]").skip(1) {
        let of = |key: &str| {
            let line = row.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
            line.unwrap().trim_matches('"').to_string()
        };
        let both = of("ours").starts_with("safe ") && of("theirs").ends_with(" safe");
        assert!(both || told.contains(&of("reason")), "{}: {}", of("files"), of("reason"));
    }
}
