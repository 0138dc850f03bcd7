//! The tested side: one test in a process that may die of it.
//!
//! It is told what to do, and tells what came of it, over the socket it is started with as standard input, which it moves
//! to a high descriptor first: a plugin that closes or writes to low ones at random must not reach it.

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
    sync::Mutex,
};

use conductor_core::clock::Clock;
use conductor_library::Language;
use conductor_runtime::{
    irregular, protocol::messages::ManifestFacts, redaction, worker::die_of_faults,
};
use conductor_sandbox as sandbox;
use conductor_sandbox::Capabilities;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use signal_hook::low_level::exit;

use super::{
    catalogue::{self, How},
    machine::flush_stdio,
    needs::{self, Stage},
    subject::Subject,
    verdict::Verdict,
};

/// What a test's process is to do.
#[derive(Deserialize, Serialize)]
pub(super) struct Order {
    pub(super) test: String,
    /// The private copy.
    pub(super) path: PathBuf,
    /// Another one.
    pub(super) second: PathBuf,
    pub(super) origin: String,
    pub(super) manifest: ManifestFacts,
    pub(super) policy: sandbox::Policy,
    pub(super) confinement: Confinement,
    pub(super) language: Language,
    /// The config that the validator was given.
    pub(super) config: Option<serde_json::Value>,
    /// What in it is a secret.
    pub(super) secrets: Vec<String>,
    pub(super) seed: u64,
}

/// How far a test's process is held to the policy.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Confinement {
    /// To all of it, with these capabilities.
    Sandbox(Capabilities),
    /// To its limits alone.
    Limits,
    /// Not at all.
    Free,
}

impl Confinement {
    fn apply(&self, policy: &sandbox::Policy) -> Result<(), String> {
        match self {
            Self::Sandbox(capabilities) => {
                let policy = sandbox::Policy {
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

/// What it says, a line of JSON each.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// What it is about to do, for the case that it does not survive that.
    Doing(String),
    /// How far the plugin came; for the test of needs.
    Reached(Stage),
    Verdict(Verdict),
}

/// What `conductor plugin-test` does: one test, with a socket as standard input.
pub fn child_main() -> ExitCode {
    match prepare() {
        Ok(subject) => {
            let verdict = test(&subject);
            subject.say(&Said::Verdict(verdict));
            // What the library has registered to run at exit is no part of the test.
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

fn prepare() -> io::Result<Subject> {
    let stdin = io::stdin();
    let talk: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, HIGH)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let talk = UnixStream::from(talk);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    die_of_faults();
    let mut line = String::new();
    BufReader::new(&talk).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    redaction::learn(order.secrets.iter().map(String::as_str));
    Ok(Subject {
        // Connections are taken by the kernel, and nobody ever answers. Made before the sandbox, which closes that.
        black_hole: TcpListener::bind(("127.0.0.1", 0))?,
        order,
        clock: Clock::start(),
        talk: Mutex::new(talk),
    })
}

fn test(subject: &Subject) -> Verdict {
    let Some(test) = catalogue::find(&subject.order.test) else {
        return Verdict::skipped("this program does not know the test");
    };
    let run = match test.how {
        How::Process(how) => how.run,
        How::Needs => needs::go_as_far_as_it_gets,
        How::File(_) | How::Worker => return Verdict::skipped("needs no process"),
    };
    if let Err(what) = subject.order.confinement.apply(&subject.order.policy) {
        return Verdict::untested(format!(
            "the sandbox cannot be closed on this machine: {what}"
        ));
    }
    irregular::observe();
    let verdict = run(subject);
    if let How::Process(how) = test.how
        && how.is_quiet
    {
        // What C's stdio holds back would be lost.
        flush_stdio();
    }
    verdict
}

/// Out of the way of descriptors that are closed or written to at random.
const HIGH: RawFd = 200;
