//! What changed between two JSON Schemas of a config, for whoever has written one.
//!
//! | change | step |
//! |---|---|
//! | a key removed; one newly required, whether it was there before or not | major |
//! | a type, a list of values, or a limit that takes less | major |
//! | another default: who leaves the key out is checked in another way | major |
//! | any other rule changed, which may take less | major |
//! | an optional key added; one no longer required; a type, values or a limit that take more; a rule removed | minor |
//! | titles, descriptions and examples | patch |
//!
//! Keys are compared by their full names, with references followed. Forms (`anyOf` and its like) that are neither a list
//! of values nor something that may be left out are compared as a whole: where they differ in more than words, they may
//! take less, and that counts as major.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use self::rules::{FORMS, LIMITS, choices, limit, types, values};
use super::{compare::Change, step::Step};

mod rules;
#[cfg(test)]
mod tests;

/// All changes from `old` to `new`.
pub(super) fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut comparison = Comparison {
        old: Schema(old),
        new: Schema(new),
        under_way: Vec::new(),
        budget: BUDGET,
        changes: Vec::new(),
    };
    comparison.compare("", old, new);
    let mut changes = comparison.changes;
    if comparison.budget == 0 && old != new {
        let change = format!("only the first {BUDGET} parts were compared, it unfolds into more");
        changes.push(Change::new(WHAT, change, Step::Major));
    }
    if changes.is_empty() && old != new {
        let change = "titles, descriptions or examples";
        changes.push(Change::new(WHAT, change, Step::Patch));
    }
    changes
}

struct Comparison<'a> {
    old: Schema<'a>,
    new: Schema<'a>,
    /// The nodes that this one lies in; one that refers to any of them has been compared.
    under_way: Vec<&'a Value>,
    /// How many more nodes are looked at: a schema can unfold into more than anybody waits for.
    budget: usize,
    changes: Vec<Change>,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (self.old.node(old), self.new.node(new));
        let is_under_way = self.under_way.iter().any(|node| std::ptr::eq(*node, old));
        if is_under_way || self.budget == 0 {
            return;
        }
        self.budget -= 1;
        let (Some(before), Some(now)) = (old.as_object(), new.as_object()) else {
            if old != new {
                self.note(path, format!("{old} → {new}"), Step::Major);
            }
            return;
        };
        self.under_way.push(old);
        for (change, step) in self.rules(before, now) {
            self.note(path, change, step);
        }
        self.keys(path, before, now);
        if let (Some(from), Some(to)) = (before.get("items"), now.get("items")) {
            self.compare(&format!("{path}[]"), from, to);
        }
        self.under_way.pop();
    }

    /// What changed of a node itself.
    fn rules(&self, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<(String, Step)> {
        let (choices_before, choices_now) = (choices(old), choices(new));
        let mut found = Vec::from_iter(types(old.get("type"), new.get("type")));
        // A list of values that becomes a type, or the other way round, has been said by either.
        found.extend(values(choices_before.as_deref(), choices_now.as_deref()));
        for (rule, greater_takes_less) in LIMITS {
            found.extend(limit(rule, greater_takes_less, old, new));
        }
        let default = |node: &Map<String, Value>| match node.get("default") {
            None | Some(Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        let (from, to) = (default(old), default(new));
        if from != to {
            found.push((format!("default {from} → {to}"), Step::Major));
        }
        for rule in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let is_a_list_of_values =
                FORMS.contains(&rule.as_str()) && choices_before.is_some() && choices_now.is_some();
            let (from, to) = (old.get(rule), new.get(rule));
            let bare = |schema: &Schema<'_>, value: Option<&Value>| value.map(|v| schema.bare(v));
            if is_compared_elsewhere(rule)
                || is_a_list_of_values
                || bare(&self.old, from) == bare(&self.new, to)
            {
                continue;
            }
            let (how, step) = match (from, to) {
                (Some(_), None) => ("removed", Step::Minor),
                (None, _) => ("added", Step::Major),
                _ => ("changed", Step::Major),
            };
            found.push((format!("rule `{rule}` {how}"), step));
        }
        found
    }

    fn keys(&mut self, path: &str, old: &'a Map<String, Value>, new: &'a Map<String, Value>) {
        let keys = |node: &'a Map<String, Value>| node.get("properties").and_then(Value::as_object);
        let (before, now) = (keys(old), keys(new));
        let (was_required, is_required) = (required(old), required(new));
        let all: BTreeSet<&String> = before.into_iter().chain(now).flat_map(Map::keys).collect();
        for key in all {
            let name = join(path, key);
            let is_required = is_required.contains(&key.as_str());
            let of = |keys: Option<&'a Map<String, Value>>| keys.and_then(|keys| keys.get(key));
            let (change, step) = match (of(before), of(now)) {
                (Some(_), None) => ("removed", Step::Major),
                (None, Some(_)) if is_required => ("added, required", Step::Major),
                (None, _) => ("added, optional", Step::Minor),
                (Some(from), Some(to)) => {
                    self.compare(&name, from, to);
                    match (was_required.contains(&key.as_str()), is_required) {
                        (false, true) => ("now required", Step::Major),
                        (true, false) => ("no longer required", Step::Minor),
                        _ => continue,
                    }
                }
            };
            self.note("", format!("key `{name}` {change}"), step);
        }
    }

    fn note(&mut self, path: &str, change: String, step: Step) {
        let of = match path {
            "" => String::new(),
            path => format!("key `{path}`: "),
        };
        let change = Change::new(WHAT, format!("{of}{change}"), step);
        self.changes.push(change);
    }
}

/// A whole schema, which references point into.
#[derive(Clone, Copy)]
struct Schema<'a>(&'a Value);

impl<'a> Schema<'a> {
    /// What the node stands for: what it refers to, and what it takes where that may be left out.
    fn node(&self, node: &'a Value) -> &'a Value {
        let mut node = node;
        for _ in 0..MAX_HOPS {
            let Some(next) = self.target(node).or_else(|| optional(node)) else {
                break;
            };
            node = next;
        }
        node
    }

    /// What the node refers to, if it says no more than that.
    fn target(&self, node: &Value) -> Option<&'a Value> {
        let node = node.as_object()?;
        let pointer = node.get("$ref")?.as_str()?.strip_prefix('#')?;
        let says_more = |key: &String| key != "$ref" && !WORDS.contains(&key.as_str());
        let says_more = node.keys().any(says_more);
        (!says_more).then(|| self.0.pointer(pointer)).flatten()
    }

    /// The value without words, and with what it refers to.
    fn bare(&self, value: &Value) -> Value {
        self.unfolded(value, &mut { BUDGET }, 0)
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
                    let target = match value {
                        Value::String(pointer) if key == "$ref" => pointer.strip_prefix('#'),
                        _ => None,
                    };
                    let target = target.and_then(|pointer| self.0.pointer(pointer));
                    let value = self.unfolded(target.unwrap_or(value), budget, depth + 1);
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

/// What a node takes besides nothing, where it takes that.
fn optional(node: &Value) -> Option<&Value> {
    let forms = node.get("anyOf")?.as_array()?;
    let is_nothing = |form: &Value| form.get("type").is_some_and(|kind| kind == "null");
    match &**forms {
        [one, nothing] if is_nothing(nothing) => Some(one),
        _ => None,
    }
}

fn required(node: &Map<String, Value>) -> Vec<&str> {
    let list = node.get("required").and_then(Value::as_array);
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

/// What only people read, and what says which words a schema is written in.
const WORDS: [&str; 7] = [
    "$schema",
    "title",
    "description",
    "examples",
    "deprecated",
    "$comment",
    "$id",
];

/// How many references may lead to one another.
const MAX_HOPS: usize = 16;

/// How many parts of a schema are looked at, and how deep forms are, of schemas that unfold without end.
const BUDGET: usize = 10_000;
const MAX_DEPTH: usize = 64;
