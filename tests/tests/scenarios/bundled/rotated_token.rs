//! The token of a service account, which the kubelet replaces while a worker of `kubernetes` runs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use crate::harness::Setup;

/// Starts an API server that accepts the current token alone.
fn api_server(accepted: Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            let line = format!("authorization: Bearer {}\r\n", accepted.lock().unwrap());
            let is_accepted = String::from_utf8_lossy(&request).contains(&line);
            let status = if is_accepted {
                "200 OK"
            } else {
                "401 Unauthorized"
            };
            let body = "[+]ping ok\nreadyz check passed\n";
            let _ = stream.write_all(
                format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
    });
    address
}

/// Writes the token as the kubelet does: into a new folder, to which a link is then switched.
fn rotate(folder: &Path, generation: &str, token: &str) {
    fs::create_dir(folder.join(generation)).unwrap();
    fs::write(folder.join(generation).join("token"), token).unwrap();
    symlink(generation, folder.join("..next")).unwrap();
    fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
}

#[test]
fn a_token_that_the_kubelet_replaces_is_used_without_a_reload() {
    let account = tempfile::tempdir().unwrap();
    let folder = account.path();
    rotate(folder, "..1", "token-1");
    symlink("..data/token", folder.join("token")).unwrap();
    let accepted = Arc::new(Mutex::new("token-1".to_owned()));
    let address = api_server(accepted.clone());
    let shown = folder.display();
    let host = Setup::without_plugins()
        .host("interval = \"1s\"\ntimeout = \"1s\"\nstagger = \"10ms\"")
        .with(&format!(
            "[plugin.kubernetes]\nallow = [\"network\", \"read {shown}\"]"
        ))
        .bundled("kubernetes")
        .platform(
            "cluster",
            "kubernetes",
            &format!(
                "{{ url = \"http://{address}\", resources = [], token_file = \"{shown}/token\" }}"
            ),
        )
        .start();
    host.wait("the first token is accepted", |m| {
        m.checks("cluster", "healthy") > 0.0
    });
    "token-2".clone_into(&mut accepted.lock().unwrap());
    let before = host.wait("the first token is refused", |m| {
        m.checks("cluster", "unhealthy") > 0.0
    });
    rotate(folder, "..2", "token-2");
    fs::remove_dir_all(folder.join("..1")).unwrap();
    let healthy = before.checks("cluster", "healthy");
    host.wait("the second token is accepted", |m| {
        m.checks("cluster", "healthy") > healthy
    });
}
