//! Keys of a container platform's `config` table.

use std::collections::{BTreeMap, HashMap};

use conductor_net::{
    DurationLimits, DurationRules, Limits, SocketTarget, TlsConfig,
    http::{ApiPhases, ApiServer, header::HeaderMap},
};
use conductor_plugin_api::{Failure, config::Duration, schemars};
use glob::Pattern;
use serde::Deserialize;

use crate::{ContainerProbe, rules::ContainerRules, selection::ContainerSelection};

/// Checks containers of Docker or Podman: their state, health, restarts, age and image.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerConfig {
    /// API of the engine: `unix:/PATH`, or `http://` or `https://` with host and port.
    #[serde(default = "docker")]
    #[schemars(
        regex(pattern = r"^(unix:/.+|[Hh][Tt][Tt][Pp][Ss]?://.+)$"),
        example = &"unix:/run/podman/podman.sock",
        example = &"https://docker.example:2376"
    )]
    url: String,

    /// Names of containers, with the wildcards `*` and `?`. Each must match a container.
    #[serde(default)]
    #[schemars(inner(length(min = 1)), extend("examples" = [["shop-web", "shop-worker-*"]]))]
    containers: Vec<String>,

    /// Labels that the containers have; an empty value is any.
    #[serde(default)]
    #[schemars(extend("examples" = [{"com.docker.compose.project": "shop"}]))]
    labels: BTreeMap<String, String>,

    /// States that are healthy, such as `running`, or `exited` for a task that ends.
    #[serde(default = "running")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    states: Vec<String>,

    /// Image that the containers must have, as the engine lists it; with the wildcards `*` and `?`.
    #[schemars(length(min = 1), example = &"registry.example/shop/*:2.*")]
    image: Option<String>,

    /// Number of restarts by the engine since a container was created.
    restarts: Option<Limits<u32>>,

    /// Time since a running container was started.
    uptime: Option<Limits<Duration>>,

    /// Time since a container was created.
    age: Option<Limits<Duration>>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    tls: TlsConfig,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<ApiPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "first_byte": "1s"}]))]
    unhealthy_after: Option<DurationLimits<ApiPhases>>,
}

fn docker() -> String {
    "unix:/var/run/docker.sock".to_owned()
}

fn running() -> Vec<String> {
    vec!["running".to_owned()]
}

impl ContainerConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<ContainerProbe, Failure> {
        let mut faults = Vec::new();
        let server = self.server(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let names = self.containers.iter().enumerate();
        let names: Vec<_> = names
            .filter_map(|(nth, name)| pattern(&format!("containers[{nth}]"), name, &mut faults))
            .collect();
        if self.containers.is_empty() && self.labels.is_empty() {
            faults.push(
                "key `containers`: there are neither names nor `labels`, so nothing is checked; add one of the two"
                    .to_owned(),
            );
        }
        if self.states.is_empty() {
            faults.push(
                "key `states`: the list is empty; name a state, such as \"running\"".to_owned(),
            );
        }
        let rules = self.rules(&mut faults);
        match server {
            Some(server) if faults.is_empty() => Ok(ContainerProbe {
                server,
                selection: ContainerSelection {
                    names,
                    labels: self.labels,
                },
                rules,
                durations,
                restarts: HashMap::new(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn server(&self, faults: &mut Vec<String>) -> Option<ApiServer> {
        let headers = HeaderMap::new();
        if !self.url.starts_with("unix:") {
            return ApiServer::at_url("container", "url", &self.url, &self.tls, headers, faults);
        }
        let socket = SocketTarget::parse(&self.url, None);
        let socket =
            socket.map_err(|rule| faults.push(format!("key `url`: {:?} {rule}", self.url)));
        Some(ApiServer::at_socket("container", socket.ok()?, headers))
    }

    fn rules(&self, faults: &mut Vec<String>) -> ContainerRules {
        if let Some(limits) = &self.restarts {
            limits.validate("restarts", faults);
        }
        for (key, limits) in [("uptime", &self.uptime), ("age", &self.age)] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
        let image = self.image.as_ref();
        ContainerRules {
            states: self.states.clone(),
            image: image.and_then(|image| pattern("image", image, faults)),
            restarts: self.restarts.unwrap_or_default(),
            uptime: self.uptime.unwrap_or_default(),
            age: self.age.unwrap_or_default(),
        }
    }
}

fn pattern(key: &str, text: &str, faults: &mut Vec<String>) -> Option<Pattern> {
    let pattern = Pattern::new(text).map_err(|error| {
        faults.push(format!(
            "key `{key}`: {text:?} is not a pattern ({error}); write a literal `[` as `[[]`"
        ));
    });
    pattern.ok()
}
