//! Keys of a host platform's `config` table.

use conductor_net::Limits;
use conductor_plugin_api::{
    Failure,
    config::{Duration, Size},
    schemars,
};
use regex::bytes::Regex;
use serde::Deserialize;

/// Checks this machine, or processes that run on it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostConfig {
    /// Load average of five minutes per CPU.
    pub(crate) load_per_cpu: Option<Limits<f64>>,

    /// Percent of the CPU time since the previous check that was not idle.
    pub(crate) cpu_busy_percent: Option<Limits<f64>>,

    /// Percent of memory that programs can still get without swapping (`MemAvailable`); degraded below 10 and unhealthy
    /// below 5 if it is left out.
    pub(crate) memory_available_percent: Option<Limits<f64>>,

    /// Percent of swap space in use; 0 without swap space.
    pub(crate) swap_used_percent: Option<Limits<f64>>,

    /// Percent of the last minute in which a task waited for a CPU.
    pub(crate) cpu_pressure_percent: Option<Limits<f64>>,

    /// Percent of the last minute in which a task waited for memory.
    pub(crate) memory_pressure_percent: Option<Limits<f64>>,

    /// Percent of the last minute in which a task waited for a disk.
    pub(crate) io_pressure_percent: Option<Limits<f64>>,

    /// Time since the machine was started.
    pub(crate) uptime: Option<Limits<Duration>>,

    /// Entropy that the kernel has for random numbers, in bits; always 256 since Linux 5.18.
    pub(crate) entropy_bits: Option<Limits<f64>>,

    /// Temperature of the hottest sensor.
    pub(crate) temperature_celsius: Option<Limits<f64>>,

    /// Percent of the machine's file handles in use; degraded above 80 and unhealthy above 90 if it is left out.
    pub(crate) file_handles_percent: Option<Limits<f64>>,

    /// Require that a time service keeps the clock synchronized: unhealthy while it does not.
    #[serde(default)]
    pub(crate) clock_synchronized: bool,

    /// Largest error of the clock that its time service allows for.
    pub(crate) clock_error: Option<Limits<Duration>>,

    /// Processes to check instead of the machine.
    pub(crate) process: Option<ProcessConfig>,
}

/// Processes, selected by `name`, `command` or both.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessConfig {
    /// Name of the program, as `pgrep -x` takes it.
    #[schemars(length(min = 1), example = &"nginx")]
    pub(crate) name: Option<String>,

    /// Regular expression that the command line matches: the program and its arguments with a space between each.
    #[schemars(length(min = 1, max = 4096), example = &"^/usr/bin/python3 .*worker\\.py")]
    pub(crate) command: Option<String>,

    /// Number of processes, zombies excluded; unhealthy below 1 if it is left out.
    pub(crate) count: Option<Limits<u64>>,

    /// Resident memory of all processes together.
    pub(crate) memory: Option<Limits<Size>>,

    /// Time since a process was started: the lower limits apply to the youngest, the upper ones to the oldest.
    pub(crate) age: Option<Limits<Duration>>,

    /// Number of zombies: processes that have exited, and whose parent has not collected them.
    pub(crate) zombies: Option<Limits<u64>>,

    /// Number of processes that wait for a disk or a file server and cannot be interrupted (state D).
    pub(crate) blocked: Option<Limits<u64>>,

    /// Number of processes that a signal or a debugger has stopped (states T and t).
    pub(crate) stopped: Option<Limits<u64>>,
}

impl HostConfig {
    /// Refuses a config and reports every wrong key, not only the first.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        let mut machine_keys = Vec::new();
        for (key, limits) in self.numbers() {
            if let Some(limits) = limits {
                limits.validate(key, &mut faults);
                machine_keys.push(key);
            }
        }
        for (key, limits) in [("uptime", &self.uptime), ("clock_error", &self.clock_error)] {
            if let Some(limits) = limits {
                limits.validate(key, &mut faults);
                machine_keys.push(key);
            }
        }
        if self.clock_synchronized {
            machine_keys.push("clock_synchronized");
        }
        if let Some(process) = &self.process {
            process.validate(&mut faults);
            faults.extend(machine_keys.first().map(|key| {
                format!(
                    "keys `process` and `{key}`: a platform is about the machine or about processes; move `process` to a \
                     platform of its own"
                )
            }));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::config(faults.join("; ")))
        }
    }

    fn numbers(&self) -> [(&'static str, &Option<Limits<f64>>); 10] {
        [
            ("load_per_cpu", &self.load_per_cpu),
            ("cpu_busy_percent", &self.cpu_busy_percent),
            ("memory_available_percent", &self.memory_available_percent),
            ("swap_used_percent", &self.swap_used_percent),
            ("cpu_pressure_percent", &self.cpu_pressure_percent),
            ("memory_pressure_percent", &self.memory_pressure_percent),
            ("io_pressure_percent", &self.io_pressure_percent),
            ("entropy_bits", &self.entropy_bits),
            ("temperature_celsius", &self.temperature_celsius),
            ("file_handles_percent", &self.file_handles_percent),
        ]
    }
}

impl ProcessConfig {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.name.is_none() && self.command.is_none() {
            faults.push(
                "key `process`: nothing selects the processes; set `name`, `command` or both"
                    .to_owned(),
            );
        }
        if let Some(name) = &self.name
            && (name.is_empty() || name.contains(['/', '\0']))
        {
            faults.push(format!(
                "key `process.name`: {name:?} is not the name of a program; write it without its folder, such as \"nginx\""
            ));
        }
        if let Err(error) = self.pattern() {
            faults.push(format!(
                "key `process.command`: not a regular expression; correct it: {error}"
            ));
        }
        if let Some(limits) = &self.memory {
            limits.validate("process.memory", faults);
        }
        if let Some(limits) = &self.age {
            limits.validate("process.age", faults);
        }
        for (key, limits) in [
            ("process.count", &self.count),
            ("process.zombies", &self.zombies),
            ("process.blocked", &self.blocked),
            ("process.stopped", &self.stopped),
        ] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
    }

    /// Returns the regular expression of `command`.
    pub(crate) fn pattern(&self) -> Result<Option<Regex>, regex::Error> {
        self.command.as_deref().map(Regex::new).transpose()
    }
}
