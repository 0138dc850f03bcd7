//! The bundled plugins: each is in the list that builds and packages read, and is documented, exemplified and valid.

mod odd_servers;
mod ready_made;
#[cfg(unix)]
mod rotated_token;

use std::{collections::BTreeSet, fs, path::Path, sync::Mutex, thread};

use serde_json::Value;

use crate::{
    harness::{conductor, library, workspace},
    servers::{
        health_server, mail_server, may_ping, name_server, time_server, tls_server, web_server,
    },
    validator::validate,
};

/// Returns the ids in `plugins/bundled.txt`.
pub(crate) fn ids() -> Vec<String> {
    let list = fs::read_to_string(workspace().join("plugins/bundled.txt")).unwrap();
    let rows = list.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| Some(row.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Returns a config with which a plugin checks a server of this process, which is well, or a closed port where only the
/// plugin's own tests have such a server; `None` if it needs none.
fn config(id: &str) -> Option<String> {
    let address = match id {
        "http" | "tcp" => web_server(),
        "dns" => name_server(),
        "tls" => tls_server(),
        "ntp" => time_server(),
        "grpc" => health_server(),
        "mail" => mail_server(),
        "heartbeat" => return Some(r#"{ "unhealthy_after": "26h" }"#.to_owned()),
        "icmp" => return Some(r#"{ "host": "127.0.0.1", "count": 1 }"#.to_owned()),
        _ => {
            return at(id, "127.0.0.1:1")
                .or_else(|| at_socket(id, Path::new("/nonexistent/socket")));
        }
    };
    at(id, &address.to_string())
}

/// Returns a config with which a plugin checks a server at an address; `None` if it checks something else.
pub(crate) fn at(id: &str, address: &str) -> Option<String> {
    Some(match id {
        "container" => format!(r#"{{ url = "http://{address}", containers = ["shop"] }}"#),
        "discord" => format!(r#"{{ url = "http://{address}" }}"#),
        "dns" => format!(r#"{{ servers = ["{address}"], name = "shop.example" }}"#),
        "amqp" | "android" | "grpc" | "mqtt" | "redis" => format!(r#"{{ address = "{address}" }}"#),
        "http" => format!(r#"{{ url = "http://{address}/" }}"#),
        "kubernetes" => format!(r#"{{ url = "http://{address}" }}"#),
        "llm" => format!(r#"{{ url = "http://{address}/v1" }}"#),
        "mail" => {
            format!(r#"{{ protocol = "smtp", address = "{address}", encryption = "none" }}"#)
        }
        "ntp" => format!(r#"{{ server = "{address}" }}"#),
        "mysql" | "postgres" => format!(r#"{{ address = "{address}", user = "conductor" }}"#),
        "prometheus" => format!(r#"{{ url = "http://{address}", query = "up" }}"#),
        "ssh" => format!(r#"{{ address = "{address}" }}"#),
        "tcp" => format!(
            r#"{{ address = "{address}", send = "GET / HTTP/1.0\r\n\r\n", expect = "HTTP/1.1 200" }}"#
        ),
        "tls" => format!(r#"{{ address = "{address}", tls = {{ skip_verify = true }} }}"#),
        _ => return None,
    })
}

/// Returns a config with which a plugin that connects to Unix sockets alone checks a server; `None` for any other.
fn at_socket(id: &str, socket: &Path) -> Option<String> {
    (id == "systemd").then(|| format!(r#"{{ address = "unix:{}" }}"#, socket.display()))
}

#[test]
fn the_bundled_plugins_pass() {
    let mut open = ids();
    open.retain(|id| id != "icmp" || may_ping());
    let open = Mutex::new(open);
    let next = || open.lock().unwrap().pop();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(id) = next() {
                    let file = library(&format!("conductor_plugin_{id}"));
                    let found = validate(&file, config(&id).as_deref(), 4, ALL_BUT_THE_SOAK);
                    // An unknown result is not a pass.
                    let failed = found.with(&["failed", "crashed", "skipped"]);
                    assert_eq!(failed, "", "{id}: {}", found.0);
                }
            });
        }
    });
}

/// Matches the ids of all tests but `stress/soak`, which takes a minute.
pub(crate) const ALL_BUT_THE_SOAK: &str = "^[^s]|^sandbox/|^stress/([^s]|signals)";

#[test]
fn plugins_leak_nothing_in_a_minute_of_checks() {
    thread::scope(|scope| {
        for id in ["discord", "mqtt", "redis"] {
            scope.spawn(move || {
                let file = library(&format!("conductor_plugin_{id}"));
                let found = validate(&file, config(id).as_deref(), 4, "stress/soak");
                assert_eq!(found.with(&["passed"]), "stress/soak", "{id}: {}", found.0);
            });
        }
    });
}

#[test]
fn checks_that_block_all_at_once_have_room_for_the_stacks_of_their_threads() {
    // Each check waits between two samples of the device, on a thread of its own.
    let config = r#"{ path = "/", io_latency = { degraded_above = "1h" } }"#;
    let file = library("conductor_plugin_disk");
    let found = validate(&file, Some(config), 4, "stress/in-flight");
    assert_eq!(found.with(&["passed"]), "stress/in-flight", "{}", found.0);
}

#[test]
fn the_list_has_every_plugin_of_the_workspace() {
    let folders = fs::read_dir(workspace().join("plugins")).unwrap();
    let crates: BTreeSet<_> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|folder| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            manifest.contains("cdylib")
        })
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids().into_iter().collect::<BTreeSet<_>>(), crates);
}

#[test]
fn each_page_has_the_metrics_of_its_plugin_and_no_others() {
    for id in ids() {
        let declared: BTreeSet<_> = declared_metrics(&id).into_iter().collect();
        let page = format!("docs/reference/probes/{id}.md");
        let text = fs::read_to_string(workspace().join(&page)).unwrap();
        let prefix = format!("conductor_{}_", id.replace('-', "_"));
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed: BTreeSet<_> = rows
            .filter_map(|row| row.split(['`', '{']).next())
            .filter(|name| name.starts_with(&prefix))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            listed, declared,
            "{page} (left) and the metrics that the library declares"
        );
    }
}

/// Returns the families that a library declares.
pub(crate) fn declared_metrics(id: &str) -> Vec<String> {
    let output = conductor(&["plugin", "inspect", "--output", "json"])
        .arg(library(&format!("conductor_plugin_{id}")))
        .output()
        .unwrap();
    let inspection: Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = inspection["metrics"].as_array();
    let metrics = metrics.unwrap_or_else(|| panic!("{id} was not described: {inspection}"));
    let text = |metric: &Value, key: &str| metric[key].as_str().unwrap_or_default().to_owned();
    metrics
        .iter()
        .map(|metric| {
            let unit = Some(text(metric, "unit")).filter(|unit| !unit.is_empty());
            let total = (metric["kind"] == "counter").then(|| "total".to_owned());
            let name = [Some(text(metric, "name")), unit, total];
            let name: Vec<_> = name.into_iter().flatten().collect();
            format!("conductor_{}_{}", id.replace('-', "_"), name.join("_"))
        })
        .collect()
}

#[test]
fn the_overview_has_each_plugin() {
    let overview = fs::read_to_string(workspace().join("docs/reference/probes.md")).unwrap();
    for id in ids() {
        let link = format!("[{id}](probes/{id}.md)");
        assert!(
            overview.contains(&link),
            "docs/reference/probes.md has no {link}"
        );
    }
}
