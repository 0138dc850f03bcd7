//! Notifications: one thread, with a runtime of its own, that follows changes of platforms' states and tells receivers.
//!
//! A change makes a platform's name pending; once `group_wait` is over, the state that the board shows then counts. A platform
//! that has no result yet or is in maintenance is looked at again until that is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_config::ConductorConfig;
use conductor_core::random::SplitMix64;
use conductor_engine::{
    board::StatusBoard, changes::ChangeSubscription, guard::GuardContext, metrics::NotifyOutcome,
    state_file,
};
use conductor_library::{file_reader, printable};
use conductor_notify::{ObservedState, PlatformFacts, ReceiverRecord, retry_delay};
use conductor_types::{StateUrgency, views::PlatformView};
use tokio::{sync::mpsc, task::JoinSet};

use self::{attempt::AttemptEnd, receiver::Receiver};

mod attempt;
mod receiver;

/// The thread that notifies receivers, until it is dropped.
pub(super) struct Notifier {
    /// Closed to end the thread.
    configs: Option<mpsc::UnboundedSender<Arc<ConductorConfig>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Notifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the OS starts no thread, or gives it nothing to wait for connections with.
    pub(super) fn start(
        config: &Arc<ConductorConfig>,
        shared: &Arc<GuardContext>,
        board: &Arc<StatusBoard>,
        state_dir: &Path,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (configs, incoming) = mpsc::unbounded_channel();
        let dispatcher = Dispatcher::new(shared, board, state_dir.join(FILE));
        let thread = thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || {
                runtime.block_on(dispatcher.run(incoming));
                // A name lookup may still be waiting.
                runtime.shutdown_background();
            })?;
        let notifier = Self {
            configs: Some(configs),
            thread: Some(thread),
        };
        notifier.follow(config);
        Ok(notifier)
    }

    /// Notifies the receivers of this config from now on.
    pub(super) fn follow(&self, config: &Arc<ConductorConfig>) {
        if let Some(configs) = &self.configs {
            let _ = configs.send(Arc::clone(config));
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.configs.take();
        if let Some(thread) = self.thread.take() {
            // It has logged what it could not save.
            let _ = thread.join();
        }
    }
}

struct Dispatcher {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    file: PathBuf,
    receivers: BTreeMap<String, Receiver>,
    /// Records of receivers from before the restart.
    saved: BTreeMap<String, ReceiverRecord>,
    /// `None` without receivers: a change then costs nothing.
    changes: Option<ChangeSubscription>,
    /// `true` until all platforms have been made pending.
    looks_at_all: bool,
    looked: Duration,
    written: Duration,
    is_changed: bool,
    has_failed_to_save: bool,
    random: SplitMix64,
}

impl Dispatcher {
    fn new(shared: &Arc<GuardContext>, board: &Arc<StatusBoard>, file: PathBuf) -> Self {
        Self {
            saved: read(&file),
            shared: Arc::clone(shared),
            board: Arc::clone(board),
            file,
            receivers: BTreeMap::new(),
            changes: None,
            looks_at_all: false,
            looked: Duration::ZERO,
            written: Duration::ZERO,
            is_changed: false,
            has_failed_to_save: false,
            random: SplitMix64::new(RandomState::new().hash_one(())),
        }
    }

    async fn run(mut self, mut configs: mpsc::UnboundedReceiver<Arc<ConductorConfig>>) {
        let mut attempts = JoinSet::new();
        loop {
            tokio::select! {
                config = configs.recv() => match config {
                    Some(config) => self.follow(&config),
                    None => break,
                },
                Some(Ok(end)) = attempts.join_next() => self.ended(end),
                () = tokio::time::sleep(TICK), if self.changes.is_some() => {}
            }
            let now = self.shared.clock.now();
            self.collect(now);
            if now.saturating_sub(self.looked) >= LOOK_PERIOD {
                self.looked = now;
                self.look_again(now);
            }
            self.tell(now);
            for receiver in self.receivers.values_mut() {
                if let Some(attempt) =
                    receiver.next_attempt(now, self.shared.clock.unix_seconds(now))
                {
                    attempts.spawn(attempt.run());
                }
            }
            if self.is_changed && now.saturating_sub(self.written) >= WRITE_PERIOD {
                self.save(now);
            }
        }
        if self.is_changed {
            self.save(self.shared.clock.now());
        }
    }

    /// Takes over a config; receivers of the same name continue.
    fn follow(&mut self, config: &ConductorConfig) {
        let mut before = std::mem::take(&mut self.receivers);
        for (name, config) in &config.receivers {
            let receiver = match before.remove(name) {
                Some(before) => before.with_config(config),
                None => Receiver::new(name, config, self.saved.remove(name).unwrap_or_default()),
            };
            self.receivers.insert(name.clone(), receiver);
        }
        let names = self.receivers.keys().map(String::as_str);
        self.shared.metrics.set_receivers(names);
        if self.receivers.is_empty() {
            self.changes = None;
        } else if self.changes.is_none() {
            self.changes = Some(self.shared.changes.subscribe(CAPACITY));
        }
        self.looks_at_all = true;
        self.is_changed = true;
    }

    /// Makes the platforms that have changed pending.
    fn collect(&mut self, now: Duration) {
        let Some(changes) = &self.changes else {
            return;
        };
        while let Ok(change) = changes.next(Duration::ZERO) {
            for receiver in self.receivers.values_mut() {
                receiver.add_pending(&change.platform, now);
            }
        }
        self.looks_at_all |= changes.take_lost() > 0;
        if self.looks_at_all && self.board.is_ready() {
            self.looks_at_all = false;
            for name in self.board.names() {
                for receiver in self.receivers.values_mut() {
                    receiver.add_pending(&name, now);
                }
            }
        }
    }

    /// Makes those pending whose maintenance is over, that have a result now, or that are gone.
    fn look_again(&mut self, now: Duration) {
        if !self.board.is_ready() {
            return;
        }
        let mut settled = BTreeMap::new();
        for receiver in self.receivers.values_mut() {
            let open: Vec<Arc<str>> = receiver.open().map(Arc::from).collect();
            let gone = open
                .into_iter()
                .filter(|name| self.board.guard(name).is_none());
            let again = receiver.unsettled().filter(|name| {
                *settled.entry(Arc::clone(name)).or_insert_with(|| {
                    let view = self.board.guard(name).map(|guard| guard.view());
                    view.is_none_or(|view| is_settled(&view))
                })
            });
            let names: BTreeSet<_> = again.chain(gone).collect();
            for name in names {
                receiver.add_pending(&name, now);
            }
        }
    }

    /// Queues the news for each receiver.
    fn tell(&mut self, now: Duration) {
        let wall = self.shared.clock.unix_seconds(now);
        for receiver in self.receivers.values_mut() {
            let Some(pending) = receiver.take_pending(now) else {
                continue;
            };
            let mut events = Vec::new();
            for name in pending {
                let view = self.board.guard(&name).map(|guard| guard.view());
                let view = view.filter(|view| receiver.config.scope.has(&view.name, &view.labels));
                if view.as_ref().is_some_and(|view| !is_settled(view)) {
                    receiver.add_unsettled(&name);
                    continue;
                }
                let observed = view.map(|view| seen(view, wall));
                let observed = observed
                    .as_ref()
                    .map(|(state, facts)| (state, facts.clone()));
                events.extend(receiver.record.observe(&name, observed, wall));
            }
            self.is_changed |= !events.is_empty();
            let dropped = receiver.queue(events, now, wall);
            count(
                &self.shared,
                &receiver.name,
                NotifyOutcome::Dropped,
                dropped,
            );
        }
    }

    /// Records the end of an attempt.
    fn ended(&mut self, end: AttemptEnd) {
        let Some(receiver) = self.receivers.get_mut(&end.receiver) else {
            return;
        };
        let random = self.random.next_number();
        let outcome = receiver.ended(&end, self.shared.clock.now(), |failures| {
            retry_delay(failures, random)
        });
        self.is_changed = true;
        count(&self.shared, &end.receiver, outcome, 1);
    }

    fn save(&mut self, now: Duration) {
        (self.is_changed, self.written) = (false, now);
        let records: BTreeMap<_, _> = self
            .receivers
            .values()
            .map(|r| (&r.name, &r.record))
            .collect();
        let saved = serde_json::to_vec(&records).map_err(io::Error::from);
        let result = saved.and_then(|saved| state_file::replace(&self.file, &saved));
        if let Err(error) = &result
            && !self.has_failed_to_save
        {
            let file = printable::path(&self.file);
            tracing::warn!(
                "notifications are not saved: {file} cannot be written: {error}; make room, and let the host's user write there"
            );
        }
        self.has_failed_to_save = result.is_err();
    }
}

fn count(shared: &GuardContext, receiver: &str, outcome: NotifyOutcome, number: usize) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    shared
        .metrics
        .count_notifications(receiver, outcome, number);
}

/// Returns `true` if the platform's state counts: it has a result, and is not in maintenance.
fn is_settled(view: &PlatformView) -> bool {
    view.maintenance.is_none() && view.urgency() != StateUrgency::NotChecked
}

fn seen(view: PlatformView, now: f64) -> (ObservedState, PlatformFacts) {
    let observed = ObservedState {
        state: view.urgency(),
        at: view.since.unwrap_or(now),
        in_maintenance: view.maintenance.is_some(),
    };
    let facts = PlatformFacts {
        plugin: view.plugin,
        labels: view.labels,
        message: view.message,
    };
    (observed, facts)
}

/// Reads the records from before the restart; a file that cannot be used is logged and ignored.
fn read(file: &Path) -> BTreeMap<String, ReceiverRecord> {
    let shown = printable::path(file);
    let content = match file_reader::read(file, LARGEST) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!("notifications may be repeated: {shown} cannot be read: {error}");
            return BTreeMap::new();
        }
    };
    let problem = match content.distrust() {
        Some(reason) => reason,
        None => match serde_json::from_slice(&content.bytes) {
            Ok(records) => return records,
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!("notifications may be repeated: {shown} is not used: {problem}");
    BTreeMap::new()
}

/// The name of the file in the state folder.
const FILE: &str = "notifications.json";
const LARGEST: u64 = 256 << 20;
/// Period of the look for changes.
const TICK: Duration = Duration::from_millis(200);
/// Period of the look at platforms in maintenance or without a result.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// The shortest time between two writes of the file.
const WRITE_PERIOD: Duration = Duration::from_secs(1);
/// The number of changes that may wait; if there are more, all platforms are looked at.
const CAPACITY: usize = 4096;
