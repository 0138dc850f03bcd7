//! Records the past of platforms: their changes of state as the engine publishes them, and their checks, read from each
//! guard's last ones at a steady pace.
//!
//! One thread does it, apart from every check: a guard is only ever looked at as the status page does. What the feed of
//! changes has lost, and what it does not publish (maintenance, pauses, restored states), is found by comparing.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_config::HistoryConfig;
use conductor_engine::{
    board::StatusBoard,
    changes::{ChangeSubscription, ConfirmedChange},
    guard::{GuardContext, PlatformGuard},
    history::PastCheck,
    metrics::HistoryHealth,
};
use conductor_history::{
    FILE, HistoryLimits, HistoryWriter, PlatformKey, RecordedChange, RollupCell, StoredState,
    rollup::RollupTier,
};

mod past;

pub(super) use past::StoredPast;

/// The thread that records; writes the last batch when it is dropped.
pub(super) struct HistoryRecorder {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl HistoryRecorder {
    /// Starts recording into the file of this state folder, if the config wants a history.
    ///
    /// # Errors
    /// When the OS starts no thread.
    pub(super) fn start(
        config: &HistoryConfig,
        state_dir: &Path,
        shared: &Arc<GuardContext>,
        board: &Arc<StatusBoard>,
    ) -> io::Result<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let mut recorder = Recorder::new(shared, board);
        let limits = HistoryLimits {
            max_size: config.max_size,
            five_minutes: config.five_minutes,
            hours: config.hours,
            days: config.days,
        };
        let writer = HistoryWriter::start(state_dir.join(FILE), limits, recorder.run_start)?;
        let stop = Arc::<AtomicBool>::default();
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("history-recorder".to_owned())
            .spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    recorder.turn(&writer, &stopping);
                }
                recorder.finish(&writer);
            })?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for HistoryRecorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct Recorder {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    changes: ChangeSubscription,
    platforms: HashMap<Arc<str>, RecordedPlatform>,
    /// The time at which each platform is to be visited.
    due: BinaryHeap<Reverse<(Duration, Arc<str>)>>,
    /// The start of the run that is recorded, in milliseconds since 1970.
    run_start: i64,
    /// The last turn, by the host's clock and by the wall clock.
    last_turn: (Duration, i64),
    /// The next comparison of the list of platforms.
    next_follow: Duration,
    /// Counts those comparisons.
    pass: u64,
    /// Checks on their way from a guard to a cell.
    checks: Vec<PastCheck>,
}

/// The recorded past of one platform, and what is still to be recorded.
struct RecordedPlatform {
    key: Arc<PlatformKey>,
    guard: Arc<PlatformGuard>,
    state: StoredState,
    maintenance: bool,
    /// The time of the last recorded change.
    changed: i64,
    /// The time up to which the cell has the state.
    accounted: i64,
    cell: RollupCell,
    /// The end of the last check that was read, by the host's clock.
    read: Duration,
    /// The number of checks that were counted.
    counted: u64,
    next_visit: Duration,
    pass: u64,
}

impl Recorder {
    fn new(shared: &Arc<GuardContext>, board: &Arc<StatusBoard>) -> Self {
        let now = shared.clock.now();
        let wall = millis(shared.unix_seconds(now));
        Self {
            changes: shared.changes.subscribe(CHANGES),
            shared: Arc::clone(shared),
            board: Arc::clone(board),
            platforms: HashMap::new(),
            due: BinaryHeap::new(),
            run_start: wall,
            last_turn: (now, wall),
            next_follow: Duration::ZERO,
            pass: 0,
            checks: Vec::new(),
        }
    }

    /// Records the changes of a second, and visits the platforms that are due.
    fn turn(&mut self, writer: &HistoryWriter, stopping: &AtomicBool) {
        let until = self.shared.clock.now() + TURN;
        loop {
            let left = until.saturating_sub(self.shared.clock.now());
            if left.is_zero() || stopping.load(Ordering::Relaxed) {
                break;
            }
            if let Ok(change) = self.changes.next(left.min(STOP_LATENCY)) {
                self.changed(&change, writer);
            }
        }
        self.shared.follow_wall_clock();
        let now = self.shared.clock.now();
        self.look(now, writer);
    }

    /// Does what is due at `now`.
    fn look(&mut self, now: Duration, writer: &HistoryWriter) {
        let wall = self.wall(now);
        let (last, last_wall) = self.last_turn;
        let passed = now.saturating_sub(last);
        let by_wall = wall - last_wall;
        let was_set = (by_wall - whole_millis(passed)).abs() > CLOCK_STEP;
        self.last_turn = (now, wall);
        // The machine slept, or its clock was set: what was in between is not known.
        if was_set || passed > LONGEST_SILENCE || writer.wants_all() {
            self.begin_run(now, writer);
        }
        // States are compared in the walk, so the number does not matter.
        let _ = self.changes.take_lost();
        if now >= self.next_follow {
            self.next_follow = now + FOLLOW;
            self.follow(now, writer);
        }
        while let Some(Reverse((due, _))) = self.due.peek()
            && *due <= now
        {
            let Some(Reverse((due, name))) = self.due.pop() else {
                break;
            };
            let Some(platform) = self.platforms.get_mut(&name) else {
                continue;
            };
            // It may have been removed and added again.
            if platform.next_visit == due {
                let visit = Visit::new(&self.shared, writer, now, self.run_start);
                platform.visit(&visit, &mut self.checks);
                platform.next_visit = now + platform.visit_period();
                self.due.push(Reverse((platform.next_visit, name)));
            }
        }
        let settled = wall - whole_millis(SETTLING);
        writer.alive(wall, settled);
        let counts = writer.counts();
        self.shared.metrics.set_history(HistoryHealth {
            lost: counts.lost.load(Ordering::Relaxed),
            is_failing: counts.is_failing.load(Ordering::Relaxed),
        });
    }

    /// Begins a new run, in which every state is recorded again.
    fn begin_run(&mut self, now: Duration, writer: &HistoryWriter) {
        self.run_start = self.wall(now);
        writer.begin_run(self.run_start);
        self.due.clear();
        let count = self.platforms.len();
        for (place, (name, platform)) in self.platforms.iter_mut().enumerate() {
            platform.emit(writer, RollupTier::Five.bucket(platform.accounted));
            platform.state = StoredState::None;
            platform.maintenance = false;
            platform.changed = self.run_start;
            platform.accounted = self.run_start;
            platform.next_visit = now + spread(place, count);
            self.due
                .push(Reverse((platform.next_visit, Arc::clone(name))));
        }
    }

    /// Records a published change.
    fn changed(&mut self, change: &ConfirmedChange, writer: &HistoryWriter) {
        let now = self.shared.clock.now();
        if !self.platforms.contains_key(&change.platform) {
            let Some(guard) = self.board.guard(&change.platform) else {
                return;
            };
            self.add(guard, now, Duration::ZERO);
        }
        let Some(platform) = self.platforms.get_mut(&change.platform) else {
            return;
        };
        let visit = Visit::new(&self.shared, writer, now, self.run_start);
        platform.read_checks(&visit, &mut self.checks);
        let (state, at) = (StoredState::from(change.after), millis(change.at));
        platform.record(&visit, at, state, change.in_maintenance, &change.message);
    }

    /// Follows the list of platforms, and their maintenance.
    fn follow(&mut self, now: Duration, writer: &HistoryWriter) {
        self.pass += 1;
        let guards = self.board.platform_guards();
        let count = guards.len();
        for (place, guard) in guards.into_iter().enumerate() {
            let Some(platform) = self.platforms.get_mut(&guard.settings().name) else {
                self.add(guard, now, spread(place, count));
                continue;
            };
            platform.pass = self.pass;
            let visit = Visit::new(&self.shared, writer, now, self.run_start);
            if !Arc::ptr_eq(&platform.guard, &guard) {
                platform.replace(guard, &visit, &mut self.checks);
            }
            let in_maintenance = platform.guard.is_in_maintenance();
            if in_maintenance != platform.maintenance {
                let state = platform.state;
                platform.record(&visit, visit.wall, state, in_maintenance, "");
            }
        }
        let (pass, run_start) = (self.pass, self.run_start);
        let visit = Visit::new(&self.shared, writer, now, run_start);
        let checks = &mut self.checks;
        self.platforms.retain(|_, platform| {
            let stays = platform.pass == pass;
            if !stays {
                platform.read_checks(&visit, checks);
                platform.record(&visit, visit.wall, StoredState::None, false, "");
                platform.emit(writer, RollupTier::Five.bucket(platform.accounted));
            }
            stays
        });
    }

    fn add(&mut self, guard: Arc<PlatformGuard>, now: Duration, wait: Duration) {
        let name = Arc::clone(&guard.settings().name);
        let wall = self.wall(now);
        let start = if self.pass <= 1 { self.run_start } else { wall };
        let platform = RecordedPlatform {
            key: key_of(&guard),
            state: StoredState::None,
            maintenance: false,
            changed: start,
            accounted: start,
            cell: RollupCell::default(),
            // What it remembers from before this recorder is not of this run.
            read: Duration::ZERO,
            counted: 0,
            next_visit: now + wait,
            pass: self.pass,
            guard,
        };
        self.due
            .push(Reverse((platform.next_visit, Arc::clone(&name))));
        self.platforms.insert(name, platform);
    }

    /// Records everything up to now.
    fn finish(&mut self, writer: &HistoryWriter) {
        while let Ok(change) = self.changes.next(Duration::ZERO) {
            self.changed(&change, writer);
        }
        let now = self.shared.clock.now();
        let wall = self.wall(now);
        for platform in self.platforms.values_mut() {
            let visit = Visit::new(&self.shared, writer, now, self.run_start);
            platform.visit(&visit, &mut self.checks);
            platform.emit(writer, RollupTier::Five.bucket(platform.accounted));
        }
        writer.alive(wall, wall - whole_millis(SETTLING));
    }

    fn wall(&self, now: Duration) -> i64 {
        millis(self.shared.unix_seconds(now))
    }
}

/// A look at one platform.
struct Visit<'a> {
    shared: &'a GuardContext,
    writer: &'a HistoryWriter,
    /// The time of the look, in milliseconds since 1970.
    wall: i64,
    run_start: i64,
}

impl<'a> Visit<'a> {
    fn new(
        shared: &'a GuardContext,
        writer: &'a HistoryWriter,
        now: Duration,
        run_start: i64,
    ) -> Self {
        Self {
            shared,
            writer,
            wall: millis(shared.unix_seconds(now)),
            run_start,
        }
    }
}

impl RecordedPlatform {
    /// Reads what is new, and compares the state with the recorded one.
    fn visit(&mut self, visit: &Visit<'_>, checks: &mut Vec<PastCheck>) {
        self.read_checks(visit, checks);
        let found = self.guard.observed();
        let state = StoredState::from(found.state);
        if state != self.state {
            let at = found.since.map_or(visit.wall, millis);
            let message = match state {
                StoredState::None => String::new(),
                _ => self.guard.last_message(),
            };
            self.record(visit, at, state, found.in_maintenance, &message);
        } else if found.in_maintenance != self.maintenance {
            self.record(visit, visit.wall, state, found.in_maintenance, "");
        }
        self.account(visit.writer, visit.wall);
    }

    /// Adds the checks that ended since the last look to the cells of their times.
    fn read_checks(&mut self, visit: &Visit<'_>, checks: &mut Vec<PastCheck>) {
        checks.clear();
        self.guard.add_checks_since(self.read, checks);
        let Some(last) = checks.last() else {
            return;
        };
        self.read = last.ended;
        let found = u64::try_from(checks.len()).unwrap_or(u64::MAX);
        if checks.len() == conductor_engine::history::CHECKS {
            // More may have ended than are kept: the counter has them all, the durations are a sample.
            let all = self.guard.checks_ended();
            self.cell.checks += all.saturating_sub(self.counted + found);
            self.counted = all;
        } else {
            self.counted += found;
        }
        for check in checks.drain(..) {
            let ended = millis(visit.shared.unix_seconds(check.ended)).min(visit.wall);
            let bucket = RollupTier::Five.bucket(ended);
            self.account(visit.writer, ended);
            if bucket < RollupTier::Five.bucket(self.accounted) {
                // Its bucket is already written; the file adds what comes late.
                let mut late = RollupCell {
                    checks: 1,
                    ..RollupCell::default()
                };
                late.durations.add(check.took);
                visit.writer.cell(Arc::clone(&self.key), bucket, late);
            } else {
                self.cell.checks += 1;
                self.cell.durations.add(check.took);
            }
        }
    }

    /// Records a state from `at` on.
    fn record(
        &mut self,
        visit: &Visit<'_>,
        at: i64,
        state: StoredState,
        maintenance: bool,
        message: &str,
    ) {
        if (state, maintenance) == (self.state, self.maintenance) {
            return;
        }
        let at = at
            .max(self.changed)
            .max(visit.run_start)
            .min(visit.wall.max(visit.run_start));
        self.account(visit.writer, at);
        (self.state, self.maintenance, self.changed) = (state, maintenance, at);
        visit.writer.change(RecordedChange {
            platform: Arc::clone(&self.key),
            at,
            state,
            maintenance,
            message: shortened(message).into(),
        });
    }

    /// Adds the time up to `until` to the cell in the recorded state; hands over each bucket that has ended.
    fn account(&mut self, writer: &HistoryWriter, until: i64) {
        while self.accounted < until {
            let bucket = RollupTier::Five.bucket(self.accounted);
            let end = (bucket + 1) * RollupTier::Five.millis();
            let stop = until.min(end);
            let spent = u64::try_from(stop - self.accounted).unwrap_or_default();
            let states = self.cell.state_millis.iter_mut().zip(StoredState::ALL);
            for (millis, state) in states {
                *millis += if state == self.state { spent } else { 0 };
            }
            if self.maintenance {
                self.cell.maintenance_millis += spent;
            }
            self.accounted = stop;
            if stop == end {
                self.emit(writer, bucket);
            }
        }
    }

    /// Hands over the cell of a bucket, unless it has nothing but time without a result.
    fn emit(&mut self, writer: &HistoryWriter, bucket: i64) {
        let cell = std::mem::take(&mut self.cell);
        let [healthy, degraded, unhealthy, failed, _none] = cell.state_millis;
        if cell.checks > 0 || healthy + degraded + unhealthy + failed > 0 {
            writer.cell(Arc::clone(&self.key), bucket, cell);
        }
    }

    /// Goes on with the guard that a reload has put in the place of the platform's.
    fn replace(
        &mut self,
        guard: Arc<PlatformGuard>,
        visit: &Visit<'_>,
        checks: &mut Vec<PastCheck>,
    ) {
        self.read_checks(visit, checks);
        self.counted = guard.checks_ended();
        let key = key_of(&guard);
        if (&key.plugin, &key.group) != (&self.key.plugin, &self.key.group) {
            self.key = key;
        }
        self.guard = guard;
    }

    /// Returns the time between two visits, within which a guard forgets no check.
    fn visit_period(&self) -> Duration {
        let kept = self
            .guard
            .settings()
            .interval
            .saturating_mul(KEPT_INTERVALS);
        kept.clamp(TURN, LONGEST_PERIOD)
    }
}

/// Returns the key of a guard's platform.
fn key_of(guard: &PlatformGuard) -> Arc<PlatformKey> {
    let settings = guard.settings();
    Arc::new(PlatformKey::new(
        Arc::clone(&settings.name),
        guard.plugin().id().into(),
        settings.labels.get("group").cloned(),
    ))
}

/// Returns the wait that spreads the first visits evenly.
fn spread(place: usize, count: usize) -> Duration {
    let (place, count) = (u32::try_from(place), u32::try_from(count.max(1)));
    FIRST_VISITS.saturating_mul(place.unwrap_or(0)) / count.unwrap_or(u32::MAX)
}

/// Cuts a message to the length that is stored.
fn shortened(message: &str) -> &str {
    message
        .char_indices()
        .nth(MESSAGE_CHARS)
        .map_or(message, |(end, _)| message.get(..end).unwrap_or(message))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a date in milliseconds is far from the limits of an i64"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn whole_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The time between two looks at what is due.
const TURN: Duration = Duration::from_secs(1);
/// The longest time until the thread notices that it should stop.
const STOP_LATENCY: Duration = Duration::from_millis(100);
/// The time between two comparisons of the list of platforms and their maintenance.
const FOLLOW: Duration = Duration::from_secs(5);
/// The time over which the first visits are spread.
const FIRST_VISITS: Duration = Duration::from_secs(10);
/// Intervals between two visits: three quarters of the checks that a guard keeps.
const KEPT_INTERVALS: u32 = 45;
/// The longest time between two visits: half of the shortest bucket.
const LONGEST_PERIOD: Duration = Duration::from_secs(150);
/// The age from which no cells come any more.
const SETTLING: Duration = Duration::from_mins(15);
/// The time between two turns from which the machine must have slept.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// The step of the wall clock, in milliseconds, from which the time between is not known.
const CLOCK_STEP: i64 = 10_000;
/// The changes that may wait in the subscription.
const CHANGES: usize = 65_536;
/// The characters of a message that are stored.
const MESSAGE_CHARS: usize = 500;
