//! Real filesystems, and tables of fictitious ones.

use std::time::Duration;

use conductor_net::Limits;
use conductor_plugin_api::{FailureKind, Report, Status, config::Size, testing::TestHost};

use crate::{
    DiskProbe,
    examination::ExamineError,
    fill::{FileSystemUsage, UnitCounts, UsageLimits},
    report::{self, FileSystem},
};

mod stuck;

const GIB: u64 = 1 << 30;

fn value(report: &Report, name: &str) -> Option<f64> {
    let mut all = report.measurements().iter();
    all.find(|(n, _)| n == name).map(|(_, value)| *value)
}

fn room(size: u64, free: u64, available: u64) -> UnitCounts {
    UnitCounts {
        size,
        free,
        available,
    }
}

fn limits(degraded_above: f64, unhealthy_above: f64) -> UsageLimits {
    UsageLimits {
        degraded_above,
        unhealthy_above,
        free: None,
        io_latency: None,
        writable: false,
    }
}

fn judged(fill: FileSystemUsage, degraded_above: f64, unhealthy_above: f64) -> Report {
    at("/", fill).report(&limits(degraded_above, unhealthy_above))
}

fn at(point: &str, fill: FileSystemUsage) -> FileSystem {
    FileSystem {
        point: point.into(),
        fill,
        io_latency: None,
    }
}

#[cfg(unix)]
#[test]
fn the_fill_of_a_real_filesystem_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new("here");
    let config = format!(
        r#"{{"path": {:?}, "degraded_above": 100, "unhealthy_above": 100}}"#,
        folder.path()
    );
    let mut probe = host.create::<DiskProbe>(&config).unwrap();
    let report = host.check(&mut probe).unwrap();

    assert_eq!(report.status(), Status::Healthy, "nothing is above 100 %");
    let size = value(&report, "size_bytes").unwrap();
    let free = value(&report, "free_bytes").unwrap();
    let used = value(&report, "used_percent").unwrap();
    assert!(size > 0.0 && (0.0..=size).contains(&free), "{report:?}");
    assert!((0.0..=100.0).contains(&used), "{report:?}");
    assert!(report.message().contains("% used"), "{}", report.message());
}

#[cfg(unix)]
#[test]
fn a_limit_of_zero_is_passed_by_any_filesystem_in_use() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), [1; 10_000]).unwrap();
    let host = TestHost::new("here");
    let config = format!(
        r#"{{"path": {:?}, "degraded_above": 0, "unhealthy_above": 0}}"#,
        folder.path()
    );
    let mut probe = host.create::<DiskProbe>(&config).unwrap();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(
        report.message().ends_with("(limit 0 %)"),
        "{}",
        report.message()
    );
}

#[test]
fn a_missing_path_is_a_failure_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone");
    let host = TestHost::new("here");
    let mut probe = host
        .create::<DiskProbe>(&format!(r#"{{"path": {path:?}}}"#))
        .unwrap();
    let failure = host.check(&mut probe).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Error);
    assert!(
        failure.message().contains(path.to_str().unwrap()),
        "{failure}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_filesystem_without_space_of_its_own_is_a_failure() {
    let host = TestHost::new("here");
    let mut probe = host
        .create::<DiskProbe>(r#"{"path": "/proc/self"}"#)
        .unwrap();
    let failure = host.check(&mut probe).unwrap_err();
    assert!(
        failure.message().contains("without space of its own"),
        "{failure}"
    );
}

#[test]
fn a_config_that_cannot_work_names_its_keys() {
    for (config, needles) in [
        (
            r#"{"path": "/", "degraded_above": 91}"#,
            ["`degraded_above` (91)", "`unhealthy_above` (90)"],
        ),
        (
            r#"{"path": "/", "unhealthy_above": 101}"#,
            ["`unhealthy_above`", "101"],
        ),
        (
            r#"{"path": "/", "degraded_above": -1}"#,
            ["`degraded_above`", "-1"],
        ),
        (r#"{"path": "var"}"#, ["`path`: \"var\"", "absolute"]),
        (r#"{"path": ""}"#, ["`path`", "empty"]),
        (r#"{"path": "/a\u0000b"}"#, ["`path`", "NUL"]),
        (
            r#"{"path": "var", "degraded_above": 95, "unhealthy_above": 101}"#,
            ["`path`", "key `unhealthy_above`: 101"],
        ),
        (
            r#"{"path": "", "degraded_above": 95}"#,
            ["`path`", "raise the second"],
        ),
        (
            r#"{"path": "/", "degrade_above": 1}"#,
            ["degrade_above", "unknown field"],
        ),
        (r"{}", ["path", "missing"]),
        (r#"{"path": "/mnt/a**"}"#, ["`path`", "`**`"]),
        (r#"{"path": "mnt/*"}"#, ["`path`", "absolute"]),
        (
            r#"{"path": "/mnt/*", "device": "/dev/sda1"}"#,
            ["`device`", "without wildcards"],
        ),
    ] {
        let failure = TestHost::new("here")
            .create_unchecked::<DiskProbe>(config)
            .err()
            .unwrap();
        assert_eq!(failure.kind(), FailureKind::Config, "{config}");
        for needle in needles {
            assert!(failure.message().contains(needle), "{config}: {failure}");
        }
    }
}

#[test]
fn equal_limits_leave_out_degraded() {
    let full = FileSystemUsage {
        space: room(100, 15, 15),
        ..FileSystemUsage::default()
    };
    assert_eq!(judged(full, 85.0, 85.0).status(), Status::Healthy);
    assert_eq!(judged(full, 84.0, 84.0).status(), Status::Unhealthy);
}

#[test]
fn the_worse_of_space_and_inodes_decides() {
    use Status::{Degraded, Healthy, Unhealthy};
    let no_inodes = room(0, 0, 0);
    // Space, inodes, percent of space, percent of inodes, status at 80 and 90.
    let table = [
        (room(100, 100, 100), no_inodes, 0.0, None, Healthy),
        (room(100, 20, 20), no_inodes, 80.0, None, Healthy),
        (room(1000, 199, 199), no_inodes, 80.1, None, Degraded),
        (room(100, 10, 10), no_inodes, 90.0, None, Degraded),
        (room(1000, 99, 99), no_inodes, 90.1, None, Unhealthy),
        (room(100, 0, 0), no_inodes, 100.0, None, Unhealthy),
        // Five of a hundred are reserved for root: 76 used of the 95 available to others.
        (room(100, 24, 19), no_inodes, 80.0, None, Healthy),
        (room(100, 5, 0), no_inodes, 100.0, None, Unhealthy),
        // All of it is reserved for root.
        (room(100, 100, 0), no_inodes, 100.0, None, Unhealthy),
        // Root has used its reserve: minus ten blocks of 4 KiB, as an unsigned number.
        (
            room(100, 5, u64::MAX - 40_959),
            no_inodes,
            100.0,
            None,
            Unhealthy,
        ),
        // A filesystem with wrong figures.
        (room(100, 50, 70), no_inodes, 50.0, None, Healthy),
        (
            room(100, 90, 90),
            room(10, 10, 10),
            10.0,
            Some(0.0),
            Healthy,
        ),
        (
            room(100, 90, 90),
            room(100, 15, 15),
            10.0,
            Some(85.0),
            Degraded,
        ),
        (
            room(100, 90, 90),
            room(100, 0, 0),
            10.0,
            Some(100.0),
            Unhealthy,
        ),
        (
            room(100, 5, 5),
            room(100, 90, 90),
            95.0,
            Some(10.0),
            Unhealthy,
        ),
    ];
    for (space, inodes, space_percent, inodes_percent, status) in table {
        let fill = FileSystemUsage {
            space,
            inodes,
            read_only: None,
        };
        let report = judged(fill, 80.0, 90.0);
        assert_eq!(report.status(), status, "{space:?} {inodes:?}");
        let used = value(&report, "used_percent").unwrap();
        assert!((used - space_percent).abs() < 1e-9, "{space:?}: {used}");
        assert_eq!(
            value(&report, "inodes_used_percent"),
            inodes_percent,
            "{inodes:?}"
        );
    }
}

#[test]
fn the_message_is_for_people() {
    let fill = FileSystemUsage {
        space: room(500 * GIB, 30 * GIB, 25 * GIB),
        inodes: room(1000, 900, 900),
        read_only: None,
    };
    assert_eq!(
        judged(fill, 80.0, 90.0).message(),
        "94.9 % used, 25.0 GiB of 500.0 GiB free; 10.0 % of the inodes used (limit 90 %)"
    );
    let small = FileSystemUsage {
        space: room(GIB - 1, 512, 512),
        ..FileSystemUsage::default()
    };
    assert_eq!(
        judged(small, 100.0, 100.0).message(),
        "100.0 % used, 512 B of 1.0 GiB free"
    );
}

#[test]
fn free_space_and_latency_have_limits_of_their_own() {
    let fill = FileSystemUsage {
        space: room(500 * GIB, 30 * GIB, 25 * GIB),
        ..FileSystemUsage::default()
    };
    let below = |size: &str| Limits {
        unhealthy_below: Some(size.parse().unwrap()),
        ..Limits::default()
    };
    let slow = Limits {
        degraded_above: Some(Duration::from_millis(100).into()),
        ..Limits::default()
    };
    let with = |free: Option<Limits<Size>>, latency: u64| {
        let limits = UsageLimits {
            free,
            io_latency: Some(slow),
            ..limits(100.0, 100.0)
        };
        let mut one = at("/", fill);
        one.io_latency = Some(Duration::from_millis(latency));
        one.report(&limits)
    };
    let report = with(Some(below("25GiB")), 100);
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(value(&report, "io_latency_seconds"), Some(0.1));
    let report = with(Some(below("26GiB")), 250);
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "94.9 % used, 25.0 GiB of 500.0 GiB free (`free.unhealthy_below` is 26GiB); \
         reads and writes take 250 ms (`io_latency.degraded_above` is 100ms)"
    );
    assert_eq!(with(None, 250).status(), Status::Degraded);
}

/// A file system without a block device, such as a tmpfs, has no latency: with limits for it, the check cannot tell.
#[cfg(target_os = "linux")]
#[test]
fn a_latency_that_is_not_known_is_a_failure_only_with_limits() {
    let host = TestHost::new("here");
    let without = |rest: &str| {
        let config =
            format!(r#"{{"path": "/dev", "degraded_above": 100, "unhealthy_above": 100{rest}}}"#);
        let mut probe = host.create::<DiskProbe>(&config).unwrap();
        host.check(&mut probe)
    };
    let report = without("").unwrap();
    assert_eq!(value(&report, "io_latency_seconds"), None, "{report:?}");
    let failure = without(r#", "io_latency": {"degraded_above": "1s"}"#).unwrap_err();
    assert!(
        failure.message().starts_with("cannot judge `io_latency`: "),
        "{failure}"
    );
}

/// Writes to the disk of this machine, if it has one whose writes the kernel counts.
#[cfg(target_os = "linux")]
#[test]
fn the_latency_of_real_writes_is_measured() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let host = TestHost::new("here");
    let config = format!(
        r#"{{"path": {:?}, "degraded_above": 100, "unhealthy_above": 100, "io_latency": {{"unhealthy_above": "1h"}}}}"#,
        folder.path()
    );
    let mut probe = host.create::<DiskProbe>(&config).unwrap();
    let report = match host.check(&mut probe) {
        Ok(report) => report,
        Err(failure) => {
            assert!(
                failure.message().contains("is no block device"),
                "{failure}"
            );
            return eprintln!("skipped: {failure}");
        }
    };
    assert_eq!(
        value(&report, "io_latency_seconds"),
        None,
        "there is no earlier sample: {report:?}"
    );
    let file = std::fs::File::create(folder.path().join("x")).unwrap();
    for nth in 0..100 {
        std::io::Write::write_all(&mut &file, &[nth; 4096]).unwrap();
        file.sync_all().unwrap();
        let report = host.check(&mut probe).unwrap();
        if let Some(latency) = value(&report, "io_latency_seconds") {
            assert!((0.0..3600.0).contains(&latency), "{report:?}");
            return;
        }
    }
    panic!("no write was counted");
}

#[test]
fn a_kept_back_block_is_not_free() {
    let fill = FileSystemUsage {
        space: room(100 * GIB, 10 * GIB, 4 * GIB),
        ..FileSystemUsage::default()
    };
    let report = judged(fill, 80.0, 90.0);
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let expected = (4 * GIB) as f64;
    assert_eq!(value(&report, "free_bytes"), Some(expected));
}

/// CephFS reports -1 free inodes, ceph-fuse 0 free, others -1 for both.
#[test]
fn a_number_of_inodes_that_makes_no_sense_is_unknown() {
    for (size, free) in [
        (5079, u64::MAX),
        (u64::MAX, u64::MAX),
        (0, u64::MAX),
        (0, 0),
        (100, 101),
    ] {
        let fill = FileSystemUsage {
            space: room(100, 90, 90),
            inodes: room(size, free, free),
            read_only: None,
        };
        let report = judged(fill, 80.0, 90.0);
        let inodes = value(&report, "inodes_used_percent");
        assert_eq!(inodes, None, "{size} {free}");
        assert_eq!(report.status(), Status::Healthy, "{size} {free}");
    }
}

#[test]
fn a_negative_available_space_is_none() {
    let reserve_in_use = u64::MAX - 281;
    let fill = FileSystemUsage {
        space: room(100 * GIB, 5 * GIB, reserve_in_use),
        ..FileSystemUsage::default()
    };
    let report = judged(fill, 80.0, 90.0);
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert_eq!(value(&report, "used_percent"), Some(100.0));
    assert_eq!(value(&report, "free_bytes"), Some(0.0));
}

#[test]
fn more_free_space_than_there_is_is_unknown_and_not_empty() {
    let fill = FileSystemUsage {
        space: room(100, 101, 101),
        inodes: room(100, 5, 5),
        read_only: None,
    };
    let report = judged(fill, 80.0, 90.0);
    assert_eq!(value(&report, "used_percent"), None);
    assert_eq!(report.status(), Status::Unhealthy, "by its inodes");
    assert_eq!(
        report.message(),
        "used space unknown, size 100 B; 95.0 % of the inodes used (limit 90 %)"
    );
}

#[test]
fn a_read_only_file_system_is_reported_and_judged_where_it_must_be_writable() {
    let fill = |read_only| FileSystemUsage {
        space: room(100, 90, 90),
        read_only,
        ..FileSystemUsage::default()
    };
    let of = |read_only, writable| {
        let limits = UsageLimits {
            writable,
            ..limits(80.0, 90.0)
        };
        at("/", fill(read_only)).report(&limits)
    };
    let report = of(Some(true), false);
    assert_eq!(report.status(), Status::Healthy);
    assert_eq!(value(&report, "read_only"), Some(1.0));
    assert!(report.message().ends_with("; read-only"), "{report:?}");
    let report = of(Some(true), true);
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report.message().ends_with("; read-only, must be writable"),
        "{report:?}"
    );
    let report = of(Some(false), true);
    assert_eq!(report.status(), Status::Healthy);
    assert_eq!(value(&report, "read_only"), Some(0.0));
    assert_eq!(value(&of(None, true), "read_only"), None);
}

#[test]
fn the_worst_of_several_file_systems_decides_and_the_bad_ones_are_named() {
    let with = |used: u64| FileSystemUsage {
        space: room(100, 100 - used, 100 - used),
        read_only: Some(used == 85),
        ..FileSystemUsage::default()
    };
    let all = [
        at("/", with(10)),
        at("/mnt/a-b", with(85)),
        at("/mnt/a_b", with(20)),
        at("/mnt/full", with(95)),
    ];
    let report = report::of_all(&all, &[], Vec::new(), &limits(80.0, 90.0)).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "worst of 4: /mnt/full: 95.0 % used, 5 B of 100 B free (limit 90 %); \
         /mnt/a-b: 85.0 % used, 15 B of 100 B free (limit 80 %); read-only"
    );
    for (name, expected) in [
        ("used_percent", 95.0),
        ("file_systems", 4.0),
        ("read_only", 1.0),
        ("used_percent_root", 10.0),
        ("used_percent_mnt_a_b", 85.0),
        ("used_percent_mnt_full", 95.0),
    ] {
        assert_eq!(value(&report, name), Some(expected), "{name}");
    }
}

#[test]
fn a_file_system_that_cannot_be_asked_is_a_failure_unless_another_is_bad() {
    let with = |used: u64| FileSystemUsage {
        space: room(100, 100 - used, 100 - used),
        ..FileSystemUsage::default()
    };
    let unknown = [ExamineError::NoSpace("/mnt/b".into())];
    let judge = |used| {
        let found = [at("/mnt/a", with(used))];
        report::of_all(&found, &unknown, Vec::new(), &limits(80.0, 90.0))
    };
    let failure = judge(10).unwrap_err();
    assert!(
        failure.message().starts_with("\"/mnt/b\" is on"),
        "{failure}"
    );
    let report = judge(85).unwrap();
    assert_eq!(report.status(), Status::Degraded);
    assert!(report.message().contains("; \"/mnt/b\" is on"));
}

#[test]
fn a_dead_mount_is_named_beside_the_figures_of_the_others() {
    let fill = FileSystemUsage {
        space: room(100, 90, 90),
        ..FileSystemUsage::default()
    };
    let dead = || vec!["/mnt/nas".into()];
    let limits = limits(80.0, 90.0);
    let report = report::of_all(&[at("/mnt/a", fill)], &[], dead(), &limits).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "no answer from the file system at /mnt/nas: its server or device may be gone; \
         worst of 1: /mnt/a: 10.0 % used, 90 B of 100 B free"
    );
    assert_eq!(value(&report, "file_systems"), Some(2.0));
    assert_eq!(value(&report, "used_percent_mnt_a"), Some(10.0));
    let report = report::of_all(&[], &[], dead(), &limits).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(value(&report, "used_percent"), None);
}

#[cfg(target_os = "linux")]
#[test]
fn every_file_system_of_this_machine_is_one_platform() {
    let host = TestHost::new("here");
    let config = r#"{"path": "/**", "degraded_above": 100, "unhealthy_above": 100}"#;
    let mut probe = host.create::<DiskProbe>(config).unwrap();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(value(&report, "file_systems").unwrap() >= 1.0);
    assert!(value(&report, "used_percent_root").is_some(), "{report:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_no_mount_point_is_unhealthy_where_it_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new("here");
    let check = |path: &str| {
        let config = format!(
            r#"{{"path": {path:?}, "mounted": true, "degraded_above": 100, "unhealthy_above": 100}}"#
        );
        let mut probe = host.create::<DiskProbe>(&config).unwrap();
        host.check(&mut probe).unwrap()
    };
    assert_eq!(check("/").status(), Status::Healthy);
    for path in [folder.path().to_owned(), folder.path().join("missing/*")] {
        let report = check(path.to_str().unwrap());
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
        assert!(report.measurements().is_empty(), "of another file system");
    }
}

/// Tests with real mounts, if this user may create them.
#[cfg(target_os = "linux")]
mod mounted {
    use std::{path::Path, process::Command};

    use super::*;

    const INSIDE: &str = "CONDUCTOR_DISK_TEST_IN_NAMESPACE";

    /// Runs the test named `name` again in a separate mount namespace; returns false if it is already there.
    fn moved_to_a_namespace(name: &str) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return false;
        }
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user"]);
        if !unshare
            .arg("true")
            .output()
            .is_ok_and(|done| done.status.success())
        {
            eprintln!("skipped: this machine makes no mount namespace");
            return true;
        }
        let done = Command::new("unshare")
            .args(["--mount", "--map-root-user"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{output}");
        assert!(output.contains("1 passed"), "{output}");
        true
    }

    fn run(program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).output().unwrap();
        assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    }

    fn mount(point: &Path) {
        mount_device("tmpfs", point);
    }

    fn mount_device(device: &str, point: &Path) {
        std::fs::create_dir_all(point).unwrap();
        let point = point.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=4m", device, point]);
    }

    #[test]
    fn a_mount_that_turns_read_only_or_goes_away_is_noticed() {
        if moved_to_a_namespace(
            "tests::mounted::a_mount_that_turns_read_only_or_goes_away_is_noticed",
        ) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        mount(&a);
        mount(&b);
        std::fs::create_dir(a.join("data")).unwrap();
        let host = TestHost::new("here");
        let probe = |path: &Path, rest: &str| {
            let config = format!(r#"{{"path": {path:?}{rest}}}"#);
            host.create::<DiskProbe>(&config).unwrap()
        };
        let mut plain = probe(&a, "");
        let mut below = probe(&a.join("data"), "");
        let mut strict = probe(&a, r#", "mounted": true, "writable": true"#);
        let mut all = probe(
            &folder.path().join("*"),
            r#", "mounted": true, "writable": true"#,
        );
        let mut any = probe(&folder.path().join("*"), "");
        for probe in [&mut plain, &mut below, &mut strict, &mut all, &mut any] {
            let report = host.check(probe).unwrap();
            assert_eq!(report.status(), Status::Healthy, "{report:?}");
            assert_eq!(value(&report, "read_only"), Some(0.0), "{report:?}");
        }

        // A read-only view of it is not the file system's own state.
        let at_a = a.to_str().unwrap();
        run("mount", &["-o", "remount,bind,ro", at_a]);
        let report = host.check(&mut strict).unwrap();
        assert_eq!(report.status(), Status::Healthy, "{report:?}");
        run("mount", &["-o", "remount,bind,rw", at_a]);

        run("mount", &["-o", "remount,ro", at_a]);
        for (probe, status) in [
            (&mut plain, Status::Healthy),
            (&mut strict, Status::Unhealthy),
            (&mut all, Status::Unhealthy),
            (&mut any, Status::Healthy),
        ] {
            let report = host.check(probe).unwrap();
            assert_eq!(report.status(), status, "{report:?}");
            assert_eq!(value(&report, "read_only"), Some(1.0), "{report:?}");
        }

        run("umount", &[at_a]);
        for probe in [&mut plain, &mut below, &mut strict, &mut all] {
            for _ in 0..2 {
                let report = host.check(probe).unwrap();
                assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
                assert!(report.message().contains(at_a), "{report:?}");
                assert!(report.measurements().is_empty(), "{report:?}");
            }
        }
        let report = host.check(&mut any).unwrap();
        assert_eq!(value(&report, "file_systems"), Some(1.0), "{report:?}");

        mount(&a);
        std::fs::create_dir(a.join("data")).unwrap();
        for probe in [&mut plain, &mut below, &mut strict, &mut all] {
            let report = host.check(probe).unwrap();
            assert_eq!(report.status(), Status::Healthy, "{report:?}");
        }
    }

    #[test]
    fn another_device_at_the_same_mount_point_is_unhealthy_until_the_config_accepts_it() {
        if moved_to_a_namespace(
            "tests::mounted::another_device_at_the_same_mount_point_is_unhealthy_until_the_config_accepts_it",
        ) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().join("data");
        mount_device("disk-1", &point);
        let host = TestHost::new("here");
        let probe = |path: &Path, rest: &str| {
            let config = format!(r#"{{"path": {path:?}{rest}}}"#);
            host.create::<DiskProbe>(&config).unwrap()
        };
        let mut plain = probe(&point, "");
        let mut strict = probe(&point, r#", "mounted": true"#);
        let mut all = probe(&folder.path().join("*"), r#", "mounted": true"#);
        let mut named = probe(&point, r#", "device": "disk-1""#);
        for probe in [&mut plain, &mut strict, &mut all, &mut named] {
            let report = host.check(probe).unwrap();
            assert_eq!(report.status(), Status::Healthy, "{report:?}");
        }

        run("umount", &[point.to_str().unwrap()]);
        mount_device("disk-2", &point);
        for _ in 0..2 {
            for probe in [&mut strict, &mut all, &mut named] {
                let report = host.check(probe).unwrap();
                assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
                let said = report.message();
                assert!(said.contains("expected disk-1, found disk-2"), "{said}");
                assert!(report.measurements().is_empty(), "of another device");
            }
            let report = host.check(&mut plain).unwrap();
            assert_eq!(report.status(), Status::Healthy, "{report:?}");
        }
        let mut accepted = probe(&point, r#", "device": "disk-2", "mounted": true"#);
        let report = host.check(&mut accepted).unwrap();
        assert_eq!(report.status(), Status::Healthy, "{report:?}");

        // Mounted again, or below the expected one: judged by the visible mount.
        run("umount", &[point.to_str().unwrap()]);
        mount_device("disk-1", &point);
        for probe in [&mut strict, &mut all, &mut named] {
            let report = host.check(probe).unwrap();
            assert_eq!(report.status(), Status::Healthy, "{report:?}");
        }
    }
}
