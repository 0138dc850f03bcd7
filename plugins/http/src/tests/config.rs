//! Valid and invalid configs.

use conductor_net::http::{BadUrl, TargetUrl};
use conductor_plugin_api::FailureKind;

use super::*;

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
        (json!({"url": "http://a b.example"}), "`url`", "characters"),
        (json!({"url": "http://shop.example:0/"}), "`url`", "port"),
        (
            json!({"url": "http://shop.example:99999/"}),
            "`url`",
            "port",
        ),
        (
            json!({"url": "http://me:secret@shop.example/"}),
            "`url`",
            "basic_auth",
        ),
        (
            json!({"url": url, "method": "CONNECT"}),
            "CONNECT",
            "expected one of",
        ),
        (
            json!({"url": "example.org"}),
            "`url`",
            "write \"https://example.org\"",
        ),
        (json!({"url": "localhost:8080"}), "`url`", "begin with http"),
        (json!({"url": ""}), "`url`", "empty"),
        (json!({"url": "http://shop..example/"}), "`url`", "two dots"),
        (json!({"url": "http://256.1.1.1/"}), "`url`", "IPv4"),
        (
            json!({"url": "https://a$b.example/"}),
            "`url`",
            "certificate",
        ),
        (json!({"url": "http:///path"}), "`url`", "has no host"),
        (
            json!({"url": "shop.example/?token=secret"}),
            "`url`",
            "begin with http",
        ),
        (
            json!({"url": "me:secret@shop.example"}),
            "`url`",
            "begin with http",
        ),
        (
            json!({"url": url, "expect_status": [700]}),
            "`expect_status[0]`",
            "100 to 599",
        ),
        (
            json!({"url": url, "expect_status": [200, -1]}),
            "`expect_status[1]`",
            "100 to 599",
        ),
        (
            json!({"url": url, "expect_status": ["100-199"]}),
            "`expect_status`",
            "interim",
        ),
        (
            json!({"url": url, "contains": "x".repeat((1 << 20) + 1)}),
            "`contains`",
            "1048577 bytes",
        ),
        (
            json!({"url": url, "headers": {"": "b"}}),
            "`headers.`",
            "not a header name",
        ),
        (
            json!({"url": url, "headers": {"b\u{fc}": "b"}}),
            "`headers.b\u{fc}`",
            "not a header name",
        ),
        (json!({"url": url, "ca_file": ""}), "`ca_file`", "absolute"),
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
            "`expect_status[0]`",
            "write \"200-299\"",
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
            "not a header name",
        ),
        (
            json!({"url": url, "headers": {"a": "secret\n"}}),
            "`headers.a`",
            "one line",
        ),
        (
            json!({"url": url, "headers": {"a": "1", "A": "2"}}),
            "`headers.a`",
            "ignore case",
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
            json!({"url": url, "contains": ["x", ""]}),
            "`contains[1]`",
            "empty",
        ),
        (
            json!({"url": url, "matches": "a("}),
            "`matches`",
            "not a regular expression: unclosed group",
        ),
        (
            json!({"url": url, "not_matches": ["[", "x"]}),
            "`not_matches[0]`",
            "not a regular expression",
        ),
        (
            json!({"url": url, "matches": "a".repeat(4097)}),
            "`matches`",
            "4097 bytes",
        ),
        (
            json!({"url": url, "final_url": "(".repeat(200) + &")".repeat(200)}),
            "`final_url`",
            "not a regular expression",
        ),
        (
            json!({"url": url, "json": [{"path": "$".to_owned() + &"[?@".repeat(2000)}]}),
            "`json[0].path`",
            "bytes, more than",
        ),
        (
            json!({"url": url, "json": [{"path": "$".to_owned() + &"[?@".repeat(1300)}]}),
            "`json[0].path`",
            "RFC 9535",
        ),
        (
            json!({"url": url, "final_url": "*"}),
            "`final_url`",
            "not a regular expression",
        ),
        (
            json!({"url": url, "expect_headers": {"a b": "x"}}),
            "`expect_headers.a b`",
            "not a header name",
        ),
        (
            json!({"url": url, "json": [{"path": "$.a["}]}),
            "`json[0].path`",
            "RFC 9535",
        ),
        (
            json!({"url": url, "json": [{"path": "$.a", "exists": false, "equals": 1}]}),
            "`json[0].exists`",
            "no other condition",
        ),
        (
            json!({"url": url, "json": [{"path": "$.a", "equals": [1]}]}),
            "a number",
            "true or false",
        ),
        (
            json!({"url": url, "min_bytes": 5, "max_bytes": 4}),
            "`min_bytes`",
            "no body has both",
        ),
        (
            json!({"url": url, "method": "HEAD", "json": [{"path": "$.a"}]}),
            "`json`",
            "no body",
        ),
        (
            json!({"url": url, "method": "HEAD", "body": "x"}),
            "`body`",
            "no body",
        ),
        (
            json!({"url": url, "degraded_after": "5"}),
            "duration such as",
            "first_byte",
        ),
        (
            json!({"url": url, "follow_redirects": "yes"}),
            "true, false",
            "at most 50",
        ),
        (
            json!({"url": url, "bearer": "secret", "headers": {"Authorization": "secret"}}),
            "`bearer`",
            "`headers.authorization` already",
        ),
        (
            json!({"url": url, "bearer": "secret\n"}),
            "`bearer`",
            "one line",
        ),
        (
            json!({"url": url, "basic_auth": {"username": "a:b", "password": "secret"}}),
            "`basic_auth.username`",
            "colon",
        ),
        (
            json!({"url": url, "oauth2": {"token_url": "x", "client_id": "a", "client_secret": "secret"}}),
            "`oauth2.token_url`",
            "begin with http",
        ),
        (
            json!({"url": url, "ca_file": "/a", "tls": {"ca_file": "/b"}}),
            "`tls.ca_file`",
            "one already",
        ),
        (
            json!({"url": url, "tls": {"pin_sha256": ["secret?"]}}),
            "`tls.pin_sha256[0]`",
            "base64",
        ),
        (
            json!({"url": url, "tls": {"client_cert": "/no/such.pem"}}),
            "`tls.client_cert`",
            "correct the path",
        ),
        (
            json!({"url": url, "ip_version": 5}),
            "4 or 6",
            "versions of IP",
        ),
        (
            json!({"url": url, "http_version": "3"}),
            "unknown variant `3`",
            "`1.1` or `2`",
        ),
        (
            json!({"url": url, "proxy": "proxy:3128"}),
            "`proxy`",
            "socks5://",
        ),
        (
            json!({"url": url, "proxy": "http://me:secret@proxy/"}),
            "`proxy`",
            "proxy_auth",
        ),
        (
            json!({"url": url, "follow_redirect": true}),
            "follow_redirect",
            "unknown field",
        ),
    ] {
        let failure = TestHost::new("shop")
            .create_async_unchecked::<HttpProbe>(&config.to_string())
            .err()
            .unwrap_or_else(|| panic!("{config} was accepted"));
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
fn every_wrong_key_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let config = json!({
        "url": "example.org",
        "expect_status": [700, 200, "300-200"],
        "headers": {"a b": "1", "te": "2"},
        "contains": "",
        "ca_file": empty,
    });
    let failure = TestHost::new("shop")
        .create_async_unchecked::<HttpProbe>(&config.to_string())
        .err()
        .unwrap();
    for key in [
        "key `url`: \"example.org\"",
        "key `expect_status[0]`: 700",
        "key `expect_status[2]`: the range \"300-200\"",
        "key `headers.a b`",
        "key `headers.te`",
        "key `contains`",
        "key `ca_file`",
    ] {
        assert!(failure.message().contains(key), "{key}: {failure}");
    }
    assert!(!failure.message().contains("expect_status[1]"), "{failure}");
}

#[test]
fn a_ca_file_that_cannot_be_used_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (path, rule) in [
        (
            folder.path().join("gone.pem"),
            "create it, or correct the path",
        ),
        (folder.path().to_owned(), "folder"),
        ("/dev/zero".into(), "not a regular file"),
        (file("empty.pem", ""), "no certificate"),
        (file("text.pem", "certificates\n"), "no certificate"),
        (
            file("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
            "not valid PEM",
        ),
        (
            file(
                "star.pem",
                "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
            ),
            "not valid PEM",
        ),
        (
            file("none.pem", not_a_certificate),
            "none of its 1 certificates",
        ),
    ] {
        let config = json!({"url": "https://shop.example/", "ca_file": path});
        let failure = TestHost::new("shop")
            .create_async_unchecked::<HttpProbe>(&config.to_string())
            .err()
            .unwrap();
        assert_eq!(failure.kind(), FailureKind::Config, "{path:?}");
        let message = failure.message();
        assert!(
            message.starts_with(&format!("key `ca_file`: {path:?}")),
            "{message}"
        );
        assert!(message.contains(rule), "{path:?}: {message}");
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
        (
            "http://b\u{fc}cher.example",
            false,
            "xn--bcher-kva.example",
            80,
            "/",
        ),
        ("http://shop.example./x", false, "shop.example.", 80, "/x"),
        (
            "http://shop.example/a b?c d",
            false,
            "shop.example",
            80,
            "/a%20b?c%20d",
        ),
        ("http://127.1:81/", false, "127.0.0.1", 81, "/"),
    ] {
        let target = TargetUrl::parse(url).unwrap();
        let found = (
            target.is_https(),
            target.host(),
            target.port(),
            target.path(),
        );
        assert_eq!(found, (https, host.to_owned(), port, path), "{url}");
    }
}

#[test]
fn the_zone_of_an_ipv6_address_finds_it_and_is_never_sent() {
    for (url, zone, authority) in [
        ("http://[fe80::1%25eth0]/x", "eth0", "[fe80::1]"),
        ("http://[fe80::1%eth0.7]:81/x", "eth0.7", "[fe80::1]:81"),
        ("https://[fe80::1%2]/x", "2", "[fe80::1]"),
        ("https://[fe80::1%25]/x", "25", "[fe80::1]"),
    ] {
        let target = TargetUrl::parse(url).unwrap();
        assert_eq!(target.address(), format!("fe80::1%{zone}"), "{url}");
        assert_eq!(target.authority(), authority, "{url}");
        for (location, expected) in [
            ("/y", Some(zone)),
            ("http://[fe80::1]:9/", Some(zone)),
            ("http://[fe80::2]/", None),
            ("http://[fe80::2%25lo]/", Some("lo")),
        ] {
            let next = target.join(location).unwrap();
            let address = next.address();
            let found = address.split_once('%').map(|(_, zone)| zone);
            assert_eq!(found, expected, "{url} to {location}");
        }
    }
    for url in [
        "http://[fe80::1%]/",
        "http://[fe80::1%25a b]/",
        "http://[fe80::1%a%b]/",
    ] {
        assert_eq!(TargetUrl::parse(url), Err(BadUrl::Malformed), "{url}");
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
        assert_eq!(TargetUrl::parse(url).unwrap().authority(), authority);
    }
}

#[test]
fn the_schema_tells_what_the_code_does() {
    let schema = conductor_plugin_api::schemars::schema_for!(crate::config::HttpConfig).to_value();
    let properties = &schema["properties"];
    assert_eq!(schema["required"], json!(["url"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(properties["method"]["default"], json!("GET"));
    assert_eq!(properties["expect_status"]["default"], json!(["200-299"]));
    assert_eq!(
        properties["url"]["pattern"],
        json!("^[Hh][Tt][Tt][Pp][Ss]?://.")
    );
    let status = &schema["$defs"]["ExpectedStatus"]["anyOf"];
    assert_eq!(
        (&status[0]["minimum"], &status[0]["maximum"]),
        (&json!(100), &json!(599))
    );
    assert!(status[1]["pattern"].is_string(), "{status}");
    assert!(properties["headers"]["propertyNames"]["pattern"].is_string());
    assert_eq!(properties["follow_redirects"]["default"], json!(true));
    for (name, property) in properties.as_object().unwrap() {
        assert!(property["description"].is_string(), "{name}: {property}");
    }
}
