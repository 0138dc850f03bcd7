//! The client against test servers, each of which responds once.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::*;
use crate::CommandExit;

#[test]
fn a_name_cannot_leave_its_place_in_the_path() {
    assert_eq!(platform_path("db-1.eu"), "/api/v1/platforms/db-1.eu");
    assert_eq!(
        platform_path("a/../b?c"),
        "/api/v1/platforms/a%2F..%2Fb%3Fc"
    );
}

#[test]
fn a_host_that_speaks_https_is_asked_where_its_ca_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (port, asked, ca) = serve_https(folder.path(), "200 OK", "[1]");
    let password = folder.path().join("password");
    std::fs::write(&password, "pass:word\n").unwrap();
    let client = HostClient::open(&RemoteArgs {
        address: Some(format!("https://localhost:{port}/base/")),
        ca_file: Some(ca),
        user: Some("me".to_owned()),
        password_file: Some(password),
    });
    let (_, found) = client.unwrap().look::<Vec<u8>>("/api/v1/x").unwrap();
    assert_eq!(found, [1]);
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("GET /base/api/v1/x HTTP/1.1\r\n"),
        "{asked}"
    );
    // me:pass:word
    assert!(
        asked.contains("authorization: Basic bWU6cGFzczp3b3Jk\r\n"),
        "{asked}"
    );
}

#[test]
fn a_host_whose_ca_is_not_trusted_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (port, asked, _) = serve_https(folder.path(), "200 OK", "[1]");
    let (_, _, other) = serve_https(&folder.path().join("other"), "200 OK", "");
    let client = HostClient::open(&RemoteArgs {
        ca_file: Some(other),
        ..remote(&format!("https://localhost:{port}"))
    });
    let error = error(client.unwrap().look::<Vec<u8>>("/api/v1/x"));
    assert!(error.contains("--ca-file"), "{error}");
    assert_eq!(asked.join().unwrap(), "");
}

#[test]
fn what_is_missing_to_ask_is_told_before_anybody_is_asked() {
    let open = |remote| error(HostClient::open(&remote));
    let lone_user = RemoteArgs {
        password_file: Some("/nowhere/password".into()),
        user: Some("me".to_owned()),
        ..remote("localhost")
    };
    assert!(open(lone_user).contains("cannot read the password file /nowhere/password"));
    let no_ca = RemoteArgs {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..remote("https://localhost")
    };
    assert!(open(no_ca).contains("the CA file /nowhere/ca.pem"));
}

#[test]
fn a_command_line_that_cannot_work_is_a_usage_error() {
    let of = |remote: RemoteArgs| HostClient::open(&remote).err().map(|error| error.exit());
    let lone_user = RemoteArgs {
        user: Some("me".to_owned()),
        ..remote("localhost")
    };
    assert_eq!(of(lone_user), Some(CommandExit::Usage));
    for address in ["ftp://localhost", "http://me:secret@localhost", ":port"] {
        assert_eq!(of(remote(address)), Some(CommandExit::Usage), "{address}");
    }
    assert_eq!(of(remote("localhost")), None);
}

#[test]
fn data_that_a_command_can_do_without_is_no_error_where_it_is_missing() {
    let look = |address: &str| {
        let client = HostClient::open(&remote(address)).unwrap();
        client.look_if_running::<Vec<u8>>("/api/v1/x", "x")
    };
    let (port, _asked) = serve("200 OK", "[1]");
    assert_eq!(look(&format!("127.0.0.1:{port}")), Some(vec![1]));
    let (port, _asked) = serve("401 Unauthorized", "");
    assert_eq!(look(&format!("127.0.0.1:{port}")), None);
    assert_eq!(look("127.0.0.1:1"), None);
}

#[test]
fn answers_that_are_none_of_a_hosts_are_told_with_who_answered_and_the_cure() {
    for (status, body, wanted) in [
        (
            "401 Unauthorized",
            "Unauthorized",
            "--user and --password-file",
        ),
        (
            "403 Forbidden",
            "Not enabled: start the host with --web.enable-lifecycle.",
            "Not enabled",
        ),
        (
            "404 Not Found",
            "<html>nginx</html>",
            "is it a Conductor host?",
        ),
        (
            "200 OK",
            "<html>hello</html>",
            "is it a Conductor host, and of this version",
        ),
        ("500 Oops", "\u{1b}[31mred", "[31mred"),
    ] {
        let (port, asked) = serve(status, body);
        let client = HostClient::open(&remote(&format!("127.0.0.1:{port}"))).unwrap();
        let error = error(client.look::<Vec<u8>>("/api/v1/x"));
        assert!(error.contains(wanted), "{status}: {error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
        asked.join().unwrap();
    }
}

#[test]
fn who_does_not_speak_https_is_named_as_such() {
    let (port, _asked) = serve("200 OK", "[]");
    let folder = tempfile::tempdir().unwrap();
    let (_, _, ca) = serve_https(folder.path(), "200 OK", "");
    let client = HostClient::open(&RemoteArgs {
        ca_file: Some(ca),
        ..remote(&format!("https://127.0.0.1:{port}"))
    });
    let error = error(client.unwrap().look::<Vec<u8>>("/api/v1/x"));
    assert!(error.contains("does not speak https"), "{error}");
}

fn remote(address: &str) -> RemoteArgs {
    RemoteArgs {
        address: Some(address.to_owned()),
        ca_file: None,
        user: None,
        password_file: None,
    }
}

fn error<T>(result: Result<T, CliError>) -> String {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.to_string(),
    }
}

/// Responds once; the thread returns the request.
fn serve(status: &str, body: &str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer(status, body);
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        exchange(stream, &answer)
    });
    (port, thread)
}

/// Responds once over TLS, as `localhost`; also returns the file of its CA.
fn serve_https(folder: &Path, status: &str, body: &str) -> (u16, JoinHandle<String>, PathBuf) {
    std::fs::create_dir_all(folder).unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer(status, body);
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        exchange(StreamOwned::new(tls, stream), &answer)
    });
    (port, thread, ca)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// Reads a request up to the end of its head, and responds; returns an empty text if there is none.
fn exchange(mut stream: impl Read + Write, answer: &str) -> String {
    let mut asked = Vec::new();
    let mut byte = [0];
    // Other data, such as the first record of TLS, has no such end.
    let is_text = |asked: &[u8]| asked.first().is_none_or(u8::is_ascii_alphabetic);
    while is_text(&asked) && !asked.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => asked.push(byte[0]),
            _ => return String::new(),
        }
    }
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
    String::from_utf8_lossy(&asked).into_owned()
}
