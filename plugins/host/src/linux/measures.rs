//! The values of the metrics.

use conductor_plugin_api::Report;

use super::{machine::MachineReadings, processes::ProcessGroup};
use crate::metrics::{
    CLOCK_ERROR, CLOCK_SYNCHRONIZED, CPU, CPUS, ENTROPY, FILE_HANDLES, FILE_HANDLES_LIMIT, LOAD,
    MEMORY_AVAILABLE, MEMORY_SIZE, PRESSURE, PROCESS_AGE, PROCESS_MEMORY, PROCESS_THREADS,
    PROCESSES, SWAP_SIZE, SWAP_USED, TEMPERATURE, UPTIME,
};

/// Adds the readings that are known.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement is a float; exact up to 8 PiB"
)]
pub(crate) fn of_machine(mut report: Report, readings: &MachineReadings) -> Report {
    if let Ok(load) = &readings.load {
        for (period, load) in ["1m", "5m", "15m"].into_iter().zip(load) {
            report = report.set(&LOAD, [period], *load);
        }
    }
    if let Ok(cpus) = readings.cpus {
        report = report.set(&CPUS, [], cpus as f64);
    }
    if let Ok(cpu) = &readings.cpu {
        for (mode, percent) in [
            ("busy", cpu.busy()),
            ("user", cpu.user),
            ("system", cpu.system),
            ("iowait", cpu.iowait),
            ("steal", cpu.steal),
        ] {
            report = report.set(&CPU, [mode], percent);
        }
    }
    if let Ok(memory) = &readings.memory {
        report = report
            .set(&MEMORY_SIZE, [], memory.size as f64)
            .set(&MEMORY_AVAILABLE, [], memory.available as f64)
            .set(&SWAP_SIZE, [], memory.swap_size as f64)
            .set(&SWAP_USED, [], memory.swap_used as f64);
    }
    for (resource, stall) in [
        ("cpu", &readings.cpu_pressure),
        ("memory", &readings.memory_pressure),
        ("io", &readings.io_pressure),
    ] {
        let Ok(stall) = stall else { continue };
        report = report.set(&PRESSURE, [resource, "some"], stall.some);
        if let Some(full) = stall.full {
            report = report.set(&PRESSURE, [resource, "all"], full);
        }
    }
    if let Ok(uptime) = readings.uptime {
        report = report.set(&UPTIME, [], uptime.as_secs_f64());
    }
    if let Ok(bits) = readings.entropy {
        report = report.set(&ENTROPY, [], bits);
    }
    for (sensor, value) in readings.temperatures.iter().flatten() {
        report = report.set(&TEMPERATURE, [sensor], *value);
    }
    if let Ok(handles) = readings.file_handles {
        report = report.set(&FILE_HANDLES, [], handles.open as f64).set(
            &FILE_HANDLES_LIMIT,
            [],
            handles.limit as f64,
        );
    }
    if let Ok(clock) = readings.clock {
        report = report
            .set(
                &CLOCK_SYNCHRONIZED,
                [],
                f64::from(u8::from(clock.is_synchronized)),
            )
            .set(&CLOCK_ERROR, [], clock.max_error.as_secs_f64());
    }
    report
}

/// Adds the figures of the selected processes.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement is a float; exact up to 8 PiB"
)]
pub(crate) fn of_processes(mut report: Report, group: &ProcessGroup) -> Report {
    for (state, count) in group.states() {
        report = report.set(&PROCESSES, [state], count as f64);
    }
    report = report.set(&PROCESS_MEMORY, [], group.memory as f64).set(
        &PROCESS_THREADS,
        [],
        group.threads as f64,
    );
    if let Some(ages) = group.ages {
        report = report
            .set(&PROCESS_AGE, ["oldest"], ages.oldest.as_secs_f64())
            .set(&PROCESS_AGE, ["youngest"], ages.youngest.as_secs_f64());
    }
    report
}
