//! The address of a host as an operator writes it: `http://host:port/base`, `https://…` or `host:port`.

use std::fmt;

use hyper::Uri;

use super::error::{AddressError, OptionError};

/// The address of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostAddress {
    pub(super) https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The prefix of the API's own paths, behind a proxy: empty, or beginning with `/`.
    pub(super) base: String,
}

impl HostAddress {
    pub(super) fn parse(text: &str) -> Result<Self, OptionError> {
        let wrong = |why: AddressError| OptionError::Address {
            address: text.to_owned(),
            why,
        };
        let has_scheme = text.contains("://");
        let url = if has_scheme {
            text.to_owned()
        } else if text.starts_with(':') {
            // As in --web.listen-address.
            format!("http://{LOOPBACK}{text}")
        } else {
            format!("http://{text}")
        };
        let uri: Uri = url.parse().map_err(|e| wrong(AddressError::Uri(e)))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong(AddressError::Scheme)),
        };
        let authority = uri.authority().ok_or_else(|| wrong(AddressError::NoHost))?;
        if authority.as_str().contains('@') {
            return Err(OptionError::Credentials);
        }
        if uri.query().is_some() {
            return Err(wrong(AddressError::Query));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong(AddressError::NoHost));
        }
        // Use the loopback address for a host that listens on all addresses.
        let host = match host {
            "0.0.0.0" => LOOPBACK,
            "::" => "::1",
            host => host,
        };
        let usual = match (has_scheme, https) {
            (false, _) => OUR_PORT,
            (true, false) => 80,
            (true, true) => 443,
        };
        let port = authority.port_u16();
        let after_colon = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        // An IPv6 address ends with a bracket.
        if port.is_none() && after_colon.is_some_and(|port| !port.ends_with(']')) {
            return Err(wrong(AddressError::Port));
        }
        Ok(Self {
            https,
            host: host.to_owned(),
            port: port.unwrap_or(usual),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns host and port, as in the Host header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
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
