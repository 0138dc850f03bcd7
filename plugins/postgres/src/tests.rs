//! Servers on loopback that are healthy, sick, slow, refusing and lying; and PostgreSQL itself, with a standby.

mod config;
mod lying;
#[cfg(unix)]
mod pgbouncer;
#[cfg(unix)]
mod real;
#[cfg(unix)]
mod replication;
mod scripted;
#[cfg(unix)]
mod server;

use std::time::Duration;

use conductor_plugin_api::{
    Failure, FailureKind, Report, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

fn try_check(config: &Value, timeout: Duration) -> Result<Report, Failure> {
    let host = TestHost::new("shop").timeout(timeout);
    let mut probe = host.create_async::<PostgresProbe>(&config.to_string())?;
    let report = host.check_async(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}

/// Makes a check that is given a minute.
#[track_caller]
fn check(config: &Value) -> Report {
    try_check(config, Duration::from_secs(60)).unwrap()
}

/// Returns `base` with the keys of `more`.
fn with(base: &Value, more: Value) -> Value {
    let mut config = base.clone();
    let Value::Object(more) = more else {
        panic!("a table is expected");
    };
    for (key, value) in more {
        config[key] = value;
    }
    config
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}
