//! TLS and certificates.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

static BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
static ONLY_TLS12: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// A server with a certificate.
struct TlsServer {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: &'static [&'static SupportedProtocolVersion],
    clients: Option<CertificateDer<'static>>,
    response: &'static [u8],
    says_goodbye: bool,
}

impl TlsServer {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            versions: BOTH,
            clients: None,
            response: OK,
            says_goodbye: true,
        }
    }

    fn start(self) -> u16 {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = Arc::new(builder.with_single_cert(self.chain, self.key).unwrap());
        let address = listen(move |stream| {
            let tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            if !read_head(&mut stream).is_empty() {
                let _ = stream.write_all(self.response);
                if self.says_goodbye {
                    stream.conn.send_close_notify();
                }
                let _ = stream.flush();
            }
        });
        address.port()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Returns a server whose certificate the authority has issued.
fn issued(params: &CertificateParams, by: &Authority) -> TlsServer {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    TlsServer::new(vec![certificate.der().clone()], &key)
}

/// Starts a server from before TLS 1.3 that accepts TLS 1.0 or 1.1 alone: it does not look at the versions that the
/// client lists, and sends a ServerHello with its own.
fn old_tls(minor: u8) -> SocketAddr {
    listen(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let mut hello = vec![22, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
        hello.extend([7; 32]);
        // No session, AES-128 with SHA-1, no compression.
        hello.extend([0, 0, 0x2f, 0]);
        let _ = stream.write_all(&hello);
        keep_silent(&mut stream);
    })
}

/// Ends a server with the test.
struct OpensslServer(Child);

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(folder: &Path, arguments: &str) -> Command {
    let mut run = Command::new("openssl");
    run.args(arguments.split(' ')).current_dir(folder);
    run
}

/// Makes a certificate without extensions, as `openssl x509 -req` does by default.
fn make_version_1(folder: &Path, name: &str, issuer: &Path, issuer_key: &Path) {
    let (issuer, issuer_key) = (issuer.display(), issuer_key.display());
    for arguments in [
        format!("req -newkey rsa:2048 -nodes -keyout v1.key -subj /CN={name} -out v1.csr"),
        format!(
            "x509 -req -in v1.csr -CA {issuer} -CAkey {issuer_key} -set_serial 7 -days 90 -out v1.pem"
        ),
    ] {
        let run = openssl(folder, &arguments)
            .output()
            .expect("openssl is not installed, or not in PATH: install it (on Debian: openssl)");
        assert!(run.status.success(), "{run:?}");
    }
}

/// Makes a certificate for `localhost` with a key of this algorithm.
fn make_named(folder: &Path, name: &str, algorithm: &str, issuer: &Path, issuer_key: &Path) {
    let (issuer, issuer_key) = (issuer.display(), issuer_key.display());
    fs::write(folder.join("san.cnf"), "subjectAltName=DNS:localhost\n").unwrap();
    for arguments in [
        format!(
            "req -newkey {algorithm} -nodes -keyout {name}.key -subj /CN=localhost -out {name}.csr"
        ),
        format!(
            "x509 -req -in {name}.csr -CA {issuer} -CAkey {issuer_key} -set_serial 8 -days 90 -extfile san.cnf -out {name}.pem"
        ),
    ] {
        let run = openssl(folder, &arguments).output().unwrap();
        assert!(run.status.success(), "{run:?}");
    }
}

/// Starts a server of openssl with the certificate made last.
fn openssl_server(folder: &Path, options: &str) -> (Box<OpensslServer>, String) {
    let serve = "s_server -accept 127.0.0.1:0 -cert v1.pem -key v1.key -www";
    let started = openssl(folder, &format!("{serve}{options}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Box::new(OpensslServer(started));
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let accepts = |line: String| line.strip_prefix("ACCEPT 127.0.0.1:")?.parse().ok();
    let port: u16 = lines.find_map(|line| accepts(line.unwrap())).unwrap();
    // The server ends when its output is closed.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (server, format!("https://localhost:{port}/"))
}

/// A visit to `https://HOST`, with trust in the certificates of a file alone.
fn visit(name: &'static str, host: &str, server: TlsServer, trusted: &Path) -> Behaviour {
    let port = server.start();
    Behaviour::at(name, format!("https://{host}:{port}/"))
        .curl(&["--cacert", trusted.to_str().unwrap()])
        .config(json!({ "ca_file": trusted }))
}

pub(super) fn section() -> Section {
    // For the time of the test.
    let folder = Box::leak(Box::new(tempfile::tempdir().unwrap()));
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap());
    let root: Authority = root.unwrap();
    let trusted = file("root.pem", root.pem());
    let other = CertifiedIssuer::self_signed(authority("other"), KeyPair::generate().unwrap());
    let other: Authority = other.unwrap();
    let middle =
        CertifiedIssuer::signed_by(authority("middle"), KeyPair::generate().unwrap(), &root);
    let middle: Authority = middle.unwrap();

    let dated = |from: i32, to: i32| {
        let mut params = leaf("localhost");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params
    };
    let with_middle = |extra: &[&Authority]| {
        let mut server = issued(&leaf("localhost"), &middle);
        let extra = extra.iter().map(|authority| authority.der().clone());
        server.chain.extend(extra);
        server
    };
    let mut only_common_name = CertificateParams::new([]).unwrap();
    only_common_name
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let good = || issued(&leaf("localhost"), &root);
    let own = |params: &CertificateParams, name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let server = TlsServer::new(vec![certificate.der().clone()], &key);
        (server, file(name, certificate.pem()))
    };
    let mut as_openssl_makes_it = leaf("localhost");
    as_openssl_makes_it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (own_ca, own_ca_file) = own(&as_openssl_makes_it, "own-ca.pem");
    let (own_leaf, own_leaf_file) = own(&leaf("localhost"), "own-leaf.pem");
    let (unknown, _) = own(&leaf("localhost"), "unknown.pem");

    let client_key = KeyPair::generate().unwrap();
    let mut client = leaf("client");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = client.signed_by(&client_key, &root).unwrap();
    let client = file("client.pem", client.pem() + &client_key.serialize_pem());
    let asking = |versions| TlsServer {
        clients: Some(root.der().clone()),
        versions,
        ..good()
    };

    let local = "localhost";
    let key = file("root.key", root.key().serialize_pem());
    let version_1 = |name: &str, issuer: &Path, issuer_key: &Path| {
        make_version_1(folder.path(), name, issuer, issuer_key);
        openssl_server(folder.path(), "")
    };
    let other_file = file("other.pem", other.pem());
    let other_key = file("other.key", other.key().serialize_pem());
    let (own_v1, own_v1_url) = version_1("localhost", &trusted, &key);
    let (foreign_v1, foreign_v1_url) = version_1("localhost", &other_file, &other_key);
    let (named_v1, named_v1_url) = version_1("shop.example", &trusted, &key);
    // Their ciphers and signatures are those that openssl refuses by default.
    let old = |version| {
        let options = format!(" -{version} -cipher DEFAULT:@SECLEVEL=0");
        openssl_server(folder.path(), &options)
    };
    let (tls_1_0, tls_1_0_url) = old("tls1");
    let (tls_1_1, tls_1_1_url) = old("tls1_1");
    for kind in ["pem", "key"] {
        let of = |name: &str| folder.path().join(format!("{name}.{kind}"));
        fs::copy(of("v1"), of("other-name")).unwrap();
    }
    make_version_1(folder.path(), "localhost", &trusted, &key);
    for (name, algorithm) in [
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
        ("ed448", "ed448"),
        ("ed25519", "ed25519"),
    ] {
        make_named(folder.path(), name, algorithm, &trusted, &key);
    }
    let small_field = file("small-field.pem", SMALL_FIELD.to_owned());
    let with_suites = |name: &'static str, options: &str| {
        let (server, url) = openssl_server(folder.path(), options);
        Behaviour::at(name, url)
            .curl(&["--cacert", trusted.to_str().unwrap()])
            .config(json!({ "ca_file": trusted }))
            .held(server)
            .outdated()
    };
    let with_root = |name, url: String| {
        Behaviour::at(name, url)
            .curl(&["--cacert", trusted.to_str().unwrap()])
            .config(json!({ "ca_file": trusted }))
    };
    let behaviours = vec![
        visit("a certificate of a trusted CA", local, good(), &trusted),
        visit(
            "TLS 1.2 alone",
            local,
            TlsServer {
                versions: ONLY_TLS12,
                ..good()
            },
            &trusted,
        ),
        visit(
            "TLS 1.3 alone",
            local,
            TlsServer {
                versions: ONLY_TLS13,
                ..good()
            },
            &trusted,
        ),
        visit(
            "a certificate for an IP address",
            "127.0.0.1",
            issued(&leaf("127.0.0.1"), &root),
            &trusted,
        ),
        visit(
            "a certificate with a wildcard",
            "a.localhost",
            issued(&leaf("*.localhost"), &root),
            &trusted,
        ),
        visit(
            "a host name with a final dot",
            "localhost.",
            good(),
            &trusted,
        ),
        visit(
            "a name in capitals",
            local,
            issued(&leaf("LOCALHOST"), &root),
            &trusted,
        ),
        visit(
            "a common name without alternative names",
            local,
            issued(&only_common_name, &root),
            &trusted,
        ),
        visit(
            "a self-signed certificate that is marked as a CA, trusted itself",
            local,
            own_ca,
            &own_ca_file,
        ),
        visit(
            "a self-signed certificate, trusted itself",
            local,
            own_leaf,
            &own_leaf_file,
        ),
        visit(
            "a self-signed certificate that is not trusted",
            local,
            unknown,
            &trusted,
        ),
        visit(
            "a certificate of an unknown CA",
            local,
            issued(&leaf(local), &other),
            &trusted,
        ),
        visit(
            "an intermediate certificate",
            local,
            with_middle(&[&middle]),
            &trusted,
        ),
        visit(
            "an intermediate certificate and the root",
            local,
            with_middle(&[&middle, &root]),
            &trusted,
        ),
        visit(
            "a chain in the wrong order",
            local,
            with_middle(&[&root, &middle]),
            &trusted,
        ),
        visit(
            "a chain with a certificate that does not belong to it",
            local,
            with_middle(&[&other, &middle]),
            &trusted,
        ),
        visit(
            "a missing intermediate certificate",
            local,
            with_middle(&[]),
            &trusted,
        ),
        visit(
            "an expired certificate",
            local,
            issued(&dated(2019, 2020), &root),
            &trusted,
        ),
        visit(
            "a certificate of the future",
            local,
            issued(&dated(2090, 2099), &root),
            &trusted,
        ),
        visit(
            "a certificate for another name",
            local,
            issued(&leaf("shop.example"), &root),
            &trusted,
        ),
        visit(
            "an IP address, but a certificate for a name",
            "127.0.0.1",
            good(),
            &trusted,
        ),
        visit(
            "an end without close_notify after the content-length",
            local,
            TlsServer {
                says_goodbye: false,
                ..good()
            },
            &trusted,
        ),
        visit(
            "a body that ends without close_notify",
            local,
            TlsServer {
                says_goodbye: false,
                response: b"HTTP/1.1 200 OK\r\n\r\nok",
                ..good()
            },
            &trusted,
        ),
        visit(
            "a client certificate that is required (TLS 1.2), and missing",
            local,
            asking(ONLY_TLS12),
            &trusted,
        ),
        visit(
            "a client certificate that is required (TLS 1.3), and missing",
            local,
            asking(ONLY_TLS13),
            &trusted,
        ),
        visit(
            "a client certificate that is required, and sent",
            local,
            asking(BOTH),
            &trusted,
        )
        .curl(&["--cert", client.to_str().unwrap()])
        .config(json!({ "tls": { "ca_file": trusted, "client_cert": client } })),
        with_root("TLS 1.0 alone", tls_1_0_url).held(tls_1_0),
        with_root("TLS 1.1 alone", tls_1_1_url).held(tls_1_1),
        Behaviour::at(
            "TLS 1.0 alone, on a server from before TLS 1.3",
            format!("https://{}/", old_tls(1)),
        ),
        Behaviour::at(
            "TLS 1.1 alone, on a server from before TLS 1.3",
            format!("https://{}/", old_tls(2)),
        ),
        Behaviour::at(
            "a version of TLS that the server does not accept",
            format!(
                "https://{}/",
                listen(|mut stream| {
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(b"\x15\x03\x01\x00\x02\x02\x46");
                })
            ),
        ),
        with_suites(
            "key exchange by RSA alone, with AES-GCM",
            " -tls1_2 -cipher AES128-GCM-SHA256",
        ),
        with_suites(
            "key exchange by RSA alone, with AES-CBC",
            " -tls1_2 -cipher AES256-SHA",
        ),
        with_suites(
            "key exchange by elliptic curves, with AES-CBC and SHA-1 alone",
            " -tls1_2 -cipher ECDHE-RSA-AES128-SHA",
        ),
        with_suites(
            "key exchange by elliptic curves, with AES-CBC and SHA-384 alone",
            " -tls1_2 -cipher ECDHE-RSA-AES256-SHA384",
        ),
        with_suites(
            "key exchange by a finite field alone, with AES-GCM",
            " -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256",
        ),
        with_suites(
            "key exchange by a finite field of 1024 bits alone",
            &format!(
                " -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0 -dhparam {}",
                small_field.display()
            ),
        ),
        with_suites(
            "a cipher suite without encryption",
            " -tls1_2 -cipher NULL-SHA256:@SECLEVEL=0",
        ),
        with_suites(
            "AES-CCM alone",
            " -tls1_2 -cipher ECDHE-RSA-AES128-CCM:AES128-CCM",
        ),
        with_suites(
            "outdated and current cipher suites, the outdated ones preferred",
            " -tls1_2 -serverpref -cipher AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256",
        ),
        with_suites("a key of P-521", " -cert p521.pem -key p521.key"),
        with_suites("a key of Ed448", " -cert ed448.pem -key ed448.key"),
        with_suites("a key of Ed25519", " -cert ed25519.pem -key ed25519.key"),
        with_suites(
            "key exchange by P-521 alone (TLS 1.2)",
            " -tls1_2 -groups P-521",
        ),
        with_suites(
            "key exchange by RSA alone, and a certificate for another name",
            " -tls1_2 -cipher AES128-SHA -cert other-name.pem -key other-name.key",
        ),
        with_root("an X.509 v1 certificate", own_v1_url).held(own_v1),
        with_root("an X.509 v1 certificate of an unknown CA", foreign_v1_url).held(foreign_v1),
        with_root("an X.509 v1 certificate for another name", named_v1_url).held(named_v1),
        Behaviour::at(
            "no TLS at an https:// URL",
            format!(
                "https://{}/",
                listen(|mut stream| {
                    let _ = stream.write_all(OK);
                    keep_silent(&mut stream);
                })
            ),
        ),
        Behaviour::at(
            "an end in the handshake",
            format!(
                "https://{}/",
                listen(|mut stream| drop(stream.read(&mut [0; 4096])))
            ),
        ),
        Behaviour::at(
            "silence in the handshake",
            format!("https://{}/", listen(|mut stream| keep_silent(&mut stream))),
        )
        .impatient(),
    ];
    Section {
        title: "TLS",
        behaviours,
    }
}

/// Of 1024 bits: it takes openssl seconds to make one.
const SMALL_FIELD: &str = "-----BEGIN DH PARAMETERS-----
MIGHAoGBAMP9u9y82cZxjsE4R0zqKrNWsNThsUJuxeEYWWokYsdf8/E4SUHoj8Ju
DXAGBecEVkS1Uv8LuZw+xvaTGRWPb6isQ80rFS/IPiX5TurPfIA87VVKHjMR/ITl
sPMq2KIjrgZgFTAavC5FOEWoJET7/dGQ2I53AZKKN/ga0xn5GljPAgEC
-----END DH PARAMETERS-----
";
