//! The validator's side of a test in its own process: starts it, reads its messages, and reports its end.

use std::{
    cmp::Ordering,
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_library as library;
use conductor_library::{FileRefusal, PluginLanguage, Store, TrustPolicy, Vetted, printable};
use conductor_plugin_api::manifest::Need;
use conductor_runtime::{
    LoadedPlugin as _,
    loader::{self, GenerationSettings as HowToLoad},
    protocol::messages::ManifestFacts,
    redaction,
    worker::{RUNTIME, describe_end},
};
use conductor_sandbox as sandbox;
use conductor_sandbox::UndeclaredNeed;
use conductor_types::Isolation;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

pub use super::child::child_main;
use super::{
    advice::LanguageAdvice,
    catalogue::{InProcess, PluginTest, TestMethod},
    child::{TestConfinement, TestOrder, TestProcessMessage},
    needs::{self, MissingNeeds, PluginProgress, SandboxEffect},
    report::OfTest,
    verdict::{TestStatus, TestVerdict},
};

/// The reason why the tests of a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum TestEnvironmentError {
    /// Without the error's own text, which contains a random name.
    #[error(
        "there is no place for private copies in {} ({}): name another folder with TMPDIR",
        std::env::temp_dir().display(),
        .0.kind()
    )]
    NoPlace(#[source] io::Error),
    #[error(transparent)]
    Refused(#[from] FileRefusal),
    #[error(transparent)]
    Undeclared(#[from] UndeclaredNeed),
}

/// The environment of a file's tests: a vetted private copy, and a second one under another path.
pub(super) struct TestEnvironment {
    vetted: Vetted,
    second: PathBuf,
    policy: sandbox::SandboxPolicy,
    allow: Option<Vec<Need>>,
    language: PluginLanguage,
    _store: Store,
    _folder: TempDir,
}

impl TestEnvironment {
    /// Returns the scene in `place`, creating it at the first call.
    pub(super) fn prepared<'a>(
        place: &'a mut Option<Self>,
        file: &Path,
        allow: &[Need],
    ) -> Result<&'a Self, TestEnvironmentError> {
        if place.is_none() {
            *place = Some(Self::new(file, allow)?);
        }
        place.as_ref().ok_or_else(|| unreachable!("made above"))
    }

    fn new(file: &Path, allow: &[Need]) -> Result<Self, TestEnvironmentError> {
        let folder = tempfile::tempdir().map_err(TestEnvironmentError::NoPlace)?;
        let store = Store::open(folder.path())?;
        let vetted = library::vet(file, &TrustPolicy::none(), &store)?;
        let second = folder.path().join("second.so");
        std::fs::copy(&vetted.path, &second).map_err(TestEnvironmentError::NoPlace)?;
        let language = std::fs::read(&vetted.path)
            .map(|bytes| PluginLanguage::of(vetted.manifest.door, &bytes))
            .map_err(TestEnvironmentError::NoPlace)?;
        let allow = (!allow.is_empty()).then(|| [&*vetted.manifest.needs, allow].concat());
        let mut capabilities = sandbox::capabilities(&vetted.manifest.needs, allow.as_deref())?;
        capabilities.read.push(second.clone());
        let policy = sandbox::SandboxPolicy {
            capabilities,
            library: Some(vetted.path.clone()),
            ..sandbox::SandboxPolicy::default()
        };
        Ok(Self {
            vetted,
            second,
            policy,
            allow,
            language,
            _store: store,
            _folder: folder,
        })
    }

    /// Runs one test, and judges the end of its process.
    ///
    /// A test that fails in the sandbox is repeated without it unless `keep_sandbox`: if only that works, the plugin
    /// has an undeclared need.
    pub(super) fn run(
        &self,
        test: &'static PluginTest,
        config: Option<&serde_json::Value>,
        seed: u64,
        keep_sandbox: bool,
    ) -> OfTest {
        let runner = TestRunner {
            scene: self,
            test,
            config,
            seed,
        };
        let how = match test.how {
            TestMethod::Process(how) => how,
            TestMethod::Worker => {
                let verdict = self.load_in_a_worker();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            TestMethod::Needs if keep_sandbox => {
                return OfTest::skipped(test, "it is not run without the sandbox (--keep-sandbox)");
            }
            TestMethod::Needs => {
                let verdict = runner.needs();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            TestMethod::File(_) => return OfTest::skipped(test, "needs no process"),
        };
        let ended = match runner.start(self.declared()) {
            Ok(running) => running.end(test.limit, self.language),
            Err(verdict) => return OfTest::new(test, verdict),
        };
        let mut verdict = judge(
            how,
            self.language,
            ended.verdict,
            &ended.stdout,
            &ended.stderr,
        );
        // A plugin that fails to load never gets to the test of needs.
        if test.level == 2 && how.is_gate && verdict.status.is_bad() && !keep_sandbox {
            verdict = runner
                .loads_without_the_sandbox(&verdict)
                .unwrap_or(verdict);
        }
        let blocks = how.is_gate && verdict.is_bad();
        let output = [ended.stdout, ended.stderr].concat();
        OfTest::new(test, verdict).printed(output).blocking(blocks)
    }

    fn declared(&self) -> TestConfinement {
        TestConfinement::Sandbox(self.policy.capabilities.clone())
    }

    /// Loads the library as a host does, with the host's limits on time and size.
    fn load_in_a_worker(&self) -> TestVerdict {
        let how = HowToLoad {
            no_udp: false,
            isolation: Isolation::Process,
            call_threads: 1,
            limits: sandbox::WorkerLimits::default(),
            allow: self.allow.clone(),
            hidden: Vec::new(),
        };
        match loader::throw_away(&self.vetted, &how, Clock::start()) {
            Ok(worker) => {
                worker.end();
                TestVerdict::passed("")
            }
            Err(error) => {
                // Its message ends with the cure, and an author can shorten the schema.
                let (found, cure) = match error.message.rsplit_once("; ") {
                    Some((found, _)) if error.message.contains("config schema") => (
                        found,
                        LanguageAdvice::ShortSchema.in_language(self.language),
                    ),
                    Some((found, cure)) => (found, cure),
                    None => (
                        &*error.message,
                        LanguageAdvice::Crash.in_language(self.language),
                    ),
                };
                TestVerdict::failed(format!("a host does not load it: {found}"), cure)
            }
        }
    }
}

/// One test of one library, with repetitions.
struct TestRunner<'a> {
    scene: &'a TestEnvironment,
    test: &'static PluginTest,
    config: Option<&'a serde_json::Value>,
    seed: u64,
}

impl TestRunner<'_> {
    fn start(&self, confinement: TestConfinement) -> Result<TestProcess, TestVerdict> {
        let (scene, config) = (self.scene, self.config);
        let order = TestOrder {
            test: self.test.id.to_owned(),
            path: scene.vetted.path.clone(),
            second: scene.second.clone(),
            origin: printable::path(&scene.vetted.origin),
            manifest: ManifestFacts::of(&scene.vetted.manifest),
            policy: scene.policy.clone(),
            confinement,
            language: scene.language,
            secrets: config.map_or_else(Vec::new, |it| redaction::within(&it.to_string())),
            config: config.cloned(),
            seed: self.seed,
        };
        TestProcess::start(&order).map_err(|error| {
            TestVerdict::untested(format!("its process cannot be started: {error}"))
        })
    }

    fn ended(&self, confinement: TestConfinement) -> Result<TestProcessEnd, TestVerdict> {
        Ok(self
            .start(confinement)?
            .end(self.test.limit, self.scene.language))
    }

    /// Tests if the plugin gets further without the sandbox, and finds the missing needs.
    fn needs(&self) -> TestVerdict {
        self.compare().unwrap_or_else(|verdict| verdict)
    }

    fn compare(&self) -> Result<TestVerdict, TestVerdict> {
        let declared = self.scene.declared();
        let held = self.ended(declared.clone())?;
        if held.verdict.untested {
            return Err(held.verdict);
        }
        if held.stage == PluginProgress::Healthy {
            return Ok(TestVerdict::passed(""));
        }
        let free = self.ended(TestConfinement::Free)?;
        let effect = match free.stage.cmp(&held.stage) {
            Ordering::Greater => SandboxEffect::ComesFurther,
            Ordering::Equal if free.said() != held.said() => SandboxEffect::SaysSomethingElse,
            _ => return Ok(no_better(&held)),
        };
        let is_as_good = |ended: &TestProcessEnd| match effect {
            SandboxEffect::ComesFurther => ended.stage >= free.stage,
            SandboxEffect::SaysSomethingElse => ended.said() == free.said(),
        };
        // Repeat it: a difference that comes and goes is no need.
        let again = self.ended(declared)?;
        let is_reproducible = match effect {
            SandboxEffect::ComesFurther => true,
            SandboxEffect::SaysSomethingElse => {
                again.said() == held.said() && is_as_good(&self.ended(TestConfinement::Free)?)
            }
        };
        if is_as_good(&again) || !is_reproducible {
            return Ok(no_better(&held));
        }
        let capabilities = &self.scene.policy.capabilities;
        let lacks = needs::search(capabilities, Clock::start(), &mut |how| {
            let ended = self.ended(how.clone());
            ended.is_ok_and(|ended| is_as_good(&ended))
        });
        if effect == SandboxEffect::SaysSomethingElse && !matches!(lacks, MissingNeeds::Needs(_)) {
            // Another message that no need changes, such as one about the sandbox itself.
            return Ok(no_better(&held));
        }
        Ok(needs::judge(
            effect,
            &lacks,
            &held.verdict.found,
            &free.verdict.found,
            self.config,
            self.scene.language,
        ))
    }

    /// Returns the needs missing at load time, if the library loads without the sandbox.
    fn loads_without_the_sandbox(&self, held: &TestVerdict) -> Option<TestVerdict> {
        let works = |how: TestConfinement| {
            let ended = self.ended(how);
            ended.is_ok_and(|ended| !ended.verdict.is_bad())
        };
        if !works(TestConfinement::Free) || works(self.scene.declared()) {
            return None;
        }
        let capabilities = &self.scene.policy.capabilities;
        let lacks = needs::search(capabilities, Clock::start(), &mut |how| works(how.clone()));
        let (config, language) = (self.config, self.scene.language);
        Some(needs::judge(
            SandboxEffect::ComesFurther,
            &lacks,
            &held.found,
            "it loads",
            config,
            language,
        ))
    }
}

fn no_better(held: &TestProcessEnd) -> TestVerdict {
    let said = &held.verdict.found;
    TestVerdict::passed(format!("no better without the sandbox: {said}"))
}

/// Output is no part of a verdict, except in tests that forbid it.
fn judge(
    how: InProcess,
    language: PluginLanguage,
    verdict: TestVerdict,
    stdout: &str,
    stderr: &str,
) -> TestVerdict {
    if how.may_die && verdict.status == TestStatus::Crashed {
        return TestVerdict::warning(
            verdict.found,
            LanguageAdvice::LowMemory.in_language(language),
        );
    }
    if !how.is_quiet || verdict.status.is_bad() {
        return verdict;
    }
    let begin = |text: &str| {
        let line = text.lines().find(|line| !line.trim().is_empty());
        format!(
            "{:?}",
            line.unwrap_or_default()
                .chars()
                .take(60)
                .collect::<String>()
        )
    };
    if !stdout.is_empty() {
        return TestVerdict::failed(
            format!("it printed {} to standard output", begin(stdout)),
            LanguageAdvice::Log.in_language(language),
        );
    }
    if !stderr.is_empty() {
        return TestVerdict::failed(
            format!("it printed {} to standard error", begin(stderr)),
            LanguageAdvice::Log.in_language(language),
        );
    }
    verdict
}

/// The end of a test's process, and its output.
struct TestProcessEnd {
    verdict: TestVerdict,
    stage: PluginProgress,
    stdout: String,
    stderr: String,
}

impl TestProcessEnd {
    /// Returns the plugin's progress and its last message.
    fn said(&self) -> (PluginProgress, &str) {
        (self.stage, &self.verdict.found)
    }
}

/// A test's process.
struct TestProcess {
    child: Child,
    talk: UnixStream,
    stdout: PipeOutput,
    stderr: PipeOutput,
    clock: Clock,
}

impl TestProcess {
    fn start(order: &TestOrder) -> io::Result<Self> {
        let (mut talk, theirs) = UnixStream::pair()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(OsStr::new("plugin-test"))
            .envs(RUNTIME)
            .stdin(OwnedFd::from(theirs))
            .stdout(their_stdout)
            .stderr(their_stderr)
            // So that processes it starts can be found and ended.
            .process_group(0);
        let child = command.spawn()?;
        // Its write ends would keep the pipes open.
        drop(command);
        let order = serde_json::to_string(order).map_err(io::Error::other)?;
        talk.write_all(format!("{order}\n").as_bytes())?;
        Ok(Self {
            child,
            talk,
            stdout: PipeOutput::new(stdout),
            stderr: PipeOutput::new(stderr),
            clock: Clock::start(),
        })
    }

    /// Waits for its end, at most for `limit`.
    fn end(mut self, limit: Duration, language: PluginLanguage) -> TestProcessEnd {
        let crash = LanguageAdvice::Crash.in_language(language);
        let mut stage = PluginProgress::default();
        let (mut doing, mut verdict, mut late) = (String::new(), None, false);
        let mut lines = BufReader::new(&self.talk);
        loop {
            let left = limit.saturating_sub(self.clock.now());
            if left.is_zero() {
                late = true;
                break;
            }
            // The read can also time out within a line, and lose its beginning: the test is late by then anyway.
            let mut line = String::new();
            let read = self
                .talk
                .set_read_timeout(Some(left))
                .and_then(|()| lines.read_line(&mut line));
            match (read, serde_json::from_str(&line)) {
                (Ok(0), _) => break,
                (Ok(_), Ok(TestProcessMessage::Doing(what))) => doing = what,
                (Ok(_), Ok(TestProcessMessage::Reached(so_far))) => stage = stage.max(so_far),
                (Ok(_), Ok(TestProcessMessage::Verdict(said))) => {
                    verdict = Some(said);
                    break;
                }
                (Err(e), _) if e.kind() == io::ErrorKind::WouldBlock => {}
                (Err(_), _) | (Ok(_), Err(_)) => break,
            }
        }
        let grace = if late { Duration::ZERO } else { GRACE };
        let (status, ended) = wait_or_kill(&mut self.child, grace, self.clock);
        let at = match &*doing {
            "" => String::new(),
            doing => format!(" while {doing}"),
        };
        let verdict = match verdict {
            Some(verdict) if ended && status.is_some_and(|status| status.success()) => verdict,
            Some(verdict) if verdict.status.is_bad() => verdict,
            Some(_) if ended => TestVerdict::new(
                TestStatus::Crashed,
                format!(
                    "its process {} at the end of the test",
                    describe_end(status)
                ),
                crash,
            ),
            Some(_) => {
                TestVerdict::failed("its process does not end", "end what the probe has started")
            }
            None if late => TestVerdict::failed(
                format!("did not end within {} s{at}", limit.as_secs()),
                "every call must come back by its deadline; loading and dropping have to be quick",
            ),
            None => TestVerdict::new(
                TestStatus::Crashed,
                format!("its process {}{at}", describe_end(status)),
                crash,
            ),
        };
        TestProcessEnd {
            verdict,
            stage,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }
}

/// Kills it and its process group; returns its exit status, and `true` if it ended by itself.
fn wait_or_kill(child: &mut Child, grace: Duration, clock: Clock) -> (Option<ExitStatus>, bool) {
    let until = clock.now() + grace;
    let mut status = child.try_wait().ok().flatten();
    while status.is_none() && clock.now() < until {
        thread::sleep(Duration::from_millis(2));
        status = child.try_wait().ok().flatten();
    }
    let ended = status.is_some();
    // Until it was waited for, its process ID is not reused, nor is the group's while it has members.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    (status.or_else(|| child.wait().ok()), ended)
}

/// The output of a pipe, up to a limit.
struct PipeOutput {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: mpsc::Receiver<()>,
}

impl PipeOutput {
    fn new(mut pipe: io::PipeReader) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (alive, done) = mpsc::channel();
        let kept = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                // So that a secret which starts within the shown part is complete.
                let keep = MAX_PRINTED + redaction::longest();
                let room = keep.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..read.min(room)]);
            }
            drop(alive);
        });
        Self { bytes, done }
    }

    /// Returns all output; does not wait for later output of the test's orphans.
    fn text(&self) -> String {
        let _ = self.done.recv_timeout(Duration::from_millis(500));
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |c: char| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        };
        let bytes = redaction::beginning(&bytes, MAX_PRINTED);
        String::from_utf8_lossy(&bytes).chars().map(shown).collect()
    }
}

/// Time that a process may take to exit once its test is over.
const GRACE: Duration = Duration::from_secs(3);
/// Limit of a test's output, in bytes.
const MAX_PRINTED: usize = 64 << 10;
