//! The options that select a share of the platforms, where several hosts read the same config.

use conductor_command::CliError;
use conductor_core::shard::Shard;

/// This host's share of the platforms.
#[derive(Clone, Default, clap::Args)]
pub(super) struct ShardArgs {
    /// Index of this host's share of the platforms, counted from 0, if several hosts read the same config
    #[arg(
        id = "shard_index",
        long = "shard.index",
        value_name = "INDEX",
        env = "CONDUCTOR_SHARD_INDEX",
        requires = "shard_total"
    )]
    pub(super) index: Option<u32>,
    /// Number of shares, the same for all hosts
    #[arg(
        id = "shard_total",
        long = "shard.total",
        value_name = "NUMBER",
        env = "CONDUCTOR_SHARD_TOTAL",
        requires = "shard_index"
    )]
    pub(super) total: Option<u32>,
}

impl ShardArgs {
    /// Returns the share that the options name, if they are given.
    ///
    /// # Errors
    /// If there is no such share.
    pub(super) fn shard(&self) -> Result<Option<Shard>, CliError> {
        let (Some(index), Some(total)) = (self.index, self.total) else {
            return Ok(None);
        };
        match Shard::try_new(index, total) {
            Ok(shard) => Ok(Some(shard)),
            Err(error) => Err(CliError::Usage(format!(
                "--shard.index {index} --shard.total {total}: {error}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_does_not_exist_is_a_usage_error() {
        let shard = |index, total| ShardArgs { index, total }.shard();
        assert!(shard(None, None).unwrap().is_none());
        assert_eq!(shard(Some(1), Some(3)).unwrap(), Shard::try_new(1, 3).ok());
        assert_eq!(
            shard(Some(3), Some(3)).unwrap_err().to_string(),
            "--shard.index 3 --shard.total 3: there is no shard 3 of 3: they are counted from 0, so give 0 to 2"
        );
    }
}
