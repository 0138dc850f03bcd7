//! The URL of a request: `http://host:port/path?query`, `https://…`, or `unix:///path/of/socket`.

use std::{fmt, path::PathBuf};

use hyper::Uri;

use super::error::UrlError;

/// The URL of a request. Display and Debug show the server alone: the path may be a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct RequestUrl {
    pub(crate) server: ServerAddress,
    /// Begins with `/`.
    path: String,
    query: Option<String>,
}

/// The place where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ServerAddress {
    Tcp {
        https: bool,
        /// A name or an address, without brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl RequestUrl {
    /// Parses a URL. The path of a `unix:` URL is that of the socket; the request's path follows with [`Self::join`].
    ///
    /// # Errors
    /// If it is none, contains a user, or has a scheme other than http, https and unix.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(socket) = text.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket);
            if !socket.starts_with('/') || socket.ends_with('/') {
                return Err(UrlError::NoSocket);
            }
            return Ok(Self {
                server: ServerAddress::Unix(socket.into()),
                path: "/".to_owned(),
                query: None,
            });
        }
        let uri: Uri = text.parse()?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        // Use the loopback address for a server that listens on all addresses.
        let host = match host {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        let port = authority.port_u16();
        let after_colon = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        // An IPv6 address ends with a bracket.
        if port.is_none() && after_colon.is_some_and(|port| !port.ends_with(']')) {
            return Err(UrlError::Port);
        }
        let server = ServerAddress::Tcp {
            https,
            host: host.to_owned(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
        };
        Ok(Self {
            server,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// Returns the URL below this one; `path` begins with `/` and may have a query, which replaces this URL's.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        Self {
            server: self.server.clone(),
            path: format!("{}{path}", self.path.trim_end_matches('/')),
            query,
        }
    }

    /// Returns the URL that a redirect names: an absolute one, or a path on the same server.
    pub(crate) fn redirected(&self, location: &str) -> Result<Self, UrlError> {
        if location.starts_with('/') && !location.starts_with("//") {
            let root = Self {
                path: String::new(),
                ..self.clone()
            };
            return Ok(root.join(location));
        }
        Self::parse(location)
    }

    /// Returns `true` for https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        matches!(self.server, ServerAddress::Tcp { https: true, .. })
    }

    /// Returns `true` for a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.server, ServerAddress::Unix(_))
    }

    /// Returns the path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query, without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns path and query, as in a request line.
    pub(crate) fn request_target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Returns host and port, as in the Host header.
    pub(crate) fn authority(&self) -> String {
        match &self.server {
            ServerAddress::Tcp { host, port, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            ServerAddress::Tcp { host, port, .. } => format!("{host}:{port}"),
            ServerAddress::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for RequestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            ServerAddress::Tcp { https, .. } => {
                let scheme = if *https { "https" } else { "http" };
                write!(f, "{scheme}://{}", self.authority())
            }
            ServerAddress::Unix(socket) => write!(f, "unix://{}", socket.display()),
        }
    }
}

impl fmt::Debug for RequestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestUrl({self}/…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_path() {
        for (text, shown, target) in [
            ("http://a.example", "http://a.example:80", "/"),
            (
                "https://a.example/x/?k=v",
                "https://a.example:443",
                "/x/?k=v",
            ),
            ("https://[::1]:8443/secret", "https://[::1]:8443", "/secret"),
            ("http://0.0.0.0:9", "http://127.0.0.1:9", "/"),
            ("unix:///run/docker.sock", "unix:///run/docker.sock", "/"),
        ] {
            let url = RequestUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.request_target(), target);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn a_path_is_added_below_the_one_of_the_url() {
        let url = RequestUrl::parse("http://a/base/?old=1").unwrap();
        assert_eq!(url.join("/b?c=d").request_target(), "/base/b?c=d");
        let socket = RequestUrl::parse("unix:///run/docker.sock").unwrap();
        assert_eq!(socket.join("/version").request_target(), "/version");
        assert_eq!(url.redirected("/z?q").unwrap().request_target(), "/z?q");
        let elsewhere = url.redirected("https://b/y").unwrap();
        assert_eq!(elsewhere.to_string(), "https://b:443");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("ftp://x", "not http, https or unix"),
            ("x", "not http, https or unix"),
            ("http://me:secret@x", "user and password"),
            ("http://x:port", "port is not a number"),
            ("http://x:99999", "port is not a number"),
            ("unix://run/x", "names no socket"),
            ("unix:///", "names no socket"),
        ] {
            let error = RequestUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
