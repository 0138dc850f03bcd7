//! Commands of this machine: their results, their output, and their end.

mod data;
mod ending;
mod running;

use std::time::Duration;

use conductor_plugin_api::{
    Failure, Report,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use crate::ExecProbe;

const MINUTE: Duration = Duration::from_secs(60);

/// Runs a command in a shell, with other keys of the config.
fn shell(script: &str, keys: Value) -> Result<Report, Failure> {
    let mut config = json!({ "command": ["/bin/sh", "-c", script] });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    check(&TestHost::new("here").timeout(MINUTE), &config)
}

fn check(host: &TestHost, config: &Value) -> Result<Report, Failure> {
    let mut probe = host.create::<ExecProbe>(&config.to_string())?;
    let report = host.check(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}
