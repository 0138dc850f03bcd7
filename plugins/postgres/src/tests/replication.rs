//! A primary and its streaming standby.

use super::{
    server::{PostgresServer, wait_until},
    *,
};

#[test]
fn a_standby_is_checked_by_its_role_connection_and_lag() {
    let Some(mut primary) = PostgresServer::start(&[]) else {
        return;
    };
    primary.run("CREATE TABLE jobs (state text)");
    let standby = primary.standby();
    let on_primary = primary.by_socket();
    let on_standby = standby.by_socket();
    let is_healthy = |config: &Value| check(config).status() == Status::Healthy;
    let is_value = |config: &Value, metric, value| check(config).value(metric, []) == Some(value);

    wait_until(|| is_healthy(&on_standby));
    let is_current = || is_value(&on_standby, &LAG, 0.0) && is_value(&on_standby, &BACKLOG, 0.0);
    wait_until(is_current);
    let report = check(&with(&on_standby, json!({"role": "standby"})));
    assert_report(&report, Status::Healthy, "standby");
    assert_eq!(report.value(&STREAMING, []), Some(1.0));
    assert_report(
        &check(&with(&on_standby, json!({"role": "primary"}))),
        Status::Unhealthy,
        "the server is a standby, expected a primary",
    );

    let one = with(&on_primary, json!({"role": "primary", "min_standbys": 1}));
    wait_until(|| is_healthy(&one));
    assert_eq!(check(&one).value(&STANDBYS, []), Some(1.0));
    assert_report(
        &check(&with(&on_primary, json!({"min_standbys": 2}))),
        Status::Unhealthy,
        "1 standbys stream from the server, expected at least 2",
    );

    // What is received, but not replayed.
    standby.run("SELECT pg_wal_replay_pause()");
    primary.run("INSERT INTO jobs SELECT 'x' FROM generate_series(1, 1000)");
    let limits = json!({"lag": {"degraded_above": "0s"}, "backlog": {"unhealthy_above": "1kB"}});
    let slow_standby = with(&on_standby, limits.clone());
    wait_until(|| check(&slow_standby).status() == Status::Unhealthy);
    let report = check(&slow_standby);
    assert_report(&report, Status::Unhealthy, "of WAL are not replayed");
    assert_report(&report, Status::Unhealthy, "the replication lag is ");
    let slow_primary = with(&on_primary, json!({"backlog": limits["backlog"]}));
    wait_until(|| check(&slow_primary).status() == Status::Unhealthy);
    standby.run("SELECT pg_wal_replay_resume()");
    wait_until(|| is_healthy(&slow_standby));
    wait_until(|| is_healthy(&slow_primary));

    // Everything received is replayed, but more may have been written.
    primary.stop();
    let alone = "the standby receives no WAL: it is not connected to its primary";
    wait_until(|| check(&on_standby).message().contains(alone));
    assert_eq!(check(&on_standby).status(), Status::Unhealthy);
    let archive = with(&on_standby, json!({"streaming": false}));
    assert_report(&check(&archive), Status::Healthy, "standby");
}
