//! Static shards: hosts that share the platforms of one config, without knowing of each other.
//!
//! A platform belongs to the shard of its hashed name. The hash must never change: hosts of two versions would both check
//! a platform, or neither would. It is FNV-1a with 64 bits, which scripts can compute too, followed by the mixing step of
//! SplitMix64: the low bits of FNV alone depend on those of the name alone, so that names that end in even digits would
//! share a shard.

use std::fmt;

/// One of several hosts that share the platforms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shard {
    index: u32,
    total: u32,
}

/// A shard that does not exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShardError {
    /// The number of shards is 0, or above [`MAX_SHARDS`].
    Total(u32),
    /// The index is not below the number of shards.
    Index {
        /// The index.
        index: u32,
        /// The number of shards.
        total: u32,
    },
}

impl Shard {
    /// Returns shard `index`, counted from 0, of `total`.
    ///
    /// # Errors
    /// If `total` is not 1 to [`MAX_SHARDS`], or `index` is not below it.
    pub fn try_new(index: u32, total: u32) -> Result<Self, ShardError> {
        if !(1..=MAX_SHARDS).contains(&total) {
            return Err(ShardError::Total(total));
        }
        if index >= total {
            return Err(ShardError::Index { index, total });
        }
        Ok(Self { index, total })
    }

    /// Returns the index, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    /// Returns the number of shards.
    #[must_use]
    pub fn total(self) -> u32 {
        self.total
    }

    /// Returns `true` if the platform of this name belongs to this shard.
    #[must_use]
    pub fn owns(self, platform: &str) -> bool {
        shard_of(platform, self.total) == self.index
    }
}

/// Shows the shard as `1 of 3`, counted from 0 as in the options.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.total)
    }
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(total) => {
                write!(f, "there cannot be {total} shards: give 1 to {MAX_SHARDS}")
            }
            Self::Index { index, total } => write!(
                f,
                "there is no shard {index} of {total}: they are counted from 0, so give 0 to {}",
                total - 1
            ),
        }
    }
}

impl std::error::Error for ShardError {}

/// Returns the index of the shard, of `total`, that the platform of this name belongs to.
fn shard_of(platform: &str, total: u32) -> u32 {
    let hash = mixed(fnv1a(platform.as_bytes())) % u64::from(total);
    u32::try_from(hash).expect("the remainder is below a u32")
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The most shards: more hosts than anybody runs, and far fewer than a config has platforms.
pub const MAX_SHARDS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by an independent implementation in Python; see the text of the module.
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        for (name, shards) in VECTORS {
            let of = [2, 3, 5, 1024].map(|total| shard_of(name, total));
            assert_eq!(of, shards, "{name}");
        }
    }

    #[test]
    fn each_platform_belongs_to_exactly_one_shard() {
        for total in [1, 2, 3, 7, MAX_SHARDS] {
            let shards: Vec<_> = (0..total)
                .map(|index| Shard::try_new(index, total).unwrap())
                .collect();
            for name in ["shop", "a", "web-17", "Zürich", "x.y_z-0"] {
                let owners = shards.iter().filter(|shard| shard.owns(name)).count();
                assert_eq!(owners, 1, "{name} of {total}");
            }
        }
    }

    #[test]
    fn shares_are_even_for_names_that_differ_in_a_few_digits() {
        for step in [1, 2, 4, 10] {
            for total in [2, 3, 5, 8] {
                let mut shares = vec![0_u32; total as usize];
                for number in 0..10_000_u32 {
                    shares[shard_of(&format!("web-{}", number * step), total) as usize] += 1;
                }
                let even = 10_000 / total;
                for share in &shares {
                    // Five standard deviations.
                    let tolerance = 5 * even.isqrt();
                    assert!(share.abs_diff(even) < tolerance, "{step} {shares:?}");
                }
            }
        }
    }

    #[test]
    fn a_shard_that_does_not_exist_is_refused_with_the_numbers_that_do() {
        let error = |index, total| Shard::try_new(index, total).unwrap_err().to_string();
        assert_eq!(error(0, 0), "there cannot be 0 shards: give 1 to 1024");
        assert_eq!(
            error(3, 3),
            "there is no shard 3 of 3: they are counted from 0, so give 0 to 2"
        );
        assert!(Shard::try_new(2, 3).is_ok_and(|shard| shard.to_string() == "2 of 3"));
    }

    const VECTORS: [(&str, [u32; 4]); 4] = [
        ("shop", [0, 0, 4, 358]),
        ("web-1", [1, 2, 2, 733]),
        ("self-http", [0, 0, 4, 98]),
        ("Zürich", [1, 0, 0, 605]),
    ];
}
