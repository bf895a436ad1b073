//! Records of images: to make, ask for, change and take away.

use std::time::Duration;

use formats::{Algorithm, Digest, Error, Kind, Result};
use serde_json::{Map, Value, json};
use ureq::http::header::HeaderName;
use ureq::http::{Method, StatusCode};
use uuid::Uuid;

use super::Client;

/// The type of a change.
const PATCH: &str = "application/openstack-images-v2.1-json-patch";
/// Records that are asked for at once.
const PAGE: u64 = 50;
/// Stores into which an image goes.
pub(super) const STORE: HeaderName = HeaderName::from_static("x-image-meta-store");

/// Who sees an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Visibility {
    Public,
    Private,
    Shared,
    Community,
}

/// A record, as the service shows it.
pub(crate) struct Image(pub(crate) Value);

impl Image {
    /// A value that is text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0[key].as_str()
    }

    /// A value that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }

    /// By which it is asked for.
    pub(crate) fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// What becomes of it.
    pub(crate) fn status(&self) -> &str {
        self.text("status").unwrap_or("nothing")
    }

    /// What its bytes digest to, as far as the service says and we can tell.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let md5 = self.text("checksum").and_then(|hex| Digest::parse(Algorithm::Md5, hex));
        let algorithm = self.text("os_hash_algo").and_then(Algorithm::named);
        let other = algorithm.zip(self.text("os_hash_value"));
        let other = other.and_then(|(algorithm, hex)| Digest::parse(algorithm, hex));
        md5.into_iter().chain(other).collect()
    }

    /// Whether stores are still waited for.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.text("os_glance_importing_to_stores").is_some_and(|stores| !stores.is_empty())
    }

    /// Whether anything of an image was ever kept for it.
    pub(crate) fn is_blank(&self) -> bool {
        ["size", "checksum", "os_hash_value"].iter().all(|key| self.0[key].is_null())
    }
}

impl Client {
    /// A new record. An id is in it: by that an attempt which was heard, though its answer was
    /// not, is known again.
    pub(crate) fn create(&self, record: &Map<String, Value>) -> Result<Image> {
        let id = record["id"].as_str().unwrap_or_default();
        let ask = self.ask(Method::POST, &["images"]).json(&Value::Object(record.clone()));
        let reply = self.call(&ask).map_err(|error| self.perhaps_made(id, error))?;
        if reply.status == StatusCode::CONFLICT
            && let Ok(Some(there)) = self.show(id)
            && there.status() == "queued"
            && there.text("name") == record["name"].as_str()
        {
            return Ok(there);
        }
        let image = Image(reply.success()?.value()?);
        match Uuid::parse_str(image.id()) {
            Ok(_) if image.status() == "queued" => Ok(image),
            _ => Err(Error::new(Kind::Io, "the service's answer to a new record is none")),
        }
    }

    /// Nobody knows whether a record was made: it is taken away.
    fn perhaps_made(&self, id: &str, error: Error) -> Error {
        match self.delete(id) {
            Ok(()) => error,
            Err(_) => Error::new(
                error.kind(),
                format!("no answer from the image service; a record {id} may remain"),
            )
            .path(self.name()),
        }
    }

    /// The record of this id, if there is one.
    pub(crate) fn show(&self, id: &str) -> Result<Option<Image>> {
        let reply = self.call(&self.ask(Method::GET, &["images", id]))?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => Ok(Some(Image(reply.success()?.value()?))),
        }
    }

    /// The one image of this id or name. `Invalid` if there is none, or several.
    pub(crate) fn find(&self, what: &str) -> Result<Image> {
        let by_id = match Uuid::parse_str(what) {
            Ok(id) => self.show(&id.hyphenated().to_string())?,
            Err(_) => None,
        };
        if let Some(image) = by_id {
            return Ok(image);
        }
        let mut found = self.list(&[("name".into(), what.into())], 2)?;
        found.retain(|image| image.text("name") == Some(what));
        match found.len() {
            0 => Err(Error::invalid(format!("there is no image '{what}'"))),
            1 => Ok(found.remove(0)),
            _ => Err(Error::invalid(format!("several images are called '{what}': name one by id"))),
        }
    }

    /// Images for which all of this holds, so many at most.
    pub(crate) fn list(&self, query: &[(String, String)], most: usize) -> Result<Vec<Image>> {
        let mut images: Vec<Image> = Vec::new();
        let mut marker: Option<String> = None;
        while images.len() < most {
            let mut ask = self.ask(Method::GET, &["images"]);
            {
                let page = PAGE.min((most - images.len()) as u64).to_string();
                let mut pairs = ask.url.query_pairs_mut();
                pairs.extend_pairs(query).append_pair("limit", &page);
                if let Some(marker) = &marker {
                    pairs.append_pair("marker", marker);
                }
            }
            let answer = self.call(&ask)?.success()?.value()?;
            let Some(page) = answer["images"].as_array() else {
                return Err(Error::new(Kind::Io, "the service's answer is no list of images"));
            };
            images.extend(page.iter().take(most - images.len()).cloned().map(Image));
            let last = page.last().and_then(|image| image["id"].as_str()).map(str::to_string);
            // A page that leads to itself would never end.
            if answer["next"].is_null() || last.is_none() || last == marker {
                break;
            }
            marker = last;
        }
        Ok(images)
    }

    /// Changes values of a record.
    pub(crate) fn change(&self, id: &str, values: &[(&str, Value)]) -> Result<Image> {
        let replace = |(key, value): &(&str, Value)| {
            let path = format!("/{key}");
            json!({"op": "replace", "path": path, "value": value})
        };
        let changes: Vec<_> = values.iter().map(replace).collect();
        let mut ask = self.ask(Method::PATCH, &["images", id]);
        ask.body = Some((PATCH, json!(changes).to_string().into_bytes()));
        ask.conflicts_pass = true;
        Ok(Image(self.call(&ask)?.success()?.value()?))
    }

    /// Takes an image away: whatever happens, it is tried until it is gone.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let mut ask = self.ask(Method::DELETE, &["images", id]);
        ask.conflicts_pass = true;
        let reply = self.call_stubbornly(&ask)?;
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            _ => reply.success().map(|_| ()),
        }
    }

    /// Begins to import what was staged, or what lies at a URL.
    pub(crate) fn import(&self, id: &str, method: &Value, stores: &[String]) -> Result<()> {
        let mut request = json!({"method": method});
        if !stores.is_empty() {
            request["stores"] = json!(stores);
        }
        let ask = self.ask(Method::POST, &["images", id, "import"]).json(&request);
        let reply = self.call(&ask)?;
        if reply.status == StatusCode::CONFLICT
            && let Some(image) = self.show(id)?
            && (matches!(image.status(), "importing" | "active") || has_task(&image))
        {
            // An earlier attempt was heard.
            return Ok(());
        }
        reply.success().map(|_| ())
    }

    /// Why an import failed, if it has.
    pub(crate) fn import_failure(&self, image: &Image) -> Result<Option<String>> {
        let reply = self.call(&self.ask(Method::GET, &["images", image.id(), "tasks"]))?;
        let answer = match reply.status.is_success() {
            true => reply.value()?,
            // Not everybody may see tasks.
            false => Value::Null,
        };
        let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
        let failed = tasks.iter().find(|task| task["status"].as_str() == Some("failure"));
        if let Some(task) = failed {
            let why = task["message"].as_str().filter(|text| !text.is_empty());
            return Ok(Some(why.unwrap_or("no reason is given").to_string()));
        }
        let stores = image.text("os_glance_failed_import").filter(|text| !text.is_empty());
        Ok(stores.map(|stores| format!("it did not get into {stores}")))
    }

    /// Waits for a while between two looks at a record, longer each time. `Cancelled` if a signal
    /// says stop.
    pub(crate) fn between_looks(&self, looks: u32) -> Result<()> {
        let pause = self.patience().pause.saturating_mul(2_u32.saturating_pow(looks.min(4)));
        let pause = pause.min(Duration::from_secs(5));
        crate::progress::sleep(pause).map_err(|_| Error::cancelled())
    }
}

/// Whether a task works on it.
fn has_task(image: &Image) -> bool {
    image.text("os_glance_import_task").is_some()
}
