//! `[platform.<name>]` `heartbeat`: reports by which a job says that it has run.

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TableValidator;

/// The terms under which the host accepts heartbeats for a platform.
#[derive(Clone, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// The secret that each heartbeat carries; it must not be shown.
    pub token: String,
}

/// `heartbeat` of a platform, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Heartbeat",
    description = "Heartbeats of a job, by `POST /api/v1/heartbeat/NAME`."
)]
pub(crate) struct RawHeartbeat {
    /// Secret that the job sends with each heartbeat, of 16 characters or more: `{ file = "path" }`, or a text that may have
    /// `${NAME}` in it.
    #[schemars(extend(
        "type" = ["string", "object"],
        "minLength" = 1,
        "properties" = { "file": { "type": "string" } },
        "required" = ["file"],
        "additionalProperties" = false,
    ))]
    token: String,
}

impl RawHeartbeat {
    pub(super) fn resolve(self, check: &mut TableValidator<'_>) -> HeartbeatConfig {
        let token = self.token;
        // One that could not be looked up is empty, and has its mistake already.
        if !token.is_empty() {
            let rule = if token.len() < SHORTEST_TOKEN {
                Some("is shorter than 16 characters")
            } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                Some("has a character other than ASCII letters, digits and signs")
            } else {
                None
            };
            if let Some(rule) = rule {
                let message = format!("{}: the secret {rule}", check.name("token"));
                let help = "generate one: openssl rand -hex 16";
                check.refuse("token", message, help);
            }
        }
        HeartbeatConfig { token }
    }
}

/// Checks that a platform has heartbeats if its plugin is the one that reads them, and only then.
pub(super) fn check_plugin(plugin: &str, check: &mut TableValidator<'_>) {
    let is_accepted = check.has("heartbeat");
    if plugin == PLUGIN && !is_accepted {
        let message = format!(
            "{}: the plugin {PLUGIN} needs the key `heartbeat`, by which the host accepts heartbeats",
            check.own_name()
        );
        let help = "add heartbeat = { token = { file = \"…\" } }, and let the job send that token";
        check.refuse_table(message, help);
    } else if plugin != PLUGIN && is_accepted {
        let message = format!(
            "{}: the plugin {plugin} does not read heartbeats",
            check.name("heartbeat")
        );
        let help = format!("use plugin = \"{PLUGIN}\", or remove the key");
        check.refuse("heartbeat", message, help);
    }
}

/// The plugin that reads heartbeats.
pub(super) const PLUGIN: &str = "heartbeat";
/// In bytes: 16 hex digits are 64 bits.
const SHORTEST_TOKEN: usize = 16;
