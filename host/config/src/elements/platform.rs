//! `[platform.<name>]`: one monitored thing.

use std::{collections::BTreeMap, fmt, num::NonZeroU16, time::Duration};

use conductor_types::Priority;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    breaker::{self, BreakerConfig},
    check::TableValidator,
    confirmation::{ConfirmationConfig, RawConfirmation},
    duration::{self, LONGEST, SHORTEST, given},
    heartbeat::{self, HeartbeatConfig, RawHeartbeat},
    host::HostConfig,
    template::parameter_value,
};
use crate::{secrets::PlatformSecrets, source::SourceLocation};

/// One monitored thing, with defaults filled in.
#[derive(Clone, PartialEq)]
pub struct PlatformConfig {
    /// 1–64 ASCII letters, digits, `_`, `-` and `.`; unique in the file.
    pub name: String,
    /// The id of the plugin that checks it; the plugin may not exist.
    pub plugin: String,
    /// Period between two starts of its check, from one tick to a year.
    pub interval: Duration,
    /// Longest time one check may take, at most the interval.
    pub timeout: Duration,
    /// Confirmation of its state.
    pub confirmation: ConfirmationConfig,
    /// Importance of its checks when the machine is short of resources.
    pub priority: Priority,
    /// The breaker settings.
    pub breaker: BreakerConfig,
    /// Names and values chosen by the operator; the names are letters, digits and `_`.
    pub labels: BTreeMap<String, String>,
    /// Its address for people, beginning with `http://` or `https://`.
    pub url: Option<String>,
    /// Its description for people.
    pub description: Option<String>,
    /// The template that it has settings of.
    pub template: Option<String>,
    /// The terms under which the host accepts heartbeats for it; `None` if it accepts none.
    pub heartbeat: Option<HeartbeatConfig>,
    /// The input of its plugin: always an object, empty if the file has none. It contains secrets and must not be
    /// shown.
    pub config: Value,
    /// The values of `config` that are secrets.
    pub secrets: PlatformSecrets,
    /// The place of the platform's name in the file.
    pub location: SourceLocation,
}

/// Leaves out `config`, which may contain secrets.
impl fmt::Debug for PlatformConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformConfig")
            .field("name", &self.name)
            .field("plugin", &self.plugin)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// `[platform.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Platform",
    description = "One monitored platform.",
    extend("anyOf" = [{ "required": ["plugin"] }, { "required": ["template"] }])
)]
pub(crate) struct RawPlatformConfig {
    /// Id of the plugin that checks it. Without it: that of the template.
    #[schemars(with = "String", extend("pattern" = PLUGIN_ID), length(max = 64))]
    #[serde(default)]
    plugin: Option<String>,
    /// Template whose settings this platform has; it overrides them key by key, and tables are merged.
    #[schemars(with = "String")]
    #[serde(default)]
    template: Option<String>,
    /// Value of `{{target}}` in the template's texts.
    #[schemars(with = "String", length(min = 1))]
    #[serde(default)]
    #[expect(dead_code, reason = "filled in before")]
    target: Option<String>,
    /// Values of the template's own parameters.
    #[schemars(extend("additionalProperties" = parameter_value()))]
    #[serde(default)]
    #[expect(dead_code, reason = "filled in before")]
    params: BTreeMap<String, Value>,
    /// Period between two starts of its check. Without it: `host.interval`.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    interval: Option<duration::RawDuration>,
    /// Longest time that one check may take, at most the interval. Without it: `host.timeout`, or the interval if that
    /// is shorter.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    timeout: Option<duration::RawDuration>,
    /// Number of consecutive results worse than its state that change it, at most 1000. A failed check counts as
    /// a result. Until then, the state of the last check is shown as soft. Without it:
    /// `host.unhealthy_after`.
    #[schemars(with = "u16", range(min = 1, max = 1000))]
    #[serde(default)]
    unhealthy_after: Option<NonZeroU16>,
    /// Number of consecutive results better than its state that change it, at most 1000. Without it:
    /// `host.healthy_after`.
    #[schemars(with = "u16", range(min = 1, max = 1000))]
    #[serde(default)]
    healthy_after: Option<NonZeroU16>,
    /// Time from a check whose result is not confirmed yet to the next one, at most the interval; `"0s"` leaves it to the
    /// schedule. Without it: `host.retry_interval`, or the interval if that is shorter.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    retry_interval: Option<duration::RawDuration>,
    /// Importance of its checks when the machine is short of resources: `critical` checks are never stretched, `low`
    /// ones first.
    #[schemars(with = "Priority", extend("default" = "normal"))]
    #[serde(default)]
    priority: Priority,
    /// Circuit breaker of this platform; a key without a value here is as in `[breaker]`.
    #[serde(default)]
    breaker: breaker::RawBreakerConfig,
    /// Names and values of your choice, for grouping and selection.
    #[schemars(extend("propertyNames" = label_rule()))]
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Address of the platform for people, `http://` or `https://`: the status page has a link to it.
    #[schemars(with = "String", length(max = 2000))]
    #[serde(default)]
    url: Option<String>,
    /// Description of the platform for people, at most 500 characters.
    #[schemars(with = "String", length(max = 500))]
    #[serde(default)]
    description: Option<String>,
    /// Heartbeats of a job, which the host accepts for this platform; for the plugin `heartbeat` alone.
    #[schemars(with = "RawHeartbeat")]
    #[serde(default)]
    heartbeat: Option<RawHeartbeat>,
    /// Input of the plugin, whose schema lists the keys. In a text, `${NAME}` is replaced by that environment variable
    /// of the host, and `$${` is a literal `${`; `{ file = "path" }` in place of a text is replaced by the content of
    /// the file.
    #[serde(default)]
    config: Map<String, Value>,
}

impl RawPlatformConfig {
    pub(super) fn resolve(
        self,
        name: String,
        location: SourceLocation,
        host: &HostConfig,
        breaker: &BreakerConfig,
        check: &mut TableValidator<'_>,
    ) -> PlatformConfig {
        let interval = given(self.interval).unwrap_or(host.interval);
        let timeout = given(self.timeout).unwrap_or(host.timeout.min(interval));
        let mut ranges = check.duration("interval", interval, SHORTEST, LONGEST);
        ranges &= check.duration("timeout", timeout, SHORTEST, LONGEST);
        if ranges {
            check.timeout(timeout, interval);
            check.at_least_a_tick("interval", interval, host.tick);
        }
        let confirmation = RawConfirmation {
            unhealthy_after: self.unhealthy_after,
            healthy_after: self.healthy_after,
            retry_interval: self.retry_interval,
        };
        let confirmation = confirmation.resolve(&host.confirmation, interval, host.tick, check);
        confirmation.warn(check);
        // One without a plugin has its mistake already.
        let plugin = self.plugin.unwrap_or_default();
        heartbeat::check_plugin(&plugin, check);
        if let Some(url) = &self.url {
            check_url(url, check);
        }
        let heartbeat = self
            .heartbeat
            .map(|heartbeat| heartbeat.resolve(&mut check.table(&["heartbeat"])));
        PlatformConfig {
            name,
            plugin,
            interval,
            timeout,
            confirmation,
            priority: self.priority,
            breaker: self
                .breaker
                .resolve(breaker, &mut check.table(&["breaker"])),
            labels: self.labels,
            url: self.url,
            description: self.description,
            template: self.template,
            heartbeat,
            config: Value::Object(self.config),
            secrets: PlatformSecrets::default(),
            location,
        }
    }
}

/// Refuses a link that a browser does not follow, or follows to something else than a page.
fn check_url(url: &str, check: &mut TableValidator<'_>) {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_none_or(str::is_empty) || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        let message = format!("{} is {url:?}, not a link to a page", check.name("url"));
        let help =
            "write it as in \"https://shop.example/\"; what the plugin checks goes into `config`";
        check.refuse("url", message, help);
    }
}

/// Returns the schema of a platform's name.
pub(super) fn name_rule() -> Value {
    json!({
        "pattern": "^[A-Za-z0-9_.-]{1,64}$",
        "not": { "enum": PARTS_OF_PATHS },
        "description": "1 to 64 letters, digits, `_`, `-` and `.`, and not `.` or `..`",
    })
}

/// Returns `true` if a platform may have this name, according to `name_rule`.
pub fn is_name(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(is_legal) && !PARTS_OF_PATHS.contains(&name)
}

/// Names that no client can request, because URL libraries resolve them.
const PARTS_OF_PATHS: [&str; 2] = [".", ".."];

/// The pattern of a plugin's id, as in its manifest.
pub(super) const PLUGIN_ID: &str = "^[a-z][a-z0-9-]*$";

/// Returns the schema of a label's name, a subset of Prometheus's without its reserved names.
pub(super) fn label_rule() -> Value {
    json!({
        "pattern": "^_?[A-Za-z][A-Za-z0-9_]*$",
        "not": { "enum": RESERVED_LABELS },
        "description": "letters, digits and `_`, not a digit or `__` first, and not `platform` or `plugin`",
    })
}

/// Returns `true` if a label of a platform may have this name, according to `label_rule`.
pub fn is_label_name(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = name.strip_prefix('_').unwrap_or(name);
    first.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(is_legal)
        && !RESERVED_LABELS.contains(&name)
}

/// Our metrics already use these.
const RESERVED_LABELS: [&str; 2] = ["platform", "plugin"];
