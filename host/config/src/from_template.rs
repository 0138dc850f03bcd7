//! Platforms that are not written in a config: made from a template of it, for targets that were discovered.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    ConductorConfig, ConfigError,
    elements::{
        platform::{PlatformConfig, RawPlatformConfig, is_label_name, is_name},
        resolve_platform,
    },
    error::ConfigMistake,
    secrets::SecretResolver,
    spans::{self, SpanChildren, SpanTree},
};

/// A platform to be made from a template.
#[derive(Clone, Copy, Debug)]
pub struct TemplatedPlatform<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of the template.
    pub template: &'a str,
    /// The value of `{{target}}`.
    pub target: &'a str,
    /// Labels, in addition to the template's.
    pub labels: &'a BTreeMap<String, String>,
    /// The place that the target is from, for messages: `targets/shops.json, group 2`.
    pub origin: &'a str,
}

impl ConductorConfig {
    /// Returns a platform with the settings of a template, as if it were written in the config. Secrets are looked up again.
    ///
    /// # Errors
    /// If its name or a label is not valid, the template does not exist or needs more than a target, or a secret cannot be looked
    /// up. Each mistake names the platform and the origin of its target, and has the place of the template's line.
    pub fn platform_from_template(
        &self,
        made: &TemplatedPlatform<'_>,
    ) -> Result<PlatformConfig, ConfigError> {
        let mut faults = Vec::new();
        let platform = self.made(made, &mut faults);
        let from = |fault: ConfigMistake| fault.from(made.origin);
        let faults: Vec<_> = faults.into_iter().map(from).collect();
        ConfigError::unless_empty(&self.source, faults)?;
        platform.ok_or_else(|| {
            let message = format!("the target {:?} has no platform", made.target);
            ConfigError::new(Arc::clone(&self.source), vec![ConfigMistake::new(message)])
        })
    }

    fn made(
        &self,
        made: &TemplatedPlatform<'_>,
        faults: &mut Vec<ConfigMistake>,
    ) -> Option<PlatformConfig> {
        let TemplatedPlatform { name, template, .. } = *made;
        let at = self
            .source
            .places()
            .key_at(&spans::path(&["template", template]));
        let mut refuse = |message: String, help: &str| {
            faults.push(ConfigMistake::new(message).help(help).at(at.clone()));
        };
        if !is_name(name) {
            let help = "a name has 1 to 64 letters, digits, `_`, `-` and `.`";
            refuse(format!("{name:?} is no name of a platform"), help);
        }
        for label in made.labels.keys().filter(|label| !is_label_name(label)) {
            let help = "a label has letters, digits and `_`, not a digit first; rename it";
            refuse(format!("{label:?} is no name of a label"), help);
        }
        if !faults.is_empty() {
            return None;
        }
        let own = json!({ "template": template, "target": made.target, "labels": made.labels });
        let Value::Object(own) = own else { return None };
        let (values, platform) = self
            .templates_joined
            .platform(name, template, own, at, faults)?;
        let mut places = SpanTree {
            inside: SpanChildren::Table(BTreeMap::from([(
                "platform".to_owned(),
                SpanTree {
                    inside: SpanChildren::Table(BTreeMap::from([(name.to_owned(), platform)])),
                    ..SpanTree::default()
                },
            )])),
            ..SpanTree::default()
        };
        self.resolved(name, values, &mut places, faults)
    }

    fn resolved(
        &self,
        name: &str,
        mut values: Map<String, Value>,
        places: &mut SpanTree,
        faults: &mut Vec<ConfigMistake>,
    ) -> Option<PlatformConfig> {
        let mut lookup = SecretResolver::new(&self.base_dir, &self.own, places);
        let secrets = lookup.of_table("platform", name, &mut values);
        faults.append(&mut lookup.faults);
        let raw: RawPlatformConfig = match serde_json::from_value(Value::Object(values)) {
            Ok(raw) => raw,
            Err(error) => {
                faults.push(ConfigMistake::new(format!("platform.{name}: {error}")));
                return None;
            }
        };
        let mut platform = resolve_platform(raw, name, self, places, faults);
        platform.secrets = secrets;
        Some(platform)
    }
}
