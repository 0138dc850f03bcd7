//! `POST /api/v1/heartbeat/NAME`: jobs report that they have run.
//!
//! The platform's token is the credential: passwords of the web config and `--web.enable-lifecycle` do not apply, so that a
//! cron job needs nothing else. No page of another site can send the header with the token.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use conductor_engine::heartbeats::{HeartbeatRefusal, InvalidHeartbeat};
use conductor_types::requests::Heartbeat;
use serde_json::{Map, Value};

use super::routes::RouterState;

/// Accepts heartbeats. Called on the server's own threads, so it must be quick.
pub trait HeartbeatReceiver: Send + Sync {
    /// Admits a heartbeat to be received.
    ///
    /// # Errors
    /// The reason why it is not.
    fn admit(&self, platform: &str, token: &str) -> Result<(), HeartbeatRefusal>;

    /// Records a heartbeat that was admitted, and has the platform checked.
    ///
    /// # Errors
    /// When its fields contradict each other or are invalid.
    fn receive(&self, platform: &str, heartbeat: Heartbeat) -> Result<(), InvalidHeartbeat>;
}

/// The prefix of the paths of heartbeats, which need a token instead of a password.
pub(super) const PREFIX: &str = "/api/v1/heartbeat/";

pub(super) fn routes() -> axum::Router<RouterState> {
    axum::Router::new().route("/heartbeat/{name}", axum::routing::post(heartbeat))
}

async fn heartbeat(
    State(shown): State<RouterState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let receiver = &shown.state.heartbeats;
    let Some(token) = bearer(&headers) else {
        return unauthorized();
    };
    match receiver.admit(&name, token) {
        Ok(()) => {}
        Err(HeartbeatRefusal::Unknown) => return unknown(&name),
        Err(HeartbeatRefusal::WrongToken) => return unauthorized(),
        Err(HeartbeatRefusal::TooMany) => {
            let text = "Too many heartbeats of this platform: at most one a second.\n";
            let soon = [(header::RETRY_AFTER, "1")];
            return (StatusCode::TOO_MANY_REQUESTS, soon, text).into_response();
        }
    }
    let heartbeat = match parse(query.as_deref().unwrap_or_default(), &body) {
        Ok(heartbeat) => heartbeat,
        Err(error) => return invalid(&error),
    };
    match receiver.receive(&name, heartbeat) {
        Ok(()) => "Received.\n".into_response(),
        Err(error) => invalid(&HeartbeatError::Invalid(error)),
    }
}

/// The reason why a heartbeat cannot be read.
#[derive(Debug, thiserror::Error)]
enum HeartbeatError {
    #[error(
        "the body is not JSON: {0}; send an object such as {{\"exit_code\": 0}}, or fields such as exit_code=0"
    )]
    Json(serde_json::Error),
    #[error("{0}; the fields are `start`, `success`, `exit_code`, `duration` and `message`")]
    Field(serde_json::Error),
    #[error("`{0}` is given twice")]
    Twice(String),
    #[error("`{field}` is not {wanted}: {found:?}")]
    Value {
        field: String,
        wanted: &'static str,
        found: String,
    },
    #[error(transparent)]
    Invalid(#[from] InvalidHeartbeat),
}

/// Reads the fields from the query and from the body, which is a JSON object or a form.
fn parse(query: &str, body: &[u8]) -> Result<Heartbeat, HeartbeatError> {
    let body = body.trim_ascii();
    let (mut fields, form) = match body.first() {
        Some(b'{' | b'[' | b'"') => {
            let json = serde_json::from_slice(body).map_err(HeartbeatError::Json)?;
            (json, &b""[..])
        }
        _ => (Map::new(), body),
    };
    for pairs in [query.as_bytes(), form] {
        for (field, text) in form_urlencoded::parse(pairs) {
            let value = value(&field, &text)?;
            if fields.insert(field.clone().into_owned(), value).is_some() {
                return Err(HeartbeatError::Twice(field.into_owned()));
            }
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(HeartbeatError::Field)
}

/// Returns the value of a field that is written as text.
fn value(field: &str, text: &str) -> Result<Value, HeartbeatError> {
    let wrong = |wanted| HeartbeatError::Value {
        field: field.to_owned(),
        wanted,
        found: text.chars().take(100).collect(),
    };
    match field {
        "start" | "success" => match text {
            "true" | "1" => Ok(true.into()),
            "false" | "0" => Ok(false.into()),
            // As in `…/heartbeat/NAME?start`.
            "" if field == "start" => Ok(true.into()),
            _ => Err(wrong("true or false")),
        },
        "exit_code" => match text.parse::<i64>() {
            Ok(code) => Ok(code.into()),
            Err(_) => Err(wrong("a whole number")),
        },
        _ => Ok(text.into()),
    }
}

/// Returns the token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

fn unauthorized() -> Response {
    let text = "Unauthorized: send the platform's token, the value of `heartbeat.token` in its config, as the header `Authorization: Bearer TOKEN`.\n";
    let challenge = HeaderValue::from_static("Bearer realm=\"Conductor\"");
    let challenge = [(header::WWW_AUTHENTICATE, challenge)];
    (StatusCode::UNAUTHORIZED, challenge, text).into_response()
}

fn unknown(name: &str) -> Response {
    let text = format!(
        "No platform named {} accepts heartbeats: give it plugin = \"heartbeat\" and heartbeat = {{ token = … }} in the config, and reload that.\n",
        name.escape_debug()
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

fn invalid(error: &HeartbeatError) -> Response {
    (StatusCode::BAD_REQUEST, format!("Refused: {error}.\n")).into_response()
}

#[cfg(test)]
mod tests {
    use conductor_types::requests::RunDuration;

    use super::*;

    fn read(query: &str, body: &str) -> Result<Heartbeat, String> {
        parse(query, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_come_from_the_query_a_form_or_json() {
        let heartbeat = Heartbeat {
            exit_code: Some(3),
            duration: Some(RunDuration::Text("2m 5s".to_owned())),
            message: Some("disk full & tired".to_owned()),
            ..Heartbeat::default()
        };
        let form = "exit_code=3&duration=2m+5s&message=disk%20full+%26%20tired";
        let json = r#" {"exit_code": 3, "duration": "2m 5s", "message": "disk full & tired"} "#;
        assert_eq!(read(form, "").as_ref(), Ok(&heartbeat));
        assert_eq!(read("", form).as_ref(), Ok(&heartbeat));
        assert_eq!(read("", json).as_ref(), Ok(&heartbeat));
        let mixed = read("exit_code=3", &form["exit_code=3&".len()..]);
        assert_eq!(mixed, Ok(heartbeat));
        assert_eq!(read("", ""), Ok(Heartbeat::default()));
        assert_eq!(read("", "\n"), Ok(Heartbeat::default()));
        for start in ["start", "start=", "start=1", "start=true"] {
            assert!(read(start, "").unwrap().start, "{start}");
        }
        assert_eq!(read("success=0", "").unwrap().success, Some(false));
        let seconds = read("", r#"{"duration": 1.5}"#).unwrap().duration;
        assert_eq!(seconds, Some(RunDuration::Seconds(1.5)));
    }

    #[test]
    fn a_field_that_is_wrong_is_named_with_what_is_right() {
        for (query, body, wanted) in [
            (
                "exit_code=x",
                "",
                "`exit_code` is not a whole number: \"x\"",
            ),
            ("success=", "", "`success` is not true or false: \"\""),
            ("exitcode=1", "", "unknown field `exitcode`"),
            ("exit_code=1", "exit_code=1", "`exit_code` is given twice"),
            (
                "exit_code=1",
                r#"{"exit_code": 1}"#,
                "`exit_code` is given twice",
            ),
            ("", "{", "the body is not JSON"),
            ("", "[1]", "the body is not JSON"),
            (
                "",
                r#"{"success": "yes"}"#,
                "the fields are `start`, `success`",
            ),
            (
                "",
                "the backup is done",
                "unknown field `the backup is done`",
            ),
        ] {
            let error = read(query, body).unwrap_err();
            assert!(error.contains(wanted), "{query} {body}: {error}");
        }
    }
}
