//! Templates: gives platforms the settings that they inherit, before these are validated further.
//!
//! Each template is joined with those that it is based on. A platform that names one gets its settings, with the parameters in
//! their texts filled in, and overrides them key by key. Values and places are joined alike, so that a mistake in an inherited
//! value is shown in the template's line.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use conductor_runtime::wording::{bare_or_quoted, listed, nearest};
use serde_json::{Map, Value};

use super::{
    error::ConfigMistake,
    joining,
    parameters::{self, ParameterValues},
    source::SourceText,
    spans::{self, SpanTree},
    syntax::ParsedToml,
};

/// The templates of a config, each joined with those that it is based on.
#[derive(Clone, Debug, Default)]
pub(super) struct TemplateSet {
    joined: BTreeMap<String, JoinedTemplate>,
    /// Those with a mistake, which is reported already.
    broken: BTreeSet<String>,
}

/// A template, joined with those that it is based on.
#[derive(Clone, Debug)]
struct JoinedTemplate {
    /// All keys, as they are written.
    table: Settings,
    /// `true` if a platform or another template uses it.
    is_used: bool,
}

/// A table, and its places.
#[derive(Clone, Debug, Default)]
struct Settings {
    values: Map<String, Value>,
    places: SpanTree,
}

/// Gives the platforms in `values` the settings of their templates, and takes those with a mistake out; returns the templates.
///
/// `declared` has the names of all templates in the file, also of those that were taken out of `values`.
pub(super) fn expand(
    values: &mut Value,
    places: &mut SpanTree,
    declared: &BTreeSet<String>,
    faults: &mut Vec<ConfigMistake>,
) -> TemplateSet {
    let mut set = TemplateSet::join(values, places, declared, faults);
    let Some(platforms) = values.get_mut("platform").and_then(Value::as_object_mut) else {
        return set;
    };
    platforms.retain(|name, platform| {
        let path = spans::path(&["platform", name]);
        let Some(own) = platform.as_object_mut() else {
            return true;
        };
        let Some(template) = own.get("template").and_then(Value::as_str) else {
            return has_no_parameters(own, &path, places, faults);
        };
        let template = template.to_owned();
        if set.broken.contains(&template)
            || (!set.joined.contains_key(&template) && declared.contains(&template))
        {
            return false;
        }
        let own = Settings {
            values: std::mem::take(own),
            places: places
                .get_mut(&["platform", name])
                .map(std::mem::take)
                .unwrap_or_default(),
        };
        let before = faults.len();
        if let Some(joined) = set.joined.get_mut(&template) {
            joined.is_used = true;
        }
        let merged = set.inherited(name, &template, own, faults);
        *platform = Value::Object(merged.values);
        put(places, &["platform", name], merged.places);
        faults.len() == before
    });
    set.write_back(values, places);
    set
}

/// Returns the places of everything in files that may have mistakes, and of what platforms inherit.
pub(super) fn places(source: &SourceText) -> SpanTree {
    // Without the word there is nothing to inherit.
    let parsed = source
        .text()
        .contains("template")
        .then(|| joining::parse(source));
    let Some(Ok(ParsedToml {
        mut values,
        mut places,
        ..
    })) = parsed
    else {
        return joining::places(source);
    };
    expand(&mut values, &mut places, &BTreeSet::new(), &mut Vec::new());
    places
}

/// Checks that a platform without a template has nothing to fill into one.
fn has_no_parameters(
    own: &Map<String, Value>,
    path: &[String],
    places: &SpanTree,
    faults: &mut Vec<ConfigMistake>,
) -> bool {
    let Some(key) = ["target", "params"]
        .into_iter()
        .find(|key| own.contains_key(*key))
    else {
        return true;
    };
    let at = [path, &[key.to_owned()]].concat();
    let message = format!(
        "{}: the platform has no template to fill it into",
        places.name(&at)
    );
    let fault = ConfigMistake::new(message).help("add template = \"NAME\", or remove the key");
    faults.push(fault.at(places.key_at(&at)));
    false
}

impl TemplateSet {
    /// Joins each template with those that it is based on, and checks its parameters.
    fn join(
        values: &Value,
        places: &SpanTree,
        declared: &BTreeSet<String>,
        faults: &mut Vec<ConfigMistake>,
    ) -> Self {
        let mut set = Self::default();
        let Some(templates) = values.get("template").and_then(Value::as_object) else {
            return set;
        };
        for name in templates.keys() {
            let mut chain = vec![name.clone()];
            match chain_of(&mut chain, templates, places, declared) {
                Ok(true) => {}
                Ok(false) => {
                    set.broken.insert(name.clone());
                    continue;
                }
                Err(fault) => {
                    faults.push(fault);
                    set.broken.insert(name.clone());
                    continue;
                }
            }
            let table = chain.iter().rev().fold(Settings::default(), |base, name| {
                let own = Settings {
                    values: templates[name].as_object().cloned().unwrap_or_default(),
                    places: places.get(&["template", name]).cloned().unwrap_or_default(),
                };
                base.overridden_by(own)
            });
            let joined = JoinedTemplate {
                table,
                is_used: false,
            };
            match joined.wrong_parameters(name, places) {
                wrong if wrong.is_empty() => drop(set.joined.insert(name.clone(), joined)),
                wrong => {
                    faults.extend(wrong);
                    set.broken.insert(name.clone());
                }
            }
        }
        let bases = templates
            .values()
            .filter_map(|template| template.get("template"));
        for base in bases.filter_map(Value::as_str) {
            if let Some(base) = set.joined.get_mut(base) {
                base.is_used = true;
            }
        }
        set
    }

    /// Returns the settings of a platform: those of its template, overridden by its own.
    fn inherited(
        &self,
        name: &str,
        template: &str,
        own: Settings,
        faults: &mut Vec<ConfigMistake>,
    ) -> Settings {
        let shown = bare_or_quoted(name);
        let at = own.places.key_at(&["template".to_owned()]);
        let at = if at.is_empty() {
            own.places.key.clone()
        } else {
            at
        };
        let Some(joined) = self.joined.get(template) else {
            let known: Vec<_> = self.joined.keys().map(String::as_str).collect();
            let help = match nearest(template, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if known.is_empty() => "the config has no templates".to_owned(),
                None => format!("the templates are {}", listed(&known)),
            };
            let message = format!("platform.{shown}: there is no template {template:?}");
            faults.push(ConfigMistake::new(message).help(help).at(at));
            return own;
        };
        let mut params = joined.defaults();
        if let Some(given) = own.values.get("params").and_then(Value::as_object) {
            for (param, value) in given {
                if !joined.knows(param) {
                    let message = format!(
                        "platform.{shown}.params: template {template:?} has no parameter `{param}`"
                    );
                    let fault = ConfigMistake::new(message).help(joined.known_parameters());
                    let place = own.places.key_at(&["params".to_owned(), param.clone()]);
                    faults.push(fault.at(place));
                }
                params.insert(param.clone(), value.clone());
            }
        }
        let target = own.values.get("target").and_then(Value::as_str);
        let filler = ParameterValues {
            name: Some(name),
            target,
            params: &params,
        };
        let mut inherited = joined.table.clone();
        for key in ["template", "params", "required"] {
            inherited.values.remove(key);
        }
        let missing = parameters::fill_table(&mut inherited.values, &filler);
        for parameter in missing {
            let (what, key) = match parameter.as_str() {
                "target" | "url" => ("a target".to_owned(), "target = \"…\"".to_owned()),
                parameter => (
                    format!("the parameter `{parameter}`"),
                    format!("params = {{ {parameter} = … }}"),
                ),
            };
            let message = format!("platform.{shown}: its template {template:?} needs {what}");
            let fault = ConfigMistake::new(message).help(format!("add {key}"));
            faults.push(fault.at(at.clone()));
        }
        let merged = inherited.overridden_by(own);
        if !merged.values.contains_key("plugin") {
            let message = format!(
                "platform.{shown} lacks the key `plugin`, and so does its template {template:?}"
            );
            faults.push(
                ConfigMistake::new(message)
                    .help("add it to one of them")
                    .at(at),
            );
        }
        merged
    }

    /// Returns the settings of a platform that is not in the file, and their places; `at` is that of its own.
    pub(super) fn platform(
        &self,
        name: &str,
        template: &str,
        own: Map<String, Value>,
        at: Range<usize>,
        faults: &mut Vec<ConfigMistake>,
    ) -> Option<(Map<String, Value>, SpanTree)> {
        let own = Settings {
            values: own,
            places: SpanTree {
                key: at,
                ..SpanTree::default()
            },
        };
        let before = faults.len();
        let merged = self.inherited(name, template, own, faults);
        (faults.len() == before).then_some((merged.values, merged.places))
    }

    /// Puts the joined templates back in the place of those that are written, and takes out those with a mistake.
    fn write_back(&self, values: &mut Value, places: &mut SpanTree) {
        let Some(templates) = values.get_mut("template").and_then(Value::as_object_mut) else {
            return;
        };
        templates.retain(|name, _| self.joined.contains_key(name));
        for (name, joined) in &self.joined {
            let mut table = joined.table.values.clone();
            table.remove("template");
            templates.insert(name.clone(), Value::Object(table));
            put(places, &["template", name], joined.table.places.clone());
        }
    }

    /// Returns the names of the templates without a mistake.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.joined.keys().map(String::as_str)
    }

    /// Returns `true` if a template has a mistake, which is reported already.
    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Returns the plugin of a template, if it names one.
    pub(super) fn plugin(&self, name: &str) -> Option<&str> {
        self.joined.get(name)?.table.values.get("plugin")?.as_str()
    }

    /// Returns `true` if clients may name targets for a template: it has all that a check of one needs.
    pub(super) fn is_module(&self, name: &str) -> bool {
        self.joined.get(name).is_some_and(|joined| {
            let needs = joined.required().next().is_some();
            let has_target = parameters::used(&joined.table.values)
                .iter()
                .any(|(_, parameter)| parameter == "target" || parameter == "url");
            joined.table.values.contains_key("plugin") && !needs && (has_target || !joined.is_used)
        })
    }
}

/// Completes the chain of a template and those that it is based on, from its first link; returns `false` if one of them was taken
/// out of the values.
fn chain_of(
    chain: &mut Vec<String>,
    templates: &Map<String, Value>,
    places: &SpanTree,
    declared: &BTreeSet<String>,
) -> Result<bool, ConfigMistake> {
    loop {
        let last = &chain[chain.len() - 1];
        let Some(template) = templates.get(last) else {
            return Ok(false);
        };
        let Some(base) = template.get("template").and_then(Value::as_str) else {
            return Ok(true);
        };
        let path = spans::path(&["template", last, "template"]);
        let (name, place) = (places.name(&path), places.value_at(&path));
        if chain.iter().any(|link| link == base) {
            let links = chain.join(" → ");
            let message =
                format!("{name}: a template cannot be based on itself ({links} → {base})");
            return Err(ConfigMistake::new(message)
                .help("remove one of these links")
                .at(place));
        }
        if !templates.contains_key(base) && !declared.contains(base) {
            let known: Vec<_> = templates.keys().map(String::as_str).collect();
            let help = match nearest(base, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("the templates are {}", listed(&known)),
            };
            let message = format!("{name}: there is no template {base:?}");
            return Err(ConfigMistake::new(message).help(help).at(place));
        }
        if chain.len() == DEEPEST {
            let message = format!("{name}: more than {DEEPEST} templates are based on each other");
            return Err(ConfigMistake::new(message)
                .help("join some of them")
                .at(place));
        }
        chain.push(base.to_owned());
    }
}

impl JoinedTemplate {
    /// Returns the parameters with a default.
    fn defaults(&self) -> BTreeMap<String, Value> {
        let params = self.table.values.get("params").and_then(Value::as_object);
        let params = params.into_iter().flatten();
        params
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Returns the parameters that a platform has to give.
    fn required(&self) -> impl Iterator<Item = &str> {
        let required = self.table.values.get("required").and_then(Value::as_array);
        let params = self.table.values.get("params").and_then(Value::as_object);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        required.filter(move |name| params.is_none_or(|params| !params.contains_key(*name)))
    }

    fn knows(&self, parameter: &str) -> bool {
        let params = self.table.values.get("params").and_then(Value::as_object);
        params.is_some_and(|params| params.contains_key(parameter))
            || self.required().any(|name| name == parameter)
    }

    fn known_parameters(&self) -> String {
        let mut known = parameters::BUILT_IN.map(str::to_owned).to_vec();
        known.extend(self.defaults().into_keys());
        known.extend(self.required().map(str::to_owned));
        let known: Vec<_> = known.iter().map(|name| format!("{{{{{name}}}}}")).collect();
        let (last, others) = known.split_last().expect("some are built in");
        format!("there are {} and {last}", others.join(", "))
    }

    /// Returns a mistake for each parameter that is used and does not exist, or is declared under the name of a built-in one.
    fn wrong_parameters(&self, name: &str, places: &SpanTree) -> Vec<ConfigMistake> {
        let of_template = spans::path(&["template", name]);
        let shown = |path: &[String]| places.name(&[&of_template, path].concat());
        let used = parameters::used(&self.table.values);
        let unknown = used.into_iter().filter(|(_, parameter)| {
            !parameters::BUILT_IN.contains(&parameter.as_str()) && !self.knows(parameter)
        });
        let unknown = unknown.map(|(path, parameter)| {
            let message = format!(
                "{}: there is no parameter {{{{{parameter}}}}}",
                shown(&path)
            );
            let help = format!(
                "{}; declare others in `params`, with a default, or in `required`",
                self.known_parameters()
            );
            ConfigMistake::new(message)
                .help(help)
                .at(self.table.places.value_at(&path))
        });
        let taken = parameters::BUILT_IN
            .into_iter()
            .filter(|name| self.knows(name))
            .map(|parameter| {
                let message = format!("{}: the parameter `{parameter}` is built in", shown(&[]));
                let place = self
                    .table
                    .places
                    .key_at(&["params".to_owned(), parameter.to_owned()]);
                ConfigMistake::new(message)
                    .help("choose another name")
                    .at(place)
            });
        unknown.chain(taken).collect()
    }
}

impl Settings {
    /// Returns these settings, overridden key by key.
    fn overridden_by(mut self, own: Self) -> Self {
        merge(&mut self.values, own.values);
        self.places.overlay(own.places);
        self
    }
}

/// Overrides values; tables are merged.
fn merge(base: &mut Map<String, Value>, own: Map<String, Value>) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// Replaces the places of a table.
fn put(places: &mut SpanTree, path: &[&str], tree: SpanTree) {
    if let Some(place) = places.get_mut(path) {
        *place = tree;
    }
}

/// The most templates that are based on each other.
const DEEPEST: usize = 8;
