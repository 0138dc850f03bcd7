//! Login, TLS, queries, connections and transactions of MariaDB.

use std::process::Command;

use super::{
    server::{MariadbServer, OpenTransaction, wait_until},
    *,
};

const SETUP: &str = "\
CREATE USER conductor@'%' IDENTIFIED BY 'correct horse';
CREATE USER odd@'%' IDENTIFIED BY 'p%s:/@#\"\\\\?&%41 ü';
CREATE USER only_tls@'%' IDENTIFIED BY 'correct horse' REQUIRE SSL;
CREATE DATABASE shop;
CREATE TABLE shop.jobs (state varchar(20));
INSERT INTO shop.jobs VALUES ('failed'), ('failed'), ('done');
GRANT SELECT, INSERT, DELETE, CREATE ON shop.* TO conductor@'%'";

#[test]
fn mariadb_is_checked_by_login_query_connections_and_transactions() {
    let Some(server) = MariadbServer::start(&["--max-connections=20"]) else {
        return;
    };
    server.run(SETUP);
    sessions_end_well(&server);
    logins(&server);
    tls(&server);
    queries(&server);
    connections_and_transactions(&server);
    assert!(!server.log().contains("correct horse"));
}

fn sessions_end_well(server: &MariadbServer) {
    let aborted = || server.log().matches("Aborted connection").count();
    let before = aborted();
    let account = server.by_port("conductor");
    assert_report(&check(&account), Status::Healthy, "MariaDB");
    let wrong = json!({"query": {"sql": "SELECT nothing"}});
    let report = check(&with(&account, wrong));
    assert_report(&report, Status::Unhealthy, "the query failed");
    let open = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE user = 'conductor'";
    wait_until(|| server.run(open) == "0");
    assert_eq!(aborted(), before, "{}", server.log());
}

fn logins(server: &MariadbServer) {
    let report = check(&server.by_port("conductor"));
    assert_report(&report, Status::Healthy, "MariaDB 1");
    assert_report(&report, Status::Healthy, " of 20 connections, in ");
    for phase in ["connect", "greeting", "login", "state"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    for (key, value, message) in [
        (
            "password",
            json!("wrong horse"),
            "cannot log in: Access denied for user 'conductor'@'127.0.0.1' (using password: YES) (1045)",
        ),
        ("password", Value::Null, "(using password: NO) (1045)"),
        ("user", json!("unknown"), "Access denied for user 'unknown'"),
        (
            "database",
            json!("no_such"),
            "cannot log in: Access denied for user 'conductor'@'%' to database 'no_such' (1044)",
        ),
    ] {
        let report = check(&with(&server.by_port("conductor"), json!({key: value})));
        assert_report(&report, Status::Unhealthy, message);
        assert!(!report.message().contains("horse"), "{report:?}");
    }
    let odd = json!({"password": "p%s:/@#\"\\?&%41 ü"});
    let report = check(&with(&server.by_port("odd"), odd));
    assert_report(&report, Status::Healthy, "MariaDB");
    assert_report(
        &check(&server.by_socket("root")),
        Status::Healthy,
        "primary",
    );
    let own = Command::new("id").arg("-un").output().unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    let own = own.trim();
    server.run(&format!(
        "CREATE USER IF NOT EXISTS '{own}'@localhost; ALTER USER '{own}'@localhost IDENTIFIED VIA unix_socket"
    ));
    assert_report(&check(&server.by_socket(own)), Status::Healthy, "MariaDB");
}

fn tls(server: &MariadbServer) {
    let only_tls = server.by_port("only_tls");
    assert_report(&check(&only_tls), Status::Unhealthy, "Access denied");
    let report = check(&with(
        &only_tls,
        json!({"tls": {"ca_file": server.ca_file()}}),
    ));
    assert_report(&report, Status::Healthy, "MariaDB");
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));
    assert!(report.value(&PHASE, ["tls"]).is_some());
    let other = json!({"tls": {"ca_file": server.ca_file(), "server_name": "db.example"}});
    assert_report(
        &check(&with(&only_tls, other)),
        Status::Unhealthy,
        "db.example",
    );
}

fn queries(server: &MariadbServer) {
    let account = with(&server.by_port("conductor"), json!({"database": "shop"}));
    let ask = |query: Value| check(&with(&account, json!({"query": query})));
    let failed = "SELECT count(*) FROM jobs WHERE state = 'failed'";
    let report = ask(json!({"sql": failed, "equals": 2}));
    assert_report(&report, Status::Healthy, "MariaDB");
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
            json!({"sql": "SELECT 1 = 1", "equals": true}),
            Status::Healthy,
            "MariaDB",
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
            "the query failed: Unknown column 'nothing' in ",
        ),
        (
            json!({"sql": "DELETE FROM jobs"}),
            Status::Unhealthy,
            "the query failed: Cannot execute statement in a READ ONLY transaction (1792)",
        ),
        (
            json!({"sql": "CREATE TABLE more (a int)"}),
            Status::Unhealthy,
            "the query failed: Cannot execute statement in a READ ONLY transaction (1792)",
        ),
        (
            json!({"sql": "SELECT repeat('x', 1000) FROM seq_1_to_10000"}),
            Status::Unhealthy,
            "the server sent more than 1048576 bytes",
        ),
    ] {
        assert_report(&ask(query), status, message);
    }
    assert_eq!(server.run("SELECT count(*) FROM shop.jobs"), "3");
    assert_eq!(server.run("SHOW TABLES FROM shop"), "jobs");
    let slow = with(&account, json!({"query": {"sql": "SELECT sleep(3600)"}}));
    let report = try_check(&slow, Duration::from_secs(2)).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    let running =
        "SELECT count(*) FROM information_schema.PROCESSLIST WHERE info LIKE 'SELECT sleep%'";
    wait_until(|| server.run(running) == "0");
}

fn connections_and_transactions(server: &MariadbServer) {
    let limited = json!({"transaction": {"unhealthy_above": "0s"}});
    let limited = with(&server.by_port("conductor"), limited);
    let failure = try_check(&limited, Duration::from_secs(60)).unwrap_err();
    assert!(failure.message().contains("GRANT PROCESS ON"), "{failure}");
    server.run("GRANT PROCESS ON *.* TO conductor@'%'");
    wait_until(|| check(&limited).status() == Status::Healthy);
    assert_eq!(check(&limited).value(&OLDEST_TRANSACTION, []), Some(0.0));

    let open = OpenTransaction::begin(server);
    wait_until(|| check(&limited).status() == Status::Unhealthy);
    let report = check(&limited);
    assert_report(&report, Status::Unhealthy, "the oldest transaction began ");
    let full = with(&limited, json!({"connections": {"degraded_above": 9}}));
    assert_report(
        &check(&full),
        Status::Unhealthy,
        "2 of 20 connections are in use (`connections.degraded_above` is 9)",
    );
    drop(open);
    wait_until(|| check(&full).status() == Status::Healthy);
}
