//! Keys of a Kubernetes platform's `config` table.

use std::path::{Path, PathBuf};

use conductor_net::{
    DurationLimits, DurationRules, Limits, TlsConfig,
    http::{ApiPhases, ApiServer, bearer, header::HeaderMap},
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Secret},
    schemars,
};
use serde::Deserialize;

use crate::{
    KubernetesProbe,
    api::KubernetesApi,
    nodes::NodeLimits,
    pods::PodRules,
    resource::Resource,
    selection::Selection,
    token::{self, TokenSource},
    workloads::WorkloadLimits,
};

/// Checks a Kubernetes cluster: its API server, nodes, workloads, Jobs and pods.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesConfig {
    /// URL of the API server. Without it the host runs in a pod, and the server is `https://kubernetes.default.svc`, with
    /// the token and the CA of the pod's service account.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "iri"),
        example = &"https://cluster.example:6443"
    )]
    url: Option<String>,

    /// Token of a service account, for one that does not expire.
    token: Option<Secret>,

    /// Absolute path of a file with the token, read for each check. The plugin reads it only where `allow` lists its
    /// folder, `read FOLDER`.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    #[schemars(example = &"/etc/conductor/cluster/token")]
    token_file: Option<PathBuf>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    tls: TlsConfig,

    /// Check the API server by its own checks, `/readyz`.
    #[serde(default = "yes")]
    readyz: bool,

    /// Names of checks of the API server that do not count.
    #[serde(default)]
    #[schemars(inner(length(min = 1)), extend("examples" = [["etcd"]]))]
    readyz_exclude: Vec<String>,

    /// Resources to check.
    #[serde(default = "all_resources")]
    #[schemars(with = "Vec<Resource>", extend("examples" = [["deployments", "pods"]]))]
    resources: Vec<Resource>,

    /// Namespaces of workloads, Jobs and pods; all if the list is left out. Each must have some of the listed resources.
    #[serde(default)]
    #[schemars(length(max = 20), inner(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")), extend("examples" = [["shop", "payments"]]))]
    namespaces: Vec<String>,

    /// Label selector of workloads, Jobs and pods.
    #[schemars(length(min = 1), example = &"app.kubernetes.io/part-of=shop,tier!=cache")]
    selector: Option<String>,

    /// Label selector of nodes.
    #[schemars(length(min = 1), example = &"!node-role.kubernetes.io/control-plane")]
    node_selector: Option<String>,

    /// Number of nodes that are not ready; degraded above 0 if it is left out. If none is ready, the platform is unhealthy.
    #[schemars(extend("examples" = [{"degraded_above": 0, "unhealthy_above": 2}]))]
    nodes_not_ready: Option<Limits<usize>>,

    /// Number of nodes with too little memory, disk or process ids, or without network; degraded above 0 if it is left out.
    nodes_under_pressure: Option<Limits<usize>>,

    /// Number of nodes that take no new pods (`kubectl cordon`); degraded above 0 if it is left out.
    #[schemars(extend("examples" = [{"degraded_above": 1}]))]
    nodes_cordoned: Option<Limits<usize>>,

    /// Number of workloads with fewer ready replicas than wanted, or whose rollout does not continue; degraded above 0 if it
    /// is left out.
    workloads_not_ready: Option<Limits<usize>>,

    /// Number of workloads that have none of the wanted replicas; unhealthy above 0 if it is left out.
    workloads_down: Option<Limits<usize>>,

    /// Number of Jobs that failed; degraded above 0 if it is left out.
    jobs_failed: Option<Limits<usize>>,

    /// Number of pods with a container that cannot run, as in `CrashLoopBackOff` or `ImagePullBackOff`; degraded above 0 if
    /// it is left out.
    pods_failing: Option<Limits<usize>>,

    /// Number of pods that are pending for longer than `pending_after`; degraded above 0 if it is left out.
    pods_pending: Option<Limits<usize>>,

    /// Time since its creation after which a pending pod counts.
    #[serde(default = "five_minutes")]
    pending_after: Duration,

    /// Number of pods with a container that ended and was restarted within `restarted_within`; degraded above 0 if it is
    /// left out.
    #[schemars(extend("examples" = [{"degraded_above": 5}]))]
    pods_restarted: Option<Limits<usize>>,

    /// Time for which a restart counts.
    #[serde(default = "five_minutes")]
    restarted_within: Duration,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"2s")]
    degraded_after: Option<DurationLimits<ApiPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "5s", "first_byte": "2s"}]))]
    unhealthy_after: Option<DurationLimits<ApiPhases>>,
}

fn yes() -> bool {
    true
}

fn all_resources() -> Vec<Resource> {
    Resource::ALL.to_vec()
}

fn five_minutes() -> Duration {
    std::time::Duration::from_secs(300).into()
}

impl KubernetesConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(mut self) -> Result<KubernetesProbe, Failure> {
        let mut faults = Vec::new();
        let api = self.api(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        self.check_selection(&mut faults);
        let nodes = NodeLimits {
            not_ready: degraded("nodes_not_ready", self.nodes_not_ready, &mut faults),
            under_pressure: degraded(
                "nodes_under_pressure",
                self.nodes_under_pressure,
                &mut faults,
            ),
            cordoned: degraded("nodes_cordoned", self.nodes_cordoned, &mut faults),
        };
        let workloads = WorkloadLimits {
            not_ready: degraded("workloads_not_ready", self.workloads_not_ready, &mut faults),
            down: limits(
                "workloads_down",
                self.workloads_down,
                UNHEALTHY,
                &mut faults,
            ),
        };
        let jobs = degraded("jobs_failed", self.jobs_failed, &mut faults);
        let pods = PodRules {
            failing: degraded("pods_failing", self.pods_failing, &mut faults),
            pending: degraded("pods_pending", self.pods_pending, &mut faults),
            restarted: degraded("pods_restarted", self.pods_restarted, &mut faults),
            pending_after: self.pending_after,
            restarted_within: self.restarted_within,
        };
        match api {
            Some(api) if faults.is_empty() => Ok(KubernetesProbe {
                api,
                readyz: self.readyz.then_some(self.readyz_exclude),
                selection: Selection {
                    resources: self.resources,
                    namespaces: self.namespaces,
                    selector: self.selector,
                    node_selector: self.node_selector,
                },
                nodes,
                workloads,
                jobs,
                pods,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    /// Returns the URL of the API server. Without the key it is that of the cluster that the host's pod is in, and the
    /// keys that are left out have the files of the pod's service account.
    fn server_url(&mut self) -> String {
        if let Some(url) = &self.url {
            return url.clone();
        }
        let has_token = self.token.is_some() || self.token_file.is_some();
        if !has_token && self.tls.client_cert.is_none() {
            self.token_file = Some(Path::new(SERVICE_ACCOUNT).join("token"));
        }
        if self.tls.ca_file.is_none() && !self.tls.skip_verify {
            self.tls.ca_file = Some(Path::new(SERVICE_ACCOUNT).join("ca.crt"));
        }
        IN_CLUSTER.to_owned()
    }

    fn api(&mut self, faults: &mut Vec<String>) -> Option<KubernetesApi> {
        let url = self.server_url();
        let before = faults.len();
        let token = self.token(faults);
        if faults.len() > before {
            // The CA is next to the token: a second message would only repeat the cure.
            return None;
        }
        let server = ApiServer::at_url(
            "kubernetes",
            "url",
            &url,
            &self.tls,
            HeaderMap::new(),
            faults,
        );
        Some(KubernetesApi::new(server?, token))
    }

    fn token(&self, faults: &mut Vec<String>) -> TokenSource {
        match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                faults.push(
                    "key `token_file`: `token` already authenticates the requests; keep one of the two"
                        .to_owned(),
                );
                TokenSource::None
            }
            (Some(token), None) => match bearer(token.expose().trim()) {
                Some(header) => TokenSource::Fixed(header),
                None => {
                    faults.push(
                        "key `token`: the token has characters that a header cannot have; write it on one line"
                            .to_owned(),
                    );
                    TokenSource::None
                }
            },
            (None, Some(path)) if !path.is_absolute() => {
                faults.push(format!(
                    "key `token_file`: {path:?} is not absolute; write the path from the root, such as \"/etc/conductor/token\""
                ));
                TokenSource::None
            }
            (None, Some(path)) => {
                faults.extend(token::of_file(path).err());
                TokenSource::File(path.clone())
            }
            (None, None) => TokenSource::None,
        }
    }

    fn check_selection(&self, faults: &mut Vec<String>) {
        if !self.readyz && self.resources.is_empty() {
            faults.push(
                "key `resources`: the list is empty and `readyz` is false, so nothing is checked; name a resource"
                    .to_owned(),
            );
        }
        if !self.readyz && !self.readyz_exclude.is_empty() {
            faults.push(
                "key `readyz_exclude`: `readyz` is false, so there are no checks to exclude; remove one of the two"
                    .to_owned(),
            );
        }
        for (nth, resource) in self.resources.iter().enumerate() {
            if self.resources[..nth].contains(resource) {
                let name = resource.name();
                faults.push(format!(
                    "key `resources[{nth}]`: {name} is given twice; keep one"
                ));
            }
        }
        for (nth, name) in self.namespaces.iter().enumerate() {
            if !is_namespace(name) {
                faults.push(format!(
                    "key `namespaces[{nth}]`: {name:?} is not the name of a namespace; use up to 63 of a-z, 0-9 and `-`"
                ));
            }
            if self.namespaces[..nth].contains(name) {
                faults.push(format!(
                    "key `namespaces[{nth}]`: {name} is given twice; keep one"
                ));
            }
        }
        if self.namespaces.len() > MAX_NAMESPACES {
            faults.push(format!(
                "key `namespaces`: there are {}, expected at most {MAX_NAMESPACES}; split the platform, or select by label in all \
                 namespaces",
                self.namespaces.len()
            ));
        }
        for (key, selector) in [
            ("selector", &self.selector),
            ("node_selector", &self.node_selector),
        ] {
            if selector
                .as_ref()
                .is_some_and(|selector| selector.trim().is_empty())
            {
                faults.push(format!(
                    "key `{key}`: it is empty; write a label selector or leave it out"
                ));
            }
        }
    }
}

/// Returns `true` for a name that is safe in a path.
fn is_namespace(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    name.len() <= 63
        && name.bytes().all(|b| is_letter(b) || b == b'-')
        && ends.into_iter().all(|end| end.is_some_and(is_letter))
}

fn degraded(key: &str, given: Option<Limits<usize>>, faults: &mut Vec<String>) -> Limits<usize> {
    limits(key, given, DEGRADED, faults)
}

fn limits(
    key: &str,
    given: Option<Limits<usize>>,
    default: Limits<usize>,
    faults: &mut Vec<String>,
) -> Limits<usize> {
    if let Some(given) = &given {
        given.validate(key, faults);
    }
    given.unwrap_or(default)
}

const NO_LIMITS: Limits<usize> = Limits {
    degraded_above: None,
    unhealthy_above: None,
    degraded_below: None,
    unhealthy_below: None,
};

const DEGRADED: Limits<usize> = Limits {
    degraded_above: Some(0),
    ..NO_LIMITS
};

const UNHEALTHY: Limits<usize> = Limits {
    unhealthy_above: Some(0),
    ..NO_LIMITS
};

/// The API server of the cluster that a pod is in.
const IN_CLUSTER: &str = "https://kubernetes.default.svc";

/// The folder of the service account's token and CA in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Most namespaces: each costs a request per resource.
const MAX_NAMESPACES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> KubernetesConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_pod_has_the_files_of_its_service_account() {
        let mut pod = config("{}");
        assert_eq!(pod.server_url(), "https://kubernetes.default.svc");
        let folder = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        assert_eq!(pod.token_file, Some(folder.join("token")));
        assert_eq!(pod.tls.ca_file, Some(folder.join("ca.crt")));
        let mut own = config(r#"{"token": "x", "tls": {"ca_file": "/ca.pem"}}"#);
        own.server_url();
        assert_eq!(own.token_file, None);
        assert_eq!(own.tls.ca_file, Some("/ca.pem".into()));
        let mut outside = config(r#"{"url": "https://cluster.example:6443"}"#);
        assert_eq!(outside.server_url(), "https://cluster.example:6443");
        assert_eq!((outside.token_file, outside.tls.ca_file), (None, None));
    }

    #[test]
    fn the_name_of_a_namespace_is_safe_in_a_path() {
        for name in ["shop", "a", "0", "kube-system", &"x".repeat(63)] {
            assert!(is_namespace(name), "{name}");
        }
        for name in ["", "Shop", "a/b", "..", "-a", "a-", "a?b", &"x".repeat(64)] {
            assert!(!is_namespace(name), "{name}");
        }
    }
}
