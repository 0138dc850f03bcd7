//! The containers that a platform consists of.

use std::collections::BTreeMap;

use conductor_net::{
    CheckError, LimitVerdict, PhaseClock,
    http::{ApiRequest, ApiServer},
};
use conductor_plugin_api::{Failure, Status};
use glob::Pattern;
use serde_json::json;

use crate::engine::{ContainerState, ListedContainer, refuse};

/// Names and labels of containers.
pub(crate) struct ContainerSelection {
    pub(crate) names: Vec<Pattern>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl ContainerSelection {
    /// Returns the selected containers in the order of their names, running or not.
    pub(crate) async fn list(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<ListedContainer>, CheckError> {
        let mut request = ApiRequest::get("/containers/json")
            .query("all", "true")
            .max_body(MAX_BODY);
        if !self.labels.is_empty() {
            request = request.query("filters", &self.filters());
        }
        let response = server.ask(request, clock).await?;
        refuse(&response)?;
        let mut listed: Vec<ListedContainer> = response.json()?;
        listed.retain(|container| self.has(container.name()));
        listed.sort_by(|one, other| one.name().cmp(other.name()));
        if listed.len() > MAX_CONTAINERS {
            return Err(CheckError::Host(Failure::config(format!(
                "`containers` and `labels` select {} containers, expected at most {MAX_CONTAINERS}; split the platform",
                listed.len()
            ))));
        }
        Ok(listed)
    }

    /// Judges whether there is a container for each name, and one for the labels.
    pub(crate) fn judge(&self, containers: &[ContainerState], verdict: &mut LimitVerdict) {
        for pattern in &self.names {
            if !containers
                .iter()
                .any(|container| pattern.matches(&container.name))
            {
                verdict.add(
                    Status::Unhealthy,
                    format!("there is no container {pattern}, expected at least one"),
                );
            }
        }
        if self.names.is_empty() && containers.is_empty() {
            verdict.add(
                Status::Unhealthy,
                "there is no container with the labels, expected at least one".to_owned(),
            );
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name))
    }

    fn filters(&self) -> String {
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| match value.as_str() {
                "" => name.clone(),
                value => format!("{name}={value}"),
            })
            .collect();
        json!({ "label": labels }).to_string()
    }
}

/// Most containers of a platform: each costs a request.
const MAX_CONTAINERS: usize = 100;

/// Largest list that is read, in bytes.
const MAX_BODY: usize = 8 << 20;
