//! The validator's side of a test in its own process: starts it, reads its messages, and reports its end.

use std::{
    env::consts::DLL_SUFFIX,
    io::{self, Read as _},
    path::{Path, PathBuf},
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
    redaction, room_for_stacks,
};
use conductor_sandbox as sandbox;
use conductor_sandbox::UndeclaredNeed;
use conductor_types::Isolation;
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use self::linux::TestChild;
#[cfg(windows)]
use self::windows::TestChild;
#[cfg(target_os = "linux")]
use super::needs::PluginProgress;
use super::{
    TestPlatform,
    advice::LanguageAdvice,
    catalogue::{InProcess, PluginTest, TestMethod},
    child::{TestConfinement, TestOrder, TestProcessMessage},
    report::OfTest,
    verdict::{TestStatus, TestVerdict},
};

#[cfg(target_os = "linux")]
mod comparison;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

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
        let second = folder.path().join(format!("second{DLL_SUFFIX}"));
        std::fs::copy(&vetted.path, &second).map_err(TestEnvironmentError::NoPlace)?;
        let language = std::fs::read(&vetted.path)
            .map(|bytes| PluginLanguage::of(vetted.manifest.door, &bytes))
            .map_err(TestEnvironmentError::NoPlace)?;
        let allow = (!allow.is_empty()).then(|| [&*vetted.manifest.needs, allow].concat());
        let mut capabilities = sandbox::capabilities(&vetted.manifest.needs, allow.as_deref())?;
        capabilities.read.push(second.clone());
        let limits = sandbox::WorkerLimits::default();
        let policy = sandbox::SandboxPolicy {
            capabilities,
            library: Some(vetted.path.clone()),
            stacks: room_for_stacks(&limits),
            limits,
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
        platform: &TestPlatform,
        seed: u64,
        keep_sandbox: bool,
    ) -> OfTest {
        let runner = TestRunner {
            scene: self,
            test,
            platform,
            seed,
        };
        let how = match test.how {
            TestMethod::Process(how) => how,
            TestMethod::Worker => {
                let verdict = self.load_in_a_worker();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            #[cfg(target_os = "linux")]
            TestMethod::Needs if keep_sandbox => {
                return OfTest::skipped(test, "it is not run without the sandbox (--keep-sandbox)");
            }
            #[cfg(target_os = "linux")]
            TestMethod::Needs => {
                let verdict = runner.needs();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            #[cfg(windows)]
            TestMethod::Unavailable(why) => return OfTest::skipped(test, why),
            TestMethod::File(_) => return OfTest::skipped(test, "needs no process"),
        };
        let ended = match runner.start(self.declared()) {
            Ok(running) => running.end(test.limit, self.language),
            Err(verdict) => return OfTest::new(test, verdict),
        };
        let verdict = judge(
            how,
            self.language,
            ended.verdict,
            &ended.stdout,
            &ended.stderr,
        );
        // A plugin that fails to load never gets to the test of needs.
        #[cfg(target_os = "linux")]
        let verdict = match test.level {
            2 if how.is_gate && verdict.status.is_bad() && !keep_sandbox => runner
                .loads_without_the_sandbox(&verdict)
                .unwrap_or(verdict),
            _ => verdict,
        };
        // Without a sandbox there is nothing to keep.
        #[cfg(windows)]
        let _ = keep_sandbox;
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
    platform: &'a TestPlatform,
    seed: u64,
}

impl TestRunner<'_> {
    fn start(&self, confinement: TestConfinement) -> Result<TestProcess, TestVerdict> {
        let (scene, config) = (self.scene, &self.platform.config);
        let order = TestOrder {
            test: self.test.id.to_owned(),
            path: scene.vetted.path.clone(),
            second: scene.second.clone(),
            origin: printable::path(&scene.vetted.origin),
            manifest: ManifestFacts::of(&scene.vetted.manifest),
            policy: scene.policy.clone(),
            confinement,
            language: scene.language,
            secrets: match config {
                Some(config) => redaction::within(&config.to_string()),
                None => Vec::new(),
            },
            platform: self.platform.clone(),
            seed: self.seed,
        };
        TestProcess::start(&order).map_err(|error| {
            TestVerdict::untested(format!("its process cannot be started: {error}"))
        })
    }
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
    #[cfg(windows)]
    if how.runs_exit_code && verdict.status.is_bad() {
        return TestVerdict {
            found: format!(
                "{} while its DllMain handles DLL_PROCESS_DETACH",
                verdict.found
            ),
            cure: "do nothing in DllMain at DLL_PROCESS_DETACH, nor in static destructors: the other threads are gone by then, and locks they held stay locked".to_owned(),
            ..verdict
        };
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
    #[cfg(target_os = "linux")]
    stage: PluginProgress,
    stdout: String,
    stderr: String,
}

#[cfg(target_os = "linux")]
impl TestProcessEnd {
    /// Returns the plugin's progress and its last message.
    fn said(&self) -> (PluginProgress, &str) {
        (self.stage, &self.verdict.found)
    }
}

/// A test's process.
struct TestProcess {
    child: TestChild,
    stdout: PipeOutput,
    stderr: PipeOutput,
    clock: Clock,
}

impl TestProcess {
    fn start(order: &TestOrder) -> io::Result<Self> {
        let clock = Clock::start();
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        Ok(Self {
            child: TestChild::start(order, their_stdout, their_stderr, clock)?,
            stdout: PipeOutput::new(stdout),
            stderr: PipeOutput::new(stderr),
            clock,
        })
    }

    /// Waits for its end, at most for `limit`.
    fn end(mut self, limit: Duration, language: PluginLanguage) -> TestProcessEnd {
        let crash = LanguageAdvice::Crash.in_language(language);
        #[cfg(target_os = "linux")]
        let mut stage = PluginProgress::default();
        let (mut doing, mut verdict, mut late) = (String::new(), None, false);
        loop {
            let left = limit.saturating_sub(self.clock.now());
            if left.is_zero() {
                late = true;
                break;
            }
            let Ok(received) = self.child.receive(left) else {
                break;
            };
            let Some(line) = received else {
                continue;
            };
            match serde_json::from_str(&line) {
                Ok(TestProcessMessage::Doing(what)) => doing = what,
                #[cfg(target_os = "linux")]
                Ok(TestProcessMessage::Reached(so_far)) => stage = stage.max(so_far),
                Ok(TestProcessMessage::Secrets(secrets)) => {
                    redaction::learn(secrets.iter().map(String::as_str));
                }
                Ok(TestProcessMessage::Verdict(said)) => {
                    verdict = Some(said);
                    break;
                }
                Err(_) => break,
            }
        }
        let grace = if late { Duration::ZERO } else { GRACE };
        let exit = self.child.end(grace);
        let at = match &*doing {
            "" => String::new(),
            doing => format!(" while {doing}"),
        };
        let verdict = match verdict {
            Some(verdict) if exit.by_itself && exit.is_success => verdict,
            Some(verdict) if verdict.status.is_bad() => verdict,
            Some(_) if exit.by_itself => TestVerdict::new(
                TestStatus::Crashed,
                format!("its process {} at the end of the test", exit.text),
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
                format!("its process {}{at}", exit.text),
                crash,
            ),
        };
        TestProcessEnd {
            verdict,
            #[cfg(target_os = "linux")]
            stage,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }
}

/// The exit of a test's process.
struct ProcessExit {
    /// `true` if it was not killed.
    by_itself: bool,
    /// `true` if it exited with code 0.
    is_success: bool,
    /// As a phrase.
    text: String,
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
