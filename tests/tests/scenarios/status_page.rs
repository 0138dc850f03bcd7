//! The status page of a real host in a real browser, and its API compared with its own description.
//!
//! The browser is Debian's `chromium`; without it, these tests print a note and pass.

use std::{io::Write as _, net::TcpStream};

use serde_json::{Value, json};

use crate::harness::{Host, PATIENCE, Setup};

#[test]
fn every_answer_of_the_api_is_as_it_describes_itself() {
    let host = platforms().start_with_these(&[]);
    host.wait("reports of each kind", |m| {
        m.checks("good", "healthy") >= 2.0 && m.checks("bad", "failed") >= 3.0
    });
    let get = |path: &str| -> Value {
        let (code, body) = host.get(path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let described = get("/api/v1/openapi.json");
    let hold = |schema: &Value, answer: &Value| {
        let mut schema = schema.clone();
        schema["components"] = described["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors = validator.iter_errors(answer).map(|e| e.to_string());
        let errors: Vec<_> = errors.collect();
        assert!(errors.is_empty(), "{errors:#?}\n{answer:#}");
    };
    let paths = described["paths"].as_object().unwrap();
    let mut held = 0;
    for (path, methods) in paths {
        let answer = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if answer.is_object() {
            for name in ["good", "bad", "odd"] {
                hold(answer, &get(&path.replace("{name}", name)));
                held += 1;
            }
        }
        // Requests without a body, which the host refuses: but every method exists.
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{name}", "good").replace("{order}", "reset");
            let code = ask(&host, &method.to_uppercase(), &path);
            let wanted = match method.as_str() {
                // It takes a token.
                "post" if path.contains("/heartbeat/") => 401,
                "post" => 403,
                _ => 200,
            };
            assert_eq!(code, wanted, "{method} {path}");
        }
    }
    assert_eq!(
        held, 30,
        "status, platforms, platform and its past, plugins, maintenance, uptime, incidents, export and the description"
    );

    let schema = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut listening = TcpStream::connect(host.address).unwrap();
    listening.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        listening,
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(listening));
    let (mut kind, mut seen) = (String::new(), Vec::new());
    for line in lines.map_while(Result::ok) {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut kind);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            match kind.as_str() {
                "host" => hold(&schema("HostView"), &data),
                "platform" => hold(&schema("PlatformView"), &data),
                _ => {}
            }
            seen.push(kind.clone());
        }
        if seen.len() >= 12 {
            break;
        }
    }
    assert_eq!(
        seen[..5],
        ["reset", "host", "platform", "platform", "platform"]
    );
}

#[cfg(unix)]
mod browser;

/// Returns one platform of each kind.
fn platforms() -> Setup {
    Setup::new()
        .platform("good", "fault", "{}")
        .platform("bad", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("odd", "fault", r#"{ status = "degraded" }"#)
        .with("labels = { team = \"<b>chat</b>\" }")
}

/// Returns the status code of a request without a body. Does not wait for the body, as a stream has no end.
fn ask(host: &Host, method: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(host.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    let head = lines.next().unwrap().unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
