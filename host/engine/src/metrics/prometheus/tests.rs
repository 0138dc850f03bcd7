//! The text as scraped.
use std::{collections::BTreeSet, io, time::Duration};

use super::{ExpositionFormat, render, render_snapshot};
use crate::metrics::{
    CheckOutcome, FAMILIES, HostMetrics,
    tests::{ORIGIN, small_host},
};

/// Returns the text without the metrics of this process, which differ from run to run.
fn text(metrics: &HostMetrics) -> String {
    let text = shown(metrics, ExpositionFormat::Text);
    let ours = |line: &&str| !line.trim_start_matches("# HELP ").starts_with("process_");
    let ours = |line: &&str| ours(line) && !line.starts_with("# TYPE process_");
    text.lines()
        .filter(ours)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Renders the small host ten seconds after its clock's origin.
fn shown(metrics: &HostMetrics, format: ExpositionFormat) -> String {
    let mut out = Vec::new();
    let snapshot = metrics.snapshot_at(Duration::from_secs(10), ORIGIN);
    let mut sink = |text: &mut Vec<u8>| {
        out.append(text);
        Ok(())
    };
    render_snapshot(snapshot, format, &mut sink).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn settings_and_states_of_platforms_are_shown_in_both_formats() {
    for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
        let text = shown(&small_host(), format);
        for line in [
            r#"conductor_platform_info{platform="chat",plugin="http",priority="critical",label_on_call="b",label_on_call_2="a",label_team="chat"} 1"#,
            r#"conductor_platform_state{platform="chat",plugin="http"} 1"#,
            r#"conductor_platform_state{platform="disk",plugin="disk"} 3"#,
            r#"conductor_platform_state{platform="new",plugin="tcp"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}

#[test]
fn a_small_host_looks_like_this() {
    let text = text(&small_host());
    let build = format!(
        "version=\"{}\",os=\"{}\",arch=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    insta::assert_snapshot!(text.replace(&build, "…"));
}

#[test]
fn pairs_of_labels_that_read_the_same_together_stay_two_series() {
    let metrics = HostMetrics::new();
    for (n, (platform, plugin)) in [("disk1", "2"), ("disk", "12")].into_iter().enumerate() {
        for _ in 0..=n {
            let handle = metrics.platform(platform, plugin);
            handle.record(
                CheckOutcome::Healthy,
                Duration::ZERO,
                Duration::from_secs(1),
            );
        }
    }
    let text = text(&metrics);
    let total = "health_check_total{platform=";
    assert!(text.contains(&format!(
        "{total}\"disk1\",plugin=\"2\",status=\"healthy\"}} 1\n"
    )));
    assert!(text.contains(&format!(
        "{total}\"disk\",plugin=\"12\",status=\"healthy\"}} 2\n"
    )));
}

#[test]
fn a_family_of_many_chunks_has_one_header_and_each_series_once() {
    let metrics = HostMetrics::new();
    for platform in 0..2_500 {
        let _handle = metrics.platform(&format!("p{platform}"), "q");
    }
    let text = text(&metrics);
    for family in &FAMILIES {
        let header = format!("# HELP {} ", family.name);
        assert!(text.matches(&header).count() <= 1, "{}", family.name);
        let header = format!("# TYPE {} ", family.name);
        assert!(text.matches(&header).count() <= 1, "{}", family.name);
    }
    let series: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let distinct: BTreeSet<&str> = series.iter().copied().collect();
    assert_eq!(distinct.len(), series.len());
    let states = series
        .iter()
        .filter(|s| s.starts_with("circuit_breaker_state{"));
    assert_eq!(states.count(), 2_500);
}

#[test]
#[cfg(any(target_os = "linux", windows))]
fn the_process_is_shown_too() {
    let text = shown(&HostMetrics::new(), ExpositionFormat::Text);
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    assert!(text.contains("\nprocess_open_fds "), "{text}");
    assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
}

#[test]
fn a_reader_that_has_gone_ends_the_rendering() {
    let mut gone = |_: &mut Vec<u8>| Err(io::ErrorKind::BrokenPipe.into());
    let error = render(&small_host(), ExpositionFormat::OpenMetrics, &mut gone).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
