//! What must hold after a process was struck.

use serde_json::Value;

use crate::deeds::{Deed, Kept, Promise};
use crate::place::{Files, Place};
use crate::strike::Ended;

/// How a deed ends if nothing is in its way.
pub(crate) struct Undisturbed {
    files: Files,
    /// 0, or 1 where the answer is no.
    code: Option<i32>,
    answer: Vec<u8>,
    /// The disk of an image that is changed in place, before and after.
    disks: Option<[Vec<u8>; 2]>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It did not even begin: the loader of programs was hit.
    NotBegun,
    /// It was done all the same.
    Done,
    /// It failed and said so, or was killed.
    Failed,
    /// As before; a complete image was left under a temporary name, on the way to its own.
    LeftWhole,
    /// Killed while several files got their names: what was there is there, under other names.
    Between,
}

impl Undisturbed {
    /// Does the deed, sees what comes of it, and makes everything what it was.
    pub(crate) fn of(place: &Place, deed: &Deed) -> Undisturbed {
        let before = held(place, &deed.promise).unwrap();
        let done = place.command(&deed.words()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let code = done.status.code();
        assert!(matches!(code, Some(0 | 1)), "{}: {said}", deed.words);
        let after = held(place, &deed.promise).unwrap();
        let files = place.seen();
        place.restore();
        let disks = before.zip(after).map(|(before, after)| [before, after]);
        Undisturbed { files, code, answer: done.stdout, disks }
    }

    /// Says what came of it, or what was lost.
    pub(crate) fn judge(
        &self,
        place: &Place,
        deed: &Deed,
        ended: &Ended,
    ) -> Result<Outcome, String> {
        let Ended { code, signal, answer, said, mute } = ended;
        if said.contains("panicked") || said.contains("RUST_BACKTRACE") {
            return Err(format!("it panicked: {said}"));
        }
        let killed = *signal == Some(9) || *code == Some(137);
        match code {
            _ if killed => {}
            Some(127) if said.contains("loading shared libraries") => {
                return Ok(Outcome::NotBegun);
            }
            code if *code == self.code => {
                if !answer.is_empty() && told(answer) != told(&self.answer) {
                    return Err("it answered something else, and said that all is well".into());
                }
                return self.done(place, deed).map(|()| Outcome::Done);
            }
            Some(7) if *mute => {}
            Some(7) => self.one_sentence(said, deed)?,
            // A check goes on where it cannot read, and says where that is.
            Some(1) if deed.words.starts_with("check") && said.contains("unreadable: ") => {}
            other => return Err(format!("exit code {other:?}, signal {signal:?}: {said}")),
        }
        self.undone(place, deed)
    }

    /// One sentence, which names what it was about. That something was put aside first is said
    /// before, and what was mended until then.
    fn one_sentence(&self, said: &str, deed: &Deed) -> Result<(), String> {
        let before =
            |line: &&str| line.contains("temporary file first") || line.starts_with("mended ");
        let lines = said.lines().filter(|line| !before(line));
        let is = lines.clone().count() == 1 && lines.clone().all(|l| l.starts_with("diskwright: "));
        let words = deed.words();
        let paths =
            words[1..].iter().filter(|word| !word.starts_with('-')).chain(self.files.keys());
        let mut names = paths.filter_map(|path| path.trim_end_matches('/').rsplit('/').next());
        let others = ["standard output", "-disk1.vmdk", "-disk2.vmdk"];
        let named = names.any(|name| said.contains(name));
        match is && (named || others.iter().any(|name| said.contains(name))) {
            true => Ok(()),
            false => Err(format!("not one sentence that names it: {said:?}")),
        }
    }

    fn done(&self, place: &Place, deed: &Deed) -> Result<(), String> {
        if let (Promise::Keeps(kept), Some([_, after])) = (&deed.promise, &self.disks) {
            if held(place, &deed.promise)?.as_ref() != Some(after) {
                return Err("it said that all is well, and the disk is another".into());
            }
            return sound(place, &Kept { damaged: false, ..kept.clone() });
        }
        let now = place.seen();
        // What had the name before may not have been taken away.
        let is_old = |name: &String| {
            let mut old = place.before.values();
            name.contains(".diskwright-") && old.any(|old| Some(old) == now.get(name))
        };
        let mut names = differing(&now, &self.files);
        names.retain(|name| !is_old(name));
        match names[..] {
            [] => Ok(()),
            _ => Err(format!("done, and these are not right: {names:?}")),
        }
    }

    fn undone(&self, place: &Place, deed: &Deed) -> Result<Outcome, String> {
        let now = place.seen();
        match &deed.promise {
            Promise::Whole | Promise::Each => self.whole(place, deed, &now),
            Promise::Over(name) => {
                let others = differing(&now, &place.before);
                let same_len =
                    now.get(*name).map(Vec::len) == place.before.get(*name).map(Vec::len);
                match same_len && others.iter().all(|other| other == name) {
                    true => Ok(Outcome::Failed),
                    false => Err(format!("changed beside it: {others:?}")),
                }
            }
            Promise::Keeps(kept) => {
                let others = differing(&now, &place.before);
                if others.iter().any(|name| name != kept.image) {
                    return Err(format!("changed beside it: {others:?}"));
                }
                let Some([before, after]) = &self.disks else { return Err("no disks".into()) };
                let disk = held(place, &deed.promise)?.unwrap_or_default();
                let same = disk.len().min(before.len()).min(after.len());
                let len = [before.len(), after.len()].contains(&disk.len());
                let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
                let rest = disk.get(before.len()..).is_none_or(zeros);
                if !len || disk[..same] != before[..same] || !rest {
                    return Err(format!("the disk has {} other bytes", disk.len()));
                }
                sound(place, kept)?;
                Ok(Outcome::Failed)
            }
        }
    }

    /// Files that appear complete or not at all, all of them or each for itself.
    fn whole(&self, place: &Place, deed: &Deed, now: &Files) -> Result<Outcome, String> {
        let left = self.left(place, now)?;
        let names = differing(&place.before, &self.files);
        let (mut old, mut new, mut gone) = (0, 0, 0);
        for name in &names {
            match now.get(name) {
                found if found == place.before.get(name) => old += 1,
                found if found == self.files.get(name) => new += 1,
                None => gone += 1,
                Some(bytes) => {
                    return Err(format!("{name} is half written: {} bytes", bytes.len()));
                }
            }
        }
        // Several files do not get their names at once: the image's own name, which is the last
        // one here, leads nowhere meanwhile, and what was there is there under another name.
        let whole = deed.promise == Promise::Whole && names.len() > 1;
        let between = gone > 0 || (old > 0 && new > 0);
        if whole && between && names.last().is_some_and(|own| !now.contains_key(own)) {
            let kept = place.before.values().all(|bytes| now.values().any(|now| now == bytes));
            return if kept { Ok(Outcome::Between) } else { Err("old files are gone".into()) };
        }
        match (old, new, gone, &deed.promise) {
            (_, _, 1.., _) => Err("an old file is gone".into()),
            (1.., 1.., _, Promise::Whole) => Err(format!("{old} files are old, and {new} new")),
            _ if left > 0 => Ok(Outcome::LeftWhole),
            (0, 1.., ..) => Ok(Outcome::Done),
            _ => Ok(Outcome::Failed),
        }
    }

    /// How many files are left under temporary names. They are complete.
    fn left(&self, place: &Place, now: &Files) -> Result<usize, String> {
        let mut left = 0;
        for (name, bytes) in now {
            if name.contains(".diskwright-") {
                let mut wholes = self.files.values().chain(place.before.values());
                if !wholes.any(|whole| whole == bytes) {
                    return Err(format!("{name}: {} bytes left behind", bytes.len()));
                }
                left += 1;
            } else if !self.files.contains_key(name) || !self.is_either(place, name, bytes) {
                return Err(format!("{name} is left behind, or changed"));
            }
        }
        Ok(left)
    }

    fn is_either(&self, place: &Place, name: &str, bytes: &Vec<u8>) -> bool {
        [place.before.get(name), self.files.get(name)].contains(&Some(bytes))
    }
}

/// Names of what is not the same.
fn differing(one: &Files, other: &Files) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// What was answered, but for the room that a file takes, which is left out if it is not known.
pub(crate) fn told(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.lines().filter(|line| !line.starts_with("file size:")).collect::<Vec<_>>().join("\n")
}

/// The disk of an image that is changed in place.
fn held(place: &Place, promise: &Promise) -> Result<Option<Vec<u8>>, String> {
    let Promise::Keeps(Kept { image, format, .. }) = promise else { return Ok(None) };
    let beside = tempfile::tempdir().unwrap();
    let raw = beside.path().join("held.raw");
    let words = format!("convert -q -f {format} -O raw {image} {}", raw.display());
    let done = place.run(&words);
    match done.status.success() {
        true => Ok(Some(std::fs::read(raw).unwrap())),
        false => Err(format!("it does not open: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// What a check says of an image that was left while it was changed: a mark says that it was, or of
/// two places that say the same, which no single write can change, one is not changed yet.
const UNFINISHED: [&str; 4] = [
    "it was not closed properly",
    "the footer at its end and the copy at its beginning differ",
    "the headers do not agree on what the disk holds",
    "the descriptor says ",
];

/// Whether a check finds no corruption, but that it was left unfinished: room that is lost may be.
/// A repair mends that, and takes nothing away.
fn sound(place: &Place, kept: &Kept) -> Result<(), String> {
    let Kept { image, format, damaged } = kept;
    if *format == "raw" {
        return Ok(());
    }
    let check = |repair: &str| -> Result<Value, String> {
        let done = place.run(&format!("check {repair} --output json -f {format} {image}"));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        serde_json::from_slice(&done.stdout).map_err(|_| said)
    };
    let wrong = |told: &Value| {
        told["corruptions"].as_u64().unwrap_or(0) + told["check-errors"].as_u64().unwrap_or(0)
    };
    let told = check("")?;
    if wrong(&told) == 0 {
        return Ok(());
    }
    let findings = told["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_unfinished = |finding: &Value| {
        let what = finding["what"].as_str().unwrap_or_default();
        finding["severity"] == "leak" || UNFINISHED.iter().any(|known| what.starts_with(known))
    };
    if !damaged && !findings.iter().all(is_unfinished) {
        return Err(format!("corruptions: {}", told["findings"]));
    }
    let promise = Promise::Keeps(kept.clone());
    let before = held(place, &promise)?;
    let told = check("-r all")?;
    match wrong(&told) == 0 && held(place, &promise)? == before {
        true => Ok(()),
        false => Err(format!("it is not mended: {}", told["findings"])),
    }
}
