//! `[template.<name>]`: settings that platforms inherit, and the modules of `/probe`.

use std::{collections::BTreeMap, fmt, num::NonZeroU16, time::Duration};

use conductor_types::Priority;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    breaker,
    check::TableValidator,
    duration::{self, SHORTEST, given},
    heartbeat,
    host::HostConfig,
    platform::{PLUGIN_ID, label_rule},
};
use crate::{
    parameters::{self, ParameterValues},
    secrets::PlatformSecrets,
};

/// Settings for targets that clients name, with defaults filled in.
#[derive(Clone, PartialEq)]
pub struct TemplateConfig {
    /// 1–64 ASCII letters, digits, `_`, `-` and `.`; unique in the file.
    pub name: String,
    /// The id of the plugin that checks the targets; the plugin may not exist.
    pub plugin: String,
    /// Longest time one check may take.
    pub timeout: Duration,
    /// The input of the plugin, an object in which texts contain parameters. It contains secrets and must not be
    /// shown.
    config: Value,
    /// The defaults of its own parameters.
    params: BTreeMap<String, Value>,
    /// The values of `config` that are secrets.
    pub secrets: PlatformSecrets,
}

/// Leaves out `config`, which may contain secrets.
impl fmt::Debug for TemplateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateConfig")
            .field("name", &self.name)
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

impl TemplateConfig {
    /// Returns `true` if the value at this path of the config contains a parameter.
    #[must_use]
    pub fn has_parameter_at(&self, path: &[String]) -> bool {
        let inside = path
            .iter()
            .try_fold(&self.config, |value, key| match value {
                Value::Array(list) => list.get(key.parse::<usize>().ok()?),
                other => other.get(key),
            });
        inside
            .and_then(Value::as_str)
            .is_some_and(|text| text.contains("{{"))
    }

    /// Returns the plugin's input for a target. It contains secrets and must not be shown.
    #[must_use]
    pub fn config_for(&self, target: &str) -> Value {
        let mut config = self.config.clone();
        let values = ParameterValues {
            name: None,
            target: Some(target),
            params: &self.params,
        };
        // Those that exist have been checked.
        parameters::fill(&mut config, &values, &mut Vec::new());
        config
    }
}

/// `[template.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Template",
    description = "Settings that platforms inherit, and a module of `/probe` if it needs no parameter but the target."
)]
#[expect(
    dead_code,
    reason = "a template gives its settings to platforms as values, and these are read there"
)]
pub(crate) struct RawTemplateConfig {
    /// Template that this one is based on: it has the settings of that one, and overrides them key by key.
    #[schemars(with = "String")]
    #[serde(default)]
    template: Option<String>,
    /// Id of the plugin that checks the platforms.
    #[schemars(with = "String", extend("pattern" = PLUGIN_ID), length(max = 64))]
    #[serde(default)]
    plugin: Option<String>,
    /// Parameters of this template, with their defaults. `{{NAME}}` in a text of `config`, `labels`, `url` and `description` is
    /// replaced by the value.
    #[schemars(extend("propertyNames" = parameter_rule(), "additionalProperties" = parameter_value()))]
    #[serde(default)]
    params: BTreeMap<String, Value>,
    /// Parameters without a default, which each platform has to give.
    #[schemars(extend("items" = parameter_name()))]
    #[serde(default)]
    required: Vec<String>,
    /// As for a platform.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    interval: Option<duration::RawDuration>,
    /// Longest time that one check may take, as for a platform. For a target of `/probe`, at most 25s; without it,
    /// `host.timeout`.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    timeout: Option<duration::RawDuration>,
    /// As for a platform.
    #[schemars(with = "u16", range(min = 1, max = 1000))]
    #[serde(default)]
    unhealthy_after: Option<NonZeroU16>,
    /// As for a platform.
    #[schemars(with = "u16", range(min = 1, max = 1000))]
    #[serde(default)]
    healthy_after: Option<NonZeroU16>,
    /// As for a platform.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    retry_interval: Option<duration::RawDuration>,
    /// As for a platform.
    #[schemars(with = "Priority", extend("default" = "normal"))]
    #[serde(default)]
    priority: Priority,
    /// As for a platform.
    #[serde(default)]
    breaker: breaker::RawBreakerConfig,
    /// Labels of the platforms.
    #[schemars(extend("propertyNames" = label_rule()))]
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// As for a platform.
    #[schemars(with = "String")]
    #[serde(default)]
    url: Option<String>,
    /// As for a platform.
    #[schemars(with = "String")]
    #[serde(default)]
    description: Option<String>,
    /// Input of the plugin, as for a platform. In a text, `{{target}}` is replaced by the target, `{{url}}` by the target with
    /// `http://` before it if it has no scheme, and `{{name}}` by the name of the platform.
    #[serde(default)]
    config: Map<String, Value>,
}

impl RawTemplateConfig {
    /// Returns the module of `/probe`, if the template is one.
    pub(super) fn resolve(
        self,
        name: String,
        host: &HostConfig,
        check: &mut TableValidator<'_>,
    ) -> Option<TemplateConfig> {
        let plugin = self.plugin?;
        let timeout = given(self.timeout).unwrap_or(host.timeout.min(LONGEST_CHECK));
        check.duration("timeout", timeout, SHORTEST, LONGEST_CHECK);
        let config = Value::Object(self.config);
        warn_without_target(&config, check);
        if plugin == heartbeat::PLUGIN {
            let message = format!("{}: a target sends no heartbeats", check.name("plugin"));
            let help =
                "make each job a platform of its own: [platform.NAME] with plugin = \"heartbeat\"";
            check.refuse("plugin", message, help);
        }
        Some(TemplateConfig {
            name,
            plugin,
            timeout,
            config,
            params: self.params,
            secrets: PlatformSecrets::default(),
        })
    }
}

/// Warns of a module whose config does not depend on the target.
fn warn_without_target(config: &Value, check: &mut TableValidator<'_>) {
    let table = Map::from_iter([("config".to_owned(), config.clone())]);
    let mut used = parameters::used(&table).into_iter();
    if !used.any(|(_, parameter)| parameter == "target" || parameter == "url") {
        let name = check.own_name();
        check.warn_of_table(format!(
            "{name}: no text in its config contains {{{{target}}}} or {{{{url}}}}, so every target gets the same check"
        ));
    }
}

/// Returns the schema of a parameter's name.
fn parameter_rule() -> Value {
    json!({ "pattern": PARAMETER, "description": "letters, digits and `_`, a letter first" })
}

/// Returns the schema of the name of a required parameter.
fn parameter_name() -> Value {
    json!({ "type": "string", "pattern": PARAMETER })
}

/// Returns the schema of a parameter's value.
pub(super) fn parameter_value() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// The pattern of a parameter's name.
const PARAMETER: &str = "^[A-Za-z][A-Za-z0-9_]*$";

/// The longest time for a check, for which a client waits.
const LONGEST_CHECK: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_that_a_request_fills_in_are_known() {
        let template = TemplateConfig {
            name: "a".to_owned(),
            plugin: "b".to_owned(),
            timeout: Duration::from_secs(1),
            params: BTreeMap::new(),
            config: serde_json::json!({ "x": { "y": [1, "{{url}}"] }, "z": "none" }),
            secrets: PlatformSecrets::default(),
        };
        let has = |path: &[&str]| {
            let path: Vec<_> = path.iter().map(|key| (*key).to_owned()).collect();
            template.has_parameter_at(&path)
        };
        assert!(has(&["x", "y", "1"]));
        for path in [&["x", "y", "0"][..], &["x"], &["z"], &["x", "y", "2"], &[]] {
            assert!(!has(path), "{path:?}");
        }
    }
}
