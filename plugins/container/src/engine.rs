//! The containers of the engine, as its API describes them.

use conductor_net::{
    CheckError, PhaseClock,
    http::{ApiRequest, ApiResponse, ApiServer, StatusCode},
    short,
};
use conductor_plugin_api::{Failure, Report};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{HEALTHY, RESTARTS, RUNNING, START};

/// A container in the engine's list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedContainer {
    id: String,
    /// Each begins with a slash; links of Docker have a second one.
    #[serde(default)]
    names: Vec<String>,
}

/// A container with all that is checked.
#[derive(Debug)]
pub(crate) struct ContainerState {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`; Podman has more.
    pub(crate) state: String,
    pub(crate) exit_code: i64,
    pub(crate) oom_killed: bool,
    /// `starting`, `healthy` or `unhealthy`; `None` without a health check.
    pub(crate) health: Option<String>,
    pub(crate) restarts: u32,
    /// Unix times, in seconds.
    pub(crate) created: Option<f64>,
    pub(crate) started: Option<f64>,
}

/// The response to the request for one container.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspection {
    id: String,
    name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    restart_count: u32,
    state: InspectedState,
    config: InspectedConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    started_at: String,
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    image: String,
}

/// The body of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EngineError {
    message: String,
}

impl ListedContainer {
    /// Returns the name; the id if there is none.
    pub(crate) fn name(&self) -> &str {
        let names = self.names.iter().filter_map(|name| name.strip_prefix('/'));
        let own = names.filter(|name| !name.contains('/'));
        own.min_by_key(|name| name.len()).unwrap_or(&self.id)
    }

    /// Asks for the details; returns `None` if the container was removed meanwhile.
    pub(crate) async fn inspect(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Option<ContainerState>, CheckError> {
        // An id is safe in a path.
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_id(&self.id) {
            return Err(CheckError::Platform(
                "the list has a container whose id is not in hex".to_owned(),
            ));
        }
        let request = ApiRequest::get(format!("/containers/{}/json", self.id)).max_body(MAX_BODY);
        let response = server.ask(request, clock).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        refuse(&response)?;
        response.json().map(|found: Inspection| Some(found.into()))
    }
}

impl From<Inspection> for ContainerState {
    fn from(found: Inspection) -> Self {
        // Podman has an empty one, Docker "none" for a check that is switched off.
        let health = found.state.health.map(|health| health.status);
        Self {
            name: found.name.trim_start_matches('/').to_owned(),
            id: found.id,
            image: found.config.image,
            state: found.state.status,
            exit_code: found.state.exit_code,
            oom_killed: found.state.oom_killed,
            health: health.filter(|status| !matches!(status.as_str(), "" | "none")),
            restarts: found.restart_count,
            created: seconds(&found.created),
            started: seconds(&found.state.started_at),
        }
    }
}

impl ContainerState {
    pub(crate) fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Adds the measurements of this container.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let name = [self.name.as_str()];
        let one = |is_true: bool| if is_true { 1.0 } else { 0.0 };
        let mut report = report.set(&RUNNING, name, one(self.is_running())).set(
            &RESTARTS,
            name,
            f64::from(self.restarts),
        );
        if let Some(health) = &self.health {
            report = report.set(&HEALTHY, name, one(health == "healthy"));
        }
        match self.started {
            Some(started) => report.set(&START, name, started),
            None => report,
        }
    }
}

/// Returns the error of a response without success.
pub(crate) fn refuse(response: &ApiResponse) -> Result<(), CheckError> {
    if response.status == StatusCode::OK {
        return Ok(());
    }
    let error: EngineError = serde_json::from_slice(&response.body).unwrap_or_default();
    Err(response.unexpected(&match error.message.as_str() {
        "" => "no reason is given".to_owned(),
        message => short(message, MAX_SHOWN),
    }))
}

/// Returns a time of the engine as Unix time; `None` for year 1, which means never.
fn seconds(text: &str) -> Option<f64> {
    let time: Timestamp = text.parse().ok()?;
    let seconds = time.as_duration().as_secs_f64();
    (seconds > 0.0).then_some(seconds)
}

/// Returns the current Unix time.
pub(crate) fn unix_time() -> Result<f64, Failure> {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the engine's clock"
    )]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_err(|_| Failure::new("this machine's clock is before 1970; set it"))?;
    Ok(now.as_secs_f64())
}

/// Largest description of a container that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Longest part of the engine's words in a message, in characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_an_offset_and_year_one_means_never() {
        assert_eq!(seconds("1970-01-01T00:00:01.5Z"), Some(1.5));
        assert_eq!(seconds("1970-01-01T01:00:01.25+01:00"), Some(1.25));
        assert_eq!(seconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(seconds(""), None);
    }

    #[test]
    fn the_name_is_that_without_links() {
        let container = |names: &[&str]| ListedContainer {
            id: "0a".to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(container(&["/web/db", "/db"]).name(), "db");
        assert_eq!(container(&[]).name(), "0a");
    }
}
