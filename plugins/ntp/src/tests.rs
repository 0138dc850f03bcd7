//! Servers on loopback with clocks that are right, off and not synchronized; and chrony where it is installed.

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use conductor_real_servers::{RealServer, free_port, program};
use serde_json::{Value, json};

use super::*;
use crate::{exchange::NtpAnswer, limits::ClockLimits, packet::NtpResponse};

/// Starts a server of stratum 2 whose clock is `ahead` seconds ahead, and whose responses `change` completes.
fn server(ahead: f64, change: impl Fn(&mut [u8; 48]) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut request = [0; 48];
        while let Ok((48, client)) = socket.recv_from(&mut request) {
            let mut response = [0; 48];
            response[0] = 4 << 3 | 4;
            response[1] = 2;
            response[24..32].copy_from_slice(&request[40..]);
            let time = ntp_time(ahead);
            response[32..40].copy_from_slice(&time);
            response[40..48].copy_from_slice(&time);
            change(&mut response);
            let _ = socket.send_to(&response, client);
        }
    });
    address
}

/// Returns the time in `ahead` seconds, as it is in a packet.
#[expect(
    clippy::disallowed_methods,
    reason = "the server has the clock that the probe compares"
)]
fn ntp_time(ahead: f64) -> [u8; 8] {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = since_1970.as_secs_f64() + ahead + 2_208_988_800.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "before 2036"
    )]
    let (seconds, fraction) = (now as u32, (now.fract() * 4_294_967_296.0) as u32);
    let [a, b, c, d] = seconds.to_be_bytes();
    let [e, f, g, h] = fraction.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

fn check(config: &Value) -> Report {
    let host = TestHost::new("time").timeout(Duration::from_secs(60));
    let mut probe = host.create_async::<NtpProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

fn check_server(address: SocketAddr) -> Report {
    check(&json!({"server": address.to_string()}))
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[test]
fn a_clock_that_agrees_is_healthy_and_measured() {
    let report = check_server(server(0.0, |response| {
        response[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
        response[8..12].copy_from_slice(&[0, 0, 0x80, 0]);
    }));
    assert_report(&report, Status::Healthy, " the server's, of stratum 2");
    assert!(report.value(&OFFSET, []).unwrap().abs() < 0.1, "{report:?}");
    assert!(report.value(&DELAY, []).unwrap() < 10.0, "{report:?}");
    assert_eq!(report.value(&STRATUM, []), Some(2.0));
    assert_eq!(report.value(&ROOT_DELAY, []), Some(0.25));
    assert_eq!(report.value(&ROOT_DISPERSION, []), Some(0.5));
    assert_eq!(report.value(&LEAP, []), Some(0.0));
    assert_eq!(report.value(&RESOLVE, []), None);
}

#[test]
fn an_offset_of_exactly_zero_is_healthy() {
    let limits = ClockLimits {
        degraded_offset: Duration::from_millis(100),
        unhealthy_offset: Duration::from_secs(1),
        max_stratum: 15,
        max_dispersion: Duration::from_secs(1),
    };
    let report = limits.judge(&NtpAnswer {
        response: NtpResponse {
            leap: 0,
            stratum: 4,
            root_delay: Duration::ZERO,
            root_dispersion: Duration::ZERO,
            reference: String::new(),
            received: 1.0,
            sent: 1.0,
        },
        offset: 0.0,
        delay: 0.025_65,
    });
    assert_report(&report, Status::Healthy, "of stratum 4");
    assert_eq!(report.value(&OFFSET, []), Some(0.0));
}

#[test]
fn an_offset_above_a_limit_decides() {
    let report = check_server(server(5.0, |_| {}));
    assert_report(
        &report,
        Status::Unhealthy,
        "this machine's clock is 5.0 s behind the server's",
    );
    assert!(
        (report.value(&OFFSET, []).unwrap() + 5.0).abs() < 0.5,
        "{report:?}"
    );
    let address = server(-5.0, |_| {});
    let lenient = json!({"server": address.to_string(), "unhealthy_offset": "1h"});
    assert_report(
        &check(&lenient),
        Status::Degraded,
        "5.0 s ahead of the server's",
    );
}

#[test]
fn an_offset_that_the_delay_explains_does_not_decide() {
    let slow = |ahead| {
        server(ahead, |_| {
            thread::sleep(Duration::from_millis(400));
        })
    };
    let report = check_server(slow(0.0));
    assert_report(&report, Status::Healthy, ", give or take ");
    assert!(report.value(&OFFSET, []).unwrap() > 0.1, "{report:?}");
    let report = check_server(slow(-5.0));
    assert_report(&report, Status::Unhealthy, "(`unhealthy_offset` is 1.0 s)");
}

#[test]
fn a_server_without_a_usable_clock_is_unhealthy() {
    let report = check_server(server(0.0, |response| response[0] |= 3 << 6));
    assert_report(&report, Status::Unhealthy, "the server is not synchronized");
    assert_eq!(report.value(&LEAP, []), Some(3.0));
    assert_eq!(report.value(&OFFSET, []), None);
    let unsynchronized = check_server(server(0.0, |response| response[1] = 16));
    assert_report(
        &unsynchronized,
        Status::Unhealthy,
        "the server is not synchronized",
    );

    let far = server(0.0, |response| response[1] = 9);
    let config = json!({"server": far.to_string(), "max_stratum": 4});
    assert_report(
        &check(&config),
        Status::Unhealthy,
        "the server has stratum 9, expected at most 4",
    );

    let inexact = check_server(server(0.0, |response| response[9] = 3));
    assert_report(
        &inexact,
        Status::Unhealthy,
        "the server may be 3.0 s off its reference clock, expected at most 1.0 s",
    );
}

#[test]
fn a_server_that_refuses_requests_is_unhealthy_with_its_reason() {
    let refusing = |code: &'static [u8; 4]| {
        check_server(server(0.0, move |response| {
            response[1] = 0;
            response[12..16].copy_from_slice(code);
        }))
    };
    assert_report(
        &refusing(b"RATE"),
        Status::Unhealthy,
        "asks for fewer requests (RATE)",
    );
    assert_report(
        &refusing(b"DENY"),
        Status::Unhealthy,
        "denies requests of this machine (DENY)",
    );
}

#[test]
fn a_forged_response_does_not_count() {
    let address = server(99.0, |response| response[24] ^= 1);
    let host = TestHost::new("time").timeout(Duration::from_millis(300));
    let config = json!({"server": address.to_string()}).to_string();
    let mut probe = host.create_async::<NtpProbe>(&config).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_report(
        &report,
        Status::Unhealthy,
        "no answer within 270 ms (waiting for 127.0.0.1:",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy_at_once() {
    let address = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_report(
        &check_server(address),
        Status::Unhealthy,
        "connection refused",
    );
}

#[test]
fn chrony_is_checked() {
    let Some(chronyd) = program("chronyd", "chrony") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = folder.path().join("chrony.conf");
    let text = format!(
        "local stratum 8\nallow 127.0.0.0/8\nbindaddress 127.0.0.1\nport {port}\ncmdport 0\nbindcmdaddress /\npidfile {}/pid\n",
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // It does not touch the clock.
    let mut command = Command::new(chronyd);
    command.args(["-x", "-d", "-u", "root", "-f"]).arg(&config);
    let _server = RealServer::start(command, || {
        check_server(address).status() == Status::Healthy
    });
    let report = check_server(address);
    assert_report(&report, Status::Healthy, "the server's, of stratum 8");
    assert!(report.value(&OFFSET, []).unwrap().abs() < 0.1, "{report:?}");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (key, value, message) in [
        (
            "server",
            json!("ntp://a"),
            "key `server`: \"ntp://a\" has a scheme",
        ),
        (
            "degraded_offset",
            json!("2s"),
            "key `degraded_offset`: 2s is above `unhealthy_offset`, 1s",
        ),
        (
            "max_stratum",
            json!(16),
            "key `max_stratum`: 16 is not from 1 to 15",
        ),
    ] {
        let mut config = json!({"server": "a"});
        config[key] = value;
        let created = TestHost::new("time").create_async_unchecked::<NtpProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
