//! `[template.<name>]`: settings for targets that clients name, the modules of `/probe`.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    check::TableValidator,
    duration::{self, SHORTEST, given},
    heartbeat,
    host::HostConfig,
    platform::PLUGIN_ID,
};
use crate::secrets::PlatformSecrets;

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
        each_text(&mut config, &mut Vec::new(), &mut |text, _| {
            if text.contains("{{") {
                *text = filled(text, target);
            }
        });
        config
    }
}

/// `[template.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Template",
    description = "Settings for targets that clients name: a module of `/probe`."
)]
pub(crate) struct RawTemplateConfig {
    /// Id of the plugin that checks the targets.
    #[schemars(extend("pattern" = PLUGIN_ID), length(max = 64))]
    plugin: String,
    /// Longest time that one check may take, at most 25s. Without it: `host.timeout`.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    timeout: Option<duration::RawDuration>,
    /// Input of the plugin, as for a platform. In a text, `{{target}}` is replaced by the target, and `{{url}}` by the target
    /// with `http://` before it if it has no scheme.
    #[serde(default)]
    config: Map<String, Value>,
}

impl RawTemplateConfig {
    pub(super) fn resolve(
        self,
        name: String,
        host: &HostConfig,
        check: &mut TableValidator<'_>,
    ) -> TemplateConfig {
        let timeout = given(self.timeout).unwrap_or(host.timeout.min(LONGEST_CHECK));
        check.duration("timeout", timeout, SHORTEST, LONGEST_CHECK);
        let mut config = Value::Object(self.config);
        check_parameters(&mut config, check);
        if self.plugin == heartbeat::PLUGIN {
            let message = format!("{}: a target sends no heartbeats", check.name("plugin"));
            let help =
                "make each job a platform of its own: [platform.NAME] with plugin = \"heartbeat\"";
            check.refuse("plugin", message, help);
        }
        TemplateConfig {
            name,
            plugin: self.plugin,
            timeout,
            config,
            secrets: PlatformSecrets::default(),
        }
    }
}

/// Refuses parameters that do not exist, and warns of a config without any.
fn check_parameters(config: &mut Value, check: &mut TableValidator<'_>) {
    let mut has_parameter = false;
    let mut unknown = Vec::new();
    each_text(config, &mut Vec::new(), &mut |text, path| {
        let rest = text.replace(TARGET, "").replace(URL, "");
        has_parameter |= rest.len() < text.len();
        if let Some((_, after)) = rest.split_once("{{")
            && let Some((parameter, _)) = after.split_once("}}")
        {
            unknown.push((path.to_vec(), parameter.to_owned()));
        }
    });
    for (path, parameter) in unknown {
        let table: Vec<_> = path.iter().map(String::as_str).collect();
        let Some((key, parents)) = table.split_last() else {
            continue;
        };
        let mut inside = vec!["config"];
        inside.extend(parents);
        let mut check = check.table(&inside);
        let message = format!(
            "{}: there is no parameter {{{{{parameter}}}}}",
            check.name(key)
        );
        check.refuse(key, message, "there are {{target}} and {{url}}");
    }
    if !has_parameter {
        let name = check.own_name();
        check.warn_of_table(format!(
            "{name}: no text in its config contains {{{{target}}}} or {{{{url}}}}, so every target gets the same check"
        ));
    }
}

/// Calls `act` with each text inside a value, and the keys and indexes that lead to it.
fn each_text(
    value: &mut Value,
    path: &mut Vec<String>,
    act: &mut impl FnMut(&mut String, &[String]),
) {
    match value {
        Value::String(text) => act(text, path),
        Value::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                path.push(index.to_string());
                each_text(value, path, act);
                path.pop();
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                path.push(key.clone());
                each_text(value, path, act);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The longest time for a check, for which a client waits.
const LONGEST_CHECK: Duration = Duration::from_secs(25);
/// Returns a text with its parameters filled in; a target that looks like a parameter is not.
fn filled(text: &str, target: &str) -> String {
    let parts = text.split(TARGET);
    let parts: Vec<_> = parts
        .map(|part| part.replace(URL, &url_of(target)))
        .collect();
    parts.join(target)
}

/// Returns the target as a URL.
fn url_of(target: &str) -> Cow<'_, str> {
    match target.contains("://") {
        true => Cow::Borrowed(target),
        false => Cow::Owned(format!("http://{target}")),
    }
}

/// The parameters that a request fills in.
const TARGET: &str = "{{target}}";
const URL: &str = "{{url}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_that_a_request_fills_in_are_known() {
        let template = TemplateConfig {
            name: "a".to_owned(),
            plugin: "b".to_owned(),
            timeout: Duration::from_secs(1),
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

    #[test]
    fn a_target_is_filled_in_once_and_as_a_url_where_one_is_wanted() {
        for (text, target, wanted) in [
            ("{{target}}", "a:1", "a:1"),
            ("{{url}}", "a:1/x", "http://a:1/x"),
            ("{{url}}/health", "https://a", "https://a/health"),
            ("{{target}} {{url}} {{target}}", "a", "a http://a a"),
            ("{{target}}", "{{url}}", "{{url}}"),
            ("{{url}}", "{{target}}", "http://{{target}}"),
            ("none", "a", "none"),
        ] {
            assert_eq!(filled(text, target), wanted, "{text} {target}");
        }
    }
}
