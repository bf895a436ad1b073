//! Who we are and where the service is: from flags, from `clouds.yaml`, from `OS_*` variables.
//!
//! A flag wins. A cloud that is named comes from its file, and the variables do not mix with it,
//! but for a password that the file leaves out; without one the variables say everything. Secrets
//! come from the file and from variables: a command line is seen by others.

use std::time::Duration;

use clap::Args;
use formats::{Error, Result};
use serde_json::{Value, json};
use ureq::tls::{PemItem, parse_pem};

use super::clouds::{self, Cloud};
use crate::remote::{Patience, Trust};
use crate::report::note;

/// Where the service is, and who asks.
#[derive(Clone, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Login {
    /// The cloud of clouds.yaml; else `$OS_CLOUD`, else what other `$OS_` variables say
    #[arg(long, value_name = "NAME")]
    os_cloud: Option<String>,
    /// Where Keystone is
    #[arg(long, value_name = "URL")]
    os_auth_url: Option<String>,
    /// `password`, `token`, `v3applicationcredential`, `admin_token` or `none`; found out if not given
    #[arg(long, value_name = "TYPE")]
    os_auth_type: Option<String>,
    /// Name of the user; the password comes from `$OS_PASSWORD` or clouds.yaml
    #[arg(long, value_name = "NAME")]
    os_username: Option<String>,
    /// Id of the user
    #[arg(long, value_name = "ID")]
    os_user_id: Option<String>,
    /// Domain of the user, by name
    #[arg(long, value_name = "NAME")]
    os_user_domain_name: Option<String>,
    /// Domain of the user, by id
    #[arg(long, value_name = "ID")]
    os_user_domain_id: Option<String>,
    /// Name of the project
    #[arg(long, value_name = "NAME")]
    os_project_name: Option<String>,
    /// Id of the project
    #[arg(long, value_name = "ID")]
    os_project_id: Option<String>,
    /// Domain of the project, by name
    #[arg(long, value_name = "NAME")]
    os_project_domain_name: Option<String>,
    /// Domain of the project, by id
    #[arg(long, value_name = "ID")]
    os_project_domain_id: Option<String>,
    /// Id of an application credential; its secret comes from clouds.yaml or
    /// `$OS_APPLICATION_CREDENTIAL_SECRET`
    #[arg(long, value_name = "ID")]
    os_application_credential_id: Option<String>,
    /// Region of the service
    #[arg(long, value_name = "NAME")]
    os_region_name: Option<String>,
    /// Which of its endpoints: public, internal or admin
    #[arg(long, value_name = "NAME")]
    os_interface: Option<String>,
    /// Certificates that vouch for the services, in place of the system's
    #[arg(long, value_name = "FILE")]
    os_cacert: Option<String>,
    /// Take any certificate. Whoever is on the line can read and change everything
    #[arg(long)]
    insecure: bool,
    /// Where the image service is, whatever the catalogue says; alone, it is asked without
    /// credentials
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A token. Others can see it here: `$OS_TOKEN` is the better place
    #[arg(long, value_name = "TOKEN", hide_short_help = true)]
    token: Option<String>,
    /// How often a request is sent at most
    #[arg(long, value_name = "N", default_value_t = 7, hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// Seconds before a request is sent again; twice as long each time
    #[arg(long, value_name = "SECONDS", default_value = "0.25", hide_short_help = true)]
    #[arg(value_parser = seconds)]
    retry_pause: Duration,
    /// Seconds for which the service may be silent
    #[arg(long, value_name = "SECONDS", default_value = "60", hide_short_help = true)]
    #[arg(value_parser = seconds)]
    silence: Duration,
}

/// A number of seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    let seconds = seconds.filter(|time| (Duration::from_millis(1)..YEAR).contains(time));
    seconds.ok_or_else(|| "a number of seconds".into())
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A service, with all it takes to be let in.
pub(crate) struct Service {
    pub(super) login: Method,
    /// Where it is, whatever a catalogue says.
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) interface: String,
    pub(super) trust: Trust,
    pub(super) patience: Patience,
}

/// How one is let in. What is in here is secret: it is not shown.
pub(super) enum Method {
    /// By a token that somebody else has got, or by nothing.
    Ready(Option<String>),
    /// By Keystone.
    Keystone {
        /// Where it is, with `/v3` at the end.
        url: String,
        /// What is sent to it.
        request: Value,
    },
}

impl Method {
    /// Whether there can be another token.
    pub(super) fn can_renew(&self) -> bool {
        matches!(self, Method::Keystone { .. })
    }
}

/// All that was said, in order of rank.
struct Settings<'a> {
    login: &'a Login,
    cloud: Option<Cloud>,
}

impl Login {
    /// Reads the files and variables that say the rest. `Invalid` if something is missing.
    pub(crate) fn service(&self) -> Result<Service> {
        let name = self.os_cloud.clone().or_else(|| variable("OS_CLOUD"));
        let cloud = name.as_deref().map(clouds::cloud).transpose()?;
        let settings = Settings { login: self, cloud };
        let patience = Patience {
            connect: self.silence.min(Patience::default().connect),
            read: self.silence,
            pause: self.retry_pause,
            attempts: self.attempts,
        };
        let interface = settings.any(&["interface", "endpoint_type"]);
        let interface = interface.as_deref().map_or("public", |name| name.trim_end_matches("URL"));
        let endpoint = settings.endpoint();
        Ok(Service {
            login: settings.method(endpoint.is_some())?,
            endpoint,
            region: settings.get("region_name"),
            interface: interface.to_string(),
            trust: settings.trust()?,
            patience,
        })
    }

    fn flag(&self, key: &str) -> Option<String> {
        let flag = match key {
            "auth_url" => &self.os_auth_url,
            "auth_type" => &self.os_auth_type,
            "username" => &self.os_username,
            "user_id" => &self.os_user_id,
            "user_domain_name" => &self.os_user_domain_name,
            "user_domain_id" => &self.os_user_domain_id,
            "project_name" => &self.os_project_name,
            "project_id" => &self.os_project_id,
            "project_domain_name" => &self.os_project_domain_name,
            "project_domain_id" => &self.os_project_domain_id,
            "application_credential_id" => &self.os_application_credential_id,
            "region_name" => &self.os_region_name,
            "interface" => &self.os_interface,
            "cacert" => &self.os_cacert,
            "token" => &self.token,
            _ => &None,
        };
        flag.clone()
    }
}

impl Settings<'_> {
    fn get(&self, key: &str) -> Option<String> {
        let found = self.login.flag(key).or_else(|| match &self.cloud {
            Some(cloud) => cloud.get(key).cloned().or_else(|| match key {
                "password" => variable("OS_PASSWORD"),
                _ => None,
            }),
            None => variable(&format!("OS_{}", key.to_uppercase())),
        });
        found.filter(|text| !text.is_empty())
    }

    fn any(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.get(key))
    }

    fn need(&self, keys: &[&str]) -> Result<String> {
        self.any(keys).ok_or_else(|| {
            let place = match self.cloud {
                Some(_) => "the cloud has",
                None => "there is",
            };
            let variable = format!("OS_{}", keys[0].to_uppercase());
            Error::invalid(format!("{place} no {}: set ${variable}, or name a cloud", keys[0]))
        })
    }

    fn endpoint(&self) -> Option<String> {
        let keys = ["image_endpoint_override", "image_endpoint", "endpoint", "url"];
        self.login.endpoint.clone().or_else(|| self.any(&keys))
    }

    fn method(&self, has_endpoint: bool) -> Result<Method> {
        let stated = self.get("auth_type");
        let token = || self.any(&["token", "auth_token"]);
        let guess = match () {
            () if stated.is_some() => stated.as_deref().unwrap_or_default(),
            () if has_endpoint && self.get("auth_url").is_none() && token().is_some() => {
                "admin_token"
            }
            () if has_endpoint && self.get("auth_url").is_none() => "none",
            () if self.get("application_credential_secret").is_some() => "applicationcredential",
            () if token().is_some() && self.get("password").is_none() => "token",
            () => "password",
        };
        let wants_endpoint = || match has_endpoint {
            true => Ok(()),
            false => Err(Error::invalid("without Keystone it takes --endpoint URL")),
        };
        match guess.strip_prefix("v3").unwrap_or(guess) {
            "none" => wants_endpoint().map(|()| Method::Ready(None)),
            "admin_token" | "token_endpoint" => {
                wants_endpoint()?;
                Ok(Method::Ready(Some(self.need(&["token", "auth_token"])?)))
            }
            "password" => self.keystone("password", &self.password()?),
            "token" => {
                let token = self.need(&["token", "auth_token"])?;
                self.keystone("token", &json!({"id": token}))
            }
            "applicationcredential" => {
                self.keystone("application_credential", &self.application()?)
            }
            other => {
                let known = "password, token, v3applicationcredential, admin_token or none";
                Err(Error::unsupported(format!("the auth_type '{other}' is none of {known}")))
            }
        }
    }

    fn keystone(&self, method: &str, proof: &Value) -> Result<Method> {
        let url = self.need(&["auth_url"])?;
        let bare = url.trim_end_matches('/');
        let bare = ["/v3", "/v2.0"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare);
        let mut request = json!({"auth": {"identity": {"methods": [method], method: proof}}});
        // An application credential knows its project.
        if method != "application_credential"
            && let Some(scope) = self.scope()
        {
            request["auth"]["scope"] = scope;
        }
        Ok(Method::Keystone { url: format!("{bare}/v3"), request })
    }

    fn password(&self) -> Result<Value> {
        let password = self.need(&["password"])?;
        Ok(json!({"user": self.user(Some(password))?}))
    }

    fn user(&self, password: Option<String>) -> Result<Value> {
        let mut user = match self.get("user_id") {
            Some(id) => json!({"id": id}),
            None => json!({"name": self.need(&["username"])?, "domain": self.domain("user")}),
        };
        if let Some(password) = password {
            user["password"] = password.into();
        }
        Ok(user)
    }

    fn application(&self) -> Result<Value> {
        let secret = self.need(&["application_credential_secret"])?;
        if let Some(id) = self.get("application_credential_id") {
            return Ok(json!({"id": id, "secret": secret}));
        }
        let name = self.need(&["application_credential_name"])?;
        Ok(json!({"name": name, "secret": secret, "user": self.user(None)?}))
    }

    /// What the token is to be for.
    fn scope(&self) -> Option<Value> {
        if let Some(id) = self.any(&["project_id", "tenant_id"]) {
            return Some(json!({"project": {"id": id}}));
        }
        if let Some(name) = self.any(&["project_name", "tenant_name"]) {
            return Some(json!({"project": {"name": name, "domain": self.domain("project")}}));
        }
        if self.get("system_scope").is_some() {
            return Some(json!({"system": {"all": true}}));
        }
        let by = |key, name: &str| Some(json!({"domain": {name: self.get(key)?}}));
        by("domain_id", "id").or_else(|| by("domain_name", "name"))
    }

    /// The domain of a user or a project; the one that every Keystone has if nothing is said.
    fn domain(&self, of: &str) -> Value {
        let id = [&*format!("{of}_domain_id"), "default_domain_id"];
        let name = [&*format!("{of}_domain_name"), "default_domain_name", "default_domain"];
        match (self.get(id[0]), self.get(name[0])) {
            (Some(id), _) => json!({"id": id}),
            (None, Some(name)) => json!({"name": name}),
            (None, None) => match (self.any(&id[1..]), self.any(&name[1..])) {
                (None, Some(name)) => json!({"name": name}),
                (id, _) => json!({"id": id.unwrap_or_else(|| "default".into())}),
            },
        }
    }

    fn trust(&self) -> Result<Trust> {
        let is = |key, value: &str| {
            self.get(key).is_some_and(|text| text.eq_ignore_ascii_case(value) || text == "1")
        };
        let unverified = self.get("verify").is_some_and(|text| text.eq_ignore_ascii_case("false"));
        if self.login.insecure || unverified || is("insecure", "true") {
            note("diskwright: any certificate is taken: whoever is on the line can read along");
            return Ok(Trust { roots: None, anybody: true });
        }
        let Some(path) = self.get("cacert") else { return Ok(Trust::default()) };
        let pem =
            std::fs::read(&path).map_err(|error| Error::io("cannot read", error).path(&path))?;
        let roots: Vec<_> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                Ok(_) | Err(_) => None,
            })
            .collect();
        if roots.is_empty() {
            return Err(Error::invalid("there is no certificate in it").path(&path));
        }
        Ok(Trust { roots: Some(roots.into()), anybody: false })
    }
}

/// An environment variable, if it says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
