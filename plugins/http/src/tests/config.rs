//! Configs that can work, and those that cannot.

use conductor_plugin_api::FailureKind;

use super::*;
use crate::target::Target;

#[test]
fn a_config_that_cannot_work_names_its_key() {
    let url = "http://shop.example/";
    for (config, key, rule) in [
        (json!({"url": "shop.example"}), "`url`", "begin with http"),
        (
            json!({"url": "ftp://shop.example"}),
            "`url`",
            "begin with http",
        ),
        (
            json!({"url": "http://b\u{fc}cher.example"}),
            "`url`",
            "xn--",
        ),
        (json!({"url": "http://shop.example:0/"}), "`url`", "port"),
        (
            json!({"url": "http://shop.example:99999/"}),
            "`url`",
            "port",
        ),
        (
            json!({"url": "http://me:secret@shop.example/"}),
            "`url`",
            "authorization",
        ),
        (
            json!({"url": url, "method": "CONNECT"}),
            "CONNECT",
            "expected one of",
        ),
        (
            json!({"url": url, "expect_status": []}),
            "`expect_status`",
            "empty",
        ),
        (
            json!({"url": url, "expect_status": [99]}),
            "99",
            "100 to 599",
        ),
        (
            json!({"url": url, "expect_status": ["299-200"]}),
            "299-200",
            "100 to 599",
        ),
        (
            json!({"url": url, "expect_status": ["2xx"]}),
            "2xx",
            "100 to 599",
        ),
        (
            json!({"url": url, "expect_status": [true]}),
            "status code such as 200",
            "range",
        ),
        (json!({"url": url, "contains": ""}), "`contains`", "empty"),
        (
            json!({"url": url, "contains": "x", "method": "HEAD"}),
            "`contains`",
            "no body",
        ),
        (
            json!({"url": url, "headers": {"a b": "c"}}),
            "`headers.a b`",
            "not a name",
        ),
        (
            json!({"url": url, "headers": {"a": "secret\n"}}),
            "`headers.a`",
            "characters",
        ),
        (
            json!({"url": url, "headers": {"a": "1", "A": "2"}}),
            "`headers.a`",
            "twice",
        ),
        (
            json!({"url": url, "headers": {"Content-Length": "1"}}),
            "`headers.Content-Length`",
            "itself",
        ),
        (
            json!({"url": url, "ca_file": "ca.pem"}),
            "`ca_file`",
            "absolute",
        ),
        (
            json!({"url": url, "follow_redirect": true}),
            "follow_redirect",
            "unknown field",
        ),
    ] {
        let failure = TestHost::new("shop")
            .create_async_unchecked::<Http>(&config.to_string())
            .err()
            .unwrap();
        assert_eq!(failure.kind(), FailureKind::Config, "{config}");
        let message = failure.message();
        assert!(
            message.contains(key) && message.contains(rule),
            "{config}: {message}"
        );
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn urls_are_taken_apart() {
    for (url, https, host, port, path) in [
        ("http://shop.example", false, "shop.example", 80, "/"),
        ("HTTPS://Shop.Example/A", true, "shop.example", 443, "/A"),
        (
            "http://shop.example:8080?q",
            false,
            "shop.example",
            8080,
            "/?q",
        ),
        ("http://shop.example:/x", false, "shop.example", 80, "/x"),
        ("https://[::1]:8443/x#y", true, "::1", 8443, "/x"),
    ] {
        let target = Target::parse(url).unwrap();
        let expected = Target {
            https,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        assert_eq!(target, expected, "{url}");
    }
}

#[test]
fn a_default_port_is_not_named_to_the_server() {
    for (url, authority) in [
        ("http://shop.example:80/", "shop.example"),
        ("https://shop.example:80/", "shop.example:80"),
        ("https://[::1]/", "[::1]"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ] {
        assert_eq!(Target::parse(url).unwrap().authority(), authority);
    }
}

#[test]
fn the_schema_tells_what_the_code_does() {
    let schema = conductor_plugin_api::schemars::schema_for!(crate::config::Config).to_value();
    let properties = &schema["properties"];
    assert_eq!(schema["required"], json!(["url"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(properties["method"]["default"], json!("GET"));
    assert_eq!(properties["expect_status"]["default"], json!(["200-299"]));
    assert_eq!(properties["follow_redirects"]["default"], json!(true));
    for (name, property) in properties.as_object().unwrap() {
        assert!(property["description"].is_string(), "{name}: {property}");
    }
}
