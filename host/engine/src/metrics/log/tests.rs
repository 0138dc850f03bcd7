//! The times at which the log is used, and its contents.
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{FallbackReason, FallbackStep, LogFallback, WrittenValues};
use crate::metrics::{CheckOutcome, HostMetrics, tests::small_host};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_a_port_the_log_is_used_at_once_and_then_every_minute() {
    let mut log = LogFallback::new(s(300));
    assert_eq!(
        log.decide(false, None, s(7)),
        FallbackStep::Start(FallbackReason::NotServed)
    );
    assert_eq!(log.decide(false, None, s(66)), FallbackStep::Nothing);
    assert_eq!(log.decide(false, None, s(67)), FallbackStep::Write);
    assert_eq!(log.decide(false, None, s(68)), FallbackStep::Nothing);
    assert_eq!(log.decide(false, None, s(127)), FallbackStep::Write);
}

#[test]
fn a_host_that_nobody_scrapes_uses_the_log_until_somebody_does() {
    let mut log = LogFallback::new(s(300));
    assert_eq!(
        log.decide(true, None, s(1000)),
        FallbackStep::Nothing,
        "it has just started"
    );
    assert_eq!(log.decide(true, None, s(1300)), FallbackStep::Nothing);
    assert_eq!(
        log.decide(true, None, s(1301)),
        FallbackStep::Start(FallbackReason::NotScraped)
    );
    assert_eq!(log.decide(true, Some(s(1310)), s(1311)), FallbackStep::Stop);
    assert_eq!(
        log.decide(true, Some(s(1310)), s(1610)),
        FallbackStep::Nothing
    );
    assert_eq!(
        log.decide(true, Some(s(1310)), s(1611)),
        FallbackStep::Start(FallbackReason::NotScraped)
    );
}

#[test]
fn a_host_that_is_scraped_does_not_use_the_log() {
    let mut log = LogFallback::new(s(300));
    for now in (0..10_000).step_by(5) {
        let last = now / 15 * 15;
        assert_eq!(
            log.decide(true, Some(s(last)), s(now)),
            FallbackStep::Nothing
        );
    }
}

#[test]
fn a_port_found_again_is_not_enough_somebody_must_scrape() {
    let mut log = LogFallback::new(s(300));
    assert_eq!(log.decide(true, Some(s(1)), s(2)), FallbackStep::Nothing);
    assert_eq!(
        log.decide(false, Some(s(1)), s(400)),
        FallbackStep::Start(FallbackReason::NotServed)
    );
    assert_eq!(log.decide(true, Some(s(1)), s(401)), FallbackStep::Nothing);
    assert_eq!(log.decide(true, Some(s(402)), s(402)), FallbackStep::Stop);
}

fn changed(written: &mut WrittenValues, metrics: &HostMetrics) -> Vec<String> {
    let mut lines = Vec::new();
    // The origin of the host's clock is 1970 itself.
    let snapshot = metrics.snapshot_at(s(10), 0.0);
    written.changed(&snapshot, |line| lines.push(line.to_owned()));
    lines
}

#[test]
fn only_what_changed_is_written_and_counters_never_reset() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    let mut written = WrittenValues::default();
    let first = changed(&mut written, &metrics);
    assert!(first.contains(&"circuit_breaker_state{platform=\"a\",plugin=\"p\"} 0".into()));
    assert!(
        !first.iter().any(|line| line.contains("_total")),
        "{first:?}"
    );
    for total in 1..=2 {
        handle.record(CheckOutcome::Unhealthy, Duration::from_millis(500), s(9));
        let mut expected = vec![
            format!(
                "health_check_total{{platform=\"a\",plugin=\"p\",status=\"unhealthy\"}} {total}"
            ),
            format!("health_check_duration_seconds_count{{platform=\"a\",plugin=\"p\"}} {total}"),
            format!(
                "health_check_duration_seconds_sum{{platform=\"a\",plugin=\"p\"}} {}",
                f64::from(total) / 2.0
            ),
        ];
        if total == 1 {
            expected.push("conductor_platform_up{platform=\"a\",plugin=\"p\"} 0".into());
            expected.push("conductor_platform_state{platform=\"a\",plugin=\"p\"} 2".into());
            expected.push(
                "conductor_last_report_timestamp_seconds{platform=\"a\",plugin=\"p\"} 9".into(),
            );
        }
        assert_eq!(changed(&mut written, &metrics), expected);
    }
    assert_eq!(changed(&mut written, &metrics), [""; 0]);
}

#[test]
fn a_measurement_cannot_forge_a_line_of_the_log() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.record(CheckOutcome::Healthy, s(0), s(1));
    handle.measurements(&[("x\r\n\u{1b}[2J\"", 1.0)]);
    let lines = changed(&mut WrittenValues::default(), &metrics);
    let line = lines
        .iter()
        .find(|line| line.starts_with("conductor_measurement{"))
        .unwrap();
    assert_eq!(
        line,
        r#"conductor_measurement{platform="a",plugin="p",name="x\r\n\u{1b}[2J\""} 1"#
    );
}

#[test]
fn the_log_says_once_that_it_is_used_and_once_that_it_is_not() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .without_time()
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let metrics = small_host();
        let mut log = LogFallback::new(s(300));
        let mut tick = |bound, last_scrape, now| {
            let step = log.decide(bound, last_scrape, now);
            log.act(step, &metrics);
        };
        for now in 0..200 {
            tick(false, None, s(now));
        }
        tick(true, Some(s(200)), s(200));
        tick(true, Some(s(200)), s(201));
    });
    let bytes = captured.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.lines()
            .all(|line| line.contains(" conductor::metrics: ")),
        "{text}"
    );
    assert_eq!(text.matches("/metrics is not served").count(), 1, "{text}");
    assert_eq!(text.matches("/metrics is scraped, so").count(), 1, "{text}");
    let sample = r#"health_check_total{platform="disk",plugin="disk",status="failed"} 1"#;
    assert_eq!(text.matches(sample).count(), 1, "{text}");
    assert!(
        text.lines().next().unwrap().contains("every 60 s"),
        "{text}"
    );
    assert!(text.lines().last().unwrap().contains("no longer"), "{text}");
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
