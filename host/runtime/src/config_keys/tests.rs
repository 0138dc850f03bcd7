//! Schemas by authors and by attackers.

use serde_json::{Value, json};

use super::*;

fn rows(schema: &Value) -> Vec<String> {
    let line = |key: ConfigKey| {
        let default = match (key.required, key.default) {
            (true, _) => "required".to_owned(),
            (false, default) => default.unwrap_or_default(),
        };
        format!("{} | {} | {default} | {}", key.key, key.kind, key.meaning)
    };
    ConfigKeys::of(schema).keys.into_iter().map(line).collect()
}

#[test]
fn keys_have_type_default_and_meaning() {
    let schema = json!({
        "properties": {
            "url": { "type": "string", "description": "URL\nto request." },
            "port": { "type": ["integer", "null"], "minimum": 1, "maximum": 65535, "default": null },
            "method": { "$ref": "#/$defs/Method", "default": "GET" },
            "status": { "type": "array", "items": { "anyOf": [{ "type": "integer" }, { "type": "string" }] } },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
        },
        "required": ["url"],
        "$defs": { "Method": { "enum": ["GET", "HEAD"], "description": "Request method." } },
    });
    assert_eq!(
        rows(&schema),
        [
            "headers | table of text |  | ",
            "method | one of \"GET\", \"HEAD\" | \"GET\" | Request method.",
            "port | whole number from 1 to 65535 |  | ",
            "status | list of whole number or text |  | ",
            "url | text | required | URL to request.",
        ]
    );
}

#[test]
fn keys_of_nested_tables_and_forms_follow_their_table() {
    let schema = json!({
        "properties": {
            "auth": { "oneOf": [
                { "type": "object", "properties": { "kind": { "const": "none" } }, "required": ["kind"] },
                {
                    "type": "object",
                    "properties": { "kind": { "const": "basic" }, "user": { "type": "string" } },
                    "required": ["kind", "user"],
                },
            ] },
            "steps": { "type": "array", "items": { "$ref": "#/$defs/Step" } },
            "by_name": { "additionalProperties": { "$ref": "#/$defs/Step" } },
        },
        "$defs": { "Step": { "type": "object", "properties": { "url": { "type": "string" } }, "required": ["url"] } },
    });
    assert_eq!(
        rows(&schema),
        [
            "auth | table |  | ",
            "by_name | table of table |  | ",
            "steps | list of table |  | ",
            "auth.kind | one of \"none\", \"basic\" | required | Selects the form of the table.",
            "auth.user | text |  | with kind = \"basic\": ",
            "by_name.NAME.url | text | required | ",
            "steps[].url | text | required | ",
        ]
    );
}

#[test]
fn a_key_with_other_names_is_required() {
    let schema = json!({
        "properties": { "url": { "type": "string" } },
        "allOf": [{ "anyOf": [{ "required": ["url"] }, { "required": ["address"] }] }],
    });
    assert_eq!(rows(&schema), ["url | text | required | "]);
}

#[test]
fn what_could_harm_a_terminal_is_escaped() {
    let schema = json!({ "properties": { "\u{1b}[2J": {
        "type": "string", "description": "\u{202e}\u{7}", "default": "\u{9b}", "enum": ["\u{1b}"],
    } } });
    let text = format!("{:?}{}", ConfigKeys::of(&schema), rows(&schema).concat());
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("\\u{1b}[2J"), "{text}");
}

#[test]
fn schemas_without_end_are_cut() {
    let twice = json!({ "allOf": [{ "$ref": "#/$defs/n" }, { "$ref": "#/$defs/n" }] });
    let doubling = json!({ "$ref": "#/$defs/n", "$defs": { "n": twice } });
    assert!(ConfigKeys::of(&doubling).cut);

    let itself = json!({ "properties": { "next": { "$ref": "#" }, "other": { "$ref": "#" } } });
    let keys = ConfigKeys::of(&itself);
    assert!(
        keys.cut && keys.keys.len() <= MAX_KEYS,
        "{}",
        keys.keys.len()
    );

    let many: Map<String, Value> = (0..100_000)
        .map(|n| (format!("k{n}"), json!({ "description": "x".repeat(1000) })))
        .collect();
    let keys = ConfigKeys::of(&json!({ "properties": many }));
    assert!(keys.cut && keys.keys.len() == MAX_KEYS);
    assert!(
        keys.keys
            .iter()
            .all(|key| key.meaning.chars().count() <= MAX_MEANING + 1)
    );

    let wide = json!({ "properties": { "k": { "oneOf": vec![json!({ "oneOf": [{ "const": "x".repeat(10_000) }, {}] }); 10_000] } } });
    assert!(ConfigKeys::of(&wide).keys[0].kind.chars().count() <= 1201);
}

#[test]
fn what_is_no_schema_has_no_keys() {
    for schema in [
        json!(null),
        json!(true),
        json!([]),
        json!({ "properties": 3, "oneOf": 4 }),
    ] {
        assert_eq!(rows(&schema), [""; 0], "{schema}");
    }
}
