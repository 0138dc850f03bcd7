//! TLS, client certificates and passwords, as `curl` and `openssl` see them; and the effect of slow and many clients on
//! checks.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::harness::{Host, PATIENCE, Setup};

/// Returns `true` if the program is installed; in CI it must be.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} is part of what CI checks"
    );
    if !found {
        eprintln!("skipped: there is no {program}");
    }
    found
}

/// A CA, whose certificate is in `ca.pem`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA");
        let key = KeyPair::generate().unwrap();
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes a certificate for the DNS name `name`, and its key, into the folder.
    fn issue(&self, setup: &Setup, file: &str, common_name: &str, name: &str) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // The key first: the two are only used together.
        put(setup, &format!("{file}.key"), &key.serialize_pem());
        put(setup, &format!("{file}.crt"), &certificate.pem());
    }
}

/// Writes a file atomically.
fn put(setup: &Setup, name: &str, text: &str) {
    fs::write(setup.path("new"), text).unwrap();
    fs::rename(setup.path("new"), setup.path(name)).unwrap();
}

fn user(name: &str, password: &str) -> String {
    format!(
        "basic_auth_users:\n  {name}: {}\n",
        bcrypt::hash(password, 4).unwrap()
    )
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// Returns a host with a certificate for `localhost`, and this web config.
fn start(authority: &Authority, web_config: &str, arguments: &[&str]) -> Host {
    let setup = Setup::new().platform("a", "fault", "{}");
    put(&setup, "ca.pem", &authority.pem);
    authority.issue(&setup, "server", "first", "localhost");
    put(&setup, "web.yml", web_config);
    let child = setup
        .command(&["run", "--web.listen-address", "127.0.0.1:0"])
        .arg("--web.config.file")
        .arg(setup.path("web.yml"))
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    let listening = "listening on https://";
    host.wait_for_log(listening);
    let log = host.log();
    let line = log.lines().find_map(|line| line.split_once(listening));
    host.address = line.unwrap().1.trim().parse().unwrap();
    host
}

/// Returns status code and body of a request with `curl`, or its error message.
fn curl(host: &Host, path: &str, arguments: &[&str]) -> Result<(u16, String), String> {
    let port = host.address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .arg("--cacert")
        .arg(host.setup.path("ca.pem"))
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
        .args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(format!("https://localhost:{port}{path}"))
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    Ok((code.parse().unwrap(), body.to_owned()))
}

fn code(host: &Host, path: &str, arguments: &[&str]) -> u16 {
    curl(host, path, arguments).unwrap().0
}

/// Returns the output of `openssl s_client` for a handshake.
fn s_client(host: &Host, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-servername", "localhost", "-connect"])
        .arg(host.address.to_string())
        .arg("-CAfile")
        .arg(host.setup.path("ca.pem"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn both_versions_of_tls_are_spoken_and_no_older_one() {
    if !is_installed("curl") || !is_installed("openssl") {
        return;
    }
    let host = start(&Authority::new(), TLS, &[]);
    let (status, body) = curl(&host, "/-/healthy", &[]).unwrap();
    assert_eq!((status, body.trim()), (200, "Conductor is healthy."));
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let seen = s_client(&host, &[flag]);
        assert!(seen.contains(&format!("New, {version}")), "{seen}");
        assert!(seen.contains("Verify return code: 0"), "{seen}");
    }
    let seen = s_client(&host, &["-tls1_1"]);
    assert!(
        !seen.contains("Verify return code: 0 (ok)\n---\nread"),
        "{seen}"
    );
    assert!(
        seen.contains("Cipher is (NONE)") || seen.contains("error"),
        "{seen}"
    );

    put(
        &host.setup,
        "web.yml",
        &format!("{TLS}  min_version: TLS13\n"),
    );
    let seen = s_client(&host, &["-tls1_2"]);
    assert!(!seen.contains("New, TLSv1.2"), "{seen}");
    assert!(s_client(&host, &["-tls1_3"]).contains("New, TLSv1.3"));
}

#[test]
fn a_certificate_that_was_replaced_is_served_to_the_next_client_and_a_broken_one_never() {
    if !is_installed("curl") || !is_installed("openssl") {
        return;
    }
    let authority = Authority::new();
    let host = start(&authority, TLS, &[]);
    let serves = |name: &str| {
        let seen = s_client(&host, &[]);
        assert!(seen.contains("Verify return code: 0"), "{seen}");
        assert!(seen.contains(name), "{name}: {seen}");
    };
    serves("first");
    authority.issue(&host.setup, "server", "second", "localhost");
    serves("second");
    for broken in ["", "not a certificate", &authority.pem] {
        put(&host.setup, "server.crt", broken);
        serves("second");
        serves("second");
    }
    put(&host.setup, "web.yml", "tls_server_confg: {}\n");
    serves("second");
    assert_eq!(code(&host, "/-/healthy", &[]), 200);
    host.wait_for_log("did you mean `tls_server_config`?");
    let failed = || {
        let status = curl(&host, "/api/v1/status", &[]).unwrap().1;
        let status: Value = serde_json::from_str(&status).unwrap();
        status["host"]["failed_reloads"][0].clone()
    };
    assert_eq!(failed()["file"], "web config");
    let told = host.log().matches("the old one stays").count();
    assert!(
        told <= 5,
        "each mistake is told once, not at each request: {told}"
    );
    put(&host.setup, "web.yml", TLS);
    authority.issue(&host.setup, "server", "third", "localhost");
    serves("third");
    assert!(failed().is_null(), "{}", failed());
}

#[test]
fn clients_show_certificates_where_they_have_to() {
    if !is_installed("curl") {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let web_config = |policy: &str, more: &str| {
        format!("{TLS}  client_auth_type: {policy}\n  client_ca_file: ca.pem\n{more}")
    };
    let host = start(
        &authority,
        &web_config("RequireAndVerifyClientCert", ""),
        &[],
    );
    authority.issue(&host.setup, "ours", "scraper", "prometheus.example.org");
    stranger.issue(&host.setup, "theirs", "scraper", "prometheus.example.org");
    let file = |name: &str| host.setup.path(name).display().to_string();
    let gets_in = |who: Option<&str>| {
        let (certificate, key) = (
            who.map(|who| file(&format!("{who}.crt"))),
            who.map(|who| file(&format!("{who}.key"))),
        );
        let arguments: Vec<&str> = match (&certificate, &key) {
            (Some(certificate), Some(key)) => vec!["--cert", certificate, "--key", key],
            _ => Vec::new(),
        };
        curl(&host, "/-/healthy", &arguments).is_ok_and(|(code, _)| code == 200)
    };
    let who = [None, Some("ours"), Some("theirs")];
    for (policy, expected) in [
        ("RequireAndVerifyClientCert", [false, true, false]),
        ("RequireAnyClientCert", [false, true, true]),
        ("VerifyClientCertIfGiven", [true, true, false]),
        ("RequestClientCert", [true, true, true]),
    ] {
        put(&host.setup, "web.yml", &web_config(policy, ""));
        assert_eq!(who.map(gets_in), expected, "{policy}");
    }
    for (name, expected) in [("prometheus.example.org", true), ("example.org", false)] {
        let names = format!("  client_allowed_sans: [{name}]\n");
        put(
            &host.setup,
            "web.yml",
            &web_config("RequireAndVerifyClientCert", &names),
        );
        assert_eq!(gets_in(Some("ours")), expected, "{name}");
    }
}

#[test]
fn passwords_are_asked_for_and_pages_of_others_change_nothing() {
    if !is_installed("curl") {
        return;
    }
    let web_config = format!("{TLS}{}", user("alice", "wonder"));
    let host = start(&Authority::new(), &web_config, &["--web.enable-lifecycle"]);
    let alice = ["--user", "alice:wonder"];
    assert_eq!(code(&host, "/metrics", &[]), 401);
    assert_eq!(code(&host, "/-/healthy", &["--user", "alice:wander"]), 401);
    assert_eq!(code(&host, "/-/healthy", &["--user", "nobody:wonder"]), 401);
    assert_eq!(code(&host, "/api/v1/status", &alice), 200);

    let own = format!("Origin: https://localhost:{}", host.address.port());
    let post = |more: &[&str]| {
        let arguments = [&["--request", "POST"], more].concat();
        code(&host, "/-/reload", &arguments)
    };
    assert_eq!(post(&[]), 401);
    assert_eq!(post(&alice), 200);
    let with = |origin| post(&["--user", "alice:wonder", "--header", origin]);
    assert_eq!(with(&own), 200);
    assert_eq!(with("Origin: https://evil.example"), 403);
    assert_eq!(code(&host, "/-/reload", &alice), 405);
}

#[test]
fn a_web_config_with_a_mistake_is_told_before_anything_starts() {
    let setup = Setup::new().platform("a", "fault", "{}");
    put(&setup, "web.yml", "basic_auth_user: {}\n");
    for command in [&["run"][..], &["config", "check"]] {
        let output = setup
            .command(command)
            .arg("--web.config.file")
            .arg(setup.path("web.yml"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("web.yml:1:1: "), "{text}");
        assert!(text.contains("did you mean `basic_auth_users`?"), "{text}");
    }
}

/// Opens connections that send a beginning and never continue.
fn half_open(address: SocketAddr, start: &[u8], count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        // The host may have closed it by now, to make room for another.
        let _ = stream.write_all(start);
        stream
    };
    (0..count).map(open).collect()
}

/// Returns the status code of one request over plain HTTP; `None` if the connection was closed.
fn ask(address: SocketAddr, headers: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /metrics HTTP/1.0\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn half_a_handshake_from_hundreds_keeps_nobody_out_and_holds_up_no_check() {
    if !is_installed("curl") {
        return;
    }
    let host = start(&Authority::new(), TLS, &[]);
    let _half_hello = half_open(host.address, b"\x16\x03\x01\x02\x00\x01\x00\x01", 400);
    let _half_header = half_open(host.address, b"GET /metrics HTTP/1.1\r\nhost:", 400);
    let checks = |text: &str| -> f64 {
        let series = "health_check_total{platform=\"a\",plugin=\"fault\",status=\"healthy\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap().parse().unwrap()
    };
    let scrape = || curl(&host, "/metrics", &[]).unwrap().1;
    let (before, start) = (checks(&scrape()), Instant::now());
    while checks(&scrape()) < before + 20.0 {
        assert!(start.elapsed() < PATIENCE, "no check is made");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_flood_of_wrong_passwords_keeps_out_nobody_who_was_in_and_holds_up_no_check() {
    // A second between checks: a machine that stalls that long says nothing about the host.
    let setup = Setup::new()
        .host("interval = \"1s\"\nstagger = \"100ms\"\ntimeout = \"1s\"")
        .platform("a", "fault", "{}");
    put(&setup, "web.yml", &user("alice", "wonder"));
    let web_config: PathBuf = setup.path("web.yml");
    let host = setup.start_with(&["--web.config.file", &web_config.display().to_string()]);
    // alice:wonder
    let right = "authorization: Basic YWxpY2U6d29uZGVy\r\n";
    assert_eq!(ask(host.address, right), Some(200));
    let (over, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    let count = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let wrong = format!("authorization: Basic {}\r\n", basic(number));
                    let answer = ask(host.address, &wrong);
                    assert!(matches!(answer, Some(401 | 503) | None), "{answer:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        let mut answers = 0;
        while answers < 30 || start.elapsed() < Duration::from_secs(3) {
            let answer = ask(host.address, right);
            if answer != Some(200) || start.elapsed() > PATIENCE {
                over.store(true, Ordering::Relaxed);
                panic!("the right password is answered with {answer:?}");
            }
            answers += 1;
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(refused.load(Ordering::Relaxed) > 20, "this was no flood");
    put(&host.setup, "web.yml", "{}\n");
    assert_eq!(host.metrics().skipped("a", "missed"), 0.0);
    assert!(host.metrics().checks("a", "healthy") >= 3.0);
}

/// Returns `alice:` and a number of three letters, in base64.
fn basic(number: u32) -> String {
    // Six bytes encode to eight letters, and three to four, which cover 18 bits and more.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    let tail: String = (0..4)
        .map(|place| char::from(letters[(number >> (5 * place)) as usize % 32]))
        .collect();
    format!("YWxpY2U6{tail}")
}

#[test]
fn each_action_is_logged_once_with_the_user_or_certificate_it_came_from() {
    if !is_installed("curl") {
        return;
    }
    let authority = Authority::new();
    let web_config = format!("{TLS}{}", user("alice", "secret"));
    let lifecycle = &["--web.enable-lifecycle"];
    let host = start(&authority, &web_config, lifecycle);
    let post = |host: &Host, path: &str, more: &[&str]| {
        let arguments: Vec<_> = ["--request", "POST"].iter().chain(more).copied().collect();
        assert!(code(host, path, &arguments) < 300, "{path}");
    };
    let alice = &["--user", "alice:secret"][..];
    let maintenance = r#"{"platforms":["a"],"for":"2h"}"#;
    let json = ["--user", "alice:secret", "--json", maintenance];
    post(&host, "/api/v1/platforms/a/breaker/open", alice);
    post(&host, "/api/v1/platforms/a/breaker/reset", alice);
    post(&host, "/api/v1/platforms/a/check", alice);
    post(&host, "/api/v1/maintenance", &json);
    post(
        &host,
        "/api/v1/maintenance/end",
        &["--user", "alice:secret", "--json", r#"{"platforms":["a"]}"#],
    );
    post(&host, "/-/reload", alice);
    for action in [
        "operator alice holds the breaker open",
        "operator alice reset the breaker",
        "operator alice requested a check",
        "operator alice started maintenance of a for 2h",
        "operator alice ended maintenance of a",
        "config reloaded by operator alice",
    ] {
        host.wait_for_log(action);
    }
    let log = host.log();
    let lines = log.lines().filter(|line| {
        ["breaker", "maintenance", "reload"]
            .iter()
            .any(|word| line.contains(word))
    });
    assert_eq!(lines.count(), 5, "one line for each action: {log}");

    let web_config =
        format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n");
    let host = start(&authority, &web_config, lifecycle);
    authority.issue(&host.setup, "client", "ops", "ops.example");
    let file = |name: &str| host.setup.path(name).display().to_string();
    let (certificate, key) = (file("client.crt"), file("client.key"));
    post(
        &host,
        "/api/v1/platforms/a/breaker/open",
        &["--cert", &certificate, "--key", &key],
    );
    host.wait_for_log("operator with certificate CN=ops");
}

/// Returns state and message of each platform, as seen by a client that trusts any certificate.
fn platforms(host: &Host, scheme: &str) -> BTreeMap<String, String> {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--user", "alice:wonder"])
        .arg(format!("{scheme}://{}/api/v1/status", host.address))
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let platforms = status["platforms"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    platforms
        .map(|p| {
            (
                text(&p["name"]),
                format!("{}: {}", text(&p["status"]), text(&p["message"])),
            )
        })
        .collect()
}

#[test]
fn platforms_that_watch_the_host_follow_its_web_config() {
    if !is_installed("curl") {
        return;
    }
    let setup = Setup::new()
        .platform("own", "http", r#"{ url = "${self.url}/-/healthy" }"#)
        .platform(
            "meant",
            "http",
            r#"{ url = "${self.url}/", expect_status = [401] }"#,
        )
        .platform("port", "tcp", r#"{ address = "${self.address}" }"#);
    Authority::new().issue(&setup, "server", "first", "localhost");
    put(&setup, "web.yml", "{}\n");
    let web = setup.path("web.yml");
    let host = setup.start_with(&["--web.config.file", web.to_str().unwrap()]);
    let until = |what: &str, scheme: &str, wanted: &dyn Fn(&BTreeMap<String, String>) -> bool| {
        let start = Instant::now();
        loop {
            let seen = platforms(&host, scheme);
            if !seen.is_empty() && wanted(&seen) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: {seen:?}\n{}",
                host.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    };
    let is = |seen: &BTreeMap<String, String>, name: &str, state: &str| {
        seen.get(name).is_some_and(|seen| seen.starts_with(state))
    };
    until("an open host", "http", &|seen| {
        is(seen, "own", "healthy") && is(seen, "meant", "unhealthy") && is(seen, "port", "healthy")
    });
    put(&host.setup, "web.yml", &user("alice", "wonder"));
    until("a password", "http", &|seen| {
        !seen.contains_key("own") && is(seen, "meant", "healthy") && is(seen, "port", "healthy")
    });
    put(
        &host.setup,
        "web.yml",
        &format!("basic_auth_users: {{}}\n{TLS}"),
    );
    until("TLS", "https", &|seen| {
        seen.get("meant")
            .is_some_and(|meant| meant.contains("certificate"))
    });
    put(&host.setup, "web.yml", "{}\n");
    until("an open host again", "http", &|seen| {
        is(seen, "own", "healthy")
    });
}
