//! A probe that misbehaves on request: plugin id `fault`.
//!
//! With an empty config it does nothing and is healthy. Each fault is a platform's config, such as
//! `{ check = { fault = "panic", after = 2 } }`: two checks go well, every later one panics.
//!
//! | key | meaning |
//! |---|---|
//! | `create`, `check`, `drop` | what to do in that call, see below |
//! | `status` | what a check that goes well reports: `healthy` (default), `degraded`, `unhealthy`, or `flap` for healthy and unhealthy in turn |
//! | `count_file` | a file that gets a line per call, with the call's name |
//!
//! | key of a call | meaning |
//! |---|---|
//! | `fault` | `error`, `panic`, `panic-payload` (whose drop panics too), `sleep`, `hang`, `log` |
//! | `after` | so many calls go well first (default 0) |
//! | `times` | so many calls go wrong then (default: all) |
//! | `millis` | how long `sleep` takes (default 100) |
//! | `until_file` | `hang` ends when this file exists (default: never) |

use std::{
    fs::OpenOptions,
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, schemars, tracing};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    create: Option<Misdeed>,
    check: Option<Misdeed>,
    drop: Option<Misdeed>,
    status: Status,
    count_file: Option<PathBuf>,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Misdeed {
    fault: Fault,
    #[serde(default)]
    after: u64,
    times: Option<u64>,
    #[serde(default = "default_millis")]
    millis: u64,
    until_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    Error,
    Panic,
    PanicPayload,
    Sleep,
    Hang,
    Log,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Healthy,
    Degraded,
    Unhealthy,
    Flap,
}

struct Faulty {
    config: Config,
    checks: u64,
}

impl Probe for Faulty {
    type Config = Config;

    fn create(config: Config, _: &Context<'_>) -> Result<Self, Failure> {
        count(config.count_file.as_deref(), "create")?;
        if let Some(misdeed) = &config.create {
            misdeed.commit(0)?;
        }
        Ok(Self { config, checks: 0 })
    }

    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        let nth = self.checks;
        self.checks += 1;
        count(self.config.count_file.as_deref(), "check")?;
        if let Some(misdeed) = &self.config.check {
            misdeed.commit(nth)?;
        }
        Ok(match self.config.status {
            Status::Degraded => Report::degraded("as it was told"),
            Status::Unhealthy => Report::unhealthy("as it was told"),
            Status::Flap if nth % 2 == 1 => Report::unhealthy("as it was told"),
            Status::Healthy | Status::Flap => Report::healthy("as it was told"),
        })
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let counted = count(self.config.count_file.as_deref(), "drop");
        if let Some(misdeed) = &self.config.drop {
            counted
                .and_then(|()| misdeed.commit(0))
                .unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}

impl Misdeed {
    /// Does what it is about to the `nth` call, counted from 0.
    fn commit(&self, nth: u64) -> Result<(), Failure> {
        let end = self
            .times
            .map_or(u64::MAX, |times| self.after.saturating_add(times));
        if !(self.after..end).contains(&nth) {
            return Ok(());
        }
        match self.fault {
            Fault::Error => return Err(Failure::new("failed as it was told")),
            Fault::Panic => panic!("panicked as it was told"),
            Fault::PanicPayload => panic::panic_any(Bomb),
            Fault::Sleep => thread::sleep(Duration::from_millis(self.millis)),
            Fault::Hang => {
                while !self.until_file.as_ref().is_some_and(|file| file.exists()) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Fault::Log => tracing::warn!(nth, "logged as it was told"),
        }
        Ok(())
    }
}

/// A payload whose own drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panicked too");
    }
}

fn count(file: Option<&Path>, call: &str) -> Result<(), Failure> {
    if let Some(file) = file {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        file.write_all(format!("{call}\n").as_bytes())?;
    }
    Ok(())
}

fn default_millis() -> u64 {
    100
}

export_plugin! { id: "fault", probe: Faulty, name: "Misbehaves on request" }
