//! The config keys of the bundled plugins, from the schemas in their libraries; and their measurements.

use std::{collections::BTreeSet, fs};

use conductor_runtime::config_keys::ConfigKeys;
use serde_json::Value;

use super::{cell, code, config::default};
use crate::harness::{Setup, conductor, library, workspace};

/// Ids of the bundled plugins.
pub(super) const BUNDLED: [&str; 4] = ["http", "tcp", "disk", "fault"];

/// Returns a plugin's description and the table of its keys.
pub(super) fn keys(id: &str) -> String {
    let output = conductor(&["plugin", "schema", "--output", "json"])
        .arg(library(&format!("conductor_plugin_{id}")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found = ConfigKeys::of(&serde_json::from_slice(&output.stdout).unwrap());
    assert!(!found.cut, "the schema of {id} has more keys than are read");
    let mut text = format!("{}\n\n", cell(&found.description));
    text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in &found.keys {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            code(&key.key),
            cell(&key.kind),
            default(key),
            cell(&key.meaning)
        ));
    }
    text
}

#[test]
fn the_pages_list_every_measurement_of_the_bundled_plugins() {
    let host = Setup::new()
        .platform("http", "http", r#"{ url = "${self.url}/-/healthy" }"#)
        .platform(
            "tcp",
            "tcp",
            r#"{ address = "${self.address}", send = "GET / HTTP/1.0\r\n\r\n", expect = "HTTP" }"#,
        )
        .platform("disk", "disk", r#"{ path = "/" }"#)
        .start();
    for id in ["http", "tcp", "disk"] {
        host.wait("a report with measurements", |m| {
            m.sum("conductor_measurement", &[("platform", id)]) > 0.0
        });
        let (status, platform) = host.get(&format!("/api/v1/platforms/{id}"));
        assert_eq!(status, 200, "{platform}");
        let platform: Value = serde_json::from_str(&platform).unwrap();
        let reported = platform["measurements"].as_object().unwrap();
        assert!(reported.len() > 2, "{platform}");
        let page = format!("docs/reference/probes/{id}.md");
        let text = fs::read_to_string(workspace().join(&page)).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed: BTreeSet<_> = rows.filter_map(|row| row.split('`').next()).collect();
        for name in reported.keys() {
            assert!(
                listed.contains(name.as_str()),
                "{page} does not list {name}"
            );
        }
    }
}
