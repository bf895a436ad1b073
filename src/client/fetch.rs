//! The bytes of an image as they come from the service: taken up again where the line broke, and
//! digested on the way. They end well only if they are those that the record promises.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use formats::{Algorithm, Digest, Error, Kind, Result};
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Method, StatusCode};

use super::digester::Digester;
use super::{Client, Image, Reply, TOKEN};
use crate::remote::{Attempts, Failure, is_passing, wait_asked_for};

/// Bytes that are taken in at a time.
const PART: usize = 1 << 20;

/// An image that comes in.
pub(crate) struct Fetched {
    client: Arc<Client>,
    id: String,
    body: Option<Box<dyn Read + Send>>,
    attempts: Attempts,
    /// Whether the token was renewed since bytes came last.
    renewed: bool,
    /// What is read next.
    part: Arc<Vec<u8>>,
    at: usize,
    /// How many bytes have come, and how many there are to be.
    came: u64,
    len: Option<u64>,
    digester: Option<Digester>,
    promised: Vec<Digest>,
    whole: Arc<AtomicBool>,
}

impl Client {
    /// The bytes of an image. Nothing is asked for until they are read.
    pub(crate) fn fetch(self: &Arc<Self>, image: &Image) -> Fetched {
        let promised = image.digests();
        let algorithms: Vec<Algorithm> = promised.iter().map(|digest| digest.algorithm).collect();
        Fetched {
            client: self.clone(),
            id: image.id().to_string(),
            body: None,
            attempts: Attempts::new(self.patience(), true),
            renewed: false,
            part: Arc::default(),
            at: 0,
            came: 0,
            len: image.number("size"),
            digester: Some(Digester::new(&algorithms)),
            promised,
            whole: Arc::default(),
        }
    }
}

impl Fetched {
    /// Becomes true when all of it has come and is what was promised.
    pub(crate) fn whole(&self) -> Arc<AtomicBool> {
        self.whole.clone()
    }

    /// A request for what is still to come.
    fn request(&mut self) -> Result<Box<dyn Read + Send>, Failure> {
        let ask = self.client.ask(Method::GET, &["images", &self.id, "file"]);
        let mut request = self.client.agent.get(ask.url.as_str());
        if let Some(token) = &*self.client.token() {
            request = request.header(TOKEN, token);
        }
        if self.came > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.came));
        }
        let response = request.call().map_err(Failure::of)?;
        let (status, wait) = (response.status(), wait_asked_for(response.headers()));
        let range = response.headers().get(CONTENT_RANGE).cloned();
        let refusal = |response, again| match (Reply::read(response), again) {
            (Ok(reply), true) => Failure::Again { what: reply.said(), wait },
            (Ok(reply), false) => Failure::Final(io::Error::other(reply.failure())),
            (Err(failure), _) => failure,
        };
        match status {
            StatusCode::OK => {
                let mut body = response.into_body().into_reader();
                // It gives no ranges: what we have comes once more.
                let mut past = (&mut body).take(self.came);
                let skipped = io::copy(&mut past, &mut io::sink()).map_err(Failure::of_body)?;
                match skipped == self.came {
                    true => Ok(Box::new(body)),
                    false => Err(Failure::again("the line broke")),
                }
            }
            StatusCode::PARTIAL_CONTENT => {
                let from = format!("bytes {}-", self.came);
                match range.as_ref().and_then(|range| range.to_str().ok()) {
                    Some(range) if range.starts_with(&from) => {
                        Ok(Box::new(response.into_body().into_reader()))
                    }
                    _ => Err(Failure::again("the service sent another range than asked for")),
                }
            }
            StatusCode::NO_CONTENT => {
                let what = "the service has a record of the image, and no bytes";
                Err(Failure::Final(io::Error::other(Error::invalid(what))))
            }
            StatusCode::UNAUTHORIZED if !self.renewed && self.client.service.login.can_renew() => {
                self.renewed = true;
                let renewed = self.client.renew();
                renewed.map_err(|error| Failure::Final(io::Error::other(error)))?;
                self.request()
            }
            status => Err(refusal(response, is_passing(status))),
        }
    }

    /// Fills a part with what comes next, as far as this line leads.
    fn fill(&mut self, part: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.request()?,
        };
        let left = self.len.map_or(u64::MAX, |len| len.saturating_sub(self.came));
        let room = (PART - part.len()) as u64;
        let before = part.len();
        // One byte more than there is to be shows that there are too many.
        let read = (&mut body).take(room.min(left.saturating_add(1))).read_to_end(part);
        let got = (part.len() - before) as u64;
        self.came += got;
        if got > 0 {
            self.attempts.progress();
            self.renewed = false;
        }
        read.map_err(Failure::of_body)?;
        if self.len.is_some_and(|len| self.came > len) {
            let what =
                format!("the service sends more than the {} bytes it says", self.came - got + left);
            return Err(Failure::Final(io::Error::other(Error::new(Kind::Malformed, what))));
        }
        let ended = got < room;
        if ended && self.len.is_some_and(|len| self.came < len) {
            return Err(Failure::again("the line broke"));
        }
        self.body = Some(body);
        Ok(ended)
    }

    fn next(&mut self) -> io::Result<()> {
        let mut part = Vec::with_capacity(PART);
        let ended = loop {
            match self.fill(&mut part) {
                Ok(ended) => break ended,
                Err(failure) => self.attempts.next(failure)?,
            }
        };
        self.part = Arc::new(part);
        self.at = 0;
        if let Some(digester) = &self.digester {
            digester.push(&self.part)?;
        }
        if ended {
            self.judge().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Whether what came is what was promised.
    fn judge(&mut self) -> Result<()> {
        let Some(digester) = self.digester.take() else { return Ok(()) };
        for (is, wanted) in digester.finish().iter().zip(&self.promised) {
            if is != wanted {
                let (how, is, wanted) = (is.algorithm.name(), is.hex(), wanted.hex());
                let what = format!("its {how} digest is {is}, and the service says {wanted}");
                return Err(Error::new(Kind::Malformed, what));
            }
        }
        self.whole.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Read for Fetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.part.len() && self.digester.is_some() {
            self.next()?;
        }
        let len = out.len().min(self.part.len() - self.at);
        out[..len].copy_from_slice(&self.part[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
