//! The API server: requests with the current token, lists page by page, and refusals with their cures.

use std::collections::HashSet;

use conductor_net::{
    CheckError, PhaseClock,
    http::{
        ApiRequest, ApiResponse, ApiServer, StatusCode,
        header::{self, HeaderValue},
    },
    short,
};
use conductor_plugin_api::Failure;
use jiff::{Timestamp, fmt::rfc2822};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{resource::Resource, token::TokenSource};

/// The API server of a cluster.
pub(crate) struct KubernetesApi {
    pub(crate) server: ApiServer,
    token: TokenSource,
    /// The header of the current check.
    authorization: Option<HeaderValue>,
    /// The Unix time by the server's clock, from its last response.
    now: Option<f64>,
}

/// The objects of a list.
pub(crate) struct ListQuery<'a> {
    pub(crate) resource: Resource,
    /// All namespaces, or those that cannot have one, if it is `None`.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) selector: Option<&'a str>,
    /// The key of the selector.
    pub(crate) selector_key: &'static str,
}

/// The reason why a list cannot be had.
pub(crate) enum ListError {
    /// This one alone; others may be readable.
    Refused(String),
    /// No other one can be had either.
    Check(CheckError),
}

impl From<CheckError> for ListError {
    fn from(error: CheckError) -> Self {
        Self::Check(error)
    }
}

/// One page of a list.
#[derive(Deserialize)]
struct ListPage<T> {
    kind: String,
    metadata: PageMetadata,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

/// The body of an error: an object of the kind `Status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorStatus {
    message: String,
}

impl KubernetesApi {
    pub(crate) fn new(server: ApiServer, token: TokenSource) -> Self {
        Self {
            server,
            token,
            authorization: None,
            now: None,
        }
    }

    /// Begins a check: reads the token, which may have been replaced since the last one.
    pub(crate) async fn begin(&mut self) -> Result<(), CheckError> {
        self.now = None;
        self.authorization = self.token.read().await?;
        Ok(())
    }

    /// Returns the Unix time by the server's clock, with which the times of objects are compared.
    pub(crate) fn now(&self) -> f64 {
        self.now.unwrap_or_default()
    }

    /// Sends a request, and reads the response and the server's time.
    pub(crate) async fn ask(
        &mut self,
        mut request: ApiRequest,
        clock: &mut PhaseClock<'_>,
    ) -> Result<ApiResponse, CheckError> {
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        let response = self.server.ask(request, clock).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            return Err(response.unexpected(&format!(
                "the API server does not accept the credentials ({}); replace the expired or wrong token or client certificate \
                 in `token`, `token_file` or `tls.client_cert`",
                words(&response)
            )));
        }
        if response.status == StatusCode::TOO_MANY_REQUESTS {
            let wait = match response.header(header::RETRY_AFTER) {
                Some(seconds) => format!(", and asks to wait {} s", short(seconds, MAX_SHOWN)),
                None => String::new(),
            };
            return Err(response.unexpected(&format!(
                "the API server sheds load{wait}; check less often (`interval`), select fewer objects, or give the account a \
                 FlowSchema of its own"
            )));
        }
        Ok(response)
    }

    /// Returns the objects of a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &mut self,
        query: &ListQuery<'_>,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<T>, ListError> {
        let mut objects = Vec::new();
        let mut tokens = HashSet::new();
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let response = self.ask(query.request(&next), clock).await?;
            query.refuse(&response)?;
            let page: ListPage<T> = response.json()?;
            let kind = format!("{}List", query.resource.kind());
            if page.kind != kind {
                let found = short(&page.kind, MAX_SHOWN);
                let why = format!("the object is a {found}, expected a {kind}");
                return Err(response.unexpected(&why).into());
            }
            self.read_clock(&response)?;
            objects.extend(page.items.unwrap_or_default());
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(objects);
            }
            if !tokens.insert(next.clone()) {
                let why = "the list does not end: it continues with a page that was read already";
                return Err(response.unexpected(why).into());
            }
        }
        Err(CheckError::Host(Failure::config(format!(
            "there are more than {MAX_PAGES} pages of {PAGE} {}, expected fewer; select some with `namespaces` or `{}`, or leave \
             them out of `resources`",
            query.resource.name(),
            query.selector_key
        )))
        .into())
    }

    fn read_clock(&mut self, response: &ApiResponse) -> Result<(), CheckError> {
        let date = response.header(header::DATE);
        let date = date.and_then(|date| rfc2822::parse(date).ok());
        let Some(date) = date else {
            return Err(response.unexpected("there is no `date` header with the time"));
        };
        self.now = Some(date.timestamp().as_duration().as_secs_f64());
        Ok(())
    }
}

impl ListQuery<'_> {
    fn request(&self, next: &str) -> ApiRequest {
        let mut request = ApiRequest::get(self.resource.path(self.namespace))
            .max_body(MAX_BODY)
            .query("limit", &PAGE.to_string());
        if let Some(selector) = self.selector {
            request = request.query("labelSelector", selector);
        }
        match next {
            "" => request,
            next => request.query("continue", next),
        }
    }

    /// Returns the error of a response without success.
    fn refuse(&self, response: &ApiResponse) -> Result<(), ListError> {
        let (resource, words) = (self.resource, words(response));
        let name = resource.name();
        Err(match response.status {
            StatusCode::OK => return Ok(()),
            StatusCode::FORBIDDEN => {
                let role = match self.namespace {
                    Some(namespace) => format!("Role in the namespace {namespace}"),
                    None => "ClusterRole".to_owned(),
                };
                ListError::Refused(format!(
                    "cannot list {name}: {words}; give the account a {role} with the verb `list` on `{name}` of the API group \
                     \"{}\", or leave `{name}` out of `resources`",
                    resource.group()
                ))
            }
            StatusCode::NOT_FOUND => ListError::Refused(format!(
                "cannot list {name}: the server has no {}; correct `url`, or leave `{name}` out of `resources`",
                resource.path(None)
            )),
            StatusCode::BAD_REQUEST if self.selector.is_some() => {
                CheckError::Host(Failure::config(format!(
                    "key `{}`: the API server refuses it: {words}; correct it",
                    self.selector_key
                )))
                .into()
            }
            StatusCode::GONE => CheckError::Host(Failure::new(format!(
                "the list of {name} changed too much while it was read, and its next page is gone ({words}); the next check \
                 begins it again; if this stays, select fewer with `namespaces` or `{}`",
                self.selector_key
            )))
            .into(),
            _ => response.unexpected(&words).into(),
        })
    }
}

/// Returns the server's words about an error.
pub(crate) fn words(response: &ApiResponse) -> String {
    let status: ErrorStatus = serde_json::from_slice(&response.body).unwrap_or_default();
    match status.message.as_str() {
        "" => "no reason is given".to_owned(),
        message => short(message, MAX_SHOWN),
    }
}

/// Returns a time of the API as Unix time.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}

/// Objects of a page.
const PAGE: usize = 250;

/// Most pages of a list: 20000 objects.
const MAX_PAGES: usize = 80;

/// Largest page that is read, in bytes.
const MAX_BODY: usize = 32 << 20;

/// Longest part of the server's words in a message, in characters.
const MAX_SHOWN: usize = 240;
