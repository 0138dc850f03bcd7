//! Keys of a TCP platform's `config` table.

use conductor_net::{DurationLimits, StartTls, TOTAL, TimedPhases, TlsConfig};
use conductor_plugin_api::schemars;
use serde::Deserialize;

/// Checks that a port or a Unix socket accepts connections and, if asked, speaks TLS and responds as expected.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpConfig {
    /// Host and port from 1 to 65535, `HOST:PORT`; an IPv6 address in brackets, a link-local one with its zone
    /// (`[fe80::1%eth0]:22`). A Unix socket as `unix:/PATH`.
    #[schemars(
        regex(pattern = r"^(unix:/.+|(\[[^\[\]/@ ]+\]|[^:\[\]/@ ]+):0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))$"),
        example = &"db.example:5432",
        example = &"[::1]:22",
        example = &"unix:/run/redis/redis.sock"
    )]
    pub(crate) address: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    pub(crate) tls: Option<TlsConfig>,

    /// Protocol in which TLS is started after connecting.
    pub(crate) starttls: Option<StartTls>,

    /// Text to send once connected.
    #[schemars(length(min = 1), example = &"PING\r\n")]
    pub(crate) send: Option<String>,

    /// Text that must occur in the first 64 KiB of the response.
    #[schemars(length(min = 1, max = 65536), example = &"+PONG")]
    pub(crate) expect: Option<String>,

    /// Conversation of several steps, instead of `send` and `expect`.
    #[serde(default)]
    #[schemars(extend("examples" = [[{"expect": "^220 ", "send": "QUIT\r\n"}, {"expect": "^221 "}]]))]
    pub(crate) script: Vec<ScriptStep>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    pub(crate) degraded_after: Option<DurationLimits<TcpPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "connect": "200ms"}]))]
    pub(crate) unhealthy_after: Option<DurationLimits<TcpPhases>>,
}

/// The phases of a connection.
pub(crate) struct TcpPhases;

impl TimedPhases for TcpPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("starttls", "Until TLS can start in the protocol."),
        ("tls", "The TLS handshake."),
        (
            "first_byte",
            "From there, including the sending, to the first byte of the response.",
        ),
        ("response", "From there to the end of the conversation."),
    ];
}

/// One step of a conversation: waits for a match, then sends.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptStep {
    /// Regular expression that must match what the server sends; `^` and `$` match at line ends. The next step begins
    /// after the match.
    #[schemars(length(min = 1), example = &"^220 ")]
    pub(crate) expect: Option<String>,

    /// Text to send then.
    #[schemars(length(min = 1), example = &"QUIT\r\n")]
    pub(crate) send: Option<String>,
}
