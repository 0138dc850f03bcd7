//! The file: any content comes back, no damage is believed, and a folder that cannot be written harms nothing.

use std::{fs, sync::Arc};

use conductor_library::{Catalog, TrustPolicy};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{board::StatusBoard, guard::GuardContext, log_tail::LogTail, metrics::HostMetrics};
use conductor_types::PlatformState;

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 1.7e9..2e9,
        1 => any::<f64>().prop_filter("comparable", |seconds| !seconds.is_nan()),
    ]
}

fn slot() -> impl Strategy<Value = SavedSlot> {
    let interval = (0_u64..u64::MAX).prop_map(Duration::from_nanos);
    (interval, any::<u32>()).prop_map(|(interval, number)| SavedSlot { interval, number })
}

fn state() -> impl Strategy<Value = SavedState> {
    let states = prop::sample::select(vec![
        PlatformState::Unknown,
        PlatformState::Unhealthy,
        PlatformState::Degraded,
        PlatformState::Healthy,
    ]);
    let results = (states.clone(), states, any::<[u16; 3]>());
    let flaps = (any::<u32>(), any::<bool>());
    (results, flaps, ".{0,40}", seconds(), seconds()).prop_map(
        |((confirmed, result, runs), (flap_steps, is_flapping), message, since, ended)| {
            SavedState {
                confirmed,
                result,
                runs,
                flap_steps,
                is_flapping,
                message,
                since,
                ended,
            }
        },
    )
}

fn breaker() -> impl Strategy<Value = SavedBreaker> {
    let position = prop_oneof![
        (any::<u32>(), seconds())
            .prop_map(|(failures, since)| SavedPosition::Closed { failures, since }),
        seconds().prop_map(|until| SavedPosition::Open { until }),
        Just(SavedPosition::HeldOpen),
        Just(SavedPosition::HeldClosed),
    ];
    (position, any::<u32>()).prop_map(|(position, trips)| SavedBreaker { position, trips })
}

fn platform() -> impl Strategy<Value = SavedPlatform> {
    let names = (".{1,20}", "[a-z]{1,9}", any::<u16>());
    (names, option::of(slot()), breaker(), option::of(state())).prop_map(
        |((name, plugin, fingerprint), slot, breaker, state)| SavedPlatform {
            name,
            plugin,
            fingerprint,
            slot,
            breaker,
            state,
        },
    )
}

fn host() -> impl Strategy<Value = SavedHost> {
    let lattice = (seconds(), slot()).prop_map(|(begun, monitor)| SavedLattice {
        begun,
        stagger: monitor.interval,
        monitor,
    });
    let texts = (option::of(".{1,9}"), ".{0,9}", option::of(".{1,9}"));
    let times = (any::<bool>(), seconds(), seconds());
    let window =
        (texts, times).prop_map(
            |((pattern, reason, by), (pauses, since, ends))| SavedWindow {
                pattern,
                labels: vec![("team".to_owned(), reason.clone())],
                reason,
                pauses,
                by,
                since,
                ends,
            },
        );
    (seconds(), option::of(lattice), vec(window, 0..3)).prop_map(|(written, lattice, windows)| {
        SavedHost {
            written,
            lattice,
            windows,
        }
    })
}

fn encode(host: &SavedHost, platforms: &[SavedPlatform]) -> Vec<u8> {
    let mut file = FileEncoder::new(host);
    platforms.iter().for_each(|platform| file.add(platform));
    file.finish()
}

proptest! {
    #[test]
    fn any_state_comes_back_as_it_was_saved(host in host(), platforms in vec(platform(), 0..6)) {
        let bytes = encode(&host, &platforms);
        prop_assert_eq!(decode(&bytes), Ok((host, platforms)));
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_or_has_another_byte_is_not_believed(
        host in host(), platforms in vec(platform(), 0..3), at: prop::sample::Index, change in 1..=u8::MAX,
    ) {
        let mut bytes = encode(&host, &platforms);
        let at = at.index(bytes.len());
        prop_assert!(decode(&bytes[..at]).is_err(), "cut off at {at}");
        bytes[at] ^= change;
        prop_assert!(decode(&bytes).is_err(), "another byte at {at}");
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes: Vec<u8>, head in 0..60_usize) {
        let _ = decode(&bytes);
        let mut file = encode(&SavedHost::default(), &[]);
        file.truncate(head);
        file.extend(&bytes);
        let _ = decode(&file);
    }

    #[test]
    fn no_saved_platform_builds_a_state_that_cannot_be_shown_and_saved(platform in platform()) {
        let clock = Clock::start();
        let limit = Duration::from_secs(3600);
        let written = clock.unix_seconds(clock.now());
        let host = SavedHost { written, ..SavedHost::default() };
        let shared = GuardContext::new(clock, HostMetrics::by(clock), 1);
        let resumption = Resumption::of(host, vec![platform.clone()], limit);
        let shared = Arc::new(shared.with_resumption(resumption));
        let guard = crate::guard::resumed_guard(&platform.name, &platform.plugin, &shared);
        let now = clock.now();
        let view = guard.view();
        prop_assert_eq!(view.before_restart.is_some(), platform.state.is_some());
        prop_assert!(view.last_check.unwrap_or_default() <= clock.unix_seconds(now));
        let retry = view.breaker.retry_at.unwrap_or_default();
        prop_assert!(retry <= clock.unix_seconds(now) + 661.0, "{retry}");
        let again = guard.saved(now, clock.unix_seconds(now));
        prop_assert!(decode(&encode(&SavedHost::default(), &[again])).is_ok());
    }
}

#[test]
fn the_format_is_the_one_that_its_number_names() {
    let host = SavedHost {
        written: 1.5,
        lattice: Some(SavedLattice {
            begun: 0.5,
            stagger: Duration::from_millis(500),
            monitor: SavedSlot {
                interval: Duration::from_secs(5),
                number: 0,
            },
        }),
        windows: vec![SavedWindow {
            pattern: Some("a*".to_owned()),
            labels: vec![("k".to_owned(), "v".to_owned())],
            reason: "r".to_owned(),
            pauses: true,
            by: None,
            since: 1.0,
            ends: 2.0,
        }],
    };
    let platform = SavedPlatform {
        name: "shop".to_owned(),
        plugin: "http".to_owned(),
        fingerprint: 258,
        slot: None,
        breaker: SavedBreaker {
            position: SavedPosition::Open { until: 4.0 },
            trips: 2,
        },
        state: Some(SavedState {
            confirmed: PlatformState::Healthy,
            result: PlatformState::Unhealthy,
            runs: [1, 2, 0],
            flap_steps: 3,
            is_flapping: false,
            message: "m".to_owned(),
            since: 1.0,
            ended: 2.0,
        }),
    };
    let bytes = encode(&host, &[platform]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // If this differs, hosts of both versions must not read each other's files: raise the number of the format.
    insta::assert_snapshot!(hex);
}

#[test]
fn a_file_of_another_format_says_so() {
    let mut bytes = encode(&SavedHost::default(), &[]);
    bytes[21] = 9;
    let told = decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        told,
        "it has format 9, this version of the host reads format 1"
    );
}

struct Scene {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog =
            Catalog::open(&[], false, TrustPolicy::default(), Some(folder.path())).unwrap();
        let clock = Clock::start();
        let shared = Arc::new(GuardContext::new(clock, HostMetrics::by(clock), 1));
        let board = StatusBoard::new(
            Arc::clone(&shared),
            Arc::new(catalog),
            Vec::new(),
            LogTail::default(),
        );
        Self {
            shared,
            board: Arc::new(board),
            folder,
        }
    }

    fn read(&self) -> Resumption {
        let limit = Duration::from_secs(3600);
        Resumption::read(self.folder.path(), self.shared.clock, limit)
    }
}

#[test]
fn the_state_is_written_at_the_end_and_the_platforms_that_are_not_there_yet_stay_in_it() {
    let scene = Scene::new();
    let guard = Arc::new(crate::guard::resumed_guard("shop", "http", &scene.shared));
    guard.set_slot(Some(7));
    scene.board.hang_up(vec![guard], Vec::new());
    let start = || {
        let (shared, board) = (&scene.shared, &scene.board);
        ResumptionWriter::start(shared, board, scene.folder.path()).unwrap()
    };
    drop(start());
    let clock = scene.shared.clock;
    let read = scene.read();
    assert!(
        read.claim("shop", "disk", clock).is_none(),
        "another plugin"
    );
    let saved = scene.read().claim("shop", "http", clock).unwrap();
    assert_eq!(saved.slot.map(|slot| slot.number), Some(7));

    // A host that finds the platform later does not lose its state if it is restarted before.
    let shared = GuardContext::new(clock, HostMetrics::by(clock), 1);
    let shared = shared.with_resumption(scene.read());
    let board = Scene::new().board;
    let (_, platforms) = decode(&shared.saved(&board)).unwrap();
    assert_eq!(platforms, [saved]);
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_or_that_is_damaged_is_ignored() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let file = scene.folder.path().join(FILE);
    let host = SavedHost {
        windows: vec![SavedWindow {
            pattern: None,
            labels: Vec::new(),
            reason: String::new(),
            pauses: false,
            by: None,
            since: 0.0,
            ends: 1.0,
        }],
        ..SavedHost::default()
    };
    let bytes = encode(&host, &[]);
    let windows = || scene.read().windows_before().len();
    fs::write(&file, &bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(windows(), 1);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o602)).unwrap();
    assert_eq!(windows(), 0, "others can write to it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(windows(), 0, "it is cut off");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(windows(), 0, "it is a folder");
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again_until_it_can() {
    let scene = Scene::new();
    let obstacle = scene.folder.path().join("resumption.new");
    fs::create_dir(&obstacle).unwrap();
    let (shared, board) = (&scene.shared, &scene.board);
    let writer = ResumptionWriter::start(shared, board, scene.folder.path()).unwrap();
    shared.resumption.note_order();
    fs::remove_dir(&obstacle).unwrap();
    drop(writer);
    assert!(scene.folder.path().join(FILE).is_file());
}

/// Prints the size of the file and the times to write and read it: `cargo test --release -p conductor-engine
/// resumption -- --nocapture`.
#[test]
fn a_hundred_thousand_platforms_take_some_megabytes() {
    let mut file = FileEncoder::new(&SavedHost::default());
    let begun = Clock::start();
    for nth in 0..100_000_u32 {
        file.add(&SavedPlatform {
            name: format!("service-{nth}.cluster.example"),
            plugin: "http".to_owned(),
            fingerprint: 7,
            slot: Some(SavedSlot {
                interval: Duration::from_secs(60),
                number: nth,
            }),
            breaker: SavedBreaker {
                position: SavedPosition::Closed {
                    failures: 0,
                    since: 1.7e9,
                },
                trips: 0,
            },
            state: Some(SavedState {
                confirmed: PlatformState::Healthy,
                result: PlatformState::Healthy,
                runs: [0; 3],
                flap_steps: 0,
                is_flapping: false,
                message: format!("200 OK in {nth} ms"),
                since: 1.7e9,
                ended: 1.7e9,
            }),
        });
    }
    let bytes = file.finish();
    let encoded = begun.now();
    let folder = tempfile::tempdir().unwrap();
    crate::state_file::replace(&folder.path().join(FILE), &bytes).unwrap();
    let written = begun.now();
    let (_, platforms) = decode(&bytes).unwrap();
    let read = begun.now();
    assert_eq!(platforms.len(), 100_000);
    assert!(bytes.len() < 15_000_000, "{}", bytes.len());
    println!(
        "{} bytes: encoded in {encoded:?}, written in {:?}, decoded in {:?}",
        bytes.len(),
        written - encoded,
        read - written
    );
}
