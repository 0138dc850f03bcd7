//! Headers of a config, and those of authentication.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use conductor_plugin_api::{
    config::Secret,
    schemars::{self, JsonSchema},
};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// User name and password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// User name; without a colon.
    #[schemars(regex(pattern = "^[^:]*$"))]
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Returns the `authorization` header of basic authentication: RFC 7617.
pub fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    secret(format!("Basic {encoded}"))
}

/// Returns the `authorization` header for a token.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    secret(format!("Bearer {token}"))
}

/// Returns a header value that is not shown by `{:?}`; `None` if a header cannot have it.
pub fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the headers of the key `headers`. Reports those that cannot be sent, but not their values, which may be
/// secrets.
pub fn named<'a>(
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    faults: &mut Vec<String>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (text, value) in entries {
        let mut refuse = |rule: &str| faults.push(format!("key `headers.{text}`: {rule}"));
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            refuse("not a header name; use letters, digits and `-`");
            continue;
        };
        if FRAMING.contains(&name) {
            refuse("the probe sets this header itself; remove it");
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            refuse(
                "the value has control characters, which HTTP does not allow; write it on one line",
            );
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            refuse("given twice, as header names ignore case; keep one of the two");
        }
    }
    headers
}

/// Adds the `authorization` header of the key `basic_auth` or `bearer`. `others` are the keys of other ways to
/// authenticate, each with `true` if it is used.
pub fn authorize(
    headers: &mut HeaderMap,
    basic_auth: Option<&BasicAuth>,
    token: Option<&Secret>,
    others: &[(&str, bool)],
    faults: &mut Vec<String>,
) {
    let ways = [
        (
            "headers.authorization",
            headers.contains_key(header::AUTHORIZATION),
        ),
        ("basic_auth", basic_auth.is_some()),
        ("bearer", token.is_some()),
    ];
    let ways: Vec<_> = ways
        .iter()
        .chain(others)
        .filter(|(_, used)| *used)
        .collect();
    if let [(one, _), (other, _), ..] = ways[..] {
        faults.push(format!(
            "key `{other}`: `{one}` already authenticates the request; keep one of the two"
        ));
    }
    let value = match (basic_auth, token) {
        (Some(BasicAuth { username, .. }), _) if username.contains(':') => {
            faults.push(
                "key `basic_auth.username`: a user name with a colon cannot be sent; correct it"
                    .to_owned(),
            );
            None
        }
        (Some(BasicAuth { username, password }), _) => basic(username, password.expose()),
        (None, Some(token)) => {
            let value = bearer(token.expose());
            if value.is_none() {
                faults.push(
                    "key `bearer`: the token has characters that a header cannot have; write it on one line"
                        .to_owned(),
                );
            }
            value
        }
        (None, None) => None,
    };
    if let Some(value) = value {
        headers.insert(header::AUTHORIZATION, value);
    }
}

/// Headers that determine the end of a message and the fate of the connection.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
