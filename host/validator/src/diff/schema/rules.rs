//! The changes of single rules: types, lists of values and limits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::VersionStep;

/// A node's keywords.
pub(super) type Says<'a> = BTreeMap<&'a str, &'a Value>;

/// Returns the values that a node lists, if it lists all accepted ones.
pub(super) fn choices<'a>(node: &Says<'a>) -> Option<Vec<&'a Value>> {
    if let Some(Value::Array(all)) = node.get("enum").copied() {
        return Some(all.iter().collect());
    }
    if let Some(only) = node.get("const") {
        return Some(vec![only]);
    }
    // One form per value, so that each can have a description.
    let forms = FORMS.iter().find_map(|form| node.get(*form)?.as_array())?;
    let values = forms.iter().map(|form| match form.get("enum") {
        Some(Value::Array(several)) => Some(several.iter().collect()),
        _ => form.get("const").map(|only| vec![only]),
    });
    values
        .collect::<Option<Vec<Vec<&Value>>>>()
        .map(|values| values.concat())
}

pub(super) fn types(old: Option<&Value>, new: Option<&Value>) -> Option<(String, VersionStep)> {
    let set = |value: Option<&Value>| -> Option<BTreeSet<String>> {
        let text = |one: &Value| one.as_str().map(str::to_owned);
        match value? {
            Value::Array(several) => Some(several.iter().filter_map(text).collect()),
            one => Some(text(one).into_iter().collect()),
        }
    };
    let (old, new) = (set(old), set(new));
    if old == new {
        return None;
    }
    let takes_all = match (&old, &new) {
        (_, None) => true,
        (None, Some(_)) => false,
        // Each whole number is a number.
        (Some(old), Some(new)) => old
            .iter()
            .all(|one| new.contains(one) || (one == "integer" && new.contains("number"))),
    };
    let shown = |set: Option<BTreeSet<String>>| match set {
        None => "any".to_owned(),
        Some(set) => Vec::from_iter(set).join(" or "),
    };
    let change = format!("type {} → {}", shown(old), shown(new));
    Some((
        change,
        if takes_all {
            VersionStep::Minor
        } else {
            VersionStep::Major
        },
    ))
}

pub(super) fn values(
    old: Option<&[&Value]>,
    new: Option<&[&Value]>,
) -> Option<(String, VersionStep)> {
    let shown = |values: &[&Value]| {
        let values: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
        values.join(", ")
    };
    let (old, new) = match (old, new) {
        (None, None) => return None,
        (Some(_), None) => {
            return Some((
                "takes more than a list of values".into(),
                VersionStep::Minor,
            ));
        }
        (None, Some(new)) => {
            return Some((format!("takes only {}", shown(new)), VersionStep::Major));
        }
        (Some(old), Some(new)) => (old, new),
    };
    let without = |all: &[&'_ Value], others: &[&Value]| -> Vec<String> {
        let rest = all.iter().filter(|value| !others.contains(value));
        rest.map(|value| format!("{value}")).collect()
    };
    let (gone, more) = (without(old, new), without(new, old));
    match (&*gone, &*more) {
        ([], []) => None,
        ([], more) => Some((
            format!("values {} added", more.join(", ")),
            VersionStep::Minor,
        )),
        (gone, _) => Some((
            format!("values {} removed", gone.join(", ")),
            VersionStep::Major,
        )),
    }
}

pub(super) fn limit(
    rule: &str,
    greater_takes_less: bool,
    old: &Says<'_>,
    new: &Says<'_>,
) -> Option<(String, VersionStep)> {
    let (from, to) = (
        old.get(rule).and_then(|limit| limit.as_f64()),
        new.get(rule).and_then(|limit| limit.as_f64()),
    );
    if from == to {
        return None;
    }
    let takes_less = match (from, to) {
        (Some(from), Some(to)) => (to > from) == greater_takes_less,
        (None, _) => true,
        (_, None) => false,
    };
    let shown = |value: Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
    let change = format!("{rule} {} → {}", shown(from), shown(to));
    Some((
        change,
        if takes_less {
            VersionStep::Major
        } else {
            VersionStep::Minor
        },
    ))
}

/// Limits by number, with `true` if a greater one accepts less.
pub(super) const LIMITS: [(&str, bool); 10] = [
    ("minimum", true),
    ("maximum", false),
    ("exclusiveMinimum", true),
    ("exclusiveMaximum", false),
    ("minLength", true),
    ("maxLength", false),
    ("minItems", true),
    ("maxItems", false),
    ("minProperties", true),
    ("maxProperties", false),
];

/// The keywords that list the forms of a value.
pub(super) const FORMS: [&str; 2] = ["oneOf", "anyOf"];
