//! The test double treats an asynchronous probe as a host does.

use std::time::Duration;

use crate::{AsyncProbe, Context, Failure, FailureKind, Report, testing::TestHost};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Acts {
    panics: bool,
}

impl AsyncProbe for Acts {
    type Config = Self;
    fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(config)
    }
    async fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        tracing::info!(panics = self.panics, "before the wait");
        tokio::task::yield_now().await;
        tracing::info!("after it");
        assert!(!self.panics, "it went wrong");
        std::future::pending().await
    }
}

#[test]
fn a_panic_after_a_wait_is_a_failure_and_its_log_is_kept() {
    let host = TestHost::new("p");
    let mut probe = host.create_async::<Acts>(r#"{"panics": true}"#).unwrap();
    let failure = host.check_async(&mut probe).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.message().contains("tests.rs:"), "{failure}");
    let log = host.log();
    let lines: Vec<&str> = log.iter().map(|entry| &*entry.message).collect();
    assert_eq!(lines, ["before the wait", "after it"]);
    assert_eq!(log[0].field("panics"), Some("true"));
}

#[test]
fn a_check_is_cancelled_after_a_time() {
    let host = TestHost::new("p").timeout(Duration::from_secs(3600));
    let host = host.cancel_after(Duration::from_millis(10));
    let mut probe = host.create_async::<Acts>(r#"{"panics": false}"#).unwrap();
    let failure = host.check_async(&mut probe).unwrap_err();
    assert!(failure.message().contains("cancelled"), "{failure}");
    assert!(!host.overran());
}

#[test]
fn a_config_is_held_to_its_schema() {
    let failure = TestHost::new("p").create_async::<Acts>("{}").err().unwrap();
    assert_eq!(failure.message(), "config lacks the key `panics`");
}

/// Has endless input, like that of a server which never stops sending: it waits only if its runtime makes it.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NeverDry {}

impl AsyncProbe for NeverDry {
    type Config = Self;
    fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(config)
    }
    async fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        // Takes some seconds.
        for _ in 0..50_000_000 {
            tokio::task::consume_budget().await;
        }
        Ok(Report::healthy("nobody stopped it"))
    }
}

#[test]
fn a_check_that_never_has_to_wait_is_stopped_all_the_same() {
    let host = TestHost::new("p").timeout(Duration::from_millis(10));
    let mut probe = host.create_async::<NeverDry>("{}").unwrap();
    let failure = host.check_async(&mut probe).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout, "{failure}");

    let host = TestHost::new("p").timeout(Duration::from_secs(3600));
    host.cancel();
    let failure = host.check_async(&mut probe).unwrap_err();
    assert!(failure.message().contains("cancelled"), "{failure}");
}
