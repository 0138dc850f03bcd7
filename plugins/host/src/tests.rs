//! This machine, folders that describe other machines, and processes that the tests start.

mod config;
mod machine;
mod processes;

use conductor_plugin_api::{
    Failure, Report,
    testing::{TestHost, assert_legal},
};
use serde_json::Value;

use crate::HostProbe;

fn check(config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("here").timeout(std::time::Duration::from_secs(60));
    let mut probe = host.create::<HostProbe>(&config.to_string())?;
    let report = host.check(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}
