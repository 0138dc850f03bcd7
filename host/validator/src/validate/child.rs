//! The tested side: one test in a process that the test may kill.
//!
//! It receives its order and sends the result over the socket that it gets as standard input, which it first moves to a
//! high descriptor: a plugin that closes or writes to random low ones must not reach it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use conductor_core::clock::Clock;
use conductor_library::PluginLanguage;
use conductor_runtime::{protocol::messages::ManifestFacts, redaction, worker::die_of_faults};
use conductor_sandbox as sandbox;
use conductor_sandbox::{PluginCapabilities, SandboxError};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use signal_hook::low_level::exit;

use super::{
    catalogue::{self, TestMethod},
    machine::flush_stdio,
    needs::{self, PluginProgress},
    subject::LibraryUnderTest,
    verdict::TestVerdict,
};

/// The order for a test's process.
#[derive(Deserialize, Serialize)]
pub(super) struct TestOrder {
    pub(super) test: String,
    /// The private copy.
    pub(super) path: PathBuf,
    /// Another private copy.
    pub(super) second: PathBuf,
    pub(super) origin: String,
    pub(super) manifest: ManifestFacts,
    pub(super) policy: sandbox::SandboxPolicy,
    pub(super) confinement: TestConfinement,
    pub(super) language: PluginLanguage,
    /// The config given to the validator.
    pub(super) config: Option<serde_json::Value>,
    /// The secrets in it.
    pub(super) secrets: Vec<String>,
    pub(super) seed: u64,
}

/// The part of the policy that applies to a test's process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum TestConfinement {
    /// All of it, with these capabilities.
    Sandbox(PluginCapabilities),
    /// Only its limits.
    Limits,
    /// None of it.
    Free,
}

impl TestConfinement {
    fn apply(&self, policy: &sandbox::SandboxPolicy) -> Result<(), SandboxError> {
        match self {
            Self::Sandbox(capabilities) => {
                let policy = sandbox::SandboxPolicy {
                    capabilities: capabilities.clone(),
                    ..policy.clone()
                };
                sandbox::apply(&policy).map(drop)
            }
            Self::Limits => sandbox::apply_limits(policy).map(drop),
            Self::Free => Ok(()),
        }
    }
}

/// Messages from a test's process, one line of JSON each.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TestProcessMessage {
    /// Its next action, in case it does not survive that.
    Doing(String),
    /// The plugin's progress; for the test of needs.
    Reached(PluginProgress),
    Verdict(TestVerdict),
}

/// Runs `conductor plugin-test`: one test, with a socket as standard input.
pub fn child_main() -> ExitCode {
    match prepare() {
        Ok(subject) => {
            let verdict = test(&subject);
            subject.say(&TestProcessMessage::Verdict(verdict));
            // The library's exit handlers are not part of the test.
            exit(0)
        }
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: this command is for the validator, which starts its tests with it: {error}"
            );
            ExitCode::from(2)
        }
    }
}

fn prepare() -> io::Result<LibraryUnderTest> {
    let stdin = io::stdin();
    let talk: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, HIGH)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let talk = UnixStream::from(talk);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    die_of_faults();
    let mut line = String::new();
    BufReader::new(&talk).read_line(&mut line)?;
    let order: TestOrder = serde_json::from_str(&line)?;
    redaction::learn(order.secrets.iter().map(String::as_str));
    Ok(LibraryUnderTest {
        // The kernel accepts connections, and nothing responds. Created before the sandbox, which forbids it.
        black_hole: TcpListener::bind(("127.0.0.1", 0))?,
        order,
        clock: Clock::start(),
        lint: Arc::default(),
        talk: Mutex::new(talk),
    })
}

fn test(subject: &LibraryUnderTest) -> TestVerdict {
    let Some(test) = catalogue::find(&subject.order.test) else {
        return TestVerdict::skipped("this program does not know the test");
    };
    let run = match test.how {
        TestMethod::Process(how) => how.run,
        TestMethod::Needs => needs::go_as_far_as_it_gets,
        TestMethod::File(_) | TestMethod::Worker => {
            return TestVerdict::skipped("needs no process");
        }
    };
    if let Err(what) = subject.order.confinement.apply(&subject.order.policy) {
        return TestVerdict::untested(format!(
            "the sandbox cannot be closed on this machine: {what}"
        ));
    }
    let verdict = run(subject);
    if let TestMethod::Process(how) = test.how
        && how.is_quiet
    {
        // Otherwise the buffers of C's stdio would be lost.
        flush_stdio();
    }
    verdict
}

/// Out of reach of code that closes or writes to random descriptors.
const HIGH: RawFd = 200;
