//! A probe that misbehaves on request: plugin id `fault`.
//!
//! With an empty config it does nothing and is healthy. Each fault is a platform's config, such as
//! `{ check = { fault = "panic", after = 2 } }`: two checks go well, every later one panics.
//!
//! | key | meaning |
//! |---|---|
//! | `create`, `check`, `drop` | the fault in that call, see below |
//! | `status` | the report of a good check: `healthy` (default), `degraded`, `unhealthy`, or `flap` for healthy and unhealthy alternately |
//! | `count_file` | a file that gets a line per call, with the call's name |
//!
//! | key of a call | meaning |
//! |---|---|
//! | `fault` | the fault, see below |
//! | `after` | number of good calls at first (default 0) |
//! | `times` | number of failing calls after those (default: all) |
//! | `permille` | share of those calls that fail, per thousand, drawn from `seed` and the current tenth of a second (default: all) |
//! | `seed` | see `permille` (default 0) |
//! | `millis` | duration of `sleep` (default 100); lifetime of children and daemons (default 10 minutes) |
//! | `until_file` | `hang` ends when this file exists (default: never) |
//! | `limit` | amount at which a greedy fault stops, to protect the machine if the host has no limits |
//! | `signal` | the signal of `kill` (default 9) |
//! | `bytes` | the bytes that `wire-bytes` sends |
//!
//! | faults | |
//! |---|---|
//! | failing | `error`, `panic`, `panic-payload` (whose drop panics too), `log` |
//! | dying | `panic-abort`, `abort`, `exit-0`, `exit-7`, `segfault`, `illegal-instruction`, `stack-overflow`, `double-free`, `kill` |
//! | not returning | `sleep`, `hang`, `spin`, `deadlock` |
//! | greed | `memory` (`limit` in bytes), `files`, `threads`, `children` (`sleep` processes), `daemons` (the same in their own sessions, orphaned), `forks` (orphans that never exec); nothing is released |
//! | noise | `stdout`, `stderr` (`limit` in bytes), `stdin` (reads until its end) |
//! | vandalism | `close-fds` (0–10), `chdir`, `environment`, `locale`, `signal-handlers`, `umask`, `block-signals` |
//! | untrue reports | `long-message` (10 MB), `many-measurements` (a million), `nan`, `infinity`, `invalid-utf8`, `control-characters`; in create and drop, failures with such messages |
//! | the worker's socket | `wire-garbage`, `wire-half-frame`, `wire-torn-frame` (half a frame and the end), `wire-huge-frame` (announces 4 GB), `wire-closed`, `wire-bytes` |
//!
//! On Windows, `kill`, the processes left behind, `close-fds`, `umask`, the two of signals and those of the worker's
//! socket are refused in the config.
//!
//! A copy of the library can also misbehave at load time, see `src/load.rs`.

mod death;
mod greed;
mod halt;
mod injection;
mod lies;
mod load;
mod noise;
mod vandalism;
#[cfg(unix)]
mod wire;

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, schemars};
use injection::InjectionConfig;
use schemars::JsonSchema;
use serde::Deserialize;

/// Injects faults on request, to test how a host handles them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(example = ExampleConfig {})]
struct FaultConfig {
    /// Fault in the creation of the probe.
    create: Option<InjectionConfig>,
    /// Fault in a check.
    check: Option<InjectionConfig>,
    /// Fault in the drop of the probe.
    drop: Option<InjectionConfig>,
    /// Status that checks without a fault report; `flap` alternates between healthy and unhealthy.
    status: ReportedStatus,
    /// File to which each call appends a line with its name.
    count_file: Option<PathBuf>,
}

/// A config without faults, as an example.
#[derive(serde::Serialize)]
struct ExampleConfig {}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ReportedStatus {
    #[default]
    Healthy,
    Degraded,
    Unhealthy,
    Flap,
}

struct FaultProbe {
    config: FaultConfig,
    checks: u64,
}

impl Probe for FaultProbe {
    type Config = FaultConfig;

    fn create(config: FaultConfig, _: &Context<'_>) -> Result<Self, Failure> {
        for injection in [&config.create, &config.check, &config.drop]
            .into_iter()
            .flatten()
        {
            injection.require_os()?;
        }
        count(config.count_file.as_deref(), "create")?;
        #[cfg(any(target_os = "linux", windows))]
        load::leak();
        if let Some(injection) = &config.create {
            injection.inject_without_report()?;
        }
        Ok(Self { config, checks: 0 })
    }

    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        let nth = self.checks;
        self.checks += 1;
        count(self.config.count_file.as_deref(), "check")?;
        #[cfg(any(target_os = "linux", windows))]
        load::use_a_deep_stack();
        #[cfg(any(target_os = "linux", windows))]
        if load::check_fails(nth) {
            return Err(Failure::new("injected error of the library"));
        }
        if let Some(injection) = &self.config.check
            && let Some(untrue) = injection.inject(nth)?
        {
            return Ok(untrue);
        }
        Ok(match self.config.status {
            ReportedStatus::Degraded => Report::degraded("status as configured"),
            ReportedStatus::Unhealthy => Report::unhealthy("status as configured"),
            ReportedStatus::Flap if nth % 2 == 1 => Report::unhealthy("status as configured"),
            ReportedStatus::Healthy | ReportedStatus::Flap => {
                Report::healthy("status as configured")
            }
        })
    }
}

impl Drop for FaultProbe {
    fn drop(&mut self) {
        let counted = count(self.config.count_file.as_deref(), "drop");
        if let Some(injection) = &self.config.drop {
            counted
                .and_then(|()| injection.inject_without_report())
                .unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}

fn count(file: Option<&Path>, call: &str) -> Result<(), Failure> {
    if let Some(file) = file {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        file.write_all(format!("{call}\n").as_bytes())?;
    }
    Ok(())
}

export_plugin! { id: "fault", probe: FaultProbe, name: "Fault injection" }
