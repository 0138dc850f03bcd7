//! Keys of authentication.

use conductor_plugin_api::{config::Secret, schemars};
use serde::Deserialize;

/// OAuth 2.0 client credentials (RFC 6749, section 4.4).
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuth2Config {
    /// URL of the token endpoint.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        example = &"https://login.example/oauth2/token"
    )]
    pub(crate) token_url: String,
    /// Client id.
    pub(crate) client_id: String,
    /// Client secret.
    pub(crate) client_secret: Secret,
    /// Scopes to request.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Place of id and secret in the request for a token: its `header` or its `body`.
    #[serde(default)]
    pub(crate) client_auth: ClientAuth,
}

/// Place of id and secret in the request for a token.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuth {
    /// Basic authentication.
    #[default]
    Header,
    /// Fields of the form.
    Body,
}
