//! Detects that this machine is short of CPU, memory or disk, and decides how far the host should ease off.
//!
//! Measuring is separate from judging. `sample` measures, on separate threads; [`ResourceJudge`] turns measurements into a
//! mode, and is pure: it reads no clock and no machine, so every rule here is tested with made-up numbers.
//!
//! | resource | over the limit | recovered |
//! |---|---|---|
//! | CPU, memory, disk | above 80 % for 3 consecutive samples | below 70 % for 60 s |
//! | memory, critical | above 92 %, immediately | below 82 % for 60 s, to degraded |
//! | memory stalls | above 10 % for 3 consecutive samples | below 5 % for 60 s |
//!
//! A bare "above 80 %" changed 140 to 560 times an hour near the limit; these rules stay below four.
use std::{fmt, time::Duration};

use conductor_core::schedule::ResourceMode;

use self::{
    line::{HysteresisLimit, LimitCrossing},
    pressure::ResourcePressure,
};

mod cgroup;
pub mod culprits;
mod line;
pub mod pressure;
#[cfg(target_os = "linux")]
mod process_tree;
pub mod sample;
#[cfg(test)]
mod tests;
pub mod workers;

/// One measurement of the machine. `None` means unknown, not zero: it neither raises nor lowers the mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineSample {
    /// CPU in use since the previous sample, percent, 0–100.
    pub cpu_percent: Option<f64>,
    /// The number of cores that are 100 %.
    pub cores: Option<f64>,
    /// Memory in use that cannot be reclaimed for free, percent, 0–100.
    pub memory_percent: Option<f64>,
    /// The fullest of the watched file systems that responded.
    pub disk: Option<DiskUsage>,
    /// The watched paths whose file system does not respond, for example a dead network mount.
    pub disks_stuck: Vec<String>,
    /// Time lost to waiting for resources, if the kernel reports it.
    pub pressure: ResourcePressure,
}

/// The usage of one file system.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskUsage {
    /// The place that is full, for people: "/var", or "/var (inodes)".
    pub place: String,
    /// Percent in use, 0–100, as in `df`: of the space for unprivileged users.
    pub percent: f64,
}

/// The limits of measurements, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResourceLimits {
    degraded_above: f64,
    recover_below: f64,
    critical_above: f64,
}

impl ResourceLimits {
    /// Creates limits in percent of CPU, memory and disk; `critical_above` is of memory only.
    ///
    /// # Errors
    /// Unless 0 < `recover_below` < `degraded_above` ≤ `critical_above` ≤ 100.
    pub fn new(
        degraded_above: f64,
        recover_below: f64,
        critical_above: f64,
    ) -> Result<Self, LimitsError> {
        let named = [
            ("recover_below", recover_below),
            ("degraded_above", degraded_above),
            ("critical_above", critical_above),
        ];
        for (name, value) in named {
            if !(value > 0.0 && value <= 100.0) {
                return Err(LimitsError::NotAPercentage { name, value });
            }
        }
        if recover_below >= degraded_above {
            return Err(LimitsError::NoGap {
                recover_below,
                degraded_above,
            });
        }
        if degraded_above > critical_above {
            return Err(LimitsError::CriticalFirst {
                degraded_above,
                critical_above,
            });
        }
        Ok(Self {
            degraded_above,
            recover_below,
            critical_above,
        })
    }
}

impl ResourceLimits {
    /// Returns the percent of CPU above which the machine is short of it.
    #[must_use]
    pub fn degraded_above(self) -> f64 {
        self.degraded_above
    }
}

impl Default for ResourceLimits {
    /// Returns degraded above 80 %, recovered below 70 %, critical above 92 % of memory.
    fn default() -> Self {
        Self {
            degraded_above: 80.0,
            recover_below: 70.0,
            critical_above: 92.0,
        }
    }
}

/// The reason why [`ResourceLimits`] were refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitsError {
    /// A limit that no value, or every value, would exceed.
    NotAPercentage {
        /// The name of the limit.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// Equal limits would change the mode with every sample.
    NoGap {
        /// The limit for recovery.
        recover_below: f64,
        /// The limit for degraded mode.
        degraded_above: f64,
    },
    /// The critical limit is below the degraded one.
    CriticalFirst {
        /// The lower mode's limit.
        degraded_above: f64,
        /// The higher mode's limit.
        critical_above: f64,
    },
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPercentage { name, value } => {
                write!(
                    f,
                    "{name} is {value}; it is a percentage: above 0, at most 100"
                )
            }
            Self::NoGap {
                recover_below,
                degraded_above,
            } => write!(
                f,
                "recover_below ({recover_below}) must be lower than degraded_above ({degraded_above}), by 10 or so; \
                 without a gap the mode changes with every sample"
            ),
            Self::CriticalFirst {
                degraded_above,
                critical_above,
            } => write!(
                f,
                "degraded_above ({degraded_above}) must not be higher than critical_above ({critical_above})"
            ),
        }
    }
}

impl std::error::Error for LimitsError {}

/// The judgement of the samples so far.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceJudgement {
    /// The stretch of the schedule. A full disk does not count: fewer checks free no disk.
    pub stretch: ResourceMode,
    /// The displayed mode, as in `conductor_degraded_mode`: at least degraded while a disk is full.
    pub shown: ResourceMode,
    /// `true` if a watched file system is full.
    pub disk_full: bool,
    /// The change by this sample, for the log; `None` nearly always.
    pub changed: Option<ModeChange>,
}

/// A change of [`ResourceJudgement::stretch`] or [`ResourceJudgement::disk_full`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange {
    /// The previous displayed mode.
    pub from: ResourceMode,
    /// The new displayed mode. The same as before if, for example, CPU runs short while a disk was already full.
    pub to: ResourceMode,
    /// The measurement and the limit it crossed: "memory at 93 % (limit 92 %)".
    pub why: String,
}

/// Turns samples into a mode, with hysteresis.
#[derive(Clone, Debug)]
pub struct ResourceJudge {
    cpu: HysteresisLimit,
    memory: HysteresisLimit,
    critical: HysteresisLimit,
    stalls: HysteresisLimit,
    disk: HysteresisLimit,
}

impl ResourceJudge {
    /// Creates a judge without samples: the mode is normal.
    #[must_use]
    pub fn new(limits: ResourceLimits) -> Self {
        let ResourceLimits {
            degraded_above,
            recover_below,
            critical_above,
        } = limits;
        let usage = HysteresisLimit::new(degraded_above, recover_below, SAMPLES_RUNNING);
        let gap = degraded_above - recover_below;
        Self {
            cpu: usage.clone(),
            memory: usage.clone(),
            critical: HysteresisLimit::new(critical_above, critical_above - gap, 1),
            stalls: HysteresisLimit::new(STALLED_ABOVE, STALLED_RECOVER_BELOW, SAMPLES_RUNNING),
            disk: usage,
        }
    }

    /// Judges a sample measured at `now`.
    pub fn observe(&mut self, now: Duration, sample: &MachineSample) -> ResourceJudgement {
        let before = (self.stretch(), self.shown(), self.disk.over);
        let why = self.cross(now, sample);
        let (stretch, shown, disk_full) = (self.stretch(), self.shown(), self.disk.over);
        ResourceJudgement {
            stretch,
            shown,
            disk_full,
            changed: ((stretch, shown, disk_full) != before).then(|| ModeChange {
                from: before.1,
                to: shown,
                why: why.join("; "),
            }),
        }
    }

    /// Updates each line with its measurement; returns the lines that were crossed.
    fn cross(&mut self, now: Duration, sample: &MachineSample) -> Vec<String> {
        let mut why = Vec::new();
        let cpu = self.cpu.observe(now, sample.cpu_percent);
        why.extend(cpu.map(|crossing| format!("CPU {crossing}")));

        let memory = self.memory.observe(now, sample.memory_percent);
        let critical = self.critical.observe(now, sample.memory_percent);
        if self.critical.over {
            // Critical memory recovers through degraded, however short the stay above 80 % was.
            self.memory.over = true;
        }
        // If both lines are crossed, the critical one includes the other.
        let further = match critical {
            Some(LimitCrossing::Over { .. }) => critical,
            _ => memory.or(critical),
        };
        why.extend(further.map(|crossing| format!("memory {crossing}")));

        let stalled = sample.pressure.memory.map(|stall| stall.full);
        let crossed = self.stalls.observe(now, stalled);
        why.extend(crossed.map(|crossing| format!("time lost to memory stalls {crossing}")));

        // While some disks do not respond, the fullest of the others can show that one is full, but not that none is.
        let trusted = |disk: &&DiskUsage| {
            sample.disks_stuck.is_empty() || disk.percent >= self.disk.recover_below
        };
        let disk = sample.disk.as_ref().filter(trusted);
        let crossed = self.disk.observe(now, disk.map(|disk| disk.percent));
        if let (Some(crossing), Some(disk)) = (crossed, disk) {
            why.push(format!("disk {} {crossing}", disk.place));
        }
        why
    }

    /// Returns `true` if CPU is the only shortage for which checks are stretched.
    #[must_use]
    pub fn is_short_of_cpu_alone(&self) -> bool {
        self.cpu.over && !self.critical.over && !self.memory.over && !self.stalls.over
    }

    fn stretch(&self) -> ResourceMode {
        if self.critical.over {
            ResourceMode::Critical
        } else if self.cpu.over || self.memory.over || self.stalls.over {
            ResourceMode::Degraded
        } else {
            ResourceMode::Normal
        }
    }

    fn shown(&self) -> ResourceMode {
        match self.stretch() {
            ResourceMode::Normal if self.disk.over => ResourceMode::Degraded,
            stretch => stretch,
        }
    }
}

/// One busy second is no shortage: at the default interval three samples take 10 to 15 s.
const SAMPLES_RUNNING: u32 = 3;

/// Percent of time in which no work was done because of memory stalls (PSI `full`, ten-second average).
///
/// One second lost out of every ten can push a check over a timeout of a few seconds, which would then be blamed on the
/// plugin. Well below the 60 % at which systemd-oomd starts to kill.
const STALLED_ABOVE: f64 = 10.0;

/// Half of [`STALLED_ABOVE`]: the average itself takes ten seconds to follow.
const STALLED_RECOVER_BELOW: f64 = 5.0;
