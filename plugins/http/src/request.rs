//! Builds the requests of a check.

use conductor_net::{
    CheckError,
    http::{TargetUrl, basic},
};
use cookie_store::CookieStore;
use hyper::{
    Method, Request,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;

use crate::{decode, oauth2, plan::RequestPlan};

/// Builds the request of `target`, which is the URL of the plan or that of a redirect.
pub(crate) fn build(
    plan: &RequestPlan,
    target: &TargetUrl,
    method: &Method,
    cookies: Option<&CookieStore>,
    token: Option<&HeaderValue>,
) -> Result<Request<String>, CheckError> {
    let refuse = |part: &str| {
        CheckError::Platform(format!("{target} has a {part} that cannot be requested"))
    };
    let base = base_headers(target).ok_or_else(|| refuse("host"))?;
    // A redirect that changes the method drops the body.
    let body = plan.body.as_ref().filter(|_| *method == plan.method);
    let mut request = Request::new(body.cloned().unwrap_or_default());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.path().parse().map_err(|_| refuse("path"))?;
    *request.headers_mut() = headers(plan, target, base, cookies, token);
    if body.is_none() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        // Some servers require a length of 0 from a request that could have a body.
        let length = HeaderValue::from_static("0");
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    Ok(request)
}

/// Returns the headers of every request to `target`; `None` if its host cannot be sent.
pub(crate) fn base_headers(target: &TargetUrl) -> Option<HeaderMap> {
    let host = HeaderValue::try_from(target.authority()).ok()?;
    Some(HeaderMap::from_iter([
        (header::HOST, host),
        (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
        (header::ACCEPT, HeaderValue::from_static("*/*")),
        (
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        ),
        (header::CONNECTION, HeaderValue::from_static("close")),
    ]))
}

fn headers(
    plan: &RequestPlan,
    target: &TargetUrl,
    mut headers: HeaderMap,
    cookies: Option<&CookieStore>,
    token: Option<&HeaderValue>,
) -> HeaderMap {
    if plan.compression {
        let encodings = HeaderValue::from_static(decode::ENCODINGS);
        headers.insert(header::ACCEPT_ENCODING, encodings);
    }
    if let Some(value) = target.credentials().and_then(basic_of_url) {
        headers.insert(header::AUTHORIZATION, value);
    }
    let at_home = plan.target.trusts(target);
    for (name, value) in &plan.headers {
        if at_home || SENT_ANYWHERE.contains(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    if at_home {
        oauth2::insert(&mut headers, token);
    }
    if let Some(value) = cookies.and_then(|cookies| cookie(cookies, target, &headers)) {
        headers.insert(header::COOKIE, value);
    }
    headers
}

/// Returns the `cookie` header: that of the config, and the cookies of this check.
fn cookie(cookies: &CookieStore, target: &TargetUrl, headers: &HeaderMap) -> Option<HeaderValue> {
    let configured = headers.get(header::COOKIE).map(HeaderValue::as_bytes);
    let received = cookies.get_request_values(target.url());
    let received = received.map(|(name, value)| format!("{name}={value}").into_bytes());
    let all: Vec<_> = configured
        .map(<[u8]>::to_vec)
        .into_iter()
        .chain(received)
        .collect();
    let mut value = HeaderValue::from_bytes(&all.join(&b"; "[..])).ok()?;
    value.set_sensitive(true);
    (!all.is_empty()).then_some(value)
}

/// Returns the `authorization` header for user name and password in the URL of a redirect.
fn basic_of_url((user, password): (&str, &str)) -> Option<HeaderValue> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    basic(&decode(user), &decode(password))
}

const USER_AGENT: &str = concat!("conductor-http/", env!("CARGO_PKG_VERSION"));

/// The configured headers that also go to other hosts: they contain no secrets.
const SENT_ANYWHERE: [HeaderName; 3] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::USER_AGENT];
