//! Redirects: which responses lead on, to where, and with which method.

use std::borrow::Cow;

use conductor_net::http::{BadUrl, TargetUrl};
use hyper::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};

/// Returns `true` if clients follow a response of this status to its location.
pub(crate) fn leads_on(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=303 | 307 | 308)
}

/// Returns the location of a response; `None` without one, or if it is empty.
pub(crate) fn location(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get(header::LOCATION)
        .filter(|location| !location.is_empty())
}

/// Returns the target of a redirect from `target`.
pub(crate) fn follow(target: &TargetUrl, location: &HeaderValue) -> Result<TargetUrl, BadUrl> {
    target.join(&text(location.as_bytes()))
}

/// Returns the method of the request that follows a redirect: RFC 9110, section 15.4.
pub(crate) fn next_method(status: StatusCode, method: Method) -> Method {
    match (status.as_u16(), &method) {
        (303, &Method::HEAD) => method,
        (303, _) | (301 | 302, &Method::POST) => Method::GET,
        _ => method,
    }
}

/// Returns a location as text: UTF-8, or else with its other bytes percent-encoded.
fn text(location: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(location) {
        Ok(text) => text.into(),
        Err(_) => {
            let encode = |byte: &u8| match byte.is_ascii() {
                true => char::from(*byte).to_string(),
                false => format!("%{byte:02X}"),
            };
            location.iter().map(encode).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_that_is_not_utf8_keeps_its_bytes() {
        assert_eq!(text(b"/\xfcber"), "/%FCber");
        assert_eq!(text("/über".as_bytes()), "/über");
    }
}
