//! Begun calls into a simulated plugin: its probes complete, fail, panic and hang at every possible point.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use conductor_plugin_api::manifest::ApiVersion;
use conductor_types::ErrorType;

use super::*;
use crate::{
    CallFailure, CallOwner, ConfigSchema, DeliveryOutcome,
    call_context::{self, CallContext, CallNumber},
    door::PluginProbe,
};

/// The behaviour of a simulated probe when a check begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Play {
    /// Does nothing: the test completes it.
    GoOn,
    /// Completes it before `begin` returns.
    CompleteWithin,
    /// Fails to begin.
    Fail,
    /// Completes it, and then reports that it has not begun.
    CompleteAndFail,
    /// Continues, and completes it within `cancel`.
    CompleteInCancel,
    /// Stays in `begin` until released by the test, then continues.
    StayInside,
}

/// The calls into the simulated plugin, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    Create,
    Begin(usize),
    Cancel(usize),
    Close,
}

struct Stage {
    told: Sender<Told>,
    /// `StayInside` waits for it.
    go: Mutex<Receiver<()>>,
}

struct PlayedDoor {
    description: PluginDescription,
    stage: Arc<Stage>,
}

struct PlayedProbe {
    play: Play,
    stage: Arc<Stage>,
}

impl OpenedLibrary for PlayedDoor {
    fn description(&self) -> &PluginDescription {
        &self.description
    }

    fn create(
        &self,
        spec: &ProbeSpec,
        _: &CallContext,
    ) -> Result<Box<dyn PluginProbe>, CallFailure> {
        let play = match &*spec.config {
            "go on" => Play::GoOn,
            "complete within" => Play::CompleteWithin,
            "fail" => Play::Fail,
            "complete and fail" => Play::CompleteAndFail,
            "complete in cancel" => Play::CompleteInCancel,
            "stay inside" => Play::StayInside,
            _ => return Err(CallFailure::new(ErrorType::Config, "no such play")),
        };
        self.stage.told.send(Told::Create).unwrap();
        let stage = Arc::clone(&self.stage);
        Ok(Box::new(PlayedProbe { play, stage }))
    }
}

impl PluginProbe for PlayedProbe {
    fn check(&mut self, _: &CallContext, _: &mut CheckReport) -> Result<(), CallFailure> {
        unreachable!("its checks are begun")
    }

    fn begin(&mut self, CallNumber(call): CallNumber) -> Result<(), CallFailure> {
        self.stage.told.send(Told::Begin(call)).unwrap();
        match self.play {
            Play::GoOn | Play::CompleteInCancel => Ok(()),
            Play::CompleteWithin => {
                complete(call);
                Ok(())
            }
            Play::Fail => Err(failure(ErrorType::Error)),
            Play::CompleteAndFail => {
                complete(call);
                Err(failure(ErrorType::Error))
            }
            Play::StayInside => {
                self.stage.go.lock().unwrap().recv().unwrap();
                Ok(())
            }
        }
    }

    fn cancel(&mut self, CallNumber(call): CallNumber) {
        // The host may already be gone.
        let _ = self.stage.told.send(Told::Cancel(call));
        if self.play == Play::CompleteInCancel {
            end(call, Err(failure(ErrorType::Error)));
        }
    }

    fn close(&mut self, _: &CallContext) -> Result<(), CallFailure> {
        let _ = self.stage.told.send(Told::Close);
        Ok(())
    }
}

fn failure(kind: ErrorType) -> CallFailure {
    CallFailure::new(kind, "on purpose")
}

fn complete(call: usize) {
    end(call, Ok(CheckReport::empty()));
}

/// Ends a call like the host's `complete`.
fn end(call: usize, result: Result<CheckReport, CallFailure>) {
    call_context::take(call)
        .expect("completed once")
        .end(result);
}

/// The host's side: every platform's caller, and the results it received.
struct Played {
    plugin: InProcess,
    told: Receiver<Told>,
    go: Sender<()>,
    ends: Arc<Ends>,
}

#[derive(Default)]
struct Ends(Mutex<BTreeMap<u64, Vec<Result<(), ErrorType>>>>);

impl CallOwner for Ends {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        Some(now + Duration::from_secs(60))
    }

    fn finished(
        &self,
        call: u64,
        _: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let result = result.map(drop).map_err(|failure| failure.kind);
        self.0.lock().unwrap().entry(call).or_default().push(result);
        DeliveryOutcome::Yes
    }

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }
}

impl Played {
    fn new(threads: usize) -> Self {
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let door = PlayedDoor {
            description: PluginDescription {
                id: "played".to_owned(),
                version: "0.1.0".to_owned(),
                api: ApiVersion::CURRENT,
                config_schema: ConfigSchema::new("{}").unwrap(),
                metrics: Arc::default(),
                asynchronous: true,
            },
            stage: Arc::new(Stage {
                told: tell,
                go: Mutex::new(wait),
            }),
        };
        Self {
            plugin: InProcess::behind(
                Arc::new(door),
                threads,
                Clock::start(),
                JournalSlot::unrecorded,
            ),
            told,
            go,
            ends: Arc::default(),
        }
    }

    fn open(&self, play: &str) -> ProbeId {
        self.plugin.open(ProbeSpec::new("shop", play))
    }

    fn start(&self, probe: ProbeId, sequence: u64) {
        let caller: Arc<dyn CallOwner> = Arc::clone(&self.ends) as _;
        self.plugin.start(&mut vec![AdmittedCall {
            probe,
            caller,
            sequence,
        }]);
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("it is told more")
    }

    /// Returns the number of the next call that begins.
    fn begun(&self) -> usize {
        match self.next() {
            Told::Create => self.begun(),
            Told::Begin(call) => call,
            told => panic!("it is told {told:?}"),
        }
    }

    /// Returns the result of the call, once.
    fn end(&self, sequence: u64) -> Result<(), ErrorType> {
        wait(|| self.ends.0.lock().unwrap().contains_key(&sequence));
        match self.ends.0.lock().unwrap()[&sequence][..] {
            [end] => end,
            ref ends => panic!("it ended {ends:?}"),
        }
    }

    fn wait_until_idle(&self) {
        wait(|| self.plugin.is_idle());
    }
}

fn wait(until: impl Fn() -> bool) {
    let clock = Clock::start();
    while !until() {
        assert!(clock.now() < PATIENCE, "it does not come");
        std::thread::yield_now();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn one_thread_begins_call_after_call_and_each_ends_once_whenever_it_is_completed() {
    let host = Played::new(1);
    for sequence in 0..1000 {
        host.start(host.open("go on"), sequence);
    }
    let begun: Vec<_> = (0..1000).map(|_| host.begun()).collect();
    assert!(host.ends.0.lock().unwrap().is_empty());
    assert!(!host.plugin.is_idle());
    for call in begun.into_iter().rev() {
        complete(call);
        assert!(
            call_context::take(call).is_none(),
            "a call is completed once"
        );
    }
    for sequence in 0..1000 {
        assert_eq!(host.end(sequence), Ok(()));
    }
    host.wait_until_idle();
}

#[test]
fn a_call_that_ends_within_its_begin_ends_once() {
    let host = Played::new(1);
    for (sequence, (play, end)) in [
        ("complete within", Ok(())),
        ("complete and fail", Ok(())),
        ("fail", Err(ErrorType::Error)),
        ("no such play", Err(ErrorType::Config)),
    ]
    .into_iter()
    .enumerate()
    {
        let sequence = sequence as u64;
        host.start(host.open(play), sequence);
        assert_eq!(host.end(sequence), end, "{play}");
        host.wait_until_idle();
        assert_eq!(host.end(sequence), end, "{play}");
    }
}

#[test]
fn the_next_check_is_begun_by_the_same_probe_or_by_a_new_one_after_a_panic() {
    let host = Played::new(1);
    let probe = host.open("go on");
    host.start(probe, 1);
    assert_eq!(host.next(), Told::Create);
    complete(host.begun());
    host.start(probe, 2);
    let Told::Begin(call) = host.next() else {
        panic!("it is the same probe");
    };
    end(call, Err(failure(ErrorType::Panic)));
    assert_eq!(host.end(2), Err(ErrorType::Panic));
    host.start(probe, 3);
    assert_eq!([host.next(), host.next()], [Told::Close, Told::Create]);
}

#[test]
fn a_call_that_is_given_up_is_cancelled_once_and_may_end_within_that() {
    let host = Played::new(1);
    let probe = host.open("complete in cancel");
    host.start(probe, 1);
    let call = host.begun();
    // Otherwise the thread inside would cancel it.
    wait(|| host.plugin.threads.is_idle());
    host.plugin.abandoned(probe);
    host.plugin.abandoned(probe);
    assert_eq!(host.next(), Told::Cancel(call));
    assert_eq!(host.end(1), Err(ErrorType::Error));
    host.start(probe, 2);
    assert!(matches!(host.next(), Told::Begin(_)), "and nothing else");
}

#[test]
fn a_call_that_is_given_up_and_ignores_it_keeps_nobody_waiting() {
    let host = Played::new(1);
    let probe = host.open("go on");
    host.start(probe, 1);
    let call = host.begun();
    host.plugin.abandoned(probe);
    assert_eq!(host.next(), Told::Cancel(call));
    host.wait_until_idle();
    complete(call);
    assert_eq!(host.end(1), Ok(()));
    assert!(host.plugin.is_idle(), "it is not discounted twice");
}

#[test]
fn a_begin_that_hangs_is_passed_by_and_its_call_is_cancelled_when_it_returns() {
    let host = Played::new(1);
    let (stuck, other) = (host.open("stay inside"), host.open("go on"));
    host.start(stuck, 1);
    let call = host.begun();
    host.plugin.abandoned(stuck);
    host.start(other, 2);
    complete(host.begun());
    assert_eq!(host.end(2), Ok(()));
    host.go.send(()).unwrap();
    assert_eq!(host.next(), Told::Cancel(call));
    complete(call);
    assert_eq!(host.end(1), Ok(()));
}

#[test]
fn a_probe_whose_platform_is_gone_is_dropped_when_its_call_is_over() {
    let host = Played::new(1);
    let probe = host.open("go on");
    host.start(probe, 1);
    let call = host.begun();
    host.plugin.close(probe);
    // The thread has finished closing when it takes the next job.
    host.start(host.open("go on"), 2);
    complete(host.begun());
    complete(call);
    assert_eq!(host.end(1), Ok(()));
    assert_eq!(host.next(), Told::Close);
}

#[test]
fn the_end_cancels_what_is_under_way_and_then_drops_the_probes() {
    let host = Played::new(1);
    let probe = host.open("complete in cancel");
    host.start(probe, 1);
    let call = host.begun();
    host.plugin.end();
    assert_eq!(host.next(), Told::Cancel(call));
    assert_eq!(host.next(), Told::Close);
    assert_eq!(host.end(1), Err(ErrorType::Error));
    host.wait_until_idle();
}

#[test]
fn a_probe_is_dropped_by_a_thread_of_its_own_even_if_its_call_outlives_its_generation() {
    let host = Played::new(1);
    host.start(host.open("go on"), 1);
    let call = host.begun();
    host.plugin.end();
    assert_eq!(host.next(), Told::Cancel(call));
    wait(|| host.plugin.threads.is_idle());
    let Played { plugin, told, .. } = host;
    drop(plugin);
    complete(call);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Close));
}
