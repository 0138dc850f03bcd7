//! Takes misshapen parts out of a file, so that the rest of it can be judged.

use serde_json::Value;

/// Takes the values out that have a mistake of shape, each at a path, so that the others can be checked further; platforms
/// go as a whole, and so do those of plugins whose own table is wrong. False if a mistake is where everything depends on it.
pub(super) fn drop_misshapen(values: &mut Value, misshapen: &[Vec<String>]) -> bool {
    let mut plugins = Vec::new();
    for path in misshapen {
        match path.as_slice() {
            [] => return false,
            // Without them it cannot be told which libraries are meant.
            [section, key, ..] if section == "host" && key == "plugin_dirs" => return false,
            [section, ..] if section == "trust" => return false,
            [section] if section == "host" || section == "platform" => return false,
            [section, name, ..] if section == "platform" || section == "maintenance" => {
                remove(values, &[section, name]);
            }
            [section, id, ..] if section == "plugin" => {
                remove(values, &[section, id]);
                plugins.push(id.as_str());
            }
            path => {
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                remove(values, &path);
            }
        }
    }
    let platforms = values.get_mut("platform").and_then(Value::as_object_mut);
    if let Some(platforms) = platforms {
        platforms.retain(|_, platform| !plugins.iter().any(|id| platform["plugin"] == **id));
    }
    // What was meant to be that key may have been dropped as an unknown one.
    let in_host = |path: &Vec<String>| path.first().is_some_and(|section| section == "host");
    values.pointer("/host/plugin_dirs").is_some() || !misshapen.iter().any(in_host)
}

/// Takes the value at `path` out of its table; a list goes as a whole.
fn remove(values: &mut Value, path: &[&str]) -> Option<Value> {
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

    fn left(values: Value, misshapen: &[&[&str]]) -> Option<Value> {
        let mut values = values;
        let path = |path: &&[&str]| path.iter().map(|key| (*key).to_owned()).collect();
        let misshapen: Vec<Vec<String>> = misshapen.iter().map(path).collect();
        drop_misshapen(&mut values, &misshapen).then_some(values)
    }

    #[test]
    fn what_is_right_is_left() {
        let values = json!({
            "host": { "plugin_dirs": ["p"], "interval": 5 },
            "hots": {},
            "plugin": { "http": { "isolate": true } },
            "platform": {
                "a": { "plugin": "http" }, "b": { "plugin": "tcp" }, "c": { "plugin": "tcp", "x": 1 },
            },
        });
        let misshapen: [&[&str]; 4] = [
            &["host", "interval"],
            &["hots"],
            &["plugin", "http", "isolate"],
            &["platform", "c", "x"],
        ];
        let expected = json!({
            "host": { "plugin_dirs": ["p"] },
            "plugin": {},
            "platform": { "b": { "plugin": "tcp" } },
        });
        assert_eq!(left(values, &misshapen), Some(expected));
    }

    #[test]
    fn nothing_is_left_where_the_libraries_are_not_known() {
        let values = || json!({ "host": { "plugin_dir": ["p"] }, "platform": { "a": {} } });
        for path in [
            &["host", "plugin_dir"][..],
            &["host"],
            &["trust", "keys"],
            &["platform"],
            &[],
        ] {
            assert_eq!(left(values(), &[path]), None, "{path:?}");
        }
    }
}
