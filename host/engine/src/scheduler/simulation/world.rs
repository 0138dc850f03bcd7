//! The surroundings of a simulated host: a clock that is set by hand, events at times of it, and random numbers from a
//! seed. Everything happens on one thread, in an order that the seed determines.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use conductor_core::{
    clock::{Clock, ManualClock},
    random::SplitMix64,
};

use crate::{
    environment::{EngineEnvironment, ResourceMonitor, SampleSink},
    resources::MachineSample,
};

/// The environment of one simulated host; clones share their state.
#[derive(Clone)]
pub(in crate::scheduler) struct SimulatedWorld {
    pub(in crate::scheduler) clock: Clock,
    state: Arc<Mutex<WorldState>>,
}

struct WorldState {
    hand: ManualClock,
    random: SeededRandom,
    /// By time, and by the order in which they were added.
    events: BTreeMap<(Duration, u64), Event>,
    added: u64,
    sample: MachineSample,
    /// The chance, in percent, that there is no thread for a job.
    thread_shortage: u64,
    trace: Option<String>,
}

type Event = Box<dyn FnOnce() + Send>;

impl SimulatedWorld {
    pub(in crate::scheduler) fn new(seed: u64) -> Self {
        let (clock, hand) = Clock::manual();
        // Some tests look back in time.
        hand.advance_to(Duration::from_secs(100));
        let state = WorldState {
            hand,
            random: SeededRandom::new(seed),
            events: BTreeMap::new(),
            added: 0,
            sample: MachineSample::default(),
            thread_shortage: 0,
            trace: None,
        };
        Self {
            clock,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(in crate::scheduler) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(in crate::scheduler) fn advance_to(&self, now: Duration) {
        self.lock().hand.advance_to(now);
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut SeededRandom) -> T) -> T {
        draw(&mut self.lock().random)
    }

    /// Adds an event after a delay.
    pub(super) fn after(&self, delay: Duration, event: impl FnOnce() + Send + 'static) {
        let at = self.now() + delay;
        let mut state = self.lock();
        state.added += 1;
        let key = (at, state.added);
        state.events.insert(key, Box::new(event));
    }

    /// Returns the time of the next event.
    pub(super) fn next_event(&self) -> Option<Duration> {
        self.lock().events.keys().next().map(|(at, _)| *at)
    }

    /// Runs the next event if it is due; returns `false` if none is.
    pub(super) fn run_next(&self) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let Some(next) = state.events.first_entry().filter(|e| e.key().0 <= now) else {
            return false;
        };
        let event = next.remove();
        drop(state);
        event();
        true
    }

    /// Sets the use of the machine in percent, for the next samples.
    pub(super) fn set_machine(&self, cpu: f64, memory: f64) {
        self.lock().sample = MachineSample {
            cpu_percent: Some(cpu),
            cores: Some(4.0),
            memory_percent: Some(memory),
            ..MachineSample::default()
        };
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, line: fmt::Arguments<'_>) {
        let now = self.now();
        if let Some(trace) = &mut self.lock().trace {
            writeln!(trace, "{:.6} {line}", now.as_secs_f64()).unwrap();
        }
    }

    pub(super) fn set_thread_shortage(&self, percent: u64) {
        self.lock().thread_shortage = percent;
    }

    /// Starts to keep a trace, which costs time.
    pub(super) fn start_trace(&self) {
        self.lock().trace = Some(String::new());
    }

    pub(super) fn take_trace(&self) -> String {
        self.lock().trace.take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap()
    }
}

impl EngineEnvironment for SimulatedWorld {
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let shortage = self.lock().thread_shortage;
        if self.draw(|random| random.percent(shortage)) {
            return Err(io::Error::other(format!("no thread for {name:?}")));
        }
        let took = self.draw(|random| random.between(MS * 50, MS * 3000));
        self.after(took, job);
        Ok(())
    }

    fn start_monitor(
        &self,
        _: Clock,
        _: Vec<PathBuf>,
        on_sample: SampleSink,
    ) -> io::Result<Box<dyn ResourceMonitor>> {
        Ok(Box::new(SimulatedMonitor {
            world: self.clone(),
            on_sample: Arc::new(Mutex::new(on_sample)),
        }))
    }
}

/// Returns samples of the simulated machine.
struct SimulatedMonitor {
    world: SimulatedWorld,
    on_sample: Arc<Mutex<SampleSink>>,
}

impl ResourceMonitor for SimulatedMonitor {
    fn request(&self) -> bool {
        let on_sample = Arc::clone(&self.on_sample);
        let sample = self.world.lock().sample.clone();
        self.world
            .after(MS * 200, move || on_sample.lock().unwrap()(sample));
        true
    }
}

/// The random choices of a simulation, from its seed.
pub(super) struct SeededRandom(SplitMix64);

impl SeededRandom {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_micros()).unwrap();
        least + Duration::from_micros(self.below(span.max(1)))
    }

    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        let at = self.below(list.len().try_into().unwrap());
        list[usize::try_from(at).unwrap()]
    }
}

pub(super) const MS: Duration = Duration::from_millis(1);
