//! The routes of the server.
use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::oneshot;
use tower_http::{CompressionLevel, compression::CompressionLayer};

#[cfg(feature = "prometheus")]
use super::negotiation::NegotiatedFormat;
use super::{
    RequestOrigin, ServerLimits, ServerState, api, api::RenderOutcome, budget::MemoryBudget,
    control, control::RequestActor, events::EventStreams, flights::RequestCoalescer, heartbeat,
    offload::SerialExecutor, page, target,
};

/// Returns all routes.
pub(super) fn routes(state: ServerState, limits: ServerLimits, budget: MemoryBudget) -> Router {
    let looks = SerialExecutor::new(limits.turn_time);
    let shown = RouterState {
        events: EventStreams::new(state.source.clone(), looks.clone(), budget.clone(), limits),
        state,
        #[cfg(feature = "prometheus")]
        scrapes: super::scrape::ScrapeRenderer::new(budget.clone(), limits),
        looks,
        renderings: RequestCoalescer::default(),
        budget,
        controls: SerialExecutor::new(limits.turn_time),
        reloads: SerialExecutor::new(RELOAD_TURN),
        callers: SerialExecutor::new(limits.turn_time),
        pasts: SerialExecutor::with_turns(PAST_QUERIES, limits.turn_time),
        target_checks: SerialExecutor::with_turns(TARGET_CHECKS, limits.turn_time),
    };
    Router::new()
        .merge(page::routes())
        .route("/-/", get(index))
        .route("/metrics", get(metrics))
        .route("/probe", get(target::probe))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .nest("/api/v1", api::routes())
        .route(RELOAD, post(reload))
        .route_layer(middleware::from_fn_with_state(
            shown.clone(),
            refuse_plugins,
        ))
        // Its token, which no plugin knows, is enough.
        .nest("/api/v1", heartbeat::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        // For bodies without a content length.
        .layer(DefaultBodyLimit::max(
            usize::try_from(limits.body_bytes).unwrap_or(usize::MAX),
        ))
        .layer(middleware::from_fn(move |request, next| {
            refuse_large_body(limits.body_bytes, request, next)
        }))
        .layer(middleware::from_fn(page::framed))
        // Compressed as the client reads; not for event streams, nor for /metrics, which is compressed when it is
        // rendered.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::map_response(guarded))
        .with_state(shown)
}

#[derive(Clone)]
pub(super) struct RouterState {
    pub(super) state: ServerState,
    #[cfg(feature = "prometheus")]
    scrapes: super::scrape::ScrapeRenderer,
    /// Turns for work that costs more than a copy.
    pub(super) looks: SerialExecutor,
    /// Requests that wait for the same text.
    pub(super) renderings: RequestCoalescer<String, oneshot::Sender<RenderOutcome>>,
    pub(super) budget: MemoryBudget,
    /// Turns for actions.
    pub(super) controls: SerialExecutor,
    /// Turns for reloads, which read files and call plugins that may be slow: no other action waits for one.
    reloads: SerialExecutor,
    /// Turns for identifying callers: plugins that send many requests delay no action.
    callers: SerialExecutor,
    /// Turns for queries of the past, which wait for a disk.
    pub(super) pasts: SerialExecutor,
    /// Turns for checks of targets, which wait for plugins.
    pub(super) target_checks: SerialExecutor,
    pub(super) events: EventStreams,
}

/// Adds security headers to a response. Other sites get no referrer, but the host's own forms have to send one.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn index() -> String {
    format!("Conductor {}\n\n{ROUTES}", env!("CARGO_PKG_VERSION"))
}

async fn healthy() -> &'static str {
    "Conductor is healthy.\n"
}

async fn ready(State(shown): State<RouterState>) -> (StatusCode, &'static str) {
    if shown.state.source.is_ready() {
        (StatusCode::OK, "Conductor is ready.\n")
    } else {
        let text = "Conductor is not ready: it is starting or shutting down.\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn reload(
    State(shown): State<RouterState>,
    RequestActor(actor): RequestActor,
    headers: HeaderMap,
) -> Response {
    api::control_in(&shown, &shown.reloads, &headers, move |control| {
        control::reloaded(control.reload(&actor))
    })
    .await
}

#[cfg(feature = "prometheus")]
async fn metrics(State(shown): State<RouterState>, headers: HeaderMap) -> Response {
    let wanted = NegotiatedFormat::by(&headers);
    let Some(body) = shown.scrapes.body(shown.state, wanted).await else {
        return busy();
    };
    let kind = [
        (header::CONTENT_TYPE, wanted.format.content_type()),
        (header::VARY, "accept, accept-encoding"),
    ];
    let mut response = (kind, body).into_response();
    if wanted.gzip {
        let gzip = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, gzip);
    }
    response
}

#[cfg(not(feature = "prometheus"))]
async fn metrics() -> (StatusCode, &'static str) {
    let text = "This host was built without the `prometheus` feature; its metrics are written to the log.\n";
    (StatusCode::NOT_IMPLEMENTED, text)
}

async fn not_found() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("Not found.\n\n{ROUTES}"))
}

async fn not_allowed(method: Method) -> (StatusCode, String) {
    let instead = if method == Method::GET || method == Method::HEAD {
        "POST"
    } else {
        "GET or HEAD"
    };
    let text = format!("{method} is not allowed here: use {instead}.\n");
    (StatusCode::METHOD_NOT_ALLOWED, text)
}

/// Plugins can reach this server like any other program, but must not change anything through it.
async fn refuse_plugins(
    State(shown): State<RouterState>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.extensions().get::<RequestOrigin>().copied();
    let looks = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let (Some(control), Some(origin), false) = (&shown.state.control, origin, looks) else {
        return next.run(request).await;
    };
    let control = Arc::clone(control);
    let judging = shown
        .callers
        .start(move || control.refusal(origin.connection, origin.has_password));
    let Some(judging) = judging.await else {
        return busy();
    };
    let refusal = match judging.await {
        Ok(None) => return next.run(request).await,
        Ok(Some(refusal)) => refusal,
        Err(error) => return control::broke_off(&error),
    };
    let close = [(header::CONNECTION, "close")];
    (StatusCode::FORBIDDEN, close, format!("{refusal}\n")).into_response()
}

/// Closes the connection too, since the unwanted body may be on its way already.
async fn refuse_large_body(limit: u64, request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_none_or(|length: u64| length <= limit) {
        return next.run(request).await;
    }
    let text = format!("The body is too large: at most {limit} bytes.\n");
    let mut response = (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

pub(super) fn busy() -> Response {
    let text = "Too many requests at once: try again later.\n";
    let soon = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, soon, text).into_response()
}

const RELOAD: &str = "/-/reload";
/// The longest time a reload waits for the one before it, which calls the plugins and gives each its time.
const RELOAD_TURN: Duration = Duration::from_secs(120);
/// The maximum number of queries of the past at the same time.
const PAST_QUERIES: usize = 2;
/// The maximum number of checks of targets at the same time.
const TARGET_CHECKS: usize = 100;

const ROUTES: &str = "\
/               status page; /platforms/NAME for one platform
/metrics        metrics in Prometheus's text format, or in OpenMetrics if requested
/probe?target=HOST&module=TEMPLATE  check of a target, as blackbox_exporter serves it
/-/healthy      200 while the host runs
/-/ready        200 while the host monitors platforms, 503 before and after
/-/reload       POST: reload the config (needs --web.enable-lifecycle)
/api/v1/status  the full state as JSON
/api/v1/platforms, /api/v1/platforms/NAME, /api/v1/plugins  parts of it
/api/v1/platforms/NAME/history, /api/v1/uptime, /api/v1/incidents, /api/v1/history/export  the past
/api/v1/maintenance  maintenance windows; POST starts one, POST …/end ends it (needs --web.enable-lifecycle)
/api/v1/events  changes of the state as server-sent events
/api/v1/heartbeat/NAME  POST: heartbeat of a job (needs its token)
/api/v1/openapi.json  OpenAPI description of /api/v1
/api/v1/platforms/NAME/badge.svg  badge for other pages
/api/v1/platforms/NAME/check  POST: check it now (needs --web.enable-lifecycle)
/api/v1/platforms/NAME/breaker/open, …/close, …/release, …/reset  POST (needs --web.enable-lifecycle)
";
