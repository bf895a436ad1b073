//! An image service, as a client sees it: the Images API of OpenStack, version 2, with tokens of
//! Keystone.
//!
//! ```text
//!   flags, clouds.yaml, OS_* ─▶ Login ─▶ Service ─▶ identity ─▶ token, endpoint ─┐
//!   who makes the bytes ─▶ Sending ─▶ parts ─▶ Body ─▶ PUT ─▶ Client ◀───────────┘ ─▶ service
//!                             └▶ digests, inspection
//! ```
//!
//! What a service says is as hostile as an image: answers are bounded, and redirects not followed.

mod body;
mod clouds;
mod credentials;
mod digester;
mod fault;
mod fetch;
mod identity;
mod images;
mod listening;
mod sending;

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use formats::{Error, Kind, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{CONTENT_TYPE, HeaderName};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use ureq::{Body as Incoming, SendBody};
use url::Url;

use crate::progress::is_stopped;
use crate::remote::{Attempts, Failure, Patience, Trust, config, is_passing, wait_asked_for};

pub(crate) use body::{Expected, Sending, Sent, safe};
pub(crate) use credentials::{Login, Service, seconds};
pub(crate) use images::{Image, Visibility};

/// The most bytes of an answer that is no image.
const ANSWER: u64 = 1 << 20;
/// JSON, as a type of content.
const JSON: &str = "application/json";
/// The header that holds a token.
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// A line to an image service.
pub(crate) struct Client {
    agent: Agent,
    service: Service,
    /// Where the API begins, with `v2/` at its end.
    root: Url,
    token: Mutex<Option<HeaderValue>>,
}

/// One request.
pub(crate) struct Ask<'a> {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, &'a str)>,
    body: Option<(&'a str, Vec<u8>)>,
    /// Whether a conflict may pass by itself.
    conflicts_pass: bool,
}

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Client {
    /// Lets itself in. `Refused` with wrong credentials.
    pub(crate) fn connect(service: Service) -> Result<Client> {
        let agent: Agent = config(service.patience, &service.trust).into();
        let (token, endpoint) = identity::enter(&agent, &service)?;
        let root = root(&endpoint)?;
        Ok(Client { agent, service, root, token: Mutex::new(token) })
    }

    /// How the service is called, to be shown.
    pub(crate) fn name(&self) -> String {
        self.root.as_str().trim_end_matches("/v2/").to_string()
    }

    /// How patient its user is.
    pub(crate) fn patience(&self) -> Patience {
        self.service.patience
    }

    /// Whose certificates are taken.
    pub(crate) fn trust(&self) -> &Trust {
        &self.service.trust
    }

    fn token(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another token in place of one that is no longer taken.
    fn renew(&self) -> Result<()> {
        let (token, _) = identity::enter(&self.agent, &self.service)?;
        *self.token() = token;
        Ok(())
    }

    /// Gets another token, if there are any to be had.
    pub(crate) fn renews(&self) -> Result<bool> {
        let can = self.service.login.can_renew();
        if can {
            self.renew()?;
        }
        Ok(can)
    }

    /// Where something of the API lies: the parts of its path may hold any characters.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn ask(&self, method: Method, path: &[&str]) -> Ask<'_> {
        let url = self.url(path);
        Ask { method, url, headers: Vec::new(), body: None, conflicts_pass: false }
    }

    /// Asks until there is an answer that stays.
    fn call(&self, ask: &Ask) -> Result<Reply> {
        self.until(ask, &mut |wait| crate::progress::sleep(wait).is_ok())
    }

    /// The same, and nothing stops it but that it fails: to clean up with.
    fn call_stubbornly(&self, ask: &Ask) -> Result<Reply> {
        self.until(ask, &mut |wait| {
            std::thread::sleep(wait);
            true
        })
    }

    /// `pause` waits, and says whether to go on.
    fn until(&self, ask: &Ask, pause: &mut dyn FnMut(Duration) -> bool) -> Result<Reply> {
        let mut attempts = Attempts::new(self.patience(), false);
        let mut renewed = false;
        loop {
            let failure = match self.once(ask) {
                Ok(reply) if reply.status == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    if self.service.login.can_renew() {
                        self.renew()?;
                        continue;
                    }
                    return Ok(reply);
                }
                Ok(reply) => match reply.passing(ask.conflicts_pass) {
                    Some(failure) => failure,
                    None => return Ok(reply),
                },
                Err(failure) => failure,
            };
            match attempts.wait(failure) {
                Ok(wait) if pause(wait) => {}
                Ok(_) => return Err(Error::cancelled()),
                Err(error) => {
                    return Err(
                        Error::io("no answer from the image service", error).path(self.name())
                    );
                }
            }
        }
    }

    /// One attempt.
    fn once(&self, ask: &Ask) -> Result<Reply, Failure> {
        let request = self.request(ask)?;
        let (head, body) = match &ask.body {
            Some((_, body)) => (request, body.as_slice()),
            None => (request, &[][..]),
        };
        let response = match body {
            [] => self.agent.run(head.map(|()| SendBody::none())),
            body => self.agent.run(head.map(|()| body)),
        };
        Reply::read(response.map_err(Failure::of)?)
    }

    fn request(&self, ask: &Ask) -> Result<Request<()>, Failure> {
        let mut request = Request::builder().method(ask.method.clone()).uri(ask.url.as_str());
        if let Some(token) = &*self.token() {
            request = request.header(TOKEN, token);
        }
        if let Some((kind, _)) = &ask.body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        for (name, value) in &ask.headers {
            request = request.header(name, *value);
        }
        request.body(()).map_err(|error| Failure::last(error.to_string()))
    }
}

impl Ask<'_> {
    /// With this as its body.
    fn json(mut self, value: &Value) -> Self {
        self.body = Some((JSON, value.to_string().into_bytes()));
        self
    }
}

impl Reply {
    /// All of an answer that is no image.
    fn read(response: Response<Incoming>) -> Result<Reply, Failure> {
        let (head, body) = response.into_parts();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(ANSWER + 1).read_to_end(&mut bytes);
        // Of a refusal its status is enough: who refuses in the middle of a body hangs up soon.
        if head.status.is_success() {
            read.map_err(Failure::of_body)?;
        }
        if bytes.len() as u64 > ANSWER {
            return Err(Failure::last(format!(
                "the service answers with more than {ANSWER} bytes"
            )));
        }
        Ok(Reply { status: head.status, headers: head.headers, body: bytes })
    }

    /// Why it may be worth to ask again, if it may.
    fn passing(&self, conflicts_pass: bool) -> Option<Failure> {
        let passing =
            is_passing(self.status) || conflicts_pass && self.status == StatusCode::CONFLICT;
        passing.then(|| Failure::Again { what: self.said(), wait: self.wait() })
    }

    /// How long the service asks us to wait.
    pub(crate) fn wait(&self) -> Option<Duration> {
        wait_asked_for(&self.headers)
    }

    /// What the service says, in a sentence.
    pub(crate) fn said(&self) -> String {
        let (status, reason) = (self.status, fault::reason(&self.body));
        match reason.is_empty() {
            true => format!("the service says {status}"),
            false => format!("the service says {status}: {reason}"),
        }
    }

    /// This reply, if it is a success.
    pub(crate) fn success(self) -> Result<Reply> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(self.failure()),
        }
    }

    /// What a refusal means to us.
    pub(crate) fn failure(&self) -> Error {
        let kind = match self.status.as_u16() {
            404 | 405 | 409 | 410 => Kind::Invalid,
            413 => Kind::Limit,
            400 | 401 | 403 | 415 | 422 => Kind::Refused,
            _ => Kind::Io,
        };
        let mut what = self.said();
        if self.status.is_redirection() {
            let to = self.headers.get("location").and_then(|to| to.to_str().ok());
            what =
                format!("{what}, and sends us to {}; it is no endpoint", to.unwrap_or("nowhere"));
        }
        Error::new(kind, what)
    }

    /// What it holds.
    pub(crate) fn value(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(Kind::Io, format!("the service's answer is no JSON: {error}"))
        })
    }
}

/// Where the API of version 2 begins at an endpoint, which may or may not say so.
fn root(endpoint: &str) -> Result<Url> {
    let bare = endpoint.trim_end_matches('/');
    let bare = bare.strip_suffix("/v2").unwrap_or(bare);
    let url = Url::parse(&format!("{bare}/v2/")).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| Error::invalid(format!("the endpoint '{endpoint}' is no URL of a service")))
}

/// An error of the line, as one of ours.
fn lost(what: &'static str, error: std::io::Error) -> Error {
    match is_stopped() {
        true => Error::cancelled(),
        false => Error::io(what, error),
    }
}
