//! The input of a test: the library, its configs, and ways to call it.

use std::{
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::{
    CallFailure, LoadError, ProbeSpec,
    call_context::CallContext,
    door::{self, HostFunctions, HostSide, OpenedLibrary, PluginProbe},
    observer::CallObserver,
    redaction,
    schema::CompiledSchema,
};
use conductor_types::ErrorType;
use serde_json::Value;

#[cfg(target_os = "linux")]
use super::needs::PluginProgress;
use super::{
    TestPlatform,
    advice::LanguageAdvice,
    child::{TestOrder, TestProcessMessage, ValidatorChannel},
    configs,
    verdict::TestVerdict,
};
use crate::report_lint::ReportLint;

/// A library under test.
pub(super) struct LibraryUnderTest {
    pub(super) order: TestOrder,
    pub(super) clock: Clock,
    /// The irregularities in what the plugin returned.
    pub(super) lint: Arc<ReportLint>,
    /// Accepts connections and never responds.
    pub(super) black_hole: TcpListener,
    pub(super) talk: Mutex<ValidatorChannel>,
}

impl LibraryUnderTest {
    /// Sends a message to the validator; ends this process if the validator is gone.
    pub(super) fn say(&self, what: &TestProcessMessage) {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(line) = serde_json::to_string(what) {
            let _ = talk.send(&line);
        }
    }

    /// Announces the next action, in case this process does not survive it; as in "loading it".
    pub(super) fn doing(&self, what: impl Into<String>) {
        self.say(&TestProcessMessage::Doing(redaction::redact_text(
            what.into(),
        )));
    }

    /// Reports the plugin's progress.
    #[cfg(target_os = "linux")]
    pub(super) fn reached(&self, stage: PluginProgress) {
        self.say(&TestProcessMessage::Reached(stage));
    }

    /// Returns the advice for the plugin's language.
    pub(super) fn cure(&self, advice: LanguageAdvice) -> &'static str {
        advice.in_language(self.order.language)
    }

    /// Loads the private copy at `path`.
    pub(super) fn load(&self, path: &Path) -> Result<Box<dyn OpenedLibrary>, LoadError> {
        self.load_with(path, HostFunctions::Current)
    }

    fn load_with(
        &self,
        path: &Path,
        functions: HostFunctions,
    ) -> Result<Box<dyn OpenedLibrary>, LoadError> {
        self.doing("loading it");
        let manifest = self.order.manifest.manifest();
        let host = HostSide {
            observer: Some(Arc::clone(&self.lint) as Arc<dyn CallObserver>),
            functions,
        };
        let opened = door::open(path, Path::new(&self.order.origin), &manifest, host)?;
        let secrets = self.secrets(&*opened);
        if !secrets.is_empty() {
            redaction::learn(secrets.iter().map(String::as_str));
            self.say(&TestProcessMessage::Secrets(secrets));
        }
        Ok(opened)
    }

    /// Returns the secrets in the config by the plugin's schema.
    fn secrets(&self, door: &dyn OpenedLibrary) -> Vec<String> {
        let config = self.order.platform.config.as_ref();
        let config = config.map(ToString::to_string);
        let schema = &door.description().config_schema;
        config.map_or_else(Vec::new, |config| schema.secrets_in(&config))
    }

    /// Returns `true` if the config has secrets.
    pub(super) fn has_secrets(&self, door: &dyn OpenedLibrary) -> bool {
        !self.order.secrets.is_empty() || !self.secrets(door).is_empty()
    }

    /// Loads it through its ABI, for a test on another subject.
    pub(super) fn door(&self) -> Result<Box<dyn OpenedLibrary>, TestVerdict> {
        self.door_with(HostFunctions::Current)
    }

    /// Loads it through its ABI, with these functions for it to call.
    pub(super) fn door_with(
        &self,
        functions: HostFunctions,
    ) -> Result<Box<dyn OpenedLibrary>, TestVerdict> {
        self.load_with(&self.order.path, functions)
            .map_err(|error| TestVerdict::skipped(format!("it does not load: {}", error.message)))
    }

    /// Returns its config schema.
    pub(super) fn schema(&self, door: &dyn OpenedLibrary) -> Result<CompiledSchema, TestVerdict> {
        CompiledSchema::new(door.description().config_schema.value())
            .map_err(|error| TestVerdict::skipped(error.to_string()))
    }

    /// Creates a probe, with a generous deadline.
    pub(super) fn create(
        &self,
        door: &dyn OpenedLibrary,
        config: &str,
    ) -> Result<Box<dyn PluginProbe>, CallFailure> {
        let spec = Arc::new(self.order.platform.spec(config));
        let deadline = self.clock.now() + CREATE;
        let call = CallContext::new(Arc::clone(&spec), deadline, self.clock);
        door.create(&spec, &call)
    }

    /// Drops a probe.
    pub(super) fn close(&self, mut probe: Box<dyn PluginProbe>) -> Result<(), CallFailure> {
        probe.close(&self.call(CREATE))
    }

    pub(super) fn call(&self, within: Duration) -> CallContext {
        let spec = Arc::new(self.order.platform.spec("{}"));
        CallContext::new(spec, self.clock.now() + within, self.clock)
    }

    /// Returns a config that creates a probe: the validator's, or the first working one of the schema's examples.
    pub(super) fn good_config(&self, door: &dyn OpenedLibrary) -> Result<Value, TestVerdict> {
        let candidates = configs::candidates(self, door);
        if candidates.is_empty() {
            return Err(TestVerdict::skipped(self.cure(LanguageAdvice::Examples)));
        }
        let mut refusal = String::new();
        for config in candidates {
            self.doing(format!("creating a probe with {config}"));
            match self.create(door, &config.to_string()) {
                Ok(probe) => {
                    self.doing("dropping a probe");
                    let _ = self.close(probe);
                    return Ok(config);
                }
                Err(failure) => refusal = told(&failure),
            }
        }
        Err(TestVerdict::skipped(format!(
            "no config creates a probe ({refusal}), see config/creates"
        )))
    }

    /// Returns `true` if the user gave a config that is known to work.
    pub(super) fn is_config_given(&self) -> bool {
        self.order.platform.config.is_some()
    }
}

impl TestPlatform {
    /// Returns a probe of this platform, without a state.
    pub(super) fn spec(&self, config: &str) -> ProbeSpec {
        ProbeSpec {
            interval: self.interval,
            labels: self.labels.clone(),
            ..ProbeSpec::new(PLATFORM, config)
        }
    }
}

/// Formats a failure for the report.
pub(super) fn told(failure: &CallFailure) -> String {
    match failure.kind {
        ErrorType::Panic => format!("a panic: {failure}"),
        _ => failure.to_string(),
    }
}

/// Unwraps a value, or ends the test with the verdict.
macro_rules! go_on {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(verdict) => return verdict,
        }
    };
}
pub(super) use go_on;

/// The platform's name for probes.
const PLATFORM: &str = "validated";
const CREATE: Duration = Duration::from_secs(5);
