//! The `exec` probe: runs a command, such as a plugin of Nagios, and reports its exit code, output and performance data.
//!
//! ```toml
//! [platform.root-disk]
//! plugin = "exec"
//! config = { command = ["/usr/lib/nagios/plugins/check_disk", "-w", "20%", "-c", "10%", "-p", "/"] }
//!
//! [platform.backup]
//! plugin = "exec"
//! config = { command = ["/usr/local/bin/backup-is-fresh"], format = "exit-code" }
//! ```
//!
//! `docs/reference/probes/exec.md` lists the keys and metrics.
//!
//! # Processes
//! The command is started without a shell, with a fixed environment, `/dev/null` as its input, and a pipe each for
//! standard output and standard error (`command`). At the deadline, when the check is cancelled, and after a check
//! that left something behind, every process that the command started is killed (`process_tree`).
//!
//! # Unhealthy or failure
//! A Nagios plugin that exits with 3 (UNKNOWN) could not tell, and so is a *failure*; so are other exit codes, an end by
//! a signal, a command that cannot be started, and one that does not end in time.
//!
//! Unix only: elsewhere no probe is created, with that message.

#![cfg_attr(
    not(unix),
    expect(dead_code, reason = "no probe is created there, so nothing is run")
)]

#[cfg(unix)]
mod command;
mod config;
mod nagios;
mod outcome;
mod performance;
#[cfg(unix)]
mod process_tree;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};

use crate::config::ExecConfig;

export_plugin! {
    id: "exec",
    probe: ExecProbe,
    name: "Exec",
    needs: ["network", "unix-sockets", "run /usr", "run /bin/sh"],
    metrics: [
        outcome::EXIT_CODE,
        performance::VALUE,
        performance::VALUE_LIMIT,
        performance::TIME,
        performance::TIME_LIMIT,
        performance::SIZE,
        performance::SIZE_LIMIT,
        performance::SHARE,
        performance::SHARE_LIMIT,
        performance::COUNTER,
    ],
}

struct ExecProbe {
    config: ExecConfig,
}

impl Probe for ExecProbe {
    type Config = ExecConfig;

    fn create(config: ExecConfig, _: &Context<'_>) -> Result<Self, Failure> {
        if cfg!(not(unix)) {
            return Err(Failure::config(
                "the exec probe cannot run commands on this OS: it needs Linux, macOS or another Unix; remove the platform",
            ));
        }
        config.validate()?;
        Ok(Self { config })
    }

    #[cfg(unix)]
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let is_cancelled = || context.is_cancelled();
        let finished = command::run(&self.config, &remaining, &is_cancelled)?;
        outcome::judge(&finished, &self.config)
    }

    #[cfg(not(unix))]
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        Err(Failure::new("the exec probe needs a Unix"))
    }
}

#[cfg(unix)]
impl Drop for ExecProbe {
    fn drop(&mut self) {
        process_tree::end_leftovers();
    }
}
