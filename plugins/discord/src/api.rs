//! Requests to Discord's API, and the forms of its responses.

use std::fmt;

use conductor_net::{
    CheckError, PhaseClock,
    http::{ApiRequest, ApiResponse, ApiServer, StatusCode},
    short, show_duration,
};
use conductor_plugin_api::{Report, Status};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{SESSION_STARTS, SHARDS};

/// The response to one request.
pub(crate) struct DiscordReply<T> {
    /// Requests that the rate limit of the route still allows.
    pub(crate) remaining: Option<f64>,
    /// The requested object, or the status and message of the platform without it.
    pub(crate) content: Result<T, (Status, String)>,
}

/// The response to `GET /gateway`.
#[derive(Deserialize)]
pub(crate) struct GatewayUrl {
    url: String,
}

/// The response to `GET /gateway/bot`.
#[derive(Deserialize)]
pub(crate) struct GatewayBot {
    #[serde(flatten)]
    gateway: GatewayUrl,
    shards: u32,
    session_start_limit: SessionStartLimit,
}

#[derive(Deserialize)]
struct SessionStartLimit {
    remaining: u32,
}

/// The response to `GET /users/@me`.
#[derive(Deserialize)]
pub(crate) struct SelfUser {
    pub(crate) id: String,
    username: String,
}

/// The part of a guild or a channel that is checked.
#[derive(Deserialize)]
pub(crate) struct GuildOrChannel {
    pub(crate) id: String,
}

/// The body of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DiscordError {
    code: u64,
    message: String,
    /// Seconds, of a rate limit.
    retry_after: Option<f64>,
    /// `true` if the limit is that of all routes.
    global: bool,
}

/// Asks for the content of a path.
pub(crate) async fn get<T: DeserializeOwned>(
    server: &mut ApiServer,
    path: &str,
    clock: &mut PhaseClock<'_>,
) -> Result<DiscordReply<T>, CheckError> {
    let response = server.ask(ApiRequest::get(path), clock).await?;
    let remaining = response.header("x-ratelimit-remaining");
    let remaining = remaining.and_then(|left| left.parse::<u32>().ok());
    let content = match response.status {
        StatusCode::OK => Ok(response.json()?),
        _ => Err(refusal(path, &response)?),
    };
    Ok(DiscordReply {
        remaining: remaining.map(f64::from),
        content,
    })
}

/// Judges a response without success; the error of one that is not of the API.
fn refusal(path: &str, response: &ApiResponse) -> Result<(Status, String), CheckError> {
    let error: DiscordError = serde_json::from_slice(&response.body).unwrap_or_default();
    let (message, code) = (short(&error.message, MAX_SHOWN), error.code);
    match response.status {
        StatusCode::TOO_MANY_REQUESTS => {
            let scope = match error.global {
                true => "all requests of the bot".to_owned(),
                false => path.to_owned(),
            };
            let seconds = error.retry_after.unwrap_or_default().clamp(0.0, MAX_RETRY);
            let wait = show_duration(std::time::Duration::from_secs_f64(seconds));
            let text = format!(
                "Discord limits {scope} (429 Too Many Requests) for {wait}; check it less often"
            );
            Ok((Status::Degraded, text))
        }
        StatusCode::UNAUTHORIZED => {
            Err(response.unexpected("Discord refuses the token; correct `token`"))
        }
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if code > 0 => Ok((
            Status::Unhealthy,
            format!("the bot cannot see {path}: {message} (code {code})"),
        )),
        _ if message.is_empty() => Err(response.unexpected("no reason is given")),
        _ => Err(response.unexpected(&format!("{message} (code {code})"))),
    }
}

impl GatewayUrl {
    /// Refuses a URL that no bot can connect to.
    pub(crate) fn verify(&self) -> Result<(), CheckError> {
        match self.url.strip_prefix("wss://") {
            Some(host) if !host.is_empty() => Ok(()),
            _ => Err(CheckError::Platform(format!(
                "the URL of the gateway is {:?}, expected one with wss://",
                short(&self.url, MAX_SHOWN)
            ))),
        }
    }
}

impl GatewayBot {
    pub(crate) fn verify(&self) -> Result<(), CheckError> {
        self.gateway.verify()
    }

    /// Returns the number of sessions that the bot may still start.
    pub(crate) fn session_starts(&self) -> u32 {
        self.session_start_limit.remaining
    }

    /// Adds the measurements of the gateway.
    pub(crate) fn measure(&self, report: Report) -> Report {
        report.set(&SHARDS, [], self.shards.into()).set(
            &SESSION_STARTS,
            [],
            self.session_starts().into(),
        )
    }
}

impl fmt::Display for SelfUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = short(&self.id, MAX_SHOWN);
        write!(f, "the bot {} ({id})", short(&self.username, MAX_SHOWN))
    }
}

/// Longest part of Discord's words in a message, in characters.
const MAX_SHOWN: usize = 120;

/// Longest time of a rate limit in a message, in seconds.
const MAX_RETRY: f64 = 86_400.0;
