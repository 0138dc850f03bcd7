//! The changes between two JSON Schemas of a config, for users who have written one.
//!
//! | change | step |
//! |---|---|
//! | a key removed; one newly required, whether it existed before or not | major |
//! | a type, a list of values, or a limit that accepts less | major |
//! | another default: configs without the key are checked differently | major |
//! | any other rule changed, which may accept less | major |
//! | an optional key added; one no longer required; a type, values or a limit that accept more; a rule removed | minor |
//! | titles, descriptions and examples | patch |
//!
//! Keys are compared by their full names, with references followed. Forms (such as `anyOf`) that are neither a list of
//! values nor an optional value are compared as a whole: if they differ in more than descriptions, they may accept
//! less, and that counts as major.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use self::rules::{FORMS, LIMITS, Says, choices, limit, types, values};
use super::{compare::VersionChange, step::VersionStep};

mod rules;
#[cfg(test)]
mod tests;

/// Returns all changes from `old` to `new`.
pub(super) fn changes(old: &Value, new: &Value) -> Vec<VersionChange> {
    let mut comparison = SchemaComparison {
        old: SchemaDocument(old),
        new: SchemaDocument(new),
        under_way: Vec::new(),
        budget: BUDGET,
        changes: Vec::new(),
    };
    comparison.compare("", old, new);
    let mut changes = comparison.changes;
    if comparison.budget == 0 && old != new {
        let change = format!("only the first {BUDGET} parts were compared, it unfolds into more");
        changes.push(VersionChange::new(WHAT, change, VersionStep::Major));
    }
    if changes.is_empty() && old != new {
        let change = "titles, descriptions or examples";
        changes.push(VersionChange::new(WHAT, change, VersionStep::Patch));
    }
    changes
}

struct SchemaComparison<'a> {
    old: SchemaDocument<'a>,
    new: SchemaDocument<'a>,
    /// The pairs of nodes around this one; a reference to any of them has been compared.
    under_way: Vec<[&'a Value; 2]>,
    /// The number of nodes still to examine: some schemas unfold without end.
    budget: usize,
    changes: Vec<VersionChange>,
}

impl<'a> SchemaComparison<'a> {
    fn compare(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let (before, now) = (self.old.node(old), self.new.node(new));
        let pair = [before.stands_for, now.stands_for];
        let is_pair =
            |other: &[&Value; 2]| other.iter().zip(pair).all(|(a, b)| std::ptr::eq(*a, b));
        if self.under_way.iter().any(is_pair) || self.budget == 0 {
            return;
        }
        self.budget -= 1;
        let (Some(before), Some(now)) = (before.says, now.says) else {
            if old != new {
                self.note(path, format!("{old} → {new}"), VersionStep::Major);
            }
            return;
        };
        self.under_way.push(pair);
        for (change, step) in self.rules(&before, &now) {
            self.note(path, change, step);
        }
        self.keys(path, &before, &now);
        match (before.get("items"), now.get("items")) {
            (Some(from), Some(to)) => self.compare(&format!("{path}[]"), from, to),
            (None, Some(_)) => self.note(path, "rule `items` added".into(), VersionStep::Major),
            (Some(_), None) => self.note(path, "rule `items` removed".into(), VersionStep::Minor),
            (None, None) => {}
        }
        self.under_way.pop();
    }

    /// Returns the changes of a node itself.
    fn rules(&self, old: &Says<'_>, new: &Says<'_>) -> Vec<(String, VersionStep)> {
        let (choices_before, choices_now) = (choices(old), choices(new));
        let mut found = Vec::from_iter(types(old.get("type").copied(), new.get("type").copied()));
        // A list of values that becomes a type, or the reverse, is covered by either.
        found.extend(values(choices_before.as_deref(), choices_now.as_deref()));
        for (rule, greater_takes_less) in LIMITS {
            found.extend(limit(rule, greater_takes_less, old, new));
        }
        let default = |node: &Says<'_>| match node.get("default") {
            None | Some(Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        let (from, to) = (default(old), default(new));
        if from != to {
            found.push((format!("default {from} → {to}"), VersionStep::Major));
        }
        // A secret is a text as before; only what the host shows of it changes.
        let is_secret = |node: &Says<'_>| node.get("writeOnly") == Some(&&Value::Bool(true));
        match (is_secret(old), is_secret(new)) {
            (false, true) => found.push(("is now a secret".into(), VersionStep::Patch)),
            (true, false) => found.push(("is no longer a secret".into(), VersionStep::Patch)),
            _ => {}
        }
        for &rule in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let is_a_list_of_values =
                FORMS.contains(&rule) && choices_before.is_some() && choices_now.is_some();
            let (from, to) = (old.get(rule), new.get(rule));
            let bare = |schema: &SchemaDocument<'_>, value: Option<&&Value>| {
                value.map(|value| schema.bare(rule, value))
            };
            if is_compared_elsewhere(rule)
                || is_a_list_of_values
                || bare(&self.old, from) == bare(&self.new, to)
            {
                continue;
            }
            let (how, step) = match (from, to) {
                (Some(_), None) => ("removed", VersionStep::Minor),
                (None, _) => ("added", VersionStep::Major),
                _ => ("changed", VersionStep::Major),
            };
            found.push((format!("rule `{rule}` {how}"), step));
        }
        found
    }

    fn keys(&mut self, path: &str, old: &Says<'a>, new: &Says<'a>) {
        let keys = |node: &Says<'a>| node.get("properties").and_then(|keys| keys.as_object());
        let (before, now) = (keys(old), keys(new));
        let (was_required, is_required) = (required(old), required(new));
        let listed = before.into_iter().chain(now).flat_map(Map::keys);
        // A key may be required without being listed.
        let all = listed
            .map(String::as_str)
            .chain(was_required.union(&is_required).copied());
        for key in all.collect::<BTreeSet<_>>() {
            let name = join(path, key);
            let (was_required, is_required) =
                (was_required.contains(key), is_required.contains(key));
            let of = |keys: Option<&'a Map<String, Value>>| keys.and_then(|keys| keys.get(key));
            let (from, to) = (of(before), of(now));
            if let (Some(from), Some(to)) = (from, to) {
                self.compare(&name, from, to);
            }
            let (change, step) = match (from, to) {
                (Some(_), None) => ("removed", VersionStep::Major),
                (None, Some(_)) if is_required => ("added, required", VersionStep::Major),
                (None, Some(_)) => ("added, optional", VersionStep::Minor),
                _ if is_required && !was_required => ("now required", VersionStep::Major),
                _ if was_required && !is_required => ("no longer required", VersionStep::Minor),
                _ => continue,
            };
            self.note("", format!("key `{name}` {change}"), step);
        }
    }

    fn note(&mut self, path: &str, change: String, step: VersionStep) {
        let of = match path {
            "" => String::new(),
            path => format!("key `{path}`: "),
        };
        let change = VersionChange::new(WHAT, format!("{of}{change}"), step);
        self.changes.push(change);
    }
}

/// A part of a schema.
struct SchemaNode<'a> {
    /// Its identity when it is met again: the target, if it is only a reference.
    stands_for: &'a Value,
    /// `None` if it is no object.
    says: Option<Says<'a>>,
}

/// A whole schema, the target of references.
#[derive(Clone, Copy)]
struct SchemaDocument<'a>(&'a Value);

impl<'a> SchemaDocument<'a> {
    /// Returns the node's keywords, with those of its reference, or of its optional value.
    ///
    /// Its own keywords override those of the target, as its default does. If the two have different rules that both
    /// apply, the reference stays, and is compared as a whole.
    fn node(&self, node: &'a Value) -> SchemaNode<'a> {
        let mut stands_for = node;
        let Some(map) = node.as_object() else {
            return SchemaNode {
                stands_for,
                says: None,
            };
        };
        let mut says: Says<'a> = entries(map).collect();
        for _ in 0..MAX_HOPS {
            let Some((by, next)) = self.next(&says) else {
                break;
            };
            let Some(inner) = next.as_object() else {
                break;
            };
            let reference = says.remove(by);
            let clashes = |(key, value): (&str, &Value)| {
                is_rule(key)
                    && key != "default"
                    && says.get(key).is_some_and(|other| *other != value)
            };
            if entries(inner).any(clashes) {
                says.extend(reference.map(|reference| (by, reference)));
                break;
            }
            if !says.keys().any(|key| is_rule(key)) {
                stands_for = next;
            }
            for (key, value) in entries(inner) {
                says.entry(key).or_insert(value);
            }
        }
        SchemaNode {
            stands_for,
            says: Some(says),
        }
    }

    /// Returns the node's reference or optional value, and the keyword that names it.
    fn next(&self, says: &Says<'a>) -> Option<(&'static str, &'a Value)> {
        if let Some(pointer) = says.get("$ref") {
            let pointer = pointer.as_str()?.strip_prefix('#')?;
            return Some(("$ref", self.0.pointer(pointer)?));
        }
        Some(("anyOf", optional(says.get("anyOf").copied()?)?))
    }

    /// Returns the value of a key without descriptions, and with references resolved.
    fn bare(&self, key: &str, value: &Value) -> Value {
        self.unfolded(self.target(key, value), &mut { BUDGET }, 0)
    }

    /// Returns the target of a reference; any other value unchanged.
    fn target<'v>(&self, key: &str, value: &'v Value) -> &'v Value
    where
        'a: 'v,
    {
        let target = match value {
            Value::String(pointer) if key == "$ref" => pointer.strip_prefix('#'),
            _ => None,
        };
        let target = target.and_then(|pointer| self.0.pointer(pointer));
        target.unwrap_or(value)
    }

    fn unfolded(&self, value: &Value, budget: &mut usize, depth: usize) -> Value {
        if *budget == 0 || depth > MAX_DEPTH {
            return Value::Null;
        }
        *budget -= 1;
        match value {
            Value::Object(map) => {
                let kept = map.iter().filter(|(key, _)| !WORDS.contains(&key.as_str()));
                kept.map(|(key, value)| {
                    let value = self.unfolded(self.target(key, value), budget, depth + 1);
                    (key.clone(), value)
                })
                .collect()
            }
            Value::Array(all) => {
                let all = all.iter();
                all.map(|one| self.unfolded(one, budget, depth + 1))
                    .collect()
            }
            other => other.clone(),
        }
    }
}

/// Returns the other one of two forms of which one is null.
fn optional(forms: &Value) -> Option<&Value> {
    let is_nothing = |form: &Value| form.get("type").is_some_and(|kind| kind == "null");
    match &**forms.as_array()? {
        [one, nothing] if is_nothing(nothing) => Some(one),
        _ => None,
    }
}

fn entries(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().map(|(key, value)| (key.as_str(), value))
}

/// Returns `true` if the keyword is a rule rather than a description.
fn is_rule(key: &str) -> bool {
    key != "$defs" && !WORDS.contains(&key)
}

fn required<'a>(node: &Says<'a>) -> BTreeSet<&'a str> {
    let list = node.get("required").and_then(|list| list.as_array());
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn is_compared_elsewhere(rule: &str) -> bool {
    let elsewhere = [
        "type",
        "enum",
        "const",
        "default",
        "properties",
        "required",
        "items",
        "$defs",
        "writeOnly",
    ];
    WORDS.contains(&rule)
        || elsewhere.contains(&rule)
        || LIMITS.iter().any(|(limit, _)| *limit == rule)
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

const WHAT: &str = "config";

/// Keywords for people only, and those that name the schema's dialect.
const WORDS: [&str; 7] = [
    "$schema",
    "title",
    "description",
    "examples",
    "deprecated",
    "$comment",
    "$id",
];

/// The longest chain of references.
const MAX_HOPS: usize = 16;

/// Limit of the examined parts of a schema, and of the depth of forms, for schemas that unfold without end.
const BUDGET: usize = 10_000;
const MAX_DEPTH: usize = 64;
