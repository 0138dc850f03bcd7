//! The author's interface: a [`Probe`] that turns a config into [`Report`]s.

use std::{error::Error, fmt};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Context, Metric, metric::MetricKind};

/// The object a plugin creates for one platform; each [`check`](Self::check) examines that platform once.
///
/// The host calls `create` once per platform, then `check` at each of the platform's slots. A probe gets at most one
/// call at a time, but not always from the same thread. A probe that panicked is dropped and created again before its
/// next check.
pub trait Probe: Sized + Send + 'static {
    /// The platform's `config = { … }` table.
    ///
    /// The host validates the table against this type's JSON Schema before it calls the plugin, and refuses unknown
    /// keys. A probe that needs no state beyond its config can name itself here.
    type Config: DeserializeOwned + JsonSchema;

    /// Creates the probe of one platform.
    ///
    /// # Errors
    /// A [`Failure`] counts against the platform's circuit breaker; the host tries again on the breaker's schedule.
    fn create(config: Self::Config, context: &Context<'_>) -> Result<Self, Failure>;

    /// Checks the platform once.
    ///
    /// Blocking is fine; the call must be over by [`Context::deadline`], after which the host counts a timeout and no
    /// longer waits for it.
    ///
    /// # Errors
    /// A [`Failure`] means that the probe *could not tell*. A platform that is in a bad state is not a failure but a
    /// [`Report::unhealthy`], however bad it is: only failures feed the circuit breaker.
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure>;
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub(crate) status: Status,
    pub(crate) message: String,
    pub(crate) measurements: Vec<(String, f64)>,
    pub(crate) declared: Vec<DeclaredValue>,
}

/// The value of a declared metric.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeclaredValue {
    pub(crate) metric: &'static str,
    pub(crate) kind: MetricKind,
    /// Empty for none.
    pub(crate) unit: &'static str,
    /// The values of the labels, in the order of their declaration.
    pub(crate) labels: Vec<String>,
    pub(crate) value: f64,
}

/// The health of a platform.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// The platform works.
    Healthy,
    /// The platform works, but needs attention.
    Degraded,
    /// The platform does not work.
    Unhealthy,
}

impl Report {
    /// Reports that the platform works; `message` is one line for people, such as `"200 OK in 12 ms"`.
    pub fn healthy(message: impl Into<String>) -> Self {
        Self::new(Status::Healthy, message)
    }

    /// Reports that the platform works, but needs attention.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self::new(Status::Degraded, message)
    }

    /// Reports that the platform does not work.
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new(Status::Unhealthy, message)
    }

    /// Returns a report with the given status.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            measurements: Vec::new(),
            declared: Vec::new(),
        }
    }

    /// Sets the value of a declared [`Metric`], with the values of its labels in the order of their declaration.
    ///
    /// The metric must be listed in [`export_plugin!`](crate::export_plugin). The host drops values that are not finite,
    /// and series beyond its limit of 256 per platform. A host of API 1.0 exports a metric without labels as a
    /// measurement, and drops the others.
    #[must_use]
    pub fn set<const N: usize>(
        mut self,
        metric: &Metric<N>,
        labels: [&str; N],
        value: f64,
    ) -> Self {
        self.declared.push(DeclaredValue {
            metric: metric.declaration.name,
            kind: metric.declaration.kind,
            unit: metric.declaration.unit,
            labels: labels.map(str::to_owned).to_vec(),
            value,
        });
        self
    }

    /// Returns the value of a declared metric for these labels, the last one if there are several.
    pub fn value<const N: usize>(&self, metric: &Metric<N>, labels: [&str; N]) -> Option<f64> {
        let mut latest_first = self.declared.iter().rev();
        let found = latest_first
            .find(|known| known.metric == metric.declaration.name && known.labels == labels);
        found.map(|known| known.value)
    }

    /// Adds a measurement that is not declared, exported as `conductor_measurement{name="…"}`.
    ///
    /// Follow Prometheus's naming, base unit last: `connect_seconds`, `free_bytes`. The host drops values that are not
    /// finite, and names beyond its limit of series per platform.
    #[must_use]
    pub fn measure(mut self, name: impl Into<String>, value: f64) -> Self {
        self.measurements.push((name.into(), value));
        self
    }

    /// Returns the health of the platform.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns the line for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the value of the measurement with this name, the last one if there are several.
    pub fn measurement(&self, name: &str) -> Option<f64> {
        let mut latest_first = self.measurements.iter().rev();
        latest_first
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// Returns name and value of each measurement, in the order they were added.
    pub fn measurements(&self) -> &[(String, f64)] {
        &self.measurements
    }
}

/// The reason why a probe could not report.
///
/// `?` converts any error into one, with its causes in the message. To allow that, it deliberately does not implement
/// [`Error`].
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// The kind of a failure; the `error_type` of `plugin_failure_total`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailureKind {
    /// The probe reported an error.
    Error,
    /// The probe panicked; set by the panic barrier.
    Panic,
    /// The config cannot work.
    Config,
    /// The probe gave up at its deadline.
    Timeout,
}

impl Failure {
    /// Returns a failure whose message says what was tried, on what, and why it did not work.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Error, message)
    }

    /// Returns a failure for a config that cannot work; name the key and the reason.
    pub fn config(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Config, message)
    }

    /// Returns a failure for a probe that gave up at its deadline.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Timeout, message)
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Returns the error message, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn of(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors already end with the text of their cause.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read the port")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_question_mark_keeps_the_causes() {
        let failure = Failure::from(Outer("x".parse::<u16>().unwrap_err()));
        assert_eq!(
            failure.message(),
            "cannot read the port: invalid digit found in string"
        );
    }
}
