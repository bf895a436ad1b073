//! Too little of everything: counts that are short, room that runs out, files that may not grow.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::deeds::{self, Deed};
use crate::dice::Dice;
use crate::judge::Undisturbed;
use crate::place::Place;
use crate::strike::Ended;
use crate::{Tally, rounds, setting};

fn does(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The library that makes counts short.
fn short(folder: &TempDir) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/faults/short.c");
    let library = folder.path().join("short.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    if !does(&mut compile) {
        eprintln!("skipped: there is no cc here that makes a library");
        return None;
    }
    Some(library)
}

#[test]
fn a_call_that_does_less_than_it_was_asked_for_changes_nothing() {
    let seed = setting("DISKWRIGHT_SEED", 5);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = short(&folder) else { return };
    let counts = folder.path().join("counts");
    let mut tally = Tally::default();
    for all in [deeds::writing(), deeds::reading()] {
        for (deed, _) in rounds(&all, wanted / 2, &mut dice) {
            let place = deed.place(seed);
            let undisturbed = Undisturbed::of(&place, &deed);
            let mut command = place.command(&deed.words());
            command.env("LD_PRELOAD", &library).env("SHORT_COUNTS", &counts);
            let ended = Ended::from(command.output().unwrap());
            let judged = match ended.code {
                Some(0 | 1) => undisturbed.judge(&place, &deed, &ended),
                code => Err(format!("exit code {code:?}: {}", ended.said)),
            };
            tally.add(std::slice::from_ref(&deed.format), &deed.words, judged);
        }
    }
    let counts = std::fs::read_to_string(counts).unwrap();
    let numbers = counts.lines().filter_map(|line| line.split_once(' '));
    let number = |text: &str| text.parse::<u64>().unwrap();
    let (short, broken) = numbers.fold((0, 0), |(short, broken), (one, other)| {
        (short + number(one), broken + number(other))
    });
    tally.tell(&format!("{short} short counts, {broken} interruptions"), seed);
    assert!(short > 100 && broken > 10, "they were made short: {short}, {broken}");
}

/// A file system of 96 MiB, if this machine lets us have one.
pub(crate) struct SmallDisk {
    mounted: TempDir,
    _image: tempfile::NamedTempFile,
}

impl SmallDisk {
    pub(crate) fn new(kind: &str) -> Option<SmallDisk> {
        let (mounted, image) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new());
        let image = image.unwrap();
        image.as_file().set_len(96 << 20).unwrap();
        let mut mount = Command::new("mount");
        let made = match kind {
            "tmpfs" => {
                mount.args(["-t", "tmpfs", "-o", "size=96m", "none"]);
                true
            }
            kind => {
                mount.args(["-o", "loop"]).arg(image.path());
                let mut make = Command::new(format!("mkfs.{kind}"));
                does(make.args(["-q", "-m", "0"]).arg(image.path()))
            }
        };
        if !made || !does(mount.arg(mounted.path())) {
            eprintln!("skipped: no {kind} of 96 MiB can be made and mounted (not root?)");
            return None;
        }
        Some(SmallDisk { mounted, _image: image })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }

    fn free(&self) -> u64 {
        let system = rustix::fs::statvfs(self.mounted.path()).unwrap();
        system.f_bavail * system.f_frsize
    }

    /// Leaves so much room, and no more.
    fn leave(&self, room: u64) -> File {
        let ballast = File::create(self.mounted.path().join("ballast")).unwrap();
        ballast.set_len(0).unwrap();
        let mut len = self.free().saturating_sub(room).max(1);
        let none = rustix::fs::FallocateFlags::empty();
        // What the file system itself needs for it is not known.
        while rustix::fs::fallocate(&ballast, none, 0, len).is_err() {
            len = len.checked_sub(64 << 10).unwrap();
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mounted.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let seed = setting("DISKWRIGHT_SEED", 6);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let mut tally = Tally::default();
    for kind in ["tmpfs", "ext4"] {
        let Some(disk) = SmallDisk::new(kind) else { continue };
        for (deed, times) in rounds(&deeds::writing(), wanted / 2, &mut dice) {
            let place = deed.place_in(disk.path(), seed);
            let undisturbed = Undisturbed::of(&place, &deed);
            for _ in 0..times {
                let room = dice.below(3 << 20) & !4095;
                let ballast = disk.leave(room);
                let ended = Ended::from(place.command(&deed.words()).output().unwrap());
                ballast.set_len(0).unwrap();
                let keys = [format!("{kind} {}", deed.format)];
                let judged = undisturbed.judge(&place, &deed, &ended);
                tally.add(&keys, &format!("{} [{room} bytes of {kind}]", deed.words), judged);
                place.restore();
            }
        }
    }
    tally.tell("full disks", seed);
}

/// The deed under a limit on the size of files, in units of 512 bytes: with the signal that comes
/// with it, which ends a process, or without.
fn limited(place: &Place, deed: &Deed, blocks: u64, signal: bool) -> Ended {
    let plain = place.command(&deed.words());
    let trap = if signal { "" } else { "trap '' XFSZ; " };
    let script = format!("{trap}ulimit -c 0; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(plain.get_program()).args(plain.get_args());
    Ended::from(command.current_dir(place.path()).output().unwrap())
}

#[test]
fn a_file_that_may_not_grow_loses_nothing() {
    let seed = setting("DISKWRIGHT_SEED", 7);
    let (wanted, mut dice) = (setting("DISKWRIGHT_FAULTS", 60), Dice::new(seed));
    let mut tally = Tally::default();
    for (deed, times) in rounds(&deeds::writing(), wanted / 2, &mut dice) {
        let place = deed.place(seed);
        let undisturbed = Undisturbed::of(&place, &deed);
        for time in 0..times {
            let blocks = dice.below(8 << 10);
            let mut ended = limited(&place, &deed, blocks, time % 2 == 0);
            // SIGXFSZ is a kill as any other.
            if ended.signal == Some(25) && time % 2 == 0 {
                ended.signal = Some(9);
            }
            let judged = undisturbed.judge(&place, &deed, &ended);
            let what = format!("{} [{blocks} blocks]", deed.words);
            tally.add(std::slice::from_ref(&deed.format), &what, judged);
            place.restore();
        }
    }
    tally.tell("limits on the size of files", seed);
}
