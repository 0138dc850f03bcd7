//! The templates of a config, whose probes are created only when a client names a target.

use conductor_config::{ConductorConfig, ConfigError, TemplateConfig};
use conductor_engine::judge::{self, ConfigCandidate, TrialSettings};
use conductor_library::Vetted;
use conductor_runtime::{
    LoadError,
    loader::{self, GenerationSettings},
};

use super::{ConfigJudge, explain};

impl ConfigJudge {
    /// Validates the configs of a plugin's templates against its schema, all but the values that a request fills in.
    ///
    /// # Errors
    /// If the library does not load at all.
    pub(super) fn templates(
        &self,
        config: &ConductorConfig,
        vetted: &Vetted,
        how: &GenerationSettings,
    ) -> Result<Vec<ConfigError>, LoadError> {
        let of_plugin = |template: &&TemplateConfig| {
            template.plugin == vetted.manifest.id && template.secrets.unresolved.is_empty()
        };
        let templates: Vec<_> = config.templates.values().filter(of_plugin).collect();
        if templates.is_empty() {
            return Ok(Vec::new());
        }
        let candidates: Vec<_> = templates
            .iter()
            .map(|template| ConfigCandidate {
                platform: "target".into(),
                config: template.config_for("target").to_string().into(),
                interval: config.host.interval,
                labels: Default::default(),
                subject: config.subject_of_template(template),
            })
            .collect();
        let start = |ended| loader::for_trials(vetted, how, self.clock, ended);
        let verdict = judge::judge(start, &candidates, TrialSettings::new(false), self.clock)?;
        let mut mistakes = Vec::new();
        for (template, findings) in templates.into_iter().zip(verdict.findings) {
            for finding in findings {
                mistakes.extend(match explain(&template.plugin, finding) {
                    Ok((message, help)) => {
                        Some(config.mistake_of_template(template, &message, help))
                    }
                    Err(mut violations) => {
                        let depth = ["template", &template.name, "config"].len();
                        violations.retain(|violation| {
                            let path = violation.path.get(depth..).unwrap_or_default();
                            !template.has_parameter_at(path)
                        });
                        (!violations.is_empty()).then(|| config.mistakes(violations))
                    }
                });
            }
        }
        Ok(mistakes)
    }
}
