//! `conductor status`: what a running host knows, over its HTTP API.

use std::time::Duration;

use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{CliError, DEFAULT_ADDRESS, Exit, Output, print, table};
use crate::state::{Health, PlatformView, StatusView};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The host's address
    #[arg(long = "web.listen-address", value_name = "ADDRESS", env = "CONDUCTOR_WEB_LISTEN_ADDRESS", default_value = DEFAULT_ADDRESS)]
    address: String,
    /// Form of the output
    #[arg(long, default_value = "table")]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Other(format!("cannot start: {e}")))?;
    let body = runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, get(&args.address, "/api/v1/status"))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
    });
    let body = body.map_err(|e| {
        CliError::Other(format!(
            "cannot ask the host at {}: {e}; is `conductor run` running there? (--web.listen-address names another)",
            args.address
        ))
    })?;
    let status: StatusView = serde_json::from_slice(&body).map_err(|e| {
        CliError::Other(format!(
            "{} does not answer as a Conductor host does: {e}",
            args.address
        ))
    })?;
    match args.output {
        // The host's own bytes: a field this program does not know yet is kept.
        Output::Json => print(&format!("{}\n", String::from_utf8_lossy(&body).trim_end()))?,
        Output::Table => print(&text(&status))?,
    }
    let bad = |p: &PlatformView| matches!(p.status, Health::Failing | Health::Unhealthy);
    Ok(if status.platforms.iter().any(bad) {
        Exit::Unhealthy
    } else {
        Exit::Ok
    })
}

/// The status for people, worst first.
pub(super) fn text(status: &StatusView) -> String {
    let mut platforms: Vec<_> = status.platforms.iter().collect();
    platforms.sort_by(|a, b| (a.status, &a.name).cmp(&(b.status, &b.name)));
    let rows = platforms.into_iter().map(|platform| {
        let took = platform
            .last_duration
            .map(|seconds| format!("{:.0} ms", seconds * 1000.0));
        [
            platform.name.clone(),
            platform.status.to_string(),
            platform.breaker.state.clone(),
            took.unwrap_or_default(),
            platform.plugin.clone(),
            platform.message.clone(),
        ]
    });
    let mut text = table(
        ["PLATFORM", "STATUS", "BREAKER", "TOOK", "PLUGIN", "MESSAGE"],
        rows,
    );
    for plugin in status.plugins.iter().filter(|p| p.error.is_some()) {
        text.push_str(&format!(
            "\nplugin {}: {}\n",
            plugin.id,
            plugin.error.as_deref().unwrap_or_default()
        ));
    }
    if let Some(reason) = &status.host.mode_reason {
        text.push_str(&format!("\nhost {}: {reason}\n", status.host.mode));
    }
    text
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
