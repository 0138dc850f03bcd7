//! The tested side: one test in a process that the test may kill.
//!
//! It receives its order and sends the result over the connection that it gets as standard input.

use std::{
    io::{self, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use conductor_core::clock::Clock;
use conductor_library::PluginLanguage;
use conductor_runtime::{protocol::messages::ManifestFacts, redaction, worker::die_of_faults};
use conductor_sandbox as sandbox;
use conductor_sandbox::{PluginCapabilities, SandboxError};
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use self::linux as os;
#[cfg(windows)]
use self::windows as os;
#[cfg(target_os = "linux")]
use super::needs::{self, PluginProgress};
use super::{
    TestPlatform,
    catalogue::{self, TestMethod},
    machine::flush_stdio,
    subject::LibraryUnderTest,
    verdict::TestVerdict,
};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

pub(super) use self::os::ValidatorChannel;

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
    pub(super) platform: TestPlatform,
    /// The secrets in its config.
    pub(super) secrets: Vec<String>,
    pub(super) seed: u64,
}

/// The part of the policy that applies to a test's process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum TestConfinement {
    /// All of it, with these capabilities.
    Sandbox(PluginCapabilities),
    /// Only its limits.
    #[cfg(target_os = "linux")]
    Limits,
    /// None of it.
    #[cfg(target_os = "linux")]
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
            #[cfg(target_os = "linux")]
            Self::Limits => sandbox::apply_limits(policy).map(drop),
            #[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
    Reached(PluginProgress),
    /// The secrets in its config by the schema of the plugin, which the validator does not read.
    Secrets(Vec<String>),
    Verdict(TestVerdict),
}

/// Runs `conductor plugin-test`: one test, with a connection to the validator as standard input.
pub fn child_main() -> ExitCode {
    match prepare() {
        Ok(subject) => {
            let verdict = test(&subject);
            subject.say(&TestProcessMessage::Verdict(verdict));
            os::leave(&subject.order.test)
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
    let mut talk = ValidatorChannel::of_standard_input()?;
    die_of_faults();
    let line = talk.receive()?;
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
        #[cfg(target_os = "linux")]
        TestMethod::Needs => needs::go_as_far_as_it_gets,
        _ => return TestVerdict::skipped("needs no process"),
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
