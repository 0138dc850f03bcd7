//! Names from outside reach the terminal and the log escaped, whichever command prints them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::ffi::OsStrExt as _,
    process::Command,
    thread,
};

use serde_json::{Value, json};

use crate::harness::{Setup, conductor, library};

/// A terminal title, an invalid byte, and a change of the text direction.
const EVIL: &[u8] = b"evil-\x1b]0;owned\x07-\xff-\xe2\x80\xae.so";
const EVIL_TEXT: &str = "evil-\u{1b}]0;owned\u{7}-\u{9b}2J-\u{202e}";

/// Returns a command's whole output, and asserts that nothing in it can control a terminal.
#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    is_harmless(&text);
    text
}

#[track_caller]
fn is_harmless(text: &str) {
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(steers), "{text:?}");
}

#[test]
fn a_file_name_cannot_steer_the_terminal_of_who_looks_at_it() {
    let setup = Setup::without_plugins().platform("a", "fault", "{}");
    let evil = setup.plugin_dir().join(std::ffi::OsStr::from_bytes(EVIL));
    fs::copy(library("conductor_plugin_fault"), &evil).unwrap();
    let damaged = setup
        .plugin_dir()
        .join(std::ffi::OsStr::from_bytes(&[b"x", EVIL].concat()));
    fs::write(&damaged, &fs::read(&evil).unwrap()[..5000]).unwrap();
    let shown = "evil-\\u{1b}]0;owned\\u{7}-\\xff-\\u{202e}.so";
    for arguments in [
        &["plugin", "list"][..],
        &["plugin", "list", "--verbose"],
        &["plugin", "list", "--output", "json"],
        &["plugin", "pin"],
        &["config", "check"],
        &["run", "--once"],
    ] {
        let said = printed(&mut setup.command(arguments));
        let expected = match arguments.contains(&"json") {
            true => shown.replace('\\', "\\\\"),
            false => shown.to_owned(),
        };
        let names_it = !matches!(arguments, ["config", ..]);
        assert!(
            !names_it || said.contains(&expected),
            "{arguments:?}: {said}"
        );
    }
    for arguments in [
        &["plugin", "inspect"][..],
        &["plugin", "inspect", "--output", "json"],
        &["plugin", "validate", "--strictness", "2"],
        &["plugin", "run"],
    ] {
        for file in [&evil, &damaged] {
            printed(conductor(arguments).arg(file));
        }
    }
    printed(conductor(&["plugin", "diff"]).arg(&evil).arg(&damaged));
}

#[test]
fn a_foreign_host_cannot_steer_the_terminal_of_who_asks_it() {
    let host = Setup::new().platform("a", "fault", "{}").start();
    host.wait("a check", |m| m.checks("a", "healthy") >= 1.0);
    let mut status = host.status();
    let platform = &mut status["platforms"][0];
    for key in ["name", "plugin", "message"] {
        platform[key] = json!(EVIL_TEXT);
    }
    status["plugins"][0]["id"] = json!(EVIL_TEXT);
    status["plugins"][0]["error"] = json!(EVIL_TEXT);
    status["host"]["mode_reason"] = json!(EVIL_TEXT);
    let windows = json!([{
        "name": EVIL_TEXT, "reason": EVIL_TEXT, "platforms": [EVIL_TEXT], "labels": {}, "checks": "pause",
        "times": EVIL_TEXT, "origin": EVIL_TEXT,
    }]);
    let answers = [
        ("200 OK", status.to_string()),
        ("200 OK", windows.to_string()),
        ("200 OK", format!("no host at all: {EVIL_TEXT}")),
        ("500 Oh", EVIL_TEXT.to_owned()),
        ("404 Not Found", json!({ "error": EVIL_TEXT }).to_string()),
    ];
    let mut named = 0;
    for (code, body) in answers {
        let address = answering(code, body);
        for arguments in [
            &["status"][..],
            &["status", "--output", "json"],
            &["maintenance", "list"],
            &["maintenance", "list", "--output", "json"],
            &["check", "a"],
            &["breaker", "open", "a"],
            &["maintenance", "end", "a"],
        ] {
            let mut command = conductor(arguments);
            command.env("CONDUCTOR_ADDRESS", address.to_string());
            let said = printed(&mut command);
            named += usize::from(said.contains("owned"));
            if code == "200 OK"
                && arguments == ["status", "--output", "json"]
                && said.starts_with('{')
            {
                serde_json::from_str::<Value>(&said).unwrap();
            }
        }
    }
    assert!(named > 5, "the answers were not shown at all: {named}");
}

/// Sends this response to every request, until the tests are over.
fn answering(code: &'static str, body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

#[test]
fn a_secret_that_a_plugin_encodes_is_shown_nowhere() {
    use crate::c_plugins::source::{Language, compile, creating};
    let setup = Setup::without_plugins();
    let secret = "Open-Sesame/of the shop";
    let encoded = [
        secret.to_lowercase(),
        secret.to_uppercase(),
        // Base64 of "operator:" and the secret.
        "b3BlcmF0b3I6T3Blbi1TZXNhbWUvb2YgdGhlIHNob3A=".to_owned(),
        secret.replace('/', "%2F").replace(' ', "%20"),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ];
    let list: Vec<String> = encoded.iter().map(|text| format!("{text:?}")).collect();
    let source = creating("return malloc(1);")
        .replace(
            "conductor_report(call, 0, \"fine\");",
            "static int n; conductor_report(call, 0, said[n % 5]); conductor_log(call, 3, said[n++ % 5]);",
        )
        .replace(
            "static void check(",
            &format!("static const char *said[] = {{{}}};\nstatic void check(", list.join(", ")),
        );
    if !compile(&source, Language::C, &setup.plugin_dir().join("sinner.so")) {
        return;
    }
    fs::write(setup.path("secret"), secret).unwrap();
    let secret_file = setup.path("secret");
    let config = format!(
        "{{ token = {{ file = {:?} }} }}",
        secret_file.display().to_string()
    );
    let host = setup.platform("p", "sinner", &config).start();
    host.wait("checks", |m| m.checks("p", "healthy") >= 12.0);
    let seen = format!("{}{}", host.log(), host.status());
    for text in encoded {
        assert!(!seen.contains(&text), "{text} is in {seen}");
    }
    assert!(seen.contains("(a secret)"), "{seen}");
}
