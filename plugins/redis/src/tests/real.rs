//! Debian's redis-server; skipped where it is not installed.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::Command,
};

use conductor_real_servers::{RealServer, drop_root, free_port, program, wait_for};

use super::*;

/// A running server and the folder of its files.
struct RedisServer {
    process: RealServer,
    folder: tempfile::TempDir,
    port: u16,
}

impl RedisServer {
    /// Starts it on a port of its own and a Unix socket; `None` if it is not installed.
    fn start(options: &[&str]) -> Option<Self> {
        let mut command = Command::new(program("redis-server", "redis-server")?);
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .args(["--unixsocket", "redis.sock", "--dir"])
            .arg(folder.path())
            .args(options);
        drop_root(&mut command, folder.path());
        let socket = folder.path().join("redis.sock");
        let process = RealServer::start(command, || UnixStream::connect(&socket).is_ok());
        Some(Self {
            process,
            folder,
            port,
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn config(&self) -> Value {
        json!({"address": format!("127.0.0.1:{}", self.port)})
    }

    /// Sends commands as lines, and waits for the last of their replies.
    fn tell(&self, commands: &[&str]) {
        let stream = UnixStream::connect(self.socket()).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap());
        for command in commands {
            (&stream)
                .write_all(format!("{command}\r\n").as_bytes())
                .unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
    }
}

/// Checks until the report has this status; what it waits for takes as long as the machine needs.
#[track_caller]
fn until(status: Status, config: &Value) -> Report {
    wait_for(|| Some(check(config)).filter(|report| report.status() == status))
}

#[test]
fn redis_is_checked_with_a_login_keys_and_memory() {
    let Some(server) = RedisServer::start(&["--maxmemory", "20mb"]) else {
        return;
    };
    server.tell(&[
        "SET greeting hello",
        "SETEX soon 1000 x",
        "ACL SETUSER monitor on >hunter2 +ping +info",
        "ACL SETUSER blind on >hunter2 +ping",
    ]);
    let config = server.config();
    let report = check(&config);
    assert_report(&report, Status::Healthy, "of 20.0 MiB, 2 keys, PING in ");
    assert_eq!(report.value(&EXPIRING_KEYS, []), Some(1.0));
    assert_eq!(report.value(&IS_REPLICA, []), Some(0.0));
    for metric in [
        UPTIME,
        CLIENTS,
        MAX_CLIENTS,
        BLOCKED_CLIENTS,
        COMMANDS,
        EVICTED_KEYS,
    ] {
        assert!(report.value(&metric, []).is_some(), "{metric:?}");
    }
    let socket = json!({"address": format!("unix:{}", server.socket().display())});
    assert_report(&check(&socket), Status::Healthy, "primary");

    let as_user = |user: &str, password: &str| {
        let login = json!({"username": user, "password": password});
        check(&with(config.clone(), &login))
    };
    assert_report(&as_user("monitor", "hunter2"), Status::Healthy, "primary");
    assert_unhealthy(
        &as_user("monitor", "wrong"),
        "the server refuses AUTH: WRONGPASS",
    );
    assert_unhealthy(
        &as_user("blind", "hunter2"),
        "the server refuses INFO: NOPERM",
    );
    let without = check(&with(config.clone(), &json!({"password": "hunter2"})));
    assert_unhealthy(
        &without,
        "the server refuses AUTH: ERR AUTH <password> called without any password",
    );
    server.tell(&["CONFIG SET requirepass hunter2"]);
    assert_unhealthy(
        &check(&config),
        "NOAUTH Authentication required; set `password`",
    );
    let login = with(config, &json!({"password": "hunter2"}));
    assert_report(&check(&login), Status::Healthy, "primary");

    server.tell(&["AUTH hunter2", "CONFIG SET maxmemory 1mb"]);
    let full = check(&login);
    assert_ne!(full.status(), Status::Healthy, "{full:?}");
    assert!(full.value(&MEMORY_USED, []).unwrap() > 0.8, "{full:?}");
}

#[test]
fn a_redis_replica_follows_its_primary_and_loses_it() {
    let Some(primary) = RedisServer::start(&[]) else {
        return;
    };
    let of = format!("127.0.0.1 {}", primary.port);
    let replica = RedisServer::start(&["--replicaof", &of, "--repl-timeout", "3600"]).unwrap();
    let quick = json!({"lag": {"degraded_above": "1s"}});
    let replicas = with(
        primary.config(),
        &json!({"role": "primary", "replicas": {"unhealthy_below": 1}}),
    );
    let report = until(Status::Healthy, &replicas);
    assert_report(&report, Status::Healthy, "primary with 1 replica");
    assert!(report.value(&REPLICATION_BEHIND, []).is_some());
    let two = with(replicas, &json!({"replicas": {"unhealthy_below": 2}}));
    assert_unhealthy(
        &check(&two),
        "1 replica online (`replicas.unhealthy_below` is 2)",
    );

    let report = until(
        Status::Healthy,
        &with(replica.config(), &json!({"role": "replica"})),
    );
    assert_eq!(report.value(&REPLICATION_LINK_UP, []), Some(1.0));
    let wrong = with(replica.config(), &json!({"role": "primary"}));
    assert_unhealthy(
        &check(&wrong),
        "the server is a replica, expected a primary",
    );

    primary.process.signal("STOP");
    let report = until(Status::Degraded, &with(replica.config(), &quick));
    assert_report(
        &report,
        Status::Degraded,
        "the replica last heard from its primary 127.0.0.1:",
    );
    primary.process.signal("KILL");
    let report = until(Status::Unhealthy, &replica.config());
    assert_unhealthy(&report, "the link to the primary 127.0.0.1:");
    assert_eq!(report.value(&REPLICATION_LINK_UP, []), Some(0.0));

    replica.tell(&["CONFIG SET replica-serve-stale-data no"]);
    let report = check(&replica.config());
    assert_unhealthy(&report, "the server refuses PING: MASTERDOWN");
    assert_unhealthy(&report, "the link to the primary 127.0.0.1:");
}

#[test]
fn a_redis_cluster_without_its_slots_is_unhealthy() {
    let Some(server) = RedisServer::start(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let report = check(&server.config());
    assert_unhealthy(&report, "the state of the cluster is fail, expected ok");
    server.tell(&["CLUSTER ADDSLOTSRANGE 0 16383"]);
    until(Status::Healthy, &server.config());
}

#[test]
fn a_redis_server_without_free_connections_says_so() {
    let Some(server) = RedisServer::start(&["--maxclients", "1"]) else {
        return;
    };
    let mut only = UnixStream::connect(server.socket()).unwrap();
    // Earlier connections are over when this one is served.
    let mut reply = [0; 1];
    loop {
        only.write_all(b"PING\r\n").unwrap();
        if only.read(&mut reply).is_ok_and(|count| count == 1) && reply == *b"+" {
            break;
        }
        only = UnixStream::connect(server.socket()).unwrap();
    }
    let report = check(&server.config());
    assert_unhealthy(
        &report,
        "the server refuses PING: ERR max number of clients reached",
    );
}

#[test]
fn a_stopped_redis_server_is_unhealthy_in_time() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    server.process.signal("STOP");
    let report = check_within(Duration::from_millis(500), &server.config());
    assert_unhealthy(
        &report,
        "no answer within 450 ms (waiting for the reply to PING)",
    );
}

#[test]
fn redis_over_tls_is_verified_and_measured() {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        // The server is another user than the test if that is root.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("redis.pem", certificate.pem());
    let key = file("redis.key", key.serialize_pem());
    let tls = [
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
    ];
    // The port is that of TLS.
    let swap = ["--tls-auth-clients", "no", "--tls-port"];
    let free = free_port().to_string();
    let options: Vec<&str> = tls.into_iter().chain(swap).chain([free.as_str()]).collect();
    let Some(_server) = RedisServer::start(&options) else {
        return;
    };
    let address = format!("127.0.0.1:{free}");
    let report = check(&json!({"address": address, "tls": {"ca_file": certificate}}));
    assert_report(&report, Status::Healthy, "primary");
    assert!(report.value(&PHASE, ["tls"]).is_some());
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));

    let other = json!({"ca_file": certificate, "server_name": "cache.example"});
    let report = check(&json!({"address": address, "tls": other}));
    assert_unhealthy(&report, "cache.example");
    let report = check(&json!({"address": address}));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}
