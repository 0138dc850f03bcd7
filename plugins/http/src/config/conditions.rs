//! Keys of conditions.

use std::{borrow::Cow, fmt};

use conductor_net::{TOTAL, TimedPhases};
use conductor_plugin_api::{
    config::Duration,
    schemars::{self, JsonSchema, Schema, SchemaGenerator, json_schema},
};
use serde::Deserialize;

/// A condition on a value of a body in JSON. Without any other key than `path`, the value must exist.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonConfig {
    /// JSONPath of the value (RFC 9535); if it finds several values, the condition is on each.
    #[schemars(regex(pattern = r"^\$"), length(max = 4096), example = &"$.checks[*].status")]
    pub(crate) path: String,
    /// The value must be this text, number or truth value.
    pub(crate) equals: Option<JsonScalar>,
    /// The value must not be this text, number or truth value.
    pub(crate) not_equals: Option<JsonScalar>,
    /// The value must be a number above this.
    pub(crate) above: Option<f64>,
    /// The value must be a number below this.
    pub(crate) below: Option<f64>,
    /// The value must be a text that matches this regular expression.
    #[schemars(length(max = 4096))]
    pub(crate) matches: Option<String>,
    /// `false` if there must be no such value.
    pub(crate) exists: Option<bool>,
}

/// A text, number or truth value.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "expected a text, a number, or true or false")]
pub(crate) enum JsonScalar {
    Bool(bool),
    Number(f64),
    Text(String),
}

impl fmt::Display for JsonScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

impl JsonSchema for JsonScalar {
    fn schema_name() -> Cow<'static, str> {
        "JsonScalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// The phases of a check, each over all its requests.
pub(crate) struct HttpPhases;

impl TimedPhases for HttpPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        (
            "connect",
            "The TCP connection, and the way through a proxy.",
        ),
        ("tls", "The TLS handshake."),
        ("request", "Sending the request."),
        ("first_byte", "From there to the head of the response."),
        ("transfer", "The body."),
    ];
}

/// Remaining validity of the certificate that is not enough.
#[derive(Clone, Copy, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateLimits {
    /// The platform is degraded if the certificate expires sooner.
    #[schemars(example = &"14d")]
    pub(crate) degraded_before: Option<Duration>,
    /// The platform is unhealthy if the certificate expires sooner.
    #[schemars(example = &"2d")]
    pub(crate) unhealthy_before: Option<Duration>,
}
