//! The platform that a command's probe sees, as a host's config would describe it.

use std::{collections::BTreeMap, time::Duration};

use conductor_config::{is_label_name, parse_duration};

/// Options for the platform of a probe.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PlatformArgs {
    /// Interval of the platform's checks, as its probe sees it
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(super) interval: Duration,
    #[command(flatten)]
    pub(super) labels: LabelArgs,
}

/// Options for the labels of a probe's platform.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LabelArgs {
    /// Label of the platform, as in its config; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl LabelArgs {
    /// Returns the labels, by name.
    pub(super) fn by_name(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    /// Returns the options of another command with these labels.
    pub(super) fn options(&self) -> impl Iterator<Item = String> {
        let labels = self.labels.iter();
        labels.flat_map(|(name, value)| ["--label".to_owned(), format!("{name}={value}")])
    }
}

/// A text that is no label of a platform.
#[derive(Debug, thiserror::Error)]
enum LabelError {
    #[error("a label is a name and a value: NAME=VALUE")]
    NoValue,
    #[error(
        "a host allows no label of this name: use letters, digits and `_`, not a digit or `__` first, and not `platform` or `plugin`"
    )]
    Name,
}

fn label(text: &str) -> Result<(String, String), LabelError> {
    let (name, value) = text.split_once('=').ok_or(LabelError::NoValue)?;
    match is_label_name(name) {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(LabelError::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_a_host_allows() {
        let whole = ("team".to_owned(), "a=b".to_owned());
        assert_eq!(label("team=a=b").unwrap(), whole);
        assert!(label("_x=").is_ok());
        let refused = |text| label(text).unwrap_err().to_string();
        assert!(refused("team").contains("NAME=VALUE"));
        for wrong in ["=x", "2=x", "__a=x", "a b=x", "platform=x", "plugin=x"] {
            assert!(refused(wrong).contains("no label of this name"), "{wrong}");
        }
    }
}
