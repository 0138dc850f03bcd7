//! The `discord` probe: checks that a bot can use Discord's API.
//!
//! ```toml
//! [platform.bot]
//! plugin = "discord"
//! interval = "1m"
//!
//! [platform.bot.config]
//! token = { file = "/etc/conductor/discord.token" }
//! bot_id = "80351110224678912"
//! guilds = ["197038439483310086"]
//! status_url = "https://discordstatus.com/api/v2"
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | `"https://discord.com/api/v10"` | base URL of the API |
//! | `token` | none | token of a bot |
//! | `bot_id` | any | id of the bot that the token is for |
//! | `guilds`, `channels` | none | ids of guilds and channels that the bot must see |
//! | `session_starts` | none | limits of the number of sessions that the bot may still start |
//! | `status_url` | none | base URL of a status page, `"https://discordstatus.com/api/v2"` |
//! | `tls` | the system's CAs | trust, client certificate and versions of TLS |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Without a token, the probe asks for the URL of the gateway alone. With one, it also asks who the bot is, how many
//! sessions it may start, and for each guild and channel: as many requests as there are ids, and two more.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_discord_shards` | | shards that Discord recommends; with a token |
//! | `conductor_discord_session_starts` | | sessions that the bot may still start; with a token |
//! | `conductor_discord_rate_limit_remaining` | `route` | requests that the rate limit of a route still allows: `gateway`, `user`, `guild` or `channel`, the least of several |
//! | `conductor_discord_incidents` | | incidents on the status page that are not resolved |
//! | `conductor_discord_phase_seconds` | `phase` | `resolve`, `connect`, `tls`, `first_byte` (to the head of a response) and `transfer`: the sums over all requests |
//! | `conductor_discord_duration_seconds` | | the whole check |
//! | `conductor_discord_certificate_expiry_timestamp_seconds` | | Unix time until which the certificate of the API is valid |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: the API does not respond as documented, refuses the token, or the token is
//! of another bot; a guild or a channel is not visible; the status page reports a major incident. A rate limit (429), a
//! minor incident and a status page that cannot be read make it *degraded*.
//!
//! A *failure* is a check that could not tell: no response from the resolver, no network, no CA certificates, no free file
//! descriptor or port.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod api;
mod config;
mod status_page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, Limits, PhaseClock, TimeLimit, http::ApiServer,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, Status, export_plugin};

use crate::{
    api::{DiscordReply, GatewayBot, GatewayUrl, GuildOrChannel, SelfUser},
    config::DiscordConfig,
    status_page::StatusPage,
};

export_plugin! {
    id: "discord",
    async_probe: DiscordProbe,
    name: "Discord",
    needs: ["network"],
    metrics: [
        SHARDS, SESSION_STARTS, RATE_LIMIT, INCIDENTS, PHASE, DURATION, CERTIFICATE_EXPIRY,
    ],
}

const SHARDS: Metric = Metric::gauge("shards", "Number of shards that Discord recommends.");
const SESSION_STARTS: Metric = Metric::gauge(
    "session_starts",
    "Number of sessions that the bot may still start.",
);
const RATE_LIMIT: Metric<1> = Metric::gauge(
    "rate_limit_remaining",
    "Number of requests that the rate limit of a route still allows.",
)
.labels(["route"]);
const INCIDENTS: Metric = Metric::gauge(
    "incidents",
    "Number of incidents on the status page that are not resolved.",
);
const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the requests.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the certificate of the API is valid.",
)
.unit("seconds");

struct DiscordProbe {
    server: ApiServer,
    has_token: bool,
    bot_id: Option<String>,
    guilds: Vec<String>,
    channels: Vec<String>,
    session_starts: Option<Limits<u32>>,
    status_page: Option<StatusPage>,
    durations: DurationRules,
}

/// The findings of a check.
#[derive(Default)]
struct DiscordFindings {
    verdict: LimitVerdict,
    summary: Vec<String>,
    gateway: Option<GatewayBot>,
    /// The least number of requests that are left, by route.
    remaining: BTreeMap<&'static str, f64>,
    incidents: Option<usize>,
}

impl AsyncProbe for DiscordProbe {
    type Config = DiscordConfig;

    fn create(config: DiscordConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut findings = DiscordFindings::default();
        let report = match self.ask(&mut clock, &mut findings).await {
            Ok(()) => findings.report(&self.durations, &clock)?,
            Err(error) => error.into_report()?,
        };
        let took = clock.limit.elapsed();
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match self.server.certificate_expiry() {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl DiscordProbe {
    async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        findings: &mut DiscordFindings,
    ) -> Result<(), CheckError> {
        match self.has_token {
            true => self.ask_as_bot(clock, findings).await?,
            false => {
                let reply = api::get::<GatewayUrl>(&mut self.server, "/gateway", clock).await?;
                if let Some(gateway) = findings.accept("gateway", reply) {
                    gateway.verify()?;
                    findings.summary.push("the gateway has a URL".to_owned());
                }
            }
        }
        if let Some(page) = &mut self.status_page {
            page.ask(clock, findings).await?;
        }
        Ok(())
    }

    async fn ask_as_bot(
        &mut self,
        clock: &mut PhaseClock<'_>,
        findings: &mut DiscordFindings,
    ) -> Result<(), CheckError> {
        let reply = api::get::<SelfUser>(&mut self.server, "/users/@me", clock).await?;
        if let Some(user) = findings.accept("user", reply) {
            if let Some(expected) = self.bot_id.as_ref().filter(|id| **id != user.id) {
                let text = format!("the token is of {user}, expected the bot {expected}");
                findings.verdict.add(Status::Unhealthy, text);
            }
            findings.summary.push(user.to_string());
        }
        let reply = api::get::<GatewayBot>(&mut self.server, "/gateway/bot", clock).await?;
        if let Some(gateway) = findings.accept("gateway", reply) {
            gateway.verify()?;
            if let Some(limits) = &self.session_starts {
                let left = gateway.session_starts();
                let shown = format!("the bot may start {left} more sessions");
                findings
                    .verdict
                    .judge("session_starts", shown, left, limits);
            }
            findings.gateway = Some(gateway);
        }
        for (route, ids) in [("guild", &self.guilds), ("channel", &self.channels)] {
            for id in ids {
                let path = format!("/{route}s/{id}");
                let reply = api::get::<GuildOrChannel>(&mut self.server, &path, clock).await?;
                match findings.accept(route, reply) {
                    Some(found) if found.id != *id => findings.verdict.add(
                        Status::Unhealthy,
                        format!("Discord responds with another {route} than {id}"),
                    ),
                    _ => {}
                }
            }
        }
        let (guilds, channels) = (self.guilds.len(), self.channels.len());
        if guilds + channels > 0 {
            findings.summary.push(format!(
                "{guilds} guilds and {channels} channels are visible"
            ));
        }
        Ok(())
    }
}

impl DiscordFindings {
    /// Records the rate limit of a response, and returns its content; `None` if there is none.
    fn accept<T>(&mut self, route: &'static str, reply: DiscordReply<T>) -> Option<T> {
        if let Some(found) = reply.remaining {
            let least = self.remaining.entry(route).or_insert(found);
            *least = least.min(found);
        }
        match reply.content {
            Ok(content) => Some(content),
            Err((status, text)) => {
                self.verdict.add(status, text);
                None
            }
        }
    }

    fn report(
        mut self,
        durations: &DurationRules,
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let total = clock.limit.elapsed();
        self.verdict
            .judge_durations(durations, total, |phase| clock.took(phase));
        let mut report = self.verdict.into_report(self.summary.join(", "))?;
        if let Some(gateway) = &self.gateway {
            report = gateway.measure(report);
        }
        if let Some(incidents) = self.incidents {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let incidents = incidents as f64;
            report = report.set(&INCIDENTS, [], incidents);
        }
        let remaining = self.remaining.into_iter();
        Ok(remaining.fold(report, |report, (route, left)| {
            report.set(&RATE_LIMIT, [route], left)
        }))
    }
}
