//! A plugin in a worker: the real program, the real library, and all kinds of process deaths.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use conductor_core::clock::Clock;
use conductor_library::{Catalog, TrustPolicy, Vetted};
use conductor_runtime::{
    AdmittedCall, CallFailure, CallOwner, CheckReport, DeliveryOutcome, LoadError,
    LoadedPlugin as _, ProbeId, ProbeSpec, UnexpectedExit,
    worker::{Worker, WorkerSettings, use_program},
};
use conductor_types::ErrorType;
use tempfile::TempDir;

use crate::harness::{PATIENCE, artifacts, conductor, library, ordered};

/// A worker that has loaded the plugin `fault`.
struct Setup {
    worker: Worker,
    ended: mpsc::Receiver<UnexpectedExit>,
    folder: TempDir,
    _catalog: Catalog,
}

impl Setup {
    fn new(call_threads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, vetted) = vetted(folder.path());
        let (tell, ended) = mpsc::channel();
        let end = move |end| tell.send(end).unwrap();
        let worker = load(&vetted, call_threads, end).unwrap();
        Self {
            worker,
            ended,
            folder,
            _catalog: catalog,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, config: &str) -> ProbeId {
        self.worker.open(ProbeSpec::new("discord", config))
    }

    fn start(&self, probes: &[ProbeId], watcher: &Arc<Watcher>) {
        let calls = probes
            .iter()
            .zip(0..)
            .map(|(&probe, sequence)| AdmittedCall {
                probe,
                caller: Arc::<Watcher>::clone(watcher),
                sequence,
            });
        self.worker.start(&mut calls.collect());
    }

    fn signal(&self, name: &str) {
        let pid = self.worker.pid().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    fn end(&self) -> UnexpectedExit {
        self.ended.recv_timeout(PATIENCE).unwrap()
    }
}

/// Records the outcomes of calls.
#[derive(Default)]
struct Watcher {
    started: Mutex<usize>,
    finished: Mutex<Vec<(u64, Result<CheckReport, CallFailure>)>>,
    given_up: Mutex<Vec<u64>>,
}

impl Watcher {
    #[track_caller]
    fn wait_for_starts(&self, calls: usize) {
        wait("starts", || *self.started.lock().unwrap() >= calls);
    }

    /// Returns the ends of this many calls, by their number.
    #[track_caller]
    fn ends(&self, calls: usize) -> Vec<Result<CheckReport, CallFailure>> {
        wait("ends", || self.finished.lock().unwrap().len() >= calls);
        let mut ends = self.finished.lock().unwrap().clone();
        ends.sort_by_key(|(sequence, _)| *sequence);
        let numbers: Vec<_> = ends.iter().map(|(sequence, _)| *sequence).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "twice: {numbers:?}");
        assert_eq!(numbers.len(), calls);
        ends.into_iter().map(|(_, end)| end).collect()
    }
}

impl CallOwner for Watcher {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        *self.started.lock().unwrap() += 1;
        Some(now + PATIENCE)
    }

    fn finished(
        &self,
        sequence: u64,
        _: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let result = result.cloned();
        self.finished.lock().unwrap().push((sequence, result));
        match self.given_up.lock().unwrap().contains(&sequence) {
            true => DeliveryOutcome::No,
            false => DeliveryOutcome::Yes,
        }
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        self.given_up.lock().unwrap().contains(&sequence)
    }
}

fn vetted(folder: &Path) -> (Catalog, Arc<Vetted>) {
    use_program(artifacts().join("conductor"));
    let plugins = folder.join("plugins");
    fs::create_dir(&plugins).unwrap();
    let fault = library("conductor_plugin_fault");
    fs::copy(&fault, plugins.join(fault.file_name().unwrap())).unwrap();
    let catalog = Catalog::open(
        &[plugins],
        false,
        TrustPolicy::none(),
        Some(&folder.join("state")),
    )
    .unwrap();
    let vetted = catalog.find("fault").unwrap();
    (catalog, vetted)
}

fn load(
    vetted: &Vetted,
    call_threads: usize,
    ended: impl FnOnce(UnexpectedExit) + Send + 'static,
) -> Result<Worker, LoadError> {
    let settings = WorkerSettings {
        call_threads,
        policy: conductor_sandbox::SandboxPolicy::default(),
        trials: false,
        load_timeout: PATIENCE,
    };
    Worker::load(vetted, &settings, Clock::start(), ended)
}

#[track_caller]
fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns `true` if a process is alive; a zombie is not.
fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

#[test]
fn a_library_is_loaded_described_and_called_in_another_process() {
    let setup = Setup::new(4);
    let description = setup.worker.description();
    assert_eq!(description.id, "fault");
    assert_eq!(description.config_schema.value()["type"], "object");
    let pid = setup.worker.pid().unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(
        maps.contains("/state/libraries/"),
        "the private copy: {maps}"
    );
    let probes = [
        setup.open(r#"{"status": "unhealthy"}"#),
        setup.open(r#"{"check": {"fault": "panic"}}"#),
        setup.open(r#"{"status": 7}"#),
    ];
    let watcher = Arc::default();
    setup.start(&probes, &watcher);
    let [report, panic, config] = watcher.ends(3).try_into().unwrap();
    assert_eq!(report.unwrap().message, "status as configured");
    let panic = panic.unwrap_err();
    assert_eq!(panic.kind, ErrorType::Panic);
    assert!(panic.message.contains("injection.rs:"), "{panic}");
    assert_eq!(config.unwrap_err().kind, ErrorType::Config);
}

#[test]
fn a_worker_gets_nothing_of_the_hosts_but_what_it_needs() {
    let setup = Setup::new(1);
    let pid = setup.worker.pid().unwrap();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("CARGO"), "{environment}");
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    open.sort();
    let kinds: Vec<_> = open
        .iter()
        .map(|path| path.to_str().unwrap().split(':').next().unwrap())
        .collect();
    assert_eq!(kinds, ["/dev/null", "pipe", "pipe", "socket"]);
    let socket = fs::read_link(format!("/proc/{pid}/fd/3")).unwrap();
    assert!(
        socket.to_str().unwrap().starts_with("socket:"),
        "{socket:?}"
    );
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "fault\n");
}

#[test]
fn many_calls_are_under_way_at_once_and_each_is_answered_once() {
    let setup = Setup::new(4);
    let probes: Vec<_> = (0..2000).map(|_| setup.open("{}")).collect();
    for _ in 0..3 {
        let watcher = Arc::default();
        setup.start(&probes, &watcher);
        assert!(watcher.ends(2000).iter().all(Result::is_ok));
    }
}

#[test]
fn a_killed_worker_ends_its_calls_once_and_is_named() {
    let setup = Setup::new(3);
    let hang = r#"{"check": {"fault": "hang"}}"#;
    let probes: Vec<_> = (0..5).map(|_| setup.open(hang)).collect();
    let watcher = Arc::default();
    setup.start(&probes, &watcher);
    assert_eq!(*watcher.started.lock().unwrap(), 3);
    setup.signal("SEGV");
    for end in watcher.ends(3) {
        let failure = end.unwrap_err();
        assert_eq!(failure.kind, ErrorType::Crash);
        assert!(
            failure
                .message
                .starts_with("its worker was killed by signal 11 (SIGSEGV)"),
            "{failure}"
        );
    }
    let ended = setup.end();
    assert_eq!(ended.kind, ErrorType::Crash);
    assert_eq!(ended.message, "was killed by signal 11 (SIGSEGV)");
    assert!(!Path::new(&format!("/proc/{}", setup.worker.pid().unwrap())).exists());
    let late = Arc::<Watcher>::default();
    setup.start(&probes[..1], &late);
    // Calls that never started are left to their caller.
    assert_eq!(*watcher.started.lock().unwrap(), 3);
    assert_eq!(*late.started.lock().unwrap(), 0);
    drop(setup.worker);
    assert!(setup.ended.recv().is_err(), "said twice that it ended");
}

#[test]
fn a_stopped_worker_holds_up_nobody_and_goes_on_when_it_may() {
    let setup = Setup::new(4);
    let probe = setup.open("{}");
    let first = Arc::default();
    setup.start(&[probe], &first);
    assert!(first.ends(1)[0].is_ok());
    setup.signal("STOP");
    // More than the socket buffers.
    let config = format!(
        "{{\"count_file\": \"/dev/null{}\"}}",
        "/../null".repeat(2000)
    );
    for _ in 0..100 {
        setup.open(&config);
    }
    let watcher = Arc::default();
    setup.start(&[probe], &watcher);
    assert_eq!(*watcher.started.lock().unwrap(), 1);
    assert!(watcher.finished.lock().unwrap().is_empty());
    setup.signal("CONT");
    assert!(watcher.ends(1)[0].is_ok());
}

#[test]
fn a_worker_that_is_asked_to_end_is_gone() {
    let setup = Setup::new(4);
    let probes = [setup.open("{}"), setup.open("{}")];
    let watcher = Arc::default();
    setup.start(&probes, &watcher);
    watcher.ends(2);
    let pid = setup.worker.pid().unwrap();
    setup.worker.end();
    wait("the worker's end", || !lives(pid));
    assert!(setup.ended.recv().is_err(), "it had been asked to");
}

#[test]
fn a_stopped_worker_that_is_dropped_is_killed() {
    let setup = Setup::new(1);
    let pid = setup.worker.pid().unwrap();
    setup.signal("STOP");
    drop(setup.worker);
    wait("the worker's end", || !lives(pid));
    assert!(setup.ended.recv().is_err(), "it had been asked to");
}

#[test]
fn a_call_the_host_gave_up_leaves_its_place_to_the_next() {
    let setup = Setup::new(1);
    let until = setup.path("until");
    let hang = format!("{{\"check\": {{\"fault\": \"hang\", \"until_file\": {until:?}}}}}");
    let (stuck, fine) = (setup.open(&hang), setup.open("{}"));
    let hanging = Arc::<Watcher>::default();
    setup.start(&[stuck], &hanging);
    hanging.wait_for_starts(1);
    // So that it has started in the worker: with one thread, this waits behind it.
    let watcher = Arc::<Watcher>::default();
    setup.start(&[fine], &watcher);
    assert_eq!(*watcher.started.lock().unwrap(), 0);
    hanging.given_up.lock().unwrap().push(0);
    setup.worker.abandoned(stuck);
    setup.start(&[], &watcher);
    assert!(watcher.ends(1)[0].is_ok());
    fs::write(until, "").unwrap();
    hanging.ends(1);
    let after = Arc::default();
    setup.start(&[fine, stuck], &after);
    assert!(after.ends(2).iter().all(Result::is_ok));
}

#[test]
fn a_file_the_loader_refuses_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (_catalog, vetted) = vetted(folder.path());
    let broken = folder.path().join("broken.so");
    fs::write(&broken, "no library").unwrap();
    let mut broken_library = (*vetted).clone();
    broken_library.path = broken;
    let broken = broken_library;
    let error = load(&broken, 1, |_| panic!("it was never loaded"))
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorType::Load);
    assert!(
        error
            .message
            .starts_with(&vetted.origin.display().to_string()),
        "{error}"
    );
    assert!(error.message.contains("cannot be loaded"), "{error}");
}

#[test]
fn a_library_whose_constructor_kills_its_process_is_named_with_what_it_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (_catalog, vetted) = vetted(folder.path());
    let source = folder.path().join("dying.rs");
    fs::write(
        &source,
        r#"
        extern "C" fn die() { eprintln!("out of luck"); std::process::abort() }
        #[used]
        #[unsafe(link_section = ".init_array")]
        static DIE: extern "C" fn() = die;
        "#,
    )
    .unwrap();
    let dying = folder.path().join("dying.so");
    let compiled = Command::new("rustc")
        .args(["--edition=2024", "--crate-type=cdylib", "-o"])
        .args([&dying, &source])
        .status();
    assert!(compiled.unwrap().success());
    let mut dying_library = (*vetted).clone();
    dying_library.path = dying;
    let dying = dying_library;
    let error = load(&dying, 1, |_| panic!("it was never loaded"))
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorType::Crash);
    assert_eq!(
        error.message,
        format!(
            "{}: its worker was killed by signal 6 (SIGABRT) while it loaded the library; it printed: out of luck",
            vetted.origin.display()
        )
    );
}

#[test]
fn a_worker_dies_with_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    artifacts();
    let me = std::env::current_exe().unwrap();
    let mut host = Command::new(me)
        .args(["--exact", "workers::a_host_that_waits_to_be_killed"])
        .env(HOST_FILE, &file)
        .spawn()
        .unwrap();
    let pid = || {
        fs::read_to_string(&file)
            .ok()?
            .strip_suffix('\n')?
            .parse()
            .ok()
    };
    wait("the worker of the host", || pid().is_some());
    let pid = pid().unwrap();
    assert!(lives(pid));
    host.kill().unwrap();
    host.wait().unwrap();
    wait("the worker's end", || !lives(pid));
}

/// Not a test itself: [`a_worker_dies_with_its_host`] runs it in a process that it kills.
#[test]
fn a_host_that_waits_to_be_killed() {
    let Some(file) = std::env::var_os(HOST_FILE) else {
        return;
    };
    let setup = Setup::new(1);
    // A worker that is busy with a hanging call does not end itself.
    let probe = setup.open(r#"{"check": {"fault": "hang"}}"#);
    let watcher = Arc::default();
    setup.start(&[probe], &watcher);
    setup.signal("STOP");
    fs::write(file, format!("{}\n", setup.worker.pid().unwrap())).unwrap();
    loop {
        thread::park();
    }
}

const HOST_FILE: &str = "CONDUCTOR_TEST_PID_FILE";

/// A thread of a Rust plugin would have 2 MiB by default, and one of a C plugin 8 MiB.
#[test]
fn threads_of_a_rust_plugin_have_8_mib_of_stack_in_either_isolation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep.so");
    fs::write(&file, ordered("deep-stack")).unwrap();
    for isolation in ["process", "in-process"] {
        let output = conductor(&["plugin", "run", "--isolation", isolation])
            .arg(&file)
            .env_remove("RUST_MIN_STACK")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{isolation}: {said}");
        assert!(said.contains("healthy"), "{isolation}: {said}");
    }
}
