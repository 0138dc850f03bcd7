//! This test binary, started again: it applies a policy to itself, tries everything, and prints the outcomes.

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitStatus, Output},
};

use conductor_sandbox as sandbox;
use conductor_sandbox::SandboxPolicy;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::attempts;

/// A process about to be started.
pub(crate) struct Child(Command);

/// The outcome of each attempt.
pub(crate) struct Outcomes {
    /// The messages of `apply`.
    pub(crate) lines: Vec<String>,
    by_name: BTreeMap<String, String>,
}

impl Child {
    pub(crate) fn new(policy: &SandboxPolicy) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        // One thread, as in a worker.
        command.args(["--exact", "child::entry", "--nocapture", "--test-threads=1"]);
        let policy = serde_json::to_string(policy).unwrap();
        Self(command).with("POLICY", policy).with("DIR", "/")
    }

    pub(crate) fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.env(variable(name), value.to_string());
        self
    }

    /// Applies only the host's own policy.
    pub(crate) fn protected_only(self) -> Self {
        self.with("PROTECTED", "").with("ONLY", "dumpable")
    }

    /// Takes landlock away, as on a kernel that is older than it. Leads its process group, as a worker does.
    pub(crate) fn on_an_old_kernel(mut self) -> Self {
        self.0.process_group(0);
        self.with("OLD", "")
    }

    pub(crate) fn outcomes(mut self) -> Outcomes {
        let output = self.0.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let mut outcomes = Outcomes {
            lines: Vec::new(),
            by_name: BTreeMap::new(),
        };
        for line in text(&output).lines() {
            if let Some(line) = line.strip_prefix("LINE ") {
                outcomes.lines.push(line.to_owned());
            } else if let Some((name, outcome)) = line
                .strip_prefix("TRIED ")
                .and_then(|l| l.split_once(" => "))
            {
                outcomes.by_name.insert(name.to_owned(), outcome.to_owned());
            }
        }
        assert!(!outcomes.by_name.is_empty(), "{}", text(&output));
        outcomes
    }

    /// Makes one attempt that ends the process.
    pub(crate) fn status_of(self, name: &str) -> ExitStatus {
        let mut child = self.with("ONLY", name);
        child.0.output().unwrap().status
    }
}

impl Outcomes {
    pub(crate) fn of(&self, name: &str) -> &str {
        let outcome = self.by_name.get(name);
        outcome.unwrap_or_else(|| panic!("{name:?} was not tried: {:?}", self.by_name))
    }

    pub(crate) fn assert_refused(&self, name: &str) {
        let outcome = self.of(name);
        assert!(["EPERM", "EACCES"].contains(&outcome), "{name}: {outcome}");
    }
}

/// The child's entry point; does nothing when run as a test.
#[test]
fn entry() {
    let Ok(policy) = env::var(variable("POLICY")) else {
        return;
    };
    let dir = PathBuf::from(env::var(variable("DIR")).unwrap());
    let only = env::var(variable("ONLY")).ok();
    if env::var(variable("PROTECTED")).is_ok() {
        sandbox::protect_host().unwrap();
    } else {
        let policy: SandboxPolicy = serde_json::from_str(&policy).unwrap();
        if env::var(variable("OLD")).is_ok() {
            hide_landlock();
        }
        for line in sandbox::apply(&policy).unwrap() {
            println!("\nLINE {line}");
        }
    }
    for (name, attempt) in attempts::all(&dir) {
        let last = name == "abort";
        if only.as_deref().map_or(!last, |only| only == name) {
            println!("\nTRIED {name} => {}", attempt());
        }
    }
}

fn hide_landlock() {
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let calls = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
    let architecture = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, absent, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

pub(crate) fn variable(name: &str) -> String {
    format!("CONDUCTOR_SANDBOX_TEST_{name}")
}

fn text(output: &Output) -> String {
    let (said, erred) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(said).into_owned() + &String::from_utf8_lossy(erred)
}
