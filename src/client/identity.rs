//! Keystone: credentials in exchange for a token, and a catalogue of where the services are.

use formats::{Error, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::http::{HeaderValue, StatusCode};

use super::credentials::{Method, Service};
use super::{JSON, Reply, lost};
use crate::remote::{Attempts, Failure};

/// The types under which catalogues list image services.
const TYPES: [&str; 2] = ["image", "images"];

/// A token, if it takes one, and where the image service is.
pub(super) fn enter(agent: &Agent, service: &Service) -> Result<(Option<HeaderValue>, String)> {
    let stated = service.endpoint.clone();
    match &service.login {
        Method::Ready(token) => {
            let endpoint = stated.ok_or_else(|| Error::invalid("there is no endpoint"))?;
            Ok((token.as_deref().map(secret).transpose()?, endpoint))
        }
        Method::Keystone { url, request } => {
            let reply = ask(agent, service, url, request).map_err(|error| error.path(url))?;
            let token = reply.headers.get("x-subject-token").cloned().ok_or_else(|| {
                Error::io("no token came", std::io::Error::other("this is no Keystone")).path(url)
            })?;
            let endpoint = match stated {
                Some(endpoint) => endpoint,
                None => endpoint(&reply.value().map_err(|error| error.path(url))?, service)
                    .map_err(|error| error.path(url))?,
            };
            Ok((Some(hidden(token)), endpoint))
        }
    }
}

fn secret(token: &str) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(token);
    value.map(hidden).map_err(|_| Error::invalid("the token has characters that no token has"))
}

fn hidden(mut token: HeaderValue) -> HeaderValue {
    token.set_sensitive(true);
    token
}

fn ask(agent: &Agent, service: &Service, url: &str, request: &Value) -> Result<Reply> {
    let mut attempts = Attempts::new(service.patience, false);
    let body = request.to_string();
    loop {
        let request = agent.post(format!("{url}/auth/tokens"));
        let request = request.header(CONTENT_TYPE, JSON).header(ACCEPT, JSON);
        let reply = request.send(body.as_bytes()).map_err(Failure::of).and_then(Reply::read);
        let failure = match reply {
            Ok(reply) => match reply.passing(false) {
                None => return entered(reply),
                Some(failure) => failure,
            },
            Err(failure) => failure,
        };
        attempts
            .next(failure)
            .map_err(|error| lost("no answer from the identity service", error))?;
    }
}

/// The reply that let us in; else why not.
fn entered(reply: Reply) -> Result<Reply> {
    match reply.status {
        StatusCode::UNAUTHORIZED => {
            Err(Error::refused(format!("wrong credentials: {}", reply.said())))
        }
        StatusCode::NOT_FOUND => {
            Err(Error::invalid(format!("there is no Keystone: {}", reply.said())))
        }
        _ => reply.success(),
    }
}

/// Where the catalogue says that images are.
fn endpoint(token: &Value, service: &Service) -> Result<String> {
    let none = Vec::new();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let catalogue = token["token"]["catalog"].as_array().unwrap_or(&none);
    let is_image = |entry: &&Value| entry["type"].as_str().is_some_and(|t| TYPES.contains(&t));
    let endpoints: Vec<_> =
        catalogue.iter().filter(is_image).flat_map(|entry| list(entry, "endpoints")).collect();
    if endpoints.is_empty() {
        let what = match catalogue.is_empty() {
            true => "the token is for no project: its catalogue is empty",
            false => "the catalogue has no image service",
        };
        return Err(Error::invalid(format!("{what}; --endpoint URL says where it is")));
    }
    let region = |endpoint: &Value| {
        let id = endpoint["region_id"].as_str().or(endpoint["region"].as_str());
        id.unwrap_or_default().to_string()
    };
    let fits = |endpoint: &&Value| {
        endpoint["interface"].as_str() == Some(&*service.interface)
            && service.region.as_ref().is_none_or(|wanted| *wanted == region(endpoint))
    };
    let found = endpoints.iter().find(fits).and_then(|endpoint| endpoint["url"].as_str());
    found.map(str::to_string).ok_or_else(|| {
        let there = endpoints.iter().map(|endpoint| {
            format!("{} in {}", endpoint["interface"].as_str().unwrap_or("?"), region(endpoint))
        });
        let there: Vec<_> = there.take(9).collect();
        let wanted = service.region.as_deref().map(|name| format!(" in region {name}"));
        let (interface, there) = (&service.interface, there.join(", "));
        Error::invalid(format!(
            "the catalogue has no {interface} image service{}; it has {there}",
            wanted.unwrap_or_default()
        ))
    })
}
