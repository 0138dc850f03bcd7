//! Keys of an HTTP platform's `config` table.

mod auth;
mod conditions;
mod text;
mod versions;

use std::{collections::BTreeMap, path::PathBuf};

use conductor_net::{DurationLimits, TlsConfig, http::BasicAuth};
use conductor_plugin_api::{config::Secret, schemars};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    auth::{ClientAuth, OAuth2Config},
    conditions::{CertificateLimits, HttpPhases, JsonConfig, JsonScalar},
    text::Texts,
    versions::{HttpVersion, IpVersion},
};
use crate::status::{ExpectedStatus, StatusRange};

/// Checks that a URL responds as expected.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// URL to request, beginning with `http://` or `https://`; without user name and password.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "iri"),
        example = &"https://shop.example/health"
    )]
    pub(crate) url: String,

    /// Request method.
    #[serde(default)]
    pub(crate) method: RequestMethod,

    /// Body of the request. Name its type in `headers`: `{ content-type = "application/json" }`.
    #[schemars(example = &"{\"query\": \"status\"}")]
    pub(crate) body: Option<String>,

    /// Headers to send. They stay with the host of `url`: redirects to another host do not carry them.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {
        "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        "description": "letters, digits and !#$%&'*+.^_`|~-"
    }))]
    pub(crate) headers: BTreeMap<String, String>,

    /// User name and password for basic authentication. They stay with the host of `url`.
    pub(crate) basic_auth: Option<BasicAuth>,

    /// Token for bearer authentication. It stays with the host of `url`.
    pub(crate) bearer: Option<Secret>,

    /// Gets a token for bearer authentication by OAuth 2.0 client credentials, and again before it expires.
    pub(crate) oauth2: Option<OAuth2Config>,

    /// Follow redirects: `false`, or at most 20, or at most this many.
    #[serde(default)]
    #[schemars(extend("default" = true))]
    pub(crate) follow_redirects: FollowRedirects,

    /// Proxy to use: `http://HOST:PORT`, or `socks5://HOST:PORT`, which resolves the host name.
    #[schemars(regex(pattern = r"^(http|socks5h?)://."), example = &"http://proxy.example:3128")]
    pub(crate) proxy: Option<String>,

    /// User name and password for the proxy.
    pub(crate) proxy_auth: Option<BasicAuth>,

    /// Version of IP to use alone: 4 or 6.
    pub(crate) ip_version: Option<IpVersion>,

    /// Version of HTTP to use alone; without the key, the server chooses over TLS, and HTTP/1.1 is used otherwise.
    pub(crate) http_version: Option<HttpVersion>,

    /// Ask for a compressed body; one that cannot be decoded is unhealthy then.
    #[serde(default)]
    pub(crate) compression: bool,

    /// Absolute path of a PEM file with the CA certificates to trust instead of the system's; the same as `tls.ca_file`.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    #[schemars(example = &"/etc/ssl/our-ca.pem")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    pub(crate) tls: TlsConfig,

    /// Status codes that are healthy: numbers from 100 to 599, and ranges such as `"200-299"`.
    #[serde(default = "default_expect_status")]
    #[schemars(length(min = 1), extend("default" = ["200-299"], "examples" = [[200, "300-399"]]))]
    pub(crate) expect_status: Vec<ExpectedStatus>,

    /// Text that must occur in the first 1 MiB of the body; of several, each.
    #[serde(default)]
    #[schemars(example = &"\"status\":\"ok\"")]
    pub(crate) contains: Texts,

    /// Text that must not occur in the first 1 MiB of the body; of several, none.
    #[serde(default)]
    pub(crate) not_contains: Texts,

    /// Regular expression that must match in the first 1 MiB of the body; of several, each.
    #[serde(default)]
    #[schemars(example = &"version [0-9]+")]
    pub(crate) matches: Texts,

    /// Regular expression that must not match in the first 1 MiB of the body; of several, none.
    #[serde(default)]
    pub(crate) not_matches: Texts,

    /// Conditions on values of a body in JSON.
    #[serde(default)]
    pub(crate) json: Vec<JsonConfig>,

    /// Regular expressions that headers of the response must match, by name.
    #[serde(default)]
    #[schemars(example = &serde_json::json!({ "content-type": "^application/json" }))]
    pub(crate) expect_headers: BTreeMap<String, String>,

    /// Regular expression that the URL must match after all redirects.
    #[schemars(length(max = 4096), example = &"^https://shop.example/login")]
    pub(crate) final_url: Option<String>,

    /// Least size of the body, in bytes.
    #[schemars(range(max = 1_048_576))]
    pub(crate) min_bytes: Option<u32>,

    /// Greatest size of the body, in bytes.
    #[schemars(range(max = 1_048_575))]
    pub(crate) max_bytes: Option<u32>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    pub(crate) degraded_after: Option<DurationLimits<HttpPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(example = &serde_json::json!({ "total": "2s", "first_byte": "1s" }))]
    pub(crate) unhealthy_after: Option<DurationLimits<HttpPhases>>,

    /// Remaining validity of the server's certificate that is not enough.
    #[serde(default)]
    pub(crate) certificate: CertificateLimits,
}

/// Request method.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum RequestMethod {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<RequestMethod> for hyper::Method {
    fn from(method: RequestMethod) -> Self {
        match method {
            RequestMethod::Get => Self::GET,
            RequestMethod::Head => Self::HEAD,
            RequestMethod::Options => Self::OPTIONS,
            RequestMethod::Post => Self::POST,
            RequestMethod::Put => Self::PUT,
            RequestMethod::Patch => Self::PATCH,
            RequestMethod::Delete => Self::DELETE,
        }
    }
}

/// The number of redirects to follow.
#[derive(Clone, Copy, Debug, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "expected true, false, or the number of redirects to follow, at most 50"
)]
pub(crate) enum FollowRedirects {
    /// None, or the default number.
    Switch(bool),
    /// At most this many.
    AtMost(#[schemars(range(max = 50))] u8),
}

impl Default for FollowRedirects {
    fn default() -> Self {
        Self::Switch(true)
    }
}

impl FollowRedirects {
    /// Returns the greatest number of redirects to follow.
    pub(crate) fn limit(self) -> u8 {
        match self {
            Self::Switch(false) => 0,
            // As browsers do.
            Self::Switch(true) => 20,
            Self::AtMost(limit) => limit,
        }
    }
}

fn default_expect_status() -> Vec<ExpectedStatus> {
    vec![StatusRange::SUCCESS.into()]
}
