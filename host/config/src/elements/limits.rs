//! `limits = { … }` in `[host]` and `[plugin.<id>]`: resource limits of a plugin in its own process.

use conductor_plugin_api::config::Size;
use conductor_sandbox::WorkerLimits;
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TableValidator;

/// `limits`, as it is written: any subset of its keys.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits", description = "Resource limits of a worker.")]
pub(crate) struct RawLimits {
    /// Memory, including the full stack of each thread, from 32MiB to 1TiB. Without it: 512MiB, or what `call_threads`
    /// needs if that is more.
    #[schemars(with = "Size")]
    #[serde(default)]
    memory: Option<Size>,
    /// Number of open files and sockets. Without it: 1024, or four for each of `call_threads` if that is more.
    #[schemars(with = "u32", range(min = 32, max = 1_000_000))]
    #[serde(default)]
    open_files: Option<u32>,
    /// Number of threads and processes. Without it: 256, or `call_threads` plus 64 if that is more. Exact where the
    /// host has a cgroup with the pids controller.
    #[schemars(with = "u32", range(min = 8, max = 4_000_000))]
    #[serde(default)]
    processes: Option<u32>,
    /// CPU time in percent of one core. Without it: 100. Needs a cgroup with the cpu controller.
    #[schemars(with = "u32", range(min = 1, max = 100_000))]
    #[serde(default)]
    cpu_percent: Option<u32>,
    /// Leave a core file after a crash. Without it: false.
    #[schemars(with = "bool")]
    #[serde(default)]
    core_dumps: Option<bool>,
}

impl RawLimits {
    /// Fills in missing values from `default`, raised to fit `call_threads`: each thread has a stack, counts as a
    /// process in the kernel, and opens files.
    pub(super) fn resolve(
        self,
        default: &WorkerLimits,
        call_threads: Option<u32>,
        check: &mut TableValidator<'_>,
    ) -> WorkerLimits {
        let default = call_threads.map_or(*default, |threads| with_room(default, threads));
        let memory = self.memory.map(Size::bytes);
        if let Some(memory) = memory {
            check_memory(memory, check);
        }
        WorkerLimits {
            memory: memory.unwrap_or(default.memory),
            open_files: self.open_files.unwrap_or(default.open_files),
            processes: self.processes.unwrap_or(default.processes),
            cpu_percent: self.cpu_percent.unwrap_or(default.cpu_percent),
            core_dumps: self.core_dumps.unwrap_or(default.core_dumps),
        }
    }
}

/// Returns the limits, raised to fit this number of threads.
fn with_room(limits: &WorkerLimits, threads: u32) -> WorkerLimits {
    let stacks = u64::from(threads) * STACK;
    WorkerLimits {
        memory: limits.memory.max(stacks + BESIDE_STACKS),
        open_files: limits.open_files.max(threads * FILES),
        processes: limits.processes.max(threads + BESIDE_CALLS),
        ..*limits
    }
}

fn check_memory(memory: u64, check: &mut TableValidator<'_>) {
    if !(LEAST_MEMORY..=MOST_MEMORY).contains(&memory) {
        let name = check.name("memory");
        let [memory, least, most] = [memory, LEAST_MEMORY, MOST_MEMORY].map(Size::from_bytes);
        let message = format!("{name} is {memory}, out of range");
        check.refuse("memory", message, format!("choose from {least} to {most}"));
    }
}

/// With less a worker does not start reliably.
const LEAST_MEMORY: u64 = 32 << 20;
const MOST_MEMORY: u64 = 1 << 40;

/// The default stack of a Rust thread, and the memory a worker needs without threads.
const STACK: u64 = 2 << 20;
const BESIDE_STACKS: u64 = 256 << 20;

/// A connection, a socket for name lookups, and some to spare.
const FILES: u32 = 4;

/// The worker's own threads, the plugin's own, and the programs it runs.
const BESIDE_CALLS: u32 = 64;
