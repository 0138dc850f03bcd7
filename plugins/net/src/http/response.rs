//! The response of an API: whole, or line by line.

use std::{
    future::{pending, poll_fn},
    mem,
    pin::Pin,
    task::{Poll, ready},
};

use hyper::{
    Response, StatusCode,
    body::{Body as _, Bytes, Frame, Incoming},
    header::{self, HeaderMap},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{TargetUrl, api::ConnectionDriver, connection::judge, show_status};
use crate::{check_error::CheckError, limit::TimeLimit, show::short};

/// A whole response of an API.
pub struct ApiResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Method and path of the request, for messages.
    request: String,
}

impl ApiResponse {
    /// Reads the body as JSON of this form.
    ///
    /// # Errors
    /// If it is not: the platform's fault. The message contains nothing of the body, which may have secrets.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CheckError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let text = error.to_string();
            self.unexpected(
                &match (error.is_data(), text.starts_with("missing field")) {
                    (true, true) => short(&text, MAX_SHOWN),
                    (true, false) => format!(
                        "a value at line {} column {} has another type than the API documents",
                        error.line(),
                        error.column()
                    ),
                    (false, _) => "the body is not JSON".to_owned(),
                },
            )
        })
    }

    /// Returns the error of a response that is not as the API documents it, with its status.
    pub fn unexpected(&self, why: &str) -> CheckError {
        let mut message = format!("{}: {}", self.request, show_status(self.status));
        if let Some(location) = self.location() {
            message += &format!(" to {location}, expected the API; write its URL as `url`");
            return CheckError::Platform(message);
        }
        if let Some(encoding) = self.header(header::CONTENT_ENCODING) {
            message += &format!(", encoded as {}", short(encoding, MAX_SHOWN));
        }
        if let Some(kind) = self.header(header::CONTENT_TYPE) {
            message += &format!(", {}", short(kind, MAX_SHOWN));
        }
        message += &format!(", {} bytes: {why}", self.body.len());
        CheckError::Platform(message)
    }

    /// Returns a header as text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns where a redirect leads, without query.
    fn location(&self) -> Option<String> {
        let location = self.header(header::LOCATION)?;
        let location = location.split(['?', '#']).next().unwrap_or_default();
        let shown = match TargetUrl::parse(location) {
            Ok(target) => target.to_string(),
            Err(_) => location.to_owned(),
        };
        self.status
            .is_redirection()
            .then(|| short(&shown, MAX_SHOWN))
    }
}

/// A response of an API that is read line by line, as with server-sent events.
pub struct ApiStream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    connection: ConnectionDriver,
    /// Bytes that were received and not yet returned.
    received: Vec<u8>,
    /// Size of the body so far.
    size: usize,
    max_body: usize,
    request: String,
}

impl ApiStream {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: ConnectionDriver,
        request: String,
        max_body: usize,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            connection,
            received: Vec::new(),
            size: 0,
            max_body,
            request,
        }
    }

    /// Returns a header as text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the next line without its end, and `None` after the last one.
    ///
    /// # Errors
    /// If the response ends early, is too large or does not come in time: the platform's fault.
    pub async fn line(&mut self, limit: &TimeLimit<'_>) -> Result<Option<String>, CheckError> {
        let mut searched = 0;
        loop {
            let end = self.received[searched..].iter().position(|b| *b == b'\n');
            if let Some(end) = end {
                let rest = self.received.split_off(searched + end + 1);
                let line = mem::replace(&mut self.received, rest);
                return Ok(Some(text(&line)));
            }
            searched = self.received.len();
            if !self.receive(limit).await? {
                let line = mem::take(&mut self.received);
                return Ok((!line.is_empty()).then(|| text(&line)));
            }
        }
    }

    /// Reads the rest of the response.
    ///
    /// # Errors
    /// As for [`Self::line`].
    pub async fn rest(mut self, limit: &TimeLimit<'_>) -> Result<ApiResponse, CheckError> {
        while self.receive(limit).await? {}
        Ok(ApiResponse {
            status: self.status,
            headers: self.headers,
            body: self.received,
            request: self.request,
        })
    }

    /// Receives a part of the body; returns `false` at its end.
    async fn receive(&mut self, limit: &TimeLimit<'_>) -> Result<bool, CheckError> {
        let Ok(data) = timeout(limit.left(), self.data()).await else {
            return Err(CheckError::Platform(format!(
                "no answer within {} (waiting for the end of the response to {}, after {} bytes)",
                limit.show(),
                self.request,
                self.size
            )));
        };
        let Some(data) = data else {
            return Ok(false);
        };
        let data = data.map_err(|error| match judge(&error) {
            CheckError::Platform(why) => CheckError::Platform(format!(
                "{}: {}, but the body ended after {} bytes: {why}",
                self.request,
                show_status(self.status),
                self.size
            )),
            ours => ours,
        })?;
        self.size += data.len();
        if self.size > self.max_body {
            return Err(CheckError::Platform(format!(
                "{}: {}, but the body has more than {} bytes, the most that the probe reads",
                self.request,
                show_status(self.status),
                self.max_body
            )));
        }
        self.received.extend_from_slice(&data);
        Ok(true)
    }

    /// Returns the next part of the body while the connection does its part.
    async fn data(&mut self) -> Option<hyper::Result<Bytes>> {
        poll_fn(|cx| {
            if self.connection.as_mut().poll(cx).is_ready() {
                self.connection = Box::pin(pending());
            }
            loop {
                let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
                match frame.map(|frame| frame.map(Frame::into_data)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                    Some(Ok(Err(_trailers))) => {}
                }
            }
        })
        .await
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

/// Longest part of a server's words in a message, in characters.
const MAX_SHOWN: usize = 160;
