//! Level 3: the reports of checks, and calls from different threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_plugin_api::MAX_STATE;
use conductor_runtime::{
    CallFailure, CheckReport, MemoryStates, ProbeId, ProbeSpec, ProbeStates as _,
    call_journal::JournalSlot, door::HostFunctions, in_process::InProcess,
    observer::ContractViolation,
};
use conductor_types::ErrorType;
use serde_json::Value;

use super::{
    TestPlatform,
    advice::LanguageAdvice,
    catalogue::PluginTest,
    machine::{ProcessSnapshot, phrases},
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};
use crate::{
    call_harness::{CallHarness, FinishedCall},
    report_lint::CounterValues,
};

/// A loaded plugin with a config that creates probes.
pub(super) struct TestBench {
    pub(super) harness: CallHarness,
    pub(super) config: Value,
    platform: TestPlatform,
    /// The advice for a check that panics.
    failure: &'static str,
}

impl TestBench {
    /// Returns a bench with threads for this many concurrent calls.
    pub(super) fn new(subject: &LibraryUnderTest, threads: usize) -> Result<Self, TestVerdict> {
        Self::with_functions(subject, threads, HostFunctions::Current)
    }

    /// Returns a bench on which the plugin may call these functions.
    pub(super) fn with_functions(
        subject: &LibraryUnderTest,
        threads: usize,
        functions: HostFunctions,
    ) -> Result<Self, TestVerdict> {
        let config = subject.good_config(&*subject.door_with(functions)?)?;
        let plugin = InProcess::behind(
            subject.door_with(functions)?.into(),
            threads,
            subject.clock,
            JournalSlot::unrecorded,
        );
        let harness = CallHarness::new(plugin, subject.clock);
        subject.doing(format!("checking with {config}"));
        let failure = subject.cure(LanguageAdvice::Failure);
        Ok(Self {
            harness,
            config,
            platform: subject.order.platform.clone(),
            failure,
        })
    }

    /// Announces a probe.
    pub(super) fn open(&self) -> ProbeId {
        self.harness.plugin.open(self.spec())
    }

    /// Returns the probe of a platform without a state.
    fn spec(&self) -> ProbeSpec {
        self.platform.spec(&self.config.to_string())
    }

    /// Announces a probe whose platform has this state.
    fn open_with_state(&self, state: &[u8]) -> ProbeId {
        let states = MemoryStates::default();
        let spec = self.spec();
        states.store(&spec.platform, state);
        self.harness.plugin.open(ProbeSpec {
            states: Arc::new(states),
            ..spec
        })
    }

    /// Runs one check that must return; other tests cover checks that do not return, or that panic.
    pub(super) fn check(&self, probe: ProbeId) -> Result<FinishedCall, TestVerdict> {
        match self.harness.check(probe, CHECK, MARGIN) {
            None => Err(not_back()),
            Some(end) => match end.panic() {
                Some(panic) => Err(TestVerdict::failed(
                    format!("the check ends in {}", told(panic)),
                    self.failure,
                )),
                None => Ok(end),
            },
        }
    }
}

/// Returns the verdict for a check that has not returned; the test of deadlines requires that it does.
fn not_back() -> TestVerdict {
    TestVerdict::skipped("a check was not back at its deadline, see time/deadline")
}

fn checks(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let end = go_on!(bench.check(bench.open()));
    if subject.lint.has_seen(ContractViolation::NoReport) {
        return TestVerdict::failed(
            "the check ended without a report or a failure",
            subject.cure(LanguageAdvice::Report),
        );
    }
    match end.result {
        Ok(report) => TestVerdict::passed(format!("{:?}: {}", report.status, report.message)),
        Err(failure) if subject.is_config_given() => TestVerdict::warning(
            format!("the check fails with the given config: {failure}"),
            "give a config that works here, so that its reports can be judged",
        ),
        Err(failure) => TestVerdict::passed(format!("a failure: {failure}")),
    }
}

fn report_legal(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let mut reported = 0;
    let mut failure = None;
    for _ in 0..3 {
        match go_on!(bench.check(probe)).result {
            Ok(_) => reported += 1,
            Err(failed) => failure = Some(failed),
        }
    }
    let found = subject.lint.take();
    if !found.is_empty() {
        return TestVerdict::failed(
            format!("it reported {}", found.join(", ")),
            subject.cure(LanguageAdvice::LegalReport),
        );
    }
    match failure {
        Some(failure) if reported == 0 => TestVerdict::skipped(format!(
            "no check reported ({failure}); give a --config that works here"
        )),
        _ => TestVerdict::passed(""),
    }
}

fn repeatable(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let mut names: Option<BTreeSet<String>> = None;
    let mut counters = CounterValues::default();
    let mut reported = 0;
    for nth in 1..=10 {
        match go_on!(bench.check(probe)).result {
            Err(failure) if reported > 0 => {
                return TestVerdict::failed(
                    format!(
                        "check {nth} of one probe failed after {reported} went well: {failure}"
                    ),
                    "leave nothing behind in a check that the next one trips over",
                );
            }
            Err(_) => {}
            Ok(report) => {
                reported += 1;
                if let Some(fallen) = counters.look(&report.declared).pop() {
                    return TestVerdict::warning(
                        format!("check {nth} of one probe reports {fallen}"),
                        "Prometheus takes a lower value for a restart, and adds it to the total",
                    );
                }
                let declared = bench
                    .harness
                    .plugin
                    .description()
                    .metrics
                    .named(&report.declared);
                let found: BTreeSet<String> = report
                    .measurements
                    .into_iter()
                    .chain(declared)
                    .map(|(name, _)| name)
                    .collect();
                let expected = names.get_or_insert_with(|| found.clone());
                if let Some(name) = found.symmetric_difference(expected).next() {
                    return TestVerdict::warning(
                        format!("the measurement {name:?} is in some reports and not in others"),
                        "a series that comes and goes is hard to alert on: measure the same each time, where it can be known",
                    );
                }
            }
        }
    }
    match reported {
        0 => TestVerdict::skipped("no check reported; give a --config that works here"),
        _ => TestVerdict::passed(""),
    }
}

fn concurrent(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, PROBES));
    let alone = go_on!(bench.check(bench.open()));
    let probes: Vec<ProbeId> = (0..PROBES).map(|_| bench.open()).collect();
    for _ in 0..5 {
        let calls = bench.harness.start(&probes, CHECK);
        for end in bench.harness.wait(&calls, CHECK + MARGIN) {
            let Some(end) = end else {
                return match alone.result {
                    Ok(_) => TestVerdict::failed(
                        format!(
                            "checks of {PROBES} probes at once are not back at their deadlines, where one alone is"
                        ),
                        "let probes share no lock that is held while they wait",
                    ),
                    Err(_) => not_back(),
                };
            };
            if let Some(panic) = end.panic() {
                return TestVerdict::failed(
                    format!(
                        "with {PROBES} probes at once a check ends in {}",
                        told(panic)
                    ),
                    "share nothing between probes, or share it safely",
                );
            }
            // A lookup of an example address may take as long as it likes.
            if let (true, Ok(_), Err(failure)) =
                (subject.is_config_given(), &alone.result, &end.result)
            {
                return TestVerdict::warning(
                    format!("a probe alone reports, one of {PROBES} at once fails: {failure}"),
                    "share nothing between probes; where it is the platform that takes no more, say so in the report",
                );
            }
        }
    }
    TestVerdict::passed("")
}

fn other_thread(subject: &LibraryUnderTest) -> TestVerdict {
    // A check that does not return would block this test's thread.
    let bench = go_on!(TestBench::new(subject, 1));
    let alone = go_on!(bench.check(bench.open()));
    let door = go_on!(subject.door());
    let (door, config) = (&*door, &*bench.config.to_string());
    let blocking = !door.description().asynchronous;
    let failed = |doing: &str, failure: &CallFailure| {
        TestVerdict::failed(
            format!(
                "{doing} on another thread than before failed: {}",
                told(failure)
            ),
            "keep nothing in thread-locals between calls: each may come from another thread",
        )
    };
    subject.doing("creating a probe on a thread of its own");
    let created = elsewhere(|| subject.create(door, config));
    let Some(Ok(mut probe)) = created else {
        return TestVerdict::failed(
            "no probe can be created on another thread",
            "keep nothing in thread-locals between calls: each may come from another thread",
        );
    };
    if blocking {
        subject.doing("checking on another thread than it was created on");
        let mut check = || {
            elsewhere(|| {
                let mut report = CheckReport::empty();
                probe.check(&subject.call(CHECK), &mut report)
            })
        };
        // A platform may fail once for its own reasons.
        if let Some(Err(_)) = check()
            && let Some(Err(failure)) = check()
            && (failure.kind == ErrorType::Panic || alone.result.is_ok())
        {
            return failed("a check", &failure);
        }
    }
    subject.doing("dropping a probe on another thread than it was used on");
    match elsewhere(|| subject.close(probe)) {
        Some(Err(failure)) => failed("a drop", &failure),
        _ => TestVerdict::passed(""),
    }
}

/// Runs `what` on a dedicated thread.
fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| scope.spawn(what).join().ok())
}

fn drop_while_checking(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 4));
    let alone = go_on!(bench.check(bench.open()));
    for _ in 0..20 {
        let probe = bench.open();
        let calls = bench.harness.start(&[probe], CHECK);
        bench.harness.wait_for_begin(calls[0]);
        bench.harness.plugin.close(probe);
        match bench.harness.wait(&calls, CHECK + MARGIN).pop().flatten() {
            None => return not_back(),
            Some(end) => {
                if let Some(panic) = end.panic() {
                    return TestVerdict::failed(
                        format!(
                            "a check whose probe was dropped meanwhile ends in {}",
                            told(panic)
                        ),
                        "let the drop end what the check has started",
                    );
                }
            }
        }
    }
    match go_on!(bench.check(bench.open())).result {
        Err(failure) if alone.result.is_ok() => TestVerdict::failed(
            format!("after probes were dropped during checks, a new one fails: {failure}"),
            "let probes share nothing that the drop of one takes away",
        ),
        _ => TestVerdict::passed(""),
    }
}

fn leaves_process(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let before = ProcessSnapshot::now();
    for _ in 0..3 {
        go_on!(bench.check(probe));
    }
    let damage = before.damage(&ProcessSnapshot::now());
    if damage.is_empty() {
        return TestVerdict::passed("");
    }
    TestVerdict::failed(
        format!("a check {}", phrases(&damage)),
        "leave the process as it is: it is shared with other probes, and with other plugins where the operator wants that",
    )
}

fn no_noise(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    for _ in 0..3 {
        go_on!(bench.check(probe));
    }
    bench.harness.plugin.close(probe);
    TestVerdict::passed("")
}

/// A later or an earlier version may have stored anything, and a check that crashes on it crashes for ever.
fn any_state(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    for (what, state) in [
        ("of other bytes", &b"\xff\xfe\0{\"version\": -1"[..]),
        ("of the greatest length", &[b'9'; MAX_STATE]),
    ] {
        subject.doing(format!(
            "checking a platform with a state {what}, as another version may have stored it"
        ));
        go_on!(bench.check(bench.open_with_state(state)));
    }
    TestVerdict::passed("")
}

/// A probe that reads interval and labels meets platforms that have none of them, or others.
fn any_platform(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let TestPlatform {
        interval, labels, ..
    } = &subject.order.platform;
    let odd = |text: &str| -> BTreeMap<_, _> {
        let names = labels.keys().cloned();
        names.map(|name| (name, text.to_owned())).collect()
    };
    let long = "ä".repeat(512);
    for (what, interval, labels) in [
        ("without labels", *interval, BTreeMap::new()),
        ("whose labels are empty", *interval, odd("")),
        ("whose labels have 1024 bytes", *interval, odd(&long)),
        // A host of API 1.0 does not tell it.
        ("without an interval", Duration::ZERO, labels.clone()),
        (
            "with an interval of 1 ms",
            Duration::from_millis(1),
            labels.clone(),
        ),
        ("with an interval of a year", A_YEAR, labels.clone()),
    ] {
        subject.doing(format!("checking a platform {what}"));
        let probe = bench.harness.plugin.open(ProbeSpec {
            interval,
            labels,
            ..bench.spec()
        });
        let Some(end) = bench.harness.check(probe, CHECK, MARGIN) else {
            return not_back();
        };
        if let Some(panic) = end.panic() {
            return TestVerdict::failed(
                format!("the check of a platform {what} ends in {}", told(panic)),
                subject.cure(LanguageAdvice::AnyPlatform),
            );
        }
    }
    TestVerdict::passed("")
}

/// The fields of a log line are computed only where the line is logged, so a fault in one shows only there.
fn any_log_level(subject: &LibraryUnderTest) -> TestVerdict {
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::sink);
    // For the rest of this process, which is this test's alone.
    if let Err(error) = everything.try_init() {
        return TestVerdict::skipped(format!("this process has a log: {error}"));
    }
    let bench = go_on!(TestBench::new(subject, 1));
    subject.doing("checking on a host that logs everything, --log.level=trace");
    let probe = bench.open();
    for _ in 0..3 {
        match bench.harness.check(probe, CHECK, MARGIN) {
            None => return not_back(),
            Some(end) => {
                if let Some(panic) = end.panic() {
                    return TestVerdict::failed(
                        format!(
                            "on a host that logs everything, the check ends in {}",
                            told(panic)
                        ),
                        "operators look for a fault with --log.level=trace: let the fields of log lines be values that can always be shown",
                    );
                }
            }
        }
    }
    TestVerdict::passed("")
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        3,
        "check/ends",
        "A check ends with a report or a failure, without a panic or a crash.",
        checks,
    )
    .gate(),
    PluginTest::new(
        3,
        "check/report-legal",
        "Reports are UTF-8 on one line, of a known status, with finite values under legal names, within the host's limits.",
        report_legal,
    ),
    PluginTest::new(
        3,
        "check/repeatable",
        "Ten checks of one probe go as well as the first, and measure the same.",
        repeatable,
    ),
    PluginTest::new(
        3,
        "check/any-state",
        "A check neither panics nor crashes on a state that another version has stored.",
        any_state,
    ),
    PluginTest::new(
        3,
        "check/any-platform",
        "A check neither panics nor crashes, whatever interval and labels its platform has.",
        any_platform,
    )
    .within(40),
    PluginTest::new(
        3,
        "check/any-log-level",
        "A check neither panics nor crashes on a host that logs everything.",
        any_log_level,
    ),
    PluginTest::new(3, "check/quiet", "Checks print nothing.", no_noise).quiet(),
    PluginTest::new(
        3,
        "check/leaves-process",
        "Checks leave environment, working directory, signals, umask, locale and descriptors of others as they are.",
        leaves_process,
    ),
    PluginTest::new(
        3,
        "threads/concurrent",
        "Eight probes are checked at once as well as one.",
        concurrent,
    )
    .within(60),
    PluginTest::new(
        3,
        "threads/any",
        "A probe is created on one thread, checked on a second and dropped on a third.",
        other_thread,
    ),
    PluginTest::new(
        3,
        "threads/drop-while-checking",
        "A probe may be dropped while it is checked, and others do not suffer.",
        drop_while_checking,
    )
    .within(60),
];

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Number of concurrent probes.
const PROBES: usize = 8;
/// Timeout of a check.
pub(super) const CHECK: Duration = Duration::from_secs(2);
/// Tolerance for checks on a busy machine.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
