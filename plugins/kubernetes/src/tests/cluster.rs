//! An API server on loopback that replays objects in the form that the OpenAPI document of Kubernetes 1.37 describes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use conductor_net::testing::{self, SeenRequest};
use serde_json::{Value, json};

/// The time of the server, 1700000000.
const NOW: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// Returns a time before that of the server, as the API writes it.
pub(super) fn ago(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(1_700_000_000 - seconds).unwrap();
    time.to_string()
}

/// The response of a server.
#[derive(Clone)]
pub(super) struct TestCluster {
    /// The status and the lines of `/readyz`.
    pub(super) readyz: (u16, String),
    /// Objects by the path of the list in all namespaces.
    pub(super) lists: BTreeMap<&'static str, Vec<Value>>,
    /// Responses without success by the beginning of the path.
    pub(super) refusals: Vec<(&'static str, u16, Value)>,
    /// The token that is accepted; none if any request is.
    pub(super) token: Option<String>,
    /// Most objects of a page.
    pub(super) page: usize,
}

/// A running server.
pub(super) struct TestServer {
    pub(super) url: String,
    pub(super) cluster: Arc<Mutex<TestCluster>>,
    /// The request lines that it has seen.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
}

impl TestCluster {
    /// Returns a cluster without faults.
    pub(super) fn healthy() -> Self {
        Self {
            readyz: (200, READY.to_owned()),
            lists: BTreeMap::from([
                ("/api/v1/nodes", vec![node("n1"), node("n2"), node("n3")]),
                ("/apis/apps/v1/deployments", vec![deployment("web", 3, 3)]),
                ("/apis/apps/v1/statefulsets", vec![stateful_set("db", 2, 2)]),
                ("/apis/apps/v1/daemonsets", vec![daemon_set("agent", 3, 3)]),
                ("/apis/batch/v1/jobs", vec![job("migrate", "Complete")]),
                ("/api/v1/pods", vec![pod("web-0"), pod("web-1")]),
            ]),
            refusals: Vec::new(),
            token: None,
            page: 500,
        }
    }

    pub(super) fn with(mut self, path: &'static str, objects: Vec<Value>) -> Self {
        self.lists.insert(path, objects);
        self
    }

    pub(super) fn refusing(mut self, path: &'static str, status: u16, body: Value) -> Self {
        self.refusals.push((path, status, body));
        self
    }

    pub(super) fn start(self) -> TestServer {
        let cluster = Arc::new(Mutex::new(self));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shared, lines) = (cluster.clone(), seen.clone());
        let address = testing::serve(move |request, stream| {
            let response = shared.lock().unwrap().respond(request);
            lines.lock().unwrap().push(request.line().to_owned());
            let _ = stream.write_all(&response);
        });
        TestServer {
            url: format!("http://{address}"),
            cluster,
            seen,
        }
    }

    pub(super) fn respond(&self, request: &SeenRequest) -> Vec<u8> {
        let target = request.line().strip_prefix("GET ").expect("a GET request");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if authorization.is_some() && request.header("authorization") != authorization.as_deref() {
            return response(401, &status(401, "Unauthorized", "Unauthorized"));
        }
        if let Some((_, code, body)) = self
            .refusals
            .iter()
            .find(|(begin, _, _)| path.starts_with(begin))
        {
            return response(*code, body);
        }
        if path == "/readyz" {
            assert!(query.starts_with("verbose=true"), "{query}");
            let (code, lines) = &self.readyz;
            return whole(*code, "text/plain; charset=utf-8", lines);
        }
        self.list(path, query)
    }

    fn list(&self, path: &str, query: &str) -> Vec<u8> {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value)
        };
        let (namespace, all) = match path.split_once("/namespaces/") {
            Some((base, rest)) => {
                let (namespace, resource) = rest.split_once('/').unwrap();
                (Some(namespace), format!("{base}/{resource}"))
            }
            None => (None, path.to_owned()),
        };
        let objects = self
            .lists
            .get(all.as_str())
            .unwrap_or_else(|| panic!("no {path}"));
        let is_selected = |object: &&Value| {
            namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
                && parameter("labelSelector").is_none_or(|selector| selector == "app%3Dshop")
        };
        let selected: Vec<_> = objects.iter().filter(is_selected).collect();
        let limit: usize = parameter("limit").expect("a limit").parse().unwrap();
        let begin: usize = parameter("continue").map_or(0, |token| token.parse().unwrap());
        let end = selected.len().min(begin + limit.min(self.page));
        let mut metadata = json!({"resourceVersion": "10245"});
        if end < selected.len() {
            metadata["continue"] = end.to_string().into();
            metadata["remainingItemCount"] = (selected.len() - end).into();
        }
        let (version, kind) = list_kind(&all);
        response(
            200,
            &json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": &selected[begin..end]}),
        )
    }
}

fn list_kind(path: &str) -> (&'static str, &'static str) {
    match path.rsplit_once('/').unwrap().1 {
        "nodes" => ("v1", "NodeList"),
        "pods" => ("v1", "PodList"),
        "deployments" => ("apps/v1", "DeploymentList"),
        "statefulsets" => ("apps/v1", "StatefulSetList"),
        "daemonsets" => ("apps/v1", "DaemonSetList"),
        _ => ("batch/v1", "JobList"),
    }
}

/// Returns a response in JSON with the headers of an API server.
pub(super) fn response(code: u16, body: &Value) -> Vec<u8> {
    let retry = if code == 429 {
        "retry-after: 1\r\n"
    } else {
        ""
    };
    whole(
        code,
        &format!("application/json\r\n{retry}audit-id: 0"),
        &body.to_string(),
    )
}

fn whole(code: u16, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {code} Status\r\ndate: {NOW}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the object of an error.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": {}, "code": code,
    })
}

/// Returns the error of an account without the right to list a resource.
pub(super) fn forbidden(resource: &str, group: &str) -> Value {
    let user = "system:serviceaccount:monitoring:conductor";
    let message = format!(
        "{resource} is forbidden: User \"{user}\" cannot list resource \"{resource}\" in API group \"{group}\" at the cluster scope"
    );
    status(403, "Forbidden", &message)
}

pub(super) fn node(name: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "kubelet reports",
            "lastHeartbeatTime": ago(10), "lastTransitionTime": ago(200),
        })
    };
    json!({
        "metadata": metadata(name, None),
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "capacity": {"cpu": "4", "memory": "8048496Ki", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "7946096Ki", "pods": "110"},
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": name}],
            "images": [{"names": ["registry.example/shop:2"], "sizeBytes": 5}],
            "nodeInfo": {
                "machineID": "m", "systemUUID": "u", "bootID": "b", "kernelVersion": "6.12", "osImage": "Debian",
                "containerRuntimeVersion": "containerd://2.1", "kubeletVersion": "v1.34.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    })
}

/// Sets the status of a node's condition, the fourth of which is `Ready`.
pub(super) fn set_condition(mut node: Value, nth: usize, status: &str, reason: &str) -> Value {
    let condition = &mut node["status"]["conditions"][nth];
    condition["status"] = status.into();
    condition["reason"] = reason.into();
    node
}

pub(super) fn deployment(name: &str, wanted: u32, ready: u32) -> Value {
    let mut deployment = workload(name);
    deployment["spec"]["replicas"] = wanted.into();
    deployment["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
    let available = if ready == wanted { "True" } else { "False" };
    // The API leaves out counts of 0.
    let mut status = json!({
        "observedGeneration": 4, "replicas": wanted, "updatedReplicas": wanted,
        "conditions": [
            {
                "type": "Available", "status": available, "reason": "MinimumReplicas", "message": "replicas",
                "lastUpdateTime": ago(300), "lastTransitionTime": ago(300),
            },
            {
                "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "progress",
                "lastUpdateTime": ago(300), "lastTransitionTime": ago(300),
            },
        ],
    });
    if ready > 0 {
        status["readyReplicas"] = ready.into();
        status["availableReplicas"] = ready.into();
    }
    if ready < wanted {
        status["unavailableReplicas"] = (wanted - ready).into();
    }
    deployment["status"] = status;
    deployment
}

pub(super) fn stateful_set(name: &str, wanted: u32, ready: u32) -> Value {
    let mut set = workload(name);
    set["spec"]["replicas"] = wanted.into();
    set["spec"]["serviceName"] = name.into();
    set["status"] = json!({
        "observedGeneration": 1, "replicas": wanted, "readyReplicas": ready, "availableReplicas": ready,
        "currentReplicas": wanted, "updatedReplicas": wanted, "collisionCount": 0,
    });
    set
}

pub(super) fn daemon_set(name: &str, wanted: u32, ready: u32) -> Value {
    let mut set = workload(name);
    set["status"] = json!({
        "currentNumberScheduled": wanted, "numberMisscheduled": 0, "desiredNumberScheduled": wanted,
        "numberReady": ready, "observedGeneration": 1, "updatedNumberScheduled": wanted, "numberAvailable": ready,
    });
    set
}

fn workload(name: &str) -> Value {
    json!({
        "metadata": metadata(name, Some("shop")),
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "app", "image": "registry.example/shop:2"}]},
            },
        },
    })
}

/// Returns a Job with this condition, or an active one if it is empty.
pub(super) fn job(name: &str, condition: &str) -> Value {
    let mut job = workload(name);
    job["spec"]["backoffLimit"] = 6.into();
    job["status"] = match condition {
        "" => json!({"active": 1, "ready": 1, "startTime": ago(100)}),
        condition => json!({
            "startTime": ago(100), "failed": 1,
            "conditions": [{
                "type": condition, "status": "True", "reason": "BackoffLimitExceeded", "message": "backoff limit",
                "lastProbeTime": ago(60), "lastTransitionTime": ago(60),
            }],
        }),
    };
    job
}

/// Makes the Job one of a CronJob, created at this time.
pub(super) fn of_cron_job(mut job: Value, created: &str) -> Value {
    job["metadata"]["creationTimestamp"] = created.into();
    job["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "name": "backup", "uid": "c7", "controller": true, "blockOwnerDeletion": true,
    }]);
    job
}

/// Returns a pod that runs.
pub(super) fn pod(name: &str) -> Value {
    json!({
        "metadata": metadata(name, Some("shop")),
        "spec": {"containers": [{"name": "app", "image": "registry.example/shop:2"}], "nodeName": "n1"},
        "status": {
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.244.0.7", "qosClass": "BestEffort", "startTime": ago(3600),
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": ago(3600)},
                {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": ago(3600)},
            ],
            "containerStatuses": [{
                "name": "app", "image": "registry.example/shop:2", "imageID": "sha256:07", "containerID": "containerd://1",
                "ready": true, "started": true, "restartCount": 0, "lastState": {}, "state": {"running": {"startedAt": ago(3600)}},
            }],
        },
    })
}

/// Makes the container of a pod wait for this reason.
pub(super) fn waiting(mut pod: Value, phase: &str, reason: &str) -> Value {
    pod["status"]["phase"] = phase.into();
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": reason, "message": "back-off 5m0s restarting failed container, token=secret"}});
    pod
}

/// Gives the container of a pod an earlier end.
pub(super) fn ended(mut pod: Value, restarts: u32, reason: &str, seconds_ago: i64) -> Value {
    let container = &mut pod["status"]["containerStatuses"][0];
    container["restartCount"] = restarts.into();
    container["lastState"] = json!({"terminated": {
        "exitCode": 137, "reason": reason, "startedAt": ago(seconds_ago + 60), "finishedAt": ago(seconds_ago),
        "containerID": "containerd://0",
    }});
    pod
}

/// Returns a pod that no node has room for.
pub(super) fn unschedulable(name: &str, seconds_ago: i64) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["creationTimestamp"] = ago(seconds_ago).into();
    pod["status"] = json!({
        "phase": "Pending", "qosClass": "BestEffort",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
            "lastProbeTime": null, "lastTransitionTime": ago(seconds_ago),
        }],
    });
    pod
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7", "generation": 1,
        "creationTimestamp": ago(86_400), "labels": {"app": "shop"},
        "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}],
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

/// The lines of an API server whose checks pass.
const READY: &str = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n\
    [+]poststarthook/start-apiextensions-informers ok\n[+]poststarthook/rbac/bootstrap-roles ok\n[+]shutdown ok\nreadyz check passed\n";
