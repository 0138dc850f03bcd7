//! Requests through a proxy.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::pin,
};

use conductor_net::{
    CheckError, HostNameError,
    http::{BasicAuth, TargetUrl, basic, judge, show_status},
};
use conductor_plugin_api::Failure;
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_socks::{Error as SocksError, tcp::Socks5Stream};
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
        match self.kind {
            ProxyKind::Http => self.connect(stream, target).await,
            ProxyKind::Socks5 => {
                let there = target.host();
                let there = (there.as_str(), target.port());
                let tunnel = match &self.auth {
                    None => Socks5Stream::connect_with_socket(stream, there).await,
                    Some((user, password)) => {
                        let auth = (user.as_str(), password.as_str());
                        Socks5Stream::connect_with_password_and_socket(
                            stream, there, auth.0, auth.1,
                        )
                        .await
                    }
                };
                tunnel
                    .map(Socks5Stream::into_inner)
                    .map_err(|error| self.judge_socks(&error, target))
            }
        }
    }

    /// Sends CONNECT; every status of success opens the tunnel.
    async fn connect(
        &self,
        stream: TcpStream,
        target: &TargetUrl,
    ) -> Result<TcpStream, CheckError> {
        let refused = |error: &hyper::Error| match judge(error) {
            CheckError::Platform(why) => self.refused(target, &why),
            error => error,
        };
        let request = self.connect_request(target).map_err(|_| {
            CheckError::Platform(format!("{target} has a host that cannot be requested"))
        })?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, mut connection) = opened.map_err(|error| refused(&error))?;
        let mut response = pin!(sender.send_request(request));
        let mut has_ended = false;
        let response = poll_fn(|cx| {
            // The response has its error.
            has_ended = has_ended || connection.poll_without_shutdown(cx).is_ready();
            response.as_mut().poll(cx)
        });
        let status = response.await.map_err(|error| refused(&error))?.status();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(self.unauthenticated());
        }
        if !status.is_success() {
            return Err(self.refused(target, &show_status(status)));
        }
        Ok(connection.into_parts().io.into_inner())
    }

    fn connect_request(&self, target: &TargetUrl) -> hyper::http::Result<Request<String>> {
        let there = match target.url().port() {
            Some(_) => target.authority().to_owned(),
            None => format!("{}:{}", target.authority(), target.port()),
        };
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(&there)
            .header(header::HOST, &there);
        if let Some(value) = self.authorization() {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        request.body(String::new())
    }

    fn judge_socks(&self, error: &SocksError, target: &TargetUrl) -> CheckError {
        match error {
            SocksError::PasswordAuthFailure(_)
            | SocksError::NoAcceptableAuthMethods
            | SocksError::AuthorizationRequired => self.unauthenticated(),
            SocksError::InvalidAuthValues(rule) => {
                self.failed(&format!("key `proxy_auth`: {rule}; correct it"))
            }
            SocksError::GeneralSocksServerFailure => self.refused(target, "general failure"),
            SocksError::ConnectionNotAllowedByRuleset => {
                self.refused(target, "its rules do not allow that")
            }
            SocksError::NetworkUnreachable => self.refused(target, "network unreachable"),
            SocksError::HostUnreachable => self.refused(target, "host unreachable"),
            SocksError::ConnectionRefused => self.refused(target, "connection refused"),
            SocksError::TtlExpired => self.refused(target, "timeout (TTL expired)"),
            SocksError::CommandNotSupported | SocksError::AddressTypeNotSupported => {
                self.refused(target, &error.to_string().to_lowercase())
            }
            SocksError::Io(error) => match CheckError::of("the connection failed", error) {
                CheckError::Platform(why) => self.refused(target, &why),
                error => error,
            },
            _ => self.failed("its response is not that of a SOCKS5 proxy; correct `proxy`"),
        }
    }

    fn unauthenticated(&self) -> CheckError {
        self.failed(match &self.auth {
            None => {
                "it requires authentication; set `proxy_auth` to a user name and password that it accepts"
            }
            Some(_) => "it refuses the user name or the password; correct `proxy_auth`",
        })
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
