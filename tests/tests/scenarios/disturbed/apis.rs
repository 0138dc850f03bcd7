//! APIs over HTTP that no package of Debian serves here: threads of this process, which follow the published formats.

use std::net::SocketAddr;

use conductor_net::testing::{json, serve};
use serde_json::{Value, json};

/// Starts an engine of containers, in which `shop` runs.
pub(super) fn container_engine() -> SocketAddr {
    answering(|path| {
        if path.starts_with("/containers/json?") {
            let container = json!({
                "Id": CONTAINER, "Names": ["/shop"], "Image": "shop:2.1", "State": "running", "Status": "Up 2 hours",
            });
            return Some(json!([container]));
        }
        (path == format!("/containers/{CONTAINER}/json")).then(|| {
            json!({
                "Id": CONTAINER, "Name": "/shop", "Created": "2026-01-01T00:00:00Z", "RestartCount": 0,
                "Image": "sha256:0407", "Config": {"Image": "shop:2.1", "Labels": {}},
                "State": {
                    "Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
                    "Dead": false, "Pid": 7, "ExitCode": 0, "Error": "", "StartedAt": "2026-01-01T00:00:00Z",
                    "FinishedAt": "0001-01-01T00:00:00Z",
                },
            })
        })
    })
}

const CONTAINER: &str = "5d2f1f8c4b7a9e3d6c0b1a2f3e4d5c6b7a8f9e0d1c2b3a4f5e6d7c8b9a0f1e2d";

/// Starts Discord's API.
pub(super) fn discord() -> SocketAddr {
    answering(|path| (path == "/gateway").then(|| json!({"url": "wss://gateway.discord.gg"})))
}

/// Starts the API server of a cluster with one node, which is ready.
pub(super) fn kubernetes() -> SocketAddr {
    serve(|request, stream| {
        let (status, body) = match request.line().split('?').next() {
            Some("GET /readyz") => (200, "[+]etcd ok\nreadyz check passed\n".to_owned()),
            Some("GET /api/v1/nodes") => (200, nodes().to_string()),
            _ => (404, json!({"kind": "Status", "code": 404}).to_string()),
        };
        // The probe takes the time from the server.
        let response = format!(
            "HTTP/1.1 {status} Status\r\ndate: Thu, 01 Jan 2026 01:00:00 GMT\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // The client may be gone.
        let _ = stream.write_all(response.as_bytes());
    })
}

fn nodes() -> Value {
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let node =
        json!({"metadata": {"name": "n1"}, "spec": {}, "status": {"conditions": [condition]}});
    json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [node]})
}

/// Starts a server of language models with OpenAI's API, streamed.
pub(super) fn language_model() -> SocketAddr {
    serve(|request, stream| {
        let _ = match request.line() {
            "GET /v1/models" => {
                let model = json!({"id": "llama", "object": "model", "max_model_len": 8192});
                stream.write_all(&json(200, &json!({"object": "list", "data": [model]})))
            }
            "POST /v1/chat/completions" => {
                let part = |delta: Value, reason: Value| {
                    let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
                    let chunk = json!({
                        "id": "1", "object": "chat.completion.chunk", "created": 1, "model": "llama", "choices": [choice],
                    });
                    format!("data: {chunk}\n\n")
                };
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let text = part(json!({"role": "assistant", "content": "ok"}), Value::Null);
                let end = part(json!({}), json!("length"));
                stream.write_all(format!("{head}{text}{end}data: [DONE]\n\n").as_bytes())
            }
            _ => stream.write_all(&json(404, &json!({"error": {"message": "not found"}}))),
        };
    })
}

/// Starts a server that responds to GET with a value, or with 404.
fn answering(value: fn(&str) -> Option<Value>) -> SocketAddr {
    serve(move |request, stream| {
        let path = request.line().strip_prefix("GET ");
        let response = match path.and_then(value) {
            Some(value) => json(200, &value),
            None => json(404, &json!({"message": "not found"})),
        };
        // The client may be gone.
        let _ = stream.write_all(&response);
    })
}
