//! The host's own HTTP/1 client: http, https and Unix sockets, one request per connection.
//!
//! Every request has a deadline, which covers everything from the name lookup to the last byte, and a limit for the body
//! of its response. Redirects are responses like others unless the request asks to follow them. No message and no Debug
//! output shows the path of a URL, which is a secret with many webhooks, or a secret header.

mod client;
mod error;
mod request;
#[cfg(test)]
mod tests;
mod trust;
mod url;

pub use client::HttpClient;
pub use error::{FailureReason, HttpError, TrustError, UrlError};
pub use hyper::{
    HeaderMap, Method, StatusCode,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
pub use request::{HttpRequest, HttpResponse};
pub use trust::{ClientIdentity, TlsSettings};
pub use url::RequestUrl;
