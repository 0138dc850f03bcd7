//! A library that is replaced repeatedly while its platforms are checked: no slot is missed, and nothing leaks.
//!
//! Eight times here; the campaign does it a hundred times, with concurrent faults.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Host, Metrics, PATIENCE, Setup, library, ordered};

#[test]
fn replacing_a_library_over_and_over_misses_no_slot_and_leaks_nothing() {
    let setup = Setup::without_plugins()
        .host("interval = \"100ms\"\nstagger = \"10ms\"\ntimeout = \"100ms\"")
        .platform("a", "fault", "{}")
        .platform("b", "fault", "{}")
        .platform("c", "fault", "{ status = \"degraded\" }")
        .platform("bystander", "disk", "{ path = \"/\" }");
    for name in ["fault", "disk"] {
        setup.install(&library(&format!("conductor_plugin_{name}")));
    }
    let host = setup.start();
    host.wait("checks", |m| m.checks("c", "degraded") >= 5.0);
    // Resources that stay after the first one, such as a thread that reads files, are no leak.
    replace(&host, 1);
    let (before, held) = (host.metrics(), Held::by(&host));
    for nth in 2..=9 {
        replace(&host, nth);
    }
    let taken = host.metrics();
    let after = host.wait("checks by the last one", |m| {
        m.checks("a", "healthy") >= taken.checks("a", "healthy") + 5.0
    });
    for (platform, status) in [("a", "healthy"), ("b", "healthy"), ("c", "degraded")] {
        let since = |count: &dyn Fn(&Metrics) -> f64| count(&after) - count(&before);
        let missed = since(&|m| m.skipped(platform, "missed"));
        let due = since(&|m| m.due(platform));
        let good = since(&|m| m.checks(platform, status));
        // A scrape may fall between a check's due time and its end.
        assert!(
            (due - missed - good).abs() <= 1.0,
            "{platform}: {good} of {due}\n{}",
            host.log()
        );
        // If the machine stalls, platforms of another plugin miss slots as well.
        assert!(
            missed == 0.0 || since(&|m| m.skipped("bystander", "missed")) > 0.0,
            "{platform}: {missed} of {due} slots were missed\n{}",
            host.log()
        );
    }
    // Old generations end later, and so do threads for requests, which HTTP requests would keep alive.
    let start = Instant::now();
    while !Held::by(&host).is_within(&held) {
        assert!(
            start.elapsed() < PATIENCE,
            "{:?} where it was {held:?}",
            Held::by(&host)
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// Replaces the running library with another build, and waits until the host has loaded it.
fn replace(host: &Host, nth: u32) {
    let place = host.setup.plugin_dir().join(file());
    let bytes = ordered(&format!("build {nth}"));
    if nth.is_multiple_of(2) {
        fs::write(place, bytes).unwrap();
    } else {
        let new = host.setup.path("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, place).unwrap();
    }
    host.wait("the new library", |m| {
        let labels = [("plugin", "fault"), ("reason", "replace")];
        m.sum("conductor_worker_restarts_total", &labels) == f64::from(nth)
    });
}

fn file() -> String {
    let library = library("conductor_plugin_fault");
    library.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A host's resources.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    /// Threads for blocking work of the runtime come and go by themselves.
    threads: usize,
    workers: usize,
    private_copies: usize,
    memory_kib: u64,
}

impl Held {
    fn by(host: &Host) -> Self {
        let pid = host.child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.unwrap().split_whitespace().next().unwrap();
            number.parse().unwrap()
        };
        Self {
            descriptors: entries(Path::new(&format!("/proc/{pid}/fd"))).count(),
            threads: entries(Path::new(&format!("/proc/{pid}/task")))
                .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
                .filter(|name| name.trim_end() != "tokio-rt-worker")
                .count(),
            workers: children(pid),
            private_copies: libraries_in(&host.setup.path("state")),
            memory_kib: number("VmRSS:"),
        }
    }

    /// Returns `true` if there is no growth; for memory, if it is within what an allocator may keep: a few times the 10
    /// MB read of a library, where a leak of them would be eight times as much.
    fn is_within(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.workers <= before.workers
            && self.private_copies <= before.private_copies
            && self.memory_kib <= before.memory_kib + (32 << 10)
    }
}

/// Counts the child processes of another, including zombies.
fn children(parent: u32) -> usize {
    let stats = entries(Path::new("/proc")).filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let rest = stat.rsplit_once(')')?.1.to_owned();
        rest.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    stats.filter(|of| *of == parent).count()
}

fn libraries_in(folder: &Path) -> usize {
    let count = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => libraries_in(&path),
        path => usize::from(path.extension().is_some_and(|e| e == "so" || e == "dll")),
    };
    entries(folder).map(count).sum()
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}
