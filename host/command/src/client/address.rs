//! The address of a host as an operator writes it: `http://host:port/base`, `https://…` or `host:port`.

use std::fmt;

use conductor_http::{RequestUrl, UrlError};

use super::error::{AddressError, OptionError};

/// The address of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostAddress {
    /// Its path is the prefix of the API's own paths, behind a proxy.
    url: RequestUrl,
}

impl HostAddress {
    pub(super) fn parse(text: &str) -> Result<Self, OptionError> {
        let wrong = |why: AddressError| OptionError::Address {
            address: text.to_owned(),
            why,
        };
        let parsed = RequestUrl::parse(&complete(text));
        let url = parsed.map_err(|error| match error {
            UrlError::Credentials => OptionError::Credentials,
            UrlError::Scheme | UrlError::NoSocket => wrong(AddressError::Scheme),
            error => wrong(AddressError::Url(error)),
        })?;
        if url.is_unix() {
            return Err(wrong(AddressError::Scheme));
        }
        if url.query().is_some() {
            return Err(wrong(AddressError::Query));
        }
        Ok(Self { url })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.is_https()
    }

    /// Returns the URL of a path of the API, which may have a query.
    pub(super) fn url(&self, path: &str) -> RequestUrl {
        self.url.join(path)
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.url, self.url.path().trim_end_matches('/'))
    }
}

/// Returns the URL of an address that may have no scheme.
fn complete(text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    // As in --web.listen-address.
    let host = if text.starts_with(':') { LOOPBACK } else { "" };
    let (authority, path) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    // The colons of an IPv6 address are in brackets.
    let after_brackets = authority.rsplit(']').next().unwrap_or_default();
    let port = match after_brackets.contains(':') || authority.is_empty() {
        true => String::new(),
        false => format!(":{OUR_PORT}"),
    };
    format!("http://{host}{authority}{port}{path}")
}

const LOOPBACK: &str = "127.0.0.1";
/// The default port of a host.
const OUR_PORT: u16 = 9750;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_host_and_port() {
        for (text, shown) in [
            ("127.0.0.1:9750", "http://127.0.0.1:9750"),
            ("watch.example", "http://watch.example:9750"),
            (":9751", "http://127.0.0.1:9751"),
            ("localhost:9751", "http://localhost:9751"),
            ("0.0.0.0:9751", "http://127.0.0.1:9751"),
            ("[::]:9751", "http://[::1]:9751"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("http://watch.example", "http://watch.example:80"),
            ("https://watch.example/", "https://watch.example:443"),
            ("https://[::1]", "https://[::1]:443"),
            (
                "https://proxy.example:8443/conductor/",
                "https://proxy.example:8443/conductor",
            ),
        ] {
            assert_eq!(
                HostAddress::parse(text).unwrap().to_string(),
                shown,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, why) in [
            ("ftp://x", "neither http nor https"),
            ("http://me:secret@x", "--password-file"),
            ("http://", "is not a host address"),
            ("", "is not a host address"),
            ("x:port", "its port is not a number from 0 to 65535"),
            ("x:99999", "its port is not a number from 0 to 65535"),
            (":99999", "its port is not a number from 0 to 65535"),
            (":", "its port is not a number from 0 to 65535"),
            ("http://x/?a=b", "query"),
        ] {
            let error = HostAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
