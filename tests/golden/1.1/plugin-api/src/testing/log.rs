//! The log of a probe, for assertions in tests.

use std::fmt;

use crate::{
    Level,
    abi::{AbiLevel, AbiLogRecord},
};

/// A line that the host's log would have, with the platform's and the plugin's name added.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// The severity.
    pub level: Level,
    /// The module it comes from; `plugin` where it was logged through a context.
    pub target: String,
    /// The text.
    pub message: String,
    /// Structured fields in the order they were given; values are text, as they are in the host's log.
    pub fields: Vec<(String, String)>,
}

impl LogEntry {
    /// Returns the value of a structured field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.level, self.message)?;
        self.fields
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl From<&AbiLogRecord<'_>> for LogEntry {
    fn from(record: &AbiLogRecord<'_>) -> Self {
        let fields = record.fields.as_slice().iter();
        Self {
            level: match record.level {
                AbiLevel::WARN => Level::Warn,
                AbiLevel::INFO => Level::Info,
                AbiLevel::DEBUG => Level::Debug,
                AbiLevel::TRACE => Level::Trace,
                _ => Level::Error,
            },
            target: record.target.to_string(),
            message: record.message.to_string(),
            fields: fields
                .map(|field| (field.name.to_string(), field.value.to_string()))
                .collect(),
        }
    }
}
