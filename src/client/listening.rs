//! A line that hears an answer while it still speaks.
//!
//! A service may refuse a body before all of it has come: it answers, and hangs up. The next write
//! then fails, and the answer with its reason lies in the line, unread. Here a write that fails
//! ends the body, and what was answered is read as usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Makes such lines of those that the connectors in front of it make.
#[derive(Debug, Default)]
pub(super) struct Listening {
    hung_up: Arc<AtomicBool>,
}

impl Listening {
    /// Whether a line of this connector is closed to what we say: a body that sees this ends.
    pub(super) fn hung_up(&self) -> Arc<AtomicBool> {
        self.hung_up.clone()
    }
}

impl<In: Transport> Connector<In> for Listening {
    type Out = Line<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Line<In>>, Error> {
        let line = |inner| Line { inner, failure: None, hung_up: self.hung_up.clone() };
        Ok(chained.map(line))
    }
}

/// A line that can be closed in one direction.
#[derive(Debug)]
pub(super) struct Line<T> {
    inner: T,
    /// Why nothing goes out any more.
    failure: Option<Error>,
    hung_up: Arc<AtomicBool>,
}

impl<T: Transport> Transport for Line<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.failure.is_none()
            && let Err(error) = self.inner.transmit_output(amount, timeout)
        {
            self.failure = Some(error);
            self.hung_up.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.inner.await_input(timeout);
        match (&came, self.failure.take()) {
            (Ok(true), failure) => {
                self.failure = failure;
                came
            }
            // Nothing was answered: then what failed first is what is wrong.
            (Ok(false) | Err(_), Some(failure)) => Err(failure),
            (Ok(false) | Err(_), None) => came,
        }
    }

    fn is_open(&mut self) -> bool {
        self.failure.is_none() && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
