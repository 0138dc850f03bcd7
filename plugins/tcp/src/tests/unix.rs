//! Unix sockets.

use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_unix_socket_is_checked_like_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(b"+PONG\r\n").unwrap();
        }
    });
    let config = json!({"address": format!("unix:{}", path.display()), "send": "PING\r\n", "expect": "+PONG"});
    let report = patient(&config);
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(phases(&report), ["connect", "first_byte", "response"]);
}

#[test]
fn a_socket_without_a_server_is_unhealthy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.sock");
    let config = json!({"address": format!("unix:{}", path.display())});
    assert_unhealthy(&patient(&config), "there is no such socket");
    drop(UnixListener::bind(&path).unwrap());
    assert_unhealthy(&patient(&config), "connection refused");
}

#[test]
fn a_relative_path_is_refused() {
    let created =
        TestHost::new("db").create_async_unchecked::<TcpProbe>(r#"{"address": "unix:cache.sock"}"#);
    let failure = created.err().unwrap();
    assert!(failure.message().contains("write unix:/PATH"), "{failure}");
}
