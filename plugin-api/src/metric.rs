//! Declared metrics: what a plugin measures, with a kind, a unit, a help text and labels.
//!
//! A host exports each as a family of its own, `conductor_<plugin>_<name>_<unit>`, with HELP and TYPE. Rust plugins
//! declare constants of [`Metric`], whose mistakes do not compile, and list them in
//! [`export_plugin!`](crate::export_plugin); plugins in C write the JSON form, which a host reads by
//! [`parse_declarations`] when it loads them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A metric that a plugin declares once, as a constant. `N` is the number of its labels.
///
/// ```
/// use conductor_plugin_api::{Metric, Report};
///
/// const QUEUE: Metric = Metric::gauge("queue_length", "Messages that wait.");
/// const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the request.")
///     .unit("seconds")
///     .labels(["phase"]);
///
/// let report = Report::healthy("200 OK")
///     .set(&QUEUE, [], 3.0)
///     .set(&PHASE, ["connect"], 0.012)
///     .set(&PHASE, ["transfer"], 0.4);
/// assert_eq!(report.value(&PHASE, ["connect"]), Some(0.012));
/// ```
///
/// A name that Prometheus does not allow does not compile:
///
/// ```compile_fail
/// # use conductor_plugin_api::Metric;
/// const BAD: Metric = Metric::gauge("queue-length", "Messages that wait.");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Metric<const N: usize = 0> {
    pub(crate) declaration: StaticDeclaration,
    labels: [&'static str; N],
}

/// A metric without its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticDeclaration {
    pub(crate) name: &'static str,
    pub(crate) kind: MetricKind,
    /// Empty for none.
    pub(crate) unit: &'static str,
    help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// A value that goes up and down.
    Gauge,
    /// A total that only grows, except when what is counted restarts; its family's name ends in `_total`.
    Counter,
}

impl Metric {
    /// Declares a value that goes up and down.
    ///
    /// `name` leaves out the plugin's id and the unit: `"phase"` becomes `conductor_http_phase_seconds`. `help` is one
    /// sentence.
    ///
    /// # Panics
    /// At compile time, if Prometheus does not allow the name, if it has one of the endings that Prometheus gives a
    /// meaning, such as `_total`, or if `help` is empty.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, MetricKind::Gauge, help)
    }

    /// Declares a total that only grows, such as bytes sent since the start of a server. The host appends `_total`.
    ///
    /// # Panics
    /// As [`gauge`](Self::gauge).
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, MetricKind::Counter, help)
    }

    const fn new(name: &'static str, kind: MetricKind, help: &'static str) -> Self {
        if let Err(why) = check_name(name) {
            panic!("{}", why);
        }
        assert!(!help.is_empty(), "a metric has a help text: one sentence");
        Self {
            declaration: StaticDeclaration {
                name,
                kind,
                unit: "",
                help,
            },
            labels: [],
        }
    }

    /// Adds label names; a report gives their values in the same order.
    ///
    /// # Panics
    /// At compile time, if Prometheus does not allow a name, if the host uses it, or if it occurs twice.
    #[must_use]
    pub const fn labels<const N: usize>(self, labels: [&'static str; N]) -> Metric<N> {
        let mut nth = 0;
        while nth < N {
            if let Err(why) = check_label(labels[nth]) {
                panic!("{}", why);
            }
            let mut other = 0;
            while other < nth {
                assert!(
                    !is_equal(labels[nth], labels[other]),
                    "a metric has the same label twice"
                );
                other += 1;
            }
            nth += 1;
        }
        Metric {
            declaration: self.declaration,
            labels,
        }
    }
}

impl<const N: usize> Metric<N> {
    /// Sets the unit, which is appended to the name: a base unit such as `"seconds"`, `"bytes"`, `"ratio"` or
    /// `"celsius"`.
    ///
    /// # Panics
    /// At compile time, if Prometheus does not allow it, or if the name already ends in it.
    #[must_use]
    pub const fn unit(mut self, unit: &'static str) -> Self {
        if let Err(why) = check_unit(self.declaration.name, unit) {
            panic!("{}", why);
        }
        self.declaration.unit = unit;
        self
    }

    /// Returns the declaration that the library exports.
    #[must_use]
    pub fn declaration(&self) -> MetricDeclaration {
        MetricDeclaration {
            name: self.declaration.name.to_owned(),
            kind: self.declaration.kind,
            unit: self.declaration.unit.to_owned(),
            help: self.declaration.help.to_owned(),
            labels: self.labels.map(str::to_owned).to_vec(),
        }
    }

    /// Returns the name, for the check that no two metrics of a plugin share one.
    #[doc(hidden)]
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.declaration.name
    }
}

/// A declared metric, as it crosses from plugin to host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDeclaration {
    /// The name, without the plugin's id and the unit.
    pub name: String,
    /// The kind.
    pub kind: MetricKind,
    /// The unit; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// One sentence.
    pub help: String,
    /// The names of its labels, in the order in which a report gives their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl MetricDeclaration {
    /// Returns the name with its unit and, for a counter, `_total`.
    #[must_use]
    pub fn full_name(&self) -> String {
        let mut name = self.name.clone();
        if !self.unit.is_empty() {
            name.push('_');
            name.push_str(&self.unit);
        }
        if self.kind == MetricKind::Counter {
            name.push_str("_total");
        }
        name
    }

    /// Returns the name of the family that a host exports for this plugin.
    #[must_use]
    pub fn family(&self, plugin: &str) -> String {
        format!(
            "conductor_{}_{}",
            plugin.replace('-', "_"),
            self.full_name()
        )
    }

    fn check(&self) -> Result<(), &'static str> {
        check_name(&self.name)?;
        if !self.unit.is_empty() {
            check_unit(&self.name, &self.unit)?;
        }
        if self.help.trim().is_empty() {
            return Err("a metric has a help text: one sentence");
        }
        let mut known = BTreeSet::new();
        for label in &self.labels {
            check_label(label)?;
            if !known.insert(label) {
                return Err("a metric has the same label twice");
            }
        }
        Ok(())
    }
}

/// An error in the declared metrics of a plugin.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeclarationError {
    /// They are not a JSON list of declarations.
    Json(serde_json::Error),
    /// A declaration breaks a rule.
    Rule {
        /// The metric's name.
        metric: String,
        /// The rule.
        rule: &'static str,
    },
    /// Two metrics have the same name.
    Twice(String),
    /// There are too many.
    TooMany(usize),
}

impl std::fmt::Display for DeclarationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(error) => write!(
                f,
                "its declared metrics are no JSON list of tables with name, kind, unit, help and labels: {error}"
            ),
            Self::Rule { metric, rule } => {
                write!(f, "its declared metric {metric:?} is not allowed: {rule}")
            }
            Self::Twice(name) => write!(f, "it declares the metric {name:?} twice"),
            Self::TooMany(count) => write!(
                f,
                "it declares {count} metrics, at most {MAX_DECLARATIONS} are allowed"
            ),
        }
    }
}

impl std::error::Error for DeclarationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a plugin's declared metrics from their JSON text:
/// `[{"name": "phase", "kind": "gauge", "unit": "seconds", "help": "Duration of each phase.", "labels": ["phase"]}]`.
///
/// # Errors
/// The first rule that one of them breaks.
pub fn parse_declarations(json: &str) -> Result<Vec<MetricDeclaration>, DeclarationError> {
    let declared: Vec<MetricDeclaration> =
        serde_json::from_str(json).map_err(DeclarationError::Json)?;
    if declared.len() > MAX_DECLARATIONS {
        return Err(DeclarationError::TooMany(declared.len()));
    }
    let mut names = BTreeSet::new();
    for metric in &declared {
        metric.check().map_err(|rule| DeclarationError::Rule {
            metric: metric.name.clone(),
            rule,
        })?;
        if !names.insert(metric.full_name()) {
            return Err(DeclarationError::Twice(metric.full_name()));
        }
    }
    Ok(declared)
}

/// Checks, at compile time, that no two metrics share a name.
///
/// # Panics
/// If two do, or if there are more than [`MAX_DECLARATIONS`].
#[doc(hidden)]
pub const fn check_names(names: &[&str]) {
    assert!(
        names.len() <= MAX_DECLARATIONS,
        "a plugin declares at most 256 metrics"
    );
    let mut nth = 0;
    while nth < names.len() {
        let mut other = 0;
        while other < nth {
            assert!(
                !is_equal(names[nth], names[other]),
                "a plugin declares two metrics of the same name"
            );
            other += 1;
        }
        nth += 1;
    }
}

const fn check_name(name: &str) -> Result<(), &'static str> {
    if !is_word(name, MAX_NAME) {
        return Err(
            "the name of a metric has 1–64 letters, digits and `_`, and does not start with a digit",
        );
    }
    let mut nth = 0;
    while nth < RESERVED_ENDINGS.len() {
        if ends_with(name, RESERVED_ENDINGS[nth]) {
            return Err(
                "the name of a metric does not end in _total (a counter gets it by itself), _count, _sum, _bucket, _created or _info",
            );
        }
        nth += 1;
    }
    Ok(())
}

const fn check_unit(name: &str, unit: &str) -> Result<(), &'static str> {
    if !is_word(unit, MAX_NAME) {
        return Err("the unit of a metric is a word such as seconds, bytes, ratio or celsius");
    }
    let mut nth = 0;
    while nth < RESERVED_ENDINGS.len() {
        let ending = RESERVED_ENDINGS[nth];
        if is_equal(unit, ending.split_at(1).1) || ends_with(unit, ending) {
            return Err(
                "the unit of a metric does not end in total, count, sum, bucket, created or info, which Prometheus gives a meaning",
            );
        }
        nth += 1;
    }
    if is_equal(name, unit)
        || name.len() > unit.len()
            && ends_with(name, unit)
            && name.as_bytes()[name.len() - unit.len() - 1] == b'_'
    {
        return Err("the name of a metric does not end in its unit, which the host appends");
    }
    Ok(())
}

const fn check_label(label: &str) -> Result<(), &'static str> {
    if !is_word(label, MAX_NAME) || starts_with(label, "__") {
        return Err(
            "the name of a label has 1–64 letters, digits and `_`, and does not start with a digit or with `__`",
        );
    }
    let mut nth = 0;
    while nth < RESERVED_LABELS.len() {
        if is_equal(label, RESERVED_LABELS[nth]) {
            return Err(
                "a label is not named platform, plugin, le, quantile, job or instance: the host and Prometheus use these",
            );
        }
        nth += 1;
    }
    Ok(())
}

const fn is_word(text: &str, longest: usize) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > longest || bytes[0].is_ascii_digit() {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_equal(one: &str, other: &str) -> bool {
    one.len() == other.len() && starts_with(one, other)
}

const fn starts_with(text: &str, start: &str) -> bool {
    is_at(text, start, 0)
}

const fn ends_with(text: &str, end: &str) -> bool {
    text.len() >= end.len() && is_at(text, end, text.len() - end.len())
}

const fn is_at(text: &str, part: &str, offset: usize) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    if text.len() < offset + part.len() {
        return false;
    }
    let mut at = 0;
    while at < part.len() {
        if text[offset + at] != part[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Maximum number of metrics that a plugin declares.
pub const MAX_DECLARATIONS: usize = 256;

const MAX_NAME: usize = 64;
const RESERVED_ENDINGS: [&str; 6] = ["_total", "_count", "_sum", "_bucket", "_created", "_info"];
const RESERVED_LABELS: [&str; 6] = ["platform", "plugin", "le", "quantile", "job", "instance"];

#[cfg(test)]
mod tests {
    use super::*;

    const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase.")
        .unit("seconds")
        .labels(["phase"]);
    const SENT: Metric = Metric::counter("sent", "Bytes sent.").unit("bytes");

    #[test]
    fn what_rust_declares_is_read_back() {
        let declared = vec![PHASE.declaration(), SENT.declaration()];
        let json = serde_json::to_string(&declared).unwrap();
        assert_eq!(parse_declarations(&json).unwrap(), declared);
        assert_eq!(declared[0].family("http"), "conductor_http_phase_seconds");
        assert_eq!(
            declared[1].family("my-db"),
            "conductor_my_db_sent_bytes_total"
        );
    }

    #[test]
    fn each_rule_is_named() {
        let declared = |json: &str| parse_declarations(json).unwrap_err().to_string();
        let named = |name: &str| {
            declared(&format!(
                r#"[{{"name":"{name}","kind":"gauge","help":"x"}}]"#
            ))
        };
        for bad in ["", "a-b", "2a", "a b", "ä", &"a".repeat(65)] {
            assert!(named(bad).contains("has 1–64 letters"), "{bad}");
        }
        for bad in [
            "sent_total",
            "_count",
            "x_sum",
            "x_bucket",
            "x_created",
            "x_info",
        ] {
            assert!(named(bad).contains("does not end in _total"), "{bad}");
        }
        let with = |rest: &str| {
            declared(&format!(
                r#"[{{"name":"age_seconds","kind":"gauge",{rest}}}]"#
            ))
        };
        assert!(with(r#""help":" ""#).contains("has a help text"));
        assert!(with(r#""help":"x","unit":"seconds""#).contains("does not end in its unit"));
        assert!(with(r#""help":"x","unit":"m/s""#).contains("is a word"));
        for bad in ["total", "request_count"] {
            let unit = format!(r#""help":"x","unit":"{bad}""#);
            assert!(with(&unit).contains("does not end in total"), "{bad}");
        }
        assert!(with(r#""help":"x","labels":["__a"]"#).contains("with `__`"));
        assert!(with(r#""help":"x","labels":["le"]"#).contains("not named platform"));
        assert!(with(r#""help":"x","labels":["a","a"]"#).contains("same label twice"));
        assert!(with(r#""help":"x","colour":"red""#).contains("unknown field `colour`"));
        let twice =
            r#"[{"name":"a","kind":"gauge","help":"x"},{"name":"a","kind":"gauge","help":"x"}]"#;
        assert_eq!(declared(twice), "it declares the metric \"a\" twice");
    }

    #[test]
    #[should_panic(expected = "two metrics of the same name")]
    fn two_metrics_of_one_name_do_not_build() {
        check_names(&["a", "b", "a"]);
    }
}
