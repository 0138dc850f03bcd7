//! Errors that a server reports, without the secrets that they may repeat.

use conductor_net::{
    CheckError,
    http::{ApiResponse, StatusCode},
    short,
};
use serde::Deserialize;
use serde_json::Value;

/// Shows a server's words about an error, without the texts that must not be shown.
#[derive(Clone, Default)]
pub(crate) struct ServerWords {
    /// The key, and the prompt.
    pub(crate) hidden: Vec<String>,
}

/// The body of an error, in the forms of different servers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Value,
    /// Of vLLM's older versions.
    message: Option<String>,
    /// Of FastAPI.
    detail: Value,
}

impl ServerWords {
    /// Returns the error of a response without success.
    pub(crate) fn refuse(&self, response: &ApiResponse) -> Result<(), CheckError> {
        if response.status.is_success() {
            return Ok(());
        }
        if response.status.is_redirection() {
            return Err(response.unexpected(""));
        }
        Err(response.unexpected(&match response.status {
            // Some servers repeat the key.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "the server refuses the key; correct `api_key`".to_owned()
            }
            StatusCode::NOT_FOUND => format!(
                "{}; check that `url` is the base URL of clients, mostly ending in /v1",
                self.reason(&response.body)
            ),
            _ => self.reason(&response.body),
        }))
    }

    /// Returns `true` if a response says that the quota is used up.
    pub(crate) fn is_out_of_quota(response: &ApiResponse) -> bool {
        let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
        let is_quota = |key: &str| body.error[key] == "insufficient_quota";
        is_quota("code") || is_quota("type")
    }

    /// Returns the reason in the body of an error.
    fn reason(&self, body: &[u8]) -> String {
        let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let message = match (&body.error, &body.message, &body.detail) {
            (Value::String(message), _, _)
            | (_, Some(message), _)
            | (_, _, Value::String(message)) => Some(message.as_str()),
            (error, _, _) => error["message"].as_str(),
        };
        self.shown(message.unwrap_or("no reason is given"))
    }

    /// Returns a server's words for a message.
    pub(crate) fn shown(&self, text: &str) -> String {
        let hide = |text: String, hidden: &String| text.replace(hidden.as_str(), "(hidden)");
        let hidden = self.hidden.iter().filter(|hidden| !hidden.is_empty());
        short(&hidden.fold(text.to_owned(), hide), MAX_SHOWN)
    }
}

/// Longest part of a server's words in a message, in characters.
const MAX_SHOWN: usize = 200;
