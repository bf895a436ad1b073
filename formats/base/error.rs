//! A kind to act on, a place to look at, a sentence to read.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What every fallible function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is. Whoever acts, acts on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The bytes break the format's rules.
    Malformed,
    /// The bytes end too early.
    Truncated,
    /// A true image that uses what we lack.
    Unsupported,
    /// It would push us past one of our [`Limits`](crate::Limits).
    Limit,
    /// The policy does not allow it.
    Refused,
    /// The caller asked for nonsense.
    Invalid,
    /// Storage failed.
    Io,
    /// Someone said stop.
    Cancelled,
    /// The bytes have not arrived yet (never leaves [`Ingest`](crate::Ingest)).
    Awaiting,
}

impl Kind {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Malformed => "malformed",
            Kind::Truncated => "truncated",
            Kind::Unsupported => "unsupported",
            Kind::Limit => "limit",
            Kind::Refused => "refused",
            Kind::Invalid => "invalid",
            Kind::Io => "io",
            Kind::Cancelled => "cancelled",
            Kind::Awaiting => "awaiting",
        }
    }
}

/// What an inspection of a stream still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// `len` bytes from `start` on.
    Range { start: u64, len: u64 },
    /// The end of the stream.
    End,
}

/// Why something could not be done: a [`Kind`], a sentence, and where.
///
/// `Display` gives the sentence with its format and place, and leaves out the path and the
/// [`source`](std::error::Error::source): whoever prints adds those once.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    format: Option<&'static str>,
    at: Option<u64>,
    path: Option<PathBuf>,
    need: Option<Need>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of this kind, told in one sentence: lower case, no full stop, the value in it.
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        let what = what.into();
        Error(Box::new(Inner {
            kind,
            what,
            format: None,
            at: None,
            path: None,
            need: None,
            source: None,
        }))
    }

    /// The bytes at offset `at` break the format's rules.
    pub fn malformed(at: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Malformed, what).at(at)
    }

    /// The bytes end before `at`.
    pub fn truncated(at: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Truncated, what).at(at)
    }

    /// A true image that uses what we lack.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Unsupported, what)
    }

    /// It would push us past one of our limits.
    pub fn limit(what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Limit, what)
    }

    /// The policy does not allow it.
    pub fn refused(what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Refused, what)
    }

    /// The caller asked for nonsense.
    pub fn invalid(what: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Invalid, what)
    }

    /// Storage failed while we did `what`. A failure of ours that came by way of the system's
    /// errors stays what it is.
    pub fn io(what: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let source = match source.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(source) => source,
        };
        let mut error = Error::new(Kind::Io, what);
        error.0.source = Some(Box::new(source));
        error
    }

    /// Someone said stop.
    pub fn cancelled() -> Self {
        Error::new(Kind::Cancelled, "stopped before the end")
    }

    pub(crate) fn awaiting(need: Need) -> Self {
        let mut error = Error::new(Kind::Awaiting, "the bytes have not arrived yet");
        error.0.need = Some(need);
        error
    }

    /// Adds the byte offset in the file.
    #[must_use]
    pub fn at(mut self, at: u64) -> Self {
        self.0.at = Some(at);
        self
    }

    /// Adds the name of the format, unless a deeper place has said one.
    #[must_use]
    pub fn format(mut self, format: &'static str) -> Self {
        self.0.format.get_or_insert(format);
        self
    }

    /// Adds the path of the file, unless a deeper place has said one.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The byte offset in the file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.at
    }

    /// The path of the file, where one is known.
    pub fn file(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    pub(crate) fn need(&self) -> Option<Need> {
        self.0.need
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(format) = self.0.format {
            write!(f, "{format}: ")?;
        }
        f.write_str(&self.0.what)?;
        match self.0.at {
            Some(at) => write!(f, " (at byte {at:#x})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(path) = &self.0.path {
            write!(f, " in {}", path.display())?;
        }
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
