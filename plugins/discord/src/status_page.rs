//! Incidents on a status page of Statuspage, as Discord has one.

use conductor_net::{
    CheckError, PhaseClock,
    http::{ApiRequest, ApiServer},
    short,
};
use conductor_plugin_api::Status;
use serde::Deserialize;

use crate::DiscordFindings;

/// A status page.
pub(crate) struct StatusPage {
    pub(crate) server: ApiServer,
}

/// The response to `GET /incidents/unresolved.json`.
#[derive(Deserialize)]
struct IncidentList {
    incidents: Vec<Incident>,
}

#[derive(Deserialize)]
struct Incident {
    name: String,
    /// `none`, `minor`, `major` or `critical`.
    impact: String,
    /// `investigating`, `identified`, `monitoring`, …
    status: String,
}

impl StatusPage {
    /// Adds the incidents that are not resolved.
    pub(crate) async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        findings: &mut DiscordFindings,
    ) -> Result<(), CheckError> {
        let list = match self.read(clock).await {
            Ok(list) => list,
            // The page is not the platform, and its fault hides nothing of what was found.
            Err(CheckError::Platform(why)) => {
                let text = format!("the status page cannot be read: {why}");
                findings.verdict.add(Status::Degraded, text);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for incident in &list.incidents {
            let status = match incident.impact.as_str() {
                "major" | "critical" => Status::Unhealthy,
                _ => Status::Degraded,
            };
            let [impact, state, name] = [&incident.impact, &incident.status, &incident.name]
                .map(|text| short(text, MAX_SHOWN));
            let text = format!("the status page reports a {impact} incident, {state}: {name}");
            findings.verdict.add(status, text);
        }
        findings.incidents = Some(list.incidents.len());
        findings
            .summary
            .push(format!("{} incidents", list.incidents.len()));
        Ok(())
    }

    async fn read(&mut self, clock: &mut PhaseClock<'_>) -> Result<IncidentList, CheckError> {
        let request = ApiRequest::get("/incidents/unresolved.json");
        let response = self.server.ask(request, clock).await?;
        if !response.status.is_success() {
            return Err(response.unexpected("expected a list of incidents"));
        }
        response.json()
    }
}

/// Longest part of the page's words in a message, in characters.
const MAX_SHOWN: usize = 120;
