//! The history of a real host: an outage becomes an incident, and what was stored survives any end of the host.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Host, Setup, conductor};

/// Waits until an answer of the API is as wanted.
fn wait_for(host: &Host, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let (code, body) = host.get(path);
        if code == 200 {
            let found: Value = serde_json::from_str(&body).unwrap();
            if wanted(&found) {
                return found;
            }
        }
        assert!(
            Instant::now() < patience,
            "{path}: {code} {body}\n{}",
            host.log()
        );
        thread::sleep(Duration::from_millis(100));
    }
}

fn setup_with(address: SocketAddr) -> Setup {
    let config = format!("{{ address = \"{address}\" }}");
    Setup::new().bundled("tcp").platform("shop", "tcp", &config)
}

fn records(host: &Host, options: &[&str]) -> String {
    let address = host.address.to_string();
    let mut arguments = vec!["history", "export", "--address", &address];
    arguments.extend(options);
    let output = conductor(&arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_outage_becomes_an_incident_in_the_api_and_on_the_command_line() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let mut host = setup_with(address).start();
    host.wait("a healthy check", |m| m.checks("shop", "healthy") >= 1.0);
    drop(server);
    host.wait("an unhealthy one", |m| m.checks("shop", "unhealthy") >= 1.0);
    let open = wait_for(&host, "/api/v1/incidents", |found| !found[0].is_null());
    assert_eq!(open[0]["platform"], "shop");
    assert_eq!(open[0]["state"], "unhealthy");
    assert!(open[0]["end"].is_null(), "{open}");
    let _server = TcpListener::bind(address).unwrap();
    let closed = wait_for(&host, "/api/v1/incidents?since=1h", |found| {
        !found[0]["end"].is_null()
    });
    assert_eq!(closed[0]["start"], open[0]["start"]);
    let past = wait_for(&host, "/api/v1/platforms/shop/history?range=24h", |past| {
        past["incidents"][0]["end"].is_number()
    });
    let up = past["uptime"][0]["up"].as_f64().unwrap();
    assert!(up > 0.0 && up < 1.0, "{past}");
    // Down and known time, from the spans alone.
    let spans = past["timeline"]["spans"].as_array().unwrap();
    let spent = |state: &str| {
        let of = spans.iter().filter(|span| span["state"] == state);
        let lengths = of.map(|s| s["to"].as_f64().unwrap() - s["from"].as_f64().unwrap());
        lengths.sum::<f64>()
    };
    let expected = spent("healthy") / (spent("healthy") + spent("unhealthy"));
    assert!((up - expected).abs() < 1e-6, "{up} {expected}");
    assert_eq!(host.get("/api/v1/platforms/nobody/history").0, 404);
    assert_eq!(host.get("/api/v1/platforms/shop/history?range=1x").0, 400);

    let address = host.address.to_string();
    let shown = conductor(&["history", "--address", &address])
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("INCIDENT OF") && text.contains("unhealthy"),
        "{text}"
    );
    let missed = conductor(&["history", "--platform", "x*", "--address", &address])
        .output()
        .unwrap();
    assert_eq!(missed.status.code(), Some(1), "{missed:?}");
    assert_eq!(records(&host, &["--format", "csv"]).lines().count(), 4);
    assert_eq!(host.metrics().sum("conductor_history_writable", &[]), 1.0);

    // The same from the file, when the host has stopped.
    let asked = records(&host, &[]);
    host.stop();
    let file = host.setup.path("state/history.sqlite");
    let file = file.to_str().unwrap();
    let output = conductor(&["history", "export", "--file", file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), asked);
    let output = conductor(&["history", "export", "--file", "/nowhere/history.sqlite"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_host_without_history_says_so() {
    let host = Setup::new()
        .platform("shop", "fault", "{}")
        .with("[history]\nenabled = false\n")
        .start();
    let (code, body) = host.get("/api/v1/incidents");
    assert_eq!(code, 501);
    assert!(body.contains("[history]"), "{body}");
    assert!(!host.metrics().has("conductor_history_writable", &[]));
    assert!(!host.setup.path("state/history.sqlite").exists());
}

#[test]
fn a_damaged_file_is_set_aside_and_a_newer_one_left_alone_while_checks_go_on() {
    let setup = Setup::new().platform("shop", "fault", "{}");
    let file = setup.path("state/history.sqlite");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, vec![b'#'; 10_000]).unwrap();
    let mut host = setup.start();
    host.wait_for_log("is started new");
    wait_for(&host, "/api/v1/uptime", |found| {
        found[0]["windows"][0]["up"] == 1.0
    });
    host.stop();
    let names = fs::read_dir(file.parent().unwrap()).unwrap().flatten();
    let aside = names.filter(|f| f.file_name().to_string_lossy().contains(".damaged-"));
    assert_eq!(aside.count(), 1);

    let newer = Setup::new().platform("shop", "fault", "{}");
    let file = newer.path("state/history.sqlite");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, header_of_version(9)).unwrap();
    let host = newer.start();
    host.wait_for_log("schema version 9");
    host.wait("checks", |m| m.checks("shop", "healthy") >= 3.0);
    host.wait("the gauge", |m| {
        m.sum("conductor_history_writable", &[]) == 0.0
    });
    assert_eq!(host.get("/api/v1/uptime").0, 503);
    assert_eq!(fs::read(&file).unwrap(), header_of_version(9));
}

/// Returns an empty database with this `user_version`.
fn header_of_version(version: u8) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..16].copy_from_slice(b"SQLite format 3\0");
    // Page size, versions, reserved bytes, fractions; then the size in pages and the schema's format and encoding.
    page[16..24].copy_from_slice(&[16, 0, 1, 1, 0, 64, 32, 32]);
    page[27] = 1;
    page[31] = 1;
    page[47] = 4;
    page[59] = 1;
    page[63] = version;
    page[95] = 1;
    // An empty leaf of the schema's table.
    page[100] = 13;
    page[105] = 16;
    page
}

/// The number of hosts that are killed; `CONDUCTOR_HISTORY_KILLS=300` is the long form.
fn kills() -> usize {
    let given = std::env::var("CONDUCTOR_HISTORY_KILLS");
    given.map_or(4, |text| text.parse().expect("a number"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_is_killed_at_any_moment_leaves_a_history_that_opens_and_has_all_but_the_last_batch()
{
    let setup = (0..20).fold(Setup::new(), |setup, n| {
        setup.platform(&format!("flap-{n}"), "fault", "{ status = \"flap\" }")
    });
    let mut host = setup.start();
    let file = host.setup.path("state/history.sqlite");
    let file = file.to_str().unwrap().to_owned();
    let export = || {
        let output = conductor(&["history", "export", "--file", &file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut stored = 0;
    for round in 0..kills() {
        // Whatever a reader has seen is still there after the end.
        wait_for(&host, "/api/v1/incidents?limit=1", |found| {
            !found[0].is_null()
        });
        thread::sleep(Duration::from_millis(
            (u64::try_from(round).unwrap() * 997) % 6_000,
        ));
        let seen = records(&host, &[]);
        host.signal("KILL");
        host.wait_for_exit();
        let left = export();
        assert!(
            left.starts_with(&seen),
            "round {round}: {} of {}",
            left.len(),
            seen.len()
        );
        assert!(left.lines().count() >= stored, "round {round}");
        stored = left.lines().count();
        let setup = std::mem::replace(&mut host.setup, Setup::without_plugins());
        host = setup.start();
        assert!(!host.log().contains("is started new"), "{}", host.log());
    }
}
