//! Maintenance by both clocks, set by the tests.

use std::collections::BTreeMap;

use conductor_core::{breaker::BreakerSettings, clock::Clock};
use conductor_engine::{
    guard::{PlatformGuard, PlatformSettings, PluginGuard},
    log_tail::LogTail,
    metrics::HostMetrics,
};
use conductor_library::{Catalog, TrustPolicy};
use conductor_types::{Checks, Priority};

use super::*;

/// A calendar over one platform, `shop`.
struct Scene {
    calendar: MaintenanceCalendar,
    guard: Arc<PlatformGuard>,
    _state: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let catalog =
            Catalog::open(&[], false, TrustPolicy::default(), Some(state.path())).unwrap();
        let clock = Clock::start();
        let shared = Arc::new(GuardContext::new(clock, HostMetrics::by(clock), 1));
        let board = StatusBoard::new(
            Arc::clone(&shared),
            Arc::new(catalog),
            Vec::new(),
            LogTail::default(),
        );
        let breaker = BreakerSettings::try_new(3, 30 * S, 600 * S).unwrap();
        let plugin = PluginGuard::new("http", breaker, 8, &shared);
        let settings = PlatformSettings {
            name: "shop".into(),
            interval: 5 * S,
            timeout: 4 * S,
            priority: Priority::Normal,
            breaker,
            labels: BTreeMap::new(),
            url: None,
            description: None,
        };
        let guard = PlatformGuard::new(settings, Arc::new(plugin), Arc::clone(&shared));
        let guard = Arc::new(guard);
        board.hang_up(vec![Arc::clone(&guard)], Vec::new());
        let (calendar, _wake) = MaintenanceCalendar::new(shared, Arc::new(board));
        Self {
            calendar,
            guard,
            _state: state,
        }
    }

    fn start(&self, length: &str, now: ClockReading) {
        self.calendar
            .start_at(&order(1, length), &ActionOrigin::default(), now)
            .unwrap();
    }

    /// Evaluates at `now`; returns `true` if checks are paused, and the date at which the window in force ends.
    fn turn(&self, now: ClockReading) -> (bool, Option<f64>) {
        self.calendar.turn_at(now);
        let windows = self.calendar.board.windows();
        let until = windows.iter().find_map(|window| window.in_force_until);
        (self.guard.is_paused(), until)
    }
}

fn order(many: usize, length: &str) -> MaintenanceOrder {
    MaintenanceOrder {
        platforms: vec!["shop".to_owned(); many],
        labels: BTreeMap::new(),
        length: length.to_owned(),
        reason: String::new(),
        checks: Checks::Pause,
    }
}

/// Returns the moment this many seconds after the start of a host whose clock began at this wall time.
fn at(seconds: f64, origin: f64) -> ClockReading {
    ClockReading {
        host: Duration::from_secs_f64(seconds),
        origin,
    }
}

const S: Duration = Duration::from_secs(1);
const HOUR: f64 = 3600.0;
/// A November of 2025.
const ORIGIN: f64 = 1_763_000_000.0;

#[test]
fn a_length_of_time_goes_by_the_hosts_clock_wherever_the_wall_clock_is_set() {
    for jump in [0.0, -HOUR, -24.0 * HOUR, HOUR, 365.0 * 24.0 * HOUR, 0.25] {
        let scene = Scene::new();
        scene.start("30s", at(5.5, ORIGIN));
        assert_eq!(scene.turn(at(6.0, ORIGIN)), (true, Some(ORIGIN + 36.0)));
        let origin = ORIGIN + jump;
        let (paused, until) = scene.turn(at(7.0, origin));
        assert!(paused, "the clock was set by {jump} s");
        let until = until.unwrap();
        assert!((until - origin - 35.5).abs() <= 1.0, "{until}, {jump}");
        assert!(scene.turn(at(35.4, origin)).0, "by {jump} s");
        assert_eq!(scene.turn(at(35.5, origin)), (false, None), "by {jump} s");
        assert!(scene.calendar.board.windows().is_empty());
    }
}

#[test]
fn a_date_in_the_config_goes_by_the_wall_clock() {
    let scene = Scene::new();
    let date = |seconds: f64| at(seconds, ORIGIN).wall();
    let window = MaintenanceWindow {
        name: "later".into(),
        reason: "".into(),
        checks: Checks::Pause,
        scope: WindowScope::default(),
        times: WindowSchedule::once(date(12.0 * HOUR), date(48.0 * HOUR)).unwrap(),
        origin: WindowOrigin::Config,
        by: None,
    };
    scene.calendar.inner().windows = vec![window];
    scene
        .calendar
        .apply(&mut scene.calendar.inner(), at(0.0, ORIGIN));
    assert_eq!(scene.turn(at(10.0, ORIGIN)), (false, None));
    let day_on = ORIGIN + 24.0 * HOUR;
    assert_eq!(
        scene.turn(at(11.0, day_on)),
        (true, Some(ORIGIN + 48.0 * HOUR))
    );
    assert_eq!(scene.turn(at(12.0, ORIGIN)), (false, None), "set back");
    assert!(scene.turn(at(12.0 * HOUR, ORIGIN)).0, "as time goes by");
}

#[test]
fn the_thread_sleeps_until_the_end_that_comes_first_and_a_second_at_most() {
    let scene = Scene::new();
    let wait = |seconds| scene.calendar.turn_at(at(seconds, ORIGIN));
    assert_eq!(wait(0.0), None, "nothing to wait for");
    scene.start("30s", at(0.0, ORIGIN));
    assert_eq!(wait(10.0), Some(S));
    assert_eq!(wait(29.75), Some(S / 4));
    assert_eq!(wait(30.0), None);
}

#[test]
fn an_order_for_too_many_windows_is_refused_before_any_of_its_names_is_looked_at() {
    let scene = Scene::new();
    let unknown = |many| MaintenanceOrder {
        platforms: vec!["unknown".to_owned(); many],
        ..order(1, "1h")
    };
    assert!(matches!(
        scene
            .calendar
            .start(&unknown(MOST_WINDOWS), &ActionOrigin::default()),
        Err(OrderError::NoSuchPlatform(_))
    ));
    let refused = scene
        .calendar
        .start(&unknown(MOST_WINDOWS + 1), &ActionOrigin::default())
        .unwrap_err();
    let OrderError::Invalid(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("more than 1000 windows"), "{why}");
}
