//! The status page: the host's state, for people with a browser, with or without JavaScript.
//!
//! The templates, the style and the script are in `host/server/page`. Text from a plugin or a config is escaped by the
//! templates, and the page's content security policy lets a browser run and load only the files served here. The script
//! keeps an open page up to date: it gets the names of the platforms that have changed, and requests the rows of the
//! visible ones.

use std::sync::OnceLock;

use askama::Template;
use axum::{
    body::to_bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest as _, Sha256};

mod badge;
mod detail;
mod host;
mod list;
mod past;
mod query;
mod row;
mod spark;
#[cfg(test)]
mod tests;
mod times;

use conductor_types::{
    requests::BreakerOrder,
    views::{HistoryRange, StatusView},
};
pub(super) use host::HostNews;
use query::PlatformQuery;
pub(super) use row::key;

use super::{api, events::StreamKind, past as history, routes::RouterState, state::StatusSource};

pub(super) fn routes() -> axum::Router<RouterState> {
    axum::Router::new()
        .route("/", get(list))
        .route("/rows", get(rows))
        .route("/events", get(events))
        .route("/platforms/{name}", get(platform))
        .route("/assets/page.css", get(style))
        .route("/assets/page.js", get(script))
        .route("/assets/icon.svg", get(icon))
}

async fn list(
    State(shown): State<RouterState>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let wanted = PlatformQuery::of(&query);
    let key = wanted.address();
    api::show(&shown, &key, HTML, move |source| {
        Some(list::ListPage::of(source, &wanted).render())
    })
    .await
}

/// Returns the rows of the named platforms that belong on the requested page.
async fn rows(
    State(shown): State<RouterState>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let wanted = PlatformQuery::of(&query);
    let names = query.into_iter().filter(|(key, _)| key == "n");
    let names: Vec<String> = names.map(|(_, name)| name).take(ROWS_AT_ONCE).collect();
    let key = format!("rows {} {names:?}", wanted.address());
    api::show(&shown, &key, HTML, move |source| {
        Some(list::ListFragment::of(source, &wanted, &names).render())
    })
    .await
}

async fn events(State(shown): State<RouterState>) -> Response {
    shown.events.listen(StreamKind::Page, None)
}

async fn platform(
    State(shown): State<RouterState>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let may_ask = shown.state.control.is_some();
    let range = query.iter().find(|(key, _)| key == "range");
    let range: HistoryRange = range.and_then(|(_, r)| r.parse().ok()).unwrap_or_default();
    let found = history::of_platform(&shown, &name, range).await;
    let asked = name.clone();
    let key = format!("platforms/{name} {query:?}");
    let answer = api::show(&shown, &key, HTML, move |source| {
        let past = past::PastPart::new(&asked, range, found);
        Some(detail::PlatformPage::of(source, &asked, may_ask, &query, past)?.render())
    })
    .await;
    if answer.status() != StatusCode::NOT_FOUND {
        return answer;
    }
    let text = format!("No platform is named {}.", name.escape_debug());
    message(StatusCode::NOT_FOUND, "/", &text)
}

/// Returns a platform's badge, to be embedded in other pages.
pub(super) async fn badge(State(shown): State<RouterState>, Path(name): Path<String>) -> Response {
    let asked = name.clone();
    let mut answer = api::show(&shown, &name, "image/svg+xml", move |source| {
        Some(badge::StatusBadge::of(&source.platform(&asked)?.platform).render())
    })
    .await;
    if answer.status() == StatusCode::NOT_FOUND {
        return super::control::no_such_platform(&name);
    }
    let no_cache = header::HeaderValue::from_static("no-cache");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    answer
}

/// Returns the response to a form on a platform's page: a redirect for a browser, the text for other clients and
/// errors.
pub(super) fn answered(
    headers: &HeaderMap,
    name: &str,
    done: FormAction,
    answer: Response,
) -> Response {
    if !is_browser(headers) || !answer.status().is_success() {
        return answer;
    }
    let address = format!("/platforms/{}?done={}", query::escaped(name), done.word());
    (StatusCode::SEE_OTHER, [(header::LOCATION, address)]).into_response()
}

/// Wraps the text of a failed request in a page for browsers, with a link back; other clients get the text unchanged.
pub(super) async fn framed(request: Request, next: Next) -> Response {
    if !is_browser(request.headers()) {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let platform = path.strip_prefix("/api/v1/platforms/");
    let platform = platform.and_then(|rest| rest.split_once('/'));
    let back = platform.map_or_else(
        || "/".to_owned(),
        // Unchanged: it is escaped already.
        |(name, _)| format!("/platforms/{name}"),
    );
    let answer = next.run(request).await;
    let (mut parts, body) = answer.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let failed = parts.status.is_client_error() || parts.status.is_server_error();
    if !failed || !is_text {
        return Response::from_parts(parts, body);
    }
    let text = to_bytes(body, ANSWER_BYTES).await.unwrap_or_default();
    let page = message(parts.status, &back, &String::from_utf8_lossy(&text));
    let (page_parts, body) = page.into_parts();
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        parts.headers.remove(&name);
        let value = page_parts.headers.get(&name).cloned();
        parts.headers.extend(value.map(|value| (name, value)));
    }
    Response::from_parts(parts, body)
}

/// Returns `true` if a client wants HTML.
fn is_browser(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    accept.is_some_and(|accept| accept.to_str().unwrap_or("").contains("text/html"))
}

/// The action that a form requested.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FormAction {
    /// A check.
    Check,
    /// An order to the breaker.
    Breaker(BreakerOrder),
}

impl FormAction {
    fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Breaker(order) => {
                let known = BreakerOrder::ALL.into_iter().find(|(_, o)| *o == order);
                known.map_or("", |(word, _)| word)
            }
        }
    }

    fn parse(word: &str) -> Option<Self> {
        if word == Self::Check.word() {
            return Some(Self::Check);
        }
        let known = BreakerOrder::ALL.into_iter().find(|(w, _)| *w == word);
        known.map(|(_, order)| Self::Breaker(order))
    }

    fn told(self) -> String {
        match self {
            Self::Check => "A check was started.".to_owned(),
            Self::Breaker(order) => format!("An operator {}.", order.told()),
        }
    }
}

/// Returns a page with only a text.
fn message(status: StatusCode, back: &str, text: &str) -> Response {
    let page = MessagePage {
        frame: PageFrame::new(""),
        title: match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::CONFLICT => "Not possible now",
            StatusCode::SERVICE_UNAVAILABLE => "Try again later",
            _ => "Failed",
        },
        back,
        text,
    };
    match page.render() {
        Ok(page) => (status, [(header::CONTENT_TYPE, HTML)], page).into_response(),
        Err(_) => (status, text.to_owned()).into_response(),
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: PageFrame,
    title: &'a str,
    back: &'a str,
    text: &'a str,
}

/// The parts that all pages share.
struct PageFrame {
    /// The text in the search field.
    search: String,
    /// Changes with the files, so that a browser may cache them.
    assets: &'static str,
}

impl PageFrame {
    fn new(search: &str) -> Self {
        static ASSETS: OnceLock<String> = OnceLock::new();
        let assets = ASSETS.get_or_init(|| {
            let hash = Sha256::new().chain_update(CSS).chain_update(JS);
            let hash = hash.chain_update(ICON).finalize();
            hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Self {
            search: search.to_owned(),
            assets,
        }
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css"), KEPT], CSS).into_response()
}

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript"), KEPT], JS).into_response()
}

async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml"), KEPT], ICON).into_response()
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = include_str!("../page/page.css");
const JS: &str = include_str!("../page/page.js");
const ICON: &str = include_str!("../page/icon.svg");
/// Their URL changes with their contents.
const KEPT: (header::HeaderName, &str) =
    (header::CACHE_CONTROL, "public, max-age=31536000, immutable");

/// The maximum number of rows that the script may request at once.
const ROWS_AT_ONCE: usize = 100;
/// The maximum length of a response to a form: that of a refused config.
const ANSWER_BYTES: usize = 64 << 10;

/// The content security policy: no other site may frame a page, and a browser runs and loads only what is served here.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
