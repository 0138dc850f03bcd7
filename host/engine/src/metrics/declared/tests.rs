//! Declared metrics as they are exported.

use std::{collections::BTreeMap, time::Duration};

use conductor_config::MetricsConfig;
use conductor_runtime::DeclaredValue;

use super::*;
use crate::metrics::{CheckOutcome, HostMetrics, PlatformInfo, PlatformMetrics};

const NOW: Duration = Duration::from_secs(100);

fn declared(json: &str) -> Arc<DeclaredMetrics> {
    Arc::new(DeclaredMetrics::new(json).unwrap())
}

/// A gauge without labels and a counter with two.
fn two() -> Arc<DeclaredMetrics> {
    declared(
        r#"[{"name":"age","kind":"gauge","unit":"seconds","help":"Age of \"it\"."},
            {"name":"sent","kind":"counter","unit":"bytes","help":"Sent.","labels":["mount","team"]}]"#,
    )
}

fn report(platform: &PlatformMetrics, of: &Arc<DeclaredMetrics>, values: &[(u16, &[&str], f64)]) {
    let kept = values.iter().map(|(metric, labels, value)| DeclaredValue {
        metric: *metric,
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        value: *value,
    });
    platform.set_declared(&SetValues {
        of: (!values.is_empty()).then(|| Arc::clone(of)),
        kept: kept.collect(),
        dropped: 0,
    });
    platform.record(CheckOutcome::Healthy, Duration::ZERO, NOW);
}

/// Returns a line for each sample of declared metrics.
fn shown(metrics: &HostMetrics) -> Vec<String> {
    let snapshot = metrics.snapshot_at(NOW, 0.0);
    let mut lines = Vec::new();
    for family in snapshot.declared_families() {
        family.visit(&snapshot, &mut |sample: Sample<'_>| {
            let own = sample.labels.iter();
            let own: String = own
                .map(|(name, value)| format!(",{name}={value:?}"))
                .collect();
            let value = sample.value.number().unwrap();
            lines.push(format!("{}{{{}{own}}} {value}", family.name, sample.owner));
        });
    }
    lines
}

#[test]
fn each_metric_is_a_family_with_the_labels_of_the_platform_and_its_own() {
    let metrics = HostMetrics::new();
    let plugin = metrics.plugin("my-disk");
    assert_eq!(metrics.declare(&plugin, &two()), [] as [String; 0]);
    let a = metrics.platform("a", "my-disk");
    report(
        &a,
        &two(),
        &[
            (0, &[], 3.0),
            (1, &["/", "x"], 4.0),
            (1, &["/home", "y"], 5.5),
        ],
    );
    assert_eq!(
        shown(&metrics),
        [
            r#"conductor_my_disk_age_seconds{platform="a"} 3"#,
            r#"conductor_my_disk_sent_bytes_total{platform="a",mount="/",team="x"} 4"#,
            r#"conductor_my_disk_sent_bytes_total{platform="a",mount="/home",team="y"} 5.5"#,
        ]
    );
    let view = [
        ("age_seconds".to_owned(), 3.0),
        (r#"sent_bytes_total{mount="/",team="x"}"#.to_owned(), 4.0),
        (
            r#"sent_bytes_total{mount="/home",team="y"}"#.to_owned(),
            5.5,
        ),
    ];
    assert_eq!(a.declared_values(), view);
}

#[test]
fn a_series_that_the_last_report_lacks_is_absent_and_so_are_all_without_a_current_report() {
    let metrics = HostMetrics::new();
    let plugin = metrics.plugin("d");
    let _ = metrics.declare(&plugin, &two());
    let a = metrics.platform("a", "d");
    report(&a, &two(), &[(0, &[], 3.0), (1, &["/", "x"], 4.0)]);
    report(&a, &two(), &[(1, &["/", "x"], 5.0)]);
    let only = r#"conductor_d_sent_bytes_total{platform="a",mount="/",team="x"} 5"#;
    assert_eq!(shown(&metrics), [only]);
    report(&a, &two(), &[]);
    assert_eq!(shown(&metrics), [] as [&str; 0]);
    report(&a, &two(), &[(0, &[], 3.0)]);
    a.record(
        CheckOutcome::Failed(conductor_types::ErrorType::Error),
        Duration::ZERO,
        NOW,
    );
    assert_eq!(shown(&metrics), [] as [&str; 0]);
}

#[test]
fn a_new_generation_continues_its_series_or_begins_others() {
    let metrics = HostMetrics::new();
    let plugin = metrics.plugin("d");
    let _ = metrics.declare(&plugin, &two());
    let a = metrics.platform("a", "d");
    report(&a, &two(), &[(0, &[], 3.0)]);
    // The next version has another order.
    let next = declared(
        r#"[{"name":"used","kind":"gauge","help":"Used."},
            {"name":"age","kind":"gauge","unit":"seconds","help":"Age of \"it\"."}]"#,
    );
    let _ = metrics.declare(&plugin, &next);
    let age = r#"conductor_d_age_seconds{platform="a"} 3"#;
    assert_eq!(
        shown(&metrics),
        [age],
        "before the first check of the new one"
    );
    report(&a, &next, &[(0, &[], 7.0)]);
    assert_eq!(shown(&metrics), [r#"conductor_d_used{platform="a"} 7"#]);
}

#[test]
fn a_label_of_the_metric_goes_before_one_of_the_platform() {
    let metrics = HostMetrics::new();
    let config = MetricsConfig {
        platform_labels: vec!["team".to_owned(), "tier".to_owned()],
        ..MetricsConfig::default()
    };
    assert!(metrics.configure(&config));
    let plugin = metrics.plugin("d");
    let _ = metrics.declare(&plugin, &two());
    let labels = [("team", "ops"), ("tier", "1")];
    let labels: BTreeMap<_, _> = labels
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let info = PlatformInfo::new("normal", &labels);
    let a = metrics.platform_with_info("a", "d", &info);
    report(&a, &two(), &[(0, &[], 3.0), (1, &["/", "x"], 4.0)]);
    assert_eq!(
        shown(&metrics),
        [
            r#"conductor_d_age_seconds{platform="a",team="ops",tier="1"} 3"#,
            r#"conductor_d_sent_bytes_total{platform="a",tier="1",mount="/",team="x"} 4"#,
        ]
    );
}

#[test]
fn a_metric_that_has_a_name_of_the_host_is_named_and_not_exported() {
    let metrics = HostMetrics::new();
    let declare = |plugin: &str, name: &str| {
        let json = format!(r#"[{{"name":"{name}","kind":"gauge","help":"x"}}]"#);
        metrics.declare(&metrics.plugin(plugin), &declared(&json))
    };
    let line =
        "its metric `up` is not exported: conductor_platform_up is a metric of the host; rename it";
    assert_eq!(declare("platform", "up"), [line]);
    assert_eq!(declare("a-b", "c"), [""; 0]);
    assert_eq!(declare("a", "b_c"), [""; 0]);
    let families = metrics.snapshot_at(NOW, 0.0).declared_families();
    let names: Vec<_> = families.iter().map(|family| &family.name).collect();
    assert_eq!(names, ["conductor_a_b_c"], "one family of two plugins");
}

#[test]
fn series_beyond_the_limit_are_dropped_and_counted() {
    let metrics = HostMetrics::new();
    let plugin = metrics.plugin("d");
    let _ = metrics.declare(&plugin, &two());
    let a = metrics.platform("a", "d");
    let names: Vec<_> = (0..MAX_DECLARED_SERIES + 3)
        .map(|n| n.to_string())
        .collect();
    let labels: Vec<_> = names.iter().map(|name| [name.as_str(), ""]).collect();
    let values: Vec<_> = labels.iter().map(|labels| (1, &labels[..], 1.0)).collect();
    report(&a, &two(), &values);
    assert_eq!(shown(&metrics).len(), MAX_DECLARED_SERIES);
    assert_eq!(a.measurements_dropped(), Some(3));
}
