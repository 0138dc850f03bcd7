//! Deployments, StatefulSets and DaemonSets, and their replicas.

use conductor_net::{LimitVerdict, Limits};
use conductor_plugin_api::Report;
use serde::Deserialize;

use crate::{
    REPLICAS, WORKLOADS,
    object::{ObjectCondition, ObjectMetadata, condition, first_few, in_brackets, measured},
    resource::Resource,
};

/// A workload in the list. The kinds have the same fields for the most part.
#[derive(Debug, Deserialize)]
pub(crate) struct ListedWorkload {
    metadata: ObjectMetadata,
    #[serde(default)]
    spec: WorkloadSpec,
    #[serde(default)]
    status: WorkloadStatus,
}

#[derive(Debug, Default, Deserialize)]
struct WorkloadSpec {
    /// 1 if it is left out; DaemonSets have none.
    replicas: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadStatus {
    ready_replicas: usize,
    desired_number_scheduled: usize,
    number_ready: usize,
    conditions: Vec<ObjectCondition>,
}

/// A workload, with the replicas it should and does have.
#[derive(Debug)]
pub(crate) struct Workload {
    kind: Resource,
    name: String,
    wanted: usize,
    ready: usize,
    /// The reason why its rollout does not continue.
    stuck: Option<String>,
}

/// The state of a workload.
#[derive(Clone, Copy, Eq, PartialEq)]
enum WorkloadState {
    Ready,
    /// Fewer replicas than wanted are ready, or its rollout does not continue.
    NotReady,
    /// None of the wanted replicas is ready.
    Down,
}

/// Limits of the number of workloads in each state.
pub(crate) struct WorkloadLimits {
    pub(crate) not_ready: Limits<usize>,
    pub(crate) down: Limits<usize>,
}

impl ListedWorkload {
    pub(crate) fn of_kind(self, kind: Resource) -> Workload {
        let status = self.status;
        let (wanted, ready) = match kind {
            Resource::DaemonSets => (status.desired_number_scheduled, status.number_ready),
            _ => (self.spec.replicas.unwrap_or(1), status.ready_replicas),
        };
        Workload {
            kind,
            name: self.metadata.shown(),
            wanted,
            ready,
            stuck: stuck(&status.conditions),
        }
    }
}

/// Returns the reason why a Deployment does not continue: its deadline has passed, or it cannot create pods.
fn stuck(conditions: &[ObjectCondition]) -> Option<String> {
    let progress = condition(conditions, "Progressing").filter(|found| found.status == "False");
    let failure = condition(conditions, "ReplicaFailure").filter(|found| found.status == "True");
    failure.or(progress).map(|found| found.reason.clone())
}

impl Workload {
    fn state(&self) -> WorkloadState {
        match (self.ready, self.wanted) {
            (0, 1..) => WorkloadState::Down,
            (ready, wanted) if ready < wanted || self.stuck.is_some() => WorkloadState::NotReady,
            _ => WorkloadState::Ready,
        }
    }

    fn shown(&self) -> String {
        let stuck = self.stuck.as_deref().map(in_brackets).unwrap_or_default();
        let (kind, name) = (self.kind.kind(), &self.name);
        format!(
            "{kind} {name} has {} of {} replicas{stuck}",
            self.ready, self.wanted
        )
    }
}

/// Judges the workloads; returns a summary.
pub(crate) fn judge(
    workloads: &[Workload],
    limits: &WorkloadLimits,
    verdict: &mut LimitVerdict,
) -> String {
    let of = |state| {
        let found = workloads
            .iter()
            .filter(|workload| workload.state() == state);
        found.map(Workload::shown).collect::<Vec<_>>()
    };
    let (down, not_ready) = (of(WorkloadState::Down), of(WorkloadState::NotReady));
    let all = workloads.len();
    let shown = format!(
        "{} of {all} workloads down: {}",
        down.len(),
        first_few(&down)
    );
    verdict.judge("workloads_down", shown, down.len(), &limits.down);
    let count = not_ready.len();
    let shown = format!(
        "{count} of {all} workloads not ready: {}",
        first_few(&not_ready)
    );
    verdict.judge("workloads_not_ready", shown, count, &limits.not_ready);
    let ready = all - down.len() - count;
    format!("{ready} of {all} workloads ready")
}

/// Adds the number of workloads of one kind by state, and of their replicas.
pub(crate) fn measure(workloads: &[Workload], kind: Resource, report: Report) -> Report {
    let of_kind = || workloads.iter().filter(|workload| workload.kind == kind);
    let count = |state| {
        of_kind()
            .filter(|workload| workload.state() == state)
            .count()
    };
    let (wanted, ready) = of_kind().fold((0, 0), |(wanted, ready), workload| {
        (wanted + workload.wanted, ready + workload.ready)
    });
    let kind = kind.kind();
    report
        .set(
            &WORKLOADS,
            [kind, "ready"],
            measured(count(WorkloadState::Ready)),
        )
        .set(
            &WORKLOADS,
            [kind, "not_ready"],
            measured(count(WorkloadState::NotReady)),
        )
        .set(
            &WORKLOADS,
            [kind, "down"],
            measured(count(WorkloadState::Down)),
        )
        .set(&REPLICAS, [kind, "wanted"], measured(wanted))
        .set(&REPLICAS, [kind, "ready"], measured(ready))
}
