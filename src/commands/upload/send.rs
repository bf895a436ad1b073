//! From a record to an image: sent until the service has it, compared, and taken back otherwise.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use formats::{Algorithm, Digest, Error, Format, Kind, Limits, Result, Watch};
use serde_json::{Map, Value, json};
use ureq::http::StatusCode;
use uuid::Uuid;

use super::load::Cargo;
use crate::client::{Client, Expected, Image, Reply, Sent};
use crate::remote::{Attempts, Failure, is_passing};
use crate::report::{escape, note};

/// How often a record is looked at that should say something else by now.
const LOOKS: u32 = 6;

/// How an image gets into the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Way {
    /// It is sent as the image
    #[default]
    Put,
    /// It is sent to a place where the service imports it from
    Stage,
    /// The service fetches it
    WebDownload,
}

/// An image to be.
pub(super) struct Order<'a> {
    pub(super) client: &'a Client,
    pub(super) record: Map<String, Value>,
    /// Whether the user chose the id.
    pub(super) chosen: bool,
    pub(super) format: &'static Format,
    pub(super) disk_size: Option<u64>,
    pub(super) method: Way,
    pub(super) stores: &'a [String],
    pub(super) wait: Duration,
    /// GiB that the user wants at least.
    pub(super) min_disk: u64,
    pub(super) protected: bool,
    pub(super) limits: Limits,
    /// What the image is called that is read.
    pub(super) input: PathBuf,
}

/// What came of one attempt to send.
enum Came {
    /// The service has taken all of it.
    Taken(Sent),
    /// The line broke, or the service is not ready; what was sent, if all of it was.
    Lost(Failure, Option<Sent>),
}

/// What the image has to be in the end.
struct Wanted<'a> {
    len: u64,
    digests: &'a [Digest],
    disk_size: Option<u64>,
}

impl Order<'_> {
    /// Sends it. Whatever fails, no record stays behind.
    pub(super) fn sent(mut self, mut cargo: Cargo, watch: &dyn Watch) -> Result<Image> {
        let name = self.client.name();
        let mut id = self.created().map_err(|error| error.path(&name))?;
        let done = self.fill(&mut id, &mut cargo, watch);
        done.map_err(|error| self.take_away(&id, error).path(&name))
    }

    /// Has the service fetch it, `len` bytes.
    pub(super) fn fetched_by_service(mut self, uri: &str, len: u64) -> Result<Image> {
        let name = self.client.name();
        let id = self.created().map_err(|error| error.path(&name))?;
        let method = json!({"name": "web-download", "uri": uri});
        let done = self.client.import(&id, &method, self.stores).and_then(|()| {
            let image = self.active(&id)?;
            let wanted = Wanted { len, digests: &[], disk_size: self.disk_size };
            self.compare(&image, &wanted)?;
            note("diskwright: the service fetched it: its size was compared, and not its bytes");
            self.finish(image, self.disk_size)
        });
        done.map_err(|error| self.take_away(&id, error).path(&name))
    }

    /// A new record's id.
    fn created(&mut self) -> Result<String> {
        let id = self.record["id"].as_str().unwrap_or_default();
        // An id that is taken is somebody's image, now or once: it is not to be taken away.
        if self.chosen && self.client.show(id)?.is_some() {
            return Err(Error::invalid(format!("there is an image {id} already")));
        }
        Ok(self.client.create(&self.record)?.id().to_string())
    }

    fn fill(&mut self, id: &mut String, cargo: &mut Cargo, watch: &dyn Watch) -> Result<Image> {
        let mut attempts = Attempts::new(self.client.patience(), true);
        let sent = loop {
            let (failure, sent) = match self.attempt(id, cargo, watch)? {
                Came::Taken(sent) => break sent,
                Came::Lost(failure, sent) => (failure, sent),
            };
            let there = self.settled(id)?;
            if let (Some(sent), Some(image)) = (sent, &there)
                && image.status() == "active"
            {
                // The answer was lost, and not the image.
                break sent;
            }
            if !cargo.is_repeatable() {
                let once = "; what goes by cannot be sent again";
                return Err(told(failure, once));
            }
            let wait = attempts.wait(failure).map_err(|error| Error::io("not sent", error))?;
            crate::progress::sleep(wait).map_err(|_| Error::cancelled())?;
            self.renew(id, there)?;
        };
        if self.method == Way::Stage {
            self.client.import(id, &json!({"name": "glance-direct"}), self.stores)?;
        }
        let image = self.active(id)?;
        let disk_size = Some(sent.facts.disk_size);
        self.compare(&image, &Wanted { len: sent.len, digests: &sent.digests, disk_size })?;
        self.finish(image, disk_size)
    }

    /// Sends all of it once.
    fn attempt(&self, id: &str, cargo: &mut Cargo, watch: &dyn Watch) -> Result<Came> {
        let (format, disk_size, limits) = (self.format, self.disk_size, self.limits.clone());
        let expected = Expected { format, disk_size, limits };
        let staged = self.method == Way::Stage;
        let store = self.stores.first().filter(|_| !staged).map(String::as_str);
        let (sending, put) = self.client.send(id, staged, store, expected);
        let written = cargo.write(sending.clone(), watch).and_then(|()| sending.finish());
        let written = written.map_err(|error| error.path(&self.input));
        let (sent, answer) = match written {
            Ok(sent) => (Some(sent), put.wait()?),
            Err(error) => {
                let gone = sending.is_gone();
                sending.give_up();
                match put.failure(gone) {
                    Some(answer) => (None, answer),
                    None => return Err(error),
                }
            }
        };
        let reply = match answer {
            Ok(reply) => reply,
            Err(Failure::Final(error)) => return Err(Error::io("cannot send it", error)),
            Err(failure) => return Ok(Came::Lost(failure, sent)),
        };
        match (reply.status, sent) {
            (status, Some(sent)) if status.is_success() => Ok(Came::Taken(sent)),
            (status, None) if status.is_success() => {
                Ok(Came::Lost(Failure::again("the service took less than all"), None))
            }
            (StatusCode::UNAUTHORIZED, sent) if self.client.renews()? => {
                Ok(Came::Lost(again(&reply), sent))
            }
            (status, sent) if is_passing(status) || status == StatusCode::CONFLICT => {
                Ok(Came::Lost(again(&reply), sent))
            }
            _ => Err(reply.failure()),
        }
    }

    /// The record, when the service has seen that the line broke.
    fn settled(&self, id: &str) -> Result<Option<Image>> {
        for look in 0.. {
            let image = self.client.show(id)?;
            let busy = image.as_ref().is_some_and(|image| image.status() == "saving");
            if !busy || look == LOOKS {
                return Ok(image);
            }
            self.client.between_looks(look)?;
        }
        Ok(None)
    }

    /// A record that can be filled: the one that is there if nothing is in it, else another. What
    /// was staged for it does not show.
    fn renew(&mut self, id: &mut String, there: Option<Image>) -> Result<()> {
        let clean = self.method == Way::Put || self.chosen;
        match there {
            Some(image) if clean && image.status() == "queued" && image.is_blank() => {
                return Ok(());
            }
            Some(_) => self.client.delete(id)?,
            None => {}
        }
        if self.chosen {
            let what = format!("the line broke, and the service does not give the id {id} again");
            return Err(Error::new(Kind::Io, what));
        }
        self.record["id"] = json!(Uuid::new_v4().hyphenated().to_string());
        *id = self.client.create(&self.record)?.id().to_string();
        Ok(())
    }

    /// The image, when it can be used.
    fn active(&self, id: &str) -> Result<Image> {
        let imports = self.method != Way::Put;
        let late = Instant::now() + self.wait;
        for look in 0.. {
            let gone = || Error::new(Kind::Io, "the service has no record of it any more");
            let image = self.client.show(id)?.ok_or_else(gone)?;
            let status = image.status();
            match status {
                // Usable, and not in all of its stores yet.
                "active" if image.is_on_its_way() => {}
                "active" => return Ok(image),
                "queued" | "uploading" | "importing" | "saving" => {}
                _ => {
                    let what = format!("the service calls it {}", escape(status));
                    return Err(Error::new(Kind::Io, what));
                }
            }
            if imports && let Some(why) = self.client.import_failure(&image)? {
                return Err(Error::refused(format!("the service did not import it: {why}")));
            }
            if !imports && status == "queued" && look > LOOKS {
                return Err(Error::new(Kind::Io, "the service took it, and has nothing of it"));
            }
            if Instant::now() > late {
                let seconds = self.wait.as_secs_f64();
                let what = format!("it is still {status} after {seconds} seconds");
                return Err(Error::new(Kind::Io, what));
            }
            self.client.between_looks(look)?;
        }
        Err(Error::new(Kind::Io, "it was looked at too often"))
    }

    /// Whether what the service has is what it was given.
    fn compare(&self, image: &Image, wanted: &Wanted) -> Result<()> {
        let differs = |what: &str, is: String, was: String| {
            let text = format!("the service says that its {what} is {is}, and it is {was}");
            Err(Error::new(Kind::Io, text))
        };
        if let Some(size) = wanted.disk_size
            && let Some(is) = image.number("virtual_size").filter(|is| *is != size && *is != 0)
        {
            return differs("virtual size", is.to_string(), size.to_string());
        }
        let format = self.record["disk_format"].as_str();
        if self.method != Way::Put && image.text("disk_format") != format {
            let is = escape(image.text("disk_format").unwrap_or("nothing"));
            note(&format!("diskwright: the service made it {is}: its bytes are not compared"));
            return Ok(());
        }
        if image.number("size") != Some(wanted.len) {
            let is = image.number("size").map_or("unknown".into(), |size| size.to_string());
            return differs("size", is, wanted.len.to_string());
        }
        if let Some(checksum) = image.text("checksum")
            && Digest::parse(Algorithm::Md5, checksum).is_none()
        {
            return differs("checksum", escape(checksum), "an MD5".into());
        }
        for is in image.digests() {
            let ours = wanted.digests.iter().find(|digest| digest.algorithm == is.algorithm);
            if let Some(ours) = ours.filter(|ours| **ours != is) {
                let what = format!("{} digest", is.algorithm.name());
                return differs(&what, is.hex(), ours.hex());
            }
        }
        Ok(())
    }

    /// What can only be said of an image that is there.
    fn finish(&self, image: Image, disk_size: Option<u64>) -> Result<Image> {
        let mut changes = Vec::new();
        let smallest = disk_size.map_or(0, metadata::min_disk).max(self.min_disk);
        if self.record["min_disk"] != json!(smallest) {
            changes.push(("min_disk", json!(smallest)));
        }
        if self.protected {
            changes.push(("protected", json!(true)));
        }
        match changes.is_empty() {
            true => Ok(image),
            false => self.client.change(image.id(), &changes),
        }
    }

    /// Deletes what is there of it; says so if that cannot be done.
    fn take_away(&self, id: &str, error: Error) -> Error {
        if let Err(why) = self.client.delete(id) {
            let why = escape(&why.to_string());
            note(&format!("diskwright: its record remains, and is to be deleted: {id} ({why})"));
        }
        error
    }
}

fn again(reply: &Reply) -> Failure {
    Failure::Again { what: reply.said(), wait: reply.wait() }
}

/// A failure of the line, and what it means.
fn told(failure: Failure, meaning: &str) -> Error {
    match failure {
        Failure::Again { what, .. } | Failure::Nobody(what) => {
            Error::new(Kind::Io, format!("{what}{meaning}"))
        }
        Failure::Final(error) => Error::io("cannot send it", error),
    }
}
