//! The host names that are accepted while no authentication is required.
//!
//! A site can point its own name at 127.0.0.1 once its page is open in the operator's browser (DNS rebinding). To the
//! browser, page and host are then of one origin: the page can read everything and send whatever the host's own pages
//! can. But the request carries the site's name, so a host that is only reachable locally and requires no password
//! accepts only IP addresses, `localhost`, and the name that the operator has configured.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode, header,
        uri::{Authority, Uri},
    },
    response::{IntoResponse as _, Response},
};

/// The address at which browsers reach the host, if it differs from the one it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalUrl {
    host: String,
}

impl FromStr for ExternalUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Option<Uri> = text.parse().ok();
        let is_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        let is_root = |uri: &Uri| uri.path() == "/" && uri.query().is_none();
        let host = uri
            .filter(|uri| is_web(uri) && is_root(uri))
            .and_then(|uri| uri.host().map(str::to_owned));
        let host = host.filter(|host| !host.is_empty()).ok_or(
            "expected http:// or https:// and a host name without a path, such as https://conductor.example.org/",
        )?;
        Ok(Self { host })
    }
}

/// Writes a URL that is read as the same one.
impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/", self.host)
    }
}

/// The accepted host names.
#[derive(Clone, Default)]
pub(super) struct AcceptedHostNames {
    /// The address the server listens on, if names must be checked.
    loopback: Option<SocketAddr>,
    external: Option<ExternalUrl>,
}

impl AcceptedHostNames {
    pub(super) fn new(address: Option<SocketAddr>, external: Option<ExternalUrl>) -> Self {
        Self {
            loopback: address.filter(|address| address.ip().is_loopback()),
            external,
        }
    }

    /// Refuses a request for another name. A request without a name does not come from a browser.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let Some(address) = self.loopback else {
            return Ok(());
        };
        let mut names = headers.get_all(header::HOST).iter();
        let Some(name) = names.find(|name| !self.know(name)) else {
            return Ok(());
        };
        let name = String::from_utf8_lossy(name.as_bytes());
        let text = format!(
            "Refused: unknown host name {}. Without a password, the host answers only to IP addresses, localhost and its external URL, because any web page can point a name of its own at it. Use {address}, or set --web.external-url=URL to the name that people or a proxy use.\n",
            name.escape_debug()
        );
        Err(Box::new(
            (StatusCode::MISDIRECTED_REQUEST, text).into_response(),
        ))
    }

    fn know(&self, name: &HeaderValue) -> bool {
        let Ok(authority) = Authority::try_from(name.as_bytes()) else {
            return false;
        };
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let external = self.external.as_ref();
        bare.unwrap_or(host).parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || external.is_some_and(|url| host.eq_ignore_ascii_case(&url.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(names: &AcceptedHostNames, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        names.admit(&headers).is_ok()
    }

    fn address(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }

    #[test]
    fn a_host_for_this_machine_alone_answers_to_addresses_and_its_own_names() {
        let mut url: ExternalUrl = "https://Conductor.example.org:8443".parse().unwrap();
        for listening in ["127.0.0.1:9750", "[::1]:9750", "127.3.2.1:80"] {
            let plain = AcceptedHostNames::new(address(listening), None);
            let named = AcceptedHostNames::new(address(listening), Some(url));
            for host in [
                "127.0.0.1:9750",
                "127.0.0.1",
                "10.1.2.3:80",
                "[::1]:9750",
                "[::1]",
                "localhost:9750",
                "LocalHost",
            ] {
                assert!(answers(&plain, host) && answers(&named, host), "{host}");
            }
            for host in [
                "evil.example:9750",
                "localhost.evil.example",
                "127.0.0.1.evil.example:9750",
                "[localhost]",
                "evil.example@",
                "",
                " ",
            ] {
                assert!(!answers(&plain, host) && !answers(&named, host), "{host}");
            }
            assert!(!answers(&plain, "conductor.example.org"));
            assert!(answers(&named, "conductor.example.org"));
            assert!(answers(&named, "conductor.example.org:9750"));
            assert!(plain.admit(&HeaderMap::new()).is_ok(), "HTTP/1.0");
            url = named.external.unwrap();
        }
    }

    #[test]
    fn of_several_names_each_has_to_be_known() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        let names = AcceptedHostNames::new(address("127.0.0.1:1"), None);
        assert!(names.admit(&headers).is_err());
    }

    #[test]
    fn a_host_for_the_network_answers_to_any_name() {
        for listening in ["0.0.0.0:9750", "[::]:9750", "192.0.2.1:9750"] {
            assert!(answers(
                &AcceptedHostNames::new(address(listening), None),
                "db.example"
            ));
        }
    }

    #[test]
    fn an_external_url_has_a_scheme_and_a_name_and_no_path() {
        for good in ["http://a", "https://a.example/", "https://a:8443"] {
            assert!(good.parse::<ExternalUrl>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "a.example:80",
            "/",
            "ftp://a/",
            "https://",
            "https://a/conductor",
            "https://a/?q=1",
        ] {
            let error = bad.parse::<ExternalUrl>().unwrap_err();
            assert!(
                error.contains("expected http:// or https://"),
                "{bad}: {error}"
            );
        }
    }
}
