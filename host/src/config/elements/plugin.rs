//! `[plugin.<id>]`: settings for one plugin.

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::Check;
use super::host::HostConfig;

/// Settings for one plugin, with the host's where it has none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// Where the plugin runs.
    pub isolation: Isolation,
    /// The most threads it may keep busy at a time, 1–4096.
    pub call_threads: u32,
    /// How many of its calls may be stuck at a time before it is quarantined, from 1 to `call_threads`.
    pub stuck_limit: u32,
}

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In a process of its own, which it can bring down alone.
    #[default]
    Process,
    /// In the host's process: only for a plugin that is trusted fully.
    InProcess,
}

/// `[plugin.<id>]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Plugin", description = "Settings for one plugin.")]
pub(in crate::config) struct Written {
    /// Where this plugin runs; without it, as host.isolation says.
    #[schemars(with = "Isolation")]
    #[serde(default)]
    isolation: Option<Isolation>,
    /// The most threads it may keep busy at a time; without it, as in host.
    #[schemars(with = "u32", range(min = 1, max = 4096))]
    #[serde(default)]
    call_threads: Option<u32>,
    /// How many of its calls may be stuck at a time before it is quarantined; without it, as in host.
    #[schemars(with = "u32", range(min = 1, max = 4096))]
    #[serde(default)]
    stuck_limit: Option<u32>,
}

impl PluginConfig {
    /// What holds for a plugin without a table of its own.
    pub(in crate::config) fn of_host(host: &HostConfig) -> Self {
        Self {
            isolation: host.isolation,
            call_threads: host.call_threads,
            stuck_limit: host.stuck_limit,
        }
    }

    /// Whether its generations can stay as they are when `other` takes this config's place.
    #[must_use]
    pub fn runs_like(&self, other: &Self) -> bool {
        let same_limit = Self {
            stuck_limit: other.stuck_limit,
            ..*self
        };
        same_limit == *other
    }
}

impl Written {
    pub(super) fn resolve(self, host: &HostConfig, check: &mut Check<'_>) -> PluginConfig {
        let call_threads = self.call_threads.unwrap_or(host.call_threads);
        let stuck_limit = self
            .stuck_limit
            .unwrap_or(host.stuck_limit.min(call_threads));
        check.stuck_limit(stuck_limit, call_threads);
        PluginConfig {
            isolation: self.isolation.unwrap_or(host.isolation),
            call_threads,
            stuck_limit,
        }
    }
}
