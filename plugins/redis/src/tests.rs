//! Servers on loopback that are healthy, sick, slow, refusing and lying; and Debian's redis-server.

mod conditions;
mod lies;
#[cfg(unix)]
mod real;

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

/// Starts a server that handles each connection by `handle`; returns its address.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().map(Result::unwrap).for_each(handle));
    address.to_string()
}

/// Starts a server that replies to commands; without a reply it closes the connection.
fn replying(reply: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> String {
    serve(move |stream| {
        let mut commands = BufReader::new(stream.try_clone().unwrap());
        while let Some(command) = read_command(&mut commands) {
            let Some(reply) = reply(&command) else {
                return;
            };
            (&stream).write_all(reply.as_bytes()).unwrap();
        }
    })
}

/// Reads a list of texts; `None` at the end.
fn read_command(from: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = || {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    };
    let count: usize = line()?.strip_prefix('*')?.parse().unwrap();
    let text = |_| {
        let length: usize = line()?.strip_prefix('$')?.parse().unwrap();
        line().filter(|text| text.len() == length)
    };
    (0..count).map(text).collect()
}

/// Starts a server that accepts PING and has this reply to INFO.
fn with_info(info: &str) -> String {
    let info = bulk(info);
    replying(move |command| match command[0].as_str() {
        "PING" => Some("+PONG\r\n".to_owned()),
        "INFO" => Some(info.clone()),
        other => panic!("unexpected command {other}"),
    })
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn with(mut config: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

fn check(config: &Value) -> Report {
    check_within(Duration::from_secs(60), config)
}

fn check_within(timeout: Duration, config: &Value) -> Report {
    let host = TestHost::new("cache").timeout(timeout);
    let mut probe = host
        .create_async::<RedisProbe>(&config.to_string())
        .unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_report(report, Status::Unhealthy, message);
}

const OF_A_PRIMARY: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nuptime_in_seconds:60\r\n\
    # Clients\r\nconnected_clients:3\r\nmaxclients:100\r\nblocked_clients:1\r\n\
    # Memory\r\nused_memory:1048576\r\nmaxmemory:10485760\r\nmaxmemory_policy:noeviction\r\nmem_not_counted_for_evict:524288\r\n\
    # Persistence\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n\
    # Stats\r\ntotal_commands_processed:9\r\nkeyspace_hits:7\r\nkeyspace_misses:2\r\nevicted_keys:4\r\nrejected_connections:5\r\n\
    # Replication\r\nrole:master\r\nmaster_repl_offset:1000\r\n\
    slave0:ip=192.0.2.1,port=6379,state=online,offset=900,lag=1\r\n\
    slave1:ip=192.0.2.2,port=6379,state=online,offset=400,lag=7\r\n\
    slave2:ip=192.0.2.3,port=6379,state=send_bulk,offset=0,lag=99\r\n\
    # Cluster\r\ncluster_enabled:0\r\n# Keyspace\r\ndb0:keys=42,expires=7,avg_ttl=0\r\n";

const OF_A_REPLICA: &str = "redis_version:7.0.15\r\nused_memory:1048576\r\nmaxmemory:0\r\nrole:slave\r\n\
    master_host:192.0.2.9\r\nmaster_port:6379\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:4\r\n\
    master_sync_in_progress:0\r\n";

#[test]
fn a_healthy_primary_is_described_and_measured() {
    let report =
        check(&json!({"address": with_info(OF_A_PRIMARY), "replicas": {"unhealthy_below": 2}}));
    assert_report(
        &report,
        Status::Healthy,
        "primary with 2 replicas, 1.0 MiB of 10.0 MiB, 42 keys, PING in ",
    );
    for (metric, value) in [
        (UPTIME, 60.0),
        (CLIENTS, 3.0),
        (MAX_CLIENTS, 100.0),
        (BLOCKED_CLIENTS, 1.0),
        (USED_MEMORY, 1_048_576.0),
        (MAX_MEMORY, 10_485_760.0),
        (MEMORY_USED, 0.05),
        (KEYS, 42.0),
        (EXPIRING_KEYS, 7.0),
        (IS_REPLICA, 0.0),
        (REPLICAS, 2.0),
        (REPLICATION_LAG, 7.0),
        (REPLICATION_BEHIND, 600.0),
        (COMMANDS, 9.0),
        (KEYSPACE_HITS, 7.0),
        (KEYSPACE_MISSES, 2.0),
        (EVICTED_KEYS, 4.0),
        (REJECTED_CONNECTIONS, 5.0),
    ] {
        assert_eq!(report.value(&metric, []), Some(value), "{metric:?}");
    }
    assert_eq!(report.value(&REPLICATION_LINK_UP, []), None);
    for phase in ["connect", "ping", "info"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    for phase in ["resolve", "tls", "auth"] {
        assert!(report.value(&PHASE, [phase]).is_none(), "{phase}");
    }
}

#[test]
fn a_healthy_replica_is_described_and_measured() {
    let report = check(&json!({"address": with_info(OF_A_REPLICA), "role": "replica"}));
    assert_report(
        &report,
        Status::Healthy,
        "replica, 1.0 MiB, 0 keys, PING in ",
    );
    for (metric, value) in [
        (IS_REPLICA, Some(1.0)),
        (REPLICATION_LINK_UP, Some(1.0)),
        (REPLICATION_LAG, Some(4.0)),
        (MAX_MEMORY, None),
        (MEMORY_USED, None),
        (REPLICAS, None),
    ] {
        assert_eq!(report.value(&metric, []), value, "{metric:?}");
    }
}

#[test]
fn the_login_is_sent_as_the_config_says() {
    let address = replying(|command| {
        let text: Vec<&str> = command.iter().map(String::as_str).collect();
        Some(match text[..] {
            ["AUTH", "hunter2"] | ["AUTH", "monitor", "hunter2"] => "+OK\r\n".to_owned(),
            ["AUTH", ..] => "-WRONGPASS invalid username-password pair\r\n".to_owned(),
            ["PING"] => "+PONG\r\n".to_owned(),
            _ => bulk(OF_A_PRIMARY),
        })
    });
    let login = |login: &Value| check(&with(json!({"address": address}), login));
    for right in [
        json!({"password": "hunter2"}),
        json!({"username": "monitor", "password": "hunter2"}),
    ] {
        let report = login(&right);
        assert_report(&report, Status::Healthy, "primary");
        assert!(report.value(&PHASE, ["auth"]).is_some());
    }
    let report = login(&json!({"password": "hunter3"}));
    assert_unhealthy(
        &report,
        "the server refuses AUTH: WRONGPASS invalid username-password pair",
    );
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_checked_like_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let address = format!("unix:{}", path.display());
    let config = json!({"address": address});
    assert_unhealthy(&check(&config), "there is no such socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut commands = BufReader::new(stream.try_clone().unwrap());
        for reply in ["+PONG\r\n", &bulk(OF_A_REPLICA)] {
            read_command(&mut commands).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    assert_report(&check(&config), Status::Healthy, "replica");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (keys, message) in [
        (
            json!({"address": "cache:0"}),
            "key `address`: \"cache:0\" does not end in a port",
        ),
        (
            json!({"username": "monitor"}),
            "key `username`: there is no password",
        ),
        (
            json!({"password": ""}),
            "key `password`: the password is empty",
        ),
        (
            json!({"role": "replica", "replicas": {"unhealthy_below": 1}}),
            "key `replicas`: it is a condition of a primary",
        ),
        (
            json!({"memory_percent": {"unhealthy_above": 101}}),
            "key `memory_percent`: 101 is not a percentage",
        ),
        (
            json!({"lag": {"degraded_above": "1m", "unhealthy_above": "30s"}}),
            "key `lag`: `degraded_above` (1m) is above `unhealthy_above` (30s)",
        ),
        (
            json!({"memory": {"degraded_above": "2GiB", "unhealthy_above": "1GiB"}}),
            "key `memory`: `degraded_above` (2GiB) is above",
        ),
        (json!({"tls": {"ca_file": "ca.pem"}}), "key `tls.ca_file`"),
    ] {
        let config = with(json!({"address": "cache"}), &keys).to_string();
        let created = TestHost::new("cache").create_async_unchecked::<RedisProbe>(&config);
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
