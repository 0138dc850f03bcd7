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
use conductor_library::{Language, Policy, Refusal, Store, Vetted, printable};
use conductor_plugin_api::manifest::Need;
use conductor_runtime::{
    LoadedPlugin as _,
    loader::{self, How as HowToLoad},
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
    advice::Advice,
    catalogue::{How, InProcess, Test},
    child::{Confinement, Order, Said},
    needs::{self, Effect, Lacks, Stage},
    report::OfTest,
    verdict::{Status, Verdict},
};

/// The reason why the tests of a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum SceneError {
    /// Without the error's own text, which contains a random name.
    #[error(
        "there is no place for private copies in {} ({}): name another folder with TMPDIR",
        std::env::temp_dir().display(),
        .0.kind()
    )]
    NoPlace(#[source] io::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Undeclared(#[from] UndeclaredNeed),
}

/// The place where a file's tests run: a vetted private copy, and a second one under another path.
pub(super) struct Scene {
    vetted: Vetted,
    second: PathBuf,
    policy: sandbox::Policy,
    allow: Option<Vec<Need>>,
    language: Language,
    _store: Store,
    _folder: TempDir,
}

impl Scene {
    /// Returns the scene in `place`, creating it at the first call.
    pub(super) fn prepared<'a>(
        place: &'a mut Option<Self>,
        file: &Path,
        allow: &[Need],
    ) -> Result<&'a Self, SceneError> {
        if place.is_none() {
            *place = Some(Self::new(file, allow)?);
        }
        place.as_ref().ok_or_else(|| unreachable!("made above"))
    }

    fn new(file: &Path, allow: &[Need]) -> Result<Self, SceneError> {
        let folder = tempfile::tempdir().map_err(SceneError::NoPlace)?;
        let store = Store::open(folder.path())?;
        let vetted = library::vet(file, &Policy::none(), &store)?;
        let second = folder.path().join("second.so");
        std::fs::copy(&vetted.path, &second).map_err(SceneError::NoPlace)?;
        let language = std::fs::read(&vetted.path)
            .map(|bytes| Language::of(vetted.manifest.door, &bytes))
            .map_err(SceneError::NoPlace)?;
        let allow = (!allow.is_empty()).then(|| [&*vetted.manifest.needs, allow].concat());
        let mut capabilities = sandbox::capabilities(&vetted.manifest.needs, allow.as_deref())?;
        capabilities.read.push(second.clone());
        let policy = sandbox::Policy {
            capabilities,
            library: Some(vetted.path.clone()),
            ..sandbox::Policy::default()
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
        test: &'static Test,
        config: Option<&serde_json::Value>,
        seed: u64,
        keep_sandbox: bool,
    ) -> OfTest {
        let runner = Runner {
            scene: self,
            test,
            config,
            seed,
        };
        let how = match test.how {
            How::Process(how) => how,
            How::Worker => {
                let verdict = self.load_in_a_worker();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            How::Needs if keep_sandbox => {
                return OfTest::skipped(test, "it is not run without the sandbox (--keep-sandbox)");
            }
            How::Needs => {
                let verdict = runner.needs();
                let blocks = verdict.is_bad();
                return OfTest::new(test, verdict).blocking(blocks);
            }
            How::File(_) => return OfTest::skipped(test, "needs no process"),
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

    fn declared(&self) -> Confinement {
        Confinement::Sandbox(self.policy.capabilities.clone())
    }

    /// Loads the library as a host does, with the host's limits on time and size.
    fn load_in_a_worker(&self) -> Verdict {
        let how = HowToLoad {
            no_udp: false,
            isolation: Isolation::Process,
            call_threads: 1,
            limits: sandbox::Limits::default(),
            allow: self.allow.clone(),
            hidden: Vec::new(),
        };
        match loader::throw_away(&self.vetted, &how, Clock::start()) {
            Ok(worker) => {
                worker.end();
                Verdict::passed("")
            }
            Err(error) => {
                // Its message ends with the cure, and an author can shorten the schema.
                let (found, cure) = match error.message.rsplit_once("; ") {
                    Some((found, _)) if error.message.contains("config schema") => {
                        (found, Advice::ShortSchema.in_language(self.language))
                    }
                    Some((found, cure)) => (found, cure),
                    None => (&*error.message, Advice::Crash.in_language(self.language)),
                };
                Verdict::failed(format!("a host does not load it: {found}"), cure)
            }
        }
    }
}

/// One test of one library, with repetitions.
struct Runner<'a> {
    scene: &'a Scene,
    test: &'static Test,
    config: Option<&'a serde_json::Value>,
    seed: u64,
}

impl Runner<'_> {
    fn start(&self, confinement: Confinement) -> Result<Running, Verdict> {
        let (scene, config) = (self.scene, self.config);
        let order = Order {
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
        Running::start(&order)
            .map_err(|error| Verdict::untested(format!("its process cannot be started: {error}")))
    }

    fn ended(&self, confinement: Confinement) -> Result<Ended, Verdict> {
        Ok(self
            .start(confinement)?
            .end(self.test.limit, self.scene.language))
    }

    /// Tests if the plugin gets further without the sandbox, and finds the missing needs.
    fn needs(&self) -> Verdict {
        self.compare().unwrap_or_else(|verdict| verdict)
    }

    fn compare(&self) -> Result<Verdict, Verdict> {
        let declared = self.scene.declared();
        let held = self.ended(declared.clone())?;
        if held.verdict.untested {
            return Err(held.verdict);
        }
        if held.stage == Stage::Healthy {
            return Ok(Verdict::passed(""));
        }
        let free = self.ended(Confinement::Free)?;
        let effect = match free.stage.cmp(&held.stage) {
            Ordering::Greater => Effect::ComesFurther,
            Ordering::Equal if free.said() != held.said() => Effect::SaysSomethingElse,
            _ => return Ok(no_better(&held)),
        };
        let is_as_good = |ended: &Ended| match effect {
            Effect::ComesFurther => ended.stage >= free.stage,
            Effect::SaysSomethingElse => ended.said() == free.said(),
        };
        // Repeat it: a difference that comes and goes is no need.
        let again = self.ended(declared)?;
        let is_reproducible = match effect {
            Effect::ComesFurther => true,
            Effect::SaysSomethingElse => {
                again.said() == held.said() && is_as_good(&self.ended(Confinement::Free)?)
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
        if effect == Effect::SaysSomethingElse && !matches!(lacks, Lacks::Needs(_)) {
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
    fn loads_without_the_sandbox(&self, held: &Verdict) -> Option<Verdict> {
        let works = |how: Confinement| {
            let ended = self.ended(how);
            ended.is_ok_and(|ended| !ended.verdict.is_bad())
        };
        if !works(Confinement::Free) || works(self.scene.declared()) {
            return None;
        }
        let capabilities = &self.scene.policy.capabilities;
        let lacks = needs::search(capabilities, Clock::start(), &mut |how| works(how.clone()));
        let (config, language) = (self.config, self.scene.language);
        Some(needs::judge(
            Effect::ComesFurther,
            &lacks,
            &held.found,
            "it loads",
            config,
            language,
        ))
    }
}

fn no_better(held: &Ended) -> Verdict {
    let said = &held.verdict.found;
    Verdict::passed(format!("no better without the sandbox: {said}"))
}

/// Output is no part of a verdict, except in tests that forbid it.
fn judge(
    how: InProcess,
    language: Language,
    verdict: Verdict,
    stdout: &str,
    stderr: &str,
) -> Verdict {
    if how.may_die && verdict.status == Status::Crashed {
        return Verdict::warning(verdict.found, Advice::LowMemory.in_language(language));
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
        return Verdict::failed(
            format!("it printed {} to standard output", begin(stdout)),
            Advice::Log.in_language(language),
        );
    }
    if !stderr.is_empty() {
        return Verdict::failed(
            format!("it printed {} to standard error", begin(stderr)),
            Advice::Log.in_language(language),
        );
    }
    verdict
}

/// The end of a test's process, and its output.
struct Ended {
    verdict: Verdict,
    stage: Stage,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Returns the plugin's progress and its last message.
    fn said(&self) -> (Stage, &str) {
        (self.stage, &self.verdict.found)
    }
}

/// A test's process.
struct Running {
    child: Child,
    talk: UnixStream,
    stdout: Printed,
    stderr: Printed,
    clock: Clock,
}

impl Running {
    fn start(order: &Order) -> io::Result<Self> {
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
            stdout: Printed::new(stdout),
            stderr: Printed::new(stderr),
            clock: Clock::start(),
        })
    }

    /// Waits for its end, at most for `limit`.
    fn end(mut self, limit: Duration, language: Language) -> Ended {
        let crash = Advice::Crash.in_language(language);
        let mut stage = Stage::default();
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
                (Ok(_), Ok(Said::Doing(what))) => doing = what,
                (Ok(_), Ok(Said::Reached(so_far))) => stage = stage.max(so_far),
                (Ok(_), Ok(Said::Verdict(said))) => {
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
            Some(_) if ended => Verdict::new(
                Status::Crashed,
                format!(
                    "its process {} at the end of the test",
                    describe_end(status)
                ),
                crash,
            ),
            Some(_) => {
                Verdict::failed("its process does not end", "end what the probe has started")
            }
            None if late => Verdict::failed(
                format!("did not end within {} s{at}", limit.as_secs()),
                "every call must come back by its deadline; loading and dropping have to be quick",
            ),
            None => Verdict::new(
                Status::Crashed,
                format!("its process {}{at}", describe_end(status)),
                crash,
            ),
        };
        Ended {
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
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: mpsc::Receiver<()>,
}

impl Printed {
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
