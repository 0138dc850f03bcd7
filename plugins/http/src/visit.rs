//! A whole visit: from the URL, through its redirects, to the verdict on the response.

use std::sync::Arc;

use conductor_net::{CheckError, NameResolver, connect, ip_address};
use conductor_plugin_api::{Failure, tracing};
use hyper::{
    Method, Request, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    ca_source::CaSource,
    exchange::{HttpResponse, exchange},
    plan::RequestPlan,
    progress::{CheckPhase, CheckProgress},
    target::{BadUrl, TargetUrl},
    tls,
};

pub(crate) struct UrlChecker {
    plan: RequestPlan,
    /// The CAs of `ca_file`, or the system's.
    cas: Arc<CaSource>,
    resolver: NameResolver,
}

impl UrlChecker {
    pub(crate) fn new(plan: RequestPlan) -> Result<Self, Failure> {
        let cas = match plan.ca_file.as_deref() {
            Some(file) => CaSource::file(file),
            None => CaSource::system(),
        };
        if plan.target.https || plan.ca_file.is_some() {
            // Report bad or missing CAs when the probe is created, not at its first check.
            cas.read()?;
        }
        Ok(Self {
            plan,
            cas,
            resolver: NameResolver::default(),
        })
    }

    /// Runs the whole visit; returns the message for a healthy report.
    pub(crate) async fn visit(
        &mut self,
        progress: &mut CheckProgress<'_>,
    ) -> Result<String, CheckError> {
        let mut target = self.plan.target.clone();
        let mut method = self.plan.method.clone();
        for hops in 0..=MAX_REDIRECTS {
            let what = |error| match error {
                CheckError::Platform(message) if hops > 0 => {
                    CheckError::Platform(format!("after a redirect to {target}: {message}"))
                }
                error => error,
            };
            let answer = self.ask(&target, &method, progress).await.map_err(what)?;
            let Some(location) = self.redirect(&answer) else {
                return self.judge(&answer, progress).map_err(what);
            };
            let next = location.to_str().map_err(|_| BadUrl::Malformed);
            let next = next
                .and_then(|location| target.join(location))
                .map_err(|rule| {
                    what(CheckError::Platform(format!(
                        "{} to a location that {rule}",
                        show(answer.status)
                    )))
                })?;
            tracing::debug!(from = %target, to = %next, status = answer.status.as_u16(), "redirected");
            method = after(answer.status, method);
            target = next;
        }
        Err(CheckError::Platform(format!(
            "more than {MAX_REDIRECTS} redirects, the last to {target}"
        )))
    }

    async fn ask(
        &mut self,
        target: &TargetUrl,
        method: &Method,
        progress: &mut CheckProgress<'_>,
    ) -> Result<HttpResponse, CheckError> {
        let request = self.request(target, method)?;
        let (host, port) = (target.address(), target.port);
        let addresses = match ip_address(&host, port) {
            Some(address) => vec![address],
            None => {
                progress.enter(CheckPhase::Resolve);
                self.resolver.resolve(&host, port).await?
            }
        };
        progress.enter(CheckPhase::Connect);
        let stream = connect(&addresses, &progress.limit).await?;
        let is_last = |status| !self.leads_on(status);
        if target.https {
            let trust = self.cas.now().await.map_err(CheckError::Host)?;
            let stream = tls::shake_hands(stream, &target.host, trust, progress).await?;
            exchange(stream, request, is_last, progress).await
        } else {
            exchange(stream, request, is_last, progress).await
        }
    }

    fn request(&self, target: &TargetUrl, method: &Method) -> Result<Request<String>, CheckError> {
        let mut request = Request::new(String::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.path.parse().map_err(|_| {
            CheckError::Platform(format!("{target} has a path that cannot be requested"))
        })?;
        *request.headers_mut() = self.headers(target)?;
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            // Some servers require a length of 0 from a request that could have a body.
            let length = HeaderValue::from_static("0");
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        Ok(request)
    }

    fn headers(&self, target: &TargetUrl) -> Result<HeaderMap, CheckError> {
        let host = HeaderValue::try_from(target.authority()).map_err(|_| {
            CheckError::Platform(format!("{target} has a host that cannot be requested"))
        })?;
        let mut headers = HeaderMap::from_iter([
            (header::HOST, host),
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            ),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ]);
        let at_home = self.plan.target.trusts(target);
        for (name, value) in &self.plan.headers {
            if at_home || SENT_ANYWHERE.contains(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        Ok(headers)
    }

    fn redirect<'a>(&self, answer: &'a HttpResponse) -> Option<&'a HeaderValue> {
        let location = answer.headers.get(header::LOCATION)?;
        self.leads_on(answer.status).then_some(location)
    }

    /// Returns `true` if a response of this status is followed, if it has a location.
    fn leads_on(&self, status: StatusCode) -> bool {
        self.plan.follow_redirects
            && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
            && !self.expects(status)
    }

    fn expects(&self, status: StatusCode) -> bool {
        self.plan
            .expect_status
            .iter()
            .any(|range| range.contains(status))
    }

    fn judge(
        &self,
        answer: &HttpResponse,
        progress: &mut CheckProgress<'_>,
    ) -> Result<String, CheckError> {
        progress.set("response_status", answer.status.as_u16().into());
        #[expect(clippy::cast_precision_loss, reason = "at most MAX_BODY")]
        progress.set("response_bytes", answer.body.len() as f64);

        let status = show(answer.status);
        if !self.expects(answer.status) {
            let expected = self.plan.expect_status.iter().map(ToString::to_string);
            let expected = expected.collect::<Vec<_>>().join(", ");
            return Err(CheckError::Platform(format!(
                "{status}, expected {expected}"
            )));
        }
        match &self.plan.contains {
            Some(text) if !has(&answer.body, text) => Err(CheckError::Platform(format!(
                "{status}, but the body of {} bytes does not contain {text:?}",
                answer.body.len()
            ))),
            _ => Ok(status),
        }
    }
}

/// Returns the method of the request that follows a redirect: RFC 9110, section 15.4.
fn after(status: StatusCode, method: Method) -> Method {
    match (status.as_u16(), &method) {
        (303, &Method::HEAD) => method,
        (303, _) | (301 | 302, &Method::POST) => Method::GET,
        _ => method,
    }
}

fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

fn show(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("(unknown status)");
    format!("{} {reason}", status.as_u16())
}

const USER_AGENT: &str = concat!("conductor-http/", env!("CARGO_PKG_VERSION"));

const MAX_REDIRECTS: usize = 10;

/// The configured headers that also go to other hosts: they contain no secrets.
const SENT_ANYWHERE: [HeaderName; 3] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::USER_AGENT];
