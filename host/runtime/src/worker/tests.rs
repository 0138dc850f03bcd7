//! The host's side with simulated workers: a test at the other end of the socket, which sends arbitrary messages.

use std::{
    io::{PipeWriter, Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::{
        Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
};

use super::*;
use crate::{
    CallFailure, CallOwner, CheckReport, DeliveryOutcome, ProbeStates,
    protocol::{
        self, FrameDecoder, FrameEncoder, add_to_batch,
        messages::{CallResponse, CallResult, FromWorker, WireFailure, WireReport},
    },
    redaction::{self, HeldSecrets},
};

/// A simulated worker, and the host's reactions to it.
struct Fake {
    client: Arc<WorkerClient>,
    socket: UnixStream,
    output: Option<PipeWriter>,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    loaded: Receiver<Result<LoadedProperties, LoadError>>,
    ended: Receiver<UnexpectedExit>,
    log: Log,
}

impl Fake {
    fn start(load_timeout: Duration) -> Self {
        Self::greeted(load_timeout, &greeting())
    }

    fn greeted(load_timeout: Duration, greeting: &[u8]) -> Self {
        let (ours, theirs) = WorkerChannel::pair().unwrap();
        let theirs = UnixStream::from(theirs);
        let (waker, wake_ups) = SupervisorWaker::pair().unwrap();
        let (pipe, output) = OutputPipe::pair().unwrap();
        let clock = Clock::start();
        let client = Arc::new(WorkerClient::new(ours, waker, clock, 2));
        let output_read = WorkerOutput::new(pipe, "fake".into());
        let copy = Arc::clone(&client);
        let supervisor =
            WorkerSupervisor::new(None, None, copy, wake_ups, output_read, "fake".into());
        let (tell_loaded, loaded) = mpsc::channel();
        let (tell_ended, ended) = mpsc::channel();
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Mutex::new(log.clone()))
            .with_ansi(false)
            .finish();
        thread::spawn(move || {
            tracing::subscriber::with_default(subscriber, || {
                supervisor.live(load_timeout, &tell_loaded, move |end| {
                    tell_ended.send(end).unwrap();
                });
            });
        });
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        (&theirs).write_all(greeting).unwrap();
        Self {
            client,
            socket: theirs,
            output: Some(output),
            encoder: FrameEncoder::new(usize::MAX),
            decoder: FrameDecoder::new(protocol::FROM_HOST),
            loaded,
            ended,
            log,
        }
    }

    fn loaded() -> Self {
        let mut fake = Self::start(PATIENCE);
        fake.say(&loaded("{}"));
        fake.loaded.recv_timeout(PATIENCE).unwrap().unwrap();
        fake
    }

    fn say(&mut self, message: &FromWorker<String>) {
        let mut bytes = Vec::new();
        self.encoder.frame(message, &mut bytes).unwrap();
        self.write(&bytes);
    }

    fn answer(&mut self, answer: CallResponse<String>) {
        self.say(&FromWorker::Answer(answer));
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Returns the host's next message.
    fn hear(&mut self) -> ToWorker {
        loop {
            if let Some(message) = self.decoder.message().unwrap() {
                return message;
            }
            let mut buffer = [0; 4096];
            let bytes = self.socket.read(&mut buffer).unwrap();
            assert!(bytes > 0, "the host has closed the socket");
            self.decoder.feed(&buffer[..bytes]);
        }
    }

    /// Waits for the end, and checks that it comes once.
    fn end(&self) -> UnexpectedExit {
        let ended = self.ended.recv_timeout(PATIENCE).unwrap();
        let again = self.ended.recv_timeout(PATIENCE);
        assert_eq!(again, Err(RecvTimeoutError::Disconnected));
        ended
    }

    /// Starts calls, each into a separate probe.
    fn call(&self, calls: usize) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher::default());
        let spec = ProbeSpec::new("discord", "{}");
        let mut calls = (0..calls)
            .map(|sequence| AdmittedCall {
                probe: self.client.open(spec.clone(), HeldSecrets::default()),
                caller: Arc::<Watcher>::clone(&watcher),
                sequence: sequence as u64,
            })
            .collect();
        self.client.start(&mut calls);
        assert!(calls.is_empty());
        watcher
    }
}

/// Records the results of calls.
#[derive(Default)]
struct Watcher {
    keeps_reports: bool,
    started: Mutex<Vec<u64>>,
    finished: Mutex<Vec<(u64, Result<CheckReport, CallFailure>)>>,
    finished_same: Mutex<Vec<u64>>,
}

impl Watcher {
    /// Returns the one result of the one call.
    #[track_caller]
    fn one(&self) -> Result<CheckReport, CallFailure> {
        let finished = self.finished.lock().unwrap();
        assert_eq!(finished.len(), 1);
        finished[0].1.clone()
    }

    fn wait(&self, calls: usize) {
        let clock = Clock::start();
        while self.finished.lock().unwrap().len() < calls {
            assert!(clock.now() < PATIENCE, "waited in vain for {calls} ends");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl CallOwner for Watcher {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        self.started.lock().unwrap().push(sequence);
        Some(now + PATIENCE)
    }

    fn finished(
        &self,
        sequence: u64,
        _: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let result = result.cloned();
        let kept = self.keeps_reports && result.is_ok();
        self.finished.lock().unwrap().push((sequence, result));
        match kept {
            true => DeliveryOutcome::Kept,
            false => DeliveryOutcome::Yes,
        }
    }

    fn finished_same(&self, sequence: u64, _: Duration) -> DeliveryOutcome {
        self.finished_same.lock().unwrap().push(sequence);
        DeliveryOutcome::Kept
    }

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn loaded(schema: &str) -> FromWorker<String> {
    FromWorker::Loaded {
        schema: schema.to_owned(),
        metrics: r#"[{"name":"used","kind":"gauge","help":"x","labels":["mount"]}]"#.to_owned(),
        asynchronous: false,
        unconfined: Vec::new(),
    }
}

fn found(call: u64, status: u8, message: &str) -> CallResponse<String> {
    CallResponse {
        call,
        ended: 0,
        took: 1_000_000,
        result: CallResult::Report(WireReport {
            status,
            message: message.to_owned(),
            measurements: Vec::new(),
            declared: Vec::new(),
            dropped: 0,
        }),
    }
}

fn failed(call: u64, kind: ErrorType) -> CallResponse<String> {
    CallResponse {
        result: CallResult::Failure(WireFailure {
            kind: kind as u8,
            message: "no".to_owned(),
            violations: Vec::new(),
        }),
        ..found(call, 0, "")
    }
}

fn same(call: u64) -> CallResponse<String> {
    CallResponse {
        result: CallResult::Same,
        ..found(call, 0, "")
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn each_breach_of_the_protocol_ends_the_worker_and_fails_its_call_once() {
    type Breach = fn(&mut Fake);
    let breaches: &[(&str, Breach)] = &[
        (
            "sent a frame of 4294967295 bytes, at most 1048576 are allowed",
            |fake| {
                fake.write(&[0xff; 4]);
            },
        ),
        ("sent a frame that holds no message", |fake| {
            fake.write(&[2, 0, 0, 0, 1, 99])
        }),
        ("sent frame 0 where frame 1 was due", |fake| {
            fake.encoder = FrameEncoder::new(usize::MAX);
            fake.answer(found(0, 0, ""));
        }),
        ("sent text that is not UTF-8", |fake| {
            fake.write(&[6, 0, 0, 0, 1, 3, 3, 0, 1, 0xff])
        }),
        ("closed its connection to the host within a frame", |fake| {
            fake.write(&[200, 0, 0, 0, 1]);
            fake.socket.shutdown(std::net::Shutdown::Both).unwrap();
        }),
        (
            "closed its connection to the host, and was killed",
            |fake| {
                fake.socket.shutdown(std::net::Shutdown::Both).unwrap();
            },
        ),
        ("answered call 17, which was never made", |fake| {
            fake.answer(found(17, 0, ""))
        }),
        ("answered call 0 with status 3", |fake| {
            fake.answer(found(0, 3, ""))
        }),
        ("answered call 0 with error type 4", |fake| {
            let crash = ErrorType::Crash;
            assert_eq!(crash as u8, 3);
            fake.answer(failed(0, ErrorType::Load));
        }),
        (
            "answered call 0 with the last report, which the host does not have",
            |fake| fake.answer(same(0)),
        ),
        ("said twice whether its library is loaded", |fake| {
            fake.say(&loaded("{}"))
        }),
    ];
    for (message, breach) in breaches {
        let mut fake = Fake::loaded();
        let watcher = fake.call(1);
        breach(&mut fake);
        let ended = fake.end();
        assert_eq!(ended.kind, ErrorType::Protocol, "{message}");
        assert!(ended.message.starts_with(message), "{}", ended.message);
        let failure = watcher.one().unwrap_err();
        assert_eq!(failure.kind, ErrorType::Protocol, "{message}");
        assert!(failure.message.contains(message), "{failure}");
    }
}

#[test]
fn a_second_answer_ends_the_worker_and_the_first_one_counts() {
    let mut fake = Fake::loaded();
    let watcher = fake.call(1);
    let mut batch = Vec::new();
    for answer in [found(0, 0, "the first"), found(0, 2, "the second")] {
        add_to_batch(&FromWorker::Answer(answer), &mut batch).unwrap();
    }
    let mut bytes = Vec::new();
    fake.encoder.frame_batch(&batch, &mut bytes).unwrap();
    fake.write(&bytes);
    let ended = fake.end();
    assert_eq!(ended.message, "answered call 0 twice, and was killed");
    assert_eq!(watcher.one().unwrap().message, "the first");
}

#[test]
fn what_a_worker_reports_is_held_to_the_limits_of_reports() {
    let mut fake = Fake::loaded();
    let watcher = fake.call(1);
    let mut answer = found(0, 1, &"two\nlines".repeat(1000));
    let CallResult::Report(found) = &mut answer.result else {
        unreachable!()
    };
    found.measurements = vec![("a\u{1b}".to_owned(), f64::NAN); 5000];
    fake.answer(answer);
    watcher.wait(1);
    let report = watcher.one().unwrap();
    assert!(report.message.len() < crate::MAX_MESSAGE + 1000);
    assert!(report.message.starts_with("two\\nlines"));
    assert_eq!(report.measurements.len(), 1000);
    assert_eq!(report.measurements[0].0, "a\\u{1b}");
}

#[test]
fn the_report_that_the_caller_keeps_is_not_sent_again() {
    let mut fake = Fake::loaded();
    let probe = fake
        .client
        .open(ProbeSpec::new("discord", "{}"), HeldSecrets::default());
    let watcher = Arc::new(Watcher {
        keeps_reports: true,
        ..Watcher::default()
    });
    let mut sequence = 0;
    // Makes a call, and answers it with `first`, or with `again` if the host has the report of the call before; returns
    // `true` in that case.
    let mut call = |first: CallResponse<String>, again: CallResponse<String>| {
        sequence += 1;
        fake.client.start(&mut vec![AdmittedCall {
            probe,
            caller: Arc::<Watcher>::clone(&watcher),
            sequence,
        }]);
        let request = loop {
            if let ToWorker::Call(request) = fake.hear() {
                break request;
            }
        };
        let call = request.call;
        let answer = if request.known { again } else { first };
        fake.answer(CallResponse { call, ..answer });
        // Handled once the host has done everything for the answer.
        let mark = format!("after {sequence}");
        fake.say(&FromWorker::Log {
            level: 1,
            platform: None,
            text: mark.clone(),
        });
        while !fake.log.text().contains(&mark) {
            thread::yield_now();
        }
        request.known
    };
    assert!(!call(found(0, 0, "42 items"), same(0)), "the first");
    // Another test may add a secret meanwhile, which the report could contain: then it is sent again.
    let healthy = || found(0, 0, "42 items");
    let mut calls = (0..20).map(|_| call(healthy(), same(0)));
    assert!(calls.any(|known| known));
    assert!(calls.any(|known| known), "it is still the last report");
    call(failed(0, ErrorType::Error), failed(0, ErrorType::Error));
    assert!(!call(healthy(), same(0)), "the last result was a failure");
    assert!((0..20).any(|_| call(healthy(), same(0))));
    assert!(watcher.finished_same.lock().unwrap().len() >= 3);
    let all = watcher.finished.lock().unwrap();
    let mut reports = all.iter().filter_map(|(_, result)| result.as_ref().ok());
    assert!(reports.all(|report| report.message == "42 items"));
}

#[test]
fn calls_under_way_end_once_when_the_worker_is_gone_and_those_that_wait_are_left_to_a_successor() {
    let fake = Fake::loaded();
    let watcher = fake.call(5);
    assert_eq!(*watcher.started.lock().unwrap(), [0, 1]);
    fake.socket.shutdown(std::net::Shutdown::Both).unwrap();
    fake.end();
    watcher.wait(2);
    let mut finished = watcher.finished.lock().unwrap();
    finished.sort_by_key(|(sequence, _)| *sequence);
    let ends: Vec<_> = finished
        .iter()
        .map(|(sequence, end)| (*sequence, end.as_ref().unwrap_err().message.as_str()))
        .collect();
    let gone = "its worker closed its connection to the host, and was killed";
    let together = format!("{gone}; 2 calls were under way, any of them may be the cause");
    assert_eq!(ends, [(0, together.as_str()), (1, together.as_str())]);
    drop(finished);
    let late = fake.call(1);
    assert!(late.started.lock().unwrap().is_empty());
    assert_eq!(*watcher.started.lock().unwrap(), [0, 1]);
}

#[test]
fn an_answer_makes_room_for_the_calls_that_wait() {
    let mut fake = Fake::loaded();
    let watcher = fake.call(3);
    let mut asked = Vec::new();
    while asked.len() < 2 {
        if let ToWorker::Call(request) = fake.hear() {
            asked.push((request.call, request.probe));
        }
    }
    assert_eq!(asked, [(0, 0), (1, 1)]);
    fake.answer(failed(1, ErrorType::Panic));
    let ToWorker::Call(next) = fake.hear() else {
        panic!("a call was waiting");
    };
    assert_eq!(next.probe, 2);
    let failure = watcher.one().unwrap_err();
    assert_eq!((failure.kind, &*failure.message), (ErrorType::Panic, "no"));
}

#[test]
fn a_call_the_host_gave_up_is_cancelled_and_leaves_its_room() {
    let mut fake = Fake::loaded();
    let _watcher = fake.call(3);
    fake.client.abandoned(ProbeId(1));
    loop {
        if let ToWorker::Cancel { probe, call } = fake.hear() {
            assert_eq!((probe, call), (1, 1));
            break;
        }
    }
    fake.client.start(&mut Vec::new());
    assert!(matches!(fake.hear(), ToWorker::Call(next) if next.probe == 2));
}

#[test]
fn a_worker_that_does_not_read_holds_nobody_up_and_gets_everything_in_the_end() {
    let mut fake = Fake::loaded();
    let config: Arc<str> = format!("\"{}\"", "x".repeat(100_000)).into();
    for _ in 0..100 {
        let spec = ProbeSpec::new("discord", Arc::clone(&config));
        fake.client.open(spec, HeldSecrets::default());
    }
    assert!(fake.client.unsent() > 1 << 20, "the socket takes less");
    for nth in 0..100 {
        let ToWorker::Open { probe, config, .. } = fake.hear() else {
            panic!("nothing else was said");
        };
        assert_eq!((probe, config.len()), (nth, 100_002));
    }
}

#[test]
fn a_worker_is_told_the_secrets_of_its_platforms_before_their_probes_are_created() {
    redaction::learn(["open-sesame-of-this", "open-sesame-of-another"]);
    let mut fake = Fake::loaded();
    let config = r#"{"token":"Bearer open-sesame-of-this"}"#;
    let probe = fake
        .client
        .open(ProbeSpec::new("discord", config), HeldSecrets::default());
    // What was opened waits for a message that does not wait.
    fake.client.close(probe);
    let ToWorker::Open { secrets, .. } = fake.hear() else {
        panic!("nothing else was said");
    };
    assert_eq!(secrets, ["open-sesame-of-this"]);
}

#[test]
fn nothing_is_kept_of_probes_that_were_closed() {
    let mut fake = Fake::loaded();
    let open = |fake: &Fake, platform: &str| {
        let spec = ProbeSpec::new(platform, "{}");
        fake.client.open(spec, HeldSecrets::default())
    };
    let first = open(&fake, "stays");
    for nth in 0..2000 {
        let probe = open(&fake, &format!("of-{nth}"));
        fake.client.close(probe);
        while !matches!(fake.hear(), ToWorker::Close { .. }) {}
    }
    assert_eq!(fake.client.open_probes(), 1);
    assert!(!fake.client.knows("of-7"));
    // As during a change of its config.
    let second = open(&fake, "stays");
    fake.client.close(first);
    assert!(fake.client.knows("stays"));
    fake.client.close(second);
    assert!(!fake.client.knows("stays"));
}

#[test]
fn a_worker_that_never_reads_is_ended() {
    let fake = Fake::loaded();
    let config: Arc<str> = "x".repeat(8 << 20).into();
    for _ in 0..=client::MAX_UNSENT / config.len() {
        let spec = ProbeSpec::new("discord", Arc::clone(&config));
        fake.client.open(spec, HeldSecrets::default());
    }
    let ended = fake.end();
    assert_eq!(ended.message, "took no messages any more, and was killed");
    assert_eq!(fake.client.unsent(), 0);
}

#[test]
fn a_worker_that_was_asked_to_end_is_not_reported() {
    let mut fake = Fake::loaded();
    let watcher = fake.call(1);
    fake.client.end();
    while fake.hear() != ToWorker::End {}
    fake.answer(found(0, 0, "in time"));
    fake.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(
        fake.ended.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(watcher.one().unwrap().message, "in time");
}

#[test]
fn a_library_that_does_not_load_is_an_error_that_says_why() {
    let refused = |fake: &Fake| fake.loaded.recv_timeout(PATIENCE).unwrap().unwrap_err();

    let silent = Fake::start(Duration::from_millis(20));
    let error = refused(&silent);
    assert_eq!(error.kind, ErrorType::Timeout);
    assert_eq!(
        error.message,
        "its worker did not finish loading within 20ms, and was killed; a constructor of the library's hangs"
    );

    let mut dying = Fake::start(PATIENCE);
    let mut output = dying.output.take().unwrap();
    output
        .write_all(b"terminate called\nwithout a reason")
        .unwrap();
    dying.socket.shutdown(std::net::Shutdown::Both).unwrap();
    let error = refused(&dying);
    assert!(
        error.message.ends_with(
            "while it loaded the library; it printed: terminate called | without a reason"
        ),
        "{error}"
    );

    let mut unwilling = Fake::start(PATIENCE);
    unwilling.say(&FromWorker::Refused {
        kind: ErrorType::Abi as u8,
        message: "has 5 fields".to_owned(),
        detail: Some("a\nb".to_owned()),
    });
    let error = refused(&unwilling);
    assert_eq!(
        (error.kind, &*error.message),
        (ErrorType::Abi, "has 5 fields")
    );
    assert_eq!(error.detail.as_deref(), Some("a\nb"));

    let mut lying = Fake::start(PATIENCE);
    lying.say(&loaded("{"));
    let error = refused(&lying);
    assert_eq!(error.kind, ErrorType::Protocol);
    assert!(
        error.message.contains("its config schema is not JSON"),
        "{error}"
    );
    for fake in [silent, dying, unwilling, lying] {
        let never = fake.ended.recv_timeout(PATIENCE);
        assert_eq!(never, Err(RecvTimeoutError::Disconnected));
    }
}

#[test]
fn what_a_worker_prints_and_logs_is_logged_within_limits() {
    let mut fake = Fake::loaded();
    fake.client
        .open(ProbeSpec::new("discord", "{}"), HeldSecrets::default());
    let mut output = fake.output.take().unwrap();
    output.write_all(b"\x1b[31mred\n").unwrap();
    fake.say(&FromWorker::Log {
        level: 2,
        platform: Some("made up".to_owned()),
        text: "of no platform".to_owned(),
    });
    output.write_all(&b"again\n".repeat(5000)).unwrap();
    output.write_all(b"half a line").unwrap();
    for nth in 0..1000 {
        fake.say(&FromWorker::Log {
            level: 2,
            platform: Some("discord".to_owned()),
            text: format!("event {nth}\n"),
        });
    }
    fake.say(&FromWorker::Log {
        level: 1,
        platform: None,
        text: "an error after the flood".to_owned(),
    });
    fake.say(&FromWorker::Dropped {
        lines: 1_000_000,
        errors: 7,
    });
    drop(output);
    fake.socket.shutdown(std::net::Shutdown::Both).unwrap();
    fake.end();
    let log = fake.log.text();
    assert!(
        log.contains("INFO plugin: \\u{1b}[31mred plugin=\"fake\""),
        "{log}"
    );
    assert!(
        log.contains("WARN plugin: event 0\\n plugin=\"fake\" platform=\"discord\""),
        "{log}"
    );
    assert!(
        log.contains("of no platform plugin=\"fake\"\n"),
        "it has no probe of a platform of that name: {log}"
    );
    // 200 at once, and one more for each 10 ms that this took.
    let printed = log.matches("again").count();
    assert!((199..2000).contains(&printed), "{printed}");
    let logged = log.matches("event").count();
    assert!((199..900).contains(&logged), "{logged}");
    assert!(log.contains("prints too much: "), "{log}");
    assert!(log.contains("logs too much: "), "{log}");
    assert!(log.contains("an error after the flood"), "{log}");
    let all = |what: &str| -> u64 {
        let rest = log.split(what).skip(1);
        let counts = rest.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap());
        counts.sum()
    };
    assert_eq!(printed as u64 + all("prints too much: "), 5000, "{log}");
    assert_eq!(logged as u64 + all("logs too much: "), 1_001_000, "{log}");
    assert!(log.contains(", 7 of them errors"), "{log}");
}

#[test]
fn a_message_names_its_file_once() {
    for said in ["x.so: it is too long", "it is too long"] {
        assert_eq!(from_file("x.so", said.to_owned()), "x.so: it is too long");
    }
    assert_eq!(
        from_file("x.so", "x.so.1 is gone".to_owned()),
        "x.so: x.so.1 is gone"
    );
}

#[test]
fn a_worker_of_another_build_gets_no_library_and_is_named_with_the_cure() {
    let other = "conductor 9.9.9 (build 0123456789abcdef)";
    let mut bytes = other.as_bytes().to_vec();
    bytes.resize(protocol::GREETING, b' ');
    let fake = Fake::greeted(PATIENCE, &bytes);
    let error = fake.loaded.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorType::Load);
    let expected = format!(
        "is of {other}, but this host is conductor {}: install both programs from the same release, then restart the \
         host",
        protocol::BUILD
    );
    assert!(error.message.ends_with(&expected), "{}", error.message);
}

#[test]
fn opened_probes_wait_for_a_call_and_a_closed_one_for_nothing() {
    let mut fake = Fake::loaded();
    let spec = ProbeSpec::new("discord", "{}");
    let first = fake.client.open(spec.clone(), HeldSecrets::default());
    let _second = fake.client.open(spec, HeldSecrets::default());
    assert!(fake.client.unsent() > 0);
    // Behind unsent messages as well.
    fake.client.close(first);
    for _ in 0..2 {
        assert!(matches!(fake.hear(), ToWorker::Open { .. }));
    }
    let probe = first.0 as u64;
    assert_eq!(fake.hear(), ToWorker::Close { probe });
}

/// A state that the host writes.
struct HostStates(Mutex<Vec<u8>>);

impl ProbeStates for HostStates {
    fn load(&self, _: &str) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn store(&self, _: &str, _: &[u8]) {}

    fn is_written_by_host(&self, platform: &str) -> bool {
        platform == "backup"
    }
}

#[test]
fn a_worker_gets_the_state_that_the_host_writes_before_each_call() {
    let mut fake = Fake::loaded();
    let states = Arc::new(HostStates(Mutex::new(b"one".to_vec())));
    let watcher = Arc::new(Watcher::default());
    let open = |fake: &Fake, platform: &str| {
        let spec = ProbeSpec {
            states: Arc::clone(&states) as _,
            ..ProbeSpec::new(platform, "{}")
        };
        fake.client.open(spec, HeldSecrets::default())
    };
    let call = |fake: &Fake, probe, sequence| {
        let caller: Arc<dyn CallOwner> = Arc::<Watcher>::clone(&watcher);
        let call = AdmittedCall {
            probe,
            caller,
            sequence,
        };
        fake.client.start(&mut vec![call]);
    };
    let backup = open(&fake, "backup");
    let disk = open(&fake, "disk");
    *states.0.lock().unwrap() = b"two".to_vec();
    call(&fake, disk, 0);
    call(&fake, backup, 1);
    for platform in ["backup", "disk"] {
        let opened = fake.hear();
        let is_it = matches!(&opened, ToWorker::Open { platform: name, state, .. } if name == platform && state == b"one");
        assert!(is_it, "{opened:?}");
    }
    let two = ToWorker::State {
        platform: "backup".to_owned(),
        state: b"two".to_vec(),
    };
    assert!(matches!(fake.hear(), ToWorker::Call(request) if request.probe == disk.number()));
    assert_eq!(fake.hear(), two);
    assert!(matches!(fake.hear(), ToWorker::Call(request) if request.probe == backup.number()));
}
