//! Asks a running host over its HTTP API.

use std::time::Duration;

use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::CliError;
use crate::state::StatusView;

/// What the host at `address` knows: as it sent it, and as this program understands it.
pub(super) fn status(address: &str) -> Result<(Vec<u8>, StatusView), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Other(format!("cannot start: {e}")))?;
    let body = runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, get(address, "/api/v1/status"))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
    });
    let body = body.map_err(|e| {
        CliError::Other(format!(
            "cannot ask the host at {address}: {e}; is `conductor run` running there? (--web.listen-address names another)"
        ))
    })?;
    let status = serde_json::from_slice(&body).map_err(|e| {
        CliError::Other(format!(
            "{address} does not answer as a Conductor host does: {e}"
        ))
    })?;
    Ok((body, status))
}

/// A GET request's body.
async fn get(address: &str, path: &str) -> Result<Vec<u8>, String> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", address)
        .body(axum::body::Body::empty())
        .map_err(|e| e.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    let body = axum::body::Body::new(response.into_body());
    let bytes = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|e| e.to_string())?;
    Ok(bytes.to_vec())
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// A host of 100 000 platforms answers with some 50 MB.
const BODY_LIMIT: usize = 512 << 20;
