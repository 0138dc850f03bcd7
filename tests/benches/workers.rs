//! The cost of a worker process: `cargo bench -p conductor-tests --bench workers`.
//!
//! Round trips of a check that does nothing, compared with those over a bare pair of sockets, which is the limit; the
//! start of a worker, compared with that of the smallest program; the memory of a worker. Compare figures of one run
//! only. It takes a minute, and requires root for the memory: other users cannot inspect workers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{
    env,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_library::Vetted;
use conductor_runtime::{
    AdmittedCall, CallFailure, CallOwner, CheckReport, DeliveryOutcome, LoadedPlugin, ProbeId,
    ProbeSpec, in_process::InProcess,
};
use loaded::{catalog, wait_for_children_to_end, worker};
use machine::{children, memory};
use used::Used;

mod built;
mod loaded;
mod machine;
mod used;

fn main() {
    if env::args().nth(1).as_deref() == Some("echo") {
        return echo();
    }
    let folder = built::build();
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(&folder, place.path());
    let vetted = catalog.find("fault").unwrap();
    memory_of_workers(&vetted);
    starts(&vetted);
    // Last, as the library stays in this process.
    round_trips(&vetted);
}

fn memory_of_workers(vetted: &Vetted) {
    println!("memory of workers that have made a check      share (PSS) of each   private");
    for count in [1, 10, 50] {
        let workers: Vec<_> = (0..count).map(|_| worker(vetted)).collect();
        for worker in &workers {
            Calls::into(worker, 1).round();
        }
        let pids = children();
        assert_eq!(pids.len(), count);
        let each = |lines: &[&str]| {
            let sum: f64 = pids.iter().map(|pid| memory(pid, lines)).sum();
            sum / count as f64 / 1e3
        };
        println!(
            "{count:>5}                                            {:>9.0} kB    {:>9.0} kB",
            each(&["Pss"]),
            each(&["Private_Clean", "Private_Dirty"])
        );
        drop(workers);
        wait_for_children_to_end();
    }
}

fn starts(vetted: &Vetted) {
    println!("\nstart of                                        least     median   CPU, median");
    // If the worker gets a control group, the kernel moves it there quickly only if it has just moved another.
    for (rest, when) in [(0, "after another"), (100, "after a tenth of a second")] {
        let clock = Clock::start();
        let (mut workers, mut programs) = (Samples::default(), Samples::default());
        for _ in 0..STARTS {
            thread::sleep(Duration::from_millis(rest));
            let (start, before) = (clock.now(), Used::with(&[]));
            assert!(Command::new("true").status().unwrap().success());
            programs.add(clock.now() - start, Used::with(&[]).since(before).cpu());
            let (start, before) = (clock.now(), Used::with(&[]));
            let worker = worker(vetted);
            let took = clock.now() - start;
            let pid = worker.pid().unwrap().to_string();
            // The child has used all of it for its start.
            workers.add(took, Used::with(&[pid]).since(before).cpu());
            drop(worker);
            wait_for_children_to_end();
        }
        programs.print(&format!("`true`, to its end, {when}"), "without its own");
        workers.print(&format!("a worker, {when}"), "");
        println!(
            "  a worker takes {:.1} times as long as `true`",
            workers.median() / programs.median()
        );
    }
}

fn round_trips(vetted: &Vetted) {
    println!(
        "\na call that does nothing                        least     median   CPU a call   wake-ups a round"
    );
    for batch in [1, 64] {
        println!("{batch} at a time");
        let mut bare = Echo::start(batch);
        let limit = measure("  bare sockets, there and back", batch, || bare.round());
        drop(bare);
        let in_process = InProcess::load(vetted, 4, Clock::start(), None).unwrap();
        let mut calls = Calls::into(&in_process, batch);
        let inside = measure("  in-process", batch, || calls.round());
        let worker = worker(vetted);
        let mut calls = Calls::into(&worker, batch);
        let outside = measure("  in a worker", batch, || calls.round());
        println!(
            "  a worker's takes {:.1} times the CPU of one over bare sockets, {:.1} times that of one in-process",
            outside / limit,
            outside / inside
        );
        drop(worker);
        wait_for_children_to_end();
    }
}

/// Runs rounds for a while, prints a line, and returns the CPU time of a call.
fn measure(what: &str, batch: usize, mut round: impl FnMut()) -> f64 {
    let clock = Clock::start();
    // Until the plugin counts as quick.
    while clock.now() < WARM_UP {
        round();
    }
    let children = children();
    let mut samples = Samples::default();
    let (start, before) = (clock.now(), Used::with(&children));
    while clock.now() - start < LONG {
        let began = clock.now();
        round();
        samples.add(
            (clock.now() - began) / u32::try_from(batch).unwrap(),
            Duration::ZERO,
        );
    }
    let used = Used::with(&children).since(before);
    let rounds = samples.took.len();
    let cpu = used.cpu().as_secs_f64() / (rounds * batch) as f64;
    println!(
        "{what:<44} {:>6.2} µs  {:>6.2} µs   {:>7.2} µs   {:>8.2}",
        samples.least() * 1e6,
        samples.median() * 1e6,
        cpu * 1e6,
        used.sleeps as f64 / rounds as f64
    );
    cpu
}

/// As many concurrent calls as there are probes.
struct Calls<'a> {
    plugin: &'a dyn LoadedPlugin,
    probes: Vec<ProbeId>,
    waiter: Arc<Waiter>,
}

impl<'a> Calls<'a> {
    fn into(plugin: &'a dyn LoadedPlugin, batch: usize) -> Self {
        let spec = ProbeSpec::new("discord", "{}");
        Self {
            plugin,
            probes: (0..batch).map(|_| plugin.open(spec.clone())).collect(),
            waiter: Arc::new(Waiter {
                left: AtomicUsize::new(0),
                thread: thread::current(),
            }),
        }
    }

    /// Starts all of them, and waits until all have ended.
    fn round(&mut self) {
        self.waiter.left.store(self.probes.len(), Ordering::Release);
        let calls = self.probes.iter().map(|&probe| AdmittedCall {
            probe,
            caller: Arc::<Waiter>::clone(&self.waiter),
            sequence: 0,
        });
        self.plugin.start(&mut calls.collect());
        while self.waiter.left.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    }
}

/// Wakes a thread once this many calls are over.
struct Waiter {
    left: AtomicUsize,
    thread: Thread,
}

impl CallOwner for Waiter {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        Some(now + Duration::from_secs(10))
    }

    fn finished(
        &self,
        _: u64,
        _: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        result.unwrap();
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.thread.unpark();
        }
        DeliveryOutcome::Yes
    }

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }
}

/// A process that echoes its input, sized for a batch of calls.
struct Echo {
    child: Child,
    socket: UnixStream,
    bytes: Vec<u8>,
}

impl Echo {
    fn start(batch: usize) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .arg("echo")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            bytes: vec![0; batch * BYTES],
        }
    }

    fn round(&mut self) {
        self.socket.write_all(&self.bytes).unwrap();
        self.socket.read_exact(&mut self.bytes).unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.child.wait().unwrap();
    }
}

/// The other side of an [`Echo`].
fn echo() {
    let stdin = io::stdin();
    let socket = UnixStream::from(rustix::io::dup(&stdin).unwrap());
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = (&socket).read(&mut buffer) {
        if (&socket).write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}

/// Durations of repeated runs, in seconds.
#[derive(Default)]
struct Samples {
    took: Vec<f64>,
    cpu: Vec<f64>,
}

impl Samples {
    fn add(&mut self, took: Duration, cpu: Duration) {
        self.took.push(took.as_secs_f64());
        self.cpu.push(cpu.as_secs_f64());
    }

    fn least(&self) -> f64 {
        self.took.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        median(&self.took)
    }

    fn print(&self, what: &str, remark: &str) {
        println!(
            "{what:<44} {:>6.2} ms  {:>6.2} ms   {:>7.2} ms   {remark}",
            self.least() * 1e3,
            self.median() * 1e3,
            median(&self.cpu) * 1e3
        );
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

const STARTS: usize = 100;
const WARM_UP: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(3);
/// The approximate size of a call's frame and its response's, in bytes.
const BYTES: usize = 16;
