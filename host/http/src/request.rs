//! A request with its limits, and the response.

use std::time::Duration;

use hyper::{
    HeaderMap, Method, StatusCode,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};

use super::RequestUrl;

/// A request with its limits. Its Debug output shows neither the path of the URL nor secret headers nor the body.
#[derive(Clone)]
pub struct HttpRequest {
    pub(crate) method: Method,
    pub(crate) url: RequestUrl,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    /// Redirects that may still be followed; `None` if a redirect is a response like others.
    pub(crate) redirects: Option<u8>,
}

/// A response with its whole body.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl HttpRequest {
    /// Returns a request without a body: 10 s, at most 1 MiB of response, no redirect followed.
    #[must_use]
    pub fn new(method: Method, url: RequestUrl) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(10),
            body_limit: 1 << 20,
            redirects: None,
        }
    }

    /// Returns a GET request with the limits of [`Self::new`].
    #[must_use]
    pub fn get(url: RequestUrl) -> Self {
        Self::new(Method::GET, url)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Adds a header that no Debug output shows, and that no other server gets by a redirect.
    #[must_use]
    pub fn secret_header(self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.header(name, value)
    }

    /// Sets the time for the whole exchange, from the name lookup to the last byte.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets the limit of the response's body, in bytes.
    #[must_use]
    pub fn body_limit(self, body_limit: usize) -> Self {
        Self { body_limit, ..self }
    }

    /// Follows up to `redirects` redirects, and fails at one more; requests other than GET and HEAD are never redirected.
    #[must_use]
    pub fn follow_redirects(self, redirects: u8) -> Self {
        Self {
            redirects: Some(redirects),
            ..self
        }
    }
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &self.headers)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}
