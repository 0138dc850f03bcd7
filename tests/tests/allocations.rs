//! A check allocates nothing once a host has run for a while, neither in the host nor in its worker.
//!
//! This program counts its allocations. It runs hosts in its own process, and is also the program of their workers,
//! which count in a file that they map before the sandbox closes. What is allocated per second or per tick is the same for few platforms and for
//! ten times as many; only what is allocated per check is not.
#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        clippy::unwrap_used,
        clippy::print_stdout,
        clippy::cast_precision_loss,
        reason = "it is its own allocator, which counts, and prints what it counted"
    )
)]

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
#[path = "scenarios/harness.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::disallowed_methods,
    reason = "it is for the scenarios, too"
)]
mod harness;

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        env,
        fmt::Write as _,
        fs::{self, File},
        os::unix::fs::FileExt as _,
        path::PathBuf,
        process::ExitCode,
        ptr::null_mut,
        sync::{
            Arc, OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        thread,
        time::Duration,
    };

    use conductor::host::Host;
    use conductor_config::ConductorConfig;
    use conductor_core::clock::Clock;
    use conductor_engine::log_tail::LogTail;
    use conductor_runtime::{schema::compile_for_trials, worker};
    use conductor_server::ServerSecurity;
    use conductor_types::PlatformState;
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    use super::harness;

    pub(super) fn main() -> ExitCode {
        if env::args().nth(1).as_deref() == Some("worker") {
            count_in_file();
            return worker::child_main(Some(compile_for_trials));
        }
        worker::use_program(env::current_exe().unwrap());
        for isolation in ["process", "in-process"] {
            // A machine that is too busy to end checks in time gets another chance: failures do allocate.
            let per_check = (0..3).map(|_| allocations_per_check(isolation));
            let least = per_check
                .inspect(|[host, worker]| {
                    println!("{isolation}: {host:.3} allocations per check in the host, {worker:.3} in the worker");
                })
                .find(|all| all.iter().all(|one| *one < LIMIT));
            assert!(least.is_some(), "{isolation}: a check allocates");
        }
        ExitCode::SUCCESS
    }

    /// Returns the allocations per check in the host and in the worker.
    fn allocations_per_check(isolation: &str) -> [f64; 2] {
        let [few, many] = [FEW, FEW * 10].map(|platforms| count(isolation, platforms));
        let checks = (many.checks - few.checks) as f64;
        [
            (many.host as f64 - few.host as f64) / checks,
            (many.worker as f64 - few.worker as f64) / checks,
        ]
    }

    /// Numbers of checks, and of allocations during them.
    #[derive(Clone, Copy, Debug)]
    struct Counts {
        checks: u64,
        host: u64,
        worker: u64,
    }

    impl Counts {
        fn now(host: &Host) -> Self {
            let mut count = [0; 8];
            let worker =
                File::open(count_file()).and_then(|file| file.read_exact_at(&mut count, 0));
            Self {
                checks: host.checks_ended(),
                host: IN_MEMORY.load(Ordering::Relaxed),
                worker: worker.map_or(0, |()| u64::from_le_bytes(count)),
            }
        }
    }

    /// Runs a host with this many platforms, and counts for a while once it has settled.
    fn count(isolation: &str, platforms: u64) -> Counts {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let library = harness::library("conductor_plugin_fault");
        fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
        // The history visits each platform every few seconds, which allocates, however many checks there were.
        let mut text = format!(
            "[host]\nplugin_dirs = [\"plugins\"]\nstate_dir = \"state\"\nisolation = \"{isolation}\"\n\
             interval = \"200ms\"\nstagger = \"10ms\"\ntimeout = \"200ms\"\n\
             [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\n\
             [history]\nenabled = false\n"
        );
        for nth in 0..platforms {
            writeln!(text, "[platform.p{nth}]\nplugin = \"fault\"").unwrap();
        }
        let config = ConductorConfig::parse(text, "allocations.toml", folder.path()).unwrap();
        let _ = fs::remove_file(count_file());
        fs::write(count_file(), [0; 8]).unwrap();
        let host = Host::start(
            &Arc::new(config),
            LogTail::default(),
            ServerSecurity::default(),
        )
        .unwrap();
        let wait_for = |checks: u64| {
            let clock = Clock::start();
            while host.checks_ended() < checks {
                assert!(clock.now() < PATIENCE, "waited in vain for {checks} checks");
                thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for(platforms * SETTLED);
        for platform in host.board().platforms() {
            assert_eq!(
                platform.status,
                PlatformState::Healthy,
                "{}",
                platform.message
            );
        }
        let before = Counts::now(&host);
        assert!(before.worker > 0, "the worker does not count");
        wait_for(before.checks + platforms * COUNTED);
        let after = Counts::now(&host);
        host.stop();
        println!(
            "{isolation}, {platforms} platforms: {} checks, {} allocations in the host, {} in the worker",
            after.checks - before.checks,
            after.host - before.host,
            after.worker - before.worker
        );
        Counts {
            checks: after.checks - before.checks,
            host: after.host - before.host,
            worker: after.worker - before.worker,
        }
    }

    /// Counts this process's allocations in the file from now on. A worker closes all descriptors, but keeps mappings.
    fn count_in_file() {
        let file = File::options()
            .read(true)
            .write(true)
            .open(count_file())
            .unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses the place of the mapping, which is never removed and aligned to a page. Nothing but
        // this process's allocator writes to the file.
        let count = unsafe {
            let at = mmap(null_mut(), 8, access, MapFlags::SHARED, &file, 0).unwrap();
            &*at.cast::<AtomicU64>()
        };
        IN_FILE.set(count).unwrap();
    }

    fn count_file() -> PathBuf {
        env::current_exe().unwrap().with_extension("count")
    }

    struct CountingAllocator;

    // SAFETY: each call is passed on to the system's allocator unchanged.
    unsafe impl GlobalAlloc for CountingAllocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            counter().fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller keeps the contract of this function.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { System.dealloc(at, layout) }
        }

        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            counter().fetch_add(1, Ordering::Relaxed);
            // SAFETY: as above.
            unsafe { System.realloc(at, layout, size) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    fn counter() -> &'static AtomicU64 {
        IN_FILE.get().copied().unwrap_or(&IN_MEMORY)
    }

    static IN_MEMORY: AtomicU64 = AtomicU64::new(0);
    static IN_FILE: OnceLock<&AtomicU64> = OnceLock::new();

    /// The smaller number of platforms.
    const FEW: u64 = 20;
    /// Checks of each platform after which its history no longer grows.
    const SETTLED: u64 = 35;
    /// Counted checks of each platform.
    const COUNTED: u64 = 20;
    /// Allocations per check that are noise, since background work differs from run to run.
    const LIMIT: f64 = 0.05;
    const PATIENCE: Duration = Duration::from_secs(120);
}
