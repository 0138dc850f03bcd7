//! The target of a request: a parsed URL, and the redirects from it.

use std::{borrow::Cow, fmt};

use hyper::Uri;

/// A URL without its fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TargetUrl {
    pub(crate) https: bool,
    /// In lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The network interface of a link-local IPv6 address. It has a meaning only on this machine and is never sent.
    pub(crate) zone: Option<String>,
    /// Path and query, as in the request.
    pub(crate) path: String,
}

/// The rule that a URL breaks; the text follows the URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("is not a URL in plain ASCII")]
    Malformed,
    #[error("does not begin with http:// or https://")]
    Scheme,
    #[error("has a user name")]
    User,
    #[error("has no host")]
    Host,
    #[error("has a port that is not from 1 to 65535")]
    Port,
}

impl TargetUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, BadUrl> {
        let (url, zone) = without_zone(url)?;
        let has_no_host = |rest: &str| rest.is_empty() || rest.starts_with(['/', '?', '#']);
        if url
            .split_once("://")
            .is_some_and(|(_, rest)| has_no_host(rest))
        {
            return Err(BadUrl::Host);
        }
        let uri: Uri = url.parse().map_err(|_| BadUrl::Malformed)?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadUrl::Scheme),
        };
        let authority = uri.authority().ok_or(BadUrl::Host)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl::User);
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None | Some("") => default_port(https),
            Some(_) => match authority.port_u16() {
                Some(port) if port > 0 => port,
                _ => return Err(BadUrl::Port),
            },
        };
        if bare.unwrap_or(host).is_empty() {
            return Err(BadUrl::Host);
        }
        Ok(Self {
            https,
            host: bare.unwrap_or(host).to_ascii_lowercase(),
            port,
            zone,
            path: match uri.path_and_query().map(|path| path.as_str()) {
                None | Some("") => "/".to_owned(),
                Some(path) if path.starts_with('?') => format!("/{path}"),
                Some(path) => path.to_owned(),
            },
        })
    }

    /// Resolves `reference`, found in a response from here: RFC 3986, section 5.2.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, BadUrl> {
        let mut target = self.join_without_zone(reference)?;
        // Servers do not know the zone through which they are reached.
        if target.host == self.host && target.zone.is_none() {
            target.zone.clone_from(&self.zone);
        }
        Ok(target)
    }

    fn join_without_zone(&self, reference: &str) -> Result<Self, BadUrl> {
        let reference = reference.split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return Self::parse(reference);
        }
        let scheme = self.scheme();
        if reference.starts_with("//") {
            return Self::parse(&format!("{scheme}:{reference}"));
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (reference, String::new()),
        };
        let path = match path {
            "" if query.is_empty() => self.path.clone(),
            "" => format!("{base}{query}"),
            _ if path.starts_with('/') => without_dots(path) + &query,
            _ => {
                let folder = &base[..=base.rfind('/').unwrap_or_default()];
                without_dots(&format!("{folder}{path}")) + &query
            }
        };
        Self::parse(&format!("{scheme}://{}{path}", self.authority()))
    }

    /// Returns the host as this machine reaches it, with the zone.
    pub(crate) fn address(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns the value of the `host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.https) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Returns `true` if data for this target may be sent to `other`: the same server, or the same host over TLS
    /// instead.
    pub(crate) fn trusts(&self, other: &Self) -> bool {
        let same_door = self.https == other.https && self.port == other.port;
        let upgraded = !self.https && other.https && self.port == 80 && other.port == 443;
        self.host == other.host && (same_door || upgraded)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

/// For messages: without the query, which may contain secrets.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = match self.path.split_once('?') {
            Some((path, _)) => (path, "?…"),
            None => (self.path.as_str(), ""),
        };
        write!(f, "{}://{}{path}{query}", self.scheme(), self.authority())
    }
}

/// Removes the zone from an IPv6 address in brackets: `[fe80::1%25eth0]` as in RFC 6874, or with a bare `%` as people
/// write it.
fn without_zone(url: &str) -> Result<(Cow<'_, str>, Option<String>), BadUrl> {
    let address = url.split_once("://[").and_then(|(_, rest)| {
        let (address, _) = rest.split_once(']')?;
        let (_, zone) = address.split_once('%')?;
        Some((address, zone))
    });
    let Some((address, zone)) = address else {
        return Ok((url.into(), None));
    };
    let bare = &address[..address.len() - zone.len() - 1];
    let zone = match zone.strip_prefix("25") {
        Some(encoded) if !encoded.is_empty() => encoded,
        _ => zone,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if zone.is_empty() || !zone.chars().all(is_name) {
        return Err(BadUrl::Malformed);
    }
    Ok((url.replacen(address, bare, 1).into(), Some(zone.to_owned())))
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']);
    end.is_some_and(|end| {
        reference[end..].starts_with(':')
            && reference.starts_with(|c: char| c.is_ascii_alphabetic())
    })
}

/// Removes `.` and `..` from an absolute path.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
