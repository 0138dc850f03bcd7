//! Typical serde enums, and the operator's messages about configs that match no variant.

#![expect(dead_code, reason = "the types are read by schemars alone")]

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{CompiledSchema, ValueLocation};

#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Internal {
    None,
    Basic { user: String, tries: Option<u8> },
    Token(Token),
}

#[derive(JsonSchema)]
struct Token {
    text: String,
}

#[derive(JsonSchema)]
#[serde(tag = "kind", content = "with", deny_unknown_fields)]
enum Adjacent {
    None,
    Basic { user: String },
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum External {
    None,
    Basic { user: String },
    Token(Token),
}

#[derive(JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
enum Untagged {
    Number(u8),
    Basic { user: String, tries: Option<u8> },
    Token { text: String },
    List(Vec<String>),
}

#[derive(JsonSchema)]
struct Config {
    internal: Option<Internal>,
    adjacent: Option<Adjacent>,
    external: Option<External>,
    untagged: Option<Untagged>,
    list: Option<Vec<Internal>>,
    small: Option<u8>,
    whole: Option<u64>,
}

fn said(config: Value) -> Vec<String> {
    let schema = schemars::schema_for!(Config).to_value();
    said_of(schema, config, ValueLocation::default())
}

fn said_of(schema: Value, config: Value, subject: ValueLocation) -> Vec<String> {
    let violations = CompiledSchema::new(schema)
        .unwrap()
        .violations(&config, &subject);
    let line = |violation: super::SchemaViolation| match violation.help {
        Some(help) => format!("{} ({help})", violation.message),
        None => violation.message,
    };
    violations.into_iter().map(line).collect()
}

#[test]
fn the_variant_that_was_meant_is_named_with_its_key() {
    let basic = "with `kind = \"basic\"`";
    let keys = format!("{basic}, its keys are `kind`, `tries`, `user`");
    for (config, expected) in [
        (json!({ "kind": "basic" }), format!("internal lacks the key `user` ({keys})")),
        (json!({ "kind": "basic", "user": 5 }), format!("internal.user must be a string, not the number 5 ({basic})")),
        (
            json!({ "kind": "basic", "user": "a", "usr": "b" }),
            format!("internal has no key `usr` ({basic}: did you mean `user`?)"),
        ),
        (
            json!({ "kind": "basic", "user": "a", "tries": 300 }),
            format!("internal.tries must be a whole number from 0 to 255, not the number 300 ({basic})"),
        ),
        (
            json!({ "kind": "token" }),
            "internal lacks the key `text` (with `kind = \"token\"`, its keys are `kind`, `text`)".to_owned(),
        ),
        (
            json!({ "kind": "bsic" }),
            "internal.kind must be one of \"none\", \"basic\", \"token\", not the string \"bsic\" (did you mean \"basic\"?)".to_owned(),
        ),
        (
            json!({ "user": "a" }),
            "internal lacks the key `kind` (it must be one of \"none\", \"basic\", \"token\")".to_owned(),
        ),
        (json!(5), "internal must be a table, not the number 5".to_owned()),
    ] {
        assert_eq!(said(json!({ "internal": config })), [expected], "{config}");
    }
    let list = json!({ "list": [{ "kind": "none" }, { "kind": "basic" }] });
    assert_eq!(
        said(list),
        [format!("list[1] lacks the key `user` ({keys})")]
    );
}

#[test]
fn variants_that_are_tagged_beside_or_by_their_key_are_named_too() {
    for (config, expected) in [
        (
            json!({ "adjacent": { "kind": "Basic" } }),
            "adjacent lacks the key `with` (with `kind = \"Basic\"`, its keys are `kind`, `with`)",
        ),
        (
            json!({ "adjacent": { "kind": "Basic", "with": {} } }),
            "adjacent.with lacks the key `user` (with `kind = \"Basic\"`)",
        ),
        (
            json!({ "external": { "basic": {} } }),
            "external.basic lacks the key `user`",
        ),
        (
            json!({ "external": { "basik": {} } }),
            "external has no key `basik` (did you mean `basic`?)",
        ),
        (
            json!({ "external": {} }),
            "external must have one of the keys `basic`, `token`",
        ),
        (
            json!({ "external": { "basic": { "user": "a" }, "token": {} } }),
            "external has both `basic` and `token` (keep one of `basic`, `token`)",
        ),
        (
            json!({ "external": "nune" }),
            "external must be \"none\", not the string \"nune\" (did you mean \"none\"?)",
        ),
        (
            json!({ "external": 5 }),
            "external must be \"none\" or a table with the key `basic` or a table with the key `token`, not the number 5",
        ),
    ] {
        assert_eq!(said(config.clone()), [expected], "{config}");
    }
}

#[test]
fn of_forms_without_a_tag_the_nearest_is_explained() {
    for (value, expected) in [
        (
            json!(300),
            "untagged must be a whole number from 0 to 255, not the number 300",
        ),
        (
            json!({ "user": "a", "tris": 1 }),
            "untagged has no key `tris` (did you mean `tries`?)",
        ),
        (
            json!({ "text": 1 }),
            "untagged.text must be a string, not the number 1 (the nearest of its forms has the keys `text`)",
        ),
        (json!([1]), "untagged[0] must be a string, not the number 1"),
        (
            json!(true),
            "untagged must be a whole number from 0 to 255 or a table or a table with the key `text` or a list, not true",
        ),
    ] {
        assert_eq!(said(json!({ "untagged": value })), [expected], "{value}");
    }
}

#[test]
fn a_number_that_does_not_fit_is_told_what_fits() {
    for (config, expected) in [
        (
            json!({ "small": 300 }),
            "small must be a whole number from 0 to 255, not the number 300",
        ),
        (
            json!({ "small": -1 }),
            "small must be a whole number from 0 to 255, not the number -1",
        ),
        (
            json!({ "small": 1.5 }),
            "small must be a whole number from 0 to 255, not the number 1.5",
        ),
        (
            json!({ "whole": -1 }),
            "whole must be a whole number of at least 0, not the number -1",
        ),
        (
            json!({ "small": "5" }),
            "small must be a whole number, not the string \"5\"",
        ),
    ] {
        assert_eq!(said(config.clone()), [expected], "{config}");
    }
}

#[test]
fn keys_with_other_names_and_keys_of_failed_forms_are_no_noise() {
    let aliased = json!({
        "properties": { "url": { "type": "string" }, "uri": { "type": "string", "deprecated": true } },
        "allOf": [{ "anyOf": [{ "required": ["url"] }, { "required": ["uri"] }] }],
        "additionalProperties": false,
    });
    let said = said_of(aliased, json!({}), ValueLocation::default());
    assert_eq!(said, ["the file lacks the key `url`"]);
    let flattened = json!({
        "type": "object",
        "properties": { "x": { "type": "integer" } },
        "oneOf": [
            { "properties": { "kind": { "const": "a" }, "n": { "type": "integer" } }, "required": ["kind", "n"] },
            { "properties": { "kind": { "const": "b" } }, "required": ["kind"] },
        ],
        "unevaluatedProperties": false,
    });
    let said = said_of(
        flattened,
        json!({ "x": 1, "kind": "a", "n": "text", "m": 1 }),
        ValueLocation::default(),
    );
    assert_eq!(
        said,
        [
            "n must be a whole number, not the string \"text\" (with `kind = \"a\"`)",
            "the file has no table `m` (did you mean `n`?)",
        ]
    );
}

#[test]
fn a_text_of_the_wrong_form_is_explained_by_the_description() {
    let schema = json!({ "properties": { "url": {
        "type": "string", "pattern": "^https?://", "description": "URL,\nwith http://.",
    } } });
    let subject = ValueLocation {
        base: vec!["config".to_owned()],
        hidden: Vec::new(),
    };
    let said = said_of(schema, json!({ "url": "x" }), subject);
    assert_eq!(
        said,
        ["config.url cannot be the string \"x\" (expected: URL, with http://.)"]
    );
}

#[test]
fn a_secret_is_not_shown_where_a_form_is_chosen_by_it() {
    let subject = ValueLocation {
        base: vec!["config".to_owned()],
        hidden: vec![vec!["internal".to_owned(), "kind".to_owned()]],
    };
    let schema = schemars::schema_for!(Config).to_value();
    let said = said_of(schema, json!({ "internal": { "kind": "bsic" } }), subject);
    assert_eq!(
        said,
        ["config.internal.kind must be one of \"none\", \"basic\", \"token\", not (a secret)"]
    );
}
