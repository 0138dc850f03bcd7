//! Requests through a proxy.

use std::{
    fmt,
    future::{Ready, ready},
    io,
    task::{Context, Poll},
};

use conductor_net::{
    CheckError, HostNameError,
    http::{BasicAuth, TargetUrl, basic},
};
use conductor_plugin_api::Failure;
use hyper::{
    Request, Uri,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;
use url::{Host, Url};

/// A proxy of the config.
pub(crate) struct ProxyPlan {
    kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) port: u16,
    auth: Option<(String, String)>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum ProxyKind {
    Http,
    Socks5,
}

impl ProxyPlan {
    /// Parses the keys `proxy` and `proxy_auth`.
    pub(crate) fn new(
        text: &str,
        auth: Option<&BasicAuth>,
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let mut refuse = |rule: &str| faults.push(format!("key `proxy`: {rule}"));
        let Ok(url) = Url::parse(text) else {
            refuse("not a URL; write it such as \"http://proxy.example:3128\"");
            return None;
        };
        let kind = match url.scheme() {
            "http" => ProxyKind::Http,
            "socks5" | "socks5h" => ProxyKind::Socks5,
            _ => {
                refuse(
                    "the URL begins neither with http:// nor with socks5://; the probe knows only these proxies",
                );
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            refuse(
                "the URL has a user name; write it as `proxy_auth = { username = \"…\", password = \"…\" }`",
            );
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        if let Err(rule) = HostNameError::check(&host) {
            refuse(&format!("the host {rule}; correct it"));
            return None;
        }
        let default = match kind {
            ProxyKind::Http => 80,
            ProxyKind::Socks5 => 1080,
        };
        Some(Self {
            kind,
            host,
            port: url.port().unwrap_or(default),
            auth: auth.map(|auth| (auth.username.clone(), auth.password.expose().to_owned())),
        })
    }

    /// Returns `true` if the proxy forwards requests to `target` itself, without a tunnel.
    pub(crate) fn forwards(&self, target: &TargetUrl) -> bool {
        self.kind == ProxyKind::Http && !target.is_https()
    }

    /// Makes a request one for the proxy that forwards it.
    pub(crate) fn address(&self, request: &mut Request<String>, target: &TargetUrl) {
        let url = format!("http://{}{}", target.authority(), target.path());
        if let Ok(url) = url.parse() {
            *request.uri_mut() = url;
        }
        if let Some(value) = self.authorization() {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
    }

    /// Connects to `target` through the proxy at the other end of `stream`.
    pub(crate) async fn tunnel(
        &self,
        stream: TcpStream,
        target: &TargetUrl,
    ) -> Result<TcpStream, CheckError> {
        let proxy = Uri::from_static("http://proxy");
        let host = target.authority();
        let there = match target.url().port() {
            Some(_) => format!("https://{host}"),
            None => format!("https://{host}:{}", target.port()),
        };
        let there: Uri = there.parse().map_err(|_| {
            CheckError::Platform(format!("{target} has a host that cannot be requested"))
        })?;
        let connector = OpenedConnection(Some(TokioIo::new(stream)));
        match self.kind {
            ProxyKind::Http => {
                let mut tunnel = Tunnel::new(proxy, connector);
                if let Some(value) = self.authorization() {
                    tunnel = tunnel.with_auth(value);
                }
                let tunnel = tunnel.call(there).await;
                tunnel.map(TokioIo::into_inner).map_err(|error| {
                    // The library has one kind of error for each response; only this one is not about the target.
                    match error.to_string() {
                        text if text.contains("authorization") => {
                            self.failed("it requires authentication, or refuses `proxy_auth`")
                        }
                        text => self.refused(target, &text),
                    }
                })
            }
            ProxyKind::Socks5 => {
                let mut socks = SocksV5::new(proxy, connector);
                if let Some((user, password)) = self.auth.clone() {
                    socks = socks.with_auth(user, password);
                }
                let tunnel = socks.call(there).await;
                let refused = |error: &dyn fmt::Debug| self.refused(target, &format!("{error:?}"));
                tunnel
                    .map(TokioIo::into_inner)
                    .map_err(|error| refused(&error))
            }
        }
    }

    /// Returns the failure of a check that did not get through: the platform itself was not asked.
    pub(crate) fn failed(&self, why: &str) -> CheckError {
        CheckError::Host(Failure::new(format!("cannot use the proxy {self}: {why}")))
    }

    fn refused(&self, target: &TargetUrl, why: &str) -> CheckError {
        let host = target.authority();
        CheckError::Platform(format!(
            "the proxy {self} does not connect to {host}: {why}"
        ))
    }

    fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.auth.as_ref()?;
        basic(user, password)
    }
}

impl fmt::Display for ProxyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A connection to the proxy that is open already, for the library's connectors.
struct OpenedConnection(Option<TokioIo<TcpStream>>);

impl Service<Uri> for OpenedConnection {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(
            self.0
                .take()
                .ok_or_else(|| io::ErrorKind::NotConnected.into()),
        )
    }
}
