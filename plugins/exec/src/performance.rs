//! Performance data of Nagios plugins: `'label'=value[unit];[warn];[crit];[min];[max]`, separated by spaces.
//!
//! Units become base units. Labels are read as Icinga 2 does: a label in single quotes may contain anything, `''` being a
//! quote; without quotes it reaches to the `=`.

use conductor_plugin_api::{Metric, Report};

/// Values without a unit, or with one that is not converted.
pub(crate) const VALUE: Metric<2> = Metric::gauge(
    "value",
    "Value of performance data without a unit, or with a unit that is not converted.",
)
.labels(["label", "unit"]);
/// Limits of these values.
pub(crate) const VALUE_LIMIT: Metric<3> = Metric::gauge(
    "value_limit",
    "Limits of conductor_exec_value and conductor_exec_counter_total: warn, crit, min, max.",
)
.labels(["label", "unit", "limit"]);
/// Values in seconds.
pub(crate) const TIME: Metric<1> = Metric::gauge("time", "Duration in performance data.")
    .unit("seconds")
    .labels(["label"]);
/// Limits of values in seconds.
pub(crate) const TIME_LIMIT: Metric<2> = Metric::gauge(
    "time_limit",
    "Limits of conductor_exec_time_seconds: warn, crit, min, max.",
)
.unit("seconds")
.labels(["label", "limit"]);
/// Values in bytes.
pub(crate) const SIZE: Metric<1> = Metric::gauge("size", "Size in performance data.")
    .unit("bytes")
    .labels(["label"]);
/// Limits of values in bytes.
pub(crate) const SIZE_LIMIT: Metric<2> = Metric::gauge(
    "size_limit",
    "Limits of conductor_exec_size_bytes: warn, crit, min, max.",
)
.unit("bytes")
.labels(["label", "limit"]);
/// Percentages, as ratios.
pub(crate) const SHARE: Metric<1> =
    Metric::gauge("share", "Percentage in performance data, as a ratio.")
        .unit("ratio")
        .labels(["label"]);
/// Limits of percentages.
pub(crate) const SHARE_LIMIT: Metric<2> = Metric::gauge(
    "share_limit",
    "Limits of conductor_exec_share_ratio: warn, crit, min, max.",
)
.unit("ratio")
.labels(["label", "limit"]);
/// Continuous counters, unit `c`.
pub(crate) const COUNTER: Metric<1> =
    Metric::counter("counter", "Continuous counter in performance data.").labels(["label"]);

/// The performance data of one check.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PerformanceData {
    /// Values in their order; the first of each label.
    pub(crate) values: Vec<PerformanceValue>,
    /// The first item that could not be read.
    pub(crate) malformed: Option<String>,
}

/// One value with its limits, in base units.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PerformanceValue {
    pub(crate) label: String,
    pub(crate) unit: ValueUnit,
    pub(crate) value: f64,
    /// Name and value of each limit that is given.
    pub(crate) limits: Vec<(&'static str, f64)>,
}

/// The base unit of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ValueUnit {
    /// From s, ms, us and ns.
    Seconds,
    /// From B, KB, MB, GB and so on, by powers of 1024.
    Bytes,
    /// From %.
    Ratio,
    /// A counter, c.
    Counter,
    /// Any other, as it was written; empty for none.
    Other(String),
}

impl PerformanceValue {
    /// Sets the metrics of this value in a report.
    pub(crate) fn add_to(&self, report: Report) -> Report {
        let label = self.label.as_str();
        let report = match &self.unit {
            ValueUnit::Seconds => report.set(&TIME, [label], self.value),
            ValueUnit::Bytes => report.set(&SIZE, [label], self.value),
            ValueUnit::Ratio => report.set(&SHARE, [label], self.value),
            ValueUnit::Counter => report.set(&COUNTER, [label], self.value),
            ValueUnit::Other(unit) => report.set(&VALUE, [label, unit], self.value),
        };
        self.limits
            .iter()
            .fold(report, |report, (limit, value)| match &self.unit {
                ValueUnit::Seconds => report.set(&TIME_LIMIT, [label, limit], *value),
                ValueUnit::Bytes => report.set(&SIZE_LIMIT, [label, limit], *value),
                ValueUnit::Ratio => report.set(&SHARE_LIMIT, [label, limit], *value),
                ValueUnit::Counter => report.set(&VALUE_LIMIT, [label, "c", limit], *value),
                ValueUnit::Other(unit) => report.set(&VALUE_LIMIT, [label, unit, limit], *value),
            })
    }
}

/// Reads performance data; `is_cut` says that its end is missing, so that its last item may be half an item.
pub(crate) fn parse(text: &str, is_cut: bool) -> PerformanceData {
    let mut data = PerformanceData::default();
    // They separate items, and are in no label that a host shows.
    let text = text.replace(char::is_control, " ");
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (item, after) = next_item(rest);
        if is_cut && after.is_empty() {
            break;
        }
        match item {
            ParsedItem::Value(value) => {
                let is_known = |known: &PerformanceValue| known.label == value.label;
                if !data.values.iter().any(is_known) {
                    data.values.push(value);
                }
            }
            ParsedItem::Unknown => {}
            ParsedItem::Malformed => {
                let item = &rest[..rest.len() - after.len()];
                data.malformed.get_or_insert_with(|| item.trim().to_owned());
            }
        }
        rest = after.trim_start();
    }
    data
}

enum ParsedItem {
    Value(PerformanceValue),
    /// `U`: the plugin does not know the value.
    Unknown,
    Malformed,
}

/// Reads the first item of a text; returns it with the text after it.
fn next_item(text: &str) -> (ParsedItem, &str) {
    let Some((label, after_label)) = label(text) else {
        return (ParsedItem::Malformed, skip_word(text));
    };
    let after = skip_word(after_label);
    let fields = &after_label[..after_label.len() - after.len()];
    (value(label, fields), after)
}

/// Returns a label and the text after its `=`.
fn label(text: &str) -> Option<(String, &str)> {
    if let Some(mut rest) = text.strip_prefix('\'') {
        let mut label = String::new();
        loop {
            let (part, after) = rest.split_once('\'')?;
            label.push_str(part);
            let Some(more) = after.strip_prefix('\'') else {
                let after = after.trim_start().strip_prefix('=')?;
                let label = label.trim().to_owned();
                return (!label.is_empty()).then_some((label, after));
            };
            label.push('\'');
            rest = more;
        }
    }
    let (label, after) = text.split_once('=')?;
    let label = label.trim();
    // A label with one of these has swallowed what is no item.
    let is_label = !label.is_empty() && !label.contains([';', '\'', '|']);
    is_label.then(|| (label.to_owned(), after))
}

fn skip_word(text: &str) -> &str {
    text.find(char::is_whitespace)
        .map_or("", |end| &text[end..])
}

fn value(label: String, fields: &str) -> ParsedItem {
    let mut fields = fields.split(';');
    let first = fields.next().unwrap_or_default();
    if first == "U" {
        return ParsedItem::Unknown;
    }
    let Some((number, unit)) = number(first) else {
        return ParsedItem::Malformed;
    };
    let (unit, multiplier, divisor) = base_unit(unit);
    let to_base = |number: f64| number * multiplier / divisor;
    let mut limits = Vec::new();
    for ((upper, lower), field) in LIMITS.into_iter().zip(fields) {
        let (low, high) = match lower {
            Some(_) => range(field.trim()),
            None => (None, plain(field.trim())),
        };
        limits.extend(high.map(|high| (upper, to_base(high))));
        limits.extend(lower.zip(low.map(to_base)));
    }
    let value = to_base(number);
    limits.retain(|(_, limit)| limit.is_finite());
    match value.is_finite() {
        true => ParsedItem::Value(PerformanceValue {
            label,
            unit,
            value,
            limits,
        }),
        false => ParsedItem::Malformed,
    }
}

/// Splits a number from the unit behind it.
fn number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let count = bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        from + count
    };
    let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let mut end = digits(sign);
    let mut has_digits = end > sign;
    // Some languages print numbers with the comma of the locale.
    if matches!(bytes.get(end), Some(b'.' | b',')) {
        let fraction = digits(end + 1);
        has_digits |= fraction > end + 1;
        end = fraction;
    }
    if !has_digits {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let number = text[..end].replace(',', ".").parse().ok()?;
    Some((number, text[end..].trim()))
}

/// Returns a field that is a number, with or without a unit.
fn plain(field: &str) -> Option<f64> {
    number(field).map(|(number, _)| number)
}

/// Returns the bounds of a threshold: `10`, `10:`, `~:10`, `5:10`. A range that must not be entered, `@5:10`, has none:
/// its bounds have another meaning.
fn range(field: &str) -> (Option<f64>, Option<f64>) {
    match field.split_once(':') {
        _ if field.starts_with('@') => (None, None),
        Some((low, high)) => (plain(low), plain(high)),
        None => (None, plain(field)),
    }
}

/// Returns the base unit, and the number by which to multiply and the one by which to divide.
fn base_unit(unit: &str) -> (ValueUnit, f64, f64) {
    let bytes = |power: i32| (ValueUnit::Bytes, 1024_f64.powi(power), 1.0);
    match unit {
        "s" => (ValueUnit::Seconds, 1.0, 1.0),
        "ms" => (ValueUnit::Seconds, 1.0, 1e3),
        "us" | "µs" | "μs" => (ValueUnit::Seconds, 1.0, 1e6),
        "ns" => (ValueUnit::Seconds, 1.0, 1e9),
        "%" => (ValueUnit::Ratio, 1.0, 100.0),
        "B" => bytes(0),
        "KB" | "kB" | "KiB" => bytes(1),
        "MB" | "MiB" => bytes(2),
        "GB" | "GiB" => bytes(3),
        "TB" | "TiB" => bytes(4),
        "PB" | "PiB" => bytes(5),
        "EB" | "EiB" => bytes(6),
        "c" => (ValueUnit::Counter, 1.0, 1.0),
        other => (ValueUnit::Other(other.to_owned()), 1.0, 1.0),
    }
}

/// Names of the upper and lower bounds, in the order of the fields.
const LIMITS: [(&str, Option<&str>); 4] = [
    ("warn", Some("warn_low")),
    ("crit", Some("crit_low")),
    ("min", None),
    ("max", None),
];
