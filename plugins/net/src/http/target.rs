//! The target of a request: a URL as browsers read it, and the redirects from it.

use std::{borrow::Cow, fmt};

use url::{Host, ParseError, Position, Url};

/// An `http` or `https` URL without its fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetUrl {
    url: Url,
    /// The network interface of a link-local IPv6 address. It has a meaning only on this machine and is never sent.
    zone: Option<String>,
}

/// The rule that a URL breaks; the text follows the URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadUrl {
    /// Text that no URL parser accepts.
    #[error("is not a valid URL")]
    Malformed,
    /// Another scheme, or none.
    #[error("does not begin with http:// or https://")]
    Scheme,
    /// A user name, which may come with a password.
    #[error("has a user name")]
    User,
    /// No host.
    #[error("has no host")]
    Host,
    /// A host name with characters that no host name can have.
    #[error("has a host name with characters that no host name can have")]
    Name,
    /// Four numbers, one of which is too large.
    #[error("has a host that is not an IPv4 address: its numbers go from 0 to 255")]
    Ipv4,
    /// Brackets around text that is no IPv6 address.
    #[error("has a host that is not an IPv6 address")]
    Ipv6,
    /// A port that is no number, or 0 or too large.
    #[error("has a port that is not from 1 to 65535")]
    Port,
}

impl From<ParseError> for BadUrl {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::EmptyHost => Self::Host,
            ParseError::IdnaError | ParseError::InvalidDomainCharacter => Self::Name,
            ParseError::InvalidIpv4Address => Self::Ipv4,
            ParseError::InvalidIpv6Address => Self::Ipv6,
            ParseError::InvalidPort => Self::Port,
            ParseError::RelativeUrlWithoutBase => Self::Scheme,
            _ => Self::Malformed,
        }
    }
}

impl TargetUrl {
    /// Parses the URL of a config: without user name, and with a host between the second and the third slash.
    ///
    /// # Errors
    /// The rule that the URL breaks.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let target = Self::parse_lenient(text)?;
        let has_no_host = |rest: &str| rest.is_empty() || rest.starts_with(['/', '\\', '?', '#']);
        if (text.split_once("://")).is_some_and(|(_, rest)| has_no_host(rest)) {
            return Err(BadUrl::Host);
        }
        if target.credentials().is_some() {
            return Err(BadUrl::User);
        }
        Ok(target)
    }

    fn parse_lenient(text: &str) -> Result<Self, BadUrl> {
        let (text, zone) = without_zone(text)?;
        Self::new(Url::parse(&text)?, zone)
    }

    fn new(mut url: Url, zone: Option<String>) -> Result<Self, BadUrl> {
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") {
            Err(BadUrl::Scheme)
        } else if url.port() == Some(0) {
            Err(BadUrl::Port)
        } else {
            Ok(Self { url, zone })
        }
    }

    /// Resolves `reference`, found in a response from here, as browsers do.
    ///
    /// # Errors
    /// The rule that the reference breaks.
    pub fn join(&self, reference: &str) -> Result<Self, BadUrl> {
        let (reference, zone) = without_zone(reference)?;
        let mut target = Self::new(self.url.join(&reference)?, zone)?;
        // Servers do not know the zone through which they are reached.
        if target.url.host() == self.url.host() && target.zone.is_none() {
            target.zone.clone_from(&self.zone);
        }
        Ok(target)
    }

    /// Returns the URL without its fragment and zone.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns `true` if the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the host in lower case and in ASCII, an IPv6 address without brackets.
    pub fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// Returns the port, that of the scheme if the URL has none.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Returns path and query, as in the request.
    pub fn path(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// Returns the host as this machine reaches it, with the zone.
    pub fn address(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host()),
            None => self.host(),
        }
    }

    /// Returns the value of the `host` header.
    pub fn authority(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// Returns user name and password, still percent-encoded.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let (user, password) = (self.url.username(), self.url.password());
        (!user.is_empty() || password.is_some()).then(|| (user, password.unwrap_or_default()))
    }

    /// Returns `true` if data for this target may be sent to `other`: the same server, or the same host over TLS
    /// instead.
    pub fn trusts(&self, other: &Self) -> bool {
        let same_door = self.is_https() == other.is_https() && self.port() == other.port();
        let upgraded =
            !self.is_https() && other.is_https() && self.port() == 80 && other.port() == 443;
        self.url.host() == other.url.host() && (same_door || upgraded)
    }
}

/// For messages: without the query, which may contain secrets.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.url.path();
        let query = self.url.query().map_or("", |_| "?…");
        write!(
            f,
            "{}://{}{path}{query}",
            self.url.scheme(),
            self.authority()
        )
    }
}

/// Removes the zone from an IPv6 address in brackets: `[fe80::1%25eth0]` as in RFC 6874, or with a bare `%` as people
/// write it.
fn without_zone(url: &str) -> Result<(Cow<'_, str>, Option<String>), BadUrl> {
    let address = url.split_once("//[").and_then(|(_, rest)| {
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
