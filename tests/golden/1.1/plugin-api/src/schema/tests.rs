//! Types as authors write them, and the configs that their schemas accept and refuse.

#![expect(dead_code, reason = "the types are read by serde and schemars alone")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::testing::schema_fault;

#[derive(Deserialize, JsonSchema)]
struct Inner {
    a: u8,
    b: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Nested {
    one: Option<Inner>,
    #[serde(default)]
    list: Vec<Inner>,
    #[serde(default)]
    map: BTreeMap<String, Inner>,
    #[serde(default)]
    free: BTreeMap<String, String>,
    any: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    New(Inner),
    Fields { q: u8, inner: Option<Inner> },
}

#[derive(Deserialize, JsonSchema)]
struct FlatInternal {
    x: u8,
    #[serde(flatten)]
    rest: Internal,
    plain: Option<Inner>,
}

#[derive(Deserialize, JsonSchema)]
struct FlatStruct {
    x: u8,
    #[serde(flatten)]
    rest: Inner,
}

#[derive(Deserialize, JsonSchema)]
struct FlatMap {
    x: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Strict {
    a: u8,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum OfStrict {
    New(Strict),
}

#[derive(Deserialize, JsonSchema)]
struct NoFields {}

#[derive(Deserialize, JsonSchema)]
struct OfNoFields {
    none: NoFields,
    any: serde_json::Map<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
enum External {
    #[serde(alias = "Old")]
    Unit,
    New(Inner),
    Fields {
        #[serde(alias = "z")]
        q: u8,
    },
}

#[derive(Deserialize, JsonSchema)]
struct OfExternal {
    e: External,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    #[serde(alias = "warning")]
    Warn,
    /// With a description.
    Error,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Aliased {
    #[serde(alias = "address", alias = "uri")]
    url: String,
    #[serde(default, alias = "mode")]
    level: Option<Level>,
    #[serde(alias = "b", alias = "zz")]
    port: std::net::IpAddr,
    #[serde(default)]
    inner: Vec<AliasedInner>,
}

#[derive(Deserialize, JsonSchema)]
struct AliasedInner {
    #[serde(alias = "hostname")]
    host: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Untagged {
    Fields {
        #[serde(alias = "old")]
        #[schemars(extend("x-aliases" = ["old"]))]
        new: u8,
    },
}

/// Asserts that the schema accepts a config exactly if the type does, except for unknown keys, which it refuses.
#[track_caller]
fn takes<C: DeserializeOwned + JsonSchema>(config: Value) {
    let schema = super::of::<C>();
    if let Some(fault) = schema_fault(&schema, &config) {
        panic!("{config}: {fault}\n{schema:#}");
    }
    if let Err(error) = serde_json::from_value::<C>(config.clone()) {
        panic!("the test is wrong: {config}: {error}");
    }
}

#[track_caller]
fn refuses<C: DeserializeOwned + JsonSchema>(config: Value, needle: &str) {
    let schema = super::of::<C>();
    let fault =
        schema_fault(&schema, &config).unwrap_or_else(|| panic!("{config} is taken\n{schema:#}"));
    assert!(fault.contains(needle), "{config}: {fault}");
}

#[test]
fn unknown_keys_of_nested_tables_are_refused() {
    takes::<Nested>(
        json!({ "one": { "a": 1 }, "list": [{ "a": 1, "b": "x" }], "map": { "k": { "a": 1 } } }),
    );
    takes::<Nested>(json!({ "free": { "what": "ever" }, "any": { "what": ["ever"] } }));
    refuses::<Nested>(json!({ "one": { "a": 1, "c": 2 } }), "no key `c`");
    refuses::<Nested>(
        json!({ "list": [{ "a": 1, "c": 2 }] }),
        "`list[0]` has no key `c`",
    );
    refuses::<Nested>(
        json!({ "map": { "k": { "a": 1, "c": 2 } } }),
        "`map.k` has no key `c`",
    );
    refuses::<Nested>(json!({ "two": 1 }), "no key `two`");
}

#[test]
fn a_struct_without_fields_has_no_keys() {
    takes::<NoFields>(json!({}));
    refuses::<NoFields>(json!({ "a": 1 }), "a");
    takes::<OfNoFields>(json!({ "none": {}, "any": { "a": 1 } }));
    refuses::<OfNoFields>(json!({ "none": { "b": 1 }, "any": {} }), "b");
}

#[test]
fn keys_of_flattened_types_are_known_and_others_are_not() {
    takes::<FlatStruct>(json!({ "x": 1, "a": 2 }));
    refuses::<FlatStruct>(json!({ "x": 1, "a": 2, "c": 3 }), "no key `c`");
    takes::<FlatMap>(json!({ "x": 1, "what": "ever" }));
    takes::<FlatInternal>(json!({ "x": 1, "kind": "New", "a": 2, "plain": { "a": 3 } }));
    takes::<FlatInternal>(json!({ "x": 1, "kind": "Fields", "q": 2 }));
    refuses::<FlatInternal>(
        json!({ "x": 1, "kind": "Unit", "plain": { "a": 3, "c": 4 } }),
        "`c`",
    );
    refuses::<FlatInternal>(json!({ "x": 1, "kind": "Unit", "c": 4 }), "no key `c`");
}

#[test]
fn keys_of_tagged_variants_are_known_and_others_are_not() {
    takes::<Internal>(json!({ "kind": "New", "a": 1 }));
    takes::<Internal>(json!({ "kind": "Fields", "q": 1, "inner": { "a": 1 } }));
    takes::<Internal>(json!({ "kind": "Unit" }));
    refuses::<Internal>(json!({ "kind": "New", "a": 1, "c": 1 }), "`c`");
    refuses::<Internal>(json!({ "kind": "Unit", "c": 1 }), "`c`");
    refuses::<Internal>(
        json!({ "kind": "Fields", "q": 1, "inner": { "a": 1, "c": 1 } }),
        "`c`",
    );
    takes::<OfStrict>(json!({ "kind": "New", "a": 1 }));
    refuses::<OfStrict>(json!({ "kind": "New", "a": 1, "c": 1 }), "`c`");
    refuses::<OfExternal>(json!({ "e": { "New": { "a": 1, "c": 1 } } }), "`c`");
}

#[test]
fn aliases_of_fields_are_keys_of_the_same_type() {
    let rest = json!({ "port": "::1" });
    let with = |key: &str, value: Value| {
        let mut config = rest.clone();
        config[key] = value;
        config
    };
    takes::<Aliased>(with("url", json!("x")));
    takes::<Aliased>(with("address", json!("x")));
    takes::<Aliased>(with("uri", json!("x")));
    takes::<Aliased>(json!({ "uri": "x", "mode": "warning", "b": "::1" }));
    takes::<Aliased>(json!({ "uri": "x", "zz": "::1", "inner": [{ "hostname": "h" }] }));
    refuses::<Aliased>(with("address", json!(5)), "must be a string");
    refuses::<Aliased>(rest.clone(), "config lacks the key `url`");
    refuses::<Aliased>(
        json!({ "url": "x", "port": "::1", "urk": "x" }),
        "no key `urk`",
    );
    refuses::<Aliased>(json!({ "uri": "x", "b": "::1", "inner": [{}] }), "`host`");
    let schema = super::of::<Aliased>();
    assert_eq!(
        schema["properties"]["address"]["description"],
        "Another name of `url`."
    );
}

#[test]
fn aliases_of_variants_are_values() {
    takes::<Aliased>(json!({ "url": "x", "port": "::1", "level": "warning" }));
    refuses::<Aliased>(
        json!({ "url": "x", "port": "::1", "level": "warm" }),
        "\"warning\"",
    );
    takes::<OfExternal>(json!({ "e": { "Fields": { "z": 1 } } }));
}

#[test]
fn aliases_that_serde_does_not_name_can_be_listed() {
    takes::<Untagged>(json!({ "old": 1 }));
    refuses::<Untagged>(json!({ "older": 1 }), "fits none");
}

#[test]
fn a_config_that_may_be_left_out_takes_an_empty_table() {
    refuses::<Option<Inner>>(json!({ "b": "x" }), "lacks the key `a`");
    refuses::<Option<Inner>>(json!({ "a": 1, "c": 1 }), "no key `c`");
    takes::<Option<Inner>>(json!({ "a": 1 }));
    let schema = super::of::<Option<Inner>>();
    assert_eq!(schema_fault(&schema, &json!({})), None, "{schema:#}");
    // serde reads a table as the type if it can.
    takes::<Option<NoFields>>(json!({}));
    takes::<Option<Nested>>(json!({}));
}
