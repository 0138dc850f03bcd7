//! An engine on loopback that replays the API of Docker, engines that misbehave, and Podman where it is installed.

mod podman;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use conductor_net::testing::{self, BadServer};
use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn probe(config: &Value) -> ContainerProbe {
    TestHost::new("shop")
        .create_async(&config.to_string())
        .unwrap()
}

fn check_with(probe: &mut ContainerProbe, timeout: Duration) -> Result<Report, Failure> {
    let result = TestHost::new("shop").timeout(timeout).check_async(probe);
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

fn check(config: &Value) -> Report {
    check_with(&mut probe(config), MINUTE).unwrap()
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

/// A container of a test, as Docker 27 describes it.
#[derive(Clone)]
struct TestContainer {
    name: &'static str,
    inspection: Value,
}

impl TestContainer {
    fn new(name: &'static str, seconds_ago: f64) -> Self {
        let time = |seconds: f64| {
            let time = std::time::UNIX_EPOCH + Duration::from_secs_f64(seconds);
            let time = jiff::Timestamp::try_from(time).unwrap();
            time.to_string()
        };
        let start = engine::unix_time().unwrap() - seconds_ago;
        let inspection = json!({
            "Id": "", "Name": format!("/{name}"), "Created": time(start - 3600.0), "RestartCount": 0,
            "Image": "sha256:0407", "Config": {"Image": "registry.example/shop:2.1", "Labels": {}},
            "State": {
                "Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
                "Pid": 7, "ExitCode": 0, "Error": "", "StartedAt": time(start), "FinishedAt": "0001-01-01T00:00:00Z",
            },
        });
        Self { name, inspection }
    }

    fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.inspection.pointer_mut(parent).unwrap()[key] = value.into();
        self
    }

    fn health(self, status: &str) -> Self {
        let health = json!({"Status": status, "FailingStreak": 0, "Log": [{"Output": "secret"}]});
        self.set("/State/Health", health)
    }

    fn exited(self, code: i64) -> Self {
        let ended = self
            .set("/State/Status", "exited")
            .set("/State/Running", false);
        ended.set("/State/ExitCode", code)
    }
}

type Containers = Arc<Mutex<Vec<TestContainer>>>;

/// An engine at a socket of its own.
struct TestEngine {
    folder: TempDir,
    containers: Containers,
}

impl TestEngine {
    fn start(containers: Vec<TestContainer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let containers = Containers::new(Mutex::new(containers));
        let shared = containers.clone();
        testing::serve_unix(
            &folder.path().join("docker.sock"),
            move |request, stream| {
                let containers = shared.lock().unwrap();
                let _ = stream.write_all(&respond(&containers, request.line()));
            },
        );
        Self { folder, containers }
    }

    fn config(&self, keys: Value) -> Value {
        let socket = self.folder.path().join("docker.sock");
        let mut config = json!({"url": format!("unix:{}", socket.display())});
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

fn respond(containers: &[TestContainer], line: &str) -> Vec<u8> {
    let id = |nth: usize| format!("{nth:064x}");
    if let Some(query) = line.strip_prefix("GET /containers/json?all=true") {
        let is_filtered = query == "&filters=%7B%22label%22%3A%5B%22app%3Dshop%22%5D%7D";
        assert!(query.is_empty() || is_filtered, "{line}");
        let list = containers.iter().enumerate();
        let list = list.filter(|(_, container)| !is_filtered || container.name.starts_with("shop"));
        let list: Vec<_> = list
            .map(|(nth, container)| {
                let names = [format!("/proxy/{}", container.name), format!("/{}", container.name)];
                json!({"Id": id(nth), "Names": names, "Image": "x", "State": "running", "Status": "Up 2 hours (healthy)"})
            })
            .collect();
        return testing::json(200, &list.into());
    }
    let asked = line
        .strip_prefix("GET /containers/")
        .and_then(|rest| rest.strip_suffix("/json"));
    let nth = usize::from_str_radix(asked.expect(line), 16).unwrap();
    match containers.get(nth) {
        Some(container) if container.name != "vanished" => {
            testing::json(200, &container.clone().set("/Id", id(nth)).inspection)
        }
        _ => testing::json(404, &json!({"message": "No such container"})),
    }
}

#[test]
fn containers_that_run_are_healthy_and_measured() {
    let engine = TestEngine::start(vec![
        TestContainer::new("shop-web", 600.0)
            .health("healthy")
            .set("/RestartCount", 2),
        TestContainer::new("shop-worker-1", 600.0),
        TestContainer::new("other", 600.0).exited(1),
        TestContainer::new("vanished", 1.0),
    ]);
    let report = engine.check(
        json!({"containers": ["shop-web", "shop-worker-*"], "image": "registry.example/*:2.*"}),
    );
    assert_report(
        &report,
        Status::Healthy,
        "2 containers, of which 2 are running",
    );
    assert_eq!(report.value(&CONTAINERS, []), Some(2.0));
    assert_eq!(report.value(&RUNNING, ["shop-web"]), Some(1.0));
    assert_eq!(report.value(&HEALTHY, ["shop-web"]), Some(1.0));
    assert_eq!(report.value(&HEALTHY, ["shop-worker-1"]), None);
    assert_eq!(report.value(&RESTARTS, ["shop-web"]), Some(2.0));
    let start = report.value(&START, ["shop-web"]).unwrap();
    assert!(start < engine::unix_time().unwrap() - 599.0, "{start}");
    for phase in ["connect", "first_byte", "transfer"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    let report = engine.check(json!({"labels": {"app": "shop"}}));
    assert_report(&report, Status::Healthy, "2 containers");
    let report = engine.check(json!({"containers": ["*"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "other is exited with code 1, expected running",
    );
    let report = engine.check(json!({"containers": ["vanished"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "there is no container vanished, expected at least one",
    );
}

#[test]
fn what_is_wrong_with_a_container_is_named() {
    let web = || TestContainer::new("web", 600.0);
    let hour_ago = json!({"degraded_below": "1h"});
    for (container, keys, status, message) in [
        (
            web().health("unhealthy"),
            json!({}),
            Status::Unhealthy,
            "web fails its health check",
        ),
        (
            web().health("starting"),
            json!({}),
            Status::Degraded,
            "web is starting: its health check did not pass yet",
        ),
        (
            web().health("none"),
            json!({}),
            Status::Healthy,
            "1 containers",
        ),
        (
            web().exited(0),
            json!({}),
            Status::Unhealthy,
            "web is exited with code 0, expected running",
        ),
        (
            web().exited(137).set("/State/OOMKilled", true),
            json!({}),
            Status::Unhealthy,
            "web is exited (killed for lack of memory)",
        ),
        (
            web().exited(0),
            json!({"states": ["running", "exited"]}),
            Status::Healthy,
            "of which 0 are running",
        ),
        (
            web().exited(3),
            json!({"states": ["exited"]}),
            Status::Unhealthy,
            "web is exited with code 3, expected 0",
        ),
        (
            web().set("/State/Status", "paused"),
            json!({}),
            Status::Unhealthy,
            "web is paused, expected running",
        ),
        (
            web(),
            json!({"image": "*:3.*"}),
            Status::Unhealthy,
            "web has the image registry.example/shop:2.1, expected *:3.*",
        ),
        (
            web().set("/RestartCount", 5),
            json!({"restarts": {"degraded_above": 3}}),
            Status::Degraded,
            "web was restarted 5 times (`restarts.degraded_above` is 3)",
        ),
        (
            web(),
            json!({"uptime": hour_ago}),
            Status::Degraded,
            "web runs for 10 min 0 s (`uptime.degraded_below` is 1h)",
        ),
        (
            web(),
            json!({"age": {"unhealthy_above": "1h"}}),
            Status::Unhealthy,
            "web was created 1 h 10 min ago (`age.unhealthy_above` is 1h)",
        ),
    ] {
        let engine = TestEngine::start(vec![container]);
        let mut config = json!({"containers": ["web"]});
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        let report = engine.check(config);
        assert_report(&report, status, message);
        assert!(!format!("{report:?}").contains("secret"), "{report:?}");
    }
}

#[test]
fn a_restart_by_the_engine_degrades_one_check() {
    let engine = TestEngine::start(vec![
        TestContainer::new("web", 600.0).set("/RestartCount", 1),
    ]);
    let mut probe = probe(&engine.config(json!({"containers": ["web"]})));
    let mut restarted = |restarts: u32| {
        let mut containers = engine.containers.lock().unwrap();
        containers[0] = containers[0].clone().set("/RestartCount", restarts);
        drop(containers);
        check_with(&mut probe, MINUTE).unwrap()
    };
    assert_report(&restarted(1), Status::Healthy, "1 containers");
    assert_report(
        &restarted(3),
        Status::Degraded,
        "web was restarted 2 times since the last check",
    );
    assert_report(&restarted(3), Status::Healthy, "1 containers");
    // It was created again.
    assert_report(&restarted(0), Status::Healthy, "1 containers");
}

#[test]
fn too_many_containers_are_a_fault_of_the_config() {
    let many = vec![TestContainer::new("web", 1.0); 101];
    let engine = TestEngine::start(many);
    let config = engine.config(json!({"containers": ["*"]}));
    let failure = check_with(&mut probe(&config), MINUTE).unwrap_err();
    assert!(
        failure
            .message()
            .contains("select 101 containers, expected at most 100"),
        "{failure}"
    );
}

#[test]
fn engines_that_misbehave_are_unhealthy_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        let config = json!({"url": bad.url, "containers": ["web"]});
        let report = check_with(&mut probe(&config), limit);
        let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
        assert_report(&report, Status::Unhealthy, bad.message);
    }
    let report = check(&json!({"url": "unix:/nonexistent/docker.sock", "containers": ["web"]}));
    assert_report(&report, Status::Unhealthy, "there is no such socket");
}

#[test]
fn the_words_of_the_engine_are_passed_on() {
    let address = testing::serve(|_, stream| {
        let error = json!({"message": "client version 1.10 is too old"});
        let _ = stream.write_all(&testing::json(400, &error));
    });
    let report = check(&json!({"url": format!("http://{address}"), "containers": ["web"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "GET /containers/json: 400 Bad Request",
    );
    assert_report(&report, Status::Unhealthy, "client version 1.10 is too old");
}

#[test]
fn an_id_that_is_no_path_is_refused() {
    let address = testing::serve(|request, stream| {
        assert!(
            request.line().starts_with("GET /containers/json"),
            "{}",
            request.line()
        );
        let list = json!([{"Id": "../secrets?", "Names": ["/web"]}]);
        let _ = stream.write_all(&testing::json(200, &list));
    });
    let report = check(&json!({"url": format!("http://{address}"), "containers": ["web"]}));
    assert_report(&report, Status::Unhealthy, "whose id is not in hex");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (config, message) in [
        (
            json!({}),
            "key `containers`: there are neither names nor `labels`",
        ),
        (
            json!({"containers": ["x"], "url": "unix:docker.sock"}),
            "key `url`: \"unix:docker.sock\" has no absolute path",
        ),
        (
            json!({"containers": ["x"], "url": "tcp://a:2375"}),
            "key `url`: ",
        ),
        (
            json!({"containers": ["[x"]}),
            "key `containers[0]`: \"[x\" is not a pattern",
        ),
        (
            json!({"containers": ["x"], "image": "[x"}),
            "key `image`: \"[x\" is not a pattern",
        ),
        (
            json!({"containers": ["x"], "states": []}),
            "key `states`: the list is empty",
        ),
        (
            json!({"containers": ["x"], "restarts": {"degraded_above": 2, "unhealthy_above": 1}}),
            "key `restarts`: `degraded_above` (2) is above `unhealthy_above` (1)",
        ),
        (
            json!({"containers": ["x"], "uptime": {"degraded_below": "1m", "unhealthy_below": "2m"}}),
            "key `uptime`: `degraded_below` (1m) is below `unhealthy_below` (2m)",
        ),
    ] {
        let created =
            TestHost::new("shop").create_async_unchecked::<ContainerProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
