//! Memory usage of one control group against its limits, without what the kernel can reclaim.
//!
//! The usage of a group includes its page cache, active and inactive, and its reclaimable slab (dentries, inodes). A
//! group that has read a large file twice is nearly full of them without a shortage: the kernel drops them when memory
//! is needed. They are subtracted, as in the kernel's own `MemAvailable`. Swapped memory counts if it has a separate
//! limit: when that is reached, the group is killed.

use std::{fs, path::Path};

use super::{number, value};
use crate::resources::sample::percent_of;

/// Returns the percent of the limits of a version 2 group; `None` without a limit.
///
/// `memory.high` throttles rather than kills, but it is a limit too.
pub(super) fn percent_v2(dir: &Path) -> Option<f64> {
    let file = |name: &str| number(&dir.join(name));
    let hard = file("memory.max");
    let limit = [hard, file("memory.high")].into_iter().flatten().min();
    let used = MemoryUsage {
        all: file("memory.current")?,
        reclaimable: reclaimable(dir, &["inactive_file", "active_file", "slab_reclaimable"]),
    };
    let with_swap = hard.zip(file("memory.swap.max")).and_then(|(hard, swap)| {
        used.and_swap(file("memory.swap.current")?)
            .percent(hard.saturating_add(swap))
    });
    let memory = limit.and_then(|limit| used.percent(limit));
    memory.into_iter().chain(with_swap).reduce(f64::max)
}

/// Returns the percent of the limits of a version 1 group; `None` without a limit.
pub(super) fn percent_v1(dir: &Path) -> Option<f64> {
    let file = |name: &str| number(&dir.join(name));
    // A tighter limit of a parent applies too, even if a container does not see the parent.
    let limit_of = |name: &str, key: &str| {
        let of_a_parent = stat(dir, &[key]).first().copied();
        file(name).into_iter().chain(of_a_parent).min()
    };
    // The sums over the group and its descendants, like its usage.
    let keys = [
        "total_inactive_file",
        "total_active_file",
        "total_slab_reclaimable",
    ];
    let reclaimable = reclaimable(dir, &keys);
    let percent = |usage: &str, limit: Option<u64>| {
        let used = MemoryUsage {
            all: file(usage)?,
            reclaimable,
        };
        used.percent(limit?)
    };
    let memory = percent(
        "memory.usage_in_bytes",
        limit_of("memory.limit_in_bytes", "hierarchical_memory_limit"),
    );
    let with_swap = percent(
        "memory.memsw.usage_in_bytes",
        limit_of("memory.memsw.limit_in_bytes", "hierarchical_memsw_limit"),
    );
    memory.into_iter().chain(with_swap).reduce(f64::max)
}

/// Bytes in use, and the reclaimable part of them.
#[derive(Clone, Copy)]
struct MemoryUsage {
    all: u64,
    reclaimable: u64,
}

impl MemoryUsage {
    fn and_swap(self, swapped: u64) -> Self {
        Self {
            all: self.all.saturating_add(swapped),
            ..self
        }
    }

    /// Returns the unreclaimable percent. The files are read at different times, so their numbers need not add up.
    fn percent(self, limit: u64) -> Option<f64> {
        percent_of(self.all.saturating_sub(self.reclaimable), limit)
    }
}

fn reclaimable(dir: &Path, keys: &[&str]) -> u64 {
    stat(dir, keys).into_iter().fold(0, u64::saturating_add)
}

/// Returns the values of those keys that `memory.stat` has.
fn stat(dir: &Path, keys: &[&str]) -> Vec<u64> {
    let text = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    keys.iter().filter_map(|key| value(&text, key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Linux 6.1, version 2: a group limited to 320 MiB that has read a file of 250 MiB twice.
    const V2: &str = "anon 20971520\nfile 264241152\nkernel 12582912\nkernel_stack 393216\npagetables 655360\n\
        sec_pagetables 0\npercpu 1152\nsock 0\nvmalloc 0\nshmem 1048576\nzswap 0\nzswapped 0\nfile_mapped 4194304\n\
        file_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\nfile_thp 0\nshmem_thp 0\ninactive_anon 20447232\n\
        active_anon 1572864\ninactive_file 10485760\nactive_file 252706816\nunevictable 0\n\
        slab_reclaimable 8388608\nslab_unreclaimable 2097152\nslab 10485760\nworkingset_refault_anon 0\n\
        workingset_refault_file 0\nworkingset_activate_anon 0\nworkingset_activate_file 0\npgscan 0\npgsteal 0\n";

    /// Linux 6.1, version 1: the same group, with a child that has half of the cache.
    const V1: &str = "cache 133169152\nrss 10485760\nrss_huge 0\nshmem 1048576\nmapped_file 4194304\ndirty 0\n\
        writeback 0\nworkingset_refault_anon 0\nworkingset_refault_file 0\nswap 0\npgpgin 70000\npgpgout 200\n\
        pgfault 9000\npgmajfault 10\ninactive_anon 10000000\nactive_anon 1572864\ninactive_file 5242880\n\
        active_file 126353408\nunevictable 0\nhierarchical_memory_limit 335544320\n\
        hierarchical_memsw_limit 9223372036854771712\ntotal_cache 264241152\ntotal_rss 20971520\ntotal_rss_huge 0\n\
        total_shmem 1048576\ntotal_mapped_file 4194304\ntotal_dirty 0\ntotal_writeback 0\ntotal_swap 0\n\
        total_pgpgin 90000\ntotal_pgpgout 400\ntotal_pgfault 12000\ntotal_pgmajfault 20\n\
        total_inactive_anon 20447232\ntotal_active_anon 1572864\ntotal_inactive_file 10485760\n\
        total_active_file 252706816\ntotal_unevictable 0\n";

    /// Creates a group made of plain files.
    fn group(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn mib(number: u64) -> String {
        format!("{}\n", number * MIB)
    }

    fn max() -> String {
        "max\n".to_owned()
    }

    #[track_caller]
    fn assert_close(found: Option<f64>, expected: Option<f64>) {
        let close = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 0.1,
            (found, expected) => found == expected,
        };
        assert!(close, "{found:?}, expected {expected:?}");
    }

    #[test]
    fn a_file_read_twice_does_not_fill_a_version_2_group() {
        let group = group(&[
            ("memory.max", mib(320)),
            ("memory.high", max()),
            ("memory.current", mib(284)),
            ("memory.stat", V2.to_owned()),
        ]);
        // 284 MiB less 251 of cache and 8 of slab.
        assert_close(percent_v2(group.path()), Some(25.0 / 320.0 * 100.0));
    }

    #[test]
    fn a_file_read_twice_does_not_fill_a_version_1_group() {
        let group = group(&[
            ("memory.limit_in_bytes", mib(320)),
            ("memory.usage_in_bytes", mib(284)),
            ("memory.stat", V1.to_owned()),
        ]);
        assert_close(percent_v1(group.path()), Some(33.0 / 320.0 * 100.0));
    }

    #[test]
    fn anonymous_memory_and_shared_memory_fill_a_group() {
        let stat =
            "anon 272629760\nshmem 31457280\nfile 31457280\ninactive_file 0\nactive_file 0\n";
        let group = group(&[
            ("memory.max", mib(320)),
            ("memory.current", mib(304)),
            ("memory.stat", stat.to_owned()),
        ]);
        assert_close(percent_v2(group.path()), Some(95.0));
    }

    #[test]
    fn the_tighter_of_throttling_and_killing_counts() {
        for (max, high, expected) in [
            (mib(200), max(), Some(25.0)),
            (mib(200), mib(100), Some(50.0)),
            (max(), mib(100), Some(50.0)),
            (max(), max(), None),
        ] {
            let group = group(&[
                ("memory.max", max),
                ("memory.high", high),
                ("memory.current", mib(50)),
            ]);
            assert_close(percent_v2(group.path()), expected);
        }
    }

    #[test]
    fn swap_counts_where_it_is_limited() {
        for (swap_max, swapped, expected) in [
            (mib(0), mib(0), 50.0),
            // 50 of 100 in memory, and 90 of 100 of swap: 70 % of both, when it is killed.
            (mib(100), mib(90), 70.0),
            (mib(100), mib(10), 50.0),
            (max(), mib(500), 50.0),
        ] {
            let group = group(&[
                ("memory.max", mib(100)),
                ("memory.current", mib(60)),
                ("memory.swap.max", swap_max),
                ("memory.swap.current", swapped),
                ("memory.stat", format!("active_file {}", 10 * MIB)),
            ]);
            assert_close(percent_v2(group.path()), Some(expected));
        }
        let version_1 = |memsw: u64| {
            let group = group(&[
                ("memory.limit_in_bytes", mib(100)),
                ("memory.usage_in_bytes", mib(60)),
                ("memory.memsw.limit_in_bytes", mib(200)),
                ("memory.memsw.usage_in_bytes", mib(memsw)),
                ("memory.stat", format!("total_active_file {}", 10 * MIB)),
            ]);
            percent_v1(group.path())
        };
        assert_close(version_1(150), Some(70.0));
        assert_close(version_1(60), Some(50.0));
    }

    #[test]
    fn a_parents_tighter_limit_counts_in_version_1_though_the_parent_is_not_visible() {
        let stat = format!("hierarchical_memory_limit {}\n", 100 * MIB);
        let group = group(&[
            ("memory.limit_in_bytes", "9223372036854771712\n".to_owned()),
            ("memory.usage_in_bytes", mib(80)),
            ("memory.stat", stat),
        ]);
        assert_close(percent_v1(group.path()), Some(80.0));
    }

    #[test]
    fn no_limit_is_no_percentage_or_none_of_a_huge_one() {
        let none = group(&[("memory.current", mib(50)), ("memory.max", max())]);
        assert_close(percent_v2(none.path()), None);
        let huge = group(&[
            ("memory.limit_in_bytes", "9223372036854771712\n".to_owned()),
            ("memory.usage_in_bytes", mib(50)),
        ]);
        assert_close(percent_v1(huge.path()), Some(0.0));
        let empty = group(&[]);
        assert_close(percent_v1(empty.path()), None);
        assert_close(percent_v2(empty.path()), None);
    }

    #[test]
    fn numbers_read_at_different_times_need_not_add_up() {
        let group = group(&[
            ("memory.max", mib(100)),
            ("memory.current", mib(50)),
            ("memory.stat", format!("inactive_file {}", 70 * MIB)),
        ]);
        assert_close(percent_v2(group.path()), Some(0.0));
    }
}
