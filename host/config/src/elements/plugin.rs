//! `[plugin.<id>]`: settings for one plugin.

use conductor_plugin_api::manifest::Need;
use conductor_runtime::wording::{nearest, shorten};
use conductor_sandbox::WorkerLimits;
use conductor_types::Isolation;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{check::TableValidator, host::HostConfig, limits};

/// Settings for one plugin, completed by the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// The isolation: in its own process, or inside the host.
    pub isolation: Isolation,
    /// Maximum number of threads it may keep busy, 1–4096.
    pub call_threads: u32,
    /// Maximum number of its stuck calls before a new generation replaces it, from 1 to `call_threads`.
    pub stuck_limit: u32,
    /// Resource limits in its own process.
    pub limits: WorkerLimits,
    /// All its permissions there, instead of those it declares; `None` to grant what it declares.
    pub allow: Option<Vec<Need>>,
    /// `true` if `allow` closes UDP and name lookups, which are open to every other plugin.
    pub no_udp: bool,
}

/// `[plugin.<id>]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Plugin", description = "Settings of one plugin.")]
pub(crate) struct RawPluginConfig {
    /// Isolation of this plugin. Without it: `host.isolation`.
    #[schemars(with = "Isolation")]
    #[serde(default)]
    isolation: Option<Isolation>,
    /// Maximum number of threads that it may keep busy. Without it: `host.call_threads`.
    #[schemars(with = "u32", range(min = 1, max = 4096))]
    #[serde(default)]
    call_threads: Option<u32>,
    /// Number of its stuck calls at which a new generation replaces it. Without it: `host.stuck_limit`.
    #[schemars(with = "u32", range(min = 1, max = 4096))]
    #[serde(default)]
    stuck_limit: Option<u32>,
    /// Resource limits of its worker; a key without a value here is as in `host.limits`.
    #[schemars(with = "limits::RawLimits")]
    #[serde(default)]
    limits: limits::RawLimits,
    /// Permissions of the plugin in its worker, instead of those that it declares: `network` and `unix-sockets` if it
    /// declares them, and any `read PATH` and `run PATH`. `no-udp` also closes UDP, and with it name lookups.
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    allow: Option<Vec<String>>,
}

impl PluginConfig {
    /// Returns the settings of a plugin without its own table.
    pub(crate) fn of_host(host: &HostConfig) -> Self {
        Self {
            isolation: host.isolation,
            call_threads: host.call_threads,
            stuck_limit: host.stuck_limit,
            limits: host.limits,
            allow: None,
            no_udp: false,
        }
    }

    /// Returns `true` if its generations can stay unchanged when `other` replaces this config.
    #[must_use]
    pub fn runs_like(&self, other: &Self) -> bool {
        let same_limit = Self {
            stuck_limit: other.stuck_limit,
            ..self.clone()
        };
        same_limit == *other
    }

    /// Returns `true` if generations under `other` have the same permissions and isolation as under this config.
    #[must_use]
    pub fn permits_like(&self, other: &Self) -> bool {
        (self.isolation, self.no_udp, &self.allow) == (other.isolation, other.no_udp, &other.allow)
    }
}

impl RawPluginConfig {
    pub(super) fn resolve(self, host: &HostConfig, check: &mut TableValidator<'_>) -> PluginConfig {
        let call_threads = self.call_threads.unwrap_or(host.call_threads);
        let stuck_limit = self
            .stuck_limit
            .unwrap_or(host.stuck_limit.min(call_threads));
        check.stuck_limit(stuck_limit, call_threads);
        let is_no_udp = |text: &String| text == NO_UDP;
        let no_udp = self.allow.iter().flatten().any(is_no_udp);
        PluginConfig {
            isolation: self.isolation.unwrap_or(host.isolation),
            call_threads,
            stuck_limit,
            limits: self.limits.resolve(
                &host.limits,
                self.call_threads,
                &mut check.table(&["limits"]),
            ),
            allow: self.allow.map(|written| allowed(&written, check)),
            no_udp,
        }
    }
}

fn allowed(written: &[String], check: &mut TableValidator<'_>) -> Vec<Need> {
    let mut needs = Vec::new();
    for (at, text) in written.iter().enumerate() {
        if text == NO_UDP {
            continue;
        }
        match text.parse::<Need>() {
            Ok(need) => needs.push(need),
            Err(rule) => {
                let mut check = check.table(&["allow"]);
                let item = at.to_string();
                let message = format!(
                    "{}: {:?} is not a permission",
                    check.name(&item),
                    shorten(text)
                );
                let help = match nearest(text, Need::WORDS.into_iter().chain([NO_UDP])) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => rule.to_string(),
                };
                check.refuse(&item, message, help);
            }
        }
    }
    needs
}

/// The one word of `allow` that removes a permission.
const NO_UDP: &str = "no-udp";
