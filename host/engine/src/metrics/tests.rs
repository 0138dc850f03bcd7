//! Counting, display, and what is omitted.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use conductor_config::{MetricsConfig, SeriesDetail};
use conductor_core::shard::Shard;
use conductor_types::{BreakerState, ErrorType, Isolation, RestartReason, SkipReason, Status};

use super::*;

/// A host with a platform of each kind and fixed values.
pub(super) fn small_host() -> HostMetrics {
    let metrics = HostMetrics::new();
    let labels = [("team", "chat"), ("on.call", "a"), ("on-call", "b")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let info = PlatformInfo::new("critical", &labels.into());
    let chat = metrics.platform_with_info("chat", "http", &info);
    chat.record(
        CheckOutcome::Healthy,
        Duration::from_millis(30),
        Duration::from_millis(250),
    );
    chat.record(
        CheckOutcome::Degraded,
        Duration::from_millis(1200),
        Duration::from_millis(5500),
    );
    chat.measurements(&[("first_byte_seconds", 0.25), ("say \"hi\"\\\n", -1.0)]);
    chat.set_damped(true);
    chat.set_flapping(true);
    let disk = metrics.platform("disk", "disk");
    disk.record(
        CheckOutcome::Failed(ErrorType::Timeout),
        Duration::from_secs(4),
        Duration::from_secs(4),
    );
    disk.skipped(SkipReason::BreakerOpen, 7);
    disk.transition(BreakerState::Open);
    let _never_checked = metrics.platform("new", "tcp");
    metrics.lateness(Duration::from_millis(3));
    metrics.resource(Resource::Ram, 41.5);
    metrics.degraded_mode(DegradedMode::Degraded);
    metrics.config_loaded(Duration::ZERO);
    metrics.set_history(HistoryHealth {
        lost: 3,
        is_failing: false,
    });
    metrics.set_receivers(["people"]);
    metrics.count_notifications("people", NotifyOutcome::Sent, 2);
    metrics.set_shard(Shard::try_new(1, 3).ok());
    let http = metrics.plugin("http");
    http.call_stuck();
    http.call_stuck();
    http.worker_restarted(RestartReason::Hang);
    http.worker_uses(9 << 20, 1.5);
    http.set_info(PluginInfo {
        version: "1.2.3".into(),
        api_version: "1.0.0".into(),
        isolation: Isolation::InProcess,
        sha256: "0123456789abcdef0123456789abcdef".into(),
    });
    metrics
}

/// Seconds from 1970 to the origin of the small host's clock.
#[cfg(feature = "prometheus")]
pub(super) const ORIGIN: f64 = 1_750_000_000.0;

/// Returns all samples except for histograms, ten seconds after 1970: name and values of labels → value.
fn numbers(metrics: &HostMetrics) -> BTreeMap<String, f64> {
    numbers_at(metrics, Duration::from_secs(10))
}

/// Returns all samples except for histograms at this time, if the origin of the host's clock is 1970.
fn numbers_at(metrics: &HostMetrics, now: Duration) -> BTreeMap<String, f64> {
    let snapshot = metrics.snapshot_at(now, 0.0);
    let mut numbers = BTreeMap::new();
    for family in &FAMILIES {
        let mut sink = |sample: Sample<'_>| {
            let Some(value) = sample.value.number() else {
                return;
            };
            let owner = owner_labels(sample.owner).into_iter();
            let own = sample.labels.iter().map(|(_, value)| (*value).to_owned());
            let values: Vec<_> = owner.map(|(_, value)| value).chain(own).collect();
            let series = format!("{} {}", family.name, values.join(" "));
            assert_eq!(numbers.insert(series, value), None, "a series twice");
        };
        family.visit(&snapshot, &mut sink);
    }
    numbers
}

/// Returns names and values of rendered labels, if no value contains a quote.
fn owner_labels(rendered: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = rendered;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, more) = after.split_once('"').unwrap();
        let name = name.trim_start_matches(',');
        labels.push((name.to_owned(), value.to_owned()));
        rest = more;
    }
    labels
}

/// Returns the one sample of a histogram: cumulative counts, sum and count.
fn histogram(metrics: &HostMetrics, name: &str) -> (Vec<u64>, f64, u64) {
    let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
    let mut found = None;
    let mut sink = |sample: Sample<'_>| {
        let SampleValue::Histogram(reading) = sample.value else {
            panic!("{name} is no histogram");
        };
        let counts = reading.buckets().map(|(_, n)| n).collect();
        found = Some((counts, reading.sum, reading.count));
    };
    family.visit(&metrics.snapshot(), &mut sink);
    found.unwrap()
}

#[test]
fn every_sample_has_the_labels_its_family_announces() {
    let metrics = small_host();
    let details = [SeriesDetail::Lean, SeriesDetail::Full];
    let pairs = details
        .into_iter()
        .flat_map(|detail| FAMILIES.iter().map(move |family| (detail, family)));
    for (detail, family) in pairs {
        configure(&metrics, |config| config.series = detail);
        let snapshot = metrics.snapshot();
        let mut count = 0;
        let mut sink = |sample: Sample<'_>| {
            let owner = owner_labels(sample.owner).into_iter();
            let own = sample.labels.iter().map(|(name, _)| (*name).to_owned());
            let mut labels: Vec<_> = owner.map(|(name, _)| name).chain(own).collect();
            if family.name == "conductor_platform_info" {
                labels.retain(|name| !name.starts_with("label_"));
            }
            let announced: Vec<_> = family.labels(detail).collect();
            assert_eq!(labels, announced, "{}", family.name);
            let is_histogram = matches!(sample.value, SampleValue::Histogram(_));
            let of_kind = family.kind == MetricKind::Histogram;
            assert_eq!(is_histogram, of_kind, "{}", family.name);
            count += 1;
        };
        family.visit(&snapshot, &mut sink);
        assert!(count > 0, "{} shows nothing", family.name);
    }
}

#[test]
fn a_refused_config_shows_until_one_is_applied_and_the_time_is_that_of_the_one_in_force() {
    let metrics = HostMetrics::new();
    let shown = || {
        let numbers = numbers(&metrics);
        let of = |name: &str| {
            numbers
                .get(&format!("conductor_config_last_reload_{name} "))
                .copied()
        };
        (of("successful"), of("success_timestamp_seconds"))
    };
    assert_eq!(shown(), (None, None));
    metrics.config_loaded(Duration::from_secs(100));
    assert_eq!(shown(), (Some(1.0), Some(100.0)));
    metrics.config_refused();
    assert_eq!(shown(), (Some(0.0), Some(100.0)));
    metrics.config_loaded(Duration::from_secs(200));
    assert_eq!(shown(), (Some(1.0), Some(200.0)));
}

#[test]
fn the_original_s_names_are_kept() {
    for name in [
        "health_check_total",
        "health_check_duration_seconds",
        "circuit_breaker_state",
        "plugin_failure_total",
        "system_resources_percent",
    ] {
        assert!(FAMILIES.iter().any(|family| family.name == name), "{name}");
    }
}

/// Applies a changed `[metrics]`.
fn configure(metrics: &HostMetrics, change: impl FnOnce(&mut MetricsConfig)) {
    let mut config = MetricsConfig::default();
    change(&mut config);
    let _ = metrics.configure(&config);
}

/// Returns a host that shows all series per platform.
fn detailed_host() -> HostMetrics {
    let metrics = HostMetrics::new();
    configure(&metrics, |config| config.series = SeriesDetail::Full);
    metrics
}

#[test]
fn closed_label_sets_start_at_zero() {
    let all_zero = |numbers: &BTreeMap<String, f64>, series: &str, labels: Vec<&str>| {
        for label in labels {
            let series = format!("{series} {label}");
            assert_eq!(numbers.get(&series), Some(&0.0), "{series}");
        }
    };
    let reasons = || SkipReason::ALL.iter().map(|l| l.label()).collect();
    let states = || BreakerState::ALL.iter().map(|l| l.label()).collect();
    for (metrics, owner) in [(HostMetrics::new(), "p"), (detailed_host(), "a p")] {
        let _handle = metrics.platform("a", "p");
        let numbers = numbers(&metrics);
        let statuses = Status::ALL.iter().map(|l| l.label()).collect();
        all_zero(&numbers, "health_check_total a p", statuses);
        let types = ErrorType::ALL.iter().map(|l| l.label()).collect();
        all_zero(&numbers, "plugin_failure_total a p", types);
        let skipped = format!("conductor_checks_skipped_total {owner}");
        all_zero(&numbers, &skipped, reasons());
        let transitions = format!("circuit_breaker_transitions_total {owner}");
        all_zero(&numbers, &transitions, states());
        assert_eq!(numbers["circuit_breaker_state a p"], 0.0);
        assert_eq!(numbers["conductor_worker_restarts_total p crash"], 0.0);
    }
}

#[test]
fn a_platform_without_measurements_has_28_series_or_38_in_full() {
    for (metrics, expected) in [(HostMetrics::new(), 28), (detailed_host(), 38)] {
        let checked = metrics.platform("a", "p");
        checked.record(CheckOutcome::Healthy, S, S);
        let mut count = 0;
        let mut sink = |sample: Sample<'_>| {
            let is_of_platform = sample.owner.starts_with("platform=");
            let series = match sample.value {
                // Infinity, sum and count.
                SampleValue::Histogram(reading) => reading.buckets().count() + 3,
                _ => 1,
            };
            count += usize::from(is_of_platform) * series;
        };
        let snapshot = metrics.snapshot();
        FAMILIES.iter().for_each(|f| f.visit(&snapshot, &mut sink));
        assert_eq!(count, expected);
    }
}

#[test]
fn lean_counts_of_a_plugin_are_the_sums_of_its_platforms_and_survive_them() {
    let metrics = HostMetrics::new();
    for (platform, missed) in [("a", 3), ("b", 4)] {
        let handle = metrics.platform(platform, "p");
        handle.skipped(SkipReason::Missed, missed);
        handle.transition(BreakerState::Open);
    }
    metrics.platform("c", "q").skipped(SkipReason::Missed, 9);
    let shown = || {
        let numbers = numbers(&metrics);
        let missed = numbers["conductor_checks_skipped_total p missed"];
        (missed, numbers["circuit_breaker_transitions_total p open"])
    };
    assert_eq!(shown(), (7.0, 2.0));
    metrics.remove_platform("a", "p");
    assert_eq!(shown(), (7.0, 2.0), "a counter went down");
    metrics.platform("a", "p").skipped(SkipReason::Missed, 1);
    assert_eq!(shown(), (8.0, 2.0));
    configure(&metrics, |config| config.series = SeriesDetail::Full);
    let full = numbers(&metrics);
    let of = |platform| full[&format!("conductor_checks_skipped_total {platform} p missed")];
    assert_eq!((of("a"), of("b")), (4.0, 4.0));
    assert_eq!(full.get("conductor_checks_skipped_total p missed"), None);
}

#[test]
fn chosen_labels_are_on_every_series_of_a_platform_that_has_them() {
    let metrics = HostMetrics::new();
    let labels = [("team", "chat"), ("site", "x")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let info = PlatformInfo::new("normal", &labels.into());
    let register = || {
        let handle = metrics.platform_with_info("a", "p", &info);
        handle.record(CheckOutcome::Healthy, S, S);
        handle.measurements(&[("x", 1.0)]);
        let _without = metrics.platform_with_info("b", "p", &PlatformInfo::default());
    };
    let owners = || {
        let mut owners = BTreeMap::<String, BTreeSet<String>>::new();
        let mut sink = |sample: Sample<'_>| {
            let labels = owner_labels(sample.owner);
            if let Some((_, platform)) = labels.iter().find(|(name, _)| name == "platform") {
                let common = labels.iter().take_while(|(name, _)| name != "priority");
                let names = common.map(|(name, _)| name.as_str()).collect::<Vec<_>>();
                let owner = owners.entry(platform.clone()).or_default();
                owner.insert(names.join(" "));
            }
        };
        let snapshot = metrics.snapshot();
        FAMILIES.iter().for_each(|f| f.visit(&snapshot, &mut sink));
        owners.into_values().flatten().collect::<Vec<_>>()
    };
    register();
    assert_eq!(owners(), ["platform plugin", "platform plugin"]);
    let chosen = MetricsConfig {
        platform_labels: vec!["team".into(), "absent".into()],
        ..MetricsConfig::default()
    };
    assert!(metrics.configure(&chosen));
    assert!(!metrics.configure(&chosen), "nothing has changed");
    register();
    assert_eq!(owners(), ["platform plugin team", "platform plugin"]);
    assert!(metrics.configure(&MetricsConfig::default()));
    register();
    assert_eq!(owners(), ["platform plugin", "platform plugin"]);
}

#[test]
fn changed_buckets_restart_the_histograms_and_the_same_ones_do_not() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    let retired = metrics.platform("b", "p");
    metrics.remove_platform("b", "p");
    let record = |handle: &PlatformMetrics| {
        handle.record(CheckOutcome::Healthy, Duration::from_millis(300), S);
    };
    let shown = || histogram(&metrics, "health_check_duration_seconds").0;
    record(&handle);
    record(&retired);
    configure(&metrics, |_| {});
    assert_eq!(shown(), [0, 0, 0, 1, 1, 1, 1]);
    configure(&metrics, |config| {
        config.buckets = [200, 400].map(Duration::from_millis).into();
    });
    assert_eq!(shown(), [0, 0]);
    record(&handle);
    assert_eq!(shown(), [0, 1]);
    assert_eq!(numbers(&metrics)["health_check_total a p healthy"], 2.0);
    metrics.remove_platform("a", "p");
    let returned = metrics.platform("b", "p");
    assert_eq!(shown(), [0, 0], "one that was removed before the change");
    record(&returned);
    assert_eq!(shown(), [0, 1]);
}

#[test]
fn dropped_measurements_are_absent_until_a_report_has_measurements() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    let dropped = || {
        let numbers = numbers(&metrics);
        numbers
            .get("conductor_measurements_dropped_total a p")
            .copied()
    };
    handle.measurements::<&str>(&[]);
    assert_eq!(dropped(), None);
    handle.measurements(&[("x", 1.0)]);
    assert_eq!(dropped(), Some(0.0));
    handle.measurements::<&str>(&[]);
    assert_eq!(dropped(), Some(0.0));
}

#[test]
fn a_check_that_ran_is_counted_once_whatever_became_of_it() {
    let outcomes = [
        CheckOutcome::Healthy,
        CheckOutcome::Degraded,
        CheckOutcome::Unhealthy,
    ]
    .into_iter()
    .chain(
        ErrorType::ALL
            .iter()
            .map(|&error| CheckOutcome::Failed(error)),
    );
    for outcome in outcomes {
        let metrics = HostMetrics::new();
        let handle = metrics.platform("a", "p");
        handle.record(outcome, Duration::from_millis(1), S);
        let moved: Vec<String> = numbers(&metrics)
            .into_iter()
            .filter(|(series, value)| series.contains("_total") && *value != 0.0)
            .map(|(series, value)| format!("{series} {value}"))
            .collect();
        let mut expected = vec![format!(
            "health_check_total a p {} 1",
            outcome.status().label()
        )];
        if let CheckOutcome::Failed(error) = outcome {
            expected.push(format!("plugin_failure_total a p {} 1", error.label()));
        }
        assert_eq!(moved, expected);
        assert_eq!(histogram(&metrics, "health_check_duration_seconds").2, 1);
    }
}

#[test]
fn a_duration_at_a_bound_is_in_its_bucket_and_one_above_all_only_in_the_count() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    for duration in [
        Duration::from_millis(100),
        Duration::from_nanos(100_000_001),
        Duration::from_secs(6),
    ] {
        handle.record(CheckOutcome::Healthy, duration, S);
    }
    let (buckets, sum, count) = histogram(&metrics, "health_check_duration_seconds");
    assert_eq!(buckets, [0, 0, 1, 2, 2, 2, 2]);
    assert_eq!(count, 3);
    assert!((sum - 6.200_000_001).abs() < 1e-12, "{sum}");
}

#[test]
fn what_is_not_known_yet_is_absent() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    let (up, last) = (
        "conductor_platform_up a p",
        "conductor_last_report_timestamp_seconds a p",
    );
    let shown = |series: &str| numbers(&metrics).get(series).copied();
    assert_eq!((shown(up), shown(last)), (None, None));
    assert_eq!(shown("system_resources_percent cpu"), None);
    assert!(
        !numbers(&metrics)
            .keys()
            .any(|k| k.starts_with("conductor_plugin_info"))
    );

    handle.record(
        CheckOutcome::Failed(ErrorType::Panic),
        Duration::ZERO,
        5 * S,
    );
    assert_eq!((shown(up), shown(last)), (Some(0.0), None));
    handle.record(CheckOutcome::Degraded, Duration::ZERO, 6 * S);
    assert_eq!((shown(up), shown(last)), (Some(1.0), Some(6.0)));
    handle.record(CheckOutcome::Unhealthy, Duration::ZERO, 7 * S);
    assert_eq!((shown(up), shown(last)), (Some(0.0), Some(7.0)));

    metrics.resource(Resource::Cpu, 12.5);
    assert_eq!(shown("system_resources_percent cpu"), Some(12.5));
    metrics.resource(Resource::Cpu, f64::NAN);
    assert_eq!(shown("system_resources_percent cpu"), None);
}

#[test]
fn a_transition_counts_and_sets_the_state_and_setting_the_state_does_not_count() {
    let metrics = detailed_host();
    let handle = metrics.platform("a", "p");
    handle.transition(BreakerState::Open);
    assert_eq!(numbers(&metrics)["circuit_breaker_state a p"], 1.0);
    handle.breaker(BreakerState::HalfOpen);
    let numbers = numbers(&metrics);
    assert_eq!(numbers["circuit_breaker_state a p"], 2.0);
    assert_eq!(numbers["circuit_breaker_transitions_total a p open"], 1.0);
    assert_eq!(
        numbers["circuit_breaker_transitions_total a p half_open"],
        0.0
    );
}

#[test]
fn what_cannot_be_shown_of_measurements_is_dropped_and_counted() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.record(CheckOutcome::Healthy, S, S);
    handle.measurements(&[
        ("fine", 1.0),
        ("any UTF-8, naïvely: 温度", 2.0),
        ("not a number", f64::NAN),
        ("infinite", f64::INFINITY),
        ("", 3.0),
        (&*"x".repeat(128), 4.0),
        (&*"x".repeat(129), 5.0),
    ]);
    let numbers = numbers(&metrics);
    assert_eq!(numbers["conductor_measurements_dropped_total a p"], 4.0);
    let shown = numbers
        .keys()
        .filter(|k| k.starts_with("conductor_measurement "));
    assert_eq!(shown.count(), 3);
    assert_eq!(
        numbers["conductor_measurement a p any UTF-8, naïvely: 温度"],
        2.0
    );
}

#[test]
fn a_probe_that_makes_up_names_gets_64_series_in_its_life() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.record(CheckOutcome::Healthy, S, S);
    let dropped = || numbers(&metrics)["conductor_measurements_dropped_total a p"];
    let seen = |report: u32| -> Vec<String> {
        let names: Vec<(String, f64)> = (0..10).map(|i| (format!("{report}-{i}"), 1.0)).collect();
        handle.measurements(&names);
        let numbers = numbers(&metrics).into_keys();
        numbers
            .filter(|k| k.starts_with("conductor_measurement "))
            .collect()
    };
    let mut series: Vec<String> = (0..6).flat_map(seen).collect();
    assert_eq!((series.len(), dropped()), (60, 0.0));
    series.extend(seen(6));
    assert_eq!((series.len(), dropped()), (64, 6.0));
    assert_eq!((seen(7).len(), dropped()), (0, 16.0));
    assert_eq!(
        (seen(0).len(), dropped()),
        (10, 16.0),
        "a known name is shown again"
    );
}

#[test]
fn a_name_the_last_report_lacks_is_no_longer_shown() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.record(CheckOutcome::Healthy, S, S);
    handle.measurements(&[("x", 1.0), ("y", 2.0)]);
    handle.measurements(&[("y", 3.0)]);
    let numbers = numbers(&metrics);
    assert_eq!(numbers.get("conductor_measurement a p x"), None);
    assert_eq!(numbers["conductor_measurement a p y"], 3.0);
}

#[test]
fn counters_survive_a_second_registration_and_a_removal() {
    let metrics = detailed_host();
    let first = metrics.platform("a", "p");
    first.skipped(SkipReason::Missed, 3);
    assert!(Arc::ptr_eq(&first, &metrics.platform("a", "p")));
    let series = "conductor_checks_skipped_total a p missed";
    assert_eq!(numbers(&metrics)[series], 3.0);
    metrics.remove_platform("a", "p");
    first.skipped(SkipReason::Missed, 1);
    assert_eq!(numbers(&metrics).get(series), None);
    first.record(
        CheckOutcome::Healthy,
        Duration::ZERO,
        Duration::from_secs(5),
    );
    let _second = metrics.platform("a", "p");
    assert_eq!(numbers(&metrics)[series], 4.0, "it goes on counting");
    let up = "conductor_platform_up a p";
    assert_eq!(numbers(&metrics).get(up), None, "not known of the new one");
    assert!(numbers(&metrics).contains_key("conductor_stuck_calls p"));
    metrics.remove_plugin("p");
    assert!(!numbers(&metrics).contains_key("conductor_stuck_calls p"));
}

#[test]
fn of_removed_platforms_the_last_ones_are_remembered_and_no_more() {
    let metrics = detailed_host();
    for n in 0..RETIRED + 500 {
        let name = format!("p{n}");
        metrics.platform(&name, "p").skipped(SkipReason::Missed, 1);
        metrics.remove_platform(&name, "p");
    }
    let kept = |kind| numbers(&metrics)[&format!("conductor_tracked_objects {kind}")];
    assert_eq!(kept("series"), 0.0);
    assert_eq!(kept("retired_series"), 1000.0);
    let (_first, _last) = (metrics.platform("p0", "p"), metrics.platform("p1499", "p"));
    let skipped =
        |name| numbers(&metrics)[&format!("conductor_checks_skipped_total {name} p missed")];
    assert_eq!((skipped("p0"), skipped("p1499")), (0.0, 1.0));
}

#[test]
fn the_processor_time_of_a_plugins_workers_never_decreases() {
    let metrics = HostMetrics::new();
    let plugin = metrics.plugin("p");
    let shown = |name| numbers(&metrics).get(&format!("{name} p")).copied();
    let seconds = || shown("conductor_worker_cpu_seconds_total");
    assert_eq!(seconds(), None);
    plugin.worker_uses(100, 7.0);
    plugin.worker_gone();
    plugin.worker_gone();
    assert_eq!(seconds(), Some(7.0), "its worker is gone");
    assert_eq!(shown("conductor_worker_resident_memory_bytes"), None);
    plugin.worker_uses(100, 0.5);
    assert_eq!(seconds(), Some(7.5), "a new worker");
}

#[test]
fn threads_that_count_at_the_same_time_lose_nothing() {
    let metrics = HostMetrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let handle = metrics.platform("a", "p");
            scope.spawn(move || {
                for _ in 0..10_000 {
                    handle.record(CheckOutcome::Healthy, Duration::from_nanos(3), S);
                }
            });
        }
    });
    assert_eq!(
        numbers(&metrics)["health_check_total a p healthy"],
        40_000.0
    );
    let (_, sum, count) = histogram(&metrics, "health_check_duration_seconds");
    assert_eq!(count, 40_000);
    assert!((sum - 0.000_12).abs() < 1e-12, "{sum}");
}

#[test]
fn measurements_and_state_are_shown_while_the_report_is_current() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.set_patience(14 * S);
    let measured = "conductor_measurement a p used_percent";
    let shown = |now| {
        let numbers = numbers_at(&metrics, now);
        let of = |series: &str| numbers.get(series).copied();
        let state = of("conductor_platform_state a p").unwrap();
        (state, of("conductor_platform_up a p"), of(measured))
    };
    assert_eq!(shown(S), (3.0, None, None), "not checked yet");
    handle.measurements(&[("used_percent", 91.0)]);
    handle.record(CheckOutcome::Unhealthy, S, 10 * S);
    let reported = (2.0, Some(0.0), Some(91.0));
    assert_eq!(shown(11 * S), reported);
    assert_eq!(shown(24 * S), reported, "as old as a report may get");
    assert_eq!(shown(25 * S), (3.0, Some(0.0), None), "out of date");

    handle.measurements(&[("used_percent", 80.0)]);
    handle.record(CheckOutcome::Healthy, S, 30 * S);
    assert_eq!(shown(31 * S), (0.0, Some(1.0), Some(80.0)));
    assert_eq!(shown(99 * S), (3.0, Some(0.0), None), "checks stopped");
    handle.set_patience(90 * S);
    assert_eq!(
        shown(99 * S).0,
        0.0,
        "checks were made less often on purpose"
    );
    handle.set_patience(14 * S);
    handle.record(CheckOutcome::Failed(ErrorType::Timeout), S, 100 * S);
    assert_eq!(shown(101 * S), (3.0, Some(0.0), None), "the check failed");
    assert_eq!(
        numbers(&metrics)["conductor_last_report_timestamp_seconds a p"],
        30.0
    );
}

#[test]
fn a_state_from_before_a_pause_is_not_shown_as_the_state_now() {
    let metrics = HostMetrics::new();
    let handle = metrics.platform("a", "p");
    handle.set_patience(14 * S);
    let shown = |now| {
        let numbers = numbers_at(&metrics, now);
        let of = |series: &str| numbers.get(series).copied();
        (
            of("conductor_platform_state a p").unwrap(),
            of("conductor_platform_up a p"),
        )
    };
    let unhealthy = (2.0, Some(0.0));
    let waiting = (3.0, None);
    for outcome in [
        CheckOutcome::Unhealthy,
        CheckOutcome::Failed(ErrorType::Error),
    ] {
        let before = match outcome {
            CheckOutcome::Unhealthy => unhealthy,
            _ => (3.0, Some(0.0)),
        };
        handle.record(outcome, S, 10 * S);
        handle.set_paused(true, 12 * S);
        assert_eq!(shown(24 * S), before, "still current");
        assert_eq!(shown(25 * S), waiting, "outdated during the pause");
        handle.set_paused(false, 60 * S);
        assert_eq!(shown(60 * S), waiting, "no check since the pause");
        assert_eq!(shown(74 * S), waiting, "the first check is due");
        assert_eq!(shown(75 * S), (3.0, Some(0.0)), "checks have stopped");
        handle.record(CheckOutcome::Unhealthy, S, 76 * S);
        assert_eq!(shown(76 * S), unhealthy);
    }
    handle.record(CheckOutcome::Healthy, S, 100 * S);
    handle.set_paused(true, 101 * S);
    handle.set_paused(false, 103 * S);
    assert_eq!(shown(104 * S), (0.0, Some(1.0)), "the pause was short");
    assert_eq!(shown(116 * S), waiting, "the first check is due");
    handle.set_paused(true, 130 * S);
    handle.record(CheckOutcome::Failed(ErrorType::Error), S, 131 * S);
    assert_eq!(shown(132 * S), (3.0, Some(0.0)), "a check during the pause");
}

#[test]
fn labels_of_platforms_get_legal_names_that_do_not_depend_on_what_else_there_is() {
    let names = |names: &[&str]| -> Vec<String> {
        let labels = names
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()));
        let info = PlatformInfo::new("normal", &labels.collect());
        let shown = info.labels().iter();
        shown.map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(names(&["team", "_x9"]), ["label__x9", "label_team"]);
    assert_eq!(names(&["straße"]), ["label_stra_e"]);
    let clash = names(&["a-b", "a.b", "a_b", "a_b_2"]);
    assert_eq!(
        clash,
        ["label_a_b", "label_a_b_2", "label_a_b_3", "label_a_b_4"]
    );
    let info = PlatformInfo::new(
        "low",
        &[("a-b", "dash"), ("a_b", "line")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    );
    let legal = info
        .labels()
        .iter()
        .find(|(name, _)| &**name == "label_a_b");
    assert_eq!(&*legal.unwrap().1, "line", "a legal name is kept");
}

/// One second.
const S: Duration = Duration::from_secs(1);

#[test]
fn a_platform_costs_at_most_400_bytes_beside_its_names() {
    assert!(size_of::<PlatformMetrics>() <= 400);
}
