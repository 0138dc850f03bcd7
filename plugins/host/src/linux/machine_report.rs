//! The report on the machine.

use conductor_net::{LimitVerdict, Limits, show_age, show_duration, show_size};
use conductor_plugin_api::{Failure, Report, Status};

use super::{
    machine::{MachineReadings, StallShares},
    measures,
    reading::{Reading, ReadingError},
};
use crate::config::HostConfig;

/// Judges the readings by the limits of the config.
///
/// # Errors
/// If a value that has limits is unknown, and no other one is bad.
pub(crate) fn machine_report(
    readings: &MachineReadings,
    config: &HostConfig,
) -> Result<Report, Failure> {
    let mut verdict = LimitVerdict::default();
    judge_load(&mut verdict, readings, config);
    judge_memory(&mut verdict, readings, config);
    judge_pressure(&mut verdict, readings, config);
    judge_kernel(&mut verdict, readings, config);
    judge_clock(&mut verdict, readings, config);
    let report = verdict.into_report(summary(readings))?;
    Ok(measures::of_machine(report, readings))
}

fn judge_load(verdict: &mut LimitVerdict, readings: &MachineReadings, config: &HostConfig) {
    verdict.judge_reading(
        "load_per_cpu",
        load_per_cpu(readings).map(|load| (load, format!("load {load:.2} per CPU"))),
        config.load_per_cpu.as_ref(),
    );
    verdict.judge_reading(
        "cpu_busy_percent",
        readings.cpu.as_ref().map(|cpu| {
            let busy = cpu.busy();
            (busy, format!("CPU {busy:.1} % busy"))
        }),
        config.cpu_busy_percent.as_ref(),
    );
}

fn judge_memory(verdict: &mut LimitVerdict, readings: &MachineReadings, config: &HostConfig) {
    let memory = readings.memory.as_ref();
    let default_limits = Limits {
        degraded_below: Some(10.0),
        unhealthy_below: Some(5.0),
        ..Limits::default()
    };
    let limits = config.memory_available_percent.unwrap_or(default_limits);
    verdict.judge_reading(
        "memory_available_percent",
        memory.map(|memory| {
            let (percent, size) = (memory.available_percent(), show_size(memory.size));
            (
                percent,
                format!("{percent:.1} % of {size} memory available"),
            )
        }),
        Some(&limits),
    );
    verdict.judge_reading(
        "swap_used_percent",
        memory.map(|memory| {
            let (percent, size) = (memory.swap_used_percent(), show_size(memory.swap_size));
            (percent, format!("{percent:.1} % of {size} swap space used"))
        }),
        config.swap_used_percent.as_ref(),
    );
}

fn judge_pressure(verdict: &mut LimitVerdict, readings: &MachineReadings, config: &HostConfig) {
    let mut judge = |key: &str, limits: Option<&Limits<f64>>, stall: &Reading<StallShares>| {
        let resource = key.trim_end_matches("_pressure_percent");
        let shown = stall.as_ref().map(|stall| {
            let text = format!("{resource} pressure {:.1} %", stall.some);
            (stall.some, text)
        });
        verdict.judge_reading(key, shown, limits);
    };
    judge(
        "cpu_pressure_percent",
        config.cpu_pressure_percent.as_ref(),
        &readings.cpu_pressure,
    );
    judge(
        "memory_pressure_percent",
        config.memory_pressure_percent.as_ref(),
        &readings.memory_pressure,
    );
    judge(
        "io_pressure_percent",
        config.io_pressure_percent.as_ref(),
        &readings.io_pressure,
    );
}

fn judge_kernel(verdict: &mut LimitVerdict, readings: &MachineReadings, config: &HostConfig) {
    verdict.judge_reading(
        "uptime",
        readings.uptime.as_ref().map(|uptime| {
            let shown = format!("up for {}", show_age(*uptime));
            ((*uptime).into(), shown)
        }),
        config.uptime.as_ref(),
    );
    verdict.judge_reading(
        "entropy_bits",
        readings
            .entropy
            .as_ref()
            .map(|bits| (*bits, format!("{bits} bits of entropy"))),
        config.entropy_bits.as_ref(),
    );
    verdict.judge_reading(
        "temperature_celsius",
        readings.temperatures.as_ref().map(|_| {
            let (sensor, value) = readings.hottest().unwrap_or_default();
            (value, format!("sensor {sensor} at {value:.1} °C"))
        }),
        config.temperature_celsius.as_ref(),
    );
    let default_limits = Limits {
        degraded_above: Some(80.0),
        unhealthy_above: Some(90.0),
        ..Limits::default()
    };
    let limits = config.file_handles_percent.unwrap_or(default_limits);
    verdict.judge_reading(
        "file_handles_percent",
        readings.file_handles.as_ref().map(|handles| {
            let percent = handles.percent();
            let shown = format!("{percent:.1} % of {} file handles in use", handles.limit);
            (percent, shown)
        }),
        Some(&limits),
    );
}

fn judge_clock(verdict: &mut LimitVerdict, readings: &MachineReadings, config: &HostConfig) {
    let clock = readings.clock.as_ref();
    verdict.judge_reading(
        "clock_error",
        clock.map(|clock| {
            let error = show_duration(clock.max_error);
            (
                clock.max_error.into(),
                format!("the clock may be {error} off"),
            )
        }),
        config.clock_error.as_ref(),
    );
    match clock {
        _ if !config.clock_synchronized => {}
        Ok(clock) if clock.is_synchronized => {}
        Ok(_) => verdict.add(
            Status::Unhealthy,
            "no time service keeps the clock synchronized (`clock_synchronized` is true)"
                .to_owned(),
        ),
        Err(error) => verdict.cannot_tell(format!("cannot judge `clock_synchronized`: {error}")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of CPUs")]
fn load_per_cpu(readings: &MachineReadings) -> Result<f64, &ReadingError> {
    let [_, load, _] = readings.load.as_ref()?;
    Ok(load / (*readings.cpus.as_ref()?).max(1) as f64)
}

/// For people: "load 0.42 per CPU, CPU 12.3 % busy, 61.2 % of 15.5 GiB memory available, up for 12 d 4 h".
fn summary(readings: &MachineReadings) -> String {
    let mut parts = Vec::new();
    parts.extend(load_per_cpu(readings).map(|load| format!("load {load:.2} per CPU")));
    parts.extend(
        readings
            .cpu
            .as_ref()
            .map(|cpu| format!("CPU {:.1} % busy", cpu.busy())),
    );
    parts.extend(readings.memory.as_ref().map(|memory| {
        let (percent, size) = (memory.available_percent(), show_size(memory.size));
        format!("{percent:.1} % of {size} memory available")
    }));
    parts.extend(
        readings
            .hottest()
            .map(|(_, value)| format!("{value:.0} °C")),
    );
    parts.extend(
        readings
            .uptime
            .as_ref()
            .map(|uptime| format!("up for {}", show_age(*uptime))),
    );
    let unreadable = readings.unreadable();
    if unreadable.is_empty() {
        return parts.join(", ");
    }
    format!("{}; {}", parts.join(", "), unreadable.join("; "))
}
