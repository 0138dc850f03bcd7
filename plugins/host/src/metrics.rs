//! The metrics of the probe.

use conductor_plugin_api::Metric;

pub(crate) const LOAD: Metric<1> =
    Metric::gauge("load", "Load average of the machine.").labels(["period"]);
pub(crate) const CPUS: Metric = Metric::gauge("cpus", "Number of CPUs that are online.");
pub(crate) const CPU: Metric<1> = Metric::gauge(
    "cpu",
    "Share of the CPU time since the previous check, of all CPUs together.",
)
.unit("percent")
.labels(["mode"]);
pub(crate) const MEMORY_SIZE: Metric =
    Metric::gauge("memory_size", "Memory of the machine.").unit("bytes");
pub(crate) const MEMORY_AVAILABLE: Metric = Metric::gauge(
    "memory_available",
    "Memory that programs can still get without swapping.",
)
.unit("bytes");
pub(crate) const SWAP_SIZE: Metric =
    Metric::gauge("swap_size", "Swap space of the machine.").unit("bytes");
pub(crate) const SWAP_USED: Metric = Metric::gauge("swap_used", "Swap space in use.").unit("bytes");
pub(crate) const PRESSURE: Metric<2> = Metric::gauge(
    "pressure",
    "Share of the last minute in which some or all tasks waited for a resource.",
)
.unit("percent")
.labels(["resource", "tasks"]);
pub(crate) const UPTIME: Metric =
    Metric::gauge("uptime", "Time since the machine was started.").unit("seconds");
pub(crate) const ENTROPY: Metric = Metric::gauge(
    "entropy",
    "Entropy that the kernel has for random numbers, in bits.",
);
pub(crate) const TEMPERATURE: Metric<1> =
    Metric::gauge("temperature", "Temperature of each sensor.")
        .unit("celsius")
        .labels(["sensor"]);
pub(crate) const FILE_HANDLES: Metric =
    Metric::gauge("file_handles", "Open files of the whole machine.");
pub(crate) const FILE_HANDLES_LIMIT: Metric = Metric::gauge(
    "file_handles_limit",
    "Number of files that the machine can have open.",
);
pub(crate) const CLOCK_SYNCHRONIZED: Metric = Metric::gauge(
    "clock_synchronized",
    "1 if a time service keeps the clock synchronized, else 0.",
);
pub(crate) const CLOCK_ERROR: Metric = Metric::gauge(
    "clock_error",
    "Largest error of the clock that its time service allows for.",
)
.unit("seconds");
pub(crate) const PROCESSES: Metric<1> =
    Metric::gauge("processes", "Number of selected processes by state.").labels(["state"]);
pub(crate) const PROCESS_MEMORY: Metric = Metric::gauge(
    "process_memory",
    "Resident memory of all selected processes together.",
)
.unit("bytes");
pub(crate) const PROCESS_THREADS: Metric = Metric::gauge(
    "process_threads",
    "Number of threads of all selected processes together.",
);
pub(crate) const PROCESS_AGE: Metric<1> = Metric::gauge(
    "process_age",
    "Time since the oldest and the youngest of the selected processes were started.",
)
.unit("seconds")
.labels(["process"]);
