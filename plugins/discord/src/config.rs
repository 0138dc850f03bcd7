//! Keys of a Discord platform's `config` table.

use conductor_net::{
    DurationLimits, DurationRules, Limits, TlsConfig,
    http::{
        ApiPhases, ApiServer,
        header::{self, HeaderMap, HeaderValue},
        secret,
    },
};
use conductor_plugin_api::{Failure, config::Secret, schemars};
use serde::Deserialize;

use crate::{DiscordProbe, status_page::StatusPage};

/// Checks that a bot can use Discord's API.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiscordConfig {
    /// Base URL of the API.
    #[serde(default = "discord")]
    #[schemars(regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."), extend("format" = "iri"))]
    url: String,

    /// Token of a bot.
    token: Option<Secret>,

    /// Id of the bot that the token is for.
    #[schemars(regex(pattern = "^[0-9]{1,20}$"), example = &"80351110224678912")]
    bot_id: Option<String>,

    /// Ids of guilds that the bot must see.
    #[serde(default)]
    #[schemars(length(max = 50), inner(regex(pattern = "^[0-9]{1,20}$")))]
    guilds: Vec<String>,

    /// Ids of channels that the bot must see.
    #[serde(default)]
    #[schemars(length(max = 50), inner(regex(pattern = "^[0-9]{1,20}$")))]
    channels: Vec<String>,

    /// Limits of the number of sessions that the bot may still start; Discord allows 1000 a day.
    #[schemars(extend("examples" = [{"degraded_below": 100}]))]
    session_starts: Option<Limits<u32>>,

    /// Base URL of the API of a status page, whose incidents count.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "iri"),
        example = &"https://discordstatus.com/api/v2"
    )]
    status_url: Option<String>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    tls: TlsConfig,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"2s")]
    degraded_after: Option<DurationLimits<ApiPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "5s", "first_byte": "2s"}]))]
    unhealthy_after: Option<DurationLimits<ApiPhases>>,
}

fn discord() -> String {
    "https://discord.com/api/v10".to_owned()
}

impl DiscordConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<DiscordProbe, Failure> {
        let mut faults = Vec::new();
        let mut headers = self.headers(&mut faults);
        let server = ApiServer::at_url(
            "discord",
            "url",
            &self.url,
            &self.tls,
            headers.clone(),
            &mut faults,
        );
        // The token is for the API alone.
        headers.remove(header::AUTHORIZATION);
        let status_page = self.status_url.as_ref().and_then(|url| {
            let tls = TlsConfig {
                pin_sha256: Vec::new(),
                server_name: None,
                client_cert: None,
                client_key: None,
                ..self.tls.clone()
            };
            let server =
                ApiServer::at_url("discord", "status_url", url, &tls, headers, &mut faults);
            server.map(|server| StatusPage { server })
        });
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        self.judge_ids(&mut faults);
        if let Some(limits) = &self.session_starts {
            limits.validate("session_starts", &mut faults);
        }
        match server {
            Some(server) if faults.is_empty() => Ok(DiscordProbe {
                server,
                has_token: self.token.is_some(),
                bot_id: self.bot_id,
                guilds: self.guilds,
                channels: self.channels,
                session_starts: self.session_starts,
                status_page,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn headers(&self, faults: &mut Vec<String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(token) = &self.token {
            let token = token.expose();
            if token.starts_with("Bot ") || token.starts_with("Bearer ") {
                faults.push(
                    "key `token`: the token begins with the name of a scheme; leave it out"
                        .to_owned(),
                );
            }
            match secret(format!("Bot {token}")) {
                Some(value) => drop(headers.insert(header::AUTHORIZATION, value)),
                None => faults.push(
                    "key `token`: the token has characters that a header cannot have; write it on one line"
                        .to_owned(),
                ),
            }
        }
        headers
    }

    fn judge_ids(&self, faults: &mut Vec<String>) {
        let keyed = [("guilds", &self.guilds), ("channels", &self.channels)];
        for (key, ids) in keyed {
            if ids.len() > MAX_IDS {
                faults.push(format!(
                    "key `{key}`: the list has {} ids, expected at most {MAX_IDS}; split the platform",
                    ids.len()
                ));
            }
            for (nth, id) in ids.iter().enumerate() {
                judge_id(&format!("{key}[{nth}]"), id, faults);
            }
        }
        if let Some(id) = &self.bot_id {
            judge_id("bot_id", id, faults);
        }
        let needs_token = [
            ("bot_id", self.bot_id.is_some()),
            ("guilds", !self.guilds.is_empty()),
            ("channels", !self.channels.is_empty()),
            ("session_starts", self.session_starts.is_some()),
        ];
        for (key, _) in needs_token
            .iter()
            .filter(|(_, is_set)| *is_set && self.token.is_none())
        {
            faults.push(format!("key `{key}`: only a bot sees this; set `token`"));
        }
    }
}

/// Refuses an id that is not a number: it becomes a part of a path.
fn judge_id(key: &str, id: &str, faults: &mut Vec<String>) {
    if !(1..=20).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        faults.push(format!(
            "key `{key}`: {id:?} is not an id, which has 1 to 20 digits; copy it in Discord's developer mode"
        ));
    }
}

/// The form that Discord asks of bots.
const USER_AGENT: &str = concat!(
    "DiscordBot (",
    env!("CARGO_PKG_REPOSITORY"),
    ", ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// Most guilds, and most channels, of a platform: each costs a request.
const MAX_IDS: usize = 50;
