//! A whole visit: from the URL, through its redirects, to the verdict on the response.

use conductor_net::{
    CheckError, NameResolver, TlsClient, connect,
    http::{TargetUrl, show_status},
    ip_address,
};
use conductor_plugin_api::{Status, tracing};
use cookie_store::CookieStore;
use hyper::{
    Request, StatusCode, Version,
    header::{self, HeaderValue},
};
use tokio::net::TcpStream;

use crate::{
    conditions::ResponseVerdict,
    config::{HttpVersion, IpVersion},
    exchange::{HttpResponse, exchange, exchange_http2},
    plan::RequestPlan,
    progress::{CheckPhase, CheckProgress},
    redirect,
    request::build,
    unexpected::UnexpectedBody,
};

pub(crate) struct UrlChecker {
    plan: RequestPlan,
    /// The TLS setup for redirects to other hosts.
    tls_elsewhere: TlsClient,
    resolver: NameResolver,
    unexpected: UnexpectedBody,
}

impl UrlChecker {
    pub(crate) fn new(plan: RequestPlan) -> Self {
        Self {
            tls_elsewhere: plan.tls.for_other_hosts(),
            plan,
            resolver: NameResolver::default(),
            unexpected: UnexpectedBody::default(),
        }
    }

    /// Runs the whole visit; returns status and message of the report.
    pub(crate) async fn visit(
        &mut self,
        progress: &mut CheckProgress<'_>,
    ) -> Result<(Status, String), CheckError> {
        let token = self.token(progress).await?;
        let mut target = self.plan.target.clone();
        let mut method = self.plan.method.clone();
        let mut cookies = None;
        loop {
            let redirects = progress.findings.redirects;
            let place = |message| match redirects {
                0 => message,
                _ => format!("after a redirect to {target}: {message}"),
            };
            let what = |error| match error {
                CheckError::Platform(message) => CheckError::Platform(place(message)),
                error => error,
            };
            let request = build(
                &self.plan,
                &target,
                &method,
                cookies.as_ref(),
                token.as_ref(),
            )?;
            let answer = self.ask(&target, request, progress).await.map_err(what)?;
            let location = redirect::location(&answer.headers);
            let Some(location) = location.filter(|_| self.leads_on(answer.status)) else {
                let verdict = self.judge(&answer, &target, progress);
                return Ok(match verdict.status {
                    Status::Healthy => (verdict.status, verdict.message),
                    status => (status, place(verdict.message)),
                });
            };
            if redirects == self.plan.max_redirects {
                return Err(CheckError::Platform(format!(
                    "more than {redirects} redirects, the last to {target}"
                )));
            }
            let next = redirect::follow(&target, location).map_err(|rule| {
                let status = show_status(answer.status);
                what(CheckError::Platform(format!(
                    "{status} to a location that {rule}"
                )))
            })?;
            tracing::debug!(from = %target, to = %next, status = answer.status.as_u16(), "redirected");
            keep_cookies(&mut cookies, &answer, &target);
            method = redirect::next_method(answer.status, method);
            target = next;
            progress.findings.redirects += 1;
        }
    }

    /// Returns the `authorization` header with a token, if the plan needs one.
    async fn token(
        &mut self,
        progress: &mut CheckProgress<'_>,
    ) -> Result<Option<HeaderValue>, CheckError> {
        let Some(source) = &self.plan.token else {
            return Ok(None);
        };
        if let Some(token) = source.current() {
            return Ok(Some(token));
        }
        let (endpoint, request) = (source.endpoint().clone(), source.request()?);
        // Its phases are not those of the platform.
        progress.is_aside = true;
        let answer = Box::pin(self.ask(&endpoint, request, progress)).await;
        progress.is_aside = false;
        let Some(source) = &mut self.plan.token else {
            return Ok(None);
        };
        match answer {
            Ok(answer) => source.accept(&answer).map(Some),
            Err(CheckError::Platform(message)) => Err(source.failed(&message)),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        target: &TargetUrl,
        mut request: Request<String>,
        progress: &mut CheckProgress<'_>,
    ) -> Result<HttpResponse, CheckError> {
        let stream = self.reach(target, progress).await?;
        if let Some(proxy) = self.plan.proxy.as_ref().filter(|p| p.forwards(target)) {
            proxy.address(&mut request, target);
        }
        // What most checks do not use is boxed: thousands of them wait at the same time.
        if target.is_https() {
            return Box::pin(self.ask_tls(stream, target, request, progress)).await;
        }
        let is_last = |status| !self.leads_on(status);
        if self.requires_http2() {
            Box::pin(exchange_http2(stream, request, "http", is_last, progress)).await
        } else {
            exchange(stream, request, is_last, progress).await
        }
    }

    async fn ask_tls(
        &mut self,
        stream: TcpStream,
        target: &TargetUrl,
        request: Request<String>,
        progress: &mut CheckProgress<'_>,
    ) -> Result<HttpResponse, CheckError> {
        progress.enter(CheckPhase::Tls);
        let host = target.host();
        let tls = match host == self.plan.target.host() {
            true => &self.plan.tls,
            false => &self.tls_elsewhere,
        };
        let mut handshake = tls.connect(stream, &host, &progress.limit).await;
        if handshake.is_refused {
            let tls = tls.clone();
            let again = self.reach(target, progress).await;
            progress.enter(CheckPhase::Tls);
            let offered = tls.offer_outdated(handshake, again, &host, &progress.limit);
            handshake = Box::pin(offered).await;
        }
        if let Some(expiry) = handshake.presented.and_then(|chain| chain.expiry()) {
            progress.set_expiry(expiry);
        }
        let stream = handshake.outcome?;
        let is_last = |status| !self.leads_on(status);
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            Box::pin(exchange_http2(stream, request, "https", is_last, progress)).await
        } else if self.requires_http2() {
            Err(CheckError::Platform(format!(
                "{host} does not offer HTTP/2"
            )))
        } else {
            exchange(stream, request, is_last, progress).await
        }
    }

    fn requires_http2(&self) -> bool {
        self.plan.http_version == Some(HttpVersion::Http2)
    }

    /// Connects to the server, through the proxy if the plan has one.
    async fn reach(
        &mut self,
        target: &TargetUrl,
        progress: &mut CheckProgress<'_>,
    ) -> Result<TcpStream, CheckError> {
        let stream = self.connect(target, progress).await?;
        match &self.plan.proxy {
            Some(proxy) if !proxy.forwards(target) => Box::pin(proxy.tunnel(stream, target)).await,
            _ => Ok(stream),
        }
    }

    /// Connects to the proxy, if the plan has one, or to the server.
    async fn connect(
        &mut self,
        target: &TargetUrl,
        progress: &mut CheckProgress<'_>,
    ) -> Result<TcpStream, CheckError> {
        let (host, port) = match &self.plan.proxy {
            None => (target.address(), target.port()),
            Some(proxy) => (proxy.host.clone(), proxy.port),
        };
        let connected = Self::connect_to(
            &mut self.resolver,
            self.plan.ip_version,
            &host,
            port,
            progress,
        );
        match (connected.await, &self.plan.proxy) {
            (Err(CheckError::Platform(message)), Some(proxy)) => Err(proxy.failed(&message)),
            (connected, _) => connected,
        }
    }

    async fn connect_to(
        resolver: &mut NameResolver,
        version: Option<IpVersion>,
        host: &str,
        port: u16,
        progress: &mut CheckProgress<'_>,
    ) -> Result<TcpStream, CheckError> {
        let mut addresses = match ip_address(host, port) {
            Some(address) => vec![address],
            None => {
                progress.enter(CheckPhase::Resolve);
                resolver.resolve(host, port).await?
            }
        };
        if let Some(version) = version {
            addresses.retain(|address| version.has(address));
            if addresses.is_empty() {
                let name = version.name();
                return Err(CheckError::Platform(format!(
                    "{host} has no {name} address"
                )));
            }
        }
        progress.enter(CheckPhase::Connect);
        connect(&addresses, &progress.limit).await
    }

    /// Returns `true` if a response of this status is followed, if it has a location.
    fn leads_on(&self, status: StatusCode) -> bool {
        self.plan.max_redirects > 0
            && redirect::leads_on(status)
            && !self.plan.conditions.expects(status)
    }

    fn judge(
        &mut self,
        answer: &HttpResponse,
        target: &TargetUrl,
        progress: &mut CheckProgress<'_>,
    ) -> ResponseVerdict {
        progress.findings.status = Some(answer.status.as_u16());
        progress.findings.version = version(answer.version);
        progress.findings.bytes = u32::try_from(answer.body.len()).ok();
        if answer.status == StatusCode::UNAUTHORIZED
            && let Some(source) = &mut self.plan.token
        {
            source.forget();
        }
        let verdict = self.plan.conditions.judge(answer, target, progress);
        self.unexpected.log(&verdict, answer);
        verdict
    }
}

/// Keeps the cookies of a redirect for the requests that follow it.
fn keep_cookies(store: &mut Option<CookieStore>, answer: &HttpResponse, from: &TargetUrl) {
    for cookie in answer.headers.get_all(header::SET_COOKIE) {
        let store = store.get_or_insert_default();
        // As in browsers, a cookie that is not valid is left out.
        let _ = store.parse(&String::from_utf8_lossy(cookie.as_bytes()), from.url());
    }
}

fn version(version: Version) -> Option<f64> {
    match version {
        Version::HTTP_09 => Some(0.9),
        Version::HTTP_10 => Some(1.0),
        Version::HTTP_11 => Some(1.1),
        Version::HTTP_2 => Some(2.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conductor_net::TimeLimit;

    use super::*;
    use crate::config::HttpConfig;

    #[test]
    fn a_check_that_waits_is_small_as_thousands_wait_at_once() {
        let config: HttpConfig = serde_json::from_str(r#"{"url": "http://127.0.0.1/"}"#).unwrap();
        let mut checker = UrlChecker::new(config.try_into().unwrap());
        let mut progress = CheckProgress::new(TimeLimit::of(&|| Duration::ZERO));
        let size = size_of_val(&checker.visit(&mut progress));
        assert!(size <= 2560, "{size} bytes");
    }
}
