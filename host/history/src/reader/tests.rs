//! Queries of real files, compared with the log of states that was written.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::{HistoryLimits, HistoryWriter, PlatformKey, RecordedChange};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_770_000_000_000 / 86_400_000 * 86_400_000;

/// Start and end of a run, and its changes.
type TestRun<'a> = (i64, i64, &'a [(i64, StoredState, &'a str)]);

struct TestFile {
    folder: TempDir,
    shop: Arc<PlatformKey>,
}

impl TestFile {
    /// Writes runs of a host, each with the changes of one platform.
    fn with(runs: &[TestRun<'_>]) -> Self {
        let shop = PlatformKey::new("shop".into(), "http".into(), Some("web".to_owned()));
        let file = Self {
            folder: TempDir::new().unwrap(),
            shop: Arc::new(shop),
        };
        for (start, end, changes) in runs {
            let writer = file.writer(*start);
            for (at, state, message) in *changes {
                writer.change(RecordedChange {
                    platform: Arc::clone(&file.shop),
                    at: *at,
                    state: *state,
                    maintenance: false,
                    message: (*message).into(),
                });
            }
            writer.alive(*end, *end);
        }
        file
    }

    fn writer(&self, start: i64) -> HistoryWriter {
        let path = self.folder.path().join(crate::FILE);
        HistoryWriter::start(path, HistoryLimits::default(), start).unwrap()
    }

    fn reader(&self) -> HistoryReader {
        HistoryReader::new(
            &self.folder.path().join(crate::FILE),
            Duration::from_secs(30),
        )
    }
}

#[test]
fn uptime_incidents_and_timeline_come_from_what_was_written() {
    use StoredState::{Healthy, Unhealthy};
    let file = TestFile::with(&[
        (
            START,
            START + 10 * HOUR,
            &[
                (START + HOUR, Healthy, "fine"),
                (START + 4 * HOUR, Unhealthy, "503"),
                (START + 5 * HOUR, Healthy, "fine again"),
            ],
        ),
        (
            START + 12 * HOUR,
            START + 20 * HOUR,
            &[
                (START + 12 * HOUR, Healthy, "fine"),
                (START + 19 * HOUR, Unhealthy, "timeout"),
            ],
        ),
    ]);
    let now = START + 20 * HOUR + 10;
    let view = file
        .reader()
        .platform("shop", HistoryRange::Day, now)
        .unwrap()
        .unwrap();
    // Known: 1–10 and 12–20 hours, of which two are down.
    let day = &view.uptime[0];
    assert_eq!((day.window.as_str(), day.known), ("24h", 17.0 * 3600.0));
    assert!((day.up.unwrap() - 15.0 / 17.0).abs() < 1e-9);
    let starts: Vec<_> = view
        .incidents
        .iter()
        .map(|i| (i.start, i.end, &*i.message))
        .collect();
    let at = |hour: i64| seconds(START + hour * HOUR);
    assert_eq!(
        starts,
        [(at(19), None, "timeout"), (at(4), Some(at(5)), "503")]
    );
    assert_eq!(view.incidents[0].group.as_deref(), Some("web"));
    assert_eq!(view.incidents[0].duration, 3600.0);
    let states: Vec<_> = view.timeline.spans.iter().map(|span| span.state).collect();
    let (up, down) = (Some(PlatformState::Healthy), Some(PlatformState::Unhealthy));
    assert_eq!(states, [None, up, down, up, None, up, down]);
    assert_eq!(
        file.reader()
            .platform("other", HistoryRange::Day, now)
            .unwrap(),
        None
    );
    let all = file.reader().incidents(&[], 2 * HOUR, 10, now).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        file.reader()
            .incidents(&["other".to_owned()], 20 * HOUR, 10, now)
            .unwrap(),
        []
    );
    let uptime = file
        .reader()
        .uptime(&["shop".to_owned(), "other".to_owned()], now)
        .unwrap();
    assert_eq!((uptime.len(), &uptime[0].windows), (1, &view.uptime));
    let page = file.reader().export(None, None, now).unwrap();
    assert_eq!((page.records.len(), page.next), (5, None));
    assert_eq!(
        (page.records[1].state.as_str(), page.records[1].at),
        ("unhealthy", at(4))
    );
}

#[test]
fn an_incident_that_began_before_the_range_keeps_its_start_and_first_message() {
    use StoredState::{Failed, Healthy, Unhealthy};
    let file = TestFile::with(&[(
        START,
        START + 60 * HOUR,
        &[
            (START, Healthy, ""),
            (START + HOUR, Failed, "first"),
            (START + 2 * HOUR, Unhealthy, "second"),
        ],
    )]);
    let view = file
        .reader()
        .platform("shop", HistoryRange::Day, START + 60 * HOUR)
        .unwrap()
        .unwrap();
    assert_eq!(view.incidents.len(), 1);
    assert_eq!(view.incidents[0].start, seconds(START + HOUR));
    assert_eq!(view.incidents[0].message, "first");
    assert_eq!(view.uptime[0].up, Some(0.0));
    assert_eq!(view.timeline.spans.len(), 1);
}

#[test]
fn durations_join_what_is_rolled_up_and_what_is_not_yet() {
    let file = TestFile::with(&[]);
    let first = RollupTier::Five.bucket(START);
    let write = |buckets: std::ops::Range<i64>, settled| {
        let writer = file.writer(START);
        for bucket in buckets {
            let mut cell = RollupCell {
                checks: 10,
                ..RollupCell::default()
            };
            (0..10).for_each(|_| cell.durations.add(Duration::from_millis(100)));
            writer.cell(Arc::clone(&file.shop), first + bucket, cell);
        }
        writer.alive(settled, settled);
    };
    // The last batch of a host rolls nothing up; the next host's first one does.
    write(0..500, START);
    let path = file.folder.path().join(crate::FILE);
    let mut store = store::HistoryStore::open(
        &path,
        HistoryLimits::default(),
        store::OpeningRun::First(START),
    )
    .unwrap();
    let now = START + 500 * 300_000;
    while store.tidy(now, now).unwrap() {}
    for range in HistoryRange::ALL {
        let view = file.reader().platform("shop", range, now).unwrap();
        // Without a change, nothing else is known of it.
        let view = view.unwrap().durations;
        let checks: u64 = view.buckets.iter().map(|bucket| bucket.checks).sum();
        let expected = if range == HistoryRange::Day {
            2_880
        } else {
            5_000
        };
        assert_eq!(checks, expected, "{range}");
        for bucket in view.buckets {
            assert_eq!(bucket.max, 0.1);
            assert!((bucket.p50 - 0.1).abs() <= 0.003, "{bucket:?}");
        }
    }
}

#[test]
fn a_missing_file_and_a_newer_one_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(crate::FILE);
    let reader = HistoryReader::new(&path, Duration::from_secs(1));
    let error = reader.export(None, None, START).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    let file = Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let error = reader.export(None, None, START).unwrap_err();
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

#[test]
fn a_long_list_of_spans_is_condensed_and_covers_the_range() {
    let changes: Vec<_> = (0..10_000)
        .map(|n| StoredChange {
            at: n * 10,
            state: if n % 2 == 0 {
                StoredState::Healthy
            } else {
                StoredState::Unhealthy
            },
            maintenance: false,
            message: String::new(),
        })
        .collect();
    let runs = [HostRun {
        start: 0,
        seen: 100_000,
    }];
    let spans = timeline::spans(&changes, &runs, 0, 100_000);
    let views = span_views(&spans, 0, 100_000);
    assert!(views.len() <= SHOWN_SPANS, "{}", views.len());
    assert_eq!((views[0].from, views.last().unwrap().to), (0.0, 100.0));
    assert!(views.windows(2).all(|pair| pair[0].to == pair[1].from));
}
