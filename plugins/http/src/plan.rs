//! Turns a config into a plan that can work, or into all the reasons why it cannot.

use std::{collections::BTreeMap, path::PathBuf};

use conductor_net::HostNameError;
use conductor_plugin_api::Failure;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::{
    config::{HttpConfig, RequestMethod},
    exchange::MAX_BODY,
    status::{ExpectedStatus, StatusRange},
    target::{BadUrl, TargetUrl},
    tls,
};

/// A request and its expected response: a valid config.
pub(crate) struct RequestPlan {
    pub(crate) target: TargetUrl,
    pub(crate) method: hyper::Method,
    pub(crate) expect_status: Vec<StatusRange>,
    pub(crate) contains: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) follow_redirects: bool,
    pub(crate) ca_file: Option<PathBuf>,
}

impl TryFrom<HttpConfig> for RequestPlan {
    type Error = Failure;

    /// Refuses a config and reports every wrong key, not only the first.
    fn try_from(config: HttpConfig) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let target = target(&config.url).map_err(|fault| faults.push(fault)).ok();
        let expect_status = statuses(&config.expect_status, &mut faults);
        faults.extend(contains_fault(config.contains.as_deref(), config.method));
        let headers = headers(&config.headers, &mut faults);
        faults.extend(
            config
                .ca_file
                .as_ref()
                .filter(|path| !path.is_absolute())
                .map(|path| format!("key `ca_file`: {path:?} is not absolute; write the path from the root, such as \"/etc/ssl/our-ca.pem\"")),
        );
        match target {
            Some(target) if faults.is_empty() => Ok(Self {
                target,
                method: config.method.into(),
                expect_status,
                contains: config.contains,
                headers,
                follow_redirects: config.follow_redirects,
                ca_file: config.ca_file,
            }),
            _ => {
                let ca_file = config.ca_file.filter(|path| path.is_absolute());
                if let Some(Err(fault)) = ca_file.as_deref().map(tls::of_file) {
                    faults.push(fault.message().to_owned());
                }
                Err(Failure::config(faults.join("; ")))
            }
        }
    }
}

fn target(url: &str) -> Result<TargetUrl, String> {
    let shown = shown(url);
    if url.is_empty() {
        return Err("key `url`: the URL is empty; write http://HOST/PATH".to_owned());
    }
    let target = TargetUrl::parse(url).map_err(|rule| {
        // The parser calls a path without a scheme malformed; the operator's mistake is the missing scheme.
        let rule = match rule {
            BadUrl::Malformed if !url.contains("://") => BadUrl::Scheme,
            rule => rule,
        };
        let cure = match rule {
            BadUrl::Scheme if url.contains("://") => "; the probe knows only these two".to_owned(),
            BadUrl::Scheme => format!("; write \"https://{}\"", shown.trim_matches('"')),
            BadUrl::Malformed => {
                "; percent-encode paths, and write international host names as xn--…".to_owned()
            }
            BadUrl::User => "; send it as `headers = { authorization = \"Basic …\" }`".to_owned(),
            BadUrl::Host => "; write http://HOST/PATH".to_owned(),
            BadUrl::Port => "; correct the port or leave it out".to_owned(),
        };
        format!("key `url`: {shown} {rule}{cure}")
    })?;
    if let Err(rule) = HostNameError::check(&target.host) {
        return Err(format!("key `url`: {shown}: the host {rule}; correct it"));
    }
    if target.https && ServerName::try_from(target.host.as_str()).is_err() {
        return Err(format!(
            "key `url`: {shown}: no certificate can be issued for this host name; use letters, digits, `-`, `_` and dots"
        ));
    }
    Ok(target)
}

/// Returns the URL for a message: without query, and not at all if it may contain a password.
fn shown(url: &str) -> String {
    if url.contains('@') {
        return "the URL".to_owned();
    }
    let (base, query) = match url.split_once(['?', '#']) {
        Some((base, _)) => (base, "…"),
        None => (url, ""),
    };
    let mut text: String = base.chars().take(MAX_SHOWN).collect();
    if text.len() < base.len() {
        text.push('…');
    }
    format!("{:?}", text + query)
}

fn statuses(entries: &[ExpectedStatus], faults: &mut Vec<String>) -> Vec<StatusRange> {
    let mut ranges = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match StatusRange::try_from(entry) {
            Ok(range) => ranges.push(range),
            Err(rule) => faults.push(format!("key `expect_status[{index}]`: {rule}")),
        }
    }
    if entries.is_empty() {
        faults.push(
            "key `expect_status`: the list is empty, so no response would be healthy; leave the key out for 200-299"
                .to_owned(),
        );
    } else if ranges.len() == entries.len() && ranges.iter().all(|range| range.is_interim()) {
        faults.push(
            "key `expect_status`: codes below 200 are interim and never end a response; add codes from 200 to 599"
                .to_owned(),
        );
    }
    ranges
}

fn contains_fault(text: Option<&str>, method: RequestMethod) -> Option<String> {
    let text = text?;
    let rule = if text.is_empty() {
        "the text is empty; leave the key out".to_owned()
    } else if text.len() > MAX_BODY {
        format!(
            "the text has {} bytes, but only the first {MAX_BODY} bytes of a body are searched; shorten it",
            text.len()
        )
    } else if matches!(method, RequestMethod::Head) {
        "a response to HEAD has no body; use another `method`, or leave `contains` out".to_owned()
    } else {
        return None;
    };
    Some(format!("key `contains`: {rule}"))
}

/// Reports headers that cannot be sent, but not their values, which may be secrets.
fn headers(entries: &BTreeMap<String, String>, faults: &mut Vec<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (text, value) in entries {
        let mut refuse = |rule: &str| faults.push(format!("key `headers.{text}`: {rule}"));
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            refuse("not a header name; use letters, digits and `-`");
            continue;
        };
        if FRAMING.contains(&name) {
            refuse("the probe sets this header itself; remove it");
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            refuse(
                "the value has control characters, which HTTP does not allow; write it on one line",
            );
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            refuse("given twice, as header names ignore case; keep one of the two");
        }
    }
    headers
}

/// Headers that determine the end of a message and the fate of the connection.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Longest part of a URL in a message, in characters.
const MAX_SHOWN: usize = 120;
