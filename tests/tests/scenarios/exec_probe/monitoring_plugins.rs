//! Debian's monitoring-plugins, healthy and sick, in a worker's sandbox.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::Path,
    thread,
};

use serde_json::{Value, json};

use super::setup;

const FOLDER: &str = "/usr/lib/nagios/plugins";

/// One plugin with its arguments; PORT is that of a server which begins with `greeting`.
struct PluginCase {
    plugin: &'static str,
    arguments: &'static str,
    greeting: &'static str,
    status: &'static str,
    message: &'static str,
    /// A family and one of its labels.
    metric: &'static str,
}

const fn case(
    plugin: &'static str,
    arguments: &'static str,
    greeting: &'static str,
    status: &'static str,
    message: &'static str,
    metric: &'static str,
) -> PluginCase {
    PluginCase {
        plugin,
        arguments,
        greeting,
        status,
        message,
        metric,
    }
}

const CASES: &[PluginCase] = &[
    case("check_dummy", "0 fine", "", "healthy", "OK: fine", ""),
    case(
        "check_dummy",
        "1 so-so",
        "",
        "degraded",
        "WARNING: so-so",
        "",
    ),
    case("check_dummy", "2 bad", "", "unhealthy", "CRITICAL: bad", ""),
    case(
        "check_dummy",
        "3 puzzled",
        "",
        "failed",
        "UNKNOWN: puzzled",
        "",
    ),
    case(
        "check_disk",
        "-w 0% -c 0% -p /",
        "",
        "healthy",
        "DISK OK",
        "size_bytes /",
    ),
    case(
        "check_disk",
        "-w 100% -c 100% -p /",
        "",
        "unhealthy",
        "DISK CRITICAL",
        "size_limit_bytes /",
    ),
    case(
        "check_disk",
        "-w 5% -c 1% -p /nowhere",
        "",
        "unhealthy",
        "/nowhere is not accessible",
        "",
    ),
    case(
        "check_load",
        "-w 900,900,900 -c 999,999,999",
        "",
        "healthy",
        "LOAD OK",
        "value load15",
    ),
    case(
        "check_load",
        "-w 0,0,0 -c 900,900,900",
        "",
        "degraded",
        "LOAD WARNING",
        "value_limit load15",
    ),
    case(
        "check_procs",
        "-c 1:",
        "",
        "healthy",
        "PROCS OK",
        "value procs",
    ),
    case(
        "check_procs",
        "-c 1: -C nosuchprogram",
        "",
        "unhealthy",
        "PROCS CRITICAL: 0 processes",
        "value procs",
    ),
    case(
        "check_users",
        "-w 900 -c 999",
        "",
        "healthy",
        "USERS OK",
        "value users",
    ),
    case(
        "check_file_age",
        "-w 9999999999 -c 9999999999 -f /etc/passwd",
        "",
        "healthy",
        "FILE_AGE OK",
        "time_seconds age",
    ),
    case(
        "check_file_age",
        "-w 1 -c 9999999999 -f /etc/passwd",
        "",
        "degraded",
        "FILE_AGE WARNING",
        "size_bytes size",
    ),
    case(
        "check_file_age",
        "-w 1 -c 2 -f /nowhere",
        "",
        "unhealthy",
        "File not found",
        "",
    ),
    case(
        "check_cluster",
        "-s -l web -d 0,0,0 -c 1",
        "",
        "healthy",
        "CLUSTER OK",
        "",
    ),
    case(
        "check_cluster",
        "-s -l web -d 2,2,0 -c 1",
        "",
        "unhealthy",
        "CLUSTER CRITICAL",
        "",
    ),
    case("check_sensors", "", "", "failed", "SENSORS UNKNOWN", ""),
    case(
        "check_nagios",
        "-F /nowhere -e 5 -C x",
        "",
        "unhealthy",
        "NAGIOS CRITICAL",
        "",
    ),
    case(
        "check_ide_smart",
        "-d /dev/nowhere",
        "",
        "unhealthy",
        "Couldn't open device",
        "",
    ),
    case(
        "check_mrtg",
        "-F /nowhere -a AVG -v 1 -w 5 -c 9",
        "",
        "failed",
        "Unable to open MRTG log file",
        "",
    ),
    case(
        "check_tcp",
        "-H 127.0.0.1 -p PORT -e hello",
        "hello\r\n",
        "healthy",
        "TCP OK",
        "time_seconds time",
    ),
    case(
        "check_tcp",
        "-H 127.0.0.1 -p PORT -e hello",
        "goodbye\r\n",
        "degraded",
        "TCP WARNING",
        "time_seconds time",
    ),
    case(
        "check_tcp",
        "-H 127.0.0.1 -p 1",
        "",
        "unhealthy",
        "Connection refused",
        "",
    ),
    case(
        "check_ssh",
        "-p PORT 127.0.0.1",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "healthy",
        "SSH OK",
        "",
    ),
    case(
        "check_ssh",
        "-p PORT 127.0.0.1",
        "HTTP/1.0 400 no\r\n\r\n",
        "unhealthy",
        "Server answer",
        "",
    ),
    case(
        "check_ftp",
        "-H 127.0.0.1 -p PORT",
        "220 ready\r\n",
        "healthy",
        "FTP OK",
        "time_seconds time",
    ),
    case(
        "check_pop",
        "-H 127.0.0.1 -p PORT",
        "+OK ready\r\n",
        "healthy",
        "POP OK",
        "time_seconds time",
    ),
    case(
        "check_imap",
        "-H 127.0.0.1 -p PORT",
        "* OK ready\r\n",
        "healthy",
        "IMAP OK",
        "time_seconds time",
    ),
    case(
        "check_nntp",
        "-H 127.0.0.1 -p PORT",
        "200 ready\r\n",
        "healthy",
        "NNTP OK",
        "time_seconds time",
    ),
    case(
        "check_smtp",
        "-H 127.0.0.1 -p PORT",
        "220 ready\r\n250 hello\r\n221 bye\r\n",
        "healthy",
        "SMTP OK",
        "time_seconds time",
    ),
    case(
        "check_http",
        "-H 127.0.0.1 -p PORT",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "healthy",
        "HTTP OK",
        "size_bytes size",
    ),
    case(
        "check_http",
        "-H 127.0.0.1 -p PORT",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        "degraded",
        "HTTP WARNING",
        "time_seconds time",
    ),
    case(
        "check_http",
        "-H 127.0.0.1 -p PORT",
        "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
        "unhealthy",
        "HTTP CRITICAL",
        "time_seconds time",
    ),
    case(
        "check_http",
        "-H 127.0.0.1 -p PORT -s word",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "unhealthy",
        "string 'word' not found",
        "size_bytes size",
    ),
    case(
        "check_udp",
        "-H 127.0.0.1 -p UDP -s ping -e pong",
        "pong",
        "healthy",
        "UDP OK",
        "time_seconds time",
    ),
    case(
        "check_ups",
        "-H 127.0.0.1 -p 1 -u x",
        "",
        "unhealthy",
        "Connection refused",
        "",
    ),
    case(
        "check_by_ssh",
        "-H 127.0.0.1 -p 1 -C true",
        "",
        "failed",
        "Remote command execution failed",
        "",
    ),
    case(
        "negate",
        "-o CRITICAL /usr/lib/nagios/plugins/check_dummy 0 x",
        "",
        "unhealthy",
        "x",
        "",
    ),
    case(
        "urlize",
        "http://localhost /usr/lib/nagios/plugins/check_dummy 1 x",
        "",
        "degraded",
        "WARNING: x",
        "",
    ),
];

/// Starts a server that sends the greeting to each client and reads until the client closes.
fn greet(greeting: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = stream.write_all(greeting.as_bytes());
                if greeting.starts_with("HTTP") {
                    // Without the request, closing would reset the connection.
                    let _ = stream.read(&mut [0; 4096]);
                    return;
                }
                while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            });
        }
    });
    port
}

/// Starts a server that replies to each datagram.
fn answer(text: &'static str) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0; 512]) {
            let _ = socket.send_to(text.as_bytes(), client);
        }
    });
    port
}

#[test]
fn the_monitoring_plugins_of_debian_work_in_a_worker() {
    if !Path::new(FOLDER).join("check_by_ssh").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has monitoring-plugins"
        );
        eprintln!("skipped: there are no monitoring-plugins on this machine");
        return;
    }
    let mut setup = setup().host("interval = \"20s\"\nstagger = \"50ms\"\ntimeout = \"15s\"");
    for (nth, case) in CASES.iter().enumerate() {
        let mut command = vec![format!("{FOLDER}/{}", case.plugin)];
        for argument in case.arguments.split_whitespace() {
            command.push(match argument {
                "PORT" => greet(case.greeting).to_string(),
                "UDP" => answer(case.greeting).to_string(),
                other => other.to_owned(),
            });
        }
        let config = format!("{{ command = {} }}", json!(command));
        setup = setup.platform(&name(nth, case), "exec", &config);
    }
    let host = setup.start();
    let metrics = host.wait("a check of each", |m| {
        CASES
            .iter()
            .enumerate()
            .all(|(nth, case)| m.due(&name(nth, case)) >= 1.0)
    });
    let mut wrong = String::new();
    for (nth, case) in CASES.iter().enumerate() {
        let name = name(nth, case);
        let (_, platform) = host.get(&format!("/api/v1/platforms/{name}"));
        let platform: Value = serde_json::from_str(&platform).unwrap();
        let counted = metrics.checks(&name, case.status) >= 1.0;
        let has_message = platform.to_string().contains(case.message);
        let has_metric = case.metric.split_once(' ').is_none_or(|(family, label)| {
            let labels = [("platform", name.as_str()), ("label", label)];
            metrics.has(&format!("conductor_exec_{family}"), &labels)
        });
        if !(counted && has_message && has_metric) {
            let PluginCase {
                status,
                message,
                metric,
                ..
            } = case;
            writeln!(
                wrong,
                "{name}: expected {status}, {message:?}, {metric}: {platform}"
            )
            .unwrap();
        }
    }
    assert_eq!(wrong, "");
}

fn name(nth: usize, case: &PluginCase) -> String {
    format!("{nth}-{}", case.plugin.replace('_', "-"))
}
