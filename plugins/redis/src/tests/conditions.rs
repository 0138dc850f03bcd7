//! The conditions of a config, on what servers say of themselves.

use super::*;

/// Replaces fields of INFO.
fn info_with(info: &str, fields: &[(&str, &str)]) -> String {
    let mut lines: Vec<String> = info.lines().map(str::to_owned).collect();
    for (name, value) in fields {
        lines.retain(|line| !line.starts_with(&format!("{name}:")));
        lines.push(format!("{name}:{value}"));
    }
    lines.join("\r\n")
}

fn judged(info: &str, fields: &[(&str, &str)], config: &Value) -> Report {
    let address = with_info(&info_with(info, fields));
    check(&with(json!({"address": address}), config))
}

#[test]
fn odd_lines_of_info_do_no_harm() {
    let odd = "# Errorstats\r\nerrorstat_@user_script::count=1\r\nerrorstat_:count=\r\nerrorstat_ERR\r\n:\r\n\
        cmdstat_host::calls=1,usec\r\ndb0:\r\nslave0:ip=2001:db8::1,port=6379,state=online,offset=1,lag=0";
    let report = judged(&format!("{OF_A_PRIMARY}{odd}"), &[], &json!({}));
    assert_report(&report, Status::Healthy, "PING in ");
}

#[test]
fn the_role_is_the_expected_one() {
    let primary = json!({"role": "primary"});
    let replica = json!({"role": "replica"});
    assert_report(&judged(OF_A_PRIMARY, &[], &primary), Status::Healthy, "");
    assert_report(&judged(OF_A_REPLICA, &[], &replica), Status::Healthy, "");
    assert_unhealthy(
        &judged(OF_A_REPLICA, &[], &primary),
        "the server is a replica, expected a primary (`role`)",
    );
    assert_unhealthy(
        &judged(OF_A_PRIMARY, &[], &replica),
        "the server is a primary, expected a replica (`role`)",
    );
    let sentinel = "redis_version:7.0.15\r\nredis_mode:sentinel\r\n";
    assert_unhealthy(
        &judged(sentinel, &[], &primary),
        "the server is a sentinel, expected a primary",
    );
    let report = judged(sentinel, &[], &json!({}));
    assert_report(&report, Status::Healthy, "sentinel, PING in ");
    assert_eq!(report.value(&KEYS, []), None);
}

#[test]
fn a_replica_has_a_link_to_its_primary_and_hears_from_it() {
    let replica = |fields: &[_]| judged(OF_A_REPLICA, fields, &json!({}));
    let report = replica(&[
        ("master_link_status", "down"),
        ("master_last_io_seconds_ago", "-1"),
        ("master_link_down_since_seconds", "12"),
    ]);
    assert_unhealthy(
        &report,
        "the link to the primary 192.0.2.9:6379 has been down for 12.0 s",
    );
    assert_eq!(report.value(&REPLICATION_LINK_UP, []), Some(0.0));
    assert_eq!(report.value(&REPLICATION_LAG, []), None);
    let report = replica(&[
        ("master_link_status", "down"),
        ("master_sync_in_progress", "1"),
    ]);
    assert_report(
        &report,
        Status::Degraded,
        "is copying the data of its primary",
    );
    let report = replica(&[("master_last_io_seconds_ago", "16")]);
    assert_report(
        &report,
        Status::Degraded,
        "the replica last heard from its primary 192.0.2.9:6379 16.0 s ago (`lag.degraded_above` is 15s)",
    );
    let report = replica(&[("master_last_io_seconds_ago", "31")]);
    assert_unhealthy(&report, "31.0 s ago (`lag.unhealthy_above` is 30s)");
}

#[test]
fn replicas_that_are_silent_or_not_online_do_not_count() {
    let three = judged(
        OF_A_PRIMARY,
        &[],
        &json!({"replicas": {"unhealthy_below": 3}}),
    );
    assert_unhealthy(
        &three,
        "the primary has 2 replicas online (`replicas.unhealthy_below` is 3)",
    );
    let limits = json!({"replicas": {"unhealthy_below": 2}, "lag": {"unhealthy_above": "5s"}});
    assert_unhealthy(
        &judged(OF_A_PRIMARY, &[], &limits),
        "the primary has 1 replica online (`replicas.unhealthy_below` is 2)",
    );
}

#[test]
fn memory_has_limits_in_percent_and_in_bytes() {
    let primary = |used: &str, policy: &str, config: &Value| {
        let fields = [
            ("used_memory", used),
            ("mem_not_counted_for_evict", "0"),
            ("maxmemory", "1000"),
            ("maxmemory_policy", policy),
        ];
        judged(OF_A_PRIMARY, &fields, config)
    };
    let report = primary("810", "noeviction", &json!({}));
    assert_report(
        &report,
        Status::Degraded,
        "81.0 % of `maxmemory` are used (`memory_percent.degraded_above` is 80)",
    );
    let report = primary("960", "noeviction", &json!({}));
    assert_unhealthy(
        &report,
        "96.0 % of `maxmemory` are used (`memory_percent.unhealthy_above` is 95)",
    );
    let report = primary("1000", "allkeys-lru", &json!({}));
    assert_report(&report, Status::Healthy, "");
    let report = primary(
        "500",
        "allkeys-lru",
        &json!({"memory_percent": {"degraded_above": 40}}),
    );
    assert_report(
        &report,
        Status::Degraded,
        "50.0 % of `maxmemory` are used (`memory_percent.degraded_above` is 40)",
    );
    let absolute = json!({"memory": {"degraded_above": "1KiB", "unhealthy_above": "1MiB"}});
    let report = primary("2048", "allkeys-lru", &absolute);
    assert_report(
        &report,
        Status::Degraded,
        "2.0 KiB of memory are used (`memory.degraded_above` is 1KiB)",
    );
}

#[test]
fn clients_keys_and_latency_have_limits() {
    let fields = [("connected_clients", "96")];
    let report = judged(OF_A_PRIMARY, &fields, &json!({}));
    assert_unhealthy(
        &report,
        "96 of 100 clients are connected (`clients_percent.unhealthy_above` is 95)",
    );
    let report = judged(OF_A_PRIMARY, &[], &json!({"keys": {"unhealthy_below": 43}}));
    assert_unhealthy(
        &report,
        "the server has 42 keys (`keys.unhealthy_below` is 43)",
    );
    let report = judged(
        OF_A_PRIMARY,
        &[],
        &json!({"unhealthy_after": {"ping": "0s"}}),
    );
    assert_unhealthy(&report, "ping took ");
}

#[test]
fn a_failed_save_degrades() {
    let fields = [("rdb_last_bgsave_status", "err")];
    let report = judged(OF_A_PRIMARY, &fields, &json!({}));
    assert_report(
        &report,
        Status::Degraded,
        "the last save to disk failed (`rdb_last_bgsave_status`)",
    );
}

#[test]
fn a_cluster_must_be_ok() {
    for (state, status) in [("ok", Status::Healthy), ("fail", Status::Unhealthy)] {
        let address = replying(move |command| {
            Some(match command.join(" ").as_str() {
                "PING" => "+PONG\r\n".to_owned(),
                "INFO" => bulk("redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:1\r\n"),
                "CLUSTER INFO" => bulk(&format!("cluster_state:{state}\r\n")),
                other => panic!("unexpected command {other}"),
            })
        });
        let report = check(&json!({"address": address}));
        assert_eq!(report.status(), status, "{report:?}");
    }
}

#[test]
fn a_server_that_refuses_ping_is_measured_all_the_same() {
    let address = replying(|command| {
        Some(match command[0].as_str() {
            "PING" => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
            _ => bulk(OF_A_PRIMARY),
        })
    });
    let report = check(&json!({"address": address}));
    assert_unhealthy(
        &report,
        "the server refuses PING: LOADING Redis is loading the dataset in memory",
    );
    assert_eq!(report.value(&KEYS, []), Some(42.0));
}
