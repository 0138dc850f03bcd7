//! The `systemd` probe: checks units of systemd over D-Bus: failed units, states, restarts, age, and timers that are overdue.
//!
//! ```toml
//! [platform.system]
//! plugin = "systemd"
//! config = { ignore = ["dirmngr@*.service"] }
//!
//! [platform.shop]
//! plugin = "systemd"
//!
//! [platform.shop.config]
//! units = ["nginx.service", "shop-*.service"]
//! restarts = { degraded_above = 0, unhealthy_above = 3 }
//! timers = ["backup.timer"]
//! last_trigger = { unhealthy_above = "26h" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | `"unix:/run/dbus/system_bus_socket"` | socket of the bus |
//! | `units` | none | units that are checked: names with their type, or wildcards, which select loaded units |
//! | `states` | `["active"]` | states in which they are healthy |
//! | `failed` | above 0 | limits of the number of failed units of the whole system; none by default if there are `units` or `timers` |
//! | `ignore` | none | units that `failed` and wildcards leave out |
//! | `restarts`, `restarts_within` | none, `"1h"` | limits of the automatic restarts of each service within this time |
//! | `uptime` | none | limits of the time since each unit became active |
//! | `memory` | none | limits of the memory that each unit uses |
//! | `timers` | none | timers that are checked: names, or wildcards, which select those that are switched on |
//! | `overdue` | above 5 min and 1 h | limits of the time by which a timer should have elapsed and has not |
//! | `last_trigger` | none | limits of the time since a timer last elapsed |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Without any key the platform is the whole system: unhealthy if a unit has failed.
//!
//! The probe calls `ListUnitsByPatterns`, `ListUnitsByNames` and `Get` of `org.freedesktop.systemd1`, which every user may
//! call by systemd's own policy. It needs systemd 230 or newer; `NRestarts` came with version 235.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_systemd_system_state` | `state` | 1 for the state of the system, such as `running` or `degraded` |
//! | `conductor_systemd_failed_units` | | failed units of the system without those of `ignore`; absent without limits of `failed` |
//! | `conductor_systemd_units` | `state` | checked units by state |
//! | `conductor_systemd_active` | `unit` | 1 for an active unit, otherwise 0; as the following ones, of the first 32 units by name |
//! | `conductor_systemd_active_since_timestamp_seconds` | `unit` | Unix time at which it became active |
//! | `conductor_systemd_restarts_total` | `unit` | automatic restarts of a service since it was started by hand or by the boot |
//! | `conductor_systemd_memory_bytes` | `unit` | memory that it uses, with its page cache |
//! | `conductor_systemd_cpu_seconds_total` | `unit` | CPU time that it has used |
//! | `conductor_systemd_timer_last_trigger_timestamp_seconds` | `unit` | Unix time at which a timer last elapsed; of the first 16 timers |
//! | `conductor_systemd_timer_next_elapse_timestamp_seconds` | `unit` | Unix time at which it elapses next |
//! | `conductor_systemd_phase_seconds` | `phase` | `connect`, `auth`, `list` and `properties` |
//! | `conductor_systemd_duration_seconds` | | the whole check |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: a unit or timer that is missing or not as expected, a bus that is not
//! there, does not respond in time or does not speak D-Bus, a bus without systemd.
//!
//! A *failure* is a check that could not tell: a socket that the host's user may not open, a bus that denies it a call, more
//! units than the probe checks, memory that systemd does not count, a systemd that is too old.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod bus;
mod config;
mod inspection;
mod message;
mod metrics;
mod restarts;
mod rules;
mod selection;
mod systemd;
#[cfg(test)]
mod tests;
mod timers;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, NameResolver, PhaseClock, SocketTarget, TimeLimit,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, Status, export_plugin, tracing};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    bus::BusConnection,
    config::SystemdConfig,
    inspection::Inspection,
    metrics::*,
    restarts::RestartHistory,
    rules::{UnitRules, counted},
    selection::UnitSelection,
    systemd::Systemd,
    timers::PresentTime,
};

export_plugin! {
    id: "systemd",
    async_probe: SystemdProbe,
    name: "systemd units",
    needs: ["unix-sockets"],
    metrics: [
        SYSTEM_STATE, FAILED_UNITS, UNITS, ACTIVE, ACTIVE_SINCE, RESTARTS, MEMORY, CPU, LAST_TRIGGER, NEXT_ELAPSE, PHASE,
        DURATION,
    ],
}

struct SystemdProbe {
    target: SocketTarget,
    selection: UnitSelection,
    rules: UnitRules,
    durations: DurationRules,
    /// `None` before the first check, which reads the state that an earlier probe has stored.
    history: Option<RestartHistory>,
}

impl AsyncProbe for SystemdProbe {
    type Config = SystemdConfig;

    fn create(config: SystemdConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let now = present()?;
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let inspection = self.inspect(&mut clock, now).await;
        let took = clock.limit.elapsed();
        let report = match inspection {
            Ok(inspection) => {
                self.remember(&inspection, now, context);
                self.judge(&inspection, now, &clock)?
            }
            Err(error) => error.into_report()?,
        };
        let report = clock.record(report, &PHASE);
        Ok(report.set(&DURATION, [], took.as_secs_f64()))
    }
}

impl SystemdProbe {
    fn new(
        target: SocketTarget,
        selection: UnitSelection,
        rules: UnitRules,
        durations: DurationRules,
    ) -> Self {
        Self {
            target,
            selection,
            rules,
            durations,
            history: None,
        }
    }

    async fn inspect(
        &self,
        clock: &mut PhaseClock<'_>,
        now: PresentTime,
    ) -> Result<Inspection, CheckError> {
        // The address is a socket, which needs no resolver.
        let stream = self
            .target
            .connect(&mut NameResolver::default(), clock)
            .await;
        let stream = stream.map_err(|error| match error {
            CheckError::Platform(message) => CheckError::Platform(format!(
                "{message}; the probe needs a machine with systemd and the service dbus"
            )),
            host => host,
        })?;
        let bus = BusConnection::open(stream, clock).await?;
        let mut systemd = Systemd::new(bus);
        Inspection::make(&mut systemd, &self.selection, &self.rules, now).await
    }

    /// Counts the restarts since the last check.
    fn remember(&mut self, inspection: &Inspection, now: PresentTime, context: &Context<'_>) {
        if self.rules.restarts.is_none() {
            return;
        }
        let known = self.history.take();
        let before = known.unwrap_or_else(|| RestartHistory::read(&context.state()));
        let mut history = before.clone();
        let units = inspection.units.iter();
        let counters = units.filter_map(|state| Some((state.unit.name.as_str(), state.restarts?)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole seconds of Unix time"
        )]
        let seconds = now.unix as u64;
        history.update(counters, seconds, self.rules.restarts_within.get());
        if history != before
            && let Err(failure) = context.store_state(&history.write())
        {
            tracing::debug!(%failure, "the restarts are forgotten with this process");
        }
        self.history = Some(history);
    }

    fn judge(
        &self,
        inspection: &Inspection,
        now: PresentTime,
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let rules = &self.rules;
        let mut verdict = LimitVerdict::default();
        rules.judge_system(&inspection.system, &mut verdict);
        if let Some(failed) = &inspection.failed {
            rules.judge_failed(failed, &inspection.failed_results, &mut verdict);
        }
        for pattern in &inspection.unmatched {
            verdict.add(
                Status::Unhealthy,
                format!("no unit matches {pattern}, expected at least one"),
            );
        }
        let none = RestartHistory::default();
        let history = self.history.as_ref().unwrap_or(&none);
        for state in &inspection.units {
            rules.judge_unit(state, history, now, &mut verdict);
        }
        for timer in &inspection.timers {
            rules.judge_timer(timer, now, &mut verdict);
        }
        verdict.judge_durations(&self.durations, clock.limit.elapsed(), |phase| {
            clock.took(phase)
        });
        let report = verdict.into_report(inspection.summary())?;
        let report = record_system(report, &inspection.system);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let report = match &inspection.failed {
            Some(failed) => report.set(&FAILED_UNITS, [], failed.len() as f64),
            None => report,
        };
        let report = record_units(report, &inspection.units);
        Ok(record_timers(report, &inspection.timers))
    }
}

impl Inspection {
    /// Returns the message of a healthy report.
    fn summary(&self) -> String {
        let mut texts = vec![format!("systemd {} is {}", self.version, self.system)];
        if let Some(failed) = &self.failed {
            texts.push(counted(failed.len(), "failed unit"));
        }
        if !self.units.is_empty() {
            let active = self.units.iter().filter(|state| state.unit.is_active());
            texts.push(format!(
                "{}, of which {} active{}",
                counted(self.units.len(), "unit"),
                match active.count() {
                    1 => "1 is".to_owned(),
                    active => format!("{active} are"),
                },
                series(self.units.len(), MAX_MEASURED_UNITS)
            ));
        }
        if !self.timers.is_empty() {
            texts.push(format!(
                "{} on time{}",
                counted(self.timers.len(), "timer"),
                series(self.timers.len(), MAX_MEASURED_TIMERS)
            ));
        }
        texts.join(", ")
    }
}

/// Says if only the first units have series.
fn series(number: usize, most: usize) -> String {
    match number > most {
        true => format!(" (metrics of the first {most})"),
        false => String::new(),
    }
}

/// Reads both clocks.
fn present() -> Result<PresentTime, Failure> {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the times of systemd"
    )]
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unix = unix.map_err(|_| Failure::new("this machine's clock is before 1970; set it"))?;
    let monotonic = clock_gettime(ClockId::Monotonic);
    #[expect(clippy::cast_precision_loss, reason = "seconds since the boot")]
    let monotonic = monotonic.tv_sec as f64 + monotonic.tv_nsec as f64 / 1e9;
    Ok(PresentTime {
        unix: unix.as_secs_f64(),
        monotonic,
    })
}
