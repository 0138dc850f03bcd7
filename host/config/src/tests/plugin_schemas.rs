//! Platforms' `config` tables against the schemas of their plugins.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;

fn http_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "url": { "type": "string", "pattern": "^https?://" },
            "method": { "oneOf": [
                { "const": "get", "description": "asks for the page" },
                { "const": "head", "description": "asks for the headers" },
            ] },
            "expect_status": { "type": "array", "items": { "$ref": "#/$defs/Status" } },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "retries": { "type": "integer", "minimum": 0, "maximum": 5 },
        },
        "required": ["url"],
        "additionalProperties": false,
        "$defs": { "Status": { "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5]xx$" },
        ] } },
    })
}

fn mistakes(config: &str) -> String {
    let config = read(&format!("[platform.web]\nplugin = \"http\"\n{config}\n"));
    match judged(&config, &config.platforms[0], http_schema()) {
        Ok(()) => "no mistake".to_owned(),
        Err(error) => error.to_plain(),
    }
}

#[test]
fn a_config_that_fits_is_accepted() {
    let fits = "config = { url = \"http://a\", method = \"head\", expect_status = [200, \"2xx\"], retries = 5.0 }";
    assert_eq!(mistakes(fits), "no mistake");
}

#[test]
fn each_violation_has_its_line_key_and_rule() {
    assert_snapshot!(
        mistakes(
            "[platform.web.config]\nulr = \"http://a\"\nmethod = \"het\"\nexpect_status = [\n  200,\n  99,\n]\nheaders = { accept = 5 }\nretries = 9\n"
        ),
        @r#"
        conductor.toml:3:1: platform.web.config lacks the key `url`
        conductor.toml:4:1: platform.web.config has no key `ulr`
          help: did you mean `url`?
        conductor.toml:5:10: platform.web.config.method must be one of "get", "head", not the string "het"
          help: did you mean "get"?
        conductor.toml:8:3: platform.web.config.expect_status[1] must be a whole number from 100 to 599, not the number 99
        conductor.toml:10:22: platform.web.config.headers.accept must be a string, not the number 5
        conductor.toml:11:11: platform.web.config.retries must be a whole number from 0 to 5, not the number 9
        "#
    );
    assert_snapshot!(mistakes("config = { url = \"ftp://a\", retries = 1.5 }"), @r#"
    conductor.toml:3:18: platform.web.config.url: "ftp://a" does not match "^https?://"
    conductor.toml:3:39: platform.web.config.retries must be a whole number from 0 to 5, not the number 1.5
    "#);
    assert_snapshot!(mistakes("config = { url = 5, colour = \"red\" }"), @r"
    conductor.toml:3:18: platform.web.config.url must be a string, not the number 5
    conductor.toml:3:21: platform.web.config has no key `colour`
      help: its keys are `expect_status`, `headers`, `method`, `retries`, `url`
    ");
}

#[test]
fn columns_count_characters() {
    assert_snapshot!(
        mistakes("config.url = \"http://a\"\nconfig.headers = { \"größe\" = \"ü\", x = 5 }"),
        @"conductor.toml:4:39: platform.web.config.headers.x must be a string, not the number 5"
    );
    assert_snapshot!(
        mistakes("config.url = \"http://a\"\nconfig.\"ürl\" = \"b\""),
        @r#"
    conductor.toml:4:8: platform.web.config has no key `"ürl"`
      help: did you mean `url`?
    "#
    );
}

#[test]
fn a_missing_config_table_is_reported_at_the_platform() {
    assert_snapshot!(mistakes(""), @"conductor.toml:1:1: platform.web.config lacks the key `url`");
}

#[test]
fn a_schema_that_is_none_is_the_plugins_fault() {
    let refused = |schema: Value| CompiledSchema::new(schema).unwrap_err().to_string();
    assert_snapshot!(refused(json!({ "type": "strnig" })), @r#"
    its config schema is not valid: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword (at "/type"); the plugin must be corrected, not the configuration
    "#);
    assert_snapshot!(refused(json!([])), @r#"
    its config schema is not valid: [] is not of types "boolean", "object" (at ""); the plugin must be corrected, not the configuration
    "#);
    assert_snapshot!(refused(json!({ "pattern": "(" })), @r#"
    its config schema is not valid: "(" is not a "regex" (at "/pattern"); the plugin must be corrected, not the configuration
    "#);
}

#[test]
fn a_schema_cannot_make_the_host_fetch_or_read_anything() {
    let refused = |schema: Value| CompiledSchema::new(schema).unwrap_err().to_string();
    assert_snapshot!(refused(json!({ "$ref": "https://example.org/schema.json" })), @r#"
    its config schema is not valid: Resource 'https://example.org/schema.json' is not present in a registry and retrieving it failed: `resolve-http` feature or a custom resolver is required to resolve external schemas via HTTP (at ""); the plugin must be corrected, not the configuration
    "#);
    assert_snapshot!(refused(json!({ "$ref": "file:///etc/passwd" })), @r#"
    its config schema is not valid: Resource 'file:///etc/passwd' is not present in a registry and retrieving it failed: `resolve-file` feature or a custom resolver is required to resolve external schemas via files (at ""); the plugin must be corrected, not the configuration
    "#);
    assert_snapshot!(refused(json!({ "$schema": "https://example.org/meta", "type": "object" })), @r#"
    its config schema is not valid: Unknown meta-schema: 'https://example.org/meta'. Custom meta-schemas must be registered in the registry before use (at ""); the plugin must be corrected, not the configuration
    "#);
}

#[test]
fn a_schema_cannot_make_the_host_spin() {
    let refused = |schema: Value| CompiledSchema::new(schema).unwrap_err().to_string();
    let backtracks = json!({ "properties": { "url": { "pattern": r"^(a|ab|b)*(?=c)\1$" } } });
    assert_snapshot!(refused(backtracks), @r#"
    its config schema is not valid: "^(a|ab|b)*(?=c)\\1$" is not a "regex" (at "/properties/url/pattern"); the plugin must be corrected, not the configuration
    "#);

    let endless = json!({ "$ref": "#" });
    let config = read("[platform.web]\nplugin = \"http\"\n");
    assert!(judged(&config, &config.platforms[0], endless).is_ok());
}
