//! `/api/v1`: the host's status as JSON, and operators' requests.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use conductor_engine::state::OrderError;
use conductor_types::requests::BreakerOrder;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    control::{self, RequestActor, no_such_platform},
    events::StreamKind,
    offload::SerialExecutor,
    openapi,
    page::{self, FormAction},
    past,
    routes::{RouterState, busy},
    state::{HostControl, StatusSource},
};

pub(super) fn routes() -> axum::Router<RouterState> {
    axum::Router::new()
        .route("/status", get(status))
        .route("/platforms", get(platforms))
        .route("/platforms/{name}", get(platform))
        .route("/platforms/{name}/badge.svg", get(page::badge))
        .route("/platforms/{name}/history", get(past::platform))
        .route("/incidents", get(past::incidents))
        .route("/uptime", get(past::uptime))
        .route("/history/export", get(past::export))
        .route("/plugins", get(plugins))
        .route("/maintenance", get(windows).post(start_maintenance))
        .route("/maintenance/end", post(end_maintenance))
        .route("/events", get(events))
        .route("/openapi.json", get(openapi::serve))
        .route("/platforms/{name}/check", post(check))
        .route("/platforms/{name}/breaker/{order}", post(breaker))
}

async fn status(State(shown): State<RouterState>) -> Response {
    json(&shown, "status", |source| Some(source.status())).await
}

async fn platforms(State(shown): State<RouterState>) -> Response {
    json(&shown, "platforms", |source| {
        Some(source.status().platforms)
    })
    .await
}

async fn plugins(State(shown): State<RouterState>) -> Response {
    json(&shown, "plugins", |source| Some(source.plugins())).await
}

async fn windows(State(shown): State<RouterState>) -> Response {
    json(&shown, "maintenance", |source| Some(source.maintenance())).await
}

async fn platform(State(shown): State<RouterState>, Path(name): Path<String>) -> Response {
    let asked = name.clone();
    let key = format!("platforms/{name}");
    let answer = json(&shown, &key, move |source| source.platform(&asked)).await;
    match answer.status() {
        StatusCode::NOT_FOUND => no_such_platform(&name),
        _ => answer,
    }
}

/// Resumes after the client's last event if the request names one.
async fn events(State(shown): State<RouterState>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id");
    let last = last.and_then(|last| Some(last.to_str().ok()?.to_owned()));
    shown.events.listen(StreamKind::Api, last)
}

async fn check(
    State(shown): State<RouterState>,
    Path(name): Path<String>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
) -> Response {
    let asked = name.clone();
    let answer = control(&shown, &headers, move |control| {
        control::checked(&asked, control.check_now(&asked, &actor))
    })
    .await;
    page::answered(&headers, &name, FormAction::Check, answer)
}

async fn breaker(
    State(shown): State<RouterState>,
    Path((name, order)): Path<(String, String)>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
) -> Response {
    let Some((_, order)) = BreakerOrder::ALL
        .into_iter()
        .find(|(name, _)| *name == order)
    else {
        let text = "Unknown order: a breaker takes open, close, release or reset.\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let asked = name.clone();
    let answer = control(&shown, &headers, move |control| {
        let done = control.order_breaker(&asked, order, &actor);
        control::ordered(&asked, order, &actor, done)
    })
    .await;
    page::answered(&headers, &name, FormAction::Breaker(order), answer)
}

async fn start_maintenance(
    State(shown): State<RouterState>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let example = r#"{"platforms": ["db-*"], "for": "2h"}"#;
    arrange(&shown, &headers, &body, example, move |control, order| {
        control.start_maintenance(order, &actor)
    })
    .await
}

async fn end_maintenance(
    State(shown): State<RouterState>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let example = r#"{"platforms": ["db-*"]}"#;
    arrange(&shown, &headers, &body, example, move |control, end| {
        control.end_maintenance(end, &actor)
    })
    .await
}

/// Handles a maintenance order that the body contains as JSON, like `example`.
async fn arrange<T: DeserializeOwned + Send + 'static>(
    shown: &RouterState,
    headers: &HeaderMap,
    body: &Bytes,
    example: &str,
    act: impl FnOnce(&dyn HostControl, &T) -> Result<String, OrderError> + Send + 'static,
) -> Response {
    let order = serde_json::from_slice::<T>(body).map_err(|error| {
        OrderError::Invalid(format!("the body must be JSON like {example}: {error}"))
    });
    control(shown, headers, move |control| {
        control::arranged(order.and_then(|order| act(control, &order)))
    })
    .await
}

/// Runs an action on the host, if control is enabled and this client is allowed to use it.
pub(super) async fn control(
    shown: &RouterState,
    headers: &HeaderMap,
    act: impl FnOnce(&dyn HostControl) -> Response + Send + 'static,
) -> Response {
    control_in(shown, &shown.controls, headers, act).await
}

/// Like [`control`], but one at a time among the actions of `turns`.
pub(super) async fn control_in(
    shown: &RouterState,
    turns: &SerialExecutor,
    headers: &HeaderMap,
    act: impl FnOnce(&dyn HostControl) -> Response + Send + 'static,
) -> Response {
    let Some(control) = shown.state.control.clone() else {
        return control::not_enabled();
    };
    if let Err(refusal) = control::may_ask(headers) {
        return refusal;
    }
    match turns.start(move || act(&*control)).await {
        Some(acting) => acting
            .await
            .unwrap_or_else(|error| control::broke_off(&error)),
        None => busy(),
    }
}

/// Returns an item as JSON, or 404 if there is none. `key` identifies the item.
async fn json<T: Serialize + Send + 'static>(
    shown: &RouterState,
    key: &str,
    look: impl FnOnce(&dyn StatusSource) -> Option<T> + Send + 'static,
) -> Response {
    show(shown, key, "application/json", move |source| {
        look(source).map(|found| serde_json::to_string(&found))
    })
    .await
}

/// A rendering, shared by all requests that waited for it.
#[derive(Clone)]
pub(super) enum RenderOutcome {
    Text(Bytes),
    /// The item does not exist.
    Missing,
    /// There is no memory for it.
    NoRoom,
    /// Rendering failed, for this reason.
    Failed(Arc<str>),
}

/// Returns a rendering of an item, or 404 if there is none.
///
/// Requests with the same `key` and `content_type` share one rendering.
pub(super) async fn show<E: Display + Send + 'static>(
    shown: &RouterState,
    key: &str,
    content_type: &'static str,
    make: impl FnOnce(&dyn StatusSource) -> Option<Result<String, E>> + Send + 'static,
) -> Response {
    if !shown.budget.room().await {
        return busy();
    }
    let (source, budget) = (shown.state.source.clone(), shown.budget.clone());
    let rendering =
        shown
            .renderings
            .share(format!("{content_type} {key}"), &shown.looks, move || {
                // Other requests may have used up the budget while this one waited for its turn.
                if !budget.has_room() {
                    return RenderOutcome::NoRoom;
                }
                match catch_unwind(AssertUnwindSafe(|| make(&*source))) {
                    Ok(Some(Ok(mut text))) => {
                        text.shrink_to_fit();
                        RenderOutcome::Text(budget.charge(text))
                    }
                    Ok(Some(Err(error))) => RenderOutcome::Failed(error.to_string().into()),
                    Ok(None) => RenderOutcome::Missing,
                    Err(_) => RenderOutcome::Failed("rendering panicked".into()),
                }
            });
    let why = match rendering.await {
        Some(RenderOutcome::Text(text)) => {
            let no_store = (header::CACHE_CONTROL, "no-store");
            return ([(header::CONTENT_TYPE, content_type), no_store], text).into_response();
        }
        Some(RenderOutcome::Missing) => return StatusCode::NOT_FOUND.into_response(),
        Some(RenderOutcome::NoRoom) | None => return busy(),
        Some(RenderOutcome::Failed(why)) => why,
    };
    tracing::error!("failed to build a response: {why}");
    let text = r#"{"error":"failed to build the response; see the host's log"}"#;
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::INTERNAL_SERVER_ERROR, json, text).into_response()
}
