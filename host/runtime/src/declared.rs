//! The metrics that a plugin declares, and the values that a call sets.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use conductor_library::printable::escaped;
use conductor_plugin_api::metric::{DeclarationError, MetricDeclaration, parse_declarations};
use serde::Serialize;

use super::set_message;

/// The declared metrics of one loaded library.
#[derive(Debug, Default)]
pub struct DeclaredMetrics {
    metrics: Vec<MetricDeclaration>,
    /// A value that was dropped was logged.
    complained: AtomicBool,
}

/// The value of a declared metric in a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeclaredValue {
    /// The metric's index among the plugin's.
    pub metric: u16,
    /// The values of its labels, in the order of their declaration.
    pub labels: Vec<String>,
    /// The value; finite.
    pub value: f64,
}

/// The values that a call has set so far.
#[derive(Clone, Debug, Default)]
pub struct SetValues {
    /// The plugin's declarations; `None` without values.
    pub of: Option<Arc<DeclaredMetrics>>,
    /// Within the host's limits, in the order in which they were set.
    pub kept: Vec<DeclaredValue>,
    /// The number of values that were not kept.
    pub dropped: u64,
}

impl SetValues {
    /// Returns `true` if all equal those of `other`; they are compared bit by bit.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.kept.iter().zip(&other.kept);
        self.dropped == other.dropped
            && self.kept.len() == other.kept.len()
            && pairs.all(|(one, other)| {
                one.metric == other.metric
                    && one.labels == other.labels
                    && one.value.to_bits() == other.value.to_bits()
            })
    }
}

/// The reason why a value is not kept, and the cure.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SetError {
    /// The plugin does not declare the metric.
    #[error("the plugin does not declare this metric: add it to `metrics`")]
    Undeclared,
    /// The number of label values differs from the declaration.
    #[error(
        "it has {given} label values, where the labels {{{}}} are declared: give one value for each, in this order", .declared.join(", ")
    )]
    Labels {
        /// The declared names.
        declared: Vec<String>,
        /// The number of values.
        given: usize,
    },
    /// The value is not finite.
    #[error("the value is not finite: leave it out")]
    NotFinite,
    /// The report has too many values.
    #[error(
        "a report has at most {MAX_DECLARED_VALUES} values of declared metrics: use fewer label values"
    )]
    TooMany,
}

impl DeclaredMetrics {
    /// Reads the declarations from their JSON text, see [`parse_declarations`].
    ///
    /// # Errors
    /// When one is not allowed.
    pub fn new(json: &str) -> Result<Self, DeclarationError> {
        parse_declarations(json).map(|metrics| Self {
            metrics,
            complained: AtomicBool::new(false),
        })
    }

    /// Returns the declarations; a [`DeclaredValue::metric`] is an index into them.
    #[must_use]
    pub fn as_slice(&self) -> &[MetricDeclaration] {
        &self.metrics
    }

    /// Returns them as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain data, which serde_json can always write.
        serde_json::to_string(&self.metrics).unwrap_or_default()
    }

    /// Returns name and value of each set value, with labels as in `used_bytes{mount="/"}`.
    #[must_use]
    pub fn named(&self, values: &SetValues) -> Vec<(String, f64)> {
        let named = values.kept.iter().filter_map(|set| {
            let declaration = self.metrics.get(usize::from(set.metric))?;
            Some((series_name(declaration, &set.labels), set.value))
        });
        named.collect()
    }

    /// Adds a value to those of a call, or counts it as dropped. Logs the first one that is dropped.
    ///
    /// # Errors
    /// When it is not kept.
    pub(crate) fn set<'a>(
        self: &Arc<Self>,
        values: &mut SetValues,
        name: &[u8],
        labels: impl Iterator<Item = &'a [u8]>,
        value: f64,
    ) -> Result<(), SetError> {
        let mut metrics = self.metrics.iter();
        let index = metrics.position(|metric| metric.name.as_bytes() == name);
        let index = index.and_then(|index| u16::try_from(index).ok());
        let labels: Vec<_> = labels.map(label_value).collect();
        let set = match index {
            Some(metric) => self.check(values, metric, labels, value),
            None => {
                values.dropped += 1;
                Err(SetError::Undeclared)
            }
        };
        if let Err(why) = &set
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            let name: String = String::from_utf8_lossy(&name[..name.len().min(MAX_LABEL_VALUE)])
                .chars()
                .map(escaped)
                .collect();
            tracing::warn!(target: "plugin", "the value of metric `{name}` is dropped, and further ones without a line here: {why}");
        }
        set
    }

    /// Adds a value that a worker sends.
    ///
    /// # Errors
    /// When it is not kept.
    pub(crate) fn check(
        self: &Arc<Self>,
        values: &mut SetValues,
        metric: u16,
        labels: Vec<String>,
        value: f64,
    ) -> Result<(), SetError> {
        let declared = self.metrics.get(usize::from(metric));
        let set = match declared {
            None => Err(SetError::Undeclared),
            Some(declared) if declared.labels.len() != labels.len() => Err(SetError::Labels {
                declared: declared.labels.clone(),
                given: labels.len(),
            }),
            Some(_) if !value.is_finite() => Err(SetError::NotFinite),
            Some(_) if values.kept.len() >= MAX_DECLARED_VALUES => Err(SetError::TooMany),
            Some(_) => Ok(()),
        };
        match set {
            Ok(()) => {
                values.of.get_or_insert_with(|| Arc::clone(self));
                values.kept.push(DeclaredValue {
                    metric,
                    labels,
                    value,
                });
            }
            Err(_) => values.dropped += 1,
        }
        set
    }
}

/// Returns the name of a series within its plugin and platform, as in `used_bytes{mount="/"}`.
#[must_use]
pub fn series_name(declaration: &MetricDeclaration, labels: &[String]) -> String {
    let pairs = declaration.labels.iter().zip(labels);
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let name = declaration.full_name();
    match pairs.is_empty() {
        true => name,
        false => format!("{name}{{{}}}", pairs.join(",")),
    }
}

/// Returns the value of a label: one line of at most [`MAX_LABEL_VALUE`] bytes, without secrets.
pub(crate) fn label_value(text: &[u8]) -> String {
    let mut value = String::new();
    set_message(&mut value, text);
    if value.len() > MAX_LABEL_VALUE {
        value.truncate(value.floor_char_boundary(MAX_LABEL_VALUE));
    }
    value
}

/// Maximum number of values of declared metrics in a report.
pub const MAX_DECLARED_VALUES: usize = 1000;
/// Maximum length of a label's value, in bytes; the rest is cut off.
pub const MAX_LABEL_VALUE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Arc<DeclaredMetrics> {
        let json = r#"[{"name":"age","kind":"gauge","help":"x"},{"name":"used","kind":"gauge","help":"x","labels":["mount"]}]"#;
        Arc::new(DeclaredMetrics::new(json).unwrap())
    }

    #[test]
    fn what_is_declared_is_kept_and_the_rest_is_counted() {
        let (declared, mut values) = (declared(), SetValues::default());
        let mut set = |name: &str, labels: &[&str], value| {
            let labels = labels.iter().map(|label| label.as_bytes());
            declared.set(&mut values, name.as_bytes(), labels, value)
        };
        assert_eq!(set("age", &[], 3.0), Ok(()));
        assert_eq!(set("used", &["/\nhome"], 4.0), Ok(()));
        assert_eq!(set("used", &[&"ä".repeat(200)], 5.0), Ok(()));
        assert_eq!(set("size", &[], 1.0), Err(SetError::Undeclared));
        let error = set("used", &[], 1.0).unwrap_err().to_string();
        assert_eq!(
            error,
            "it has 0 label values, where the labels {mount} are declared: give one value for each, in this order"
        );
        assert_eq!(set("age", &[], f64::NAN), Err(SetError::NotFinite));
        assert_eq!(values.dropped, 3);
        assert_eq!(values.kept[1].labels, ["/\\nhome"]);
        assert_eq!(values.kept[2].labels[0].len(), MAX_LABEL_VALUE);
    }

    #[test]
    fn a_report_has_a_limited_number_of_values() {
        let (declared, mut values) = (declared(), SetValues::default());
        for _ in 0..=MAX_DECLARED_VALUES {
            let _ = declared.set(&mut values, b"age", [].into_iter(), 1.0);
        }
        assert_eq!(
            (values.kept.len(), values.dropped),
            (MAX_DECLARED_VALUES, 1)
        );
    }

    #[test]
    fn a_worker_can_send_nothing_that_its_plugin_could_not_set() {
        let (declared, mut values) = (declared(), SetValues::default());
        let unknown = declared.check(&mut values, 2, Vec::new(), 1.0);
        assert_eq!(unknown, Err(SetError::Undeclared));
        let labels = declared.check(&mut values, 1, Vec::new(), 1.0);
        assert!(
            matches!(labels, Err(SetError::Labels { given: 0, .. })),
            "{labels:?}"
        );
        assert_eq!(values.kept, []);
    }
}
