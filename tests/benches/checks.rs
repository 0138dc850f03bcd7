//! The cost of a check on the whole path: schedule, guard, breaker, call into a library, metrics.
//!
//! `cargo bench -p conductor-tests --bench checks` runs hosts of 1 to 100 000 platforms whose probe does nothing, with
//! the plugin in a worker and in the host's process. It prints CPU time per check, memory, and the cost of a scrape,
//! each for the host and its worker together. Each figure is the least and the median of several seconds, because
//! machines are noisy; compare figures of one run only. It takes three minutes, and requires root: other users cannot
//! inspect workers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{env, fmt::Write as _, path::Path, process::Command, sync::Arc, thread, time::Duration};

use conductor::host::Host;
use conductor_config::ConductorConfig;
use conductor_core::clock::Clock;
use conductor_engine::{
    log_tail::LogTail,
    metrics::{self, prometheus::ExpositionFormat},
};
use conductor_runtime::worker;
use conductor_server::ServerSecurity;
use machine::{Used, children, memory};

mod built;
mod machine;

fn main() {
    let arguments: Vec<_> = env::args().collect();
    if let [_, one, isolation, platforms, interval, seconds, folder] = arguments.as_slice()
        && one == "one"
    {
        let platforms = platforms.parse().unwrap();
        let seconds = seconds.parse().unwrap();
        measure(isolation, platforms, interval, seconds, Path::new(folder));
        return;
    }
    let folder = built::build();
    println!("{HEADER}");
    for (platforms, interval, seconds) in [
        (1, "1s", 6),
        (10, "5s", 10),
        (1_000, "1s", 6),
        (10_000, "1s", 6),
        (10_000, "5s", 10),
        (100_000, "5s", 10),
        (100_000, "500ms", 6),
    ] {
        for isolation in ["process", "in-process"] {
            // Each in a separate process, so that none inherits the memory of the previous one.
            let done = Command::new(env::current_exe().unwrap())
                .args(["one", isolation, &platforms.to_string(), interval])
                .arg(seconds.to_string())
                .arg(&folder)
                .status()
                .unwrap();
            assert!(done.success());
        }
    }
}

/// Runs a host with this many platforms for this many seconds, and prints a line.
fn measure(isolation: &str, platforms: usize, interval: &str, seconds: usize, built: &Path) {
    worker::use_program(built::program(built));
    let folder = tempfile::tempdir().unwrap();
    built::put_plugin(built, &folder.path().join("plugins"));
    let mut text = format!(
        "[host]\nstate_dir = \"state\"\nisolation = \"{isolation}\"\n\
         interval = \"{interval}\"\nstagger = \"10ms\"\ntimeout = \"{interval}\"\n\
         [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\ninterval = \"5s\"\n"
    );
    for nth in 0..platforms {
        writeln!(text, "[platform.p{nth}]\nplugin = \"fault\"").unwrap();
    }
    let config = Arc::new(ConductorConfig::parse(text, "bench.toml", folder.path()).unwrap());
    let before = memory("self", &["Pss"]);
    let clock = Clock::start();
    let host = Host::start(&config, LogTail::default(), ServerSecurity::default()).unwrap();
    while !host.board().is_ready() || host.checks_ended() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let first = clock.now();
    // One interval to create every probe.
    thread::sleep(config.host.interval + Duration::from_millis(100));
    let workers = children();
    assert_eq!(workers.len(), usize::from(isolation == "process"));
    let mut costs = Vec::new();
    let start = (clock.now(), Used::with(&workers), host.checks_ended());
    for _ in 0..seconds {
        let (used, checks) = (Used::with(&workers), host.checks_ended());
        thread::sleep(Duration::from_secs(1));
        let made = host.checks_ended() - checks;
        let cpu = Used::with(&workers).since(used).cpu();
        costs.push(cpu.as_secs_f64() * 1e6 / (made.max(1)) as f64);
    }
    let elapsed = (clock.now() - start.0).as_secs_f64();
    let used = Used::with(&workers).since(start.1);
    let made = (host.checks_ended() - start.2) as f64;
    if workers != children() {
        println!(
            "           the worker was replaced meanwhile: the next line lacks what the new one used"
        );
    }
    costs.sort_by(f64::total_cmp);
    let own = memory("self", &["Pss"]) - before;
    let all = workers
        .iter()
        .filter(|pid| Path::new("/proc").join(pid).exists())
        .fold(own, |sum, pid| sum + memory(pid, &["Pss"]));
    println!(
        "{platforms:>9}  {interval:>8}  {isolation:<10}  {:>8.0}  {:>8.0}  {:>9.2} µs / {:>7.2} µs  {:>8.2} %  {:>8.2} %  {:>8.3}  {:>4.0} MB  {:>8.0} B  {:>6} ms",
        platforms as f64 / config.host.interval.as_secs_f64(),
        made / elapsed,
        costs[0],
        costs[costs.len() / 2],
        used.cpu().as_secs_f64() / elapsed * 100.0,
        used.children.as_secs_f64() / elapsed * 100.0,
        used.sleeps as f64 / made,
        all / 1e6,
        all / platforms as f64,
        first.as_millis()
    );
    if isolation == "in-process" {
        // It is the same with a worker.
        scrape(&host);
    }
    host.stop();
}

/// Prints the cost of one rendering of all metrics, the most memory that it held, and what it left behind.
fn scrape(host: &Host) {
    let clock = Clock::start();
    let (mut series, mut bytes, mut chunks) = (0, 0, 0);
    let before_memory = memory("self", &["Private_Dirty"]);
    let mut most_memory = before_memory;
    let (start, before) = (clock.now(), Used::with(&[]));
    metrics::prometheus::render(host.metrics(), ExpositionFormat::Text, &mut |text| {
        bytes += text.len();
        Ok(())
    })
    .unwrap();
    let (took, spent) = (clock.now() - start, Used::with(&[]).since(before).own);
    // Once more, to count and to look at the memory, both of which take longer than the rendering.
    metrics::prometheus::render(host.metrics(), ExpositionFormat::Text, &mut |text| {
        let lines = text.split(|&b| b == b'\n');
        series += lines
            .filter(|line| !line.is_empty() && line[0] != b'#')
            .count();
        if chunks % 256 == 0 {
            most_memory = most_memory.max(memory("self", &["Private_Dirty"]));
        }
        chunks += 1;
        Ok(())
    })
    .unwrap();
    let left_memory = memory("self", &["Private_Dirty"]);
    println!(
        "{:>9}  scrape: {series} series, {:.1} MB, {} ms, {:.0} ns of CPU a series, {:+.1} MB of memory while it lasts, {:+.1} MB after",
        "",
        bytes as f64 / 1e6,
        took.as_millis(),
        spent.as_nanos() as f64 / series as f64,
        (most_memory - before_memory) / 1e6,
        (left_memory - before_memory) / 1e6,
    );
}

const HEADER: &str = "\
                                                         CPU per check              CPU of a core                   memory               first
platforms  interval  isolation     wanted/s  checks/s    least   /    median       all   in worker    wake-ups    all   a platform   check after
                                                                                                     a check";
