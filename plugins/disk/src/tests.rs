//! Real filesystems, and tables of made-up ones.

use conductor_plugin_api::{FailureKind, Report, Status, testing::TestHost};

use crate::{
    Disk,
    fill::{Fill, Room},
};

const GIB: u64 = 1 << 30;

fn value(report: &Report, name: &str) -> Option<f64> {
    let mut all = report.measurements().iter();
    all.find(|(n, _)| n == name).map(|(_, value)| *value)
}

fn room(size: u64, free: u64, available: u64) -> Room {
    Room {
        size,
        free,
        available,
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
    let mut probe = host.create::<Disk>(&config).unwrap();
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
    let mut probe = host.create::<Disk>(&config).unwrap();
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
        .create::<Disk>(&format!(r#"{{"path": {path:?}}}"#))
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
    let mut probe = host.create::<Disk>(r#"{"path": "/proc/self"}"#).unwrap();
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
    ] {
        let failure = TestHost::new("here")
            .create_unchecked::<Disk>(config)
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
    let full = Fill {
        space: room(100, 15, 15),
        ..Fill::default()
    };
    assert_eq!(full.judge(85.0, 85.0).status(), Status::Healthy);
    assert_eq!(full.judge(84.0, 84.0).status(), Status::Unhealthy);
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
        // Five of a hundred are kept for root: 76 used of the 95 others can have.
        (room(100, 24, 19), no_inodes, 80.0, None, Healthy),
        (room(100, 5, 0), no_inodes, 100.0, None, Unhealthy),
        // All of it is kept for root.
        (room(100, 100, 0), no_inodes, 100.0, None, Unhealthy),
        // Root has written into its reserve: minus ten blocks of 4 KiB, as it comes out unsigned.
        (
            room(100, 5, u64::MAX - 40_959),
            no_inodes,
            100.0,
            None,
            Unhealthy,
        ),
        // A filesystem that does not know better.
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
        let report = Fill { space, inodes }.judge(80.0, 90.0);
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
    let fill = Fill {
        space: room(500 * GIB, 30 * GIB, 25 * GIB),
        inodes: room(1000, 900, 900),
    };
    assert_eq!(
        fill.judge(80.0, 90.0).message(),
        "94.9 % used, 25.0 GiB of 500.0 GiB free; 10.0 % of the inodes used (limit 90 %)"
    );
    let small = Fill {
        space: room(GIB - 1, 512, 512),
        ..Fill::default()
    };
    assert_eq!(
        small.judge(100.0, 100.0).message(),
        "100.0 % used, 512 B of 1.0 GiB free"
    );
}

#[test]
fn a_kept_back_block_is_not_free() {
    let report = Fill {
        space: room(100 * GIB, 10 * GIB, 4 * GIB),
        ..Fill::default()
    }
    .judge(80.0, 90.0);
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let expected = (4 * GIB) as f64;
    assert_eq!(value(&report, "free_bytes"), Some(expected));
}
