//! Tokens that are replaced, client certificates, and credentials that are not accepted.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener},
    path::Path,
    sync::Arc,
    thread,
};

use conductor_net::testing::SeenRequest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::{cluster::*, *};

fn secured(token: &str) -> TestCluster {
    let mut cluster = TestCluster::healthy();
    cluster.token = Some(token.to_owned());
    cluster
}

#[test]
fn a_token_authenticates_each_request_and_is_not_shown() {
    let server = secured("good-token").start();
    let report = server.check(json!({"token": "good-token\n"}));
    assert_report(&report, Status::Healthy, "3 of 3 nodes ready");
    for keys in [json!({"token": "old-token"}), json!({})] {
        let report = server.check(keys);
        assert_report(
            &report,
            Status::Unhealthy,
            "GET /readyz: 401 Unauthorized, application/json",
        );
        assert_report(
            &report,
            Status::Unhealthy,
            "the API server does not accept the credentials (Unauthorized); replace the expired or wrong token",
        );
        assert!(!format!("{report:?}").contains("old-token"), "{report:?}");
    }
}

/// Writes the token as the kubelet does: into a new folder, to which a link is then switched.
#[cfg(unix)]
fn rotate(folder: &Path, generation: &str, token: &str) {
    use std::os::unix::fs::symlink;
    fs::create_dir(folder.join(generation)).unwrap();
    fs::write(folder.join(generation).join("token"), token).unwrap();
    symlink(generation, folder.join("..next")).unwrap();
    fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
    if fs::symlink_metadata(folder.join("token")).is_err() {
        symlink("..data/token", folder.join("token")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_token_that_the_kubelet_replaces_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    rotate(folder.path(), "..1", "token-1\n");
    let server = secured("token-1").start();
    let token = folder.path().join("token");
    let mut probe = probe(&server.config(json!({"token_file": token})));
    let mut check = || check_with(&mut probe, MINUTE);
    assert_report(&check().unwrap(), Status::Healthy, "nodes ready");
    server.cluster.lock().unwrap().token = Some("token-2".to_owned());
    assert_report(&check().unwrap(), Status::Unhealthy, "401 Unauthorized");
    rotate(folder.path(), "..2", "token-2");
    fs::remove_dir_all(folder.path().join("..1")).unwrap();
    assert_report(&check().unwrap(), Status::Healthy, "nodes ready");
    fs::remove_file(&token).unwrap();
    let failure = check().unwrap_err();
    assert!(
        failure.message().starts_with("key `token_file`: \""),
        "{failure}"
    );
}

#[test]
fn a_file_without_a_token_is_refused_with_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let refusal = |path: &Path| {
        let config = json!({"url": "https://cluster.example:6443", "token_file": path});
        let created = TestHost::new("cluster").create_async::<KubernetesProbe>(&config.to_string());
        created
            .err()
            .expect("the file is accepted")
            .message()
            .to_owned()
    };
    for (content, rule) in [
        (" \n".to_owned(), "it is empty; write the token into it"),
        ("one\ntwo".to_owned(), "write the token on one line"),
        ("x".repeat(65_537), "not a regular file of a token's size"),
    ] {
        fs::write(&file, content).unwrap();
        let message = refusal(&file);
        assert!(
            message.starts_with("key `token_file`: ") && message.contains(rule),
            "{message}"
        );
    }
    assert!(refusal(folder.path()).contains("not a regular file"));
}

/// Reads the head of a request; an empty one from a client that is refused.
fn read_request(stream: &mut impl Read) -> SeenRequest {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    SeenRequest {
        head: String::from_utf8(head).unwrap(),
        body: String::new(),
    }
}

/// The files of a CA and of a client certificate that it has issued.
struct ClusterCa {
    folder: TempDir,
    server: Arc<ServerConfig>,
}

impl ClusterCa {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let (client, client_key) = issue("conductor");
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.crt", ca.pem());
        write("client.crt", client.pem());
        write("client.key", client_key.serialize_pem());
        let (server, key) = issue("127.0.0.1");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        Self {
            folder,
            server: Arc::new(config),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts a server that requires a certificate of this CA; returns its URL.
    fn serve(&self, cluster: TestCluster) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let config = self.server.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let request = read_request(&mut stream);
                if !request.head.is_empty() {
                    let _ = stream.write_all(&cluster.respond(&request));
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
                // What is left unread would turn the end, or the refusal of a certificate, into a reset.
                let _ = stream.sock.shutdown(Shutdown::Write);
                let _ = io::copy(&mut stream.sock, &mut io::sink());
            }
        });
        url
    }
}

#[test]
fn a_client_certificate_authenticates_and_the_clusters_ca_is_trusted() {
    let ca = ClusterCa::create();
    let url = ca.serve(TestCluster::healthy());
    let with = |tls: Value| check(&json!({"url": url, "tls": tls}));
    let report = with(json!({
        "ca_file": ca.path("ca.crt"), "client_cert": ca.path("client.crt"), "client_key": ca.path("client.key"),
    }));
    assert_report(&report, Status::Healthy, "3 of 3 nodes ready");
    assert!(report.value(&CERTIFICATE_EXPIRY, []).is_some());
    assert!(report.value(&PHASE, ["tls"]).is_some());
    let report = with(json!({"ca_file": ca.path("ca.crt")}));
    assert_report(&report, Status::Unhealthy, "certificate");
    let other = ClusterCa::create();
    let report = with(json!({"ca_file": other.path("ca.crt")}));
    assert_report(&report, Status::Unhealthy, "certificate");
}
