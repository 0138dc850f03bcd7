//! A request to an API.

use hyper::{
    Method, Request,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use url::form_urlencoded;

use crate::check_error::CheckError;

/// A request to an API; its path follows that of the server's URL.
pub struct ApiRequest {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: String,
    /// Most bytes of the response's body.
    pub(super) max_body: usize,
}

impl ApiRequest {
    /// Returns a GET request for a path that begins with `/`.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: String::new(),
            max_body: MAX_BODY,
        }
    }

    /// Returns a POST request with a body in JSON.
    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        let mut request = Self::get(path);
        request.method = Method::POST;
        request.body = body.to_string();
        let json = HeaderValue::from_static("application/json");
        request.headers.insert(header::CONTENT_TYPE, json);
        request
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let mut query = form_urlencoded::Serializer::new(self.query);
        query.append_pair(name, value);
        self.query = query.finish();
        self
    }

    /// Sets a header, instead of that of the server.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the most bytes of the response's body, instead of 1 MiB; a larger one is an error.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Formats method and path for messages: without the query, which may contain secrets.
    pub(super) fn show(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the request with the server's path and headers.
    pub(super) fn build(
        self,
        base_path: &str,
        mut headers: HeaderMap,
    ) -> Result<Request<String>, CheckError> {
        let refused = format!("{} cannot be requested", self.show());
        let mark = if self.query.is_empty() { "" } else { "?" };
        let path = format!("{base_path}{}{mark}{}", self.path, self.query);
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = path.parse().map_err(|_| CheckError::Platform(refused))?;
        headers.extend(self.headers);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Most bytes of a body, unless a request says otherwise.
const MAX_BODY: usize = 1 << 20;
