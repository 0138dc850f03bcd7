//! Pings of this machine, and verdicts on replies that it does not send.

#[cfg(target_os = "linux")]
mod namespace;
#[cfg(not(target_os = "linux"))]
mod namespace {
    /// Returns `true`: other systems allow pings.
    pub(super) fn can_ping(_: &str) -> bool {
        cfg!(not(windows))
    }
}

use std::{net::Ipv4Addr, time::Duration};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use self::namespace::can_ping;
use super::*;
use crate::{
    echo::{EchoSocket, cannot_open, checksum, message, reply},
    series::EchoReplies,
};

/// Checks a host, where pings are allowed.
fn check(config: &Value) -> Report {
    let host = TestHost::new("router").timeout(Duration::from_secs(60));
    let mut probe = host.create_async::<IcmpProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

#[test]
fn this_machine_replies_to_every_request() {
    if !can_ping("tests::this_machine_replies_to_every_request") {
        return;
    }
    for host in ["127.0.0.1", "localhost"] {
        let report = check(&json!({"host": host, "ip_version": 4, "count": 3}));
        assert_eq!(report.status(), Status::Healthy, "{report:?}");
        assert!(
            report
                .message()
                .starts_with("3 of 3 replies from 127.0.0.1 in "),
            "{}",
            report.message()
        );
        assert_eq!(report.value(&LOSS, []), Some(0.0));
        let rtt = |stat| report.value(&RTT, [stat]).unwrap();
        assert!(0.0 < rtt("min") && rtt("min") <= rtt("avg") && rtt("avg") <= rtt("max"));
        assert_eq!(report.value(&RESOLVE, []).is_some(), host == "localhost");
    }
}

#[test]
fn many_pings_at_once_lose_nothing() {
    if !can_ping("tests::many_pings_at_once_lose_nothing") {
        return;
    }
    let checks: Vec<_> = (0..32)
        .map(|_| std::thread::spawn(|| check(&json!({"host": "127.0.0.1", "count": 20}))))
        .collect();
    for report in checks.into_iter().map(|check| check.join().unwrap()) {
        assert_eq!(report.value(&LOSS, []), Some(0.0), "{report:?}");
    }
}

#[test]
fn this_machine_replies_over_ipv6() {
    if !can_ping("tests::this_machine_replies_over_ipv6") {
        return;
    }
    let has_ipv6 = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if has_ipv6 {
        let report = check(&json!({"host": "::1", "count": 2, "size": 1452}));
        assert!(
            report.message().starts_with("2 of 2 replies from ::1 in "),
            "{}",
            report.message()
        );
    }
}

#[test]
fn an_address_of_another_version_is_not_used() {
    let report = check(&json!({"host": "127.0.0.1", "ip_version": 6}));
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(report.message(), "127.0.0.1 has no IPv6 address");
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_that_ignores_pings_is_unhealthy() {
    if !namespace::is_in_namespace() {
        namespace::run_in_namespace("tests::a_machine_that_ignores_pings_is_unhealthy");
        return;
    }
    std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1").unwrap();
    let host = TestHost::new("router").timeout(Duration::from_secs(2));
    let mut probe = host
        .create_async::<IcmpProbe>(&json!({"host": "127.0.0.1", "count": 2}).to_string())
        .unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(
        report
            .message()
            .contains("no reply from 127.0.0.1 to 2 echo requests"),
        "{}",
        report.message()
    );
    assert_eq!(report.value(&LOSS, []), Some(1.0));
}

fn verdict(sent: u16, milliseconds: &[u64]) -> Report {
    let limits = PingLimits {
        degraded_loss: 20,
        unhealthy_loss: 50,
        degraded_above: Some(Duration::from_millis(100)),
        unhealthy_above: Some(Duration::from_millis(200)),
    };
    limits.judge(&EchoReplies {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        sent,
        times: milliseconds
            .iter()
            .map(|ms| Duration::from_millis(*ms))
            .collect(),
    })
}

#[test]
fn loss_and_time_have_limits() {
    for (replies, status, part) in [
        (
            &[10, 20, 30, 40, 50][..],
            Status::Healthy,
            "5 of 5 replies from 127.0.0.1 in 30.0 ms on average",
        ),
        (
            &[10, 20, 30, 40],
            Status::Degraded,
            "4 of 5 replies from 127.0.0.1 in 25.0 ms on average (`degraded_loss` is 20 %)",
        ),
        (&[10, 20], Status::Unhealthy, "(`unhealthy_loss` is 50 %)"),
        (&[101; 5], Status::Degraded, "(`degraded_above` is 100 ms)"),
        (
            &[201; 5],
            Status::Unhealthy,
            "(`unhealthy_above` is 200 ms)",
        ),
        (
            &[201; 4],
            Status::Unhealthy,
            "(`unhealthy_above` is 200 ms)",
        ),
    ] {
        let report = verdict(5, replies);
        assert_eq!(report.status(), status, "{report:?}");
        assert!(report.message().contains(part), "{}", report.message());
    }
    let report = verdict(4, &[10, 20, 30]);
    assert_eq!(report.value(&LOSS, []), Some(0.25));
    assert_eq!(report.value(&RTT, ["avg"]), Some(0.02));
}

#[test]
fn a_process_that_may_not_ping_is_a_failure_with_the_cure() {
    let denied = std::io::ErrorKind::PermissionDenied.into();
    let failure = cannot_open(&denied);
    assert_eq!(failure.kind(), FailureKind::Error);
    for part in ["sysctl -w net.ipv4.ping_group_range=", "[plugin.icmp]"] {
        assert!(failure.message().contains(part), "{failure}");
    }
}

#[test]
fn a_short_timeout_speeds_the_requests_up() {
    if !can_ping("tests::a_short_timeout_speeds_the_requests_up") {
        return;
    }
    let host = TestHost::new("router").timeout(Duration::from_millis(500));
    let mut probe = host
        .create_async::<IcmpProbe>(&json!({"host": "127.0.0.1", "count": 20}).to_string())
        .unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert!(
        report.message().contains("of 20 replies"),
        "{}",
        report.message()
    );
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (key, value, message) in [
        (
            "host",
            json!("a..b"),
            "key `host`: \"a..b\" has a host that cannot be found",
        ),
        (
            "host",
            json!("http://a"),
            "key `host`: \"http://a\" has a scheme",
        ),
        (
            "ip_version",
            json!(5),
            "key `ip_version`: 5 is not a version; write 4 or 6",
        ),
        ("count", json!(0), "key `count`: 0 is not from 1 to 20"),
        (
            "degraded_loss",
            json!(101),
            "key `degraded_loss`: 101 is not from 1 to 100",
        ),
        (
            "unhealthy_loss",
            json!(10),
            "key `degraded_loss`: 20 is above `unhealthy_loss`, 10",
        ),
    ] {
        let mut config = json!({"host": "a"});
        config[key] = value;
        let created =
            TestHost::new("router").create_async_unchecked::<IcmpProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}

#[test]
fn a_socket_sees_the_replies_of_its_own_requests_alone() {
    if !can_ping("tests::a_socket_sees_the_replies_of_its_own_requests_alone") {
        return;
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let one = EchoSocket::open(address).unwrap();
        let other = EchoSocket::open(address).unwrap();
        one.connect().await.unwrap();
        other.connect().await.unwrap();
        one.request(7, 0).await.unwrap();
        other.request(8, 0).await.unwrap();
        assert_eq!(one.reply().await.unwrap(), 7);
        assert_eq!(other.reply().await.unwrap(), 8);
    });
}

#[test]
fn a_reply_is_found_with_and_without_the_header_of_ipv4() {
    let request = message(8, 0x1234, 7, 3);
    assert_eq!(checksum(&request), 0);
    assert_eq!(request[..2], [8, 0]);
    assert_eq!(request.len(), 11);
    let mut answer = request.clone();
    answer[0] = 0;
    let found = Some((0x1234, 7));
    assert_eq!(reply(false, &answer), found);
    let mut header = vec![0x46];
    header.resize(24, 9);
    assert_eq!(reply(false, &[&header[..], &answer].concat()), found);
    assert_eq!(reply(false, &[&header[..], &request].concat()), None);
    assert_eq!(reply(false, &request), None);
    assert_eq!(reply(false, &header[..20]), None);
    assert_eq!(reply(true, &answer), None);
    answer[0] = 129;
    assert_eq!(reply(true, &answer), found);
    assert_eq!(reply(true, &[]), None);
}
