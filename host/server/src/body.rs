//! A response body that is sent in pieces, so that the connection knows how fast the client reads.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

use super::connections::ActiveRequest;

/// The body of a response; dropping it ends the request.
///
/// Only small pieces are handed to the connection at a time: with TLS it copies them for each client.
pub(super) struct ResponseBody {
    body: Body,
    /// The rest of the last frame.
    rest: Bytes,
    request: ActiveRequest,
}

impl ResponseBody {
    pub(super) fn new(body: Body, request: ActiveRequest) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            request,
        }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Pending => {
                    self.request.caught_up();
                    return Poll::Pending;
                }
                ended => return ended,
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(piece);
        self.request.took(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// The maximum size of a piece.
const PIECE_BYTES: usize = 64 << 10;
