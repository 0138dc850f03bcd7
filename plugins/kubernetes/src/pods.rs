//! Pods that fail to run, wait too long or are restarted.

use std::{fmt, time::Duration};

use conductor_net::{LimitVerdict, Limits, short, show_age};
use conductor_plugin_api::{Report, config};
use serde::Deserialize;

use crate::{
    POD_PROBLEMS, PODS,
    object::{ObjectCondition, ObjectMetadata, age, condition, first_few, in_brackets, measured},
};

/// A pod in the list.
#[derive(Debug, Deserialize)]
pub(crate) struct ListedPod {
    metadata: ObjectMetadata,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    conditions: Vec<ObjectCondition>,
    init_container_statuses: Vec<ContainerStatus>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    restart_count: u64,
    #[serde(default)]
    state: ContainerState,
    #[serde(default)]
    last_state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    exit_code: i64,
    finished_at: Option<String>,
}

/// The conditions on pods.
pub(crate) struct PodRules {
    pub(crate) failing: Limits<usize>,
    pub(crate) pending: Limits<usize>,
    pub(crate) restarted: Limits<usize>,
    /// The time after which a pod that is pending counts.
    pub(crate) pending_after: config::Duration,
    /// The time for which a restart counts.
    pub(crate) restarted_within: config::Duration,
}

/// A pod, reduced to what is judged.
#[derive(Debug)]
pub(crate) struct Pod {
    phase: &'static str,
    problem: Option<(PodProblem, String)>,
}

/// The problem of a pod; one that has several has the first of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PodProblem {
    /// A container ends again and again.
    CrashLoop,
    /// An image cannot be had.
    Image,
    /// A container cannot be started for another reason.
    Start,
    /// It is pending for too long.
    Pending,
    /// A container was restarted a moment ago.
    Restarted,
}

impl PodProblem {
    const ALL: [Self; 5] = [
        Self::CrashLoop,
        Self::Image,
        Self::Start,
        Self::Pending,
        Self::Restarted,
    ];

    fn is_failing(self) -> bool {
        matches!(self, Self::CrashLoop | Self::Image | Self::Start)
    }
}

/// The label of its metric.
impl fmt::Display for PodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrashLoop => "crash_loop",
            Self::Image => "image",
            Self::Start => "start",
            Self::Pending => "pending",
            Self::Restarted => "restarted",
        })
    }
}

impl ListedPod {
    /// Returns the pod with its problem; one that is being deleted, or has ended, has none.
    pub(crate) fn examine(&self, rules: &PodRules, now: f64) -> Pod {
        let known = PHASES.iter().find(|phase| **phase == self.status.phase);
        let phase = known.copied().unwrap_or("Unknown");
        let has_ended = matches!(phase, "Succeeded" | "Failed");
        let is_deleted = self.metadata.deletion_timestamp.is_some();
        let problem = || {
            let waits = || self.pending(rules.pending_after.get(), now);
            let was_restarted = || self.restarted(rules.restarted_within.get(), now);
            self.failing().or_else(waits).or_else(was_restarted)
        };
        let problem = (!has_ended && !is_deleted).then(problem).flatten();
        Pod {
            phase,
            problem: problem.map(|(problem, why)| {
                let shown = format!("{}{}", self.metadata.shown(), in_brackets(&why));
                (problem, shown)
            }),
        }
    }

    fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        let status = &self.status;
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
    }

    fn failing(&self) -> Option<(PodProblem, String)> {
        self.containers().find_map(|container| {
            let waiting = container.state.waiting.as_ref()?;
            let problem = problem_of(&waiting.reason)?;
            let restarts = match container.restart_count {
                0 => String::new(),
                count => format!(" after {count} restarts"),
            };
            let ended = container.last_state.terminated.as_ref();
            let ended = ended
                .map(|ended| format!(", last end: {ended}"))
                .unwrap_or_default();
            let name = short(&container.name, MAX_NAME);
            let reason = short(&waiting.reason, MAX_NAME);
            Some((problem, format!("{name}: {reason}{restarts}{ended}")))
        })
    }

    fn pending(&self, longest: Duration, now: f64) -> Option<(PodProblem, String)> {
        if self.status.phase != "Pending" {
            return None;
        }
        let age = age(&self.metadata.creation_timestamp, now)?;
        let scheduled = condition(&self.status.conditions, "PodScheduled");
        let reason = match scheduled {
            Some(found) if found.status == "False" => {
                format!("{}, ", short(&found.reason, MAX_NAME))
            }
            _ => String::new(),
        };
        (age > longest).then(|| {
            (
                PodProblem::Pending,
                format!("{reason}for {}", show_age(age)),
            )
        })
    }

    fn restarted(&self, within: Duration, now: f64) -> Option<(PodProblem, String)> {
        self.containers().find_map(|container| {
            let ended = container.last_state.terminated.as_ref()?;
            let since = age(ended.finished_at.as_deref()?, now)?;
            (container.restart_count > 0 && since <= within).then(|| {
                let name = short(&container.name, MAX_NAME);
                let (restarts, since) = (container.restart_count, show_age(since));
                let text = format!("{name}: {ended}, {since} ago, {restarts} restarts");
                (PodProblem::Restarted, text)
            })
        })
    }
}

/// Returns the problem of a container that waits for this reason; `None` while it starts.
fn problem_of(reason: &str) -> Option<PodProblem> {
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" => Some(PodProblem::CrashLoop),
        reason if reason.contains("Image") || reason == "RegistryUnavailable" => {
            Some(PodProblem::Image)
        }
        _ => Some(PodProblem::Start),
    }
}

impl fmt::Display for Terminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = short(&self.reason, MAX_NAME);
        match reason.as_str() {
            "" => write!(f, "exit code {}", self.exit_code),
            reason => write!(f, "{reason} with exit code {}", self.exit_code),
        }
    }
}

/// Judges the pods; returns a summary.
pub(crate) fn judge(pods: &[Pod], rules: &PodRules, verdict: &mut LimitVerdict) -> String {
    let all = pods.len();
    let with = |is_it: &dyn Fn(PodProblem) -> bool| {
        let problems = pods.iter().filter_map(|pod| pod.problem.as_ref());
        let found = problems.filter(|(problem, _)| is_it(*problem));
        found.map(|(_, shown)| shown.clone()).collect::<Vec<_>>()
    };
    let failing = with(&PodProblem::is_failing);
    let pending = with(&|problem| problem == PodProblem::Pending);
    let restarted = with(&|problem| problem == PodProblem::Restarted);
    for (key, what, found, limits) in [
        ("pods_failing", "cannot run", failing, &rules.failing),
        ("pods_pending", "pending too long", pending, &rules.pending),
        ("pods_restarted", "restarted", restarted, &rules.restarted),
    ] {
        let shown = format!(
            "{} of {all} pods {what}: {}",
            found.len(),
            first_few(&found)
        );
        verdict.judge(key, shown, found.len(), limits);
    }
    format!("{all} pods")
}

/// Adds the number of pods by phase and by problem.
pub(crate) fn measure(pods: &[Pod], report: Report) -> Report {
    let report = PHASES.iter().fold(report, |report, phase| {
        let count = pods.iter().filter(|pod| pod.phase == *phase).count();
        report.set(&PODS, [phase], measured(count))
    });
    PodProblem::ALL.into_iter().fold(report, |report, problem| {
        let has_it = |pod: &&Pod| {
            pod.problem
                .as_ref()
                .is_some_and(|(found, _)| *found == problem)
        };
        let count = pods.iter().filter(has_it).count();
        report.set(&POD_PROBLEMS, [&problem.to_string()], measured(count))
    })
}

/// The phases of a pod.
const PHASES: [&str; 5] = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];

/// Longest name of a container or reason in a message, in characters.
const MAX_NAME: usize = 63;
