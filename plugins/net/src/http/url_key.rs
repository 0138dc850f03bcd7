//! URLs of a config.

use crate::{host_name::HostNameError, tls::TlsClient};

use super::target::{BadUrl, TargetUrl};

impl TargetUrl {
    /// Parses the URL of a key of a config; a fault names the key, the rule and the cure.
    pub fn of_key(key: &str, url: &str, faults: &mut Vec<String>) -> Option<Self> {
        let parsed = parse(url).map_err(|fault| faults.push(format!("key `{key}`: {fault}")));
        parsed.ok()
    }
}

fn parse(url: &str) -> Result<TargetUrl, String> {
    let shown = shown(url);
    if url.is_empty() {
        return Err("the URL is empty; write http://HOST/PATH".to_owned());
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
            BadUrl::User => {
                "; send it as `basic_auth = { username = \"…\", password = \"…\" }`".to_owned()
            }
            BadUrl::Host | BadUrl::Malformed => "; write http://HOST/PATH".to_owned(),
            BadUrl::Name | BadUrl::Ipv4 | BadUrl::Ipv6 => "; correct it".to_owned(),
            BadUrl::Port => "; correct the port or leave it out".to_owned(),
        };
        format!("{shown} {rule}{cure}")
    })?;
    let host = target.host();
    if let Err(rule) = HostNameError::check(&host) {
        return Err(format!("{shown}: the host {rule}; correct it"));
    }
    if target.is_https() && !TlsClient::is_certifiable(&host) {
        return Err(format!(
            "{shown}: no certificate can be issued for this host name; use letters, digits, `-`, `_` and dots"
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

/// Longest part of a URL in a message, in characters.
const MAX_SHOWN: usize = 120;
