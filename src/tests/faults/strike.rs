//! Ways in which a process is struck: killed after a while, or at a call, or by a call that fails.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::deeds::Deed;
use crate::place::Place;

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) answer: Vec<u8>,
    pub(crate) said: String,
    /// Whether nothing could be said any more.
    pub(crate) mute: bool,
}

impl From<Output> for Ended {
    fn from(done: Output) -> Ended {
        Ended {
            code: done.status.code(),
            signal: done.status.signal(),
            answer: done.stdout,
            said: String::from_utf8_lossy(&done.stderr).into_owned(),
            mute: false,
        }
    }
}

/// Lets it be, and kills it after this time if it is still there.
pub(crate) fn kill_after(place: &Place, deed: &Deed, time: Duration) -> Ended {
    let mut command = place.command(&deed.words());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(time);
    child.kill().unwrap();
    let mut ended = Ended::from(child.wait_with_output().unwrap());
    // Nobody looked at the answer.
    ended.answer.clear();
    ended
}

/// Calls that read, write, name or open files.
const CALLS: &str = "?pread64,?read,?pwrite64,?write,?fsync,?fdatasync,?ftruncate,?fallocate,\
    ?copy_file_range,?linkat,?rename,?renameat,?renameat2,?openat,?lseek,?statx,?newfstatat,\
    ?fcntl,?fadvise64,?ioctl,?fchmod,?mkdir,?mkdirat,?unlink,?fstat,?readlink,?getdents64";

/// Whether calls can be watched here.
pub(crate) fn can_trace() -> bool {
    let mut trace = Command::new("strace");
    trace.args(["-f", "-o", "/dev/null", "true"]);
    let can = trace.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: there is no strace here, or it may not trace");
    }
    can
}

/// How often the thread that makes most of them makes each of these calls, undisturbed.
pub(crate) fn calls(place: &Place, deed: &Deed) -> BTreeMap<String, u64> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let arguments = [format!("-o{}", log.path().display()), format!("-etrace={CALLS}")];
    let done = traced(place, deed, &arguments);
    assert!(matches!(done.code, Some(0 | 1)), "{}: {}", deed.words, done.said);
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in std::fs::read_to_string(log.path()).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *counts.entry((name.into(), thread.into())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for ((name, _), count) in counts {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

/// Something that happens at a call: `error=EIO:when=3`, `signal=SIGKILL:when=7`.
pub(crate) fn strike(place: &Place, deed: &Deed, call: &str, what: &str) -> Ended {
    let arguments =
        ["-o/dev/null".to_owned(), format!("-etrace={call}"), format!("-einject={call}:{what}")];
    let mut ended = traced(place, deed, &arguments);
    ended.mute = call == "write" && what.ends_with('+');
    ended
}

/// Time after which a process that is struck hangs.
const PATIENCE: &str = "60";

fn traced(place: &Place, deed: &Deed, arguments: &[String]) -> Ended {
    let plain = place.command(&deed.words());
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE, "strace", "-f", "-qq"]);
    command.args(arguments).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(place.path()).stdin(Stdio::null());
    Ended::from(command.output().unwrap())
}
