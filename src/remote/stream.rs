//! A file on a server, from its front to its end.

use std::io::{self, Read};

use super::agent::{Attempts, Failure};
use super::line::Line;

/// The bytes as they come. A line that breaks is taken up again where the server gives ranges
/// after all, and is an error where it does not.
pub(super) struct Forward {
    line: Line,
    /// What the server sends; `None` once the line broke.
    body: Option<Box<dyn Read + Send>>,
    at: u64,
    len: Option<u64>,
    attempts: Attempts,
}

impl Forward {
    /// All of a file of this length, if that is known, of which `body` brings the first bytes.
    pub(super) fn new(line: Line, len: Option<u64>, body: Box<dyn Read + Send>) -> Forward {
        let attempts = Attempts::new(line.patience, true);
        Forward { line, body: Some(body), at: 0, len, attempts }
    }

    /// A body that begins where the last one broke.
    fn again(&self) -> Result<Box<dyn Read + Send>, Failure> {
        let answer = self.line.ask(self.at, None)?;
        if answer.total.zip(self.len).is_some_and(|(is, was)| is != was) {
            return Err(Failure::changed());
        }
        match answer.range {
            Some(_) => Ok(answer.body),
            None if self.at == 0 => Ok(answer.body),
            None => {
                let at = self.at;
                let what = format!("the line broke at byte {at}, and the server gives no ranges");
                Err(Failure::last(what))
            }
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.again()?,
        };
        let count = body.read(buf).map_err(Failure::of_body)?;
        if count == 0 && self.len.is_some_and(|len| self.at < len) {
            return Err(Failure::again("the line broke"));
        }
        self.at += count as u64;
        self.body = Some(body);
        Ok(count)
    }
}

impl Read for Forward {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.len == Some(self.at) {
            return Ok(0);
        }
        loop {
            match self.next(buf) {
                Ok(count) => {
                    self.attempts.progress();
                    return Ok(count);
                }
                Err(failure) => self.attempts.next(failure)?,
            }
        }
    }
}
