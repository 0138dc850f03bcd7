//! Access control for operators' requests, and the responses to them.
//!
//! A page in the operator's browser can send a POST to any host it can reach, though it cannot read the response. So
//! requests that a browser marks as coming from another site's page are refused; `curl` and others send no marks.
use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use conductor_config::ConfigError;
use conductor_engine::{
    actor::ActionOrigin,
    state::{CheckNow, OrderError},
};
use conductor_types::{
    SkipReason,
    requests::{BreakerOrder, CHECK_RUNNING},
};
use tokio::task::JoinError;

/// Refuses a request that a page of another origin sent.
#[expect(
    clippy::result_large_err,
    reason = "a refusal is a response like any other, and there are few of them"
)]
pub(super) fn may_ask(headers: &HeaderMap) -> Result<(), Response> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    // Another port of the same name is `same-site`, but another program.
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    // Behind a TLS proxy the scheme differs; the rest must match the host that the browser requested.
    let own = text(header::HOST.as_str()).unwrap_or("");
    let origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(own))
    });
    if site && origin {
        return Ok(());
    }
    let text = "Refused: the request comes from a page of another site. Send it from this host's own pages or without a browser; a proxy must forward the Host header.\n";
    Err((StatusCode::FORBIDDEN, text).into_response())
}

/// The actor of a request, as recorded by authentication.
pub(super) struct RequestActor(pub(super) ActionOrigin);

impl<S: Sync> FromRequestParts<S> for RequestActor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned().unwrap_or_default()))
    }
}

/// Returns the response for when the operator has not enabled control.
pub(super) fn not_enabled() -> Response {
    let text = "Not enabled: start the host with --web.enable-lifecycle. SIGHUP reloads the config without it.\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Returns the response to a reload.
pub(super) fn reloaded(result: Result<Vec<String>, ConfigError>) -> Response {
    match result {
        Ok(left) => {
            let mut text = "The config was reloaded.\n".to_owned();
            for line in left {
                text.push_str(&format!("{line}\n"));
            }
            text.into_response()
        }
        Err(error) => {
            let text = format!("{}\n", cut(error.to_plain().trim_end()));
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

/// Cuts a text to the longest that is sent to a client: many clients may leave it unread.
fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MESSAGE_BYTES {
        return text.into();
    }
    let end = text.floor_char_boundary(MESSAGE_BYTES);
    let left = text.len() - end;
    format!("{}\n… {left} more bytes; see the host's log", &text[..end]).into()
}

/// Returns the response for when the requested action has panicked.
pub(super) fn broke_off(error: &JoinError) -> Response {
    tracing::error!("a requested action panicked: {error}");
    let text = "Internal error; see the host's log.\n";
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

/// Returns the response to a requested check.
pub(super) fn checked(platform: &str, check: CheckNow) -> Response {
    match check {
        CheckNow::Begun => {
            let text = format!("Started a check of {platform}.\n");
            (StatusCode::ACCEPTED, text).into_response()
        }
        CheckNow::Skipped(reason) => {
            let why = match reason {
                SkipReason::BreakerOpen => "an operator holds its breaker open (release it first)",
                SkipReason::Overlap => CHECK_RUNNING,
                _ => "its plugin has too many queued or stuck calls",
            };
            let text = format!("Cannot check {platform} now: {why}.\n");
            (StatusCode::CONFLICT, text).into_response()
        }
        CheckNow::Unknown => no_such_platform(platform),
        CheckNow::Leaving => {
            let text = "The host is shutting down and starts no more checks.\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// Returns the response to a breaker order.
pub(super) fn ordered(
    platform: &str,
    order: BreakerOrder,
    by: &ActionOrigin,
    done: bool,
) -> Response {
    if done {
        format!("{platform}: {by} {}.\n", order.told()).into_response()
    } else {
        no_such_platform(platform)
    }
}

/// Returns the response to a maintenance order.
pub(super) fn arranged(result: Result<String, OrderError>) -> Response {
    let (status, text) = match result {
        Ok(text) => (StatusCode::OK, text),
        Err(OrderError::NoSuchPlatform(name)) => return no_such_platform(&name),
        Err(OrderError::NoSuchWindow(name)) => (
            StatusCode::NOT_FOUND,
            format!(
                "No operator has started a maintenance of {}; `conductor maintenance list` and GET /api/v1/maintenance list those there are.",
                name.escape_debug()
            ),
        ),
        Err(OrderError::OfConfig(name)) => (
            StatusCode::CONFLICT,
            format!(
                "The maintenance {} is the config's: change it there, and have it reloaded.",
                name.escape_debug()
            ),
        ),
        Err(OrderError::Invalid(why)) => (StatusCode::BAD_REQUEST, format!("Refused: {why}.")),
    };
    (status, format!("{text}\n")).into_response()
}

pub(super) fn no_such_platform(name: &str) -> Response {
    let text = format!(
        "No platform is named {}: `conductor status` and GET /api/v1/platforms list all platforms.\n",
        name.escape_debug()
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

/// The maximum length of a message about a reload, in bytes.
const MESSAGE_BYTES: usize = 48 << 10;
