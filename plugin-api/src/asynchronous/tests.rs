//! Asynchronous probes from the host's side: begun, completed once, cancelled, closed during a check, and panicking
//! anywhere.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use abi_stable::{
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RSlice, RStr, RVec},
};

use super::*;
use crate::{
    FailureKind, Metric, Status,
    abi::{
        AbiFailure, AbiFailureKind, AbiHost, AbiHostHandle, AbiHostRef, AbiLabel, AbiLevel,
        AbiLogRecord, AbiReport,
    },
    testing::TestHost,
};

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase.")
    .unit("seconds")
    .labels(["phase"]);

/// Acts as its config says, and counts its live instances.
struct Actor {
    play: String,
    checks: usize,
    _alive: Alive,
}

struct Alive(Arc<AtomicUsize>);
impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}
impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Panics when it is dropped.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl AsyncProbe for Actor {
    type Config = String;

    fn create(play: String, _: &Context<'_>) -> Result<Self, Failure> {
        let _alive = Alive::new(&Arc::default());
        Ok(Self {
            play,
            checks: 0,
            _alive,
        })
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        self.checks += 1;
        match self.play.as_str() {
            "yield" => tokio::task::yield_now().await,
            "sleep" => tokio::time::sleep(Duration::from_millis(1)).await,
            "panic" => panic!("at once"),
            "panic later" => {
                tokio::task::yield_now().await;
                panic!("later");
            }
            "hang" => std::future::pending().await,
            "hang with a bomb" => {
                let _bomb = Bomb;
                std::future::pending().await
            }
            "fail" => return Err(Failure::new("on purpose")),
            "set" => return Ok(Report::healthy("set").set(&PHASE, ["connect"], 0.5)),
            _ => {}
        }
        Ok(Report::healthy(format!(
            "{} {}",
            context.platform(),
            self.checks
        )))
    }
}

fn actor(play: &str) -> (AbiProbeBox, Arc<AtomicUsize>) {
    panic_hook();
    let alive = Arc::default();
    let actor = Actor {
        play: play.to_owned(),
        checks: 0,
        _alive: Alive::new(&alive),
    };
    (place::probe_of(actor), alive)
}

/// Installs the panic hook as `init` does in a library.
fn panic_hook() {
    crate::panic_barrier::install_hook(|text| eprintln!("{text}"));
}

#[test]
fn a_check_that_was_begun_is_completed_once_with_its_report() {
    let (mut probe, _alive) = actor("sleep");
    for checks in 1..=3 {
        let call = Begun::new(MINUTE);
        call.begin(&mut probe).unwrap();
        assert_eq!(call.end().unwrap(), format!("shop {checks}"));
        call.is_over();
    }
}

#[test]
fn the_values_of_declared_metrics_are_set_before_a_check_is_completed() {
    let (mut probe, _alive) = actor("set");
    let call = Begun::new(MINUTE);
    call.begin(&mut probe).unwrap();
    call.end().unwrap();
    let set = SET.lock().unwrap();
    let of_call: Vec<_> = set.iter().filter(|set| set.0 == call.call.call).collect();
    let connect = vec!["connect".to_owned()];
    assert_eq!(
        of_call,
        [&(call.call.call, "phase".to_owned(), connect, 0.5)]
    );
}

#[test]
fn panics_and_failures_complete_a_check_as_what_they_are() {
    for (play, kind, message) in [
        ("fail", FailureKind::Error, "on purpose"),
        ("panic", FailureKind::Panic, "tests.rs:"),
        ("panic later", FailureKind::Panic, "tests.rs:"),
    ] {
        let (mut probe, _alive) = actor(play);
        let call = Begun::new(MINUTE);
        call.begin(&mut probe).unwrap();
        let failure = call.end().unwrap_err();
        assert_eq!(failure.kind(), kind, "{failure}");
        assert!(failure.message().contains(message), "{}", failure.message());
        call.is_over();
    }
}

#[test]
fn a_check_that_hangs_ends_at_its_deadline_and_the_probe_can_be_called_again() {
    let (mut probe, _alive) = actor("hang");
    for _ in 0..2 {
        let call = Begun::new(Duration::from_millis(10));
        call.begin(&mut probe).unwrap();
        assert_eq!(call.end().unwrap_err().kind(), FailureKind::Timeout);
        call.is_over();
    }
}

#[test]
fn a_check_that_is_cancelled_ends_and_the_cancelling_of_another_leaves_it_alone() {
    let (mut probe, _alive) = actor("hang");
    let (call, other) = (Begun::new(MINUTE), Begun::new(MINUTE));
    call.begin(&mut probe).unwrap();
    probe.cancel(&other.call);
    // If it had been woken, it would have run by now.
    let (mut fence, _alive) = actor("sleep");
    for _ in 0..20 {
        let call = Begun::new(MINUTE);
        call.begin(&mut fence).unwrap();
        call.end().unwrap();
    }
    call.is_over_not();
    probe.cancel(&call.call);
    let failure = call.end().unwrap_err();
    assert!(
        failure.message().contains("cancelled"),
        "{}",
        failure.message()
    );
    probe.cancel(&call.call);
    call.is_over();
}

#[test]
fn a_panic_while_a_cancelled_check_is_dropped_completes_it_as_a_panic() {
    let (mut probe, _alive) = actor("hang with a bomb");
    let call = Begun::new(MINUTE);
    call.begin(&mut probe).unwrap();
    probe.cancel(&call.call);
    assert_eq!(call.end().unwrap_err().kind(), FailureKind::Panic);
}

#[test]
fn a_second_check_is_refused_while_one_is_under_way_and_after_the_close() {
    let (mut probe, _alive) = actor("hang");
    let first = Begun::new(MINUTE);
    first.begin(&mut probe).unwrap();
    let refused = Begun::new(MINUTE).begin(&mut probe).unwrap_err();
    assert!(
        refused.message().contains("had not ended"),
        "{}",
        refused.message()
    );
    read(probe.close(&first.call)).unwrap();
    first.end().unwrap_err();
    let refused = Begun::new(MINUTE).begin(&mut probe).unwrap_err();
    assert!(
        refused.message().contains("a closed probe"),
        "{}",
        refused.message()
    );
}

#[test]
fn closing_or_dropping_a_probe_with_a_check_under_way_ends_both() {
    for close in [true, false] {
        let (mut probe, alive) = actor("hang");
        let call = Begun::new(MINUTE);
        call.begin(&mut probe).unwrap();
        if close {
            read(probe.close(&call.call)).unwrap();
        }
        drop(probe);
        call.end().unwrap_err();
        assert_eq!(alive.load(Ordering::SeqCst), 0, "gone before the end");
    }
}

#[test]
fn a_task_that_is_gone_without_a_result_completes_its_check_as_a_failure() {
    let call = Begun::new(MINUTE);
    drop(place::CheckCompletion::of(&call.call).unwrap());
    let failure = call.end().unwrap_err();
    assert!(
        failure
            .message()
            .contains("dropped the check before its end"),
        "{failure}"
    );
    call.is_over();
}

#[test]
fn a_host_that_does_not_begin_gets_the_same_from_a_call() {
    let (mut probe, _alive) = actor("sleep");
    let call = Begun::new(MINUTE);
    assert_eq!(
        read(probe.check(&call.call)).ok().unwrap().message,
        "shop 1"
    );
    let (mut probe, _alive) = actor("hang");
    let call = Begun::new(Duration::from_millis(10));
    let failure = read(probe.check(&call.call)).err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Timeout);
}

#[test]
fn ten_thousand_checks_wait_on_a_few_threads() {
    let mut all: Vec<_> = (0..10_000)
        .map(|_| (actor("hang").0, Begun::new(MINUTE)))
        .collect();
    for (probe, call) in &mut all {
        call.begin(probe).unwrap();
    }
    let workers = runtime().unwrap().metrics().num_workers();
    assert!((2..=4).contains(&workers), "{workers}");
    for (probe, call) in &mut all {
        call.is_over_not();
        probe.cancel(&call.call);
    }
    for (_, call) in &all {
        call.end().unwrap_err();
    }
}

#[test]
fn the_test_double_runs_checks_to_their_end_their_deadline_or_their_cancelling() {
    let host = TestHost::new("shop").timeout(MINUTE);
    let mut probe = host.create_async::<Actor>(r#""sleep""#).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_eq!(
        (report.status(), report.message()),
        (Status::Healthy, "shop 1")
    );

    let impatient = TestHost::new("shop").timeout(Duration::from_millis(10));
    probe.play = "hang".to_owned();
    let failure = impatient.check_async(&mut probe).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);

    thread::scope(|scope| {
        let check = scope.spawn(|| host.check_async(&mut probe));
        host.cancel();
        let failure = check.join().unwrap().unwrap_err();
        assert!(failure.message().contains("cancelled"), "{failure}");
    });
}

/// A call that was begun, as the host stores it.
struct Begun {
    call: AbiCall,
    ended: Receiver<RResult<AbiReport, AbiFailure>>,
}

impl Begun {
    fn new(timeout: Duration) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(2, Ordering::SeqCst);
        let (end, ended) = channel();
        CALLS.lock().unwrap().insert(number, (now() + timeout, end));
        Self {
            call: AbiCall {
                host: AbiHostHandle {
                    functions: *FUNCTIONS,
                    plugin: 0,
                },
                call: number,
            },
            ended,
        }
    }

    fn begin(&self, probe: &mut AbiProbeBox) -> Result<(), Failure> {
        read(probe.begin(&self.call))
    }

    fn end(&self) -> Result<String, Failure> {
        let report = read(self.ended.recv_timeout(MINUTE).unwrap())?;
        Ok(report.message.into())
    }

    /// It cannot be completed again: the first completion takes its sender.
    #[track_caller]
    fn is_over(&self) {
        assert!(self.ended.recv_timeout(MINUTE).is_err());
    }

    #[track_caller]
    fn is_over_not(&self) {
        assert!(self.ended.try_recv().is_err());
    }
}

fn read<T>(result: RResult<T, AbiFailure>) -> Result<T, Failure> {
    result.into_result().map_err(|failure| {
        let kind = match failure.kind {
            AbiFailureKind::PANIC => FailureKind::Panic,
            AbiFailureKind::TIMEOUT => FailureKind::Timeout,
            _ => FailureKind::Error,
        };
        Failure::of(kind, failure.message)
    })
}

type Ended = Sender<RResult<AbiReport, AbiFailure>>;
static CALLS: LazyLock<Mutex<HashMap<usize, (Instant, Ended)>>> = LazyLock::new(Mutex::default);
static FUNCTIONS: LazyLock<AbiHostRef> = LazyLock::new(|| {
    AbiHost {
        max_level,
        log,
        remaining_ns,
        is_cancelled,
        platform,
        complete,
        interval_ns,
        labels,
        set,
        state,
        store_state,
    }
    .leak_into_prefix()
});

#[expect(clippy::disallowed_methods, reason = "stands in for the host")]
fn now() -> Instant {
    Instant::now()
}

extern "C" fn interval_ns(_: usize) -> u64 {
    0
}

extern "C" fn labels(_: usize) -> RVec<AbiLabel> {
    RVec::new()
}

/// Logs what is set, as a host's report would have it.
extern "C" fn set(
    _: usize,
    call: usize,
    metric: RStr<'_>,
    labels: RSlice<'_, RStr<'_>>,
    value: f64,
) {
    let mut set = SET.lock().unwrap();
    let labels = labels.iter().map(|label| label.to_string()).collect();
    set.push((call, metric.to_string(), labels, value));
}

extern "C" fn state(_: usize) -> RVec<u8> {
    RVec::new()
}

extern "C" fn store_state(_: usize, _: RSlice<'_, u8>) -> bool {
    false
}

/// Call, metric, labels and value.
type SetValue = (usize, String, Vec<String>, f64);

/// All that was set.
static SET: Mutex<Vec<SetValue>> = Mutex::new(Vec::new());

extern "C" fn max_level(_: usize) -> AbiLevel {
    AbiLevel::TRACE
}

extern "C" fn log(_: usize, _: usize, _: &AbiLogRecord<'_>) {}

extern "C" fn remaining_ns(call: usize) -> u64 {
    let calls = CALLS.lock().unwrap();
    let left = calls
        .get(&call)
        .map(|(deadline, _)| deadline.saturating_duration_since(now()));
    u64::try_from(left.unwrap_or_default().as_nanos()).unwrap()
}

extern "C" fn is_cancelled(_: usize) -> bool {
    false
}

extern "C" fn platform(_: usize) -> RStr<'static> {
    RStr::from_str("shop")
}

extern "C" fn complete(call: usize, result: RResult<AbiReport, AbiFailure>) {
    let (_, end) = CALLS
        .lock()
        .unwrap()
        .remove(&call)
        .expect("completed twice");
    // A test that ignores the result may be over.
    let _ = end.send(result);
}

const MINUTE: Duration = Duration::from_secs(60);
