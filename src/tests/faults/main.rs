//! Kills and faults over real processes: whatever happens, nothing is lost, nothing half-written
//! has a name, and a failure is one sentence.
//!
//! By default this is a sample. `DISKWRIGHT_FAULTS=1000` makes it as many kills and as many faults,
//! `DISKWRIGHT_SEED=7` another throw of the dice. Calls are struck by strace.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped, and what was counted, is said aloud")]

mod changing;
mod deeds;
mod dice;
mod ends;
mod judge;
mod little;
mod locks;
mod place;
mod strike;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deeds::Deed;
use dice::Dice;
use judge::{Outcome, Undisturbed};
use place::Place;
use strike::Ended;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A deed in a folder of its own, whose end is known.
struct Stage {
    deed: Deed,
    place: Place,
    undisturbed: Undisturbed,
    /// How long it takes.
    time: Duration,
    /// Calls that it makes: which, and the how manieth in its thread, in an order of chance.
    calls: Vec<(String, u64)>,
}

impl Stage {
    fn new(deed: &Deed, seed: u64, dice: Option<&mut Dice>) -> Stage {
        let place = deed.place(seed);
        let undisturbed = Undisturbed::of(&place, deed);
        let begun = Instant::now();
        place.command(&deed.words()).output().unwrap();
        let time = begun.elapsed();
        place.restore();
        let mut calls = Vec::new();
        if let Some(dice) = dice {
            let mut counts = strike::calls(&place, deed);
            // A map tells no holes where the file system does not: that is another answer.
            counts.retain(|call, _| call != "lseek" || !deed.words.starts_with("map"));
            // Each call once, then each a second time, and so on.
            let mut ranked = Vec::new();
            for (call, most) in counts {
                let mut numbers: Vec<_> = (1..=most).collect();
                dice.shuffle(&mut numbers);
                ranked.extend(numbers.into_iter().enumerate().map(|(n, at)| (n, call.clone(), at)));
            }
            dice.shuffle(&mut ranked);
            ranked.sort_by_key(|(rank, ..)| *rank);
            calls.extend(ranked.into_iter().map(|(_, call, number)| (call, number)));
            place.restore();
        }
        Stage { deed: deed.clone(), place, undisturbed, time, calls }
    }

    /// Does it and kills it: every other time after a while, or, where calls can be watched, at the
    /// next one that writes. Says which.
    fn kill(&self, time: usize, dice: &mut Dice) -> (String, Ended) {
        let points = self.calls.iter().filter(|(name, _)| CHANGES.contains(&&**name));
        let points: Vec<_> = points.collect();
        if time.is_multiple_of(2) || points.is_empty() {
            let micros = dice.below(u64::try_from(self.time.as_micros()).expect("short"));
            let time = Duration::from_micros(micros);
            return (
                format!("after {micros} us"),
                strike::kill_after(&self.place, &self.deed, time),
            );
        }
        let (call, number) = points[time / 2 % points.len()];
        let what = format!("signal=SIGKILL:when={number}");
        (format!("{call}:{what}"), strike::strike(&self.place, &self.deed, call, &what))
    }

    /// Judges, and makes everything what it was.
    fn settle(&self, ended: &Ended) -> Result<Outcome, String> {
        let judged = self.undisturbed.judge(&self.place, &self.deed, ended);
        self.place.restore();
        judged
    }
}

/// What was done, and what came of it.
#[derive(Default)]
struct Tally {
    /// By what is counted: how often which outcome.
    counts: BTreeMap<String, BTreeMap<Outcome, u64>>,
    losses: Vec<String>,
    struck: u64,
}

impl Tally {
    fn add(&mut self, keys: &[String], what: &str, judged: Result<Outcome, String>) {
        match judged {
            Ok(outcome) => {
                self.struck += u64::from(outcome != Outcome::NotBegun);
                for key in keys {
                    *self.counts.entry(key.clone()).or_default().entry(outcome).or_default() += 1;
                }
            }
            Err(loss) => {
                self.struck += 1;
                eprintln!("LOST: {what}: {loss}");
                self.losses.push(format!("{what}: {loss}"));
            }
        }
    }

    fn tell(&self, title: &str, seed: u64) {
        eprintln!("{title}: {} struck, {} lost, seed {seed}", self.struck, self.losses.len());
        for (key, outcomes) in &self.counts {
            let outcomes: Vec<_> =
                outcomes.iter().map(|(outcome, count)| format!("{outcome:?} {count}")).collect();
            eprintln!("  {key:44} {}", outcomes.join(", "));
        }
        assert!(
            self.losses.is_empty(),
            "{} lost, of which the first: {}",
            self.losses.len(),
            self.losses[0]
        );
    }
}

/// Goes round these deeds in an order that the seed gives, each some times in a row, so that what
/// it needs is made once.
fn rounds(deeds: &[Deed], wanted: u64, dice: &mut Dice) -> Vec<(Deed, usize)> {
    let mut order: Vec<_> = deeds.to_vec();
    dice.shuffle(&mut order);
    let times = wanted.div_ceil(order.len() as u64).max(2);
    let count = usize::try_from(wanted.div_ceil(times)).expect("few");
    order.truncate(count);
    let times = usize::try_from(times).expect("few");
    order.into_iter().map(|deed| (deed, times)).collect()
}

/// Calls at which something that is written changes.
const CHANGES: [&str; 9] = [
    "pwrite64",
    "write",
    "ftruncate",
    "fallocate",
    "fdatasync",
    "fsync",
    "linkat",
    "rename",
    "copy_file_range",
];

#[test]
fn a_process_that_is_killed_loses_nothing() {
    let seed = setting("DISKWRIGHT_SEED", 1);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let traced = strike::can_trace();
    let mut tally = Tally::default();
    for (deed, times) in rounds(&deeds::writing(), wanted, &mut dice) {
        let stage = Stage::new(&deed, seed, traced.then_some(&mut dice));
        let mut kills = 0;
        // Some come too late, and are not counted.
        for time in 0..4 * times {
            let (how, ended) = stage.kill(time, &mut dice);
            let in_time = ended.code.is_none_or(|code| code == 137);
            let judged = stage.settle(&ended);
            if !in_time && judged.is_ok() {
                continue;
            }
            let verb = deed.words.split(' ').next().unwrap_or_default();
            let way = if how.starts_with("after") { "by time" } else { "at a call" };
            let keys = [format!("{} {verb}", deed.format), format!("all {way}")];
            tally.add(&keys, &format!("{} [{how}]", deed.words), judged);
            kills += 1;
            if kills == times {
                break;
            }
        }
    }
    tally.tell("kills", seed);
}

/// What a call may fail with.
const ERRORS: [&str; 4] = ["EIO", "ENOSPC", "EINTR", "EDQUOT"];

#[test]
fn a_call_that_fails_loses_nothing_and_is_one_sentence() {
    let seed = setting("DISKWRIGHT_SEED", 2);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    if !strike::can_trace() {
        return;
    }
    let mut tally = Tally::default();
    for all in [deeds::writing(), deeds::reading()] {
        for (deed, times) in rounds(&all, wanted.div_ceil(2), &mut dice) {
            let stage = Stage::new(&deed, seed, Some(&mut dice));
            for (call, number) in stage.calls.iter().cycle().take(times) {
                let error = *dice.pick(&ERRORS);
                // From then on, too: but who tries again for ever is right to do so.
                let ever = if error != "EINTR" && dice.below(2) == 0 { "+" } else { "" };
                let what = format!("error={error}:when={number}{ever}");
                let ended = strike::strike(&stage.place, &deed, call, &what);
                let keys = [
                    format!("format {}", deed.format),
                    format!("call {call}"),
                    format!("error {error}{ever}"),
                ];
                tally.add(&keys, &format!("{} [{call}:{what}]", deed.words), stage.settle(&ended));
            }
        }
    }
    tally.tell("faults", seed);
}
