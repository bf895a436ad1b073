//! Callgrind's counts, by the source that the instructions come from.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Sources that took fewer instructions than one in so many go by one name.
const FEW: u64 = 200;
/// Moves that are told of a cell.
const MOVES: usize = 6;

/// What some work took.
#[derive(Serialize, Deserialize)]
pub(crate) struct Count {
    /// All instructions.
    pub(crate) total: u64,
    /// By source: a file of ours, or the name of a library.
    sources: BTreeMap<String, u64>,
}

impl Count {
    /// Reads what callgrind wrote.
    pub(crate) fn of(text: &str) -> Count {
        let mut names: HashMap<(char, &str), String> = HashMap::new();
        let mut sources: BTreeMap<String, u64> = BTreeMap::new();
        let (mut object, mut file, mut is_call) = (String::new(), String::new(), false);
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "ob" => object = named(&mut names, 'o', value),
                    "fl" | "fi" | "fe" => file = named(&mut names, 'f', value),
                    "cob" => drop(named(&mut names, 'o', value)),
                    "cfi" | "cfl" => drop(named(&mut names, 'f', value)),
                    "calls" => is_call = true,
                    _ => {}
                }
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            {
                // What a call took inside counts where it was taken.
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
                if !std::mem::take(&mut is_call)
                    && let Some(cost) = cost
                {
                    let cost: u64 = cost;
                    *sources.entry(source(&object, &file)).or_default() += cost;
                }
            }
        }
        let total = sources.values().sum();
        let few: u64 = sources.values().filter(|cost| **cost < total / FEW).sum();
        sources.retain(|_, cost| *cost >= total / FEW);
        sources.insert("others".into(), few);
        Count { total, sources }
    }

    /// The sources that took more than before, or less: the largest moves first.
    pub(crate) fn moved_from(&self, before: &Count) -> Vec<String> {
        let taken = |count: &Count, name: &str| count.sources.get(name).copied().unwrap_or(0);
        let names: std::collections::BTreeSet<_> =
            self.sources.keys().chain(before.sources.keys()).collect();
        let mut moves: Vec<_> = names
            .into_iter()
            .map(|name| (taken(self, name).cast_signed() - taken(before, name).cast_signed(), name))
            .filter(|(more, _)| *more != 0)
            .collect();
        moves.sort_by_key(|(more, _)| std::cmp::Reverse(more.abs()));
        moves.iter().take(MOVES).map(|(more, name)| format!("    {more:>+15} {name}")).collect()
    }
}

/// A name, which is said once and then by its number: `(3) name`, `(3)`.
fn named<'a>(names: &mut HashMap<(char, &'a str), String>, kind: char, text: &'a str) -> String {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert((kind, number), name.into());
            name.into()
        }
        None => names.get(&(kind, text)).cloned().unwrap_or_default(),
    }
}

/// What a source is called: without the folders that are another's on another machine.
fn source(object: &str, file: &str) -> String {
    for ours in ["/formats/", "/contents/", "/metadata/", "/src/"] {
        if let Some((front, path)) = file.rsplit_once(ours)
            && !front.contains("registry")
            && !front.contains("rustc")
        {
            return format!("{}{path}", &ours[1..]);
        }
    }
    if let Some((_, path)) = file.split_once("/registry/src/") {
        return path.split('/').nth(1).unwrap_or(path).into();
    }
    if file.contains("/rustc/") || file.contains("/library/") {
        return "std".into();
    }
    if object.ends_with("diskwright") {
        return "C libraries in it".into();
    }
    object.rsplit('/').next().unwrap_or(object).into()
}
