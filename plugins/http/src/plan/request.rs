//! Keys of the request.

use conductor_net::{
    TlsClient,
    http::{TargetUrl, authorize, named},
};
use hyper::header::HeaderMap;

use crate::config::{HttpConfig, HttpVersion, RequestMethod};

/// Returns the headers of the config and of its authentication.
pub(super) fn headers(config: &HttpConfig, faults: &mut Vec<String>) -> HeaderMap {
    let entries = config.headers.iter();
    let entries = entries.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = named(entries, faults);
    authorize(
        &mut headers,
        config.basic_auth.as_ref(),
        config.bearer.as_ref(),
        &[("oauth2", config.oauth2.is_some())],
        faults,
    );
    headers
}

/// Returns the fault of a body that is not sent.
pub(super) fn body_fault(config: &HttpConfig) -> Option<String> {
    let has_none = matches!(config.method, RequestMethod::Head);
    (has_none && config.body.is_some())
        .then(|| "key `body`: a HEAD request has no body; use another `method`".to_owned())
}

/// Returns the TLS setup; reads its files if they are needed, or if the config is refused for another key.
pub(super) fn tls(
    config: &HttpConfig,
    target: Option<&TargetUrl>,
    faults: &mut Vec<String>,
) -> Option<TlsClient> {
    let mut tls = config.tls.clone();
    match (&config.ca_file, &tls.ca_file) {
        (Some(_), Some(_)) => faults.push(
            "key `tls.ca_file`: the key `ca_file` names one already; keep one of the two"
                .to_owned(),
        ),
        (Some(path), None) if !path.is_absolute() => {
            faults.push(format!("key `ca_file`: {path:?} is not absolute; write the path from the root, such as \"/etc/ssl/our-ca.pem\""));
            return None;
        }
        (Some(path), None) => tls.ca_file = Some(path.clone()),
        (None, _) => {}
    }
    let is_https = target.is_some_and(TargetUrl::is_https);
    let client = tls.usable_client("http", is_https, faults)?;
    Some(client.offering(match config.http_version {
        None => &["h2", "http/1.1"],
        Some(HttpVersion::Http1) => &["http/1.1"],
        Some(HttpVersion::Http2) => &["h2"],
    }))
}
