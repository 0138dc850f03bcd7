//! What authors write: a [`Probe`] that turns a config into [`Report`]s.

use std::{error::Error, fmt};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::Context;

/// The object a plugin creates for one platform; each [`check`](Self::check) is one look at that platform.
///
/// The host calls `create` once per platform, then `check` at each of the platform's slots. At most one call into a
/// probe is under way at a time, but not always from the same thread. A probe that panicked is dropped and created
/// again before its next check.
pub trait Probe: Sized + Send + 'static {
    /// What stands in the platform's `config = { … }` table.
    ///
    /// The host validates the table against this type's JSON Schema before it calls the plugin, and refuses keys the
    /// schema does not know. A probe that needs no state beyond its config can name itself here.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the probe of one platform.
    ///
    /// # Errors
    /// A [`Failure`] counts against the platform's circuit breaker; the host tries again on the breaker's schedule.
    fn create(config: Self::Config, context: &Context<'_>) -> Result<Self, Failure>;

    /// Looks at the platform once.
    ///
    /// Blocking is fine; the call must be over by [`Context::deadline`], after which the host counts a timeout and no
    /// longer waits for it.
    ///
    /// # Errors
    /// A [`Failure`] says that the probe *could not find out*. A platform that was found to be in a bad state is not a
    /// failure but a [`Report::unhealthy`], however bad it is: only failures feed the circuit breaker.
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure>;
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub(crate) status: Status,
    pub(crate) message: String,
    pub(crate) measurements: Vec<(String, f64)>,
}

/// How a platform is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// It does what it should.
    Healthy,
    /// It works, but somebody should look at it.
    Degraded,
    /// It does not do what it is for.
    Unhealthy,
}

impl Report {
    /// The platform does what it should; `message` is one line for people, such as `"200 OK in 12 ms"`.
    pub fn healthy(message: impl Into<String>) -> Self {
        Self::new(Status::Healthy, message)
    }

    /// The platform works, but somebody should look at it.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self::new(Status::Degraded, message)
    }

    /// The platform does not do what it is for.
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new(Status::Unhealthy, message)
    }

    /// A report with the status as a value.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            measurements: Vec::new(),
        }
    }

    /// Adds a measurement, which comes out as `conductor_measurement{name="…"}`.
    ///
    /// Name it as Prometheus does, base unit last: `connect_seconds`, `free_bytes`. The host drops values that are not
    /// finite, and names beyond its limit of series per platform.
    #[must_use]
    pub fn measure(mut self, name: impl Into<String>, value: f64) -> Self {
        self.measurements.push((name.into(), value));
        self
    }

    /// How the platform is doing.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The line for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The value of the measurement with this name; the last one's, if there are several.
    pub fn measurement(&self, name: &str) -> Option<f64> {
        let mut latest_first = self.measurements.iter().rev();
        latest_first
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// Name and value of each measurement, in the order they were added.
    pub fn measurements(&self) -> &[(String, f64)] {
        &self.measurements
    }
}

/// Why a probe could not report.
///
/// `?` makes one of any error, with the causes behind it in the message. It is deliberately no
/// [`Error`] itself, which is what allows that.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// What sort of failure it was; the `error_type` of `plugin_failure_total`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailureKind {
    /// The probe said so.
    Error,
    /// It panicked; the barrier says so on its behalf.
    Panic,
    /// Its config cannot work.
    Config,
    /// It gave up at its deadline.
    Timeout,
}

impl Failure {
    /// A failure with a message that says what was tried, on what, and why it did not work.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Error, message)
    }

    /// The config cannot work; say which key and why.
    pub fn config(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Config, message)
    }

    /// The probe gave up because its deadline came.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Timeout, message)
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What went wrong, for people.
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
