//! One file on a server: requests for its bytes, one attempt at a time.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG,
    HeaderName, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use url::Url;

use super::agent::{Failure, Patience, Trust, config, is_passing, wait_asked_for};

/// Redirects that one request follows.
const REDIRECTS: u32 = 10;
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
        let agent = config(patience, &Trust::default()).into();
        let (moved, version) = (Mutex::new(None), Version::default());
        Ok(Line { agent, url, moved, version, patience })
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
        if is_passing(status) {
            return Failure::Again { what, wait: wait_asked_for(response.headers()) };
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
