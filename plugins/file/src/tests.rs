//! Files that the tests make.

mod bounds;
mod config;
mod content;
mod files;
#[cfg(unix)]
mod odd_files;

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use conductor_plugin_api::{
    Failure, Report,
    testing::{TestHost, assert_legal},
};
use serde_json::Value;

use crate::FileProbe;

const MINUTE: Duration = Duration::from_secs(60);

fn check(config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("here").timeout(MINUTE);
    let mut probe = host.create::<FileProbe>(&config.to_string())?;
    let report = host.check(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}

/// Writes a file that was modified some time ago.
fn write(path: &Path, content: &[u8], age: Duration) {
    fs::write(path, content).unwrap();
    set_age(path, age);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the times of files are those of the calendar"
)]
fn set_age(path: &Path, age: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}
