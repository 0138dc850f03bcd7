//! Nodes that are not ready, under pressure or cordoned.

use conductor_net::{LimitVerdict, Limits};
use conductor_plugin_api::{Report, Status};
use serde::Deserialize;

use crate::{
    NODES,
    object::{
        ObjectCondition, ObjectMetadata, condition, first_few, has, in_brackets, measured, since,
    },
};

/// A node in the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    metadata: ObjectMetadata,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
struct NodeSpec {
    #[serde(default)]
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<ObjectCondition>,
}

/// Limits of the number of nodes in each condition.
pub(crate) struct NodeLimits {
    pub(crate) not_ready: Limits<usize>,
    pub(crate) under_pressure: Limits<usize>,
    pub(crate) cordoned: Limits<usize>,
}

/// The conditions that make a node degraded while they are true, with the label of their metric.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "memory_pressure"),
    ("DiskPressure", "disk_pressure"),
    ("PIDPressure", "pid_pressure"),
    ("NetworkUnavailable", "network_unavailable"),
];

impl Node {
    fn is_ready(&self) -> bool {
        has(&self.status.conditions, "Ready", "True")
    }

    /// Returns the name, with the reason why it is not ready.
    fn not_ready(&self, now: f64) -> Option<String> {
        if self.is_ready() {
            return None;
        }
        let name = self.metadata.shown();
        let Some(ready) = condition(&self.status.conditions, "Ready") else {
            return Some(format!("{name} (it has never reported)"));
        };
        let since = since(ready.last_transition_time.as_deref(), now);
        let reason = format!("{}{since}", ready.reason);
        Some(format!(
            "{name}{}",
            in_brackets(reason.trim_start_matches(", "))
        ))
    }

    /// Returns the name, with the pressures it is under.
    fn under_pressure(&self) -> Option<String> {
        let active = PRESSURES.iter().map(|(kind, _)| *kind);
        let active: Vec<_> = active
            .filter(|kind| has(&self.status.conditions, kind, "True"))
            .collect();
        let name = self.metadata.shown();
        (!active.is_empty()).then(|| format!("{name} ({})", active.join(", ")))
    }
}

/// Judges the nodes; returns a summary.
pub(crate) fn judge(
    nodes: &[Node],
    limits: &NodeLimits,
    now: f64,
    verdict: &mut LimitVerdict,
) -> String {
    let all = nodes.len();
    let not_ready: Vec<_> = nodes
        .iter()
        .filter_map(|node| node.not_ready(now))
        .collect();
    let ready = all - not_ready.len();
    if all == 0 {
        let text =
            "there are no nodes, expected at least one; correct `node_selector` if it is set";
        verdict.add(Status::Unhealthy, text.to_owned());
    } else if ready == 0 {
        let text = format!("none of {all} nodes is ready: {}", first_few(&not_ready));
        verdict.add(Status::Unhealthy, text);
    } else {
        let count = not_ready.len();
        let shown = format!(
            "{count} of {all} nodes not ready: {}",
            first_few(&not_ready)
        );
        verdict.judge("nodes_not_ready", shown, count, &limits.not_ready);
    }
    let pressed: Vec<_> = nodes.iter().filter_map(Node::under_pressure).collect();
    let shown = format!(
        "{} of {all} nodes under pressure: {}",
        pressed.len(),
        first_few(&pressed)
    );
    verdict.judge(
        "nodes_under_pressure",
        shown,
        pressed.len(),
        &limits.under_pressure,
    );
    let cordoned = nodes.iter().filter(|node| node.spec.unschedulable);
    let cordoned: Vec<_> = cordoned.map(|node| node.metadata.shown()).collect();
    let shown = format!(
        "{} of {all} nodes cordoned: {}",
        cordoned.len(),
        first_few(&cordoned)
    );
    verdict.judge("nodes_cordoned", shown, cordoned.len(), &limits.cordoned);
    format!("{ready} of {all} nodes ready")
}

/// Adds the number of nodes in each condition.
pub(crate) fn measure(nodes: &[Node], report: Report) -> Report {
    let count = |is_so: &dyn Fn(&Node) -> bool| nodes.iter().filter(|node| is_so(node)).count();
    let ready = count(&|node| node.is_ready());
    let states = [
        ("ready", ready),
        ("not_ready", nodes.len() - ready),
        ("cordoned", count(&|node| node.spec.unschedulable)),
    ];
    let pressures = PRESSURES.map(|(kind, label)| {
        (
            label,
            count(&|node| has(&node.status.conditions, kind, "True")),
        )
    });
    states
        .into_iter()
        .chain(pressures)
        .fold(report, |report, (label, count)| {
            report.set(&NODES, [label], measured(count))
        })
}
