//! What a check costs, through the whole path: schedule, guard, breaker, call into a library, metrics.
//!
//! `cargo bench -p conductor-tests` runs hosts of 1, 1 000, 10 000 and 100 000 platforms whose probe does nothing, and
//! prints CPU time per check by `getrusage`, memory per platform, and what a scrape takes. Each figure is the least and
//! the median of several seconds, because machines are noisy; compare figures of one run only.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use conductor::{clock::Clock, config::Config, host::Host, metrics};

fn main() {
    let library = build_plugin();
    let one = std::env::args().nth(1).as_deref() == Some("one");
    if !one {
        println!("{HEADER}");
    }
    for (platforms, interval, seconds) in [
        (1, "1s", 6),
        (10, "5s", 10),
        (1_000, "1s", 6),
        (10_000, "1s", 6),
        (10_000, "5s", 6),
        (100_000, "5s", 10),
        (100_000, "100ms", 6),
    ] {
        // Each in a process of its own, so that none inherits the memory of the one before.
        let me = std::env::current_exe().unwrap();
        if one {
            break;
        }
        let done = Command::new(me)
            .args([
                "one",
                &platforms.to_string(),
                interval,
                &seconds.to_string(),
            ])
            .arg(&library)
            .status()
            .unwrap();
        assert!(done.success());
    }
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, _, platforms, interval, seconds, library] = arguments.as_slice() {
        measure(
            platforms.parse().unwrap(),
            interval,
            seconds.parse().unwrap(),
            Path::new(library),
        );
    }
}

/// Runs a host of so many platforms for so many seconds, and prints a line.
fn measure(platforms: usize, interval: &str, seconds: usize, library: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::copy(library, plugins.join(library.file_name().unwrap())).unwrap();
    let mut text = format!(
        "[host]\nstate_dir = \"state\"\ninterval = \"{interval}\"\nstagger = \"10ms\"\ntimeout = \"{interval}\"\n\
         [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\ninterval = \"5s\"\n"
    );
    for nth in 0..platforms {
        writeln!(text, "[platform.p{nth}]\nplugin = \"fault\"").unwrap();
    }
    let config = Arc::new(Config::parse(text, "bench.toml", folder.path()).unwrap());
    let before = resident();
    let clock = Clock::start();
    let host = Host::start(&config).unwrap();
    while !host.board().is_ready() || checks(&host) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let first = clock.now();
    // One interval for every probe to be created.
    thread::sleep(config.host.interval + Duration::from_millis(100));
    let mut costs = Vec::new();
    let (start, cpu_start, checks_start) = (clock.now(), cpu(), checks(&host));
    for _ in 0..seconds {
        let (cpu_before, checks_before) = (cpu(), checks(&host));
        thread::sleep(Duration::from_secs(1));
        let made = checks(&host) - checks_before;
        costs.push((cpu() - cpu_before).as_secs_f64() * 1e6 / (made.max(1)) as f64);
    }
    let elapsed = (clock.now() - start).as_secs_f64();
    let (spent, made) = (
        (cpu() - cpu_start).as_secs_f64(),
        checks(&host) - checks_start,
    );
    costs.sort_by(f64::total_cmp);
    let memory = resident() - before;
    println!(
        "{platforms:>9}  {interval:>8}  {:>10.0}  {:>9.0}  {:>14.2} µs / {:>8.2} µs  {:>12.2} %  {:>5.0} MB  {:>9.0} B   first check after {} ms",
        platforms as f64 / config.host.interval.as_secs_f64(),
        made as f64 / elapsed,
        costs[0],
        costs[costs.len() / 2],
        spent / elapsed * 100.0,
        memory / 1e6,
        memory / platforms as f64,
        first.as_millis()
    );
    scrape(&host);
    host.stop();
}

/// What one rendering of everything takes.
fn scrape(host: &Host) {
    let clock = Clock::start();
    let mut text = Vec::new();
    let (start, cpu_start) = (clock.now(), cpu());
    metrics::prometheus::render(host.metrics(), &mut text).unwrap();
    let (took, spent) = (clock.now() - start, cpu() - cpu_start);
    let series = text
        .split(|&b| b == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .count();
    println!(
        "{:>9}  scrape: {} series, {} ms, {:.0} ns of CPU a series",
        "",
        series,
        took.as_millis(),
        spent.as_nanos() as f64 / series as f64
    );
}

/// How many checks have ended, of all platforms.
fn checks(host: &Host) -> u64 {
    host.checks_ended()
}

fn cpu() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)
        .try_into()
        .unwrap()
}

/// Resident memory in bytes.
fn resident() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as f64
}

/// The plugin that does nothing, built as it is shipped.
fn build_plugin() -> PathBuf {
    let folder = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "conductor-plugin-fault",
            "--target-dir",
        ])
        .arg(folder.parent().unwrap())
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success());
    folder.join(format!(
        "{}conductor_plugin_fault{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ))
}

const HEADER: &str = "platforms  interval     wanted/s   checks/s   CPU per check, least / median   CPU of a core   memory   per platform";
