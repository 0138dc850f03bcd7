//! An author's asynchronous plugin, whose checks wait, end badly, or do not end.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin, schemars};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Waiter {
    act: Act,
}

#[derive(Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Act {
    /// Waits briefly.
    Wait,
    /// Waits forever.
    Hang,
    /// Panics after a short wait.
    Panic,
    /// Blocks its thread, and ignores cancellation.
    Deaf,
    /// Reports how many have waited at once.
    Tell,
}

impl AsyncProbe for Waiter {
    type Config = Self;

    fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(config)
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let _waiting = Waiting::new();
        match self.act {
            Act::Wait => tokio::time::sleep(Duration::from_millis(5)).await,
            Act::Hang => std::future::pending().await,
            Act::Panic => {
                tokio::task::yield_now().await;
                panic!("{} is not to be looked at", context.platform());
            }
            Act::Deaf => loop {
                std::thread::park();
            },
            Act::Tell => {
                let most = MOST.load(Ordering::SeqCst);
                return Ok(Report::healthy(format!("most: {most}")));
            }
        }
        Ok(Report::healthy("waited"))
    }
}

export_plugin! { id: "waiter", async_probe: Waiter }

/// A running check, until it is dropped.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        let now = NOW.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        NOW.fetch_sub(1, Ordering::SeqCst);
    }
}

static NOW: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);
