//! The keys of a plugin's config, in every place where an operator looks for them.

use std::{fs, path::Path};

use serde_json::Value;

use crate::harness::{Setup, conductor, library, ordered};

/// Returns exit code, standard output and standard error of a command with the config of `setup`.
fn run(setup: &Setup, arguments: &[&str]) -> (i32, String, String) {
    let output = setup.command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[track_caller]
fn assert_http_schema(schema: &Value) {
    assert_eq!(schema["required"], serde_json::json!(["url"]), "{schema}");
    assert!(
        schema["properties"]["url"]["description"].is_string(),
        "{schema}"
    );
}

#[test]
fn plugin_schema_prints_the_keys_of_a_file_and_of_an_id() {
    let setup = Setup::new().platform("shop", "http", r#"{ url = "http://127.0.0.1:9/" }"#);
    let file = library("conductor_plugin_http");
    for plugin in ["http", file.to_str().unwrap()] {
        let (code, table, errors) = run(&setup, &["plugin", "schema", plugin]);
        assert_eq!(code, 0, "{errors}");
        let url = table.lines().find(|line| line.starts_with("url ")).unwrap();
        assert!(url.contains("text") && url.contains("required"), "{table}");
        for key in ["method ", "expect_status ", "follow_redirects ", "ca_file "] {
            assert!(
                table.lines().any(|line| line.starts_with(key)),
                "{key}: {table}"
            );
        }
        let (code, json, _) = run(&setup, &["plugin", "schema", "--output", "json", plugin]);
        assert_eq!(code, 0);
        assert_http_schema(&serde_json::from_str(&json).unwrap());
    }
    let (code, _, errors) = run(&setup, &["plugin", "schema", "none-such"]);
    assert_eq!(code, 4, "{errors}");
    assert!(errors.contains("none-such"), "{errors}");
}

#[test]
fn plugin_inspect_prints_the_keys_and_survives_a_library_that_does_not_load() {
    let setup = Setup::new();
    let inspect = |file: &Path, flags: &[&str]| {
        let output = conductor(&["plugin", "inspect"])
            .args(flags)
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        text
    };
    let http = library("conductor_plugin_http");
    let text = inspect(&http, &[]);
    for row in ["\nurl ", "\nconductor_http_duration_seconds "] {
        assert!(text.contains(row), "{text}");
    }
    let text = inspect(&http, &["--no-load"]);
    for row in ["\nurl ", "\nconductor_http_duration_seconds "] {
        assert!(!text.contains(row), "{text}");
    }
    let json: Value = serde_json::from_str(&inspect(&http, &["--output", "json"])).unwrap();
    assert_http_schema(&json["config_schema"]);

    let deadly = setup.path("deadly.so");
    fs::write(&deadly, ordered("abort")).unwrap();
    let text = inspect(&deadly, &[]);
    assert!(
        text.contains("config keys and metrics cannot be read"),
        "{text}"
    );
}

#[test]
fn the_api_shows_the_keys_of_each_plugin() {
    let host = Setup::new()
        .platform("disk", "disk", r#"{ path = "/" }"#)
        .start();
    host.wait("a report", |m| {
        // The disk of this machine may be nearly full.
        let statuses = ["healthy", "degraded", "unhealthy"].into_iter();
        statuses.map(|status| m.checks("disk", status)).sum::<f64>() > 0.0
    });
    let (status, plugins) = host.get("/api/v1/plugins");
    assert_eq!(status, 200);
    let plugins: Value = serde_json::from_str(&plugins).unwrap();
    let disk = &plugins[0];
    assert_eq!(disk["id"], "disk", "{disk}");
    assert!(
        disk["config_schema"]["properties"]["path"].is_object(),
        "{disk}"
    );
    assert!(host.status()["plugins"][0].get("config_schema").is_none());
    let (_, openapi) = host.get("/api/v1/openapi.json");
    assert!(openapi.contains("config_schema"));
}

#[test]
fn config_schema_completes_a_platform_by_its_plugin() {
    let setup = Setup::new().platform("shop", "http", r#"{ url = "http://127.0.0.1:9/" }"#);
    let (code, schema, errors) = run(&setup, &["config", "schema"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let rules = schema["$defs"]["Platform"]["allOf"].as_array().unwrap();
    let of_http = |rule: &&Value| rule["if"]["properties"]["plugin"]["const"] == "http";
    let rule = rules.iter().find(of_http).unwrap();
    let target = rule["then"]["properties"]["config"]["$ref"]
        .as_str()
        .unwrap();
    assert_http_schema(schema.pointer(target.strip_prefix('#').unwrap()).unwrap());

    // An incomplete config must not prevent the schema.
    let broken = Setup::new().with("[platform.shop]\nplugin = 5\n");
    let (code, schema, errors) = run(&broken, &["config", "schema"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        errors.contains("does not include the keys of plugins"),
        "{errors}"
    );
    serde_json::from_str::<Value>(&schema).unwrap();
}
