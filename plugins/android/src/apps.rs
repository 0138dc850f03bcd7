//! The installed apps, the one in the foreground, and the answer to an intent.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    reading::{field, number, words},
    wire::ShellOutput,
};

/// Lists the enabled packages with their versions.
pub(crate) const LIST: &str = "pm list packages -e --show-versioncode";
/// The same before Android 8, without versions.
pub(crate) const LIST_NAMES: &str = "pm list packages -e";
/// Prints the activities in the foreground; the whole output has hundreds of kilobytes.
pub(crate) const FOREGROUND: &str = "dumpsys activity activities | grep ResumedActivity";

/// The enabled packages, with the version code of each where Android tells it.
pub(crate) type Packages = BTreeMap<String, Option<u64>>;

/// Parses the output of [`LIST`] or [`LIST_NAMES`]; `None` if it lists nothing.
pub(crate) fn packages(output: &ShellOutput) -> Option<Packages> {
    let lines = output.stdout.lines();
    let packages: Packages = lines
        .filter_map(|line| {
            let mut words = line.trim().strip_prefix("package:")?.split_whitespace();
            let name = words.next()?.to_owned();
            let version = words.find_map(|word| word.strip_prefix("versionCode:"));
            Some((name, version.and_then(|code| code.parse().ok())))
        })
        .collect();
    (!packages.is_empty()).then_some(packages)
}

/// Parses the output of [`FOREGROUND`]: the packages of the activities that the user sees.
pub(crate) fn foreground(output: &ShellOutput) -> BTreeSet<String> {
    // The first name is that since Android 12, the others those of versions before.
    let names = ["topResumedActivity", "ResumedActivity", "mResumedActivity"];
    let lines = output.stdout.lines();
    lines
        .filter_map(|line| names.iter().find_map(|name| field(line, name)))
        .filter_map(|record| {
            let component = record
                .split([' ', '{', '}'])
                .find(|word| word.contains('/'))?;
            Some(component.split('/').next()?.to_owned())
        })
        .collect()
}

/// Parses the output of `am start -W`: the launch time in seconds if it tells it, or what it says instead.
pub(crate) fn launch(output: &ShellOutput) -> Result<Option<f64>, String> {
    let text = &output.stdout;
    let lines = || text.lines().chain(output.stderr.lines()).map(str::trim);
    if let Some(error) = lines().find(|line| line.starts_with("Error")) {
        // `Error type 3` alone says nothing; the cause is in the next line.
        let cause = lines().find(|line| line.starts_with("Error:"));
        return Err(cause.unwrap_or(error).to_owned());
    }
    match field(text, "Status") {
        Some("ok") => {
            let took = field(text, "TotalTime").and_then(number);
            Ok(took.map(|milliseconds| milliseconds / 1000.0))
        }
        Some(other) => Err(format!("Status: {other}")),
        None => Err(words(output)),
    }
}
