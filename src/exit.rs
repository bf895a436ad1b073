//! Kind → exit code, one table.

use formats::Kind;

/// What the process tells whoever called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; the answer is yes.
    Ok,
    /// Done; the answer is no: disks differ, a check found damage, an inspection found a hazard.
    No,
    /// Not done.
    Failed(Kind),
}

impl Exit {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::No => 1,
            Exit::Failed(kind) => match kind {
                Kind::Invalid => 2,
                Kind::Malformed | Kind::Truncated => 3,
                Kind::Unsupported => 4,
                Kind::Limit => 5,
                Kind::Refused => 6,
                Kind::Io | Kind::Awaiting => 7,
                Kind::Cancelled => 130,
            },
        }
    }
}

/// The table, for `--help`.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done; the answer is yes
  1  done; the answer is no: disks differ, damage or a hazard was found
  2  the request makes no sense
  3  the image is malformed or cut short
  4  the image uses something that is not supported
  5  a limit would be exceeded
  6  the policy does not allow it
  7  reading or writing failed
  130  stopped by Ctrl-C";
