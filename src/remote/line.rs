//! One file on a server: requests for its bytes, one attempt at a time.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG,
    HeaderName, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::Url;

/// Redirects that one request follows.
const REDIRECTS: u32 = 10;
/// The longest that a server may ask us to wait before the next attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long we wait, and how often we try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection.
    pub(super) connect: Duration,
    /// For the next bytes.
    pub(super) read: Duration,
    /// Before the second attempt; twice as long before each that follows.
    pub(super) pause: Duration,
    /// Attempts in a row that bring no byte.
    pub(super) attempts: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(30),
            read: Duration::from_secs(60),
            pause: Duration::from_millis(250),
            attempts: 7,
        }
    }
}

impl Patience {
    /// How long to wait after so many attempts in a row that brought nothing.
    fn after(self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.pause.saturating_mul(factor).min(LONGEST_WAIT)
    }
}

/// Why an attempt brought nothing, or not all.
pub(super) enum Failure {
    /// Another attempt may bring more; the server may have said when.
    Again { what: String, wait: Option<Duration> },
    /// Nobody answers: who never did is not called again.
    Nobody(String),
    /// It will not.
    Final(io::Error),
}

impl Failure {
    pub(super) fn again(what: impl Into<String>) -> Failure {
        Failure::Again { what: what.into(), wait: None }
    }

    pub(super) fn last(what: impl Into<String>) -> Failure {
        Failure::Final(io::Error::other(what.into()))
    }

    pub(super) fn changed() -> Failure {
        Failure::last("it changed while it was read")
    }

    /// What went wrong on the line, or while a body came in.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is open, and most are told alike")]
    pub(super) fn of(error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(error) => Failure::of_body(error),
            ureq::Error::Timeout(_) => Failure::again("nothing came for too long"),
            ureq::Error::HostNotFound => Failure::Nobody("there is no host of this name".into()),
            ureq::Error::ConnectionFailed => Failure::Nobody("there is no connection".into()),
            ureq::Error::BadUri(_) => Failure::last("it is no URL of a file"),
            error @ (ureq::Error::Tls(_) | ureq::Error::Rustls(_)) => {
                Failure::last(error.to_string())
            }
            other => Failure::again(other.to_string()),
        }
    }

    pub(super) fn of_body(error: io::Error) -> Failure {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(ureq::Error::Timeout(_)) => Failure::again("nothing came for too long"),
            Some(ureq::Error::Io(inner)) => Failure::again(inner.to_string()),
            // What the other side's certificate lacks, it lacks next time too.
            Some(ureq::Error::Rustls(inner)) => Failure::last(inner.to_string()),
            _ if error.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::Nobody(error.to_string())
            }
            _ if error.kind() == io::ErrorKind::InvalidData => Failure::Final(error),
            _ => Failure::again(error.to_string()),
        }
    }
}

/// What a server says of a file, by which we see whether it is still the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Version {
    etag: Option<String>,
    modified: Option<String>,
}

impl Version {
    fn of(response: &Response<Body>) -> Version {
        let text = |name| header(response, &name).map(str::to_string);
        Version { etag: text(ETAG), modified: text(LAST_MODIFIED) }
    }

    fn differs(&self, other: &Version) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? != b.as_ref()?);
        let by_tag = differ(&self.etag, &other.etag);
        by_tag.or_else(|| differ(&self.modified, &other.modified)).unwrap_or(false)
    }

    /// What makes a server send all of a file that is no longer the same. Weak tags may not.
    fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

/// A file on a server.
pub(super) struct Line {
    agent: Agent,
    /// As it was given.
    url: Url,
    /// Where the last redirect led: the next request goes there at once.
    moved: Mutex<Option<Url>>,
    version: Version,
    pub(super) patience: Patience,
}

/// An answer with bytes of the file.
pub(super) struct Answer {
    /// The bytes, as they come.
    pub(super) body: Box<dyn Read + Send>,
    /// Where they lie in the file: the first, and the one behind the last. `None` if it is all of
    /// the file, for the server gives no ranges.
    pub(super) range: Option<(u64, u64)>,
    /// Bytes of the file, if the server says so.
    pub(super) total: Option<u64>,
    version: Version,
}

impl Line {
    /// Nothing is sent yet. `Err` if this is no URL, with the reason.
    pub(super) fn new(url: &str, patience: Patience) -> Result<Line, String> {
        let mut url = Url::parse(url).map_err(|error| error.to_string())?;
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("only http and https lead to a server".into());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("diskwright/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(8)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.read))
            .timeout_per_read(Some(patience.read))
            .build();
        let (moved, version) = (Mutex::new(None), Version::default());
        Ok(Line { agent: config.into(), url, moved, version, patience })
    }

    /// The URL as it may be shown: without credentials, and without a query, which may hold some.
    pub(super) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// From now on every answer must be of the file that this one is of.
    pub(super) fn hold(&mut self, answer: &Answer) {
        self.version = answer.version.clone();
    }

    /// One request for the bytes from `start` to `end`, or to the end of the file. An answer has
    /// bytes from `start` on, or is all of the file.
    pub(super) fn ask(&self, start: u64, end: Option<u64>) -> Result<Answer, Failure> {
        let response = self.follow(start, end)?;
        let status = response.status();
        let version = Version::of(&response);
        let length = match header(&response, &CONTENT_LENGTH).map(str::parse) {
            None => None,
            Some(Ok(length)) => Some(length),
            Some(Err(_)) => return Err(Failure::again("the server's Content-Length is no number")),
        };
        match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {
                if self.version.differs(&version) {
                    return Err(Failure::changed());
                }
                self.plain(&response)?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let (range, body) = (Some((0, 0)), Box::new(io::empty()));
                return match header(&response, &CONTENT_RANGE) {
                    Some("bytes */0") => Ok(Answer { body, range, total: Some(0), version }),
                    _ => Err(Failure::changed()),
                };
            }
            other => return Err(self.refused(other, &response)),
        }
        if status == StatusCode::OK {
            let body = Box::new(response.into_body().into_reader());
            return Ok(Answer { body, range: None, total: length, version });
        }
        let stated = header(&response, &CONTENT_RANGE).unwrap_or_default();
        let Some((first, behind, total)) = parse_range(stated) else {
            let stated = stated.escape_debug();
            return Err(Failure::again(format!("the server sent the range '{stated}'")));
        };
        if first != start || end.is_some_and(|end| behind > end) {
            let what = format!("the server sent bytes from {first} to {behind}");
            let wanted = end.map_or("the end".to_string(), |end| end.to_string());
            return Err(Failure::again(format!("{what}, asked for {start} to {wanted}")));
        }
        if let Some(length) = length.filter(|length| *length != behind - first) {
            let what = format!("the server sent {length} bytes as those from {first} to {behind}");
            return Err(Failure::again(what));
        }
        let body = Box::new(response.into_body().into_reader());
        Ok(Answer { body, range: Some((first, behind)), total, version })
    }

    /// `Err` if what comes are not the bytes of the file. A name that says of itself that it is
    /// gzip is meant by a server that calls its content so.
    fn plain(&self, response: &Response<Body>) -> Result<(), Failure> {
        let encoding = header(response, &CONTENT_ENCODING).unwrap_or("identity");
        let named = [".gz", ".tgz"].iter().any(|end| self.url.path().ends_with(end));
        match encoding.to_ascii_lowercase().as_str() {
            "identity" | "" => Ok(()),
            "gzip" | "x-gzip" if named => Ok(()),
            other => {
                let what = format!("the server sends it as {}, unasked", other.escape_debug());
                Err(Failure::last(what))
            }
        }
    }

    /// Sends a request, and sends it on to where redirects lead.
    fn follow(&self, start: u64, end: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut url = self.lock().clone().unwrap_or_else(|| self.url.clone());
        let mut moved = false;
        for _ in 0..=REDIRECTS {
            let response = self.send(&url, start, end)?;
            if !response.status().is_redirection() {
                if moved && response.status().is_success() {
                    *self.lock() = Some(url);
                }
                return Ok(response);
            }
            let Some(location) = header(&response, &LOCATION) else {
                let status = response.status();
                return Err(Failure::last(format!("the server says {status}, and not where to")));
            };
            let next = url.join(location).ok();
            let Some(next) = next.filter(|next| matches!(next.scheme(), "http" | "https")) else {
                return Err(Failure::last("the server redirects to what is no URL of a file"));
            };
            if url.scheme() == "https" && next.scheme() == "http" {
                let what = format!("the server redirects from https to {}", shown(&next));
                return Err(Failure::last(what));
            }
            (url, moved) = (next, true);
        }
        Err(Failure::last(format!("more than {REDIRECTS} redirects")))
    }

    fn send(&self, url: &Url, start: u64, end: Option<u64>) -> Result<Response<Body>, Failure> {
        let range = match end {
            Some(end) => format!("bytes={start}-{}", end.saturating_sub(1)),
            None => format!("bytes={start}-"),
        };
        let mut bare = url.clone();
        // A URL with a host can be without a name and password.
        let _ = bare.set_username("").and_then(|()| bare.set_password(None));
        let mut request = self.agent.get(bare.as_str());
        request = request.header(RANGE, range).header(ACCEPT_ENCODING, "identity");
        if let Some(validator) = self.version.validator() {
            request = request.header(IF_RANGE, validator);
        }
        if let Some(words) = credentials(url).or_else(|| self.own_credentials(url)) {
            request = request.header(AUTHORIZATION, words);
        }
        request.call().map_err(Failure::of)
    }

    /// What the caller's URL lets us in with, at the server that it names and at no other.
    fn own_credentials(&self, url: &Url) -> Option<String> {
        (url.origin() == self.url.origin()).then(|| credentials(&self.url)).flatten()
    }

    /// What a status that brings no bytes means.
    fn refused(&self, status: StatusCode, response: &Response<Body>) -> Failure {
        let what = format!("the server says {status}");
        let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        if again {
            let seconds = header(response, &RETRY_AFTER).and_then(|text| text.parse().ok());
            let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
            return Failure::Again { what, wait };
        }
        // Where a redirect led may have been open for a while only.
        if self.lock().take().is_some() {
            return Failure::again(what);
        }
        let kind = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => io::ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Failure::Final(io::Error::new(kind, what))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Url>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attempts in a row.
pub(super) struct Attempts {
    patience: Patience,
    /// Whether the server has been there before.
    known: bool,
    failures: u32,
}

impl Attempts {
    pub(super) fn new(patience: Patience, known: bool) -> Attempts {
        Attempts { patience, known, failures: 0 }
    }

    /// Bytes have come: the count begins anew.
    pub(super) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Waits until the next attempt; `Err` if there is to be none.
    pub(super) fn next(&mut self, failure: Failure) -> io::Result<()> {
        let (what, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Nobody(what) if !self.known => return Err(io::Error::other(what)),
            Failure::Nobody(what) => (what, None),
            Failure::Again { what, wait } => (what, wait),
        };
        self.failures += 1;
        if self.failures >= self.patience.attempts {
            let count = self.failures;
            return Err(io::Error::other(format!("{what}; {count} attempts brought nothing")));
        }
        let wait = wait.unwrap_or_default().max(self.patience.after(self.failures));
        crate::progress::sleep(wait)
    }
}

/// The text of a header, if it is text.
fn header<'a>(response: &'a Response<Body>, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// `bytes 0-99/1000` as 0, 100 and 1000; `*` in place of the last is not known.
fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let behind = last.checked_add(1).filter(|behind| first < *behind)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok().filter(|total| behind <= *total)?),
    };
    Some((first, behind, total))
}

/// The name and password in a URL, as they are sent.
fn credentials(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut words: Vec<u8> = percent_decode_str(url.username()).collect();
    words.push(b':');
    words.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(format!("Basic {}", BASE64_STANDARD.encode(words)))
}

pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // A URL with a host can be without a name and password.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
