//! Keys of an HTTP platform's `config` table.

use std::{collections::BTreeMap, path::PathBuf};

use conductor_plugin_api::schemars;
use serde::{Deserialize, Serialize};

use crate::status::{ExpectedStatus, StatusRange};

/// Checks that a URL responds as expected.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// URL to request, beginning with `http://` or `https://`; without user name and password.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "uri"),
        example = &"https://shop.example/health"
    )]
    pub(crate) url: String,

    /// Request method; requests have no body.
    #[serde(default)]
    pub(crate) method: RequestMethod,

    /// Status codes that are healthy: numbers from 100 to 599, and ranges such as `"200-299"`.
    #[serde(default = "default_expect_status")]
    #[schemars(length(min = 1), extend("default" = ["200-299"], "examples" = [[200, "300-399"]]))]
    pub(crate) expect_status: Vec<ExpectedStatus>,

    /// Text that must occur in the first 1 MiB of the body.
    #[schemars(length(min = 1, max = 1_048_576), example = &"\"status\":\"ok\"")]
    pub(crate) contains: Option<String>,

    /// Headers to send. They stay with the host of `url`: redirects to another host do not carry them.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {
        "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        "description": "letters, digits and !#$%&'*+.^_`|~-"
    }))]
    pub(crate) headers: BTreeMap<String, String>,

    /// Follow redirects, up to 10.
    #[serde(default = "default_follow_redirects")]
    pub(crate) follow_redirects: bool,

    /// Absolute path of a PEM file with the CA certificates to trust instead of the system's. The plugin reads it only
    /// where `[plugin.http] allow` lists `read PATH`.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    #[schemars(example = &"/etc/ssl/our-ca.pem")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Request method.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
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

fn default_expect_status() -> Vec<ExpectedStatus> {
    vec![StatusRange::SUCCESS.into()]
}

fn default_follow_redirects() -> bool {
    true
}
