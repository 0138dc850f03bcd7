//! The validator's side of a test in a process of its own: starts it, waits for what it says, and tells how it ended.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

pub(in crate::cli) use super::child::child_main;
use super::{
    catalogue::{How, InProcess, Test},
    child::{Order, Said},
    report::OfTest,
    verdict::{Status, Verdict},
};
use crate::{
    clock::Clock,
    library::{self, Policy, Store, Vetted},
    plugin::{protocol::messages::ManifestFacts, sandbox, worker::describe_end},
    redaction,
};

/// Where a file's tests run: a vetted private copy, and a second one under another path.
pub(super) struct Scene {
    vetted: Vetted,
    second: PathBuf,
    policy: sandbox::Policy,
    _store: Store,
    _folder: TempDir,
}

impl Scene {
    /// The scene in `place`, which is made at the first call.
    pub(super) fn prepared<'a>(
        place: &'a mut Option<Self>,
        file: &Path,
    ) -> Result<&'a Self, String> {
        if place.is_none() {
            *place = Some(Self::new(file)?);
        }
        place.as_ref().ok_or_else(|| unreachable!("made above"))
    }

    fn new(file: &Path) -> Result<Self, String> {
        // Not by the error's own text, which has another random name in it each time.
        let failed = |e: io::Error| {
            format!(
                "there is no place for private copies in {} ({}): name another folder with TMPDIR",
                std::env::temp_dir().display(),
                e.kind()
            )
        };
        let folder = tempfile::tempdir().map_err(failed)?;
        let store = Store::open(folder.path()).map_err(|refusal| refusal.to_string())?;
        let vetted = library::vet(file, &Policy::none(), &store).map_err(|r| r.to_string())?;
        let second = folder.path().join("second.so");
        std::fs::copy(&vetted.path, &second).map_err(failed)?;
        let mut capabilities = sandbox::capabilities(&vetted.manifest.needs, None)?;
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
            _store: store,
            _folder: folder,
        })
    }

    /// Runs one test, and judges the end of its process.
    pub(super) fn run(
        &self,
        test: &'static Test,
        config: Option<&serde_json::Value>,
        seed: u64,
    ) -> OfTest {
        let How::Process(how) = test.how else {
            return OfTest::skipped(test, "needs no process");
        };
        let order = Order {
            test: test.id.to_owned(),
            path: self.vetted.path.clone(),
            second: self.second.clone(),
            origin: self.vetted.origin.display().to_string(),
            manifest: ManifestFacts::of(&self.vetted.manifest),
            policy: self.policy.clone(),
            secrets: config.map_or_else(Vec::new, |it| redaction::within(&it.to_string())),
            config: config.cloned(),
            seed,
        };
        let ended = match Running::start(&order) {
            Ok(running) => running.end(test.limit),
            Err(error) => {
                let why = format!("its process cannot be started: {error}");
                return OfTest::new(test, Verdict::untested(why));
            }
        };
        let verdict = judge(how, ended.verdict, &ended.stdout, &ended.stderr);
        let blocks = how.is_gate && verdict.is_bad();
        let output = [ended.stdout, ended.stderr].concat();
        OfTest::new(test, verdict).printed(output).blocking(blocks)
    }
}

/// What is printed is no part of a verdict, except where nothing should be.
fn judge(how: InProcess, verdict: Verdict, stdout: &str, stderr: &str) -> Verdict {
    if how.may_die && verdict.status == Status::Crashed {
        return Verdict::warning(
            verdict.found,
            "a host replaces its worker; take less at a time, or ask for it so that it may be refused (try_reserve)",
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
        return Verdict::failed(
            format!("it printed {} to standard output", begin(stdout)),
            "log with tracing (in C, the host's log function): what is printed has no level and no platform",
        );
    }
    if !stderr.is_empty() {
        return Verdict::failed(
            format!("it printed {} to standard error", begin(stderr)),
            "log with tracing (in C, the host's log function): what is printed has no level and no platform",
        );
    }
    verdict
}

/// How a test's process ended, and what it left.
struct Ended {
    verdict: Verdict,
    stdout: String,
    stderr: String,
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
            .stdin(OwnedFd::from(theirs))
            .stdout(their_stdout)
            .stderr(their_stderr)
            // So that what it starts is found and ended.
            .process_group(0);
        let child = command.spawn()?;
        // The ends that it has would keep the pipes from ending.
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

    /// Waits for its end, for `limit` at the most.
    fn end(mut self, limit: Duration) -> Ended {
        let (mut doing, mut verdict, mut late) = (String::new(), None, false);
        let mut lines = BufReader::new(&self.talk);
        loop {
            let left = limit.saturating_sub(self.clock.now());
            if left.is_zero() {
                late = true;
                break;
            }
            // The reading stops at an end of time within a line as well, whose beginning is lost: by then it is late.
            let mut line = String::new();
            let read = self
                .talk
                .set_read_timeout(Some(left))
                .and_then(|()| lines.read_line(&mut line));
            match (read, serde_json::from_str(&line)) {
                (Ok(0), _) => break,
                (Ok(_), Ok(Said::Doing(what))) => doing = what,
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
                CRASH_CURE,
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
                CRASH_CURE,
            ),
        };
        Ended {
            verdict,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }
}

/// Ends it and all it has started in its process group; says how it ended, and whether by itself.
fn wait_or_kill(child: &mut Child, grace: Duration, clock: Clock) -> (Option<ExitStatus>, bool) {
    let until = clock.now() + grace;
    let mut status = child.try_wait().ok().flatten();
    while status.is_none() && clock.now() < until {
        thread::sleep(Duration::from_millis(2));
        status = child.try_wait().ok().flatten();
    }
    let ended = status.is_some();
    // Its number is still its own where it was not waited for, and its group's where that has others.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    (status.or_else(|| child.wait().ok()), ended)
}

/// What comes out of a pipe, as far as anybody wants to see it.
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
                // So that a secret which begins in what is shown is whole.
                let keep = MAX_PRINTED + redaction::longest();
                let room = keep.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..read.min(room)]);
            }
            drop(alive);
        });
        Self { bytes, done }
    }

    /// All that was printed; what an orphan of the test still prints is not waited for.
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

const CRASH_CURE: &str =
    "a host would lose its worker over it: run the test in a debugger, or look for a core file";
/// How long a process may take to leave once its test is over.
const GRACE: Duration = Duration::from_secs(3);
/// Of what a test prints, in bytes.
const MAX_PRINTED: usize = 64 << 10;
