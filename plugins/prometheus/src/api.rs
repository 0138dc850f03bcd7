//! The envelope of the API's responses.

use conductor_net::{
    CheckError,
    http::{ApiResponse, StatusCode},
    short,
};
use conductor_plugin_api::{Failure, tracing};
use serde::{Deserialize, de::DeserializeOwned};

/// A response of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiAnswer<T> {
    status: String,
    data: Option<T>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Returns the data of a response.
pub(crate) fn data<T: DeserializeOwned>(response: &ApiResponse) -> Result<T, CheckError> {
    if matches!(
        response.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return Err(response.unexpected(
            "the server refuses the request; correct `basic_auth`, `bearer` or `headers`",
        ));
    }
    let answer: ApiAnswer<T> = response.json()?;
    for warning in &answer.warnings {
        tracing::warn!(warning, "the server responds with a warning");
    }
    match (answer.status.as_str(), answer.data) {
        ("success", Some(data)) => Ok(data),
        ("success", None) => Err(response.unexpected("the response has no data")),
        _ => {
            let error = short(answer.error.as_deref().unwrap_or("no reason"), MAX_ERROR);
            let kind = answer.error_type.unwrap_or_default();
            // The query is that of the config.
            Err(if kind == "bad_data" {
                CheckError::Host(Failure::config(format!(
                    "the server refuses the query: {error}; correct `query`"
                )))
            } else {
                response.unexpected(&format!("the server reports an error, {kind}: {error}"))
            })
        }
    }
}

/// Longest error in a message, in characters.
const MAX_ERROR: usize = 300;
