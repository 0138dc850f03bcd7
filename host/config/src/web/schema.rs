//! The keys of a web config: those of exporter-toolkit, with the values it accepts.

use std::{collections::BTreeMap, sync::LazyLock};

use conductor_runtime::schema::CompiledSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// A web config as it is written; every scalar is text.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawWebConfig {
    pub(super) tls_server_config: RawTlsConfig,
    pub(super) http_server_config: RawHttpConfig,
    pub(super) basic_auth_users: BTreeMap<String, String>,
    pub(super) rate_limit: RawRateLimit,
}

/// `tls_server_config`; the keys are explained in exporter-toolkit's documentation.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawTlsConfig {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_ca_file: Option<String>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) prefer_server_cipher_suites: Option<String>,
    pub(super) curve_preferences: Vec<String>,
}

/// `http_server_config`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawHttpConfig {
    pub(super) http2: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
}

/// `rate_limit`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRateLimit {
    pub(super) interval: Option<String>,
    pub(super) burst: Option<String>,
}

/// The schema that web configs are validated against.
pub(super) static SCHEMA: LazyLock<CompiledSchema> =
    LazyLock::new(|| CompiledSchema::new(schema()).expect("a test compiles our own schema"));

/// Returns `true` if a scalar accepted by the schema means yes.
pub(super) fn says_yes(text: &str) -> bool {
    YES.contains(&text)
}

fn schema() -> Value {
    let text = json!({ "type": "string" });
    let yes_or_no = json!({ "enum": YES.into_iter().chain(NO).collect::<Vec<_>>() });
    let version = json!({ "enum": ["TLS10", "TLS11", "TLS12", "TLS13"] });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tls_server_config": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "cert": text, "key": text, "client_ca": text,
                    "cert_file": text, "key_file": text, "client_ca_file": text,
                    "client_auth_type": { "enum": CLIENT_AUTH },
                    "client_allowed_sans": { "type": "array", "items": text },
                    "min_version": version, "max_version": version,
                    "cipher_suites": { "type": "array", "items": { "enum": CIPHERS } },
                    "prefer_server_cipher_suites": yes_or_no,
                    "curve_preferences": { "type": "array", "items": { "enum": CURVES } },
                },
            },
            "http_server_config": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "http2": yes_or_no,
                    "headers": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": {
                            "Strict-Transport-Security": text,
                            "X-Content-Type-Options": { "enum": ["nosniff", ""] },
                            "X-Frame-Options": { "enum": ["deny", "sameorigin", ""] },
                            "X-XSS-Protection": text,
                            "Content-Security-Policy": text,
                        },
                    },
                },
            },
            "basic_auth_users": { "type": "object", "additionalProperties": text },
            "rate_limit": {
                "type": "object",
                "additionalProperties": false,
                "properties": { "interval": text, "burst": text },
            },
        },
    })
}

/// As the toolkit's YAML reader interprets them.
const YES: [&str; 4] = ["true", "yes", "on", "True"];
const NO: [&str; 4] = ["false", "no", "off", "False"];

/// `RequireClientCert` is an older name of `RequireAnyClientCert`.
const CLIENT_AUTH: [&str; 6] = [
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
];

/// The ciphers that Go considers secure, in the order of its documentation; a remark names those this host lacks.
const CIPHERS: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

const CURVES: [&str; 4] = ["CurveP256", "CurveP384", "CurveP521", "X25519"];
