//! How servers are spoken to: by whom, for how long, and whether once more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The longest that a server may ask us to wait before the next attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whose certificates are taken.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// Those that these vouch for, in place of those that the system's vouch for.
    pub(crate) roots: Option<Arc<Vec<Certificate<'static>>>>,
    /// Any.
    pub(crate) anybody: bool,
}

/// What an agent is told. Redirects and statuses are left to the caller.
pub(crate) fn config(patience: Patience, trust: &Trust) -> Config {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = trust.roots.clone().map_or(RootCerts::PlatformVerifier, RootCerts::Specific);
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .disable_verification(trust.anybody)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
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
        .timeout_per_write(Some(patience.read))
        .build()
}

/// How long we wait, and how often we try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For the next bytes.
    pub(crate) read: Duration,
    /// Before the second attempt; twice as long before each that follows.
    pub(crate) pause: Duration,
    /// Attempts in a row that bring no byte.
    pub(crate) attempts: u32,
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
pub(crate) enum Failure {
    /// Another attempt may bring more; the server may have said when.
    Again { what: String, wait: Option<Duration> },
    /// Nobody answers: who never did is not called again.
    Nobody(String),
    /// It will not.
    Final(io::Error),
}

impl Failure {
    pub(crate) fn again(what: impl Into<String>) -> Failure {
        Failure::Again { what: what.into(), wait: None }
    }

    pub(crate) fn last(what: impl Into<String>) -> Failure {
        Failure::Final(io::Error::other(what.into()))
    }

    pub(crate) fn changed() -> Failure {
        Failure::last("it changed while it was read")
    }

    /// What went wrong on the line, or while a body came in.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is open, and most are told alike")]
    pub(crate) fn of(error: ureq::Error) -> Failure {
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

    pub(crate) fn of_body(error: io::Error) -> Failure {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(ureq::Error::Timeout(_)) => Failure::again("nothing came for too long"),
            Some(ureq::Error::Io(inner)) => Failure::again(inner.to_string()),
            // What the other side's certificate lacks, it lacks next time too.
            Some(ureq::Error::Rustls(inner)) => Failure::last(inner.to_string()),
            _ if error.kind() == io::ErrorKind::ConnectionRefused || is_of_name(&error) => {
                Failure::Nobody(error.to_string())
            }
            _ if error.kind() == io::ErrorKind::InvalidData => Failure::Final(error),
            _ => Failure::again(error.to_string()),
        }
    }
}

/// Whether it is that nobody knows a host of this name, for which there is no kind of its own.
fn is_of_name(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

/// Attempts in a row.
pub(crate) struct Attempts {
    patience: Patience,
    /// Whether the server has been there before.
    known: bool,
    failures: u32,
}

impl Attempts {
    pub(crate) fn new(patience: Patience, known: bool) -> Attempts {
        Attempts { patience, known, failures: 0 }
    }

    /// Bytes have come: the count begins anew.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Waits until the next attempt; `Err` if there is to be none.
    pub(crate) fn next(&mut self, failure: Failure) -> io::Result<()> {
        let wait = self.wait(failure)?;
        crate::progress::sleep(wait)
    }

    /// How long to wait until the next attempt; `Err` if there is to be none.
    pub(crate) fn wait(&mut self, failure: Failure) -> io::Result<Duration> {
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
        Ok(wait.unwrap_or_default().max(self.patience.after(self.failures)))
    }
}

/// Whether a server that says so may say something else next time.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

/// How long a server asks us to wait.
pub(crate) fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().ok()?).min(LONGEST_WAIT))
}
