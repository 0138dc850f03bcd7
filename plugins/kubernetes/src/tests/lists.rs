//! Lists in pages, without end, and without objects.

use conductor_net::testing;

use super::{cluster::*, *};

#[test]
fn a_list_is_read_page_by_page() {
    let pods = (0..7).map(|nth| pod(&format!("web-{nth}"))).collect();
    let mut cluster = TestCluster::healthy().with("/api/v1/pods", pods);
    cluster.page = 3;
    let server = cluster.start();
    let report =
        server.check(json!({"readyz": false, "resources": ["pods"], "namespaces": ["shop"]}));
    assert_report(&report, Status::Healthy, "7 pods");
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            "GET /api/v1/namespaces/shop/pods?limit=250",
            "GET /api/v1/namespaces/shop/pods?limit=250&continue=3",
            "GET /api/v1/namespaces/shop/pods?limit=250&continue=6",
        ]
    );
}

/// Starts a server whose list of pods has a next page according to the current one.
fn continuing(next: impl Fn(u32) -> String + Send + Sync + 'static) -> Value {
    let address = testing::serve(move |request, stream| {
        let (_, asked) = request.line().split_once("continue=").unwrap_or(("", "0"));
        let metadata = json!({"resourceVersion": "1", "continue": next(asked.parse().unwrap())});
        let page = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": [pod("web")]});
        let _ = stream.write_all(&response(200, &page));
    });
    json!({"url": format!("http://{address}"), "readyz": false, "resources": ["pods"]})
}

#[test]
fn a_list_that_goes_in_circles_is_unhealthy() {
    for length in [1, 3] {
        let report = check(&continuing(move |asked| (asked % length + 1).to_string()));
        assert_report(
            &report,
            Status::Unhealthy,
            "GET /api/v1/pods: 200 OK, application/json, ",
        );
        assert_report(
            &report,
            Status::Unhealthy,
            "the list does not end: it continues with a page that was read already",
        );
    }
}

#[test]
fn a_list_of_too_many_pages_is_a_fault_of_the_config() {
    let failure = try_check(&continuing(|asked| (asked + 1).to_string())).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Config);
    assert_eq!(
        failure.message(),
        "there are more than 80 pages of 250 pods, expected fewer; select some with `namespaces` or `selector`, or leave them \
         out of `resources`"
    );
}

#[test]
fn a_namespace_or_selector_that_finds_nothing_is_unhealthy() {
    let server = TestCluster::healthy().start();
    let report = server.check(json!({"namespaces": ["shop", "shopp"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "there are no workloads or pods in the namespace shopp, expected at least one",
    );
    let report = server.check(json!({"selector": "app=shopp"}));
    assert_report(
        &report,
        Status::Unhealthy,
        "there are no workloads or pods with the labels app=shopp in the cluster, expected at least one",
    );
    // Jobs are removed when they are old.
    let report = server.check(json!({"resources": ["jobs"], "namespaces": ["shopp"]}));
    assert_report(&report, Status::Healthy, "0 Jobs");
}

#[test]
fn a_list_of_something_else_is_unhealthy() {
    for (body, message) in [
        (
            json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": []}),
            "the object is a NodeList, expected a PodList",
        ),
        (
            json!({"kind": "PodList", "items": []}),
            "missing field `metadata`",
        ),
        (
            json!({"kind": "PodList", "metadata": {}, "items": [{"metadata": 7}]}),
            "has another type than the API documents",
        ),
        (json!({"status": "ok"}), "missing field `kind`"),
    ] {
        let address = testing::serve(move |_, stream| {
            let _ = stream.write_all(&response(200, &body));
        });
        let url = format!("http://{address}");
        let report = check(&json!({"url": url, "readyz": false, "resources": ["pods"]}));
        assert_report(&report, Status::Unhealthy, message);
    }
}

#[test]
fn a_list_without_the_time_is_unhealthy() {
    let address = testing::serve(|_, stream| {
        let page = json!({"kind": "PodList", "metadata": {}, "items": []});
        let _ = stream.write_all(&testing::json(200, &page));
    });
    let url = format!("http://{address}");
    let report = check(&json!({"url": url, "readyz": false, "resources": ["pods"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "there is no `date` header with the time",
    );
}
