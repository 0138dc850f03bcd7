//! API servers on loopback that replay the published shapes, and servers that misbehave.

mod cluster;
mod credentials;
mod lists;
mod refusals;
mod sick;

use std::time::Duration;

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use self::cluster::{TestCluster, TestServer};
use super::*;
use crate::resource::Resource;

const MINUTE: Duration = Duration::from_secs(60);

fn probe(config: &Value) -> KubernetesProbe {
    TestHost::new("cluster")
        .create_async(&config.to_string())
        .unwrap()
}

fn check_with(probe: &mut KubernetesProbe, timeout: Duration) -> Result<Report, Failure> {
    let result = TestHost::new("cluster").timeout(timeout).check_async(probe);
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

fn try_check(config: &Value) -> Result<Report, Failure> {
    check_with(&mut probe(config), MINUTE)
}

fn check(config: &Value) -> Report {
    try_check(config).unwrap()
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

impl TestServer {
    fn config(&self, keys: Value) -> Value {
        let mut config = json!({"url": self.url});
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        config
    }

    fn check(&self, keys: Value) -> Report {
        check(&self.config(keys))
    }
}

#[test]
fn a_cluster_without_faults_is_healthy_and_measured() {
    let server = TestCluster::healthy().start();
    let report = server.check(json!({}));
    assert_report(
        &report,
        Status::Healthy,
        "the API server passes 8 checks, 3 of 3 nodes ready, 3 of 3 workloads ready, 1 Jobs, 2 pods",
    );
    for (condition, count) in [
        ("ready", 3.0),
        ("not_ready", 0.0),
        ("cordoned", 0.0),
        ("memory_pressure", 0.0),
        ("disk_pressure", 0.0),
        ("pid_pressure", 0.0),
        ("network_unavailable", 0.0),
    ] {
        assert_eq!(
            report.value(&NODES, [condition]),
            Some(count),
            "{condition}"
        );
    }
    for (kind, replicas) in [
        ("Deployment", 3.0),
        ("StatefulSet", 2.0),
        ("DaemonSet", 3.0),
    ] {
        assert_eq!(
            report.value(&WORKLOADS, [kind, "ready"]),
            Some(1.0),
            "{kind}"
        );
        assert_eq!(
            report.value(&WORKLOADS, [kind, "down"]),
            Some(0.0),
            "{kind}"
        );
        for state in ["wanted", "ready"] {
            assert_eq!(
                report.value(&REPLICAS, [kind, state]),
                Some(replicas),
                "{kind} {state}"
            );
        }
    }
    assert_eq!(report.value(&JOBS, ["complete"]), Some(1.0));
    assert_eq!(report.value(&PODS, ["Running"]), Some(2.0));
    assert_eq!(report.value(&POD_PROBLEMS, ["crash_loop"]), Some(0.0));
    assert_eq!(report.value(&READYZ_CHECKS, ["passed"]), Some(8.0));
    for phase in ["connect", "first_byte", "transfer"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    assert!(report.value(&DURATION, []).is_some());
    let report = server.check(json!({"degraded_after": "1ns"}));
    assert_report(&report, Status::Degraded, "the check took ");
}

#[test]
fn only_the_chosen_parts_are_asked_for() {
    let server = TestCluster::healthy().start();
    let report = server.check(json!({
        "readyz": false, "resources": ["deployments", "jobs"], "namespaces": ["shop"], "selector": "app=shop",
    }));
    assert_report(&report, Status::Healthy, "1 of 1 workloads ready, 1 Jobs");
    assert_eq!(report.value(&NODES, ["ready"]), None);
    assert_eq!(report.value(&WORKLOADS, ["StatefulSet", "ready"]), None);
    let seen = std::mem::take(&mut *server.seen.lock().unwrap());
    assert_eq!(
        seen,
        [
            "GET /apis/apps/v1/namespaces/shop/deployments?limit=250&labelSelector=app%3Dshop",
            "GET /apis/batch/v1/namespaces/shop/jobs?limit=250&labelSelector=app%3Dshop",
        ]
    );
    let report = server.check(json!({"resources": ["nodes"], "node_selector": "app=shop"}));
    assert_report(
        &report,
        Status::Healthy,
        "the API server passes 8 checks, 3 of 3 nodes ready",
    );
    assert_eq!(report.value(&PODS, ["Running"]), None);
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let url = "https://cluster.example:6443";
    let many: Vec<_> = (0..21).map(|nth| format!("n{nth}")).collect();
    for (config, message) in [
        (json!({"url": "cluster.example:6443"}), "key `url`: "),
        (
            json!({"url": url, "token": "a-secret", "token_file": "/t"}),
            "key `token_file`: `token` already authenticates",
        ),
        (
            json!({"url": url, "token_file": "t"}),
            "key `token_file`: \"t\" is not absolute",
        ),
        (
            json!({"url": url, "token_file": "/nonexistent/token"}),
            "in a pod set `automountServiceAccountToken`",
        ),
        (
            json!({"url": url, "token": "a-secret\nx"}),
            "key `token`: the token has characters",
        ),
        (
            json!({"url": url, "readyz": false, "resources": []}),
            "key `resources`: the list is empty and `readyz` is false",
        ),
        (
            json!({"url": url, "readyz": false, "readyz_exclude": ["etcd"]}),
            "key `readyz_exclude`: `readyz` is false",
        ),
        (
            json!({"url": url, "resources": ["pods", "pods"]}),
            "key `resources[1]`: pods is given twice",
        ),
        (
            json!({"url": url, "namespaces": ["../secrets"]}),
            "key `namespaces[0]`: \"../secrets\" is not the name of a namespace",
        ),
        (
            json!({"url": url, "namespaces": ["shop", "shop"]}),
            "key `namespaces[1]`: shop is given twice",
        ),
        (
            json!({"url": url, "namespaces": many}),
            "key `namespaces`: there are 21, expected at most 20",
        ),
        (
            json!({"url": url, "selector": " "}),
            "key `selector`: it is empty",
        ),
        (
            json!({"url": url, "pods_failing": {"degraded_above": 2, "unhealthy_above": 1}}),
            "key `pods_failing`: `degraded_above` (2) is above `unhealthy_above` (1)",
        ),
        (
            json!({"url": url, "nodes_cordoned": {}}),
            "key `nodes_cordoned`: the table has no limit",
        ),
    ] {
        let created =
            TestHost::new("cluster").create_async_unchecked::<KubernetesProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
        assert!(!failure.message().contains("a-secret"), "{failure}");
    }
}

#[test]
fn the_cluster_role_of_the_documentation_is_enough() {
    let page = include_str!("../../../docs/reference/probes/kubernetes.md");
    for resource in Resource::ALL {
        let (group, name) = (resource.group(), resource.name());
        let grants = |line: &str| {
            line.contains(&format!("apiGroups: [\"{group}\"]"))
                && line.contains(&format!("\"{name}\""))
                && line.contains("verbs: [\"list\"]")
        };
        assert!(page.lines().any(grants), "{name}");
    }
}
