//! HTTP: URLs, headers and connections, and the client of JSON APIs.
//!
//! [`ApiServer`] sends a request and reads the response on a new connection, within the time limit of the check and within
//! limits of size. The `http` probe uses the parts below it: [`TargetUrl`], [`LenientStream`] and [`open`].

mod api;
mod chunk_lines;
mod connection;
mod head;
mod headers;
mod lenient;
mod request;
mod response;
mod target;
mod url_key;

pub use hyper::{Method, StatusCode, header};

pub use self::{
    api::{ApiPhases, ApiServer},
    connection::{HttpConnection, MAX_HEAD, encode, judge, judge_io, open, show_status},
    headers::{BasicAuth, authorize, basic, bearer, named, secret},
    lenient::{LenientStream, WriteClock},
    request::ApiRequest,
    response::{ApiResponse, ApiStream},
    target::{BadUrl, TargetUrl},
};

#[cfg(test)]
mod tests;
