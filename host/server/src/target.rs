//! `/probe`: the check of a target that the client names, as blackbox_exporter serves it.

use std::time::Duration;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use conductor_engine::guard::TargetResult;
use conductor_types::SkipReason;
use serde::Deserialize;

use super::{
    control,
    routes::{RouterState, busy},
};

/// Checks targets that clients name.
pub trait TargetProber: Send + Sync {
    /// Checks a target; called on a thread that may block.
    ///
    /// # Errors
    /// The reason why there is no check.
    fn check(&self, request: &TargetRequest) -> Result<CheckedTarget, TargetRefusal>;
}

/// A request to check a target.
#[derive(Clone, Debug)]
pub struct TargetRequest {
    /// The name of a template of the config.
    pub module: String,
    /// The target, which is not allowed yet.
    pub target: String,
    /// The time that the client waits for a result.
    pub patience: Duration,
}

/// A target that was checked.
pub struct CheckedTarget {
    /// The result.
    pub outcome: TargetOutcome,
    /// The time by the host's clock.
    pub now: Duration,
}

/// The result of a request to check a target.
pub enum TargetOutcome {
    /// The check ended.
    Checked(TargetResult),
    /// Nothing was known when the client had waited for this time.
    NoResult(Duration),
    /// The guard did not admit the check, for this reason.
    Skipped(SkipReason),
}

/// The reason why a target is not checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetRefusal {
    /// The config has no such module; the text names those that it has.
    Unknown(String),
    /// The config does not allow the target.
    Forbidden,
    /// The host is shutting down.
    Leaving,
}

/// The parameters of the URL.
#[derive(Deserialize)]
pub(super) struct TargetQuery {
    target: Option<String>,
    module: Option<String>,
    debug: Option<String>,
}

pub(super) async fn probe(
    State(shown): State<RouterState>,
    headers: HeaderMap,
    query: Result<Query<TargetQuery>, QueryRejection>,
) -> Response {
    // A page in a browser can send a GET to any host it can reach, and must not have others checked.
    if let Err(refusal) = control::may_ask(&headers) {
        return refusal;
    }
    let (request, is_debug) = match query {
        Ok(Query(query)) => match query.request(&headers) {
            Ok(request) => request,
            Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
        },
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let targets = shown.state.targets.clone();
    let asked = request.clone();
    let checking = shown.target_checks.start(move || targets.check(&asked));
    let Some(checking) = checking.await else {
        return busy();
    };
    match checking.await {
        Ok(Ok(checked)) => report(&request, &checked, is_debug),
        Ok(Err(refusal)) => refused(&request, &refusal),
        Err(error) => control::broke_off(&error),
    }
}

impl TargetQuery {
    /// Returns the request, and `true` if its details are wanted.
    fn request(self, headers: &HeaderMap) -> Result<(TargetRequest, bool), String> {
        let Some(target) = self.target.filter(|target| !target.is_empty()) else {
            let text = "the parameter `target` is missing: /probe?target=HOST&module=TEMPLATE";
            return Err(text.to_owned());
        };
        let is_refused =
            |sign: char| sign.is_control() || sign.is_whitespace() || "@\\".contains(sign);
        if target.len() > LONGEST_TARGET || target.contains(is_refused) {
            return Err(format!(
                "the target is not valid: it has at most {LONGEST_TARGET} bytes, and no space, control character, `@` or `\\`"
            ));
        }
        let request = TargetRequest {
            module: self.module.unwrap_or_else(|| DEFAULT_MODULE.to_owned()),
            target,
            patience: patience(headers),
        };
        Ok((request, self.debug.as_deref() == Some("true")))
    }
}

/// Returns the time that the client waits for a response, less the time to send one.
fn patience(headers: &HeaderMap) -> Duration {
    let seconds = headers.get("x-prometheus-scrape-timeout-seconds");
    let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let timeout = timeout
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(LONGEST_WAIT);
    timeout
        .saturating_sub(TIME_TO_SEND)
        .max(timeout / 2)
        .min(LONGEST_WAIT)
}

#[cfg(feature = "prometheus")]
fn report(request: &TargetRequest, checked: &CheckedTarget, is_debug: bool) -> Response {
    use axum::http::header;
    use conductor_engine::metrics::prometheus::{ExpositionFormat, render_target};

    let (result, waited) = match &checked.outcome {
        TargetOutcome::Checked(result) => (Some(result), Duration::ZERO),
        TargetOutcome::NoResult(waited) => (None, *waited),
        TargetOutcome::Skipped(_) => (None, Duration::ZERO),
    };
    let text = match render_target(result, waited, checked.now) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("cannot write the metrics: {error}");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    if is_debug {
        let mut details = details(request, checked).into_bytes();
        details.extend(text);
        return details.into_response();
    }
    let kind = ExpositionFormat::Text.content_type();
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(not(feature = "prometheus"))]
fn report(request: &TargetRequest, checked: &CheckedTarget, _: bool) -> Response {
    (StatusCode::NOT_IMPLEMENTED, details(request, checked)).into_response()
}

/// Returns the result for people.
fn details(request: &TargetRequest, checked: &CheckedTarget) -> String {
    let TargetRequest { module, target, .. } = request;
    let result = match &checked.outcome {
        TargetOutcome::Checked(result) => match result.error_type {
            Some(kind) => format!("check failed: {}: {}", kind.label(), result.message),
            None => format!("{}: {}", result.state, result.message),
        },
        TargetOutcome::NoResult(waited) => {
            let waited = humantime::format_duration(*waited);
            format!("no result within {waited}, the time that the client waits")
        }
        TargetOutcome::Skipped(SkipReason::BreakerOpen) => {
            "not checked: its breaker is open, because its last checks failed".to_owned()
        }
        TargetOutcome::Skipped(_) => {
            "not checked: its plugin has too many queued or stuck calls".to_owned()
        }
    };
    format!("{target} (module {module})\n{result}\n\n")
}

fn refused(request: &TargetRequest, refusal: &TargetRefusal) -> Response {
    let TargetRequest { module, target, .. } = request;
    let (module, target) = (module.escape_debug(), target.escape_debug());
    match refusal {
        TargetRefusal::Unknown(known) => refuse(
            StatusCode::BAD_REQUEST,
            format!("there is no module {module}: {known}"),
        ),
        TargetRefusal::Forbidden => refuse(
            StatusCode::FORBIDDEN,
            format!(
                "the config does not allow the target {target}: add its host to `targets` in [probe]"
            ),
        ),
        TargetRefusal::Leaving => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the host is shutting down and starts no more checks".to_owned(),
        ),
    }
}

fn refuse(status: StatusCode, message: String) -> Response {
    (status, format!("Refused: {message}.\n")).into_response()
}

/// The module of requests that name none, as in blackbox_exporter.
const DEFAULT_MODULE: &str = "http_2xx";
/// The maximum length of a target, in bytes.
const LONGEST_TARGET: usize = 2048;
/// The longest time that a client waits for a result, and the time where it names none; a request may take a little
/// longer.
const LONGEST_WAIT: Duration = Duration::from_secs(28);
/// The time to send a response.
const TIME_TO_SEND: Duration = Duration::from_millis(500);
