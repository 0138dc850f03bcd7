//! Removal of malformed parts from a file, so that the rest of it can be validated.

use conductor_runtime::wording::nearest;
use serde_json::Value;

/// A malformed key or value.
#[derive(Clone, Debug)]
pub(crate) struct MalformedSetting {
    /// Its place.
    pub(crate) path: Vec<String>,
    /// `true` if the key is wrong rather than its value.
    pub(crate) at_key: bool,
}

/// Removes malformed values, so that the others can be validated further. Returns `false` if the file's libraries are
/// unknown, so that no plugin can be asked.
///
/// Of a platform with a mistake in its own keys, the plugin and its config remain. The whole platform is removed if one
/// of these two is wrong or missing, or if its plugin's settings are wrong.
pub(super) fn drop_misshapen(values: &mut Value, misshapen: &[MalformedSetting]) -> bool {
    let mut are_libraries_known = true;
    let mut plugins = Vec::new();
    for MalformedSetting { path, at_key } in misshapen {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            [] => return false,
            ["host", key, ..] => {
                remove(values, &path);
                // The key may be a misspelling of this one.
                are_libraries_known &= nearest(key, ["plugin_dirs"]).is_none();
                if is_meant(key, &["interval"], &OF_HOST) {
                    drop_bound_by_interval(values);
                }
            }
            ["host" | "platform"] | ["trust", ..] => {
                remove(values, &path);
                are_libraries_known = false;
            }
            // Only its name is wrong.
            ["platform" | "maintenance" | "template" | "discovery", _] if *at_key => {}
            ["platform", name, key, ..] if is_meant(key, &OF_SCHEDULE, &OF_PLUGIN) => {
                if let Some(platform) = values["platform"][name].as_object_mut() {
                    platform.retain(|key, _| OF_PLUGIN.contains(&key.as_str()));
                }
            }
            ["maintenance", name, key, ..] => drop_from_window(values, name, key),
            ["platform" | "maintenance" | "template" | "discovery", _, ..] => {
                drop(remove(values, &path[..2]))
            }
            ["plugin", _, key, ..] if is_meant(key, &OF_CALLS, &OF_SANDBOX) => {
                remove(values, &path[..3]);
            }
            ["plugin", id, ..] => {
                remove(values, &path[..2]);
                plugins.push(*id);
            }
            path => drop(remove(values, path)),
        }
    }
    let platforms = values.get_mut("platform").and_then(Value::as_object_mut);
    if let Some(platforms) = platforms {
        platforms.retain(|_, platform| !plugins.iter().any(|id| platform["plugin"] == **id));
    }
    are_libraries_known
}

/// Removes the keys that must not exceed the host's interval, which is unknown.
fn drop_bound_by_interval(values: &mut Value) {
    for key in ["timeout", "stagger", "retry_interval"] {
        remove(values, &["host", key]);
    }
    let platforms = values.get_mut("platform").and_then(Value::as_object_mut);
    for platform in platforms
        .into_iter()
        .flat_map(|platforms| platforms.values_mut())
    {
        if platform.get("interval").is_none() {
            remove(platform, &["timeout"]);
            remove(platform, &["retry_interval"]);
        }
    }
}

/// Takes a key out of a maintenance window. A key it cannot do without gets a valid value, so that no further mistake is
/// reported for its absence.
fn drop_from_window(values: &mut Value, name: &str, key: &str) {
    let Some(window) = values["maintenance"][name].as_object_mut() else {
        return;
    };
    window.remove(key);
    let required = REQUIRED_OF_WINDOW.map(|(key, _)| key);
    let meant = nearest(key, OF_WINDOW.into_iter().chain(required));
    for (key, valid) in REQUIRED_OF_WINDOW {
        if meant == Some(key) && !window.contains_key(key) {
            let valid = serde_json::from_str(valid).unwrap_or_default();
            window.insert(key.to_owned(), valid);
        }
    }
}

/// Returns `true` if a possibly misspelt key is one of `these` rather than of the `others`.
fn is_meant(key: &str, these: &[&str], others: &[&str]) -> bool {
    let known = these.iter().chain(others).copied();
    nearest(key, known).is_some_and(|near| these.contains(&near))
}

/// Keys of `[host]` that could be mistaken for its interval.
const OF_HOST: [&str; 3] = ["timeout", "isolation", "retry_interval"];
/// Keys of a platform that its plugin does not see.
const OF_SCHEDULE: [&str; 9] = [
    "interval",
    "timeout",
    "unhealthy_after",
    "healthy_after",
    "retry_interval",
    "priority",
    "breaker",
    "labels",
    "heartbeat",
];
/// Keys of a platform that its plugin validates.
const OF_PLUGIN: [&str; 2] = ["plugin", "config"];
/// Keys that a maintenance window can do without.
const OF_WINDOW: [&str; 3] = ["timezone", "checks", "reason"];
/// Keys of which a maintenance window needs some, each with a valid value as JSON.
const REQUIRED_OF_WINDOW: [(&str, &str); 6] = [
    ("platforms", r#"["*"]"#),
    ("labels", r#"{"any": "any"}"#),
    ("from", r#""1970-01-01T00:00:00Z""#),
    ("until", r#""9999-01-01T00:00:00Z""#),
    ("daily", r#"["02:00-04:00"]"#),
    ("weekly", r#"["Sat 02:00-04:00"]"#),
];
/// Keys of `[plugin.<id>]` that do not affect which configs are valid.
const OF_CALLS: [&str; 3] = ["isolation", "call_threads", "stuck_limit"];
/// Keys of `[plugin.<id>]` that affect the permissions of its probes.
const OF_SANDBOX: [&str; 2] = ["allow", "limits"];

/// Removes the value at `path` from its table; a list is removed as a whole.
pub(crate) fn remove(values: &mut Value, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    let table = values.as_object_mut()?;
    if rest.is_empty() || !table.get(*first)?.is_object() {
        return table.remove(*first);
    }
    remove(table.get_mut(*first)?, rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns `true` if the libraries are known, and the remaining values; keys with a `!` are wrong themselves.
    fn left(mut values: Value, misshapen: &[&[&str]]) -> (bool, Value) {
        let misshapen: Vec<_> = misshapen
            .iter()
            .map(|path| MalformedSetting {
                path: path.iter().map(|key| key.replace('!', "")).collect(),
                at_key: path.last().is_some_and(|key| key.ends_with('!')),
            })
            .collect();
        (drop_misshapen(&mut values, &misshapen), values)
    }

    #[test]
    fn what_is_right_is_left() {
        let values = json!({
            "host": { "plugin_dirs": ["p"], "interval": 5 },
            "hots": {},
            "plugin": { "http": { "alow": true }, "tcp": { "isolate": true } },
            "platform": {
                "a": { "plugin": "http" }, "b": { "plugin": "tcp" }, "c": { "plugin": "tcp", "x": 1 },
                "d": { "plugin": "tcp", "timout": "1s", "interval": "9s", "config": { "k": 1 } },
                "e e": { "plugin": "tcp" },
            },
        });
        let misshapen: [&[&str]; 7] = [
            &["host", "interval"],
            &["hots!"],
            &["plugin", "http", "alow!"],
            &["plugin", "tcp", "isolate!"],
            &["platform", "c", "x!"],
            &["platform", "d", "timout!"],
            &["platform", "e e!"],
        ];
        let expected = json!({
            "host": { "plugin_dirs": ["p"] },
            "plugin": { "tcp": {} },
            "platform": {
                "b": { "plugin": "tcp" },
                "d": { "plugin": "tcp", "config": { "k": 1 } },
                "e e": { "plugin": "tcp" },
            },
        });
        assert_eq!(left(values, &misshapen), (true, expected));
    }

    #[test]
    fn no_plugin_is_asked_where_the_libraries_are_not_known() {
        let values = || json!({ "host": { "plugin_dir": ["p"] }, "platform": { "a": {} } });
        for path in [
            &["host", "plugin_dir!"][..],
            &["host"],
            &["trust", "keys"],
            &["platform"],
            &[],
        ] {
            assert!(!left(values(), &[path]).0, "{path:?}");
        }
        assert!(left(values(), &[&["host", "interval"]]).0);
    }
}
