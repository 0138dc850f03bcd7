//! The `container` probe: checks containers of Docker or Podman by the API of the engine.
//!
//! ```toml
//! [platform.shop]
//! plugin = "container"
//!
//! [platform.shop.config]
//! containers = ["shop-web", "shop-worker-*"]
//! image = "registry.example/shop/*"
//! uptime = { degraded_below = "5m" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | `"unix:/var/run/docker.sock"` | API of the engine: `unix:/PATH`, or `http://` or `https://` with host and port |
//! | `containers` | none | names of containers, with the wildcards `*` and `?` |
//! | `labels` | none | labels that the containers have |
//! | `states` | `["running"]` | states that are healthy |
//! | `image` | none | image that the containers must have, with wildcards |
//! | `restarts` | none | limits of the number of restarts since a container was created |
//! | `uptime` | none | limits of the time since a container was started |
//! | `age` | none | limits of the time since a container was created |
//! | `tls` | the system's CAs | trust, client certificate and versions of TLS |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! `containers` or `labels` is required. Each name must match a container, and the labels at least one, at most 100 in all.
//!
//! A container is unhealthy if it is in another state, if its health check fails, if its image is another one, or if it has
//! exited with another code than 0. It is degraded while its health check is starting, and for one check after the engine
//! has restarted it.
//!
//! A user of the engine's socket controls the machine: a worker that may read it can do the same. A proxy that lets only
//! `GET /containers/…` pass is safer.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_container_containers` | | containers that were checked |
//! | `conductor_container_running` | `container` | 1 for a running container, otherwise 0; as the following ones, of the first 40 by name |
//! | `conductor_container_healthy` | `container` | 1 if its health check passes, otherwise 0; absent without one |
//! | `conductor_container_restarts` | `container` | restarts by the engine since it was created |
//! | `conductor_container_start_timestamp_seconds` | `container` | Unix time of its last start |
//! | `conductor_container_phase_seconds` | `phase` | `resolve`, `connect`, `tls`, `first_byte` (to the head of a response) and `transfer`: the sums over all requests |
//! | `conductor_container_duration_seconds` | | the whole check |
//! | `conductor_container_certificate_expiry_timestamp_seconds` | | Unix time until which the certificate of the engine is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: a container that is missing or not as expected, no such socket or host,
//! connection refused, a bad certificate, no response in time, a response that is not that of the API.
//!
//! A *failure* is a check that could not tell: a socket that this user may not open, more containers than the probe checks,
//! no response from the resolver, no network, no CA certificates, no free file descriptor or port.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod engine;
mod rules;
mod selection;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, PhaseClock, TimeLimit, http::ApiServer,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::ContainerConfig, engine::ContainerState, rules::ContainerRules,
    selection::ContainerSelection,
};

export_plugin! {
    id: "container",
    async_probe: ContainerProbe,
    name: "Containers",
    needs: ["network", "unix-sockets"],
    metrics: [
        CONTAINERS, RUNNING, HEALTHY, RESTARTS, START, PHASE, DURATION, CERTIFICATE_EXPIRY,
    ],
}

const CONTAINERS: Metric = Metric::gauge("containers", "Number of containers that were checked.");
const RUNNING: Metric<1> =
    Metric::gauge("running", "1 for a running container, otherwise 0.").labels(["container"]);
const HEALTHY: Metric<1> = Metric::gauge(
    "healthy",
    "1 if the health check of a container passes, otherwise 0.",
)
.labels(["container"]);
const RESTARTS: Metric<1> = Metric::gauge(
    "restarts",
    "Number of restarts by the engine since a container was created.",
)
.labels(["container"]);
const START: Metric<1> = Metric::gauge(
    "start_timestamp",
    "Unix time of the last start of a container.",
)
.unit("seconds")
.labels(["container"]);
const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the requests.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the engine's certificate is valid.",
)
.unit("seconds");

struct ContainerProbe {
    server: ApiServer,
    selection: ContainerSelection,
    rules: ContainerRules,
    durations: DurationRules,
    /// The number of restarts of each container at the last check, by id.
    restarts: HashMap<String, u32>,
}

impl AsyncProbe for ContainerProbe {
    type Config = ContainerConfig;

    fn create(config: ContainerConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let containers = self.ask(&mut clock).await;
        let took = clock.limit.elapsed();
        let report = match containers {
            Ok(containers) => self.judge(&containers, &clock)?,
            Err(error) => error.into_report()?,
        };
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match self.server.certificate_expiry() {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl ContainerProbe {
    /// Returns the selected containers in the order of their names.
    async fn ask(&mut self, clock: &mut PhaseClock<'_>) -> Result<Vec<ContainerState>, CheckError> {
        let listed = self.selection.list(&mut self.server, clock).await?;
        let mut containers = Vec::new();
        for container in listed {
            containers.extend(container.inspect(&mut self.server, clock).await?);
        }
        Ok(containers)
    }

    fn judge(
        &mut self,
        containers: &[ContainerState],
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let now = engine::unix_time()?;
        let mut verdict = LimitVerdict::default();
        self.selection.judge(containers, &mut verdict);
        for container in containers {
            let before = self.restarts.get(&container.id).copied();
            self.rules.judge(container, before, now, &mut verdict);
        }
        let restarts = containers.iter();
        let restarts = restarts.map(|container| (container.id.clone(), container.restarts));
        self.restarts = restarts.collect();
        let running = containers.iter().filter(|container| container.is_running());
        let (running, all) = (running.count(), containers.len());
        verdict.judge_durations(&self.durations, clock.limit.elapsed(), |phase| {
            clock.took(phase)
        });
        let report =
            verdict.into_report(format!("{all} containers, of which {running} are running"))?;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let report = report.set(&CONTAINERS, [], all as f64);
        let measured = containers.iter().take(MAX_MEASURED);
        Ok(measured.fold(report, |report, container| container.measure(report)))
    }
}

/// Most containers that are measured one by one.
const MAX_MEASURED: usize = 40;
