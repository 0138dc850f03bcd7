//! Servers of an API on loopback: healthy, encrypted, at a socket, and misbehaving.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use conductor_plugin_api::config::Secret;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::*;
use crate::{
    CheckError, PhaseClock, TimeLimit, TlsConfig,
    testing::{self, BadServer},
};

const MINUTE: Duration = Duration::from_secs(60);

fn server(url: &str) -> ApiServer {
    let mut headers = header::HeaderMap::new();
    let mut faults = Vec::new();
    let token = Secret::from("abc-secret".to_owned());
    authorize(&mut headers, None, Some(&token), &[], &mut faults);
    let server = ApiServer::at_url(
        "shop",
        "url",
        url,
        &TlsConfig::default(),
        headers,
        &mut faults,
    );
    assert_eq!(faults, [""; 0]);
    server.unwrap()
}

/// Runs requests with a limit; returns the phases too.
fn run<T>(
    limit: Duration,
    ask: impl AsyncFnOnce(&mut PhaseClock<'_>) -> T,
) -> (T, Vec<&'static str>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let begun = tokio::time::Instant::now();
    let remaining = || limit.saturating_sub(begun.elapsed());
    let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
    let outcome = runtime.block_on(ask(&mut clock));
    let phases = clock.phases().map(|(phase, _)| phase).collect();
    (outcome, phases)
}

fn ask(server: &mut ApiServer, request: ApiRequest) -> Result<ApiResponse, CheckError> {
    run(MINUTE, async |clock| server.ask(request, clock).await).0
}

fn message(error: &CheckError) -> &str {
    match error {
        CheckError::Platform(message) | CheckError::Degraded(message) => message,
        CheckError::Host(failure) => failure.message(),
    }
}

#[test]
fn a_request_has_the_path_the_query_and_the_headers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let address = testing::serve(move |request, stream| {
        record.lock().unwrap().push(request.clone());
        stream
            .write_all(&testing::json(200, &json!({"a": 1})))
            .unwrap();
    });
    let mut server = server(&format!("http://{address}/base/"));
    let request = ApiRequest::get("/v1/query").query("q", "a b&c=é");
    let (response, phases) = run(MINUTE, async |clock| server.ask(request, clock).await);
    let response = response.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.json::<Value>().unwrap(), json!({"a": 1}));
    assert_eq!(phases, ["connect", "first_byte", "transfer"]);
    ask(&mut server, ApiRequest::post("/v1/x", &json!(["y"]))).unwrap();

    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].line(), "GET /base/v1/query?q=a+b%26c%3D%C3%A9");
    assert_eq!(seen[0].header("authorization"), Some("Bearer abc-secret"));
    assert_eq!(seen[0].header("host"), Some(&*address.to_string()));
    assert_eq!(seen[1].line(), "POST /base/v1/x");
    assert_eq!(seen[1].body, "[\"y\"]");
    assert_eq!(seen[1].header("content-type"), Some("application/json"));
}

#[test]
fn servers_that_misbehave_are_at_fault_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let mut server = server(&bad.url);
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        let (outcome, _) = run(limit, async |clock| {
            let response = server.ask(ApiRequest::get("/"), clock).await?;
            response.json::<Value>().map(drop)
        });
        let Err(CheckError::Platform(message)) = outcome else {
            panic!("{}: {outcome:?}", bad.name);
        };
        assert!(message.contains(bad.message), "{}: {message}", bad.name);
    }
}

#[test]
fn the_body_of_a_response_is_not_in_messages() {
    let address = testing::serve(|_, stream| {
        stream
            .write_all(&testing::json(200, &json!({"a": "open sesame"})))
            .unwrap();
    });
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "never read")]
    struct Expected {
        a: u32,
    }
    let mut server = server(&format!("http://{address}"));
    let response = ask(&mut server, ApiRequest::get("/x").query("token", "secret")).unwrap();
    let error = response.json::<Expected>().unwrap_err();
    let message = message(&error);
    assert!(
        message.starts_with("GET /x: 200 OK, application/json, 19 bytes: "),
        "{message}"
    );
    assert!(
        message.contains("another type than the API documents"),
        "{message}"
    );
    assert!(
        !message.contains("sesame") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn a_stream_is_read_line_by_line_as_it_comes() {
    let (resume, wait) = std::sync::mpsc::channel();
    let wait = Mutex::new(wait);
    let address = testing::serve(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream
            .write_all(format!("{head}6\r\na\r\n\nbc\r\n").as_bytes())
            .unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"2\r\nde\r\n0\r\n\r\n").unwrap();
    });
    let mut server = server(&format!("http://{address}"));
    let lines = run(MINUTE, async |clock| {
        let mut stream = server.open(ApiRequest::get("/"), clock).await?;
        let mut lines = Vec::new();
        for _ in 0..2 {
            lines.extend(stream.line(&clock.limit).await?);
        }
        // The first lines are here before the server sends the rest.
        resume.send(()).unwrap();
        while let Some(line) = stream.line(&clock.limit).await? {
            lines.push(line);
        }
        Ok::<_, CheckError>(lines)
    });
    assert_eq!(lines.0.unwrap(), ["a", "", "bcde"]);
}

#[cfg(unix)]
#[test]
fn a_server_at_a_socket_is_asked_and_a_missing_one_named() {
    use crate::SocketTarget;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    testing::serve_unix(&path, |request, stream| {
        assert_eq!(request.header("host"), Some("localhost"));
        stream
            .write_all(&testing::json(200, &json!("pong")))
            .unwrap();
    });
    let mut there =
        ApiServer::at_socket("shop", SocketTarget::Unix(path), header::HeaderMap::new());
    let response = ask(&mut there, ApiRequest::get("/_ping")).unwrap();
    assert_eq!(response.json::<String>().unwrap(), "pong");

    let missing = folder.path().join("missing.sock");
    let mut missing = ApiServer::at_socket(
        "shop",
        SocketTarget::Unix(missing),
        header::HeaderMap::new(),
    );
    let error = ask(&mut missing, ApiRequest::get("/")).err().unwrap();
    assert!(
        message(&error).ends_with("there is no such socket"),
        "{error:?}"
    );
}

#[test]
fn keys_that_cannot_work_are_named() {
    let tls = TlsConfig {
        ca_file: Some("/nonexistent/ca.pem".into()),
        ..TlsConfig::default()
    };
    let at = |url: &str, tls: &TlsConfig| {
        let mut faults = Vec::new();
        ApiServer::at_url(
            "shop",
            "url",
            url,
            tls,
            header::HeaderMap::new(),
            &mut faults,
        );
        faults.join("; ")
    };
    let plain = TlsConfig::default();
    assert!(at("prometheus:9090", &plain).starts_with("key `url`: "));
    assert!(at("http://a/?x=y", &plain).starts_with("key `url`: the URL has a query"));
    assert!(
        at("https://a/", &tls).starts_with("key `ca_file`: "),
        "{}",
        at("https://a/", &tls)
    );
    assert_eq!(at("http://a/", &plain), "");

    let mut faults = Vec::new();
    let entries = [
        ("connection", "close"),
        ("a b", "x"),
        ("x", "y\nz"),
        ("authorization", "x"),
    ];
    let mut headers = named(entries, &mut faults);
    let token = Secret::from("open\nsesame".to_owned());
    authorize(&mut headers, None, Some(&token), &[], &mut faults);
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert!(
        faults
            .iter()
            .all(|fault| !fault.contains("sesame") && fault.starts_with("key `"))
    );
}

/// Starts a server with TLS for 127.0.0.1, and writes its certificate to a file.
fn encrypted(ca_file: &std::path::Path) -> SocketAddr {
    use tokio_rustls::rustls::{
        self, ServerConfig, ServerConnection, crypto::ring, pki_types::PrivateKeyDer,
    };

    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(ca_file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut session, &mut stream);
            let _ = stream.write_all(&testing::json(200, &json!("pong")));
            let _ = stream.flush();
            drop(std::io::Read::read(&mut stream, &mut [0; 4096]));
        }
    });
    address
}

#[test]
fn a_server_with_tls_is_verified_and_its_certificate_measured() {
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    let address = encrypted(ca_file.path());
    let tls = TlsConfig {
        ca_file: Some(ca_file.path().to_owned()),
        ..TlsConfig::default()
    };
    let url = format!("https://{address}");
    let none = header::HeaderMap::new;
    let mut faults = Vec::new();
    let mut server = ApiServer::at_url("shop", "url", &url, &tls, none(), &mut faults).unwrap();
    let (response, phases) = run(MINUTE, async |clock| {
        server.ask(ApiRequest::get("/"), clock).await
    });
    assert_eq!(response.unwrap().json::<String>().unwrap(), "pong");
    assert_eq!(phases, ["connect", "tls", "first_byte", "transfer"]);
    assert!(server.certificate_expiry().is_some());

    let unknown = TlsConfig::default();
    let mut server = ApiServer::at_url("shop", "url", &url, &unknown, none(), &mut faults).unwrap();
    let error = ask(&mut server, ApiRequest::get("/")).err().unwrap();
    assert!(message(&error).contains("certificate"), "{error:?}");
}
