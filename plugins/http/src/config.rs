//! What stands in an HTTP platform's `config` table.

use std::{collections::BTreeMap, path::PathBuf};

use conductor_plugin_api::{Failure, schemars};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::{
    status::StatusRange,
    target::{BadUrl, Target},
};

/// Watches whether a URL answers as it should.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What to ask: an `http://` or `https://` URL without user name and password.
    #[schemars(extend("format" = "uri"), example = &"https://shop.example/health")]
    pub(crate) url: String,

    /// How to ask; always without a body.
    #[serde(default)]
    pub(crate) method: Method,

    /// Status codes that are healthy: numbers and ranges.
    #[serde(default = "default_expect_status")]
    #[schemars(length(min = 1), extend("default" = ["200-299"], "examples" = [[200, "300-399"]]))]
    pub(crate) expect_status: Vec<StatusRange>,

    /// Text that must occur in the first 1 MiB of the body.
    #[schemars(length(min = 1), example = &"\"status\":\"ok\"")]
    pub(crate) contains: Option<String>,

    /// Headers to send. They stay with the host of `url`: redirects to another do not carry them there.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,

    /// Whether to go where the answer points, up to 10 times.
    #[serde(default = "default_follow_redirects")]
    pub(crate) follow_redirects: bool,

    /// Absolute path of a PEM file with the CA certificates to trust instead of the system's.
    #[schemars(example = &"/etc/ssl/our-ca.pem")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

/// A config that can work.
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) method: hyper::Method,
    pub(crate) expect_status: Vec<StatusRange>,
    pub(crate) contains: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) follow_redirects: bool,
    pub(crate) ca_file: Option<PathBuf>,
}

impl Config {
    pub(crate) fn validate(self) -> Result<Plan, Failure> {
        let target = Target::parse(&self.url).map_err(|rule| {
            let cure = match rule {
                BadUrl::Malformed => {
                    "; percent-encode paths, and write international host names as xn--…"
                }
                BadUrl::User => "; send it as `headers = { authorization = \"Basic …\" }`",
                _ => "",
            };
            // Without the URL itself: what is wrong with it may be a password.
            Failure::config(format!("key `url`: it {rule}{cure}"))
        })?;
        if self.expect_status.is_empty() {
            return Err(Failure::config(
                "key `expect_status`: the list is empty, so that no answer is healthy; leave the key out for 200-299",
            ));
        }
        match (&self.contains, self.method) {
            (Some(text), _) if text.is_empty() => {
                return Err(Failure::config(
                    "key `contains`: the text is empty; leave the key out",
                ));
            }
            (Some(_), Method::Head) => {
                return Err(Failure::config(
                    "key `contains`: an answer to HEAD has no body; use another `method`",
                ));
            }
            _ => {}
        }
        if let Some(path) = &self.ca_file
            && !path.is_absolute()
        {
            return Err(Failure::config(format!(
                "key `ca_file`: {path:?} is relative, and to which folder is not fixed; write the absolute path"
            )));
        }
        Ok(Plan {
            target,
            method: self.method.into(),
            expect_status: self.expect_status,
            contains: self.contains,
            headers: headers(&self.headers)?,
            follow_redirects: self.follow_redirects,
            ca_file: self.ca_file,
        })
    }
}

/// Names the header that cannot be sent, never its value: that may be a secret.
fn headers(written: &BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let key = format!("key `headers.{name}`");
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Failure::config(format!("{key}: not a name that a header can have")))?;
        if FRAMING.contains(&name) {
            return Err(Failure::config(format!(
                "{key}: the probe itself decides on this header"
            )));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            Failure::config(format!(
                "{key}: the value has characters that headers cannot have"
            ))
        })?;
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            return Err(Failure::config(format!(
                "{key}: the header is there twice, since capitals make no difference"
            )));
        }
    }
    Ok(headers)
}

/// What says where a message ends and what becomes of the connection.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl From<Method> for hyper::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Options => Self::OPTIONS,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

fn default_expect_status() -> Vec<StatusRange> {
    vec![StatusRange::SUCCESS]
}

fn default_follow_redirects() -> bool {
    true
}
