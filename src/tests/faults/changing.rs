//! Inputs that another process cuts short, or writes over, while they are read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::deeds::{self, Deed};
use crate::dice::Dice;
use crate::judge::told;
use crate::place::{Files, Place};
use crate::strike::Ended;
use crate::{rounds, setting};

/// What a deed gives: its exit code, its answer, the files that are new.
type Gives = (Option<i32>, Vec<u8>, Files);

fn gives(place: &Place, deed: &Deed) -> Gives {
    let done = place.command(&deed.words()).output().unwrap();
    (done.status.code(), done.stdout, made(place))
}

/// Files that were not there before.
fn made(place: &Place) -> Files {
    let mut files = place.seen();
    files.retain(|name, _| !place.before.contains_key(name));
    files
}

/// The input that a deed reads, the last one if it reads two.
fn input(place: &Place, deed: &Deed) -> String {
    let words = deed.words();
    let mut named = words.iter().filter(|word| place.before.contains_key(*word));
    named.next_back().unwrap().clone()
}

/// Does it, and changes the input after this time.
fn disturbed(place: &Place, deed: &Deed, after: Duration, change: impl FnOnce(&File)) -> Ended {
    let path = place.path().join(input(place, deed));
    let file = File::options().write(true).open(path).unwrap();
    let mut command = place.command(&deed.words());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(after);
    change(&file);
    Ended::from(child.wait_with_output().unwrap())
}

/// Its exit code, if it ended as a process should.
fn ended_well(ended: &Ended) -> Result<i32, String> {
    let Ended { code, signal, said, .. } = ended;
    match code {
        Some(code) if !said.contains("panicked") => Ok(*code),
        _ => Err(format!("code {code:?}, signal {signal:?}: {said}")),
    }
}

/// What it gave is what one of the two states gives, or it failed, and left nothing.
fn is_of_one_state(
    ended: &Ended,
    made: &Files,
    deed: &Deed,
    states: &[Gives; 2],
) -> Result<(), String> {
    let code = ended_well(ended)?;
    let same = |(wanted, answer, files): &Gives| {
        *wanted == Some(code) && told(answer) == told(&ended.answer) && files == made
    };
    let checks = deed.words.starts_with("check");
    match code {
        _ if states.iter().any(same) => Ok(()),
        1 if checks => Ok(()),
        3 | 7 if made.is_empty() => Ok(()),
        _ => {
            let answer = told(&ended.answer);
            Err(format!("code {code}, made {:?}: {}, {answer}", made.keys(), ended.said))
        }
    }
}

// Seen: a raw disk that was cut short became one that ends in zeros. Why: behind the end of a file
// there are no data, which was taken for a hole.
#[test]
fn an_input_that_is_cut_short_meanwhile_is_an_error_or_what_it_was() {
    let seed = setting("DISKWRIGHT_SEED", 3);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let (mut count, mut lost) = (0, Vec::new());
    for (deed, times) in rounds(&deeds::reading(), wanted, &mut dice) {
        let place = deed.place(seed);
        let begun = Instant::now();
        let before = gives(&place, &deed);
        let most = u64::try_from(begun.elapsed().as_micros()).unwrap();
        place.restore();
        let len = place.before[&input(&place, &deed)].len() as u64;
        for _ in 0..times {
            let (after, cut) = (Duration::from_micros(dice.below(most)), dice.below(len));
            let ended = disturbed(&place, &deed, after, |file| file.set_len(cut).unwrap());
            let made_now = made(&place);
            for name in made_now.keys() {
                std::fs::remove_file(place.path().join(name)).unwrap();
            }
            let states = [before.clone(), gives(&place, &deed)];
            if let Err(loss) = is_of_one_state(&ended, &made_now, &deed, &states) {
                lost.push(format!("{} [cut to {cut} after {after:?}]: {loss}", deed.words));
            }
            place.restore();
            count += 1;
        }
    }
    eprintln!("inputs cut short: {count}, {} lost, seed {seed}", lost.len());
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Writes over all of the file, a piece at a time.
fn write_over(file: &File, bytes: &[u8]) {
    for (index, piece) in bytes.chunks(64 << 10).enumerate() {
        file.write_all_at(piece, index as u64 * (64 << 10)).unwrap();
    }
}

/// Every sector is that of one of the two.
fn is_mixed_of(disk: &[u8], one: &[u8], other: &[u8]) -> bool {
    let sectors = disk.chunks(512).zip(one.chunks(512)).zip(other.chunks(512));
    disk.len() == one.len() && sectors.into_iter().all(|((is, a), b)| is == a || is == b)
}

#[test]
fn an_input_that_is_written_over_meanwhile_ends_nothing_badly() {
    let seed = setting("DISKWRIGHT_SEED", 4);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let (mut count, mut lost) = (0, Vec::new());
    for (deed, times) in rounds(&deeds::reading(), wanted, &mut dice) {
        let place = deed.place(seed);
        let begun = Instant::now();
        gives(&place, &deed);
        let most = u64::try_from(begun.elapsed().as_micros()).unwrap();
        place.restore();
        let name = input(&place, &deed);
        let other = {
            let place = deed.place(seed + 1);
            place.before[&name].clone()
        };
        for _ in 0..times {
            let after = Duration::from_micros(dice.below(most));
            let ended = disturbed(&place, &deed, after, |file| write_over(file, &other));
            let made = made(&place);
            let fine = ended_well(&ended).and_then(|code| match (code, made.get("back.raw")) {
                (0, Some(back)) if deed.format == "raw" => {
                    let (one, other) = (&place.before[&name], &other);
                    let mixed = is_mixed_of(back, one, other);
                    if mixed { Ok(()) } else { Err("bytes that never were there".into()) }
                }
                (0, _) | (1..=7, None) => Ok(()),
                (code, made) => Err(format!("code {code}, made {:?}", made.map(Vec::len))),
            });
            if let Err(loss) = fine {
                lost.push(format!("{} [after {after:?}]: {loss}", deed.words));
            }
            place.restore();
            count += 1;
        }
    }
    eprintln!("inputs written over: {count}, {} lost, seed {seed}", lost.len());
    assert!(lost.is_empty(), "{lost:#?}");
}
