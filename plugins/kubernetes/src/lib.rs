//! The `kubernetes` probe: checks the API server, nodes, workloads, Jobs and pods of a cluster.
//!
//! ```toml
//! # In a pod, with its service account:
//! [platform.cluster]
//! plugin = "kubernetes"
//! interval = "1m"
//!
//! # From outside:
//! [platform.shop]
//! plugin = "kubernetes"
//! interval = "1m"
//!
//! [platform.shop.config]
//! url = "https://cluster.example:6443"
//! token_file = "/etc/conductor/cluster/token"
//! tls = { ca_file = "/etc/conductor/cluster/ca.crt" }
//! resources = ["deployments", "statefulsets", "pods"]
//! namespaces = ["shop"]
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | the cluster that the host's pod is in | API server |
//! | `token`, `token_file` | in a pod that of its service account | authentication |
//! | `tls` | in a pod the cluster's CA, else the system's CAs | trust, client certificate and versions of TLS |
//! | `readyz`, `readyz_exclude` | `true`, none | the API server's own checks, and those that do not count |
//! | `resources` | all | `nodes`, `deployments`, `statefulsets`, `daemonsets`, `jobs`, `pods` |
//! | `namespaces`, `selector` | all | namespaces and label selector of all but the nodes |
//! | `node_selector` | all | label selector of nodes |
//! | `nodes_not_ready`, `nodes_under_pressure`, `nodes_cordoned` | degraded above 0 | limits of the number of nodes |
//! | `workloads_not_ready` | degraded above 0 | limits of the number of workloads with fewer replicas than wanted |
//! | `workloads_down` | unhealthy above 0 | limits of the number of workloads without a replica |
//! | `jobs_failed` | degraded above 0 | limits of the number of failed Jobs |
//! | `pods_failing` | degraded above 0 | limits of the number of pods in `CrashLoopBackOff`, `ImagePullBackOff` and the like |
//! | `pods_pending`, `pending_after` | degraded above 0, `"5m"` | limits of the number of pods that are pending for longer |
//! | `pods_restarted`, `restarted_within` | degraded above 0, `"5m"` | limits of the number of pods that were restarted |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Lists are read in pages of 250 objects, at most 20000 objects and 32 MiB a page. Times are compared by the server's clock.
//! Redirects are not followed.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_kubernetes_readyz_checks` | `result` | checks of the API server that `passed` or `failed` |
//! | `conductor_kubernetes_nodes` | `condition` | nodes that are `ready`, `not_ready`, `cordoned`, or have `memory_pressure`, `disk_pressure`, `pid_pressure` or `network_unavailable` |
//! | `conductor_kubernetes_workloads` | `kind`, `state` | workloads that are `ready`, `not_ready` or `down` |
//! | `conductor_kubernetes_replicas` | `kind`, `state` | their replicas, `wanted` and `ready` |
//! | `conductor_kubernetes_jobs` | `state` | Jobs that are `active`, `complete` or `failed` |
//! | `conductor_kubernetes_pods` | `phase` | pods by phase |
//! | `conductor_kubernetes_pod_problems` | `problem` | pods by problem: `crash_loop`, `image`, `start`, `pending`, `restarted` |
//! | `conductor_kubernetes_phase_seconds` | `phase` | `resolve`, `connect`, `tls`, `first_byte` (to the head of a response) and `transfer`: the sums over all requests |
//! | `conductor_kubernetes_duration_seconds` | | the whole check |
//! | `conductor_kubernetes_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: a failed check of the API server, objects outside of their limits, a
//! namespace without objects, no such host, connection refused, a bad certificate, credentials that are not accepted, a server
//! that sheds load, no response in time, a response that is not that of the API.
//!
//! A *failure* is a check that could not tell: a token that cannot be read, a resource that the account may not list, a selector
//! that is not valid, more objects than the probe reads, a list that changed while it was read, no response from the resolver,
//! no network, no CA certificates, no free file descriptor or port. What the account may list is still judged.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod api;
mod config;
mod jobs;
mod nodes;
mod object;
mod pods;
mod readyz;
mod resource;
mod selection;
#[cfg(test)]
mod tests;
mod token;
mod workloads;

use conductor_net::{CheckError, DurationRules, LimitVerdict, Limits, PhaseClock, TimeLimit};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    api::{KubernetesApi, ListError},
    config::KubernetesConfig,
    nodes::NodeLimits,
    object::measured,
    pods::PodRules,
    readyz::ReadyzResult,
    selection::{ClusterState, Selection},
    workloads::WorkloadLimits,
};

export_plugin! {
    id: "kubernetes",
    async_probe: KubernetesProbe,
    name: "Kubernetes",
    needs: ["network"],
    metrics: [
        READYZ_CHECKS, NODES, WORKLOADS, REPLICAS, JOBS, PODS, POD_PROBLEMS, PHASE, DURATION, CERTIFICATE_EXPIRY,
    ],
}

const READYZ_CHECKS: Metric<1> = Metric::gauge(
    "readyz_checks",
    "Number of checks of the API server that passed or failed.",
)
.labels(["result"]);
const NODES: Metric<1> =
    Metric::gauge("nodes", "Number of nodes in each condition.").labels(["condition"]);
const WORKLOADS: Metric<2> = Metric::gauge(
    "workloads",
    "Number of workloads that are ready, not ready or down.",
)
.labels(["kind", "state"]);
const REPLICAS: Metric<2> = Metric::gauge(
    "replicas",
    "Number of replicas of workloads, wanted and ready.",
)
.labels(["kind", "state"]);
const JOBS: Metric<1> = Metric::gauge(
    "jobs",
    "Number of Jobs that are active, complete or failed.",
)
.labels(["state"]);
const PODS: Metric<1> = Metric::gauge("pods", "Number of pods in each phase.").labels(["phase"]);
const POD_PROBLEMS: Metric<1> =
    Metric::gauge("pod_problems", "Number of pods with each problem.").labels(["problem"]);
const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the requests.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct KubernetesProbe {
    api: KubernetesApi,
    /// The names of the checks that do not count; `None` without a check of the API server.
    readyz: Option<Vec<String>>,
    selection: Selection,
    nodes: NodeLimits,
    workloads: WorkloadLimits,
    jobs: Limits<usize>,
    pods: PodRules,
    durations: DurationRules,
}

/// The responses of the API server.
#[derive(Default)]
struct ApiAnswers {
    readyz: Option<ReadyzResult>,
    cluster: ClusterState,
}

impl AsyncProbe for KubernetesProbe {
    type Config = KubernetesConfig;

    fn create(config: KubernetesConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut answers = ApiAnswers::default();
        let asked = self.ask(&mut answers, &mut clock).await;
        let took = clock.limit.elapsed();
        let report = match asked {
            Ok(()) => self.judge(&answers, &clock)?,
            Err(error) => error.into_report()?,
        };
        let report =
            clock
                .record(measure(&answers, report), &PHASE)
                .set(&DURATION, [], took.as_secs_f64());
        Ok(match self.api.server.certificate_expiry() {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl KubernetesProbe {
    /// Asks for everything. An API server that is not ready ends the check: what it lists may be old or missing.
    async fn ask(
        &mut self,
        answers: &mut ApiAnswers,
        clock: &mut PhaseClock<'_>,
    ) -> Result<(), CheckError> {
        self.api.begin().await?;
        let mut refused = None;
        if let Some(exclude) = &self.readyz {
            match ReadyzResult::ask(&mut self.api, exclude, clock).await {
                Ok(result) => {
                    let fault = answers.readyz.insert(result).fault();
                    fault.map_or(Ok(()), Err)?;
                }
                Err(ListError::Refused(why)) => refused = Some(why),
                Err(ListError::Check(error)) => return Err(error),
            }
        }
        answers.cluster = self.selection.ask(&mut self.api, &self.pods, clock).await?;
        answers.cluster.refused.splice(0..0, refused);
        Ok(())
    }

    fn judge(&self, answers: &ApiAnswers, clock: &PhaseClock<'_>) -> Result<Report, Failure> {
        let (cluster, now) = (&answers.cluster, self.api.now());
        let mut verdict = LimitVerdict::default();
        let mut summary = Vec::new();
        if let Some(readyz) = &answers.readyz {
            summary.push(format!("the API server passes {} checks", readyz.passed));
        }
        if let Some(nodes) = &cluster.nodes {
            summary.push(nodes::judge(nodes, &self.nodes, now, &mut verdict));
        }
        self.selection.judge(cluster, &mut verdict);
        if !cluster.workload_kinds.is_empty() {
            let workloads = &cluster.workloads;
            summary.push(workloads::judge(workloads, &self.workloads, &mut verdict));
        }
        if let Some(jobs) = &cluster.jobs {
            summary.push(jobs::judge(jobs, &self.jobs, now, &mut verdict));
        }
        if let Some(pods) = &cluster.pods {
            summary.push(pods::judge(pods, &self.pods, &mut verdict));
        }
        for why in &cluster.refused {
            verdict.cannot_tell(why.clone());
        }
        verdict.judge_durations(&self.durations, clock.limit.elapsed(), |phase| {
            clock.took(phase)
        });
        verdict.into_report(summary.join(", "))
    }
}

/// Adds what was found.
fn measure(answers: &ApiAnswers, mut report: Report) -> Report {
    if let Some(ReadyzResult { passed, failed }) = &answers.readyz {
        report = report
            .set(&READYZ_CHECKS, ["passed"], measured(*passed))
            .set(&READYZ_CHECKS, ["failed"], measured(failed.len()));
    }
    let cluster = &answers.cluster;
    if let Some(nodes) = &cluster.nodes {
        report = nodes::measure(nodes, report);
    }
    for kind in &cluster.workload_kinds {
        report = workloads::measure(&cluster.workloads, *kind, report);
    }
    if let Some(jobs) = &cluster.jobs {
        report = jobs::measure(jobs, report);
    }
    match &cluster.pods {
        Some(pods) => pods::measure(pods, report),
        None => report,
    }
}
