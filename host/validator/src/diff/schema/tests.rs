//! The version step that each change of a schema requires.

use serde_json::json;

use super::*;

fn shown(old: &Value, new: &Value) -> Vec<(String, VersionStep)> {
    let found = changes(old, new);
    found.into_iter().map(|c| (c.change, c.step)).collect()
}

fn key(schema: Value) -> Value {
    json!({"type": "object", "properties": {"k": schema}})
}

#[test]
fn a_text_that_becomes_a_secret_needs_a_patch() {
    let (text, secret) = (
        json!({"type": "string"}),
        json!({"type": "string", "writeOnly": true}),
    );
    let change = |what: &str| [(format!("key `k`: {what}"), VersionStep::Patch)];
    assert_eq!(
        shown(&key(text.clone()), &key(secret.clone())),
        change("is now a secret")
    );
    assert_eq!(
        shown(&key(secret), &key(text)),
        change("is no longer a secret")
    );
}

#[test]
fn keys_come_and_go() {
    let with = |required: &[&str], keys: &[&str]| {
        let keys: Map<String, Value> = keys
            .iter()
            .map(|&key| (key.to_owned(), json!({"type": "string"})))
            .collect();
        json!({"type": "object", "properties": keys, "required": required})
    };
    for (old, new, change, step) in [
        (
            with(&[], &["a"]),
            with(&[], &[]),
            "key `a` removed",
            VersionStep::Major,
        ),
        (
            with(&[], &[]),
            with(&["a"], &["a"]),
            "key `a` added, required",
            VersionStep::Major,
        ),
        (
            with(&[], &[]),
            with(&[], &["a"]),
            "key `a` added, optional",
            VersionStep::Minor,
        ),
        (
            with(&[], &["a"]),
            with(&["a"], &["a"]),
            "key `a` now required",
            VersionStep::Major,
        ),
        (
            with(&["a"], &["a"]),
            with(&[], &["a"]),
            "key `a` no longer required",
            VersionStep::Minor,
        ),
    ] {
        assert_eq!(shown(&old, &new), [(change.to_owned(), step)]);
    }
}

#[test]
fn what_a_key_takes_is_compared() {
    for (old, new, change, step) in [
        (
            json!({"type": "integer"}),
            json!({"type": "number"}),
            "type integer → number",
            VersionStep::Minor,
        ),
        (
            json!({"type": "number"}),
            json!({"type": "integer"}),
            "type number → integer",
            VersionStep::Major,
        ),
        (
            json!({"type": "string"}),
            json!({"type": ["string", "null"]}),
            "type string → null or string",
            VersionStep::Minor,
        ),
        (
            json!({"type": "string"}),
            json!({}),
            "type string → any",
            VersionStep::Minor,
        ),
        (
            json!({"enum": [1, 2]}),
            json!({"enum": [2]}),
            "values 1 removed",
            VersionStep::Major,
        ),
        (
            json!({"enum": [1]}),
            json!({"enum": [1, 2]}),
            "values 2 added",
            VersionStep::Minor,
        ),
        (
            json!({"minimum": 1}),
            json!({"minimum": 2}),
            "minimum 1 → 2",
            VersionStep::Major,
        ),
        (
            json!({"minimum": 1}),
            json!({"minimum": 0}),
            "minimum 1 → 0",
            VersionStep::Minor,
        ),
        (
            json!({"maximum": 9}),
            json!({}),
            "maximum 9 → none",
            VersionStep::Minor,
        ),
        (
            json!({}),
            json!({"maxLength": 9}),
            "maxLength none → 9",
            VersionStep::Major,
        ),
        (
            json!({"default": 4}),
            json!({"default": 5}),
            "default 4 → 5",
            VersionStep::Major,
        ),
        (
            json!({"pattern": "a"}),
            json!({"pattern": "b"}),
            "rule `pattern` changed",
            VersionStep::Major,
        ),
        (
            json!({"pattern": "a"}),
            json!({}),
            "rule `pattern` removed",
            VersionStep::Minor,
        ),
        (
            json!({}),
            json!({"format": "uri"}),
            "rule `format` added",
            VersionStep::Major,
        ),
        (
            json!({"oneOf": [{"const": "a", "description": "x"}]}),
            json!({"enum": ["a", "b"]}),
            "values \"b\" added",
            VersionStep::Minor,
        ),
        (
            json!({"anyOf": [{"enum": [1, 2]}, {"type": "null"}]}),
            json!({"enum": [1]}),
            "values 2 removed",
            VersionStep::Major,
        ),
        (
            json!({"anyOf": [{"type": "string"}]}),
            json!({"anyOf": [{"type": "null"}]}),
            "rule `anyOf` changed",
            VersionStep::Major,
        ),
    ] {
        let change = format!("key `k`: {change}");
        assert_eq!(shown(&key(old), &key(new)), [(change, step)]);
    }
    let item = |schema: Value| key(json!({"type": "array", "items": schema}));
    let found = shown(
        &item(json!({"type": "string"})),
        &item(json!({"type": "null"})),
    );
    assert_eq!(
        found,
        [(
            "key `k[]`: type string → null".to_owned(),
            VersionStep::Major
        )]
    );
}

#[test]
fn references_are_followed() {
    let schema = |kind: &str, note: &str| {
        json!({
            "$defs": {"Inner": {"type": kind, "description": note}},
            "properties": {
                "k": {"$ref": "#/$defs/Inner"},
                "l": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}]},
                "m": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "array"}]},
            },
        })
    };
    assert_eq!(
        shown(&schema("string", ""), &schema("null", "")),
        [
            ("key `k`: type string → null".to_owned(), VersionStep::Major),
            ("key `l`: type string → null".to_owned(), VersionStep::Major),
            (
                "key `m`: rule `anyOf` changed".to_owned(),
                VersionStep::Major
            ),
        ]
    );
    let words = (
        "titles, descriptions or examples".to_owned(),
        VersionStep::Patch,
    );
    assert_eq!(shown(&schema("null", "a"), &schema("null", "b")), [words]);
    assert_eq!(shown(&schema("null", "a"), &schema("null", "a")), []);
}

#[test]
fn what_stands_beside_a_reference_is_compared_with_what_it_refers_to() {
    let schema =
        |inner: Value, node: Value| json!({"$defs": {"M": inner}, "properties": {"k": node}});
    let by_default = |value: &str| json!({"$ref": "#/$defs/M", "default": value});
    let optional =
        |value: &str| json!({"anyOf": [{"$ref": "#/$defs/M"}, {"type": "null"}], "default": value});
    let required = json!({"$ref": "#/$defs/M", "required": ["b"]});
    let (both, one) = (json!({"enum": ["a", "b"]}), json!({"enum": ["b"]}));
    let with_rule = |rule: &str| json!({"required": [rule]});
    for (old, new, change) in [
        (
            schema(both.clone(), by_default("b")),
            schema(one.clone(), by_default("b")),
            "values \"a\" removed",
        ),
        (
            schema(both.clone(), by_default("a")),
            schema(both.clone(), by_default("b")),
            "default \"a\" → \"b\"",
        ),
        (
            schema(both.clone(), optional("b")),
            schema(one, optional("b")),
            "values \"a\" removed",
        ),
        (
            schema(both.clone(), optional("a")),
            schema(both, optional("b")),
            "default \"a\" → \"b\"",
        ),
        (
            schema(with_rule("a"), required.clone()),
            schema(with_rule("c"), required),
            "rule `$ref` changed",
        ),
    ] {
        let change = format!("key `k`: {change}");
        assert_eq!(shown(&old, &new), [(change, VersionStep::Major)]);
    }
}

#[test]
fn what_is_said_once_only_is_a_rule_that_came_or_went() {
    let free = key(json!({"type": "array"}));
    let items = key(json!({"type": "array", "items": {"type": "string"}}));
    let said = |how: &str| format!("key `k`: rule `items` {how}");
    assert_eq!(shown(&free, &items), [(said("added"), VersionStep::Major)]);
    assert_eq!(
        shown(&items, &free),
        [(said("removed"), VersionStep::Minor)]
    );
    let requires = |keys: &[&str]| json!({"type": "object", "required": keys});
    let (none, one) = (requires(&[]), requires(&["unlisted"]));
    let said = |how: &str| format!("key `unlisted` {how}");
    assert_eq!(
        shown(&none, &one),
        [(said("now required"), VersionStep::Major)]
    );
    assert_eq!(
        shown(&one, &none),
        [(said("no longer required"), VersionStep::Minor)]
    );
}

#[test]
fn a_schema_that_unfolds_without_end_is_compared() {
    let schema = |kind: &str| {
        let twice = |next: &str| json!({"properties": {"a": {"$ref": next}, "b": {"$ref": next}}});
        let mut schema = json!({
            "properties": {
                "leaf": {"type": kind},
                "self": {"$ref": "#"},
                "form": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
                "wide": {"$ref": "#/$defs/0"},
            },
            "$defs": {"64": {"type": kind}},
        });
        for n in 0..64 {
            schema["$defs"][n.to_string()] = twice(&format!("#/$defs/{}", n + 1));
        }
        schema
    };
    let found = shown(&schema("null"), &schema("string"));
    let leaf = "key `leaf`: type null → string".to_owned();
    assert!(found.contains(&(leaf, VersionStep::Major)), "{found:?}");
    assert_eq!(shown(&schema("null"), &schema("null")), []);
}
