//! The config keys of the bundled plugins, from the schemas in their libraries; and their measurements.

use std::fs;

use conductor_runtime::config_keys::ConfigKeys;
use serde_json::Value;

use super::{cell, code, config::default};
use crate::harness::{Setup, conductor, library, workspace};

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
fn the_page_of_disk_lists_every_measurement() {
    let host = Setup::new()
        .platform("disk", "disk", r#"{ path = "/" }"#)
        .start();
    // The disk of this machine may be full.
    host.wait("a report", |m| {
        let checks = |status| m.checks("disk", status);
        checks("healthy") + checks("degraded") + checks("unhealthy") > 0.0
    });
    let (status, platform) = host.get("/api/v1/platforms/disk");
    assert_eq!(status, 200, "{platform}");
    let platform: Value = serde_json::from_str(&platform).unwrap();
    let reported = platform["measurements"].as_object().unwrap();
    assert!(reported.len() > 2, "{platform}");
    let text = fs::read_to_string(workspace().join("docs/reference/probes/disk.md")).unwrap();
    for name in reported.keys() {
        assert!(text.contains(&format!("| `{name}`")), "{name}");
    }
}
