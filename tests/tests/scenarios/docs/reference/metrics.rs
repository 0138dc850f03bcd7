//! Every metric of the host, from the list in the code.

use conductor_config::SeriesDetail;
use conductor_engine::metrics::{
    FAMILIES, HostMetrics, MetricDefinition, MetricKind, Sample, SeriesSnapshot,
};
use conductor_types::Resource;

use super::{cell, code};

/// Returns the table of all metrics, with the values of the labels that have a fixed set of them.
pub(super) fn table() -> String {
    let metrics = HostMetrics::new();
    // Labels with a fixed set of values are exported from the start, so an empty host shows them.
    let _platform = metrics.platform("platform", "plugin");
    for &resource in Resource::ALL {
        metrics.resource(resource, 0.0);
    }
    let snapshot = metrics.snapshot();
    let mut text = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in &FAMILIES {
        let is_lean = |label| family.labels(SeriesDetail::Lean).any(|lean| lean == label);
        let labels = family.labels(SeriesDetail::Full).map(|label| {
            let values = values(family, label, &snapshot);
            match values.len() {
                _ if !is_lean(label) => format!("{} (if `full`)", code(label)),
                0 | 1 => code(label),
                _ => format!("{} ({})", code(label), values.join(", ")),
            }
        });
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            code(family.name),
            kind(family.kind),
            labels.collect::<Vec<_>>().join(", "),
            cell(family.help)
        ));
    }
    text
}

/// Returns the values of a label in the order of the code.
fn values(family: &MetricDefinition, label: &str, snapshot: &SeriesSnapshot) -> Vec<String> {
    let mut values = Vec::new();
    let mut sink = |sample: Sample<'_>| {
        let of_label = sample.labels.iter().filter(|(name, _)| *name == label);
        let new: Vec<_> = of_label
            .map(|(_, value)| (*value).to_owned())
            .filter(|value| !values.contains(value))
            .collect();
        values.extend(new);
    };
    family.visit(snapshot, &mut sink);
    values
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}
