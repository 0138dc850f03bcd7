//! The result of one check on request, in the text format: `probe_success` and `probe_duration_seconds`, as
//! blackbox_exporter names them, and what the probe has measured.

use std::{collections::BTreeMap, io, time::Duration};

use conductor_types::PlatformState;

use super::{ExpositionFormat, SeriesEncoder};
use crate::{
    guard::TargetResult,
    metrics::{MetricKind, Sample, SampleSink, SampleValue, declared},
};

/// Returns the metrics of a check that ended before `now`. Without a `result`, the check took too long: `waited` is the time
/// after which nothing was known.
///
/// # Errors
/// Never, since the text is written to memory.
pub fn render_target(
    result: Option<&TargetResult>,
    waited: Duration,
    now: Duration,
) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut take = |chunk: &mut Vec<u8>| {
        text.append(chunk);
        Ok(())
    };
    let mut encoder = SeriesEncoder::new(ExpositionFormat::Text, &mut take);
    let state = result.map_or(PlatformState::Unknown, |result| result.state);
    let number = match state {
        PlatformState::Healthy => 0.0,
        PlatformState::Degraded => 1.0,
        PlatformState::Unhealthy => 2.0,
        PlatformState::Unknown => 3.0,
    };
    let is_up = matches!(state, PlatformState::Healthy | PlatformState::Degraded);
    let took = result.and_then(|result| result.took).unwrap_or(waited);
    for (name, help, value) in [
        (
            "probe_success",
            "1 if the target is healthy or degraded, 0 if it is unhealthy or the check failed.",
            f64::from(u8::from(is_up)),
        ),
        (
            "probe_duration_seconds",
            "Duration of the check.",
            took.as_secs_f64(),
        ),
        (
            "conductor_probe_state",
            "State of the target: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown, because the check failed.",
            number,
        ),
    ] {
        encoder.begin_family(name, help, MetricKind::Gauge);
        add(&mut encoder, &[], value);
    }
    if let Some(result) = result {
        add_measured(&mut encoder, result, now);
    }
    encoder.finish()?;
    Ok(text)
}

fn add_measured(encoder: &mut SeriesEncoder<'_>, result: &TargetResult, now: Duration) {
    let metrics = &result.metrics;
    metrics.with_declared(now, |series| {
        let mut families = BTreeMap::new();
        for (declared, labels, value) in series.current() {
            let name = declared.family(metrics.plugin_name());
            let family = families
                .entry(name)
                .or_insert_with(|| (declared, Vec::new()));
            family.1.push((labels, value));
        }
        for (name, (declared, samples)) in families {
            encoder.begin_family(&name, &declared.help, declared::kind(declared.kind));
            for (values, value) in samples {
                let names = declared.labels.iter().map(String::as_str);
                let labels: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
                add(encoder, &labels, value);
            }
        }
    });
    encoder.begin_family(
        "conductor_measurement",
        "A value that the probe has measured, by name.",
        MetricKind::Gauge,
    );
    metrics.measured(now, |name, value| add(encoder, &[("name", name)], value));
}

fn add(encoder: &mut SeriesEncoder<'_>, labels: &[(&str, &str)], value: f64) {
    encoder.add(Sample {
        owner: "",
        labels,
        value: SampleValue::Number(value),
    });
}
