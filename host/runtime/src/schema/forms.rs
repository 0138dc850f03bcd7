//! Finds the intended form of a value that matches none of several, so that the message names the wrong key in that
//! form. Serde's enums produce such forms: one per variant.

use jsonschema::{ValidationError, error::ValidationErrorKind as Kind};
use serde_json::{Map, Value};

use super::{
    SchemaViolation,
    explain::{ViolationExplainer, at_key, at_value, describe, named, one_of, range},
};
use crate::{
    redaction::REDACTED,
    wording::{listed, nearest, shorten},
};

/// One of the possible forms of a value, with the value's errors in that form.
struct CandidateForm<'a> {
    schema: &'a Value,
    errors: &'a [ValidationError<'static>],
}

impl ViolationExplainer<'_> {
    /// Explains why a value matches none of its forms.
    pub(super) fn no_form(
        &self,
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
        depth: usize,
    ) -> Vec<SchemaViolation> {
        let schemas = self.schema.pointer(error.schema_path().as_str());
        let schemas = schemas.and_then(Value::as_array);
        let forms: Vec<CandidateForm<'_>> = context
            .iter()
            .enumerate()
            .map(|(index, errors)| CandidateForm {
                schema: self.resolved(schemas.and_then(|all| all.get(index))),
                errors,
            })
            // TOML has no null, and an empty table means an omitted one.
            .filter(|form| form.schema["type"] != "null" && !is_empty_table(form.schema))
            .collect();
        let path = self.path(error);
        if let Some(key) = missing_name(&forms) {
            let message = format!("{} lacks the key `{key}`", self.table(&path));
            return vec![at_value(path, message, None)];
        }
        if let [only] = forms.as_slice() {
            return self.as_meant(only, depth);
        }
        let at = error.instance_path().as_str();
        let meant = match error.instance().as_ref() {
            Value::Object(table) => {
                if let Some(found) = self.tagged(&path, table, &forms, depth) {
                    return found;
                }
                let tables = forms.iter().filter(|form| is_table(form.schema));
                tables.min_by_key(|form| distance(form, table))
            }
            _ => {
                let mut fitting = forms.iter().filter(|form| !is_of_other_type(form, at));
                fitting.next().filter(|_| fitting.next().is_none())
            }
        };
        match meant {
            Some(meant) => {
                let mut found = self.as_meant(meant, depth);
                if error.instance().is_object()
                    && let Some(first) = found.first_mut()
                    && first.help.is_none()
                {
                    let keys = self.listed_keys(meant.schema);
                    first.help = Some(format!("the nearest of its forms has the keys {keys}"));
                }
                found
            }
            None => vec![at_value(
                path.clone(),
                self.of_no_type(&path, error, &forms),
                None,
            )],
        }
    }

    /// Returns the errors of the value in this form.
    fn as_meant(&self, form: &CandidateForm<'_>, depth: usize) -> Vec<SchemaViolation> {
        let errors = form.errors.iter().take(MAX_ERRORS);
        errors
            .flat_map(|error| self.explained(error, depth + 1))
            .collect()
    }

    /// Explains a table whose forms are distinguished by the text of one key, or by their only key; `None` for other
    /// forms.
    fn tagged(
        &self,
        path: &[String],
        table: &Map<String, Value>,
        forms: &[CandidateForm<'_>],
        depth: usize,
    ) -> Option<Vec<SchemaViolation>> {
        let Some((tag, values)) = tag(forms) else {
            return self.by_only_key(path, table, forms, depth);
        };
        let choices: Vec<&Value> = values.iter().map(|(_, value)| *value).collect();
        let Some(given) = table.get(tag) else {
            let message = format!("{} lacks the key `{tag}`", self.table(path));
            let help = format!("it must be {}", one_of(&choices));
            return Some(vec![at_value(path.to_vec(), message, Some(help))]);
        };
        if let Some((form, value)) = values.iter().find(|(_, value)| *value == given) {
            let mut found = self.as_meant(form, depth);
            for violation in &mut found {
                let because = format!("with `{tag} = {}`", shorten(&value.to_string()));
                violation.help = Some(match violation.help.take() {
                    Some(help) => format!("{because}: {help}"),
                    None if violation.path == path => {
                        format!("{because}, its keys are {}", self.listed_keys(form.schema))
                    }
                    None => because,
                });
            }
            return Some(found);
        }
        let mut inner = path.to_vec();
        inner.push(tag.to_owned());
        let is_hidden = self.is_hidden(&inner);
        let shown = match is_hidden {
            true => REDACTED.to_owned(),
            false => describe(given),
        };
        let message = format!(
            "{} must be {}, not {shown}",
            self.name(&inner),
            one_of(&choices)
        );
        let near = given.as_str().filter(|_| !is_hidden);
        let near = near.and_then(|text| nearest(text, choices.iter().filter_map(|c| c.as_str())));
        let help = near.map(|near| format!("did you mean {near:?}?"));
        Some(vec![at_value(inner, message, help)])
    }

    /// Explains a table of forms with one key each, which names the form.
    fn by_only_key(
        &self,
        path: &[String],
        table: &Map<String, Value>,
        forms: &[CandidateForm<'_>],
        depth: usize,
    ) -> Option<Vec<SchemaViolation>> {
        let tables = forms.iter().filter(|form| is_table(form.schema));
        let named: Vec<(&String, &CandidateForm<'_>)> = tables
            .map(|form| Some((only_key(form.schema)?, form)))
            .collect::<Option<_>>()?;
        let names: Vec<&String> = named.iter().map(|(name, _)| *name).collect();
        let mut given = named.iter().filter(|(name, _)| table.contains_key(*name));
        let whose = self.table(path);
        match (given.next(), given.next()) {
            (Some((_, form)), None) => Some(self.as_meant(form, depth)),
            (Some((first, _)), Some((second, _))) => {
                let message = format!("{whose} has both `{first}` and `{second}`");
                let help = format!("keep one of {}", listed(&names));
                Some(vec![at_value(path.to_vec(), message, Some(help))])
            }
            (None, _) if named.is_empty() => None,
            (None, _) => {
                let near = table.keys().find_map(|key| {
                    let near = nearest(key, names.iter().map(|name| name.as_str()))?;
                    Some((key, near))
                });
                Some(vec![match near {
                    Some((key, near)) => {
                        let mut inner = path.to_vec();
                        inner.push(key.clone());
                        let message = format!("{whose} has no key `{key}`");
                        at_key(inner, message, format!("did you mean `{near}`?"))
                    }
                    None => {
                        let message =
                            format!("{whose} must have one of the keys {}", listed(&names));
                        at_value(path.to_vec(), shorten(&message), None)
                    }
                }])
            }
        }
    }

    /// Returns the message for a value whose type matches no form, or several.
    fn of_no_type(
        &self,
        path: &[String],
        error: &ValidationError<'_>,
        forms: &[CandidateForm<'_>],
    ) -> String {
        let mut words: Vec<String> = Vec::new();
        for form in forms {
            let word = match form.schema {
                schema if schema["enum"].is_array() => one_of(
                    &schema["enum"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>(),
                ),
                schema if !schema["const"].is_null() => one_of(&[&schema["const"]]),
                schema => match (&schema["type"], only_key(schema)) {
                    (_, Some(key)) if fixed_text(&schema["properties"][key]).is_null() => {
                        format!("a table with the key `{key}`")
                    }
                    (Value::String(name), None) => named(name) + &range(schema),
                    _ => continue,
                },
            };
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let found = match error.instance().as_ref() {
            Value::Array(_) | Value::Object(_) => describe(error.instance()),
            _ if self.is_hidden(path) => REDACTED.to_owned(),
            value => describe(value),
        };
        let name = self.name(path);
        match words.is_empty() {
            true => format!("{name} fits none of its forms"),
            false => shorten(&format!(
                "{name} must be {}, not {found}",
                words.join(" or ")
            )),
        }
    }

    fn listed_keys(&self, schema: &Value) -> String {
        let mut keys = Vec::new();
        self.keys_of(schema, &mut keys, 0);
        shorten(&listed(&keys))
    }

    /// Returns the schema at the end of a chain of references.
    fn resolved<'s>(&'s self, schema: Option<&'s Value>) -> &'s Value {
        let mut schema = schema.unwrap_or(&Value::Null);
        for _ in 0..MAX_REFERENCES {
            let target = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
            match target.and_then(|pointer| self.schema.pointer(pointer)) {
                Some(target) if schema["properties"].is_null() => schema = target,
                _ => break,
            }
        }
        schema
    }
}

/// Returns the missing key, if each form is only a name for it.
fn missing_name<'a>(forms: &[CandidateForm<'a>]) -> Option<&'a str> {
    let name = |form: &CandidateForm<'a>| {
        let table = form.schema.as_object().filter(|table| table.len() == 1)?;
        match table.get("required")?.as_array()?.as_slice() {
            [Value::String(name)] => Some(name.as_str()),
            _ => None,
        }
    };
    let names: Option<Vec<&str>> = forms.iter().map(name).collect();
    names?.first().copied()
}

/// Returns the key whose text distinguishes the most forms, with those forms and their texts.
fn tag<'f, 'a>(
    forms: &'f [CandidateForm<'a>],
) -> Option<(&'a str, Vec<(&'f CandidateForm<'a>, &'a Value)>)> {
    let first = forms.iter().find(|form| is_table(form.schema))?;
    let keys = first.schema["properties"].as_object()?.iter();
    let fixed = keys.filter(|(_, property)| !fixed_text(property).is_null());
    fixed
        .map(|(key, _)| {
            let form_and_text = |form: &'f CandidateForm<'a>| {
                let text = fixed_text(&form.schema["properties"][key]);
                (!text.is_null()).then_some((form, text))
            };
            let forms: Vec<_> = forms.iter().filter_map(form_and_text).collect();
            (key.as_str(), forms)
        })
        .max_by_key(|(_, forms)| forms.len())
        .filter(|(_, tagged)| tagged.len() > 1)
}

fn fixed_text(property: &Value) -> &Value {
    match property["enum"].as_array().map(Vec::as_slice) {
        Some([only]) => only,
        _ => &property["const"],
    }
}

/// Returns the one key that a form requires and has.
fn only_key(schema: &Value) -> Option<&String> {
    let properties = schema["properties"].as_object()?;
    let mut keys = properties.keys();
    let key = keys.next().filter(|_| keys.next().is_none())?;
    let required = schema["required"].as_array()?;
    required.iter().any(|name| name == key).then_some(key)
}

fn is_table(schema: &Value) -> bool {
    schema["type"] == "object" || schema["properties"].is_object()
}

/// Returns the distance of a table from a form: errors, less their common keys.
fn distance(form: &CandidateForm<'_>, table: &Map<String, Value>) -> usize {
    let properties = form.schema["properties"].as_object();
    let common = table
        .keys()
        .filter(|key| properties.is_some_and(|own| own.contains_key(*key)));
    let common = common.count();
    form.errors.len() + (table.len() - common) * 2
}

/// Returns `true` if the value itself has another type than the form.
fn is_of_other_type(form: &CandidateForm<'_>, at: &str) -> bool {
    form.errors.iter().any(|error| {
        error.instance_path().as_str() == at && matches!(error.kind(), Kind::Type { .. })
    })
}

/// Maximum number of errors explained per form.
const MAX_ERRORS: usize = 20;
/// Maximum length of a chain of references.
const MAX_REFERENCES: usize = 8;

/// Returns `true` if only an empty table is valid.
fn is_empty_table(schema: &Value) -> bool {
    schema["type"] == "object"
        && schema["additionalProperties"] == false
        && schema.as_object().is_some_and(|schema| schema.len() == 2)
}
