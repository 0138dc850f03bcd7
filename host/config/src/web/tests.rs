//! Tests of web configs: the toolkit's own files are accepted, and each mistake has its line, key and fix.

use std::{fs, path::PathBuf};

use insta::assert_snapshot;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// A folder with a web config under construction.
struct Folder(tempfile::TempDir);

impl Folder {
    /// Creates a folder with a server certificate and key, and a CA, in PEM.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        folder.put("ca.pem", &ca.self_signed(&ca_key).unwrap().pem());
        let ca = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        folder.put("server.crt", &server.signed_by(&key, &ca).unwrap().pem());
        folder.put("server.key", &key.serialize_pem());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(self.path(name), private).unwrap();
        }
    }

    fn read(&self, text: &str) -> WebReadResult {
        self.put("web.yml", text);
        WebConfig::read(&self.path("web.yml"))
    }

    fn taken(&self, text: &str) -> WebConfig {
        let outcome = self.read(text).outcome;
        outcome.unwrap_or_else(|error| panic!("{}", error.to_plain()))
    }

    /// Returns the mistakes, without the name of the folder.
    fn refused(&self, text: &str) -> String {
        let error = self.read(text).outcome.unwrap_err();
        self.shown(&error.to_plain())
    }

    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn remarks(&self, text: &str) -> String {
        self.shown(&self.taken(text).remarks.join("\n"))
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

const HASH: &str = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze";

#[test]
fn an_empty_file_asks_for_nothing() {
    let folder = Folder::new();
    for empty in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "~",
        "{}",
        "tls_server_config:\n",
    ] {
        let config = folder.taken(empty);
        assert!(config.tls.is_none() && !config.asks_who(), "{empty:?}");
        // The last two are intentional.
        let written = empty.contains('{') || empty.contains("tls");
        assert_eq!(config.says_nothing, !written, "{empty:?}");
        assert_eq!(config.remarks, [""; 0]);
    }
}

#[test]
fn the_toolkits_sample_file_is_taken() {
    let config = Folder::new().taken(&format!(
        "# TLS and basic authentication configuration example.\n{TLS}\nbasic_auth_users:\n  alice: {HASH}\n  bob: '{HASH}'\n\nrate_limit:\n  interval: \"1s\" # time\n  burst: 20\n"
    ));
    assert!(config.tls.is_some());
    assert_eq!(config.users["alice"], HASH);
    assert_eq!(config.users["bob"], HASH);
    let limit = RateLimit {
        interval: Duration::from_secs(1),
        burst: 20,
    };
    assert_eq!(config.rate_limit, Some(limit));
    assert_eq!(config.remarks, [""; 0]);
    let debug = format!("{config:?}");
    assert!(!debug.contains("mDwo"), "{debug}");
}

#[test]
fn scalars_need_no_quotes() {
    let config = Folder::new().taken(&format!(
        "\u{feff}basic_auth_users:\r\n  123: {HASH}\r\n  true: {HASH}\r\nhttp_server_config:\r\n  http2: false\r\n  headers:\r\n    X-XSS-Protection: 0\r\n    X-Frame-Options: deny\r\n    Content-Security-Policy:\r\nrate_limit:\r\n  interval: 0\r\n"
    ));
    assert!(config.users.contains_key("123") && config.users.contains_key("true"));
    let headers: Vec<_> = config
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        [("x-frame-options", "deny"), ("x-xss-protection", "0")]
    );
    assert_eq!(config.rate_limit, None);
}

#[test]
fn every_policy_for_clients_is_known() {
    let folder = Folder::new();
    for (policy, verified) in [
        ("NoClientCert", false),
        ("RequestClientCert", false),
        ("RequireAnyClientCert", false),
        ("RequireClientCert", false),
        ("VerifyClientCertIfGiven", false),
        ("RequireAndVerifyClientCert", true),
    ] {
        let ca = if policy == "NoClientCert" {
            ""
        } else {
            "  client_ca_file: ca.pem\n"
        };
        let config = folder.taken(&format!("{TLS}  client_auth_type: {policy}\n{ca}"));
        assert_eq!(config.verifies_clients, verified, "{policy}");
    }
}

#[test]
fn unknown_keys_and_values_have_their_place_and_the_nearest_known_one() {
    assert_snapshot!(
        Folder::new().refused("tls_server_confg: {}\nbasic_auth_users: [a]\nhttp_server_config:\n  http2: maybe\n  headers:\n    X-Powered-By: us\n    X-Frame-Options: alow\ntls_server_config:\n  cert_fle: a\n  client_auth_type: RequireAndVerify\n  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n  min_version: 1.2\n"),
        @r#"
    web.yml:1:1: the file has no table `tls_server_confg`
      help: did you mean `tls_server_config`?
    web.yml:2:19: basic_auth_users must be a table, not a list
    web.yml:4:10: http_server_config.http2 must be one of "true", "yes", "on", "True", "false", "no", "off", "False", not the string "maybe"
    web.yml:6:5: http_server_config.headers has no key `X-Powered-By`
      help: its keys are `Content-Security-Policy`, `Strict-Transport-Security`, `X-Content-Type-Options`, `X-Frame-Options`, `X-XSS-Protection`
    web.yml:7:22: http_server_config.headers.X-Frame-Options must be one of "deny", "sameorigin", "", not the string "alow"
    web.yml:9:3: tls_server_config has no key `cert_fle`
      help: did you mean `cert_file`?
    web.yml:10:21: tls_server_config.client_auth_type must be one of "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert", not the string "RequireAndVerify"
    web.yml:11:19: tls_server_config.cipher_suites[0] must be one of "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_C…, not the string "TLS_RSA_WITH_RC4_128_SHA"
    web.yml:12:16: tls_server_config.min_version must be one of "TLS10", "TLS11", "TLS12", "TLS13", not the string "1.2"
    "#
    );
}

#[test]
fn mistakes_of_all_kinds_are_reported_in_one_round() {
    let folder = Folder::new();
    let said = folder.refused(
        "wether: {}\nbasic_auth_users:\n  alice: secret\n  bob:\nrate_limit:\n  interval: often\n  interval: 1s\ntls_server_config:\n  cert_file: none.crt\n  key_file: server.key\n  min_version: TLS13\n  max_version: TLS12\n",
    );
    for part in [
        "the file has no table `wether`",
        "the value of \"alice\" is not a bcrypt hash",
        "there is no hash for \"bob\"",
        "interval is given twice",
        "rate_limit.interval is not a duration",
        "cert_file: none.crt cannot be read",
        "min_version is above max_version",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // A key or value that is left out causes no other mistakes.
    for (text, mistakes) in [
        ("basic_auth_users: [a]\n", 1),
        ("basic_auth_users:\n  alice: [a]\n", 1),
        ("rate_limit:\n  interval: 1s\n  bursts: 1\n", 1),
        (
            "tls_server_config:\n  cert_fle: server.crt\n  key_file: server.key\n",
            1,
        ),
        (
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: ca.pem\n  client_auth_typ: Require\n",
            1,
        ),
        (
            "a: 1\nb: 2\ntls_server_config:\n  cert_file: server.crt\n  key_file: ca.pem\n",
            3,
        ),
    ] {
        let said = folder.refused(text);
        let found = said.lines().filter(|line| line.starts_with("web.yml:"));
        assert_eq!(found.count(), mistakes, "{said}");
    }
}

#[test]
fn what_is_not_understood_as_yaml_has_its_place() {
    let folder = Folder::new();
    assert_snapshot!(folder.refused("a: [1\nb: 2\n"), @"web.yml:2:2: not YAML: illegal placement of ':' indicator");
    assert_snapshot!(folder.refused("rate_limit:\n  burst: 1\n  burst: 2\n"), @r#"
    web.yml:3:3: burst is given twice
      first: web.yml:2:3
      help: keep one of the two
    "#);
    assert_snapshot!(folder.refused("rate_limit: &x\n  burst: 1\n"), @r#"
    web.yml:1:13: anchors, aliases and tags are not understood here
      help: write the value out
    "#);
    assert_snapshot!(folder.refused("{}\n---\n{}\n"), @r#"
    web.yml:2:1: there is a second document
      help: remove the line `---` and what follows it
    "#);
    assert_snapshot!(folder.refused("- a\n"), @r#"
    web.yml:1:1: this is not a web config: it has no keys
      help: its keys are `tls_server_config`, `http_server_config`, `basic_auth_users`, `rate_limit`
    "#);
    assert_snapshot!(folder.refused(&"[".repeat(20)), @"web.yml:1:18: this is nested too deep");
}

#[test]
fn what_goes_together_is_asked_for_together() {
    let folder = Folder::new();
    assert_snapshot!(folder.refused("tls_server_config:\n  cert_file: server.crt\n"), @r#"
    web.yml:2:3: tls_server_config lacks the key `key_file`
      help: TLS takes both cert_file and key_file; without TLS, remove the whole table
    "#);
    assert_snapshot!(folder.refused("tls_server_config:\n  client_auth_type: NoClientCert\n"), @r#"
    web.yml:2:3: tls_server_config lacks the key `cert_file`
      help: TLS takes both cert_file and key_file; without TLS, remove the whole table
    web.yml:2:3: tls_server_config lacks the key `key_file`
      help: TLS takes both cert_file and key_file; without TLS, remove the whole table
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  client_ca_file: ca.pem\n")), @r#"
    web.yml:2:3: a CA for clients has no effect while no client is asked for a certificate
      help: add client_auth_type: RequireAndVerifyClientCert
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n")), @r#"
    web.yml:2:3: tls_server_config lacks the key `client_ca_file`
      help: name the file with the CAs that sign clients' certificates
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  client_allowed_sans: [a]\n")), @r#"
    web.yml:2:3: client_allowed_sans has no effect while no client is asked for a certificate
      help: add client_auth_type: RequireAndVerifyClientCert
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  cert: x\n")), @r#"
    web.yml:4:9: tls_server_config has both `cert` and `cert_file`
      help: keep one of the two
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  min_version: TLS13\n  max_version: TLS12\n")), @r#"
    web.yml:4:16: min_version is above max_version
      help: lower it, or raise max_version
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  max_version: TLS11\n")), @r#"
    web.yml:4:16: max_version TLS11 leaves no version that this host speaks
      help: choose TLS12 or TLS13
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n")), @r#"
    web.yml:5:18: none of these cipher suites goes with the TLS versions allowed
      help: leave cipher_suites out, or let max_version be TLS13
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  curve_preferences: [CurveP521]\n")), @r#"
    web.yml:4:22: curve_preferences leaves no curve that this host speaks
      help: add X25519, CurveP256 or CurveP384, or leave the key out
    "#);
    assert_snapshot!(folder.refused("rate_limit:\n  interval: 1s\n"), @r#"
    web.yml:2:3: rate_limit without a burst lets no request through
      help: give burst, the number of requests that may come at once
    "#);
    assert_snapshot!(folder.refused("rate_limit:\n  interval: soon\n  burst: many\n"), @r#"
    web.yml:2:13: rate_limit.interval is not a duration: "soon"
      help: write it like 1s or 100ms
    web.yml:3:10: rate_limit.burst must be a whole number
      help: write it like 20, without quotes
    "#);
}

#[test]
fn files_are_read_beside_the_config_and_mistakes_in_them_are_told() {
    let folder = Folder::new();
    folder.put("other.key", &KeyPair::generate().unwrap().serialize_pem());
    folder.put("empty", "");
    let with = |cert: &str, key: &str| {
        format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n")
    };
    assert_snapshot!(folder.refused(&with("nothing.crt", "server.key")), @r#"
    web.yml:2:14: cert_file: nothing.crt cannot be read: No such file or directory (os error 2)
      help: paths are relative to the folder of the web config
    "#);
    assert_snapshot!(folder.refused(&with("empty", "server.key")), @r#"
    web.yml:2:14: cert_file holds no certificate
      help: it must hold PEM blocks of -----BEGIN CERTIFICATE-----, the server's own first
    "#);
    assert_snapshot!(folder.refused(&with("server.crt", "server.crt")), @r#"
    web.yml:3:13: key_file holds no private key
      help: it must hold a PEM block of -----BEGIN PRIVATE KEY-----, without a passphrase
    "#);
    assert_snapshot!(folder.refused(&with("server.crt", "other.key")), @r#"
    web.yml:2:3: the certificate and its key cannot be used: keys may not be consistent: KeyMismatch
      help: see that the key is the certificate's own, as RSA, ECDSA or Ed25519
    "#);
    assert_snapshot!(folder.refused(&format!("{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: empty\n")), @r#"
    web.yml:5:19: the CA for clients holds no CA certificate
      help: it must hold PEM blocks of -----BEGIN CERTIFICATE-----
    "#);
    let missing = WebConfig::read(&folder.path("missing.yml"));
    assert_snapshot!(folder.shown(&missing.outcome.unwrap_err().to_plain()), @r#"
    missing.yml: there is no such web config
      help: name the file with --web.config.file; an empty one means neither TLS nor passwords
    "#);
}

#[test]
fn hashes_and_keys_are_never_shown() {
    let folder = Folder::new();
    let refused = folder.refused(
        "basic_auth_users:\n  a:b: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n  carol: hunter2hunter2\n  dave: $2y$18$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n",
    );
    assert!(
        !refused.contains("mDwo") && !refused.contains("hunter2"),
        "{refused}"
    );
    assert_snapshot!(refused, @r#"
    web.yml:2:8: "a:b" can never log in: a client ends the name at the colon
      help: choose a name without a colon
    web.yml:3:10: the value of "carol" is not a bcrypt hash
      help: make one with `htpasswd -nBC 10 ""`, and write what follows the colon
    web.yml:4:9: the hash of "dave" has a cost of 18, out of range
      help: choose from 4 to 16: each step doubles the time that a login takes, 10 takes a tenth of a second or less
    "#);
    let refused =
        folder.refused("tls_server_config:\n  cert: hunter2hunter2\n  key: hunter2hunter2\n");
    assert!(!refused.contains("hunter2"), "{refused}");
    assert_snapshot!(refused, @r#"
    web.yml:2:9: cert holds no certificate
      help: it must hold PEM blocks of -----BEGIN CERTIFICATE-----, the server's own first
    "#);
}

#[test]
fn a_protection_is_given_up_in_so_many_words_alone() {
    let folder = Folder::new();
    let users = format!("basic_auth_users:\n  alice: {HASH}\n");
    let closed = folder.taken(&format!("{TLS}{users}"));
    for (text, lacking) in [
        ("{}", None),
        ("basic_auth_users: {}\ntls_server_config: {}\n", None),
        ("basic_auth_users: {}\n", Some("tls_server_config")),
        (
            "basic_auth_users: {}\ntls_server_config:\n",
            Some("tls_server_config"),
        ),
        ("tls_server_config: {}\n", Some("basic_auth_users")),
        ("rate_limit: {}\n", Some("basic_auth_users")),
        (TLS, Some("basic_auth_users")),
        (users.as_str(), Some("tls_server_config")),
        (&format!("{TLS}{users}"), None),
    ] {
        let found = folder.taken(text).lacks(&closed);
        assert_eq!(found.map(|(key, _)| key), lacking, "{text:?}");
        assert_eq!(closed.lacks(&folder.taken(text)), None, "closing is free");
    }
    let verifying = WebConfig {
        verifies_clients: true,
        ..folder.taken(TLS)
    };
    assert_eq!(
        folder.taken(TLS).lacks(&verifying).unwrap().0,
        "client_auth_type"
    );
    let explicit = folder.taken(&format!("{TLS}  client_auth_type: NoClientCert\n"));
    assert_eq!(explicit.lacks(&verifying), None);
}

#[test]
fn a_user_without_a_hash_opens_no_door() {
    let folder = Folder::new();
    assert_snapshot!(folder.refused(&format!("basic_auth_users:\n  admin:\n  alice: {HASH}\n  bob: ~\n")), @r#"
    web.yml:2:3: there is no hash for "admin"
      help: make one with `htpasswd -nBC 10 ""` and write what follows the colon, or remove the name
    web.yml:4:3: there is no hash for "bob"
      help: make one with `htpasswd -nBC 10 ""` and write what follows the colon, or remove the name
    "#);
    assert_snapshot!(folder.refused("basic_auth_users: { admin: }\n"), @r#"
    web.yml:1:21: there is no hash for "admin"
      help: make one with `htpasswd -nBC 10 ""` and write what follows the colon, or remove the name
    "#);
    let explicit = folder.taken(&format!("{TLS}basic_auth_users: {{}}\n"));
    assert!(explicit.given_up.passwords && !explicit.given_up.tls && !explicit.asks_who());
    assert!(explicit.remarks[0].contains("no password is needed"));
    for nobody in ["", " ~"] {
        let refused = folder.refused(&format!("{TLS}basic_auth_users:{nobody}\n"));
        assert!(
            refused.starts_with("web.yml:4:1: basic_auth_users has no value"),
            "{refused}"
        );
        assert!(
            refused.contains("help: add a name with a bcrypt hash"),
            "{refused}"
        );
    }
}

#[test]
fn what_is_taken_and_changes_nothing_is_remarked_on() {
    let folder = Folder::new();
    let remarks = folder.remarks(&format!(
        "{TLS}  min_version: TLS10\n  cipher_suites:\n    - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n    - TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA\n    - TLS_AES_128_GCM_SHA256\n  curve_preferences: [X25519, CurveP521]\n  client_auth_type: RequestClientCert\n  client_allowed_sans: [a]\nhttp_server_config:\n  http2: true\n"
    ));
    assert_snapshot!(remarks, @r#"
    web.yml:4:16: this host speaks TLS 1.2 and 1.3: older clients are refused whatever min_version says
    web.yml:7:7: this host does not speak TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
    web.yml:9:31: this host does not speak CurveP521
    web.yml:11:24: these names prove nothing while anybody's certificate is taken: use RequireAndVerifyClientCert
    web.yml:13:10: this server speaks HTTP/1.1 alone; clients that could speak HTTP/2 use it all the same
    "#);
}

#[test]
#[cfg(unix)]
fn a_key_that_everybody_can_read_is_remarked_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path("server.key"), open).unwrap();
    assert_snapshot!(folder.remarks(TLS), @"web.yml:3:13: secret is readable by all users: run `chmod o-r server.key`");
}

#[test]
fn any_change_to_any_of_the_files_is_noticed_and_nothing_else() {
    let folder = Folder::new();
    let inputs = folder.read(TLS).inputs;
    assert!(inputs.are_unchanged());
    // The same size, within the same tick of the filesystem's clock.
    let key = fs::read_to_string(folder.path("server.key")).unwrap();
    folder.put("server.key", &key.replace('A', "B"));
    assert!(!inputs.are_unchanged());
    folder.put("server.key", &key);
    assert!(inputs.are_unchanged());
    fs::remove_file(folder.path("server.crt")).unwrap();
    assert!(!inputs.are_unchanged());
}

#[test]
fn client_cas_that_are_rewritten_or_replaced_are_noticed() {
    let folder = Folder::new();
    let text =
        format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n");
    let ca = fs::read_to_string(folder.path("ca.pem")).unwrap();
    let inputs = folder.read(&text).inputs;
    assert!(inputs.are_unchanged());
    folder.put("ca.pem", &format!("{ca}{ca}"));
    assert!(!inputs.are_unchanged());
    folder.put("next.pem", &ca);
    fs::rename(folder.path("next.pem"), folder.path("ca.pem")).unwrap();
    assert!(inputs.are_unchanged(), "the same content again");
    folder.put("next.pem", "another");
    fs::rename(folder.path("next.pem"), folder.path("ca.pem")).unwrap();
    assert!(!inputs.are_unchanged());
}

#[test]
fn the_web_config_and_the_key_are_private_and_what_everybody_may_see_is_not() {
    let folder = Folder::new();
    let config = folder.taken(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    ));
    assert_eq!(
        config.private_files,
        [folder.path("web.yml"), folder.path("server.key")]
    );
}
