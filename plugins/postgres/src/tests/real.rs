//! Login, TLS, queries, connections and transactions of PostgreSQL.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
};

use super::{
    server::{OpenTransaction, PostgresServer, wait_until},
    *,
};

const ROLES: &str = "\
SET password_encryption = 'scram-sha-256';
CREATE ROLE conductor LOGIN PASSWORD 'correct horse';
CREATE ROLE odd LOGIN PASSWORD 'p%s:/@#\"\\?&%41 ü';
CREATE ROLE only_tls LOGIN PASSWORD 'correct horse';
CREATE ROLE by_password LOGIN PASSWORD 'correct horse';
SET password_encryption = 'md5';
CREATE ROLE by_md5 LOGIN PASSWORD 'correct horse';
CREATE TABLE jobs (state text);
INSERT INTO jobs VALUES ('failed'), ('failed'), ('done');
GRANT SELECT ON jobs TO conductor";

#[test]
fn postgresql_is_checked_by_login_query_connections_and_transactions() {
    let settings = ["max_connections=13", "max_prepared_transactions=2"];
    let Some(server) = PostgresServer::start(&settings) else {
        return;
    };
    server.run(ROLES);
    logins(&server);
    queries(&server);
    sessions_ended_well(&server);
    connections_and_transactions(&server);
    tls(&server);
}

fn logins(server: &PostgresServer) {
    let report = check(&server.by_port("conductor"));
    assert_report(
        &report,
        Status::Healthy,
        "primary, 1 of 10 connections, in ",
    );
    for phase in ["connect", "login", "state"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    for user in ["by_md5", "by_password"] {
        let right = check(&server.by_port(user));
        assert_report(&right, Status::Healthy, "primary");
        let wrong = with(&server.by_port(user), json!({"password": "wrong horse"}));
        let message = format!("password authentication failed for user \"{user}\" (28P01)");
        assert_report(&check(&wrong), Status::Unhealthy, &message);
    }
    let odd = json!({"password": "p%s:/@#\"\\?&%41 ü"});
    let report = check(&with(&server.by_port("odd"), odd));
    assert_report(&report, Status::Healthy, "primary");
    assert_report(&check(&server.by_socket()), Status::Healthy, "primary");
    for (key, value, message) in [
        (
            "password",
            json!("wrong horse"),
            "cannot log in: password authentication failed for user \"conductor\" (28P01)",
        ),
        ("password", Value::Null, "password authentication failed"),
        (
            "user",
            json!("nobody_known"),
            "password authentication failed",
        ),
        (
            "database",
            json!("no_such"),
            "cannot log in: database \"no_such\" does not exist (3D000)",
        ),
    ] {
        let report = check(&with(&server.by_port("conductor"), json!({key: value})));
        assert_report(&report, Status::Unhealthy, message);
        assert!(!report.message().contains("horse"), "{report:?}");
    }
}

fn queries(server: &PostgresServer) {
    let ask = |query: Value| check(&with(&server.by_port("conductor"), json!({"query": query})));
    let failed = "SELECT count(*) FROM jobs WHERE state = 'failed'";
    let report = ask(json!({"sql": failed, "equals": 2}));
    assert_report(&report, Status::Healthy, "primary");
    assert_eq!(report.value(&QUERY_VALUE, []), Some(2.0));
    assert!(report.value(&PHASE, ["query"]).is_some());
    for (query, status, message) in [
        (
            json!({"sql": failed, "degraded_above": 1, "unhealthy_above": 2}),
            Status::Degraded,
            "the query returned 2 (`query.degraded_above` is 1)",
        ),
        (
            json!({"sql": "SELECT state FROM jobs WHERE state = 'done'", "equals": "waiting"}),
            Status::Unhealthy,
            "the query returned \"done\", expected \"waiting\"",
        ),
        (
            json!({"sql": "SELECT true", "equals": true}),
            Status::Healthy,
            "primary",
        ),
        (
            json!({"sql": "SELECT state FROM jobs WHERE false", "equals": "x"}),
            Status::Unhealthy,
            "the query returned no row",
        ),
        (
            json!({"sql": "SELECT NULL", "not_equals": 1}),
            Status::Unhealthy,
            "the query returned NULL",
        ),
        (
            json!({"sql": "SELECT nothing FROM jobs"}),
            Status::Unhealthy,
            "the query failed: column \"nothing\" does not exist (42703)",
        ),
        (
            json!({"sql": "DELETE FROM jobs"}),
            Status::Unhealthy,
            "the query failed: cannot execute DELETE in a read-only transaction (25006)",
        ),
        (
            json!({"sql": "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"}),
            Status::Unhealthy,
            "the server sent more than 1048576 bytes",
        ),
        (
            json!({"sql": "-- nothing", "equals": 1}),
            Status::Unhealthy,
            "the query returned no row",
        ),
        (
            json!({"sql": "COPY jobs TO STDOUT"}),
            Status::Unhealthy,
            "the query failed: ",
        ),
    ] {
        assert_report(&ask(query), status, message);
    }
    assert_eq!(server.run("SELECT count(*) FROM jobs"), "3");
    let slow = json!({"query": {"sql": "SELECT pg_sleep(3600)"}});
    let slow = with(&server.by_port("conductor"), slow);
    let report = try_check(&slow, Duration::from_secs(2)).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    wait_until(|| server.run(running) == "0");
}

fn sessions_ended_well(server: &PostgresServer) {
    let log = server.log();
    for mark in ["unexpected EOF", "could not receive data", "correct horse"] {
        assert!(!log.contains(mark), "{log}");
    }
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'conductor'";
    wait_until(|| server.run(left) == "0");
}

fn connections_and_transactions(server: &PostgresServer) {
    let limited =
        json!({"transaction": {"unhealthy_above": "0s"}, "connections": {"degraded_above": 15}});
    let limited = with(&server.by_port("conductor"), limited);
    let failure = try_check(&limited, Duration::from_secs(60)).unwrap_err();
    assert!(failure.message().contains("GRANT pg_monitor"), "{failure}");
    server.run("GRANT pg_monitor TO conductor");
    wait_until(|| check(&limited).status() == Status::Healthy);
    assert_eq!(check(&limited).value(&OLDEST_TRANSACTION, []), Some(0.0));

    let open = OpenTransaction::begin(server).unwrap();
    let report = check(&limited);
    assert_report(&report, Status::Unhealthy, "the oldest transaction began ");
    assert_report(
        &report,
        Status::Unhealthy,
        "2 of 10 connections are in use (`connections.degraded_above` is 15)",
    );
    drop(open);
    wait_until(|| check(&limited).status() == Status::Healthy);

    server.run("BEGIN; INSERT INTO jobs VALUES ('x'); PREPARE TRANSACTION 'forgotten'");
    assert_report(
        &check(&limited),
        Status::Unhealthy,
        "the oldest transaction began ",
    );
    server.run("ROLLBACK PREPARED 'forgotten'");
    assert_report(&check(&limited), Status::Healthy, "primary");
}

fn tls(server: &PostgresServer) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ca_file = server.folder().join("server.crt");
    fs::write(&ca_file, certificate.pem()).unwrap();
    let key_file = server.folder().join("server.key");
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    // The server requires that the key is its own.
    let owner = fs::metadata(server.folder()).unwrap();
    chown(&key_file, Some(owner.uid()), Some(owner.gid())).unwrap();

    let only_tls = server.by_port("only_tls");
    assert_report(
        &check(&with(&only_tls, json!({"tls": {"ca_file": ca_file}}))),
        Status::Unhealthy,
        "cannot start TLS in PostgreSQL: the server does not offer it",
    );
    for (name, value) in [
        ("ssl_cert_file", ca_file.display().to_string()),
        ("ssl_key_file", key_file.display().to_string()),
        ("ssl", "on".to_owned()),
    ] {
        server.run(&format!("ALTER SYSTEM SET {name} = '{value}'"));
    }
    server.run("SELECT pg_reload_conf()");
    let encrypted = with(&only_tls, json!({"tls": {"ca_file": ca_file}}));
    wait_until(|| check(&encrypted).status() == Status::Healthy);
    let report = check(&encrypted);
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));
    for phase in ["starttls", "tls", "login"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    assert_report(
        &check(&only_tls),
        Status::Unhealthy,
        "pg_hba.conf rejects connection",
    );
    let other = json!({"tls": {"ca_file": ca_file, "server_name": "db.example"}});
    let report = check(&with(&only_tls, other));
    assert_report(&report, Status::Unhealthy, "db.example");
}
