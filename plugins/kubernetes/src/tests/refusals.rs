//! Refusals of the API, each with its cure, and servers that misbehave.

use conductor_net::testing::BadServer;

use super::{cluster::*, *};

#[test]
fn a_resource_that_the_account_may_not_list_fails_the_check_and_names_the_rule() {
    let cluster = TestCluster::healthy()
        .refusing("/api/v1/nodes", 403, forbidden("nodes", ""))
        .refusing("/apis/batch/v1/jobs", 403, forbidden("jobs", "batch"));
    let failure = try_check(&cluster.start().config(json!({}))).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Error);
    for part in [
        "cannot list nodes: nodes is forbidden: User \"system:serviceaccount:monitoring:conductor\" cannot list resource",
        "give the account a ClusterRole with the verb `list` on `nodes` of the API group \"\", or leave `nodes` out of `resources`",
        "the verb `list` on `jobs` of the API group \"batch\"",
    ] {
        assert!(failure.message().contains(part), "{failure}");
    }
}

#[test]
fn what_the_account_may_list_is_judged_all_the_same() {
    let server = TestCluster::healthy()
        .refusing("/api/v1/nodes", 403, forbidden("nodes", ""))
        .with("/apis/apps/v1/deployments", vec![deployment("web", 3, 0)])
        .start();
    let report = server.check(json!({}));
    assert_report(
        &report,
        Status::Unhealthy,
        "Deployment shop/web has 0 of 3 replicas",
    );
    assert_report(&report, Status::Unhealthy, "; cannot list nodes: ");
    assert_eq!(report.value(&NODES, ["ready"]), None);
    assert_eq!(report.value(&PODS, ["Running"]), Some(2.0));
}

#[test]
fn in_a_namespace_a_role_is_enough() {
    let server = TestCluster::healthy()
        .refusing("/api/v1/namespaces/shop/pods", 403, forbidden("pods", ""))
        .start();
    let config = server.config(json!({"resources": ["pods"], "namespaces": ["shop"]}));
    let failure = try_check(&config).unwrap_err();
    assert!(
        failure
            .message()
            .contains("a Role in the namespace shop with the verb `list` on `pods`"),
        "{failure}"
    );
}

#[test]
fn each_refusal_has_its_cure() {
    let message = |code, reason| status(code, reason, "the words of the server");
    for (path, code, reason, keys, is_failure, text) in [
        (
            "/readyz",
            403,
            "Forbidden",
            json!({}),
            true,
            "the ClusterRole system:public-info-viewer",
        ),
        (
            "/readyz",
            404,
            "NotFound",
            json!({}),
            false,
            "there is no API server of Kubernetes; correct `url`",
        ),
        (
            "/readyz",
            429,
            "TooManyRequests",
            json!({}),
            false,
            "the API server sheds load, and asks to wait 1 s; check less often (`interval`)",
        ),
        (
            "/apis/batch",
            404,
            "NotFound",
            json!({}),
            true,
            "cannot list jobs: the server has no /apis/batch/v1/jobs; correct `url`, or leave `jobs` out of `resources`",
        ),
        (
            "/api/v1/pods",
            410,
            "Expired",
            json!({}),
            true,
            "its next page is gone (the words of the server); the next check begins it again",
        ),
        (
            "/api/v1/pods",
            429,
            "TooManyRequests",
            json!({}),
            false,
            "give the account a FlowSchema of its own",
        ),
        (
            "/api/v1/pods",
            400,
            "BadRequest",
            json!({"selector": "app=shop"}),
            true,
            "key `selector`: the API server refuses it: the words of the server; correct it",
        ),
        (
            "/api/v1/nodes",
            400,
            "BadRequest",
            json!({"node_selector": "x=="}),
            true,
            "key `node_selector`: the API server refuses it",
        ),
        (
            "/api/v1/pods",
            500,
            "InternalError",
            json!({}),
            false,
            "GET /api/v1/pods: 500 Internal Server Error, application/json",
        ),
        (
            "/api/v1/pods",
            504,
            "Timeout",
            json!({}),
            false,
            "the words of the server",
        ),
    ] {
        let server = TestCluster::healthy()
            .refusing(path, code, message(code, reason))
            .start();
        match (try_check(&server.config(keys)), is_failure) {
            (Err(failure), true) => assert!(failure.message().contains(text), "{failure}"),
            (Ok(report), false) => assert_report(&report, Status::Unhealthy, text),
            (other, _) => panic!("{path} {code}: {other:?}"),
        }
    }
}

#[test]
fn a_server_of_something_else_is_unhealthy() {
    let mut cluster = TestCluster::healthy();
    cluster.readyz = (200, "ok".to_owned());
    let report = cluster.start().check(json!({}));
    assert_report(
        &report,
        Status::Unhealthy,
        "there are no checks of an API server, such as `[+]etcd ok`; correct `url`",
    );
}

#[test]
fn servers_that_misbehave_are_unhealthy_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        // `/readyz` is text.
        let of_readyz = match bad.message {
            "is not JSON" => "there are no checks of an API server",
            message => message,
        };
        for (keys, expected) in [
            (json!({"resources": []}), of_readyz),
            (json!({"readyz": false}), bad.message),
        ] {
            let mut config = json!({"url": bad.url});
            config
                .as_object_mut()
                .unwrap()
                .extend(keys.as_object().unwrap().clone());
            let report = check_with(&mut probe(&config), limit);
            let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
            assert_report(&report, Status::Unhealthy, expected);
        }
    }
}
