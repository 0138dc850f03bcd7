//! Parses the text into JSON values and their places, or reports where it is not TOML.

use std::ops::Range;

use conductor_runtime::wording::{bare_or_quoted, shorten};
use serde_json::{Number, Value};
use toml::{
    Spanned,
    de::{DeFloat, DeInteger, DeTable, DeValue},
};

use super::{
    elements::salvage::MalformedSetting,
    error::ConfigMistake,
    escapes,
    spans::{SpanChildren, SpanTree},
};

/// The values of a TOML text, with their places.
pub(super) struct ParsedToml {
    /// Its values; null in place of refused ones.
    pub(super) values: Value,
    pub(super) places: SpanTree,
    /// Duplicate keys, of which the first counts, and values that cannot be passed to a plugin.
    pub(super) faults: Vec<ConfigMistake>,
    /// The refused values.
    pub(super) refused: Vec<MalformedSetting>,
}

/// Returns the text's values and their places.
///
/// Dates become strings. A float without a fraction becomes an integer, as in JSON Schema.
///
/// # Errors
/// When it is not TOML.
pub(super) fn parse(text: &str) -> Result<ParsedToml, Vec<ConfigMistake>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut faults = syntax_faults(text, &errors);
    if errors.iter().any(|error| error.message() != DUPLICATE_KEY) {
        return Err(faults);
    }
    let before = faults.len();
    let root = DeValue::Table(tree.into_inner());
    let (values, places) = convert(text, 0..0, &Spanned::new(0..0, root), &mut faults);
    let mut refused = Vec::new();
    if faults.len() > before {
        nulls(&values, &mut Vec::new(), &mut refused);
    }
    Ok(ParsedToml {
        values,
        places,
        faults,
        refused,
    })
}

/// Finds the refused values; TOML itself has no null.
fn nulls(value: &Value, path: &mut Vec<String>, found: &mut Vec<MalformedSetting>) {
    let mut inner = |key: String, value: &Value| {
        path.push(key);
        nulls(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(table) => table
            .iter()
            .for_each(|(key, value)| inner(key.clone(), value)),
        Value::Array(list) => {
            let list = list.iter().enumerate();
            list.for_each(|(index, value)| inner(index.to_string(), value));
        }
        Value::Null => found.push(MalformedSetting {
            path: path.clone(),
            at_key: false,
        }),
        _ => {}
    }
}

/// Returns the places of everything in a text that may have mistakes.
pub(super) fn places(text: &str) -> SpanTree {
    let tree = DeTable::parse_recoverable(text).0.into_inner();
    convert(
        text,
        0..0,
        &Spanned::new(0..0, DeValue::Table(tree)),
        &mut Vec::new(),
    )
    .1
}

fn convert(
    source: &str,
    key: Range<usize>,
    spanned: &Spanned<DeValue<'_>>,
    faults: &mut Vec<ConfigMistake>,
) -> (Value, SpanTree) {
    let mut refuse = |message: String| {
        faults.push(ConfigMistake::new(message).at(spanned.span()));
        Value::Null
    };
    let (value, inside) = match spanned.get_ref() {
        DeValue::String(text) => {
            // On other systems `"C:\new"` may be any text.
            let garbled = cfg!(windows).then(|| {
                let written = source.get(spanned.span()).unwrap_or_default();
                escapes::garbled_path(written, text)
            });
            let value = match garbled.flatten() {
                Some(mistake) => {
                    faults.push(mistake.at(spanned.span()));
                    Value::Null
                }
                None => Value::from(text.as_ref()),
            };
            (value, SpanChildren::Nothing)
        }
        DeValue::Boolean(yes) => (Value::from(*yes), SpanChildren::Nothing),
        DeValue::Datetime(date) => (Value::from(date.to_string()), SpanChildren::Nothing),
        DeValue::Integer(number) => {
            let value = integer(number).unwrap_or_else(|| {
                refuse(format!(
                    "{} does not fit: whole numbers go from {} to {}",
                    shorten(&number.to_string()),
                    i64::MIN,
                    i64::MAX
                ))
            });
            (value, SpanChildren::Nothing)
        }
        DeValue::Float(number) => {
            let value = float(number).unwrap_or_else(|| {
                refuse(format!(
                    "{number} cannot be passed to a plugin: JSON has no such number"
                ))
            });
            (value, SpanChildren::Nothing)
        }
        DeValue::Array(list) => {
            let (values, places) = list
                .iter()
                .map(|item| convert(source, 0..0, item, faults))
                .unzip();
            (Value::Array(values), SpanChildren::List(places))
        }
        DeValue::Table(table) => {
            let entries = table.iter().map(|(key, value)| {
                let (value, place) = convert(source, key.span(), value, faults);
                let name = key.get_ref().to_string();
                ((name.clone(), value), (name, place))
            });
            let (values, places) = entries.unzip();
            (Value::Object(values), SpanChildren::Table(places))
        }
    };
    let value_span = spanned.span();
    let place = SpanTree {
        key,
        value: value_span,
        inside,
    };
    (value, place)
}

fn integer(number: &DeInteger<'_>) -> Option<Value> {
    let value = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    Some(Value::from(value))
}

fn float(number: &DeFloat<'_>) -> Option<Value> {
    let value: f64 = number.as_str().parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the range tested, without a fraction"
    )]
    if value.fract() == 0.0 && value.abs() <= EXACT_INTEGERS {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

/// Returns every duplicate key and the first other mistake: the later ones are mostly its consequences.
fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<ConfigMistake> {
    let mut faults = Vec::new();
    let mut broken = false;
    let mut repeated_table: Option<Range<usize>> = None;
    for error in errors {
        if faults.len() >= MOST_LOOKED_UP {
            break;
        }
        let place = clamp(text, error.span().unwrap_or(text.len()..text.len()));
        if error.message() != DUPLICATE_KEY {
            if !std::mem::replace(&mut broken, true) {
                let mistake = ConfigMistake::new(format!("not TOML: {}", shorten(error.message())));
                let mistake = match escapes::cure(text, place.start) {
                    Some(cure) => mistake.help(cure),
                    None => mistake,
                };
                faults.push(mistake.at(place));
            }
            continue;
        }
        // A repeated table's keys repeat those of the first one.
        if repeated_table
            .as_ref()
            .is_some_and(|table| table.contains(&place.start))
        {
            continue;
        }
        let line = line_start(text, place.start);
        if text[line..].trim_start().starts_with('[') {
            repeated_table = Some(line..next_table(text, place.end));
        }
        faults.push(duplicate(text, place));
    }
    faults
}

/// Names the duplicate key at `place` in full, with the place of the first one.
fn duplicate(text: &str, place: Range<usize>) -> ConfigMistake {
    let line = line_start(text, place.start);
    let header = text[line..].lines().next().unwrap_or_default();
    let (path, first) = if header.trim_start().starts_with('[') {
        let path = only_path(&places(header));
        let first = places(&text[..line]).exact_key(&path);
        (path, first)
    } else {
        let key = text[place.clone()].trim_matches(['"', '\'']);
        match places(&text[..place.start]).last_named(key) {
            Some((path, first)) => (path, Some(first)),
            None => (Vec::new(), None),
        }
    };
    let name: Vec<String> = path.iter().map(|key| bare_or_quoted(key)).collect();
    let name = if name.is_empty() {
        shorten(&text[place.clone()])
    } else {
        name.join(".")
    };
    let fault = ConfigMistake::new(format!("{name} is given twice"))
        .first(first)
        .at(place);
    match path.as_slice() {
        [section, _] if section == "platform" => fault.help("give each platform a name of its own"),
        _ => fault.help("keep one of the two"),
    }
}

/// Returns the path in a table's header.
fn only_path(place: &SpanTree) -> Vec<String> {
    let mut path = Vec::new();
    let mut inside = &place.inside;
    loop {
        inside = match inside {
            SpanChildren::Table(table) if table.len() == 1 => {
                path.extend(table.keys().cloned());
                &table.values().next().expect("it has one entry").inside
            }
            SpanChildren::List(list) if list.len() == 1 => &list[0].inside,
            _ => return path,
        };
    }
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

fn next_table(text: &str, from: usize) -> usize {
    text[from..]
        .find("\n[")
        .map_or(text.len(), |found| from + found)
}

fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    start..text.ceil_char_boundary(span.end.max(start))
}

/// The toml crate's message for a duplicate key; a snapshot test detects a change.
const DUPLICATE_KEY: &str = "duplicate key";

/// A float represents every integer up to 2^53.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Finding the first place of a repeated key costs another parse, so this many are looked up at most.
const MOST_LOOKED_UP: usize = 20;
