//! The attempts program: every known escape and resource grab, as root and as an ordinary user, under each policy.
//!
//! An attempt is one line or a small function with its kind and the expected outcome. All that must be refused run one
//! after the other in a child that applies the policy to itself; each resource grab runs in its own child, which the
//! worker monitor ends. A bystander under its own policy works all the while and must lose nothing.
//!
//! `cargo test` runs a short form. The whole table, printed by kind:
//! `CONDUCTOR_ATTEMPTS=all cargo test -p conductor --test sandbox attempts -- --nocapture`

#![expect(
    unsafe_code,
    reason = "most of what is refused has no safe wrapper, as no program needs it"
)]

mod bystander;
mod files;
mod kernel;
mod processes;
mod resources;
mod sockets;
mod victims;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, io,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output},
    time::Duration,
};

use bystander::Bystander;
use conductor_sandbox as sandbox;
use conductor_sandbox::{PluginCapabilities, SandboxPolicy};
use victims::Victims;

use crate::child::variable;

/// One action that a plugin may try.
pub(crate) struct Attempt {
    kind: &'static str,
    name: String,
    expected: Expected,
    /// `true` if some machines lack its target.
    may_be_missing: bool,
    act: Box<dyn Fn() -> io::Result<String>>,
}

/// The expected outcome of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    /// An error, whatever the declared needs.
    Refused,
    /// An error, unless one of these needs is declared.
    RefusedWithout(&'static [Need]),
    /// At most this number of a resource.
    AtMost(u64),
    /// The kernel ends the process.
    Killed,
}

/// A capability by name, with its purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Need {
    Network,
    UnixSockets,
    Read,
    Run,
}

/// A user and a declaration.
#[derive(Clone, Copy, Debug)]
struct Persona {
    /// Zero for root.
    user: u32,
    need: Option<Need>,
}

impl Attempt {
    fn refused(
        kind: &'static str,
        name: impl Into<String>,
        act: impl Fn() -> io::Result<String> + 'static,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            expected: Expected::Refused,
            may_be_missing: false,
            act: Box::new(act),
        }
    }

    fn unless(self, needs: &'static [Need]) -> Self {
        Self {
            expected: Expected::RefusedWithout(needs),
            ..self
        }
    }

    fn where_there(self) -> Self {
        Self {
            may_be_missing: true,
            ..self
        }
    }

    fn at_most(self, most: u64) -> Self {
        Self {
            expected: Expected::AtMost(most),
            ..self
        }
    }

    /// Returns the difference between the outcome and the expected one, if any.
    fn mismatch(&self, persona: Persona, outcome: &str) -> Option<String> {
        let is_error = ERRORS.iter().any(|(_, name)| outcome.starts_with(name))
            || (self.may_be_missing && outcome == MISSING);
        let refused = (!is_error).then(|| format!("{outcome}, and was to be refused"));
        match self.expected {
            Expected::Refused => refused,
            Expected::RefusedWithout(needs) => match persona.need {
                Some(need) if needs.contains(&need) => None,
                _ => refused,
            },
            Expected::AtMost(most) => match outcome.parse::<u64>() {
                Ok(count) if count > most => Some(format!("{count} of at most {most}")),
                Ok(_) => None,
                Err(_) => refused,
            },
            Expected::Killed => match outcome {
                "signal 31" => None,
                _ => Some(format!("{outcome}, and was to be killed")),
            },
        }
    }
}

/// Returns the attempts that run in one process, one after the other.
fn quick() -> Vec<Attempt> {
    [
        files::attempts(),
        kernel::attempts(),
        processes::attempts(),
        sockets::attempts(),
        resources::quick(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn attempts() {
    if is_child() {
        return;
    }
    let all = env::var("CONDUCTOR_ATTEMPTS").is_ok_and(|value| value == "all");
    let victims = Victims::new();
    let bystander = Bystander::start();
    let mut rows = Rows::default();
    for persona in personas(all) {
        for (attempt, outcome) in victims.try_all(persona) {
            rows.add(&attempt, persona, &outcome);
        }
    }
    let users: &[u32] = if all { USERS } else { &USERS[..1] };
    for user in users {
        let persona = Persona {
            user: *user,
            need: None,
        };
        for grab in resources::grabs().iter().filter(|grab| all || grab.short) {
            rows.add_ended(grab, persona, resources::watched(grab, &victims, persona));
        }
    }
    rows.bystander = bystander.finish();
    if all {
        println!("{rows}");
    }
    assert!(rows.failed.is_empty(), "{}", rows.failed.join("\n"));
    let kinds = rows.kinds();
    assert!(rows.names.len() >= 300, "{} attempts", rows.names.len());
    assert!(kinds >= 60, "{kinds} kinds");
}

/// In the short form an ordinary user tries everything under the widest declarations only.
fn personas(all: bool) -> Vec<Persona> {
    let mut personas = Vec::new();
    for (nth, user) in USERS.iter().enumerate() {
        let needs = [None, Some(Need::Network), Some(Need::UnixSockets)];
        let paths = [Some(Need::Read), Some(Need::Run)];
        for need in needs.into_iter().chain(paths) {
            if all || nth == 0 || need.is_none() {
                personas.push(Persona { user: *user, need });
            }
        }
    }
    // Without root's rights, only the user that runs the tests is available.
    if !rustix::process::geteuid().is_root() {
        personas.retain(|persona| persona.user == 0);
    }
    personas
}

/// The child's entry point; does nothing when run as a test.
#[test]
fn attempts_entry() {
    let Ok(policy) = env::var(variable("POLICY")) else {
        return;
    };
    let Ok(role) = env::var(variable("ROLE")) else {
        return;
    };
    become_user();
    let policy: SandboxPolicy = serde_json::from_str(&policy).unwrap();
    // The attempts need not see this, but the one that reads a file after must not be the first to need it.
    for line in sandbox::apply(&policy).unwrap() {
        println!("\nLINE {line}");
    }
    match role.as_str() {
        "quick" => {
            let from: usize = env::var(variable("FROM")).unwrap().parse().unwrap();
            for (nth, attempt) in quick().iter().enumerate().skip(from) {
                println!("\nTRYING {nth}");
                let outcome = (attempt.act)();
                println!("\nTRIED {nth} => {}", outcome.unwrap_or_else(|e| show(&e)));
            }
        }
        "bystander" => bystander::live(),
        grab => resources::grab(grab),
    }
}

fn become_user() {
    let user: u32 = env::var(variable("USER")).unwrap().parse().unwrap();
    if user != 0 {
        let group = rustix::process::Gid::from_raw(user);
        let user = rustix::process::Uid::from_raw(user);
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
    }
}

fn is_child() -> bool {
    env::var(variable("ROLE")).is_ok()
}

/// Starts this test binary again in a given role.
fn child(role: &str, policy: &SandboxPolicy, user: u32) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "table::attempts_entry",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(variable("POLICY"), serde_json::to_string(policy).unwrap())
        .env(variable("ROLE"), role)
        .env(variable("USER"), user.to_string());
    command
}

impl Victims {
    /// Returns the outcome of each attempt under the persona's policy; a new process follows one that an attempt has
    /// ended.
    fn try_all(&self, persona: Persona) -> Vec<(Attempt, String)> {
        let attempts = quick();
        let mut outcomes = vec![String::from("not tried"); attempts.len()];
        let mut from = 0;
        while from < attempts.len() {
            let mut command = child("quick", &self.policy(persona), persona.user);
            let output = self
                .told(&mut command)
                .env(variable("FROM"), from.to_string());
            let output = output.output().unwrap();
            let trying = note(&output, &mut outcomes);
            if output.status.success() {
                break;
            }
            let trying = trying.unwrap_or_else(|| panic!("nothing was tried: {output:?}"));
            let signal = output.status.signal();
            outcomes[trying] =
                signal.map_or("the process exited".to_owned(), |s| format!("signal {s}"));
            from = trying + 1;
        }
        attempts.into_iter().zip(outcomes).collect()
    }

    fn policy(&self, persona: Persona) -> SandboxPolicy {
        let mut capabilities = PluginCapabilities::default();
        match persona.need {
            None => {}
            Some(Need::Network) => capabilities.network = true,
            Some(Need::UnixSockets) => capabilities.unix_sockets = true,
            Some(Need::Read) => capabilities.read.push(self.at("open")),
            Some(Need::Run) => capabilities.run.push("/bin/true".into()),
        }
        SandboxPolicy {
            capabilities,
            hidden: vec![self.at("state"), self.at("open/secret")],
            ..SandboxPolicy::default()
        }
    }
}

/// Reads the outcomes; returns the attempt that was started last.
fn note(output: &Output, outcomes: &mut [String]) -> Option<usize> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut last = None;
    for line in text.lines() {
        if let Some(nth) = line.strip_prefix("TRYING ") {
            last = nth.parse().ok();
        } else if let Some((nth, outcome)) = line
            .strip_prefix("TRIED ")
            .and_then(|line| line.split_once(" => "))
            && let Ok(nth) = nth.parse::<usize>()
        {
            outcomes[nth] = outcome.to_owned();
        }
    }
    last
}

/// Returns the name of an error that means "refused", otherwise its text.
fn show(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return MISSING.to_owned();
    }
    let known = ERRORS
        .iter()
        .find(|(number, _)| error.raw_os_error() == Some(*number));
    known.map_or_else(
        || format!("went through: {error}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// Errors that a layer of the sandbox returns.
const ERRORS: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EROFS, "EROFS"),
];

const MISSING: &str = "not there";

/// Root, and a user that no machine has.
const USERS: &[u32] = &[0, 54321];

/// The table.
#[derive(Default)]
struct Rows {
    by_kind: BTreeMap<&'static str, Row>,
    names: BTreeSet<String>,
    grabs: Vec<String>,
    bystander: String,
    failed: Vec<String>,
}

#[derive(Default)]
struct Row {
    attempts: usize,
    outcomes: BTreeMap<String, usize>,
}

impl Rows {
    /// Each grab is a separate kind.
    fn kinds(&self) -> usize {
        let grabs = self.names.iter().filter(|name| name.starts_with("grab: "));
        self.by_kind.len() + grabs.count()
    }

    fn add(&mut self, attempt: &Attempt, persona: Persona, outcome: &str) {
        let row = self.by_kind.entry(attempt.kind).or_default();
        row.attempts += 1;
        // The return value of a call does not matter.
        let shown = outcome.split_once(':').map_or(outcome, |(shown, _)| shown);
        *row.outcomes.entry(shown.to_owned()).or_default() += 1;
        self.names
            .insert(format!("{}: {}", attempt.kind, attempt.name));
        if let Some(why) = attempt.mismatch(persona, outcome) {
            let line = format!("{persona}: {}: {}: {why}", attempt.kind, attempt.name);
            self.failed.push(line);
        }
    }

    fn add_ended(
        &mut self,
        grab: &resources::Grab,
        persona: Persona,
        ended: Result<(String, Duration), resources::GrabError>,
    ) {
        self.names.insert(format!("grab: {}", grab.name));
        match ended {
            Ok((why, after)) => {
                let ms = after.as_millis();
                self.grabs
                    .push(format!("{persona}: {}: {why} ({ms} ms)", grab.name));
            }
            Err(why) => self.failed.push(format!("{persona}: {}: {why}", grab.name)),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>5}  outcome", "kind", "tries")?;
        for (kind, row) in &self.by_kind {
            let outcomes: Vec<_> = row
                .outcomes
                .iter()
                .map(|(outcome, count)| format!("{outcome} ({count})"))
                .collect();
            writeln!(f, "{kind:<28} {:>5}  {}", row.attempts, outcomes.join(", "))?;
        }
        for line in &self.grabs {
            writeln!(f, "{line}")?;
        }
        let tries: usize = self.by_kind.values().map(|row| row.attempts).sum();
        let (names, kinds) = (self.names.len(), self.kinds());
        writeln!(f, "{names} attempts of {kinds} kinds, {tries} tries")?;
        write!(f, "bystander: {}", self.bystander)
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.user == 0 { "root" } else { "user" };
        match self.need {
            Some(need) => write!(f, "{user} with {need:?}"),
            None => write!(f, "{user}"),
        }
    }
}
