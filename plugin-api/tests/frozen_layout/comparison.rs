//! Compares two descriptions of the ABI: what changed, and what was only appended.

use std::{collections::BTreeMap, fmt};

/// One difference.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Difference {
    /// A frozen item has changed.
    Changed(String),
    /// An item is new, in a place where that is allowed.
    Appended(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(what) | Self::Appended(what) => f.write_str(what),
        }
    }
}

/// Returns the differences between the layout frozen `then` and that of `today`.
pub(crate) fn differences(then: &str, today: &str) -> Vec<Difference> {
    let (then, today) = (blocks(then), blocks(today));
    let mut found = Vec::new();
    for (name, then) in &then {
        let Some(today) = today.get(name) else {
            found.push(Difference::Changed(format!("{name} is gone")));
            continue;
        };
        let lines = then.iter().zip(today);
        let others = lines.filter(|(then, today)| then != today);
        found.extend(others.map(|(then, today)| {
            Difference::Changed(format!("{name} had `{then}`, it has `{today}`"))
        }));
        for line in then.iter().skip(today.len()) {
            found.push(Difference::Changed(format!("{name} has lost `{line}`")));
        }
        let grows = name.starts_with("values of ")
            || name == "manifest"
            || then
                .first()
                .is_some_and(|line| line.starts_with("prefix type"));
        for line in today.iter().skip(then.len()) {
            let what = format!("{name} has gained `{line}`");
            found.push(match grows {
                true => Difference::Appended(what),
                false => Difference::Changed(format!("{what}, and it is passed by value")),
            });
        }
    }
    let new = today.keys().filter(|name| !then.contains_key(*name));
    found.extend(new.map(|name| Difference::Appended(format!("{name} is new"))));
    found
}

fn blocks(description: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks = BTreeMap::new();
    for block in description.split("\n\n") {
        let mut lines = block.trim().lines();
        if let Some(head) = lines.next() {
            blocks.insert(
                head.trim_matches(['[', ']']).to_owned(),
                lines.map(str::to_owned).collect(),
            );
        }
    }
    blocks
}

#[test]
fn a_change_and_a_growth_are_told_apart() {
    let then = "[A]\nprefix type, 1 fields fixed\n0: a: u8\n\n[B]\nstruct, 1 bytes\n0: b: u8\n";
    let kinds = |today: &str| -> Vec<bool> {
        let found = differences(then, today).into_iter();
        found.map(|d| matches!(d, Difference::Changed(_))).collect()
    };
    assert!(kinds(then).is_empty());
    let appended = then.replace("a: u8\n", "a: u8\n1: more: u8\n");
    assert_eq!(kinds(&appended), [false]);
    let new_type = format!("{then}\n[C]\nstruct, 1 bytes\n0: c: u8\n");
    assert_eq!(kinds(&new_type), [false]);
    for changed in [
        then.replace("b: u8\n", "b: u8\n1: more: u8\n"),
        then.replace("a: u8", "a: u16"),
        then.replace("0: a: u8\n", "0: more: u8\n1: a: u8\n"),
        then.replace("0: a: u8\n", ""),
        then.replace("[B]", "[C]"),
    ] {
        assert!(kinds(&changed).contains(&true), "{changed}");
    }
}
