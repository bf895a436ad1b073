//! A body on its way to the service, while somebody else makes its bytes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use formats::{Error, Result};
use ureq::http::header::CONTENT_TYPE;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, SendBody};

use super::body::{self, Expected, Sending};
use super::images::STORE;
use super::listening::Listening;
use super::{Client, Reply, TOKEN};
use crate::progress::is_stopped;
use crate::remote::{Failure, config};

/// How often whoever waits looks whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long a line that was told to end may take to do so.
const FAREWELL: Duration = Duration::from_secs(2);
/// How much longer than for other answers the service may take for one to an image: it may have to
/// bring all of it to its storage first.
const DIGESTION: u32 = 10;

/// A request that is sent on a thread of its own.
pub(crate) struct Put {
    answer: Receiver<Result<Reply, Failure>>,
    agent: Agent,
}

impl Client {
    /// Begins to send the bytes of an image, to be its `file` or to be staged.
    pub(crate) fn send(
        &self,
        id: &str,
        staged: bool,
        store: Option<&str>,
        expected: Expected,
    ) -> (Sending, Put) {
        let connector = Listening::default();
        let hung_up = connector.hung_up();
        let (sending, mut body) = body::way(expected, hung_up);
        let patience = self.patience();
        let config = config(patience, self.trust());
        // Of its own for this request: nothing that is left in the line can get into another.
        let connector = DefaultConnector::default().chain(connector);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        let url = self.url(&["images", id, if staged { "stage" } else { "file" }]);
        let mut request = agent.put(url.as_str()).header(CONTENT_TYPE, "application/octet-stream");
        if let Some(token) = &*self.token() {
            request = request.header(TOKEN, token);
        }
        if let Some(store) = store {
            request = request.header(STORE, store);
        }
        let request = request
            .config()
            .timeout_recv_response(Some(patience.read.saturating_mul(DIGESTION)))
            .timeout_per_read(Some(patience.read.saturating_mul(DIGESTION)))
            .build();
        let (tell, answer) = channel();
        std::thread::spawn(move || {
            let response = request.send(SendBody::from_reader(&mut body));
            // The body is gone before the answer is there: whoever writes is told at once.
            drop(body);
            let _ = tell.send(response.map_err(Failure::of).and_then(Reply::read));
        });
        (sending, Put { answer, agent })
    }
}

impl Put {
    /// The answer. `Cancelled` if a signal says stop before it comes.
    pub(crate) fn wait(self) -> Result<Result<Reply, Failure>> {
        loop {
            match self.answer.recv_timeout(TICK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Failure::again("the request was given up")));
                }
                Err(RecvTimeoutError::Timeout) if is_stopped() => {
                    self.end();
                    return Err(Error::cancelled());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Breaks the line, and waits until it is broken.
    pub(crate) fn end(self) {
        self.agent.shutdown();
        let _ = self.answer.recv_timeout(FAREWELL);
    }

    /// What went wrong on the line, if that is what went wrong; the line is broken otherwise.
    pub(crate) fn failure(self, gone: bool) -> Option<Result<Reply, Failure>> {
        if gone {
            return self.wait().ok();
        }
        self.end();
        None
    }
}
