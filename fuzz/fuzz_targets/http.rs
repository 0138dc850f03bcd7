//! An HTTP client may send any bytes, in any pieces: the server responds or closes the connection, and a required
//! password is never bypassed.
#![no_main]

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
    time::Duration,
};

use conductor_config::ConfigError;
use conductor_engine::{
    actor::ActionOrigin,
    heartbeats::{HeartbeatRefusal, InvalidHeartbeat},
    metrics::HostMetrics,
    state::{CheckNow, OrderError},
};
use conductor_server::{
    CheckedTarget, HeartbeatReceiver, HostControl, NoPast, ServerLimits, ServerSecurity, ServerState, StatusSource,
    TargetProber, TargetRefusal, TargetRequest, serve_stream,
};
use conductor_types::{
    requests::{BreakerOrder, Heartbeat, MaintenanceEnd, MaintenanceOrder},
    views::{PlatformDetail, PluginDetail, StatusView, WindowView},
};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split},
    runtime::{Builder, Runtime},
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, stream)) = bytes.split_first() else {
        return;
    };
    let guarded = how & 1 == 1;
    let size = usize::from(how >> 1).max(1);
    let answer = RUNTIME.with_borrow(|runtime| runtime.block_on(exchange(stream, size, guarded)));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    if guarded {
        assert!(!contains(&answer, MARK), "somebody got in");
    }
});

/// Sends the bytes in pieces, and returns the whole output until the server has ended.
async fn exchange(stream: &[u8], size: usize, guarded: bool) -> Vec<u8> {
    let state = ServerState {
        metrics: HostMetrics::new(),
        source: Arc::new(Host),
        scraped: Arc::new(|| {}),
        control: Some(Arc::new(Host)),
        targets: Arc::new(Host),
        heartbeats: Arc::new(Host),
        past: Arc::new(NoPast),
    };
    let security = if guarded {
        GUARDED.clone()
    } else {
        ServerSecurity::default()
    };
    let (client, server) = duplex(1 << 20);
    let serving = tokio::spawn(serve_stream(
        state,
        ServerLimits::default(),
        security,
        server,
    ));
    let (mut reader, mut writer) = split(client);
    let reading = tokio::spawn(async move {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        answer
    });
    for piece in stream.chunks(size) {
        // The server may have closed the connection by now.
        if writer.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = writer.shutdown().await;
    let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
    ended
        .expect("the connection never ends")
        .expect("it panicked");
    reading.await.expect("it reads")
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// A host with one platform, which accepts every order.
struct Host;

impl StatusSource for Host {
    fn is_ready(&self) -> bool {
        true
    }

    fn status(&self) -> StatusView {
        serde_json::from_str(STATUS).expect("it is a status")
    }

    fn plugins(&self) -> Vec<PluginDetail> {
        Vec::new()
    }

    fn overview(&self) -> StatusView {
        self.status()
    }

    fn platform(&self, name: &str) -> Option<PlatformDetail> {
        (name == "shop").then(|| serde_json::from_str(PLATFORM).expect("it is a platform"))
    }

    fn maintenance(&self) -> Vec<WindowView> {
        Vec::new()
    }
}

impl TargetProber for Host {
    fn check(&self, request: &TargetRequest) -> Result<CheckedTarget, TargetRefusal> {
        Err(match request.module.as_str() {
            "http" => TargetRefusal::Forbidden,
            _ => TargetRefusal::Unknown("http".to_owned()),
        })
    }
}

impl HeartbeatReceiver for Host {
    fn admit(&self, platform: &str, _: &str) -> Result<(), HeartbeatRefusal> {
        match platform {
            "shop" => Ok(()),
            _ => Err(HeartbeatRefusal::Unknown),
        }
    }

    fn receive(&self, _: &str, _: Heartbeat) -> Result<(), InvalidHeartbeat> {
        Ok(())
    }
}

impl HostControl for Host {
    fn reload(&self, _: &ActionOrigin) -> Result<Vec<String>, ConfigError> {
        Ok(Vec::new())
    }

    fn check_now(&self, platform: &str, _: &ActionOrigin) -> CheckNow {
        match platform {
            "shop" => CheckNow::Begun,
            _ => CheckNow::Unknown,
        }
    }

    fn order_breaker(&self, platform: &str, _: BreakerOrder, _: &ActionOrigin) -> bool {
        platform == "shop"
    }

    fn start_maintenance(
        &self,
        order: &MaintenanceOrder,
        _: &ActionOrigin,
    ) -> Result<String, OrderError> {
        match order.platforms.first() {
            Some(name) if name != "shop" => Err(OrderError::NoSuchPlatform(name.clone())),
            _ => Ok("It was started.".to_owned()),
        }
    }

    fn end_maintenance(
        &self,
        end: &MaintenanceEnd,
        _: &ActionOrigin,
    ) -> Result<String, OrderError> {
        let name = end.platforms.first().cloned();
        Err(OrderError::NoSuchWindow(name.unwrap_or_default()))
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_all().build().expect("a runtime"),
    );
}

/// The hash of a long random password that was thrown away.
static GUARDED: LazyLock<ServerSecurity> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("conductor-fuzz-{}.yml", std::process::id()));
    std::fs::write(&file, WEB_CONFIG).expect("a web config");
    ServerSecurity::read(&file).expect("it is sound")
});

const WEB_CONFIG: &str = "\
basic_auth_users:
  alice: $2b$04$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi
http_server_config:
  headers:
    X-Frame-Options: deny
";

/// Part of everything the host shows.
const MARK: &[u8] = b"1.2.3-marked";

const STATUS: &str = r#"{
    "host": { "version": "1.2.3-marked", "started": 1.0, "mode": "normal", "checks_in_flight": 0 },
    "platforms": [], "plugins": [], "refused": []
}"#;

const PLATFORM: &str = r#"{
    "name": "shop", "plugin": "http", "status": "healthy", "message": "1.2.3-marked", "interval": 5.0, "timeout": 4.0,
    "priority": "normal", "breaker": { "state": "closed", "forced": false }, "labels": {}, "measurements": {},
    "history": [{ "ended": 2.0, "duration": 0.5, "status": "healthy" }], "log": []
}"#;
