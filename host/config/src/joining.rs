//! Joins the tables of all files: each file is parsed by itself, and what two of them set is a mistake.

use std::{collections::BTreeSet, sync::LazyLock};

use conductor_runtime::wording::bare_or_quoted;
use serde_json::{Map, Value};

use super::{
    error::ConfigMistake,
    schema,
    source::SourceText,
    spans::{SpanChildren, SpanTree},
    syntax::{self, ParsedToml},
};

/// Returns the values and places of all files.
///
/// # Errors
/// When a file is not TOML.
pub(super) fn parse(source: &SourceText) -> Result<ParsedToml, Vec<ConfigMistake>> {
    let mut all = ParsedToml {
        values: Value::Object(Map::new()),
        places: empty_places(),
        faults: Vec::new(),
        refused: Vec::new(),
    };
    let mut is_broken = false;
    for (index, file) in source.files().iter().enumerate() {
        let start = file.range.start;
        let shifted = |faults: Vec<ConfigMistake>| {
            let faults = faults.into_iter();
            faults.map(move |fault| fault.shifted(start))
        };
        match syntax::parse(&source.text()[file.range.clone()]) {
            Err(faults) => {
                is_broken = true;
                all.faults.extend(shifted(faults));
            }
            Ok(mut parsed) => {
                parsed.places.shift(start);
                all.faults.extend(shifted(parsed.faults));
                all.refused.extend(parsed.refused);
                if index > 0 {
                    all.faults
                        .extend(refused_include(&mut parsed.values, &mut parsed.places));
                }
                let (faults, path) = (&mut all.faults, &mut Vec::new());
                let from = (parsed.values, parsed.places);
                join((&mut all.values, &mut all.places), from, path, faults);
            }
        }
    }
    if is_broken { Err(all.faults) } else { Ok(all) }
}

/// Returns the places of everything in files that may have mistakes.
pub(super) fn places(source: &SourceText) -> SpanTree {
    let mut all = empty_places();
    for file in source.files() {
        let mut places = syntax::places(&source.text()[file.range.clone()]);
        places.shift(file.range.start);
        join_places(&mut all, places, &mut Vec::new());
    }
    all
}

fn empty_places() -> SpanTree {
    SpanTree {
        inside: SpanChildren::Table(Default::default()),
        ..SpanTree::default()
    }
}

/// Removes the key `include` of an included file, which is a mistake.
fn refused_include(values: &mut Value, places: &mut SpanTree) -> Option<ConfigMistake> {
    values.as_object_mut()?.remove(INCLUDE)?;
    let SpanChildren::Table(keys) = &mut places.inside else {
        return None;
    };
    let place = keys.remove(INCLUDE)?;
    let fault = ConfigMistake::new("an included file cannot include others")
        .help("add these files to `include` in the main config file");
    Some(fault.at(place.key))
}

/// Adds the keys of another file to those of the files before it, whose keys stay.
fn join(
    (values, places): (&mut Value, &mut SpanTree),
    (new_values, new_places): (Value, SpanTree),
    path: &mut Vec<String>,
    faults: &mut Vec<ConfigMistake>,
) {
    let (Value::Object(values), Value::Object(new_values)) = (values, new_values) else {
        return;
    };
    let (SpanChildren::Table(places), SpanChildren::Table(mut new_places)) =
        (&mut places.inside, new_places.inside)
    else {
        return;
    };
    for (key, new_value) in new_values {
        let new_place = new_places.remove(&key).unwrap_or_default();
        let Some(value) = values.get_mut(&key) else {
            places.insert(key.clone(), new_place);
            values.insert(key, new_value);
            continue;
        };
        let place = places.entry(key.clone()).or_default();
        path.push(key);
        if value.is_object() && new_value.is_object() && !is_one_thing(path) {
            join((value, place), (new_value, new_place), path, faults);
        } else {
            faults.push(given_twice(path, place, new_place));
        }
        path.pop();
    }
}

/// Does for places alone what [`join`] does.
fn join_places(places: &mut SpanTree, new_places: SpanTree, path: &mut Vec<String>) {
    let (SpanChildren::Table(places), SpanChildren::Table(new_places)) =
        (&mut places.inside, new_places.inside)
    else {
        return;
    };
    for (key, new_place) in new_places {
        let Some(place) = places.get_mut(&key) else {
            places.insert(key, new_place);
            continue;
        };
        path.push(key);
        if !is_one_thing(path) {
            join_places(place, new_place, path);
        }
        path.pop();
    }
}

fn given_twice(path: &[String], first: &SpanTree, second: SpanTree) -> ConfigMistake {
    let name: Vec<_> = path.iter().map(|key| bare_or_quoted(key)).collect();
    let help = match path {
        [section, _] if section == "platform" => "give each platform a name of its own",
        _ => "keep one of the two",
    };
    ConfigMistake::new(format!("{} is given twice", name.join(".")))
        .help(help)
        .first(Some(first.key.clone()))
        .at(second.key)
}

/// Returns `true` for the path of a platform or another named table, which is in one file as a whole.
fn is_one_thing(path: &[String]) -> bool {
    matches!(path, [section, _] if NAMED.contains(section))
}

/// The sections whose tables have names that the operator chooses.
static NAMED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let schema = schema::json_schema();
    let sections = schema["properties"].as_object().into_iter().flatten();
    sections
        .filter(|(_, section)| section["additionalProperties"].is_object())
        .map(|(name, _)| name.clone())
        .collect()
});

/// The key of the main file that names the others.
pub(super) const INCLUDE: &str = "include";
