//! Weak, forbidden, required and unknown algorithms.

use super::{server::SshServer, *};

#[test]
fn weak_algorithms_are_counted_and_named() {
    let server = SshServer {
        banner: "SSH-1.99-Old",
        key_exchange: "curve25519-sha256,diffie-hellman-group1-sha1",
        host_key: "ssh-ed25519,ssh-rsa",
        cipher: "aes128-ctr,aes128-cbc,arcfour,arcfour128,arcfour256,3des-cbc,blowfish-cbc",
        ..SshServer::default()
    };
    let address = server.start();
    let report = check(&at(address, json!({})));
    assert_report(
        &report,
        Status::Degraded,
        "weak algorithms: version 1 of the protocol, diffie-hellman-group1-sha1, ssh-rsa, aes128-cbc, arcfour, arcfour128, arcfour256, 3des-cbc and 1 more",
    );
    for (kind, count) in [
        ("key_exchange", 1.0),
        ("host_key", 1.0),
        ("cipher", 6.0),
        ("mac", 0.0),
    ] {
        assert_eq!(
            report.value(&WEAK_ALGORITHMS, [kind]),
            Some(count),
            "{kind}"
        );
    }
    let unhealthy = check(&at(address, json!({"weak_algorithms": "unhealthy"})));
    assert_report(&unhealthy, Status::Unhealthy, "weak algorithms: ");
    let ignored = check(&at(address, json!({"weak_algorithms": "ignore"})));
    assert_report(&ignored, Status::Healthy, "Old, host key ");
}

#[test]
fn forbidden_and_missing_algorithms_are_named() {
    let address = SshServer::default().start();
    let rules = json!({
        "forbidden_algorithms": ["aes*", "3des-cbc"],
        "required_algorithms": ["ssh-ed25519", "mlkem768x25519-*"],
    });
    let report = check(&at(address, rules));
    assert_report(
        &report,
        Status::Unhealthy,
        "the server offers aes* (`forbidden_algorithms`); the server does not offer mlkem768x25519-* (`required_algorithms`)",
    );
}

#[test]
fn the_banner_must_match() {
    let address = SshServer::default().start();
    let report = check(&at(address, json!({"banner": "^SSH-2\\.0-Test_[12] "})));
    assert_report(&report, Status::Healthy, "Test_1");
    let report = check(&at(address, json!({"banner": "OpenSSH"})));
    let message = r#"the banner is "SSH-2.0-Test_1 (of a test)", expected "OpenSSH""#;
    assert_report(&report, Status::Unhealthy, message);
}

#[test]
fn a_server_without_a_known_key_exchange_fails_only_if_its_key_is_pinned() {
    let server = SshServer {
        key_exchange: "diffie-hellman-group14-sha256",
        ..SshServer::default()
    };
    let address = server.clone().start();
    let report = check(&at(address, json!({})));
    assert_report(&report, Status::Healthy, "Test_1 (of a test), in ");
    let pinned = at(address, json!({"host_keys": [server.fingerprint()]}));
    let failure = try_check(Duration::from_secs(60), &pinned).unwrap_err();
    let message = "does not know the server's key exchanges (diffie-hellman-group14-sha256)";
    assert!(failure.message().contains(message), "{failure}");
    let wanted = at(
        SshServer::default().start(),
        json!({"host_key_type": "rsa"}),
    );
    let message = "the server has no RSA host key, only ssh-ed25519";
    assert_report(&check(&wanted), Status::Unhealthy, message);
}
