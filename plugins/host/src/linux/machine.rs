//! The readings of the machine: measuring is separate from judging.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use procfs_core::{
    CpuPressure, IoPressure, LoadAverage, Meminfo, MemoryPressure, PressureRecord, Uptime,
};

use super::{
    clock::{ClockState, clock_state},
    cpu::{CpuSample, CpuShares},
    reading::{Reading, ReadingError, numbers, parsed},
    temperature::temperatures,
};

/// The folders that the kernel describes the machine in.
#[derive(Clone, Debug)]
pub(crate) struct KernelFolders {
    /// `/proc`
    pub(crate) proc: PathBuf,
    /// `/sys`
    pub(crate) sys: PathBuf,
}

impl Default for KernelFolders {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// Everything that one check reads of the machine.
#[derive(Debug)]
pub(crate) struct MachineReadings {
    /// Load averages of 1, 5 and 15 minutes.
    pub(crate) load: Reading<[f64; 3]>,
    /// Number of CPUs that are online.
    pub(crate) cpus: Reading<usize>,
    pub(crate) cpu: Reading<CpuShares>,
    pub(crate) memory: Reading<MemoryReading>,
    pub(crate) cpu_pressure: Reading<StallShares>,
    pub(crate) memory_pressure: Reading<StallShares>,
    pub(crate) io_pressure: Reading<StallShares>,
    /// Time since the machine was started.
    pub(crate) uptime: Reading<Duration>,
    /// In bits.
    pub(crate) entropy: Reading<f64>,
    /// In degrees Celsius, by sensor.
    pub(crate) temperatures: Reading<BTreeMap<String, f64>>,
    pub(crate) file_handles: Reading<FileHandles>,
    pub(crate) clock: Reading<ClockState>,
}

/// Memory and swap space, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryReading {
    pub(crate) size: u64,
    pub(crate) available: u64,
    pub(crate) swap_size: u64,
    pub(crate) swap_used: u64,
}

/// Percent of the last minute in which tasks waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallShares {
    /// At least one task waited.
    pub(crate) some: f64,
    /// All tasks waited; not known for CPUs.
    pub(crate) full: Option<f64>,
}

/// Open files of the whole machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileHandles {
    pub(crate) open: u64,
    pub(crate) limit: u64,
}

impl MachineReadings {
    /// Reads everything; `earlier` is the CPU sample to measure from, and becomes the new one.
    pub(crate) fn read(folders: &KernelFolders, earlier: &mut Option<CpuSample>) -> Self {
        let at = |name: &str| folders.proc.join(name);
        let sample = CpuSample::read(&folders.proc);
        let no_tick = || ReadingError::Absent("CPU time between two samples".to_owned());
        let (cpus, cpu) = match sample {
            Ok(now) => {
                let shares = earlier.replace(now).and_then(|earlier| now.since(&earlier));
                (Ok(now.cpus), shares.ok_or_else(no_tick))
            }
            Err(error) => (
                Err(ReadingError::unreadable(&at("stat"), &error)),
                Err(error),
            ),
        };
        Self {
            load: parsed(&at("loadavg")).map(|load: LoadAverage| {
                [load.one, load.five, load.fifteen].map(with_two_decimals)
            }),
            cpus,
            cpu,
            memory: memory(folders),
            cpu_pressure: parsed(&at("pressure/cpu"))
                .map(|found: CpuPressure| StallShares::of(&found.some, None)),
            memory_pressure: parsed(&at("pressure/memory"))
                .map(|found: MemoryPressure| StallShares::of(&found.some, Some(&found.full))),
            io_pressure: parsed(&at("pressure/io"))
                .map(|found: IoPressure| StallShares::of(&found.some, Some(&found.full))),
            uptime: parsed(&at("uptime")).map(|found: Uptime| found.uptime_duration()),
            entropy: numbers(&at("sys/kernel/random/entropy_avail")).map(|[bits]| bits),
            temperatures: temperatures(&folders.sys),
            // The second number, unused handles, is 0 since Linux 2.6.
            file_handles: numbers(&at("sys/fs/file-nr"))
                .map(|[open, _, limit]| FileHandles { open, limit }),
            clock: clock_state(),
        }
    }

    /// Returns the hottest sensor and its temperature.
    pub(crate) fn hottest(&self) -> Option<(&str, f64)> {
        let sensors = self.temperatures.iter().flatten();
        sensors
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(name, value)| (name.as_str(), *value))
    }

    /// Returns the errors of what this machine has and does not let this process read.
    pub(crate) fn unreadable(&self) -> Vec<String> {
        fn error<T>(reading: &Reading<T>) -> Option<&ReadingError> {
            reading.as_ref().err()
        }
        let errors = [
            error(&self.load),
            error(&self.cpu),
            error(&self.memory),
            error(&self.cpu_pressure),
            error(&self.memory_pressure),
            error(&self.io_pressure),
            error(&self.uptime),
            error(&self.entropy),
            error(&self.temperatures),
            error(&self.file_handles),
            error(&self.clock),
        ];
        let errors = errors.into_iter().flatten();
        let unreadable = errors.filter(|error| matches!(error, ReadingError::Unreadable { .. }));
        unreadable.map(ToString::to_string).collect()
    }
}

impl MemoryReading {
    pub(crate) fn available_percent(&self) -> f64 {
        percent(self.available, self.size)
    }

    pub(crate) fn swap_used_percent(&self) -> f64 {
        percent(self.swap_used, self.swap_size)
    }
}

impl FileHandles {
    pub(crate) fn percent(&self) -> f64 {
        percent(self.open, self.limit)
    }
}

impl StallShares {
    fn of(some: &PressureRecord, full: Option<&PressureRecord>) -> Self {
        Self {
            some: with_two_decimals(some.avg60),
            full: full.map(|full| with_two_decimals(full.avg60)),
        }
    }
}

fn memory(folders: &KernelFolders) -> Reading<MemoryReading> {
    let path = folders.proc.join("meminfo");
    let found: Meminfo = parsed(&path)?;
    let available = found
        .mem_available
        .ok_or_else(|| ReadingError::unreadable(&path, "no `MemAvailable`"))?;
    Ok(MemoryReading {
        size: found.mem_total,
        available,
        swap_size: found.swap_total,
        swap_used: found.swap_total.saturating_sub(found.swap_free),
    })
}

/// Returns the percentage; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "percent, not accounts")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    100.0 * part as f64 / whole as f64
}

/// The kernel prints two decimals, which the parser's `f32` blurs.
fn with_two_decimals(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}
