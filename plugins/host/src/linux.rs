//! The check on Linux, from `/proc` and `/sys`.

mod clock;
mod cpu;
mod machine;
mod machine_report;
mod measures;
mod process_report;
mod processes;
mod reading;
mod temperature;

use std::{thread, time::Duration};

use conductor_net::TimeLimit;
use conductor_plugin_api::{Context, Failure, Report};

pub(crate) use self::machine::KernelFolders;
use self::{
    cpu::CpuSample,
    machine::MachineReadings,
    machine_report::machine_report,
    process_report::process_report,
    processes::{ProcessSelector, scan},
};
use crate::config::HostConfig;

/// Checks the machine or processes of it.
pub(crate) struct HostCheck {
    config: HostConfig,
    /// The processes to check instead of the machine.
    selector: Option<ProcessSelector>,
    pub(crate) folders: KernelFolders,
    /// The CPU times at the previous check.
    previous: Option<CpuSample>,
}

impl HostCheck {
    pub(crate) fn new(config: HostConfig) -> Result<Self, Failure> {
        let selector = match &config.process {
            None => None,
            Some(process) => Some(ProcessSelector {
                name: process.name.clone(),
                command: process.pattern()?,
            }),
        };
        Ok(Self {
            config,
            selector,
            folders: KernelFolders::default(),
            previous: None,
        })
    }

    pub(crate) fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let limit = TimeLimit::of(&remaining);
        if let (Some(selector), Some(process)) = (&self.selector, &self.config.process) {
            let group = scan(&self.folders.proc, selector, &limit)?;
            return process_report(&group, process);
        }
        self.wait_for_cpu_time(&limit);
        let readings = MachineReadings::read(&self.folders, &mut self.previous);
        machine_report(&readings, &self.config)
    }

    /// Makes sure that some CPU time has passed since the previous sample; at the first check, takes one and waits.
    fn wait_for_cpu_time(&mut self, limit: &TimeLimit<'_>) {
        let Ok(now) = CpuSample::read(&self.folders.proc) else {
            // The reading that follows names the error.
            return;
        };
        let is_enough = |previous: &CpuSample| now.is_well_after(previous);
        if !self.previous.as_ref().is_some_and(is_enough) {
            self.previous = Some(now);
            thread::sleep((limit.left() / 4).min(FIRST_PERIOD));
        }
    }
}

/// Time that the use of the CPUs is measured for at the first check.
const FIRST_PERIOD: Duration = Duration::from_millis(500);
