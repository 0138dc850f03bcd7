//! The metadata that all objects of the API have, and their names in messages.

use conductor_net::{short, show_age};
use serde::Deserialize;

use crate::api::seconds;

/// The metadata of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectMetadata {
    pub(crate) name: String,
    /// Empty for objects of the cluster.
    pub(crate) namespace: String,
    pub(crate) creation_timestamp: String,
    /// Set when the object is being deleted.
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) owner_references: Vec<OwnerReference>,
}

/// The object that another one belongs to.
#[derive(Debug, Deserialize)]
pub(crate) struct OwnerReference {
    pub(crate) kind: String,
    pub(crate) uid: String,
}

/// A condition of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectCondition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) last_transition_time: Option<String>,
}

impl ObjectMetadata {
    /// Returns `namespace/name`, or the name of an object of the cluster.
    pub(crate) fn shown(&self) -> String {
        match self.namespace.as_str() {
            "" => short(&self.name, MAX_NAME),
            namespace => short(&format!("{namespace}/{}", self.name), MAX_NAME),
        }
    }
}

/// Returns the condition of this type.
pub(crate) fn condition<'a>(
    conditions: &'a [ObjectCondition],
    kind: &str,
) -> Option<&'a ObjectCondition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Returns `true` if the condition of this type has this status.
pub(crate) fn has(conditions: &[ObjectCondition], kind: &str, status: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == status)
}

/// Formats the time since a time of the API: ", for 3 min 20 s"; empty if it is unknown.
pub(crate) fn since(time: Option<&str>, now: f64) -> String {
    let Some(age) = time.and_then(|time| age(time, now)) else {
        return String::new();
    };
    format!(", for {}", show_age(age))
}

/// Returns the time since a time of the API; zero for one that is still to come.
pub(crate) fn age(time: &str, now: f64) -> Option<std::time::Duration> {
    let age = (now - seconds(time)?).max(0.0);
    std::time::Duration::try_from_secs_f64(age).ok()
}

/// Formats a list for a message: the first few, and the number of the others.
pub(crate) fn first_few(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMED).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if let Some(others @ 1..) = names.len().checked_sub(MAX_NAMED) {
        text += &format!(" and {others} more");
    }
    text
}

/// Formats a reason of the API in brackets; empty if there is none.
pub(crate) fn in_brackets(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({})", short(reason, MAX_NAME)),
    }
}

/// Converts a number of objects for a metric.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn measured(count: usize) -> f64 {
    count as f64
}

/// Most objects that a message names.
const MAX_NAMED: usize = 3;

/// Longest name or reason in a message, in characters.
const MAX_NAME: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_three_and_counts_the_rest() {
        let names: Vec<_> = (1..=5).map(|nth| format!("n{nth}")).collect();
        assert_eq!(first_few(&names[..3]), "n1, n2, n3");
        assert_eq!(first_few(&names), "n1, n2, n3 and 2 more");
        assert_eq!(first_few(&[]), "");
    }

    #[test]
    fn ages_are_by_the_servers_clock() {
        let at = |time| since(Some(time), 1_700_000_200.0);
        assert_eq!(at("2023-11-14T22:13:20Z"), ", for 3 min 20 s");
        assert_eq!(at("2023-11-14T22:20:00Z"), ", for 0 s");
        assert_eq!(at("soon"), "");
    }
}
