//! Who may ask for a reload, and what they are told.
//!
//! A page in the operator's browser can send a POST to any host it can reach, without being able to read the answer. So
//! whatever a browser marks as coming from another site's page is refused; `curl` and others send no such marks.
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinError;

/// Refuses a request that a page of another origin sent.
#[expect(
    clippy::result_large_err,
    reason = "a refusal is a response like any other, and there are few of them"
)]
pub(super) fn may_ask(headers: &HeaderMap) -> Result<(), Response> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    // Another port of the same name is `same-site`, and another program.
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    // Behind a proxy that speaks TLS the scheme differs; the rest has to be what the browser asked for.
    let own = text(header::HOST.as_str()).unwrap_or("");
    let origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(own))
    });
    if site && origin {
        return Ok(());
    }
    let text = "A page of another site may not reload this host: send the request without a browser, or from this host's own pages (a proxy in between must pass on the Host header).\n";
    Err((StatusCode::FORBIDDEN, text).into_response())
}

/// Where the operator has not allowed it.
pub(super) fn not_enabled() -> Response {
    let text = "Reloading over HTTP is not enabled: start the host with --web.enable-lifecycle, or send it SIGHUP.\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// What became of a reload.
pub(super) fn answer(result: Result<Result<(), String>, JoinError>) -> Response {
    match result {
        Ok(Ok(())) => "The config was reloaded.\n".into_response(),
        Ok(Err(message)) => {
            let text = format!("{}\n", message.trim_end());
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Err(error) => {
            tracing::error!("the reload broke off: {error}");
            let text = "The reload broke off, which is a bug of the host's; see its log.\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
