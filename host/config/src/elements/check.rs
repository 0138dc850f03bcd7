//! Collects mistakes in the keys of one table.

use std::{ops::Range, time::Duration};

use super::duration::show;
use crate::{error::ConfigMistake, escapes, spans::SpanTree};

/// The validation of one table.
pub(super) struct TableValidator<'a> {
    places: &'a SpanTree,
    faults: &'a mut Vec<ConfigMistake>,
    warnings: &'a mut Vec<Warning>,
    path: Vec<String>,
}

/// A problem that does not prevent the use of the file, and its place.
pub(crate) type Warning = (Range<usize>, String);

impl<'a> TableValidator<'a> {
    pub(super) fn new(
        places: &'a SpanTree,
        faults: &'a mut Vec<ConfigMistake>,
        warnings: &'a mut Vec<Warning>,
    ) -> Self {
        Self {
            places,
            faults,
            warnings,
            path: Vec::new(),
        }
    }

    /// Returns the table at `segments` inside this one.
    pub(super) fn table(&mut self, segments: &[&str]) -> TableValidator<'_> {
        TableValidator {
            places: self.places,
            path: self.path_to(segments),
            faults: self.faults,
            warnings: self.warnings,
        }
    }

    /// Returns the place of the table's name.
    pub(super) fn place(&self) -> Range<usize> {
        self.places.key_at(&self.path)
    }

    /// Returns the key's full name, for example `host.timeout`.
    pub(super) fn name(&self, key: &str) -> String {
        self.places.name(&self.path_to(&[key]))
    }

    /// Returns the table's own full name, for example `platform.shop`.
    pub(super) fn own_name(&self) -> String {
        self.places.name(&self.path)
    }

    /// Returns `true` if the file has this key of the table.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.exact_key(&self.path_to(&[key])).is_some()
    }

    /// Returns `true` if the file has the key at this path from its root.
    pub(super) fn file_has(&self, path: &[&str]) -> bool {
        let path: Vec<_> = path.iter().map(|key| (*key).to_owned()).collect();
        self.places.exact_key(&path).is_some()
    }

    /// Rejects the whole table.
    pub(super) fn refuse_table(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let place = self.place();
        self.faults
            .push(ConfigMistake::new(message).help(help).at(place));
    }

    /// Refuses a path with a control character on Windows, where it is an escape written by mistake.
    pub(super) fn path(&mut self, key: &str, path: &str) {
        if cfg!(windows)
            && let Some(mistake) = escapes::control_in(path, None)
        {
            let place = self.places.value_at(&self.path_to(&[key]));
            self.faults.push(mistake.at(place));
        }
    }

    pub(super) fn refuse(
        &mut self,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = self.places.value_at(&self.path_to(&[key]));
        self.faults
            .push(ConfigMistake::new(message).help(help).at(place));
    }

    /// Warns of the value of a key.
    pub(super) fn warn(&mut self, key: &str, message: String) {
        let place = self.places.value_at(&self.path_to(&[key]));
        self.warnings.push((place, message));
    }

    /// Warns of the whole table.
    pub(super) fn warn_of_table(&mut self, message: String) {
        self.warnings.push((self.place(), message));
    }

    /// Rejects the key's `value` unless it is within the two limits, inclusive; returns `true` if it is.
    pub(super) fn duration(
        &mut self,
        key: &str,
        value: Duration,
        least: Duration,
        most: Duration,
    ) -> bool {
        if least <= value && value <= most {
            return true;
        }
        // A missing value was derived from another key, which gets the error instead.
        if self.places.exact_key(&self.path_to(&[key])).is_some() {
            let (least, most) = (show(least), show(most));
            let message = format!("{} is {}, out of range", self.name(key), show(value));
            self.refuse(key, message, format!("choose from {least} to {most}"));
        }
        false
    }

    /// Requires a check to end before the next one starts.
    pub(super) fn timeout(&mut self, timeout: Duration, interval: Duration) {
        if timeout > interval {
            let name = self.name("timeout");
            let message = format!(
                "{name} is {}, above the interval of {}",
                show(timeout),
                show(interval)
            );
            self.refuse(
                "timeout",
                message,
                "a check must end before the next one starts: lower the timeout or raise the interval",
            );
        }
    }

    /// Requires a duration of at least one tick.
    pub(super) fn at_least_a_tick(&mut self, key: &str, value: Duration, tick: Duration) {
        if value < tick {
            let name = self.name(key);
            let message = format!(
                "{name} is {}, below the tick of {}",
                show(value),
                show(tick)
            );
            self.refuse(key, message, "raise it, or lower host.tick");
        }
    }

    /// Requires `key` to be at most `limit`, another key of the table.
    pub(super) fn at_most(&mut self, key: &str, value: Duration, limit: &str, most: Duration) {
        if value > most {
            let name = self.name(key);
            let message = format!(
                "{name} is {}, above the {limit} of {}",
                show(value),
                show(most)
            );
            self.refuse(key, message, format!("lower it, or raise {limit}"));
        }
    }

    /// Requires the limit of stuck calls to be reachable.
    pub(super) fn stuck_limit(&mut self, stuck_limit: u32, call_threads: u32) {
        if stuck_limit > call_threads {
            let name = self.name("stuck_limit");
            let message =
                format!("{name} is {stuck_limit}, above the call_threads of {call_threads}");
            self.refuse(
                "stuck_limit",
                message,
                "it could never be reached: lower it, or raise call_threads",
            );
        }
    }

    fn path_to(&self, segments: &[&str]) -> Vec<String> {
        let inner = segments.iter().map(|segment| (*segment).to_owned());
        self.path.iter().cloned().chain(inner).collect()
    }
}
