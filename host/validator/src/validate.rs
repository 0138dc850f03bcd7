//! `conductor plugin validate`: tests whether a plugin meets the expectations of a host and an operator.
//!
//! Level 1 reads the file and runs nothing. Every other test runs in its own process, this program started again, in a
//! worker's sandbox: so a crash ends only one test, which is reported as CRASHED. [`process`] starts these processes
//! and [`child`] runs in them; the tests are in one file per theme.

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf, time::Duration};

use conductor_command::{CliError, CommandExit, OutputFormat, json, print};
use conductor_config::InlineConfig;
use conductor_core::clock::Clock;
use conductor_plugin_api::manifest::Need;
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;
use serde::{Deserialize, Serialize};

use self::{
    catalogue::PluginTest,
    file::FileFacts,
    report::{OfFile, OfTest, ValidationReport},
    verdict::{TestStatus, TestVerdict},
};
use super::platform_args::PlatformArgs;

mod advice;
mod catalogue;
mod file;
mod report;
mod verdict;

#[cfg(any(target_os = "linux", windows))]
mod behaviour;
#[cfg(any(target_os = "linux", windows))]
mod child;
#[cfg(any(target_os = "linux", windows))]
mod configs;
#[cfg(any(target_os = "linux", windows))]
mod fuzz;
#[cfg(any(target_os = "linux", windows))]
mod growth;
#[cfg(any(target_os = "linux", windows))]
mod load;
#[cfg(any(target_os = "linux", windows))]
mod machine;
#[cfg(target_os = "linux")]
mod needs;
#[cfg(any(target_os = "linux", windows))]
mod patience;
#[cfg(any(target_os = "linux", windows))]
mod process;
#[cfg(target_os = "linux")]
mod scarcity;
#[cfg(any(target_os = "linux", windows))]
mod secret_table;
#[cfg(any(target_os = "linux", windows))]
mod stress;
#[cfg(any(target_os = "linux", windows))]
mod subject;
#[cfg(not(target_os = "linux"))]
mod unavailable;

#[cfg(any(target_os = "linux", windows))]
pub use child::child_main;
#[cfg(not(any(target_os = "linux", windows)))]
pub use unavailable::child_main;

/// Returns a config from the examples of a schema, as JSON.
#[cfg(any(target_os = "linux", windows))]
pub(super) fn example_config(schema: &serde_json::Value) -> Option<String> {
    let mut configs = configs::of_schema(schema).into_iter();
    configs.next().map(|config| config.to_string())
}

/// Returns nothing: the examples are read for tests, which this OS does not have.
#[cfg(not(any(target_os = "linux", windows)))]
pub(super) fn example_config(_: &serde_json::Value) -> Option<String> {
    None
}

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct PluginValidateArgs {
    /// Library files
    #[arg(required_unless_present = "list", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Config of a platform that works on this machine, as JSON or as in conductor.toml: '{ url = "…" }'
    ///
    /// Without it, the examples and defaults of the plugin's schema are tried, and the first that creates a probe is used.
    #[arg(long, value_name = "CONFIG")]
    config: Option<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    /// Run only tests with a matching id
    #[arg(long, value_name = "REGEX")]
    test: Option<Regex>,
    /// Level of testing: 1 reads the file, 2 loads it, 3 uses it, 4 stresses it, which takes minutes
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..=4))]
    strictness: u8,
    /// Seed of the mutated configs of level 4; the same seed gives the same configs
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print only failed and crashed tests, and the summary
    #[arg(long)]
    only_failed: bool,
    /// Do not repeat failed tests without the sandbox, which finds undeclared needs
    ///
    /// For libraries that you do not trust: in that run they have your permissions.
    #[arg(long)]
    keep_sandbox: bool,
    /// Permission in addition to what the plugin declares: 'read /PATH' or 'run /PATH'; may be repeated
    #[arg(long, value_name = "NEED", value_parser = super::run::need)]
    allow: Vec<Need>,
    /// List the tests without running them
    #[arg(long)]
    list: bool,
}

pub(super) fn run(args: &PluginValidateArgs) -> Result<CommandExit, CliError> {
    let selected = |test: &&PluginTest| {
        let matches = |regex: &Regex| regex.is_match(test.id);
        test.level <= args.strictness && args.test.as_ref().is_none_or(matches)
    };
    if args.list {
        let all = catalogue::all();
        print(&match args.output {
            OutputFormat::Table => report::listed(&all),
            OutputFormat::Json => json(&all)?,
        })?;
        return Ok(CommandExit::Ok);
    }
    let tests: Vec<&PluginTest> = catalogue::all().into_iter().filter(selected).collect();
    if tests.is_empty() {
        return Err(CliError::Usage(format!(
            "no test of level {} or below has such an id; --list prints them all",
            args.strictness
        )));
    }
    let config = args
        .config
        .as_deref()
        .map(InlineConfig::parse)
        .transpose()?;
    let config = config.map(InlineConfig::into_value);
    let bar = progress(args, tests.len() * args.files.len());
    let mut report = ValidationReport::new(args.strictness, args.seed);
    for file in &args.files {
        let job = FileValidation {
            tests: &tests,
            platform: TestPlatform {
                config: config.clone(),
                interval: args.platform.interval,
                labels: args.platform.labels.by_name(),
            },
            seed: args.seed,
            keep_sandbox: args.keep_sandbox,
            allow: &args.allow,
            bar: &bar,
        };
        report.files.push(job.of_file(file));
    }
    bar.finish_and_clear();
    let failed = report.has_failures();
    print(&match args.output {
        OutputFormat::Table => report.table(args.only_failed),
        OutputFormat::Json => json(&report.shown(args.only_failed))?,
    })?;
    Ok(if failed {
        CommandExit::Unhealthy
    } else {
        CommandExit::Ok
    })
}

/// The platform that the tests' probes see.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct TestPlatform {
    /// The config given to the validator.
    config: Option<serde_json::Value>,
    interval: Duration,
    labels: BTreeMap<String, String>,
}

/// The work for each file.
struct FileValidation<'a> {
    tests: &'a [&'static PluginTest],
    platform: TestPlatform,
    seed: u64,
    keep_sandbox: bool,
    allow: &'a [Need],
    bar: &'a ProgressBar,
}

impl FileValidation<'_> {
    fn of_file(&self, file: &std::path::Path) -> OfFile {
        let facts = FileFacts::read(file);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let clock = Clock::start();
        let mut of_file = OfFile::new(&facts);
        #[cfg(any(target_os = "linux", windows))]
        let mut scene = None;
        let mut blocked: Option<String> = None;
        // All of level 1 counts, even if only some tests were selected.
        let on_file = |test: &&PluginTest| test.on_file().is_some();
        let refused = catalogue::all()
            .into_iter()
            .filter(on_file)
            .find_map(|test| {
                let verdict = test.on_file()?(&facts);
                (verdict.status == TestStatus::Failed).then_some(test.id)
            });
        for test in self.tests {
            self.bar.set_message(format!("{name} {}", test.id));
            let begun = clock.now();
            let of_test = if let Some(look) = test.on_file() {
                OfTest::new(test, look(&facts))
            } else if let Some(verdict) = test.unavailable() {
                OfTest::new(test, verdict)
            } else if let Some(rule) = refused {
                OfTest::skipped(test, &format!("did not pass level 1 ({rule})"))
            } else if let Some(why) = &blocked {
                OfTest::skipped(test, why)
            } else {
                #[cfg(any(target_os = "linux", windows))]
                match process::TestEnvironment::prepared(&mut scene, file, self.allow) {
                    Ok(scene) => scene.run(test, &self.platform, self.seed, self.keep_sandbox),
                    Err(why) => OfTest::new(test, TestVerdict::untested(why.to_string())),
                }
                #[cfg(not(any(target_os = "linux", windows)))]
                OfTest::skipped(test, "every test that runs a library is unavailable")
            };
            if of_test.blocks {
                blocked = Some(format!("{} {}", test.id, of_test.verdict.status.past()));
            }
            of_file.tests.push(of_test.took(clock.now() - begun));
            self.bar.inc(1);
        }
        of_file
    }
}

fn progress(args: &PluginValidateArgs, length: usize) -> ProgressBar {
    let wanted = matches!(args.output, OutputFormat::Table) && std::io::stderr().is_terminal();
    if !wanted {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

const AFTER_HELP: &str = "\
Exit codes: 0 no test failed or crashed, 1 some did, or could not be run on this machine, 2 usage, 3 config

With --output json: {\"format\": 1, \"strictness\", \"seed\", \"files\": [{\"file\", \"plugin\", \"version\", \"summary\": {\"passed\", \
\"warning\", \"failed\", \"skipped\", \"crashed\"}, \"tests\": [{\"id\", \"level\", \"status\": one of the five, \"found\", \"cure\", \
\"seconds\", \"output\": what the plugin printed, \"untested\": true \
where this machine does not let it run}]}]}; keys are only ever added.";
