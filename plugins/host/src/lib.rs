//! The `host` probe: load, CPU, memory, pressure, temperature and clock of this machine, or processes that run on it.
//!
//! ```toml
//! [platform.machine]
//! plugin = "host"
//! config = { load_per_cpu = { degraded_above = 2, unhealthy_above = 5 }, temperature_celsius = { degraded_above = 80 } }
//!
//! [platform.web-server]
//! plugin = "host"
//! config = { process = { name = "nginx", memory = { degraded_above = "2GiB" }, age = { degraded_below = "5m" } } }
//! ```
//!
//! `docs/reference/probes/host.md` lists the keys and metrics.
//!
//! # Unknown values
//! A value that the machine does not have, such as a temperature in a virtual machine, has no metric. If it has limits, the
//! check is a *failure*, unless another value is bad. A value that exists and cannot be read is named in the message.
//!
//! # Unhealthy or failure
//! *Unhealthy* and *degraded* mean that a value is outside its limits. A *failure* is a check that could not tell: a value
//! with limits is unknown, the processes of other users are hidden, or there are too many to read in time.
//!
//! Linux only: elsewhere no probe is created, with that message.

#![cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "no probe is created there, so nothing is read")
)]

mod config;
#[cfg(target_os = "linux")]
mod linux;
mod metrics;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};

use crate::config::HostConfig;

export_plugin! {
    id: "host",
    probe: HostProbe,
    name: "Host",
    metrics: [
        metrics::LOAD,
        metrics::CPUS,
        metrics::CPU,
        metrics::MEMORY_SIZE,
        metrics::MEMORY_AVAILABLE,
        metrics::SWAP_SIZE,
        metrics::SWAP_USED,
        metrics::PRESSURE,
        metrics::UPTIME,
        metrics::ENTROPY,
        metrics::TEMPERATURE,
        metrics::FILE_HANDLES,
        metrics::FILE_HANDLES_LIMIT,
        metrics::CLOCK_SYNCHRONIZED,
        metrics::CLOCK_ERROR,
        metrics::PROCESSES,
        metrics::PROCESS_MEMORY,
        metrics::PROCESS_THREADS,
        metrics::PROCESS_AGE,
    ],
}

struct HostProbe {
    #[cfg(target_os = "linux")]
    inner: linux::HostCheck,
}

impl Probe for HostProbe {
    type Config = HostConfig;

    #[cfg(target_os = "linux")]
    fn create(config: HostConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.validate()?;
        let inner = linux::HostCheck::new(config)?;
        Ok(Self { inner })
    }

    #[cfg(not(target_os = "linux"))]
    fn create(_: HostConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Err(Failure::config(
            "the host probe can read nothing on this OS: it needs `/proc` and `/sys` of Linux; remove the platform",
        ))
    }

    #[cfg(target_os = "linux")]
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        self.inner.check(context)
    }

    #[cfg(not(target_os = "linux"))]
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        Err(Failure::new("the host probe needs Linux"))
    }
}
