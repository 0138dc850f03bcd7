//! Clusters with faults, each of which is named.

use super::{cluster::*, *};

#[track_caller]
fn assert_sick(path: &'static str, objects: Vec<Value>, keys: &Value, status: Status, text: &str) {
    let server = TestCluster::healthy().with(path, objects).start();
    assert_report(&server.check(keys.clone()), status, text);
}

#[test]
fn nodes_that_are_not_ready_under_pressure_or_cordoned_are_named() {
    let gone = || set_condition(node("n2"), 3, "Unknown", "NodeStatusUnknown");
    let pressed = set_condition(
        set_condition(node("n3"), 0, "True", "KubeletHasInsufficientMemory"),
        1,
        "True",
        "KubeletHasDiskPressure",
    );
    let mut cordoned = node("n4");
    cordoned["spec"]["unschedulable"] = true.into();
    let mut silent = node("n5");
    silent["status"] = json!({});
    let none = json!({});
    for (nodes, keys, status, text) in [
        (
            vec![node("n1"), gone(), node("n3")],
            &none,
            Status::Degraded,
            "1 of 3 nodes not ready: n2 (NodeStatusUnknown, for 3 min 20 s) (`nodes_not_ready.degraded_above` is 0)",
        ),
        (
            vec![node("n1"), gone(), node("n3")],
            &json!({"nodes_not_ready": {"unhealthy_above": 0}}),
            Status::Unhealthy,
            "(`nodes_not_ready.unhealthy_above` is 0)",
        ),
        (
            vec![node("n1"), gone()],
            &json!({"nodes_not_ready": {"degraded_above": 1}}),
            Status::Healthy,
            "1 of 2 nodes ready",
        ),
        (
            vec![gone()],
            &json!({"nodes_not_ready": {"degraded_above": 9}}),
            Status::Unhealthy,
            "none of 1 nodes is ready: n2 (NodeStatusUnknown",
        ),
        (
            vec![node("n1"), silent],
            &none,
            Status::Degraded,
            "1 of 2 nodes not ready: n5 (it has never reported)",
        ),
        (
            vec![node("n1"), pressed],
            &none,
            Status::Degraded,
            "1 of 2 nodes under pressure: n3 (MemoryPressure, DiskPressure) (`nodes_under_pressure.degraded_above` is 0)",
        ),
        (
            vec![node("n1"), cordoned.clone()],
            &none,
            Status::Degraded,
            "1 of 2 nodes cordoned: n4 (`nodes_cordoned.degraded_above` is 0)",
        ),
        (
            vec![node("n1"), cordoned],
            &json!({"nodes_cordoned": {"degraded_above": 1}}),
            Status::Healthy,
            "2 of 2 nodes ready",
        ),
        (
            vec![],
            &none,
            Status::Unhealthy,
            "there are no nodes, expected at least one",
        ),
    ] {
        assert_sick("/api/v1/nodes", nodes, keys, status, text);
    }
}

#[test]
fn conditions_of_nodes_are_counted_each_on_its_own() {
    let pressed = set_condition(node("n1"), 0, "True", "KubeletHasInsufficientMemory");
    let gone = set_condition(node("n2"), 3, "False", "KubeletNotReady");
    let server = TestCluster::healthy()
        .with("/api/v1/nodes", vec![pressed, gone, node("n3")])
        .start();
    let report = server.check(json!({}));
    for (condition, count) in [
        ("ready", 2.0),
        ("not_ready", 1.0),
        ("memory_pressure", 1.0),
        ("disk_pressure", 0.0),
    ] {
        assert_eq!(
            report.value(&NODES, [condition]),
            Some(count),
            "{condition}"
        );
    }
}

#[test]
fn workloads_that_are_not_ready_or_down_are_named() {
    let deployments = "/apis/apps/v1/deployments";
    let mut stuck = deployment("web", 3, 3);
    stuck["status"]["conditions"][1]["status"] = "False".into();
    stuck["status"]["conditions"][1]["reason"] = "ProgressDeadlineExceeded".into();
    let mut refused = deployment("web", 3, 1);
    let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastTransitionTime": ago(9)});
    let conditions = refused["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(failure);
    let mut one_by_default = deployment("web", 1, 0);
    one_by_default["spec"]
        .as_object_mut()
        .unwrap()
        .remove("replicas");
    let none = json!({});
    for (path, object, status, text) in [
        (
            deployments,
            deployment("web", 3, 1),
            Status::Degraded,
            "1 of 3 workloads not ready: Deployment shop/web has 1 of 3 replicas (`workloads_not_ready.degraded_above` is 0)",
        ),
        (
            deployments,
            deployment("web", 3, 0),
            Status::Unhealthy,
            "1 of 3 workloads down: Deployment shop/web has 0 of 3 replicas (`workloads_down.unhealthy_above` is 0)",
        ),
        (
            deployments,
            deployment("web", 0, 0),
            Status::Healthy,
            "3 of 3 workloads ready",
        ),
        (
            deployments,
            one_by_default,
            Status::Unhealthy,
            "Deployment shop/web has 0 of 1 replicas",
        ),
        (
            deployments,
            stuck,
            Status::Degraded,
            "Deployment shop/web has 3 of 3 replicas (ProgressDeadlineExceeded)",
        ),
        (
            deployments,
            refused,
            Status::Degraded,
            "Deployment shop/web has 1 of 3 replicas (FailedCreate)",
        ),
        (
            "/apis/apps/v1/statefulsets",
            stateful_set("db", 3, 2),
            Status::Degraded,
            "StatefulSet shop/db has 2 of 3 replicas",
        ),
        (
            "/apis/apps/v1/daemonsets",
            daemon_set("agent", 5, 0),
            Status::Unhealthy,
            "DaemonSet shop/agent has 0 of 5 replicas",
        ),
        (
            "/apis/apps/v1/daemonsets",
            daemon_set("agent", 0, 0),
            Status::Healthy,
            "3 of 3",
        ),
    ] {
        assert_sick(path, vec![object], &none, status, text);
    }
    let server = TestCluster::healthy()
        .with(
            deployments,
            vec![
                deployment("a", 2, 2),
                deployment("b", 2, 1),
                deployment("c", 2, 0),
            ],
        )
        .start();
    let report = server.check(json!({}));
    for state in ["ready", "not_ready", "down"] {
        assert_eq!(
            report.value(&WORKLOADS, ["Deployment", state]),
            Some(1.0),
            "{state}"
        );
    }
    assert_eq!(report.value(&REPLICAS, ["Deployment", "wanted"]), Some(6.0));
    assert_eq!(report.value(&REPLICAS, ["Deployment", "ready"]), Some(3.0));
    assert_eq!(
        report.value(&WORKLOADS, ["StatefulSet", "ready"]),
        Some(1.0)
    );
}

#[test]
fn failed_jobs_count_until_their_cron_job_succeeds_again() {
    let failed = |created: &str| of_cron_job(job("backup-1", "Failed"), created);
    let complete = |created: &str| of_cron_job(job("backup-2", "Complete"), created);
    let active = of_cron_job(job("backup-3", ""), "2023-11-14T22:00:00Z");
    let text = "1 of 1 Jobs failed: shop/migrate (BackoffLimitExceeded, for 1 min 0 s) (`jobs_failed.degraded_above` is 0)";
    let none = json!({});
    for (jobs, status, text) in [
        (vec![job("migrate", "Failed")], Status::Degraded, text),
        (vec![job("migrate", "")], Status::Healthy, "1 Jobs"),
        (
            vec![
                failed("2023-11-14T20:00:00Z"),
                complete("2023-11-14T21:00:00Z"),
            ],
            Status::Healthy,
            "2 Jobs",
        ),
        (
            vec![
                failed("2023-11-14T21:00:00Z"),
                complete("2023-11-14T20:00:00Z"),
                active,
            ],
            Status::Degraded,
            "1 of 3 Jobs failed: shop/backup-1",
        ),
        (
            vec![failed("2023-11-14T20:00:00Z"), job("migrate", "Complete")],
            Status::Degraded,
            "1 of 2 Jobs failed",
        ),
    ] {
        assert_sick("/apis/batch/v1/jobs", jobs, &none, status, text);
    }
    let jobs = vec![
        job("a", "Failed"),
        job("b", "Complete"),
        job("c", ""),
        job("d", ""),
    ];
    let server = TestCluster::healthy()
        .with("/apis/batch/v1/jobs", jobs)
        .start();
    let report = server.check(json!({}));
    for (state, count) in [("failed", 1.0), ("complete", 1.0), ("active", 2.0)] {
        assert_eq!(report.value(&JOBS, [state]), Some(count), "{state}");
    }
}

#[test]
fn pods_that_fail_wait_or_are_restarted_are_named() {
    let none = json!({});
    let mut deleted = waiting(pod("web"), "Running", "CrashLoopBackOff");
    deleted["metadata"]["deletionTimestamp"] = ago(10).into();
    let mut init = unschedulable("web", 9);
    init["status"]["initContainerStatuses"] = json!([{
        "name": "init", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}, "lastState": {},
    }]);
    let mut evicted = pod("web");
    evicted["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    for (object, keys, status, text) in [
        (
            ended(
                waiting(pod("web"), "Running", "CrashLoopBackOff"),
                12,
                "OOMKilled",
                60,
            ),
            &none,
            Status::Degraded,
            "1 of 1 pods cannot run: shop/web (app: CrashLoopBackOff after 12 restarts, last end: OOMKilled with exit code 137) \
             (`pods_failing.degraded_above` is 0)",
        ),
        (
            waiting(pod("web"), "Pending", "ImagePullBackOff"),
            &json!({"pods_failing": {"unhealthy_above": 0}}),
            Status::Unhealthy,
            "shop/web (app: ImagePullBackOff) (`pods_failing.unhealthy_above` is 0)",
        ),
        (
            waiting(pod("web"), "Pending", "CreateContainerConfigError"),
            &none,
            Status::Degraded,
            "shop/web (app: CreateContainerConfigError)",
        ),
        (
            init,
            &none,
            Status::Degraded,
            "shop/web (init: ErrImagePull)",
        ),
        (
            waiting(pod("web"), "Pending", "ContainerCreating"),
            &json!({"pending_after": "2d"}),
            Status::Healthy,
            "1 pods",
        ),
        (
            waiting(pod("web"), "Pending", "ContainerCreating"),
            &none,
            Status::Degraded,
            "1 of 1 pods pending too long: shop/web (for 1 d 0 h) (`pods_pending.degraded_above` is 0)",
        ),
        (
            unschedulable("web", 301),
            &none,
            Status::Degraded,
            "pending too long: shop/web (Unschedulable, for 5 min 1 s)",
        ),
        (unschedulable("web", 300), &none, Status::Healthy, "1 pods"),
        (
            ended(pod("web"), 3, "OOMKilled", 200),
            &none,
            Status::Degraded,
            "1 of 1 pods restarted: shop/web (app: OOMKilled with exit code 137, 3 min 20 s ago, 3 restarts) \
             (`pods_restarted.degraded_above` is 0)",
        ),
        (
            ended(pod("web"), 3, "OOMKilled", 301),
            &none,
            Status::Healthy,
            "1 pods",
        ),
        (
            ended(pod("web"), 3, "Error", 301),
            &json!({"restarted_within": "10m"}),
            Status::Degraded,
            "Error with exit code 137, 5 min 1 s ago",
        ),
        (deleted, &none, Status::Healthy, "1 pods"),
        (evicted, &none, Status::Healthy, "1 pods"),
    ] {
        let server = TestCluster::healthy()
            .with("/api/v1/pods", vec![object])
            .start();
        let report = server.check(keys.clone());
        assert_report(&report, status, text);
        // The words of a container are not passed on.
        assert!(!format!("{report:?}").contains("secret"), "{report:?}");
    }
}

#[test]
fn pods_are_counted_by_phase_and_by_their_first_problem() {
    let pods = vec![
        pod("a"),
        ended(
            waiting(pod("b"), "Running", "CrashLoopBackOff"),
            9,
            "Error",
            10,
        ),
        waiting(pod("c"), "Pending", "ErrImageNeverPull"),
        waiting(pod("d"), "Pending", "RunContainerError"),
        unschedulable("e", 999),
        ended(pod("f"), 1, "Error", 10),
    ];
    let server = TestCluster::healthy().with("/api/v1/pods", pods).start();
    let report = server.check(json!({}));
    for problem in ["crash_loop", "image", "start", "pending", "restarted"] {
        assert_eq!(
            report.value(&POD_PROBLEMS, [problem]),
            Some(1.0),
            "{problem}"
        );
    }
    for (phase, count) in [("Running", 3.0), ("Pending", 3.0), ("Failed", 0.0)] {
        assert_eq!(report.value(&PODS, [phase]), Some(count), "{phase}");
    }
    assert_report(
        &report,
        Status::Degraded,
        "3 of 6 pods cannot run: shop/b (app: CrashLoopBackOff after 9 restarts, last end: Error with exit code 137), shop/c (app",
    );
}

#[test]
fn an_api_server_that_is_not_ready_names_its_failed_checks() {
    let lines = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]informer-sync ok\n\
        [-]poststarthook/start-apiextensions-controllers failed: reason withheld\nreadyz check failed\n";
    let mut cluster = TestCluster::healthy();
    cluster.readyz = (500, lines.to_owned());
    let server = cluster.start();
    let report = server.check(json!({}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the API server is not ready: 2 of its 5 checks fail: etcd, poststarthook/start-apiextensions-controllers",
    );
    assert_eq!(report.value(&READYZ_CHECKS, ["failed"]), Some(2.0));
    assert_eq!(report.value(&NODES, ["ready"]), None);
    let seen = std::mem::take(&mut *server.seen.lock().unwrap());
    assert_eq!(seen, ["GET /readyz?verbose=true"]);
    server.check(json!({"readyz_exclude": ["etcd", "poststarthook/x"]}));
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        ["GET /readyz?verbose=true&exclude=etcd&exclude=poststarthook%2Fx"]
    );
}
