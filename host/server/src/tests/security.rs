//! Access control: passwords, the request rate, and a web config that changes while the server runs.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A web config on disk.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Self { folder };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("web.yml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn host(&self) -> Host {
        Host {
            security: ServerSecurity::read(&self.path()).unwrap(),
            ..Host::default()
        }
    }
}

fn user(name: &str, password: &str) -> String {
    format!(
        "basic_auth_users:\n  {name}: {}\n",
        bcrypt::hash(password, 4).unwrap()
    )
}

fn login(who: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(who))
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}

#[test]
fn every_route_asks_for_a_name_and_a_password() {
    let file = File::new(&user("alice", "wonder:land"));
    let server = file.host().serve(ServerLimits::default());
    let right = login("alice:wonder:land");
    for path in ["/", "/metrics", "/-/healthy", "/api/v1/status", "/nothing"] {
        let refused = server.ask(&get(path, ""));
        assert_eq!(status(&refused), 401, "{refused}");
        assert!(
            refused.contains("www-authenticate: Basic realm=\"Conductor\""),
            "{refused}"
        );
        assert!(!refused.contains("healthy"), "{refused}");
        let answer = server.ask(&get(path, &right));
        assert!([200, 404, 501].contains(&status(&answer)), "{answer}");
    }
    for wrong in [
        "authorization: Basic\r\n".to_owned(),
        "authorization: Basic !!!\r\n".to_owned(),
        format!("authorization: Basic {}\r\n", STANDARD.encode("alice")),
        format!(
            "authorization: Basic {}\r\n",
            STANDARD.encode(b"alice:\xff")
        ),
        "authorization: Bearer alice:wonder:land\r\n".to_owned(),
        login("alice:wonder"),
        login("Alice:wonder:land"),
        login("nobody:wonder:land"),
        login(":"),
    ] {
        let refused = server.ask(&get("/-/healthy", &wrong));
        assert_eq!(status(&refused), 401, "{wrong}: {refused}");
    }
    let lower = right.replace("Basic", "basic");
    assert_eq!(status(&server.ask(&get("/-/healthy", &lower))), 200);
}

#[test]
fn a_change_of_state_takes_a_password_and_an_origin_of_ones_own() {
    let file = File::new(&user("alice", "wonder"));
    let server = file.host().serve_with(ServerLimits::default(), |state| {
        state.control = Some(control::reloading(|| Ok(())))
    });
    let post = |headers: &str| {
        let request = format!(
            "POST /-/reload HTTP/1.1\r\nhost: host:9750\r\nconnection: close\r\n{headers}\r\n"
        );
        status(&server.ask(&request))
    };
    let right = login("alice:wonder");
    assert_eq!(post(""), 401);
    assert_eq!(post("origin: https://host:9750\r\n"), 401);
    assert_eq!(post(&right), 200);
    assert_eq!(post(&format!("{right}origin: https://host:9750\r\n")), 200);
    // A browser sends the password along with requests from another site's page.
    assert_eq!(post(&format!("{right}origin: https://host:9751\r\n")), 403);
    assert_eq!(
        post(&format!("{right}origin: https://evil.example\r\n")),
        403
    );
    assert_eq!(post(&format!("{right}sec-fetch-site: cross-site\r\n")), 403);
    let get = server.ask(&get("/-/reload", &right));
    assert_eq!(status(&get), 405, "{get}");
}

#[test]
fn a_changed_file_holds_from_the_next_request_on_and_a_broken_one_never() {
    let file = File::new("");
    let server = file.host().serve(ServerLimits::default());
    let mut kept = server.connect();
    let mut ask = |headers: &str| {
        let request = format!("HEAD /-/healthy HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        kept.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            kept.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        status(&String::from_utf8(answer).unwrap())
    };
    assert_eq!(ask(""), 200);
    file.write(&user("alice", "wonder"));
    assert_eq!(ask(""), 401);
    assert_eq!(ask(&login("alice:wonder")), 200);
    file.write("basic_auth_users: oops\n");
    assert_eq!(ask(""), 401, "a mistake opens no door");
    assert_eq!(ask(&login("alice:wonder")), 200);
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(ask(""), 401, "nor does a file that is gone");
    file.write(&user("bob", "builder"));
    assert_eq!(ask(&login("alice:wonder")), 401);
    assert_eq!(ask(&login("bob:builder")), 200);
    for empty in ["", "\n", "# soon\n", "---\n"] {
        file.write(empty);
        assert_eq!(ask(""), 401, "an editor begins with an empty file");
        assert_eq!(ask(&login("bob:builder")), 200);
    }
    file.write("basic_auth_users:\n  bob:\n");
    assert_eq!(
        ask(""),
        401,
        "nor is half a line a wish to let everybody in"
    );
    file.write("{}\n");
    assert_eq!(ask(""), 200);
}

#[test]
fn a_stream_ends_when_the_web_config_changes() {
    let file = File::new(&user("alice", "wonder"));
    let server = file.host().serve(ServerLimits::default());
    let listen = |who: &str| {
        let mut stream = server.connect();
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
            login(who)
        );
        stream.write_all(head.as_bytes()).unwrap();
        streams::read_until(&mut stream, "event: host");
        stream
    };
    let mut stream = listen("alice:wonder");
    // A mistake does not change who has access.
    file.write("basic_auth_users: oops\n");
    for _ in 0..4 {
        streams::read_until(&mut stream, "event: host");
    }
    file.write(&user("bob", "builder"));
    let clock = conductor_core::clock::Clock::start();
    let mut piece = [0; 1024];
    while stream.read(&mut piece).unwrap_or(0) > 0 {
        assert!(clock.now() < PATIENCE, "it goes on");
    }
    let refused = server.ask(&get("/api/v1/events", &login("alice:wonder")));
    assert_eq!(status(&refused), 401, "{refused}");
    let mut stream = listen("bob:builder");
    for _ in 0..4 {
        streams::read_until(&mut stream, "event: host");
    }
}

#[test]
fn the_headers_asked_for_come_with_every_response() {
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=1\n    Content-Security-Policy: \"default-src 'self'\"\n";
    let file = File::new(&format!("{headers}{}", user("a", "b")));
    let server = file.host().serve(ServerLimits::default());
    for request in [
        get("/", ""),
        get("/", &login("a:b")),
        get("/no", &login("a:b")),
    ] {
        let answer = server.ask(&request);
        assert!(answer.contains("x-frame-options: deny\r\n"), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=1\r\n"));
        // The operator's headers win; the others remain the server's.
        assert!(answer.contains("content-security-policy: default-src 'self'\r\n"));
        assert_eq!(answer.matches("content-security-policy: ").count(), 1);
    }
    for request in [get("/", &login("a:b")), get("/no", &login("a:b"))] {
        let answer = server.ask(&request);
        assert!(
            answer.contains("x-content-type-options: nosniff\r\n"),
            "{answer}"
        );
    }
}

#[test]
fn more_requests_than_the_rate_allows_are_told_to_come_back() {
    let file = File::new("rate_limit:\n  interval: 1h\n  burst: 3\n");
    let server = file.host().serve(ServerLimits::default());
    let answers: Vec<_> = (0..5).map(|_| server.get("/-/healthy")).collect();
    let codes: Vec<_> = answers.iter().map(|answer| status(answer)).collect();
    assert_eq!(codes, [200, 200, 200, 429, 429]);
    assert!(answers[4].contains("retry-after: 1"), "{}", answers[4]);
}

#[test]
fn half_a_handshake_is_cut_and_plain_http_is_told_to_use_https() {
    let file = File::new("");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let put = |name, text: String| std::fs::write(file.folder.path().join(name), text).unwrap();
    put("server.crt", params.self_signed(&key).unwrap().pem());
    put("server.key", key.serialize_pem());
    file.write("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n");
    let server = file.host().serve(ServerLimits {
        header_time: Duration::from_millis(200),
        ..ServerLimits::default()
    });
    // Nothing, or the beginning of a TLS record that never ends.
    for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut slow = server.connect();
        slow.write_all(start).unwrap();
        assert_eq!(read_to_end(&mut slow), "");
    }
    let answer = server.get("/-/healthy");
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("use https"), "{answer}");
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_can_neither_read_nor_change_anything() {
    let ask = |server: &Running, request: &str, name: &str, headers: &str| {
        // The request of a browser for which this page and this host have one origin.
        server.ask(&format!(
            "{request} HTTP/1.1\r\nhost: {name}\r\norigin: http://{name}\r\nsec-fetch-site: same-origin\r\nconnection: close\r\n{headers}\r\n"
        ))
    };
    let allow: fn(&mut ServerState) = |state| state.control = Some(control::reloading(|| Ok(())));
    let routes = [
        "GET /",
        "GET /metrics",
        "GET /-/healthy",
        "GET /api/v1/status",
        "GET /api/v1/events",
        "POST /-/reload",
    ];
    for file in [None, Some(File::new("{}"))] {
        let host = file.as_ref().map_or_else(Host::default, File::host);
        let server = host.serve_with(ServerLimits::default(), allow);
        for route in routes {
            let answer = ask(&server, route, "evil.example:9750", "");
            assert_eq!(status(&answer), 421, "{route}: {answer}");
            assert!(answer.contains("--web.external-url"), "{answer}");
            assert!(answer.contains(&server.address.to_string()), "{answer}");
        }
        let reload = ask(&server, "POST /-/reload", "127.0.0.1:9750", "");
        assert_eq!(status(&reload), 200, "{reload}");
        let old = server.ask("GET /-/healthy HTTP/1.0\r\n\r\n");
        assert_eq!(status(&old), 200, "{old}");
    }
    // Such a page has no password, and a host with a password may have any name.
    let file = File::new(&user("alice", "wonder"));
    let server = file.host().serve_with(ServerLimits::default(), allow);
    for route in routes {
        assert_eq!(status(&ask(&server, route, "evil.example", "")), 401);
    }
    let named = ask(&server, "GET /", "host.example", &login("alice:wonder"));
    assert_eq!(status(&named), 200, "{named}");
}

#[test]
fn a_heartbeat_needs_its_token_and_no_password() {
    let file = File::new(&user("alice", "wonder:land"));
    let server = file.host().serve(ServerLimits::default());
    let post = |path: &str, headers: &str| {
        server.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
        ))
    };
    let backup = "/api/v1/heartbeat/backup";
    let right = "authorization: bearer right\r\n";
    let login = login("alice:wonder:land");
    for (path, headers, code, text) in [
        (backup, right, 200, "Received."),
        (
            backup,
            "authorization: Bearer wrong\r\n",
            401,
            "www-authenticate: Bearer",
        ),
        (
            backup,
            "authorization: Bearer \r\n",
            401,
            "www-authenticate: Bearer",
        ),
        (backup, "", 401, "Authorization: Bearer TOKEN"),
        (backup, &login, 401, "Authorization: Bearer TOKEN"),
        (
            "/api/v1/heartbeat/nobody",
            right,
            404,
            "No platform named nobody",
        ),
        ("/api/v1/heartbeat/busy", right, 429, "retry-after: 1"),
        (
            "/api/v1/heartbeat/backup?start&exit_code=0",
            right,
            400,
            "Refused: `start`",
        ),
        (
            "/api/v1/heartbeat/backup?code=0",
            right,
            400,
            "unknown field `code`",
        ),
        // A token is for heartbeats alone.
        (
            "/api/v1/platforms/shop/check",
            right,
            401,
            "a user name and a password",
        ),
    ] {
        let answer = post(path, headers);
        assert_eq!(status(&answer), code, "{path} {headers}: {answer}");
        assert!(answer.contains(text), "{path} {headers}: {answer}");
    }
    for path in [
        "",
        "..",
        "../status",
        "%2e%2e/status",
        "a/../../status",
        "a//status",
    ] {
        let answer = server.ask(&get(&format!("/api/v1/heartbeat/{path}"), right));
        assert!([404, 405].contains(&status(&answer)), "{path}: {answer}");
        assert!(!answer.contains("\"platforms\""), "{path}: {answer}");
    }
}

#[test]
fn a_heartbeat_is_held_to_the_request_rate_and_to_the_names_of_the_host() {
    let file = File::new("rate_limit:\n  interval: 1h\n  burst: 1\n");
    let server = file.host().serve(ServerLimits::default());
    let post = |host: &str| {
        server.ask(&format!(
            "POST /api/v1/heartbeat/backup HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\nauthorization: Bearer right\r\n\r\n"
        ))
    };
    assert_eq!(status(&post("evil.example")), 421);
    assert_eq!(status(&post("localhost")), 429);
}
