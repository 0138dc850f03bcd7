//! `[shard]`: which share of the platforms this host checks, where several hosts read the same config.

use conductor_core::shard::{MAX_SHARDS, Shard};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TableValidator;

/// `[shard]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Shard",
    description = "Share of the platforms that this host checks, if several hosts read the same config."
)]
pub(crate) struct RawShardConfig {
    /// Index of this host's share, counted from 0. The option `--shard.index` has precedence.
    #[schemars(with = "u32")]
    #[serde(default)]
    index: Option<u32>,
    /// Number of shares, the same for all hosts: a platform belongs to the share of its hashed name. The option
    /// `--shard.total` has precedence.
    #[schemars(with = "u32", range(min = 1, max = MAX_SHARDS))]
    #[serde(default)]
    total: Option<u32>,
}

impl RawShardConfig {
    pub(super) fn resolve(self, check: &mut TableValidator<'_>) -> Option<Shard> {
        let (index, total) = match (self.index, self.total) {
            (Some(index), Some(total)) => (index, total),
            (None, None) => return None,
            (index, _) => {
                let (given, missing) = match index {
                    Some(_) => ("index", "total"),
                    None => ("total", "index"),
                };
                let message = format!("{} is given without {missing:?}", check.name(given));
                check.refuse(given, message, format!("add `{missing}`"));
                return None;
            }
        };
        match Shard::try_new(index, total) {
            Ok(shard) => Some(shard),
            Err(error) => {
                let message = format!("{}: {error}", check.name("index"));
                check.refuse("index", message, "or raise `total`");
                None
            }
        }
    }
}
