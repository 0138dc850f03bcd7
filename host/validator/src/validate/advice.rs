//! Advice for a finding, specific to the plugin's language.

use conductor_library::PluginLanguage;

/// A piece of advice that depends on the language.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LanguageAdvice {
    /// Export only the plugin's entry point.
    Exports,
    /// Report an unknown state as a failure.
    Failure,
    /// Refuse a config in `create`.
    RefuseConfig,
    /// Name the key, the rule and the cure in a refusal.
    NameTheKey,
    /// Refuse a config with the kind for config errors.
    ConfigKind,
    /// Call one of the host's functions before a check ends.
    Report,
    /// Say why there is no probe.
    NoProbe,
    /// Do without interval and labels.
    AnyPlatform,
    /// Keep reports within the host's limits.
    LegalReport,
    /// Log instead of printing.
    Log,
    /// Limit each wait to the remaining time.
    Deadline,
    /// Check for cancellation.
    Cancelled,
    /// The same while waiting, for a check that occupies its thread.
    CancelledOrLate,
    /// End an asynchronous check that was given up.
    CancelAsync,
    /// Do not fail in a drop.
    Drop,
    /// Allocate memory so that it may be refused.
    LowMemory,
    /// Describe each key of the config.
    DescribeKeys,
    /// Give examples in the schema.
    Examples,
    /// Declare a need.
    #[cfg_attr(
        all(not(target_os = "linux"), not(test)),
        expect(dead_code, reason = "only Linux finds undeclared needs")
    )]
    DeclareNeeds,
    /// Make the schema smaller.
    ShortSchema,
    /// Locate a crash.
    Crash,
}

impl LanguageAdvice {
    /// Returns the advice for a language.
    pub(super) fn in_language(self, language: PluginLanguage) -> &'static str {
        match language {
            PluginLanguage::Rust => self.in_rust(),
            PluginLanguage::C => self.in_c(),
            PluginLanguage::Cpp => self.in_cpp(),
            PluginLanguage::Go => self.in_go(),
        }
    }

    fn in_rust(self) -> &'static str {
        match self {
            Self::Exports => {
                "build it as a cdylib: other exported symbols can be mistaken for another library's"
            }
            Self::Failure => "return a Failure for what it could not find out",
            Self::RefuseConfig => "refuse it: return Failure::config(\"key `x`: …\")",
            Self::NameTheKey => {
                "name the key, the rule and the cure: Failure::config(\"key `x`: …\")"
            }
            Self::ConfigKind => "use Failure::config, so that the operator looks there",
            Self::Report | Self::NoProbe => "return a report or a Failure",
            Self::AnyPlatform => {
                "Context::interval() may be None, and a label may be missing or any text: do without it, or refuse the platform with Failure::config(\"label `x`: …\")"
            }
            Self::LegalReport => {
                "keep messages to one line of UTF-8, report at most 64 measurements named as Prometheus does and 256 series of declared metrics, and leave out values that are not finite"
            }
            Self::Log => "log with tracing: what is printed has no level and no platform",
            Self::Deadline => {
                "give every wait the time that is left, Context::remaining(), connecting and looking up names included"
            }
            Self::Cancelled => {
                "honour the deadline, and ask Context::is_cancelled() where you wait in a loop"
            }
            Self::CancelledOrLate => {
                "ask Context::is_cancelled() while waiting, or leave it: it keeps a thread until its deadline"
            }
            Self::CancelAsync => "let go of everything when the check's future is dropped",
            Self::Drop => "drop must not panic: what it cannot do is lost anyway",
            Self::LowMemory => {
                "a host replaces its worker; take less at a time, or ask for it so that it may be refused (try_reserve)"
            }
            Self::DescribeKeys => {
                "say in a doc comment what it is for: it is all that operators see of it"
            }
            Self::Examples => {
                "its schema gives no config to try: give an example, #[schemars(example = …)], or --config"
            }
            Self::DeclareNeeds => "declare it: export_plugin! { …, needs: [NEEDS] }",
            Self::ShortSchema => "describe less in the config's schema, or split the plugin",
            Self::Crash => {
                "a host would lose its worker over it: run the test in a debugger, or look for a core file"
            }
        }
    }

    fn in_c(self) -> &'static str {
        match self {
            Self::Exports => {
                "compile with -fvisibility=hidden: other exported symbols can be mistaken for another library's"
            }
            Self::Failure => {
                "call conductor_fail(call, CONDUCTOR_FAILURE_ERROR, …) for what it could not find out"
            }
            Self::RefuseConfig => {
                "refuse it: conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, \"key `x`: …\") and return NULL"
            }
            Self::NameTheKey => {
                "name the key, the rule and the cure: conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, \"key `x`: …\")"
            }
            Self::ConfigKind => "use CONDUCTOR_FAILURE_CONFIG, so that the operator looks there",
            Self::Report => {
                "call conductor_report or conductor_fail on every path, before `check` returns or conductor_complete is called"
            }
            Self::NoProbe => "call conductor_fail with the reason before `create` returns NULL",
            Self::AnyPlatform => {
                "conductor_interval_ns(call) may be 0, and conductor_label returns `otherwise` where a platform has no such label: do without it, or refuse the platform in `create` with CONDUCTOR_FAILURE_CONFIG"
            }
            Self::LegalReport => {
                "keep messages to one line of UTF-8, report at most 64 measurements named as Prometheus does and 256 series of declared metrics, leave out values that are not finite, and give each failure a message and a kind of the header"
            }
            Self::Log => "log with conductor_log: what is printed has no level and no platform",
            Self::Deadline => {
                "give every wait the time that is left, conductor_remaining_ns(call), connecting and looking up names included"
            }
            Self::Cancelled => {
                "honour the deadline, and ask conductor_is_cancelled(call) where you wait in a loop"
            }
            Self::CancelledOrLate => {
                "ask conductor_is_cancelled(call) while waiting, or leave it: it keeps a thread until its deadline"
            }
            Self::CancelAsync => "complete the check in `cancel`, or soon after it",
            Self::Drop => "`destroy` must not fail: what it cannot do is lost anyway",
            Self::LowMemory => {
                "a host replaces its worker; check what malloc returns, and call conductor_fail where it is NULL"
            }
            Self::DescribeKeys => {
                "give it a \"description\" in the schema: it is all that operators see of it"
            }
            Self::Examples => {
                "its schema gives no config to try: give \"examples\" in the schema, or --config"
            }
            Self::DeclareNeeds => {
                "declare it, a line each, in the fourth argument of CONDUCTOR_PLUGIN: \"NEEDS\""
            }
            Self::ShortSchema => "describe less in config_schema, or split the plugin",
            Self::Crash => Self::Crash.in_rust(),
        }
    }

    fn in_cpp(self) -> &'static str {
        match self {
            Self::Exports => {
                "link with a version script, -Wl,--version-script=FILE, of `{ global: conductor_plugin; local: *; };`: -fvisibility=hidden does not hide the standard library's templates"
            }
            Self::Failure => {
                "catch exceptions at the border, and call conductor_fail(call, CONDUCTOR_FAILURE_ERROR, …) for what it could not find out"
            }
            Self::LowMemory => {
                "a host replaces its worker; catch std::bad_alloc, and call conductor_fail"
            }
            Self::Crash => {
                "a host would lose its worker over it: catch exceptions at the border, run the test in a debugger, or look for a core file"
            }
            other => other.in_c(),
        }
    }

    fn in_go(self) -> &'static str {
        match self {
            Self::Exports => {
                "link with a version script of `{ global: conductor_plugin; local: *; };`: go build -buildmode=c-shared -ldflags '-extldflags=-Wl,--version-script=FILE'"
            }
            Self::Failure => {
                "recover from panics in exported functions, and call conductor_fail(call, CONDUCTOR_FAILURE_ERROR, …) for what it could not find out"
            }
            Self::LowMemory => {
                "a host replaces its worker: Go ends the process when it gets no memory; keep less, or set a limit with debug.SetMemoryLimit"
            }
            Self::Crash => {
                "a host would lose its worker over it: recover from panics in exported functions, or look at the trace that it printed"
            }
            other => other.in_c(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LanguageAdvice; 21] = [
        LanguageAdvice::Exports,
        LanguageAdvice::Failure,
        LanguageAdvice::RefuseConfig,
        LanguageAdvice::NameTheKey,
        LanguageAdvice::ConfigKind,
        LanguageAdvice::Report,
        LanguageAdvice::NoProbe,
        LanguageAdvice::AnyPlatform,
        LanguageAdvice::LegalReport,
        LanguageAdvice::Log,
        LanguageAdvice::Deadline,
        LanguageAdvice::Cancelled,
        LanguageAdvice::CancelledOrLate,
        LanguageAdvice::CancelAsync,
        LanguageAdvice::Drop,
        LanguageAdvice::LowMemory,
        LanguageAdvice::DescribeKeys,
        LanguageAdvice::Examples,
        LanguageAdvice::DeclareNeeds,
        LanguageAdvice::ShortSchema,
        LanguageAdvice::Crash,
    ];

    #[test]
    fn advice_for_the_c_api_names_nothing_of_rusts() {
        for language in [PluginLanguage::C, PluginLanguage::Cpp, PluginLanguage::Go] {
            for advice in ALL {
                let said = advice.in_language(language);
                for word in [
                    "Context",
                    "Failure::",
                    "schemars",
                    "tracing",
                    "cdylib",
                    "panic!",
                ] {
                    assert!(!said.contains(word), "{advice:?} for {language:?}: {said}");
                }
            }
        }
        for advice in ALL {
            let said = advice.in_language(PluginLanguage::Rust);
            assert!(!said.contains("conductor_"), "{advice:?}: {said}");
        }
    }
}
