//! Keys of an exec platform's `config` table.

use std::{collections::BTreeMap, path::PathBuf};

use conductor_plugin_api::{Failure, config::Secret, schemars};
use serde::Deserialize;

/// Runs a command, such as a plugin of Nagios, and reports its result.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecConfig {
    /// Absolute path of the program, and its arguments. No shell interprets them.
    #[schemars(length(min = 1), example = EXAMPLE)]
    pub(crate) command: Vec<String>,

    /// Form of the result: `nagios` for exit codes and performance data of a Nagios plugin, `exit-code` for any other
    /// command.
    #[serde(default)]
    pub(crate) format: ResultFormat,

    /// Environment variables, in addition to `PATH` and `LC_ALL`. The command gets no others.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, Secret>,

    /// Absolute path of the working directory.
    #[serde(default = "root")]
    #[cfg_attr(unix, schemars(regex(pattern = r"^/")))]
    pub(crate) directory: PathBuf,

    /// Exit codes that are healthy, with `format = "exit-code"`. A code in none of the lists is unhealthy.
    #[serde(default = "zero")]
    pub(crate) healthy_codes: Vec<u8>,

    /// Exit codes that are degraded, with `format = "exit-code"`.
    #[serde(default)]
    pub(crate) degraded_codes: Vec<u8>,

    /// Exit codes by which the command says that it could not tell, with `format = "exit-code"`: the check fails.
    #[serde(default)]
    pub(crate) failed_codes: Vec<u8>,
}

/// The form of a command's result.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResultFormat {
    /// As the guidelines of the Nagios plugins define it.
    #[default]
    Nagios,
    /// By the exit code alone.
    ExitCode,
}

impl ExecConfig {
    /// Refuses a config and reports every wrong key, not only the first.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        faults.extend(self.command_fault());
        if !self.directory.is_absolute() {
            faults.push(format!(
                "key `directory`: {:?} is not absolute; write the path from the root",
                self.directory
            ));
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                faults.push(format!(
                    "key `environment`: {name:?} is not the name of a variable; remove `=` and NUL from it"
                ));
            }
            if value.expose().contains('\0') {
                faults.push(format!(
                    "key `environment.{name}`: the value contains a NUL, which no variable can; remove it"
                ));
            }
        }
        faults.extend(self.code_faults());
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::config(faults.join("; ")))
        }
    }

    fn command_fault(&self) -> Option<String> {
        let Some(program) = self.command.first() else {
            return Some(
                "key `command`: the list is empty; write the program's absolute path and its arguments"
                    .to_owned(),
            );
        };
        if let Some(argument) = self.command.iter().find(|text| text.contains('\0')) {
            return Some(format!(
                "key `command`: {argument:?} contains a NUL, which no argument can; remove it"
            ));
        }
        let is_one_text = program.contains(' ') && self.command.len() == 1;
        (!program.starts_with('/')).then(|| {
            let cure = match is_one_text {
                true => "and its arguments as texts of their own: no shell splits them",
                false => "such as \"/usr/lib/nagios/plugins/check_disk\": PATH is not searched",
            };
            format!("key `command`: {program:?} is not an absolute path; write the path from the root, {cure}")
        })
    }

    fn code_faults(&self) -> Vec<String> {
        let lists = [
            ("healthy_codes", &self.healthy_codes),
            ("degraded_codes", &self.degraded_codes),
            ("failed_codes", &self.failed_codes),
        ];
        let mut faults = Vec::new();
        for (nth, (key, codes)) in lists.iter().enumerate() {
            if self.format == ResultFormat::Nagios && **codes != self.default_of(key) {
                faults.push(format!(
                    "key `{key}`: Nagios defines the exit codes; remove the key, or set `format = \"exit-code\"`"
                ));
            }
            for (other, others) in &lists[..nth] {
                if let Some(code) = codes.iter().find(|code| others.contains(code)) {
                    faults.push(format!(
                        "keys `{other}` and `{key}`: both have {code}; remove it from one"
                    ));
                }
            }
        }
        faults
    }

    fn default_of(&self, key: &str) -> Vec<u8> {
        match key {
            "healthy_codes" => zero(),
            _ => Vec::new(),
        }
    }
}

/// A command that every Unix has.
const EXAMPLE: [&str; 3] = ["/bin/sh", "-c", "echo 'OK - answer | answer=42;80;90'"];

fn root() -> PathBuf {
    PathBuf::from("/")
}

fn zero() -> Vec<u8> {
    vec![0]
}
