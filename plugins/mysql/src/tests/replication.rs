//! A primary and its replica.

use super::{
    server::{MariadbServer, wait_until},
    *,
};

#[test]
fn a_replica_is_checked_by_its_role_threads_and_lag() {
    let Some(mut primary) = MariadbServer::start(&["--log-bin=binlog", "--server-id=1"]) else {
        return;
    };
    let Some(replica) = MariadbServer::start(&["--server-id=2", "--read-only"]) else {
        return;
    };
    primary.run("RESET MASTER; CREATE USER replicator@'%' IDENTIFIED BY 'correct horse'; GRANT REPLICATION SLAVE ON *.* TO replicator@'%'; CREATE DATABASE shop; CREATE TABLE shop.jobs (state varchar(20))");
    let on_primary = primary.by_socket("root");
    let on_replica = replica.by_socket("root");
    let is_healthy = |config: &Value| check(config).status() == Status::Healthy;

    let expected = with(&on_replica, json!({"role": "replica"}));
    assert_report(
        &check(&expected),
        Status::Unhealthy,
        "the server is a primary, expected a replica",
    );
    replica.run(&format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='replicator', MASTER_PASSWORD='correct horse', MASTER_CONNECT_RETRY=1; START SLAVE",
        primary.port()
    ));
    wait_until(|| is_healthy(&expected));
    let report = check(&expected);
    assert_report(&report, Status::Healthy, "replica");
    assert_eq!(report.value(&READ_ONLY, []), Some(1.0));
    assert_eq!(report.value(&REPLICATING, []), Some(1.0));
    wait_until(|| check(&expected).value(&LAG, []) == Some(0.0));
    let report = check(&with(&on_primary, json!({"role": "primary"})));
    assert_report(&report, Status::Healthy, "primary");
    assert_eq!(report.value(&REPLICA, []), Some(0.0));

    // What is received, but applied an hour later.
    let limited = with(&on_replica, json!({"lag": {"unhealthy_above": "1s"}}));
    assert!(is_healthy(&limited));
    replica.run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=3600; START SLAVE");
    primary.run("INSERT INTO shop.jobs VALUES ('x')");
    wait_until(|| check(&limited).status() == Status::Unhealthy);
    assert_report(
        &check(&limited),
        Status::Unhealthy,
        "the replication lag is ",
    );
    replica.run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE");
    wait_until(|| is_healthy(&limited));

    replica.run("STOP SLAVE SQL_THREAD");
    assert_report(
        &check(&on_replica),
        Status::Unhealthy,
        "the replication does not apply changes",
    );
    replica.run("DROP TABLE shop.jobs; START SLAVE SQL_THREAD");
    primary.run("INSERT INTO shop.jobs VALUES ('y')");
    wait_until(|| check(&on_replica).message().contains("doesn't exist"));
    replica.run("CREATE TABLE shop.jobs (state varchar(20)); START SLAVE SQL_THREAD");
    wait_until(|| is_healthy(&on_replica));

    primary.stop();
    wait_until(|| {
        check(&on_replica)
            .message()
            .contains("the replication receives no changes")
    });
    let allowed = with(&on_replica, json!({"replicating": false}));
    assert_report(&check(&allowed), Status::Healthy, "replica");
}
