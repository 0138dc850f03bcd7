//! The reasons for a new generation: the end of the current one, stuck calls, an exceeded limit, a change in the plugin
//! folders.

use std::time::Duration;

use conductor_runtime::{LoadError, LoadedPlugin, UnexpectedExit};
use conductor_types::{Isolation, RestartReason};

use super::{
    LibraryChange, ReplacementOrder, SchedulerDriver, index::PluginIx, loading::load_error,
    plugin::NextGeneration,
};

impl SchedulerDriver {
    /// Handles the unexpected end of a generation; its calls have already ended as failures.
    pub(super) fn ended(&mut self, at: PluginIx, number: u64, ended: &UnexpectedExit) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        plugin.old.retain(|old| old.generation.number != number);
        if let Some(next) = plugin.next.as_mut().filter(|next| next.number() == number) {
            if let NextGeneration::Loading { ended: known, .. } = next {
                *known = Some(ended.clone());
            } else if let Some(candidate) = plugin.take_unjudged() {
                let reason = format!("its worker {} during its first checks", ended.message);
                self.reject(at, candidate, &reason, now);
            }
            return;
        }
        if plugin
            .current
            .take_if(|current| current.number == number)
            .is_none()
        {
            return;
        }
        plugin.guard.ended(now, ended);
        let why = match ended.over_limit {
            true => RestartReason::Limit,
            false => RestartReason::Crash,
        };
        let (waiting, _) = self.clear(at);
        match self.plugins[at].take_unjudged() {
            // Better than no generation, and it may well be the cure.
            Some(mut candidate) => {
                candidate.permit.reason = Some(why);
                self.take_over(at, candidate, now);
            }
            None => self.renew(at, Some(why), now),
        }
        for (platform, sequence) in waiting {
            self.start_elsewhere(at, platform, sequence, now);
        }
    }

    /// Replaces a generation with too many stuck calls, or with one that has been stuck `for_long`. Blocking calls
    /// stuck in-process only count towards the limit; asynchronous calls have no limit.
    pub(super) fn consider_stuck(&mut self, at: PluginIx, for_long: bool, now: Duration) {
        let plugin = &mut self.plugins[at];
        let Some(current) = &plugin.current else {
            return;
        };
        if plugin.guard.is_quarantined() {
            // Calls stuck in-process keep their threads; the plugin's next calls are made in a worker.
            plugin.in_worker |= current.isolation == Isolation::InProcess;
            self.renew(at, Some(RestartReason::Hang), now);
        } else if for_long
            && (current.isolation == Isolation::Process || current.description().asynchronous)
        {
            plugin.in_worker |= current.isolation == Isolation::InProcess;
            self.renew(at, Some(RestartReason::Hang), now);
        }
    }

    /// Handles calls that have waited long for a thread, while none has started.
    ///
    /// No call of an asynchronous plugin keeps a thread: all threads are inside functions that must not block, such as
    /// a `cancel`, or a `begin` whose call has ended, and these have no deadline. Blocking calls may just be many, and
    /// hanging ones are found by their own deadlines.
    pub(super) fn consider_waiting(&mut self, at: PluginIx, waited: Duration, now: Duration) {
        let plugin = &self.plugins[at];
        let is_asynchronous = |loaded: &dyn LoadedPlugin| loaded.description().asynchronous;
        let was_on_its_way = plugin.next.is_some();
        let for_long = plugin.loaded().is_some_and(is_asynchronous);
        self.consider_stuck(at, for_long, now);
        let plugin = &self.plugins[at];
        if for_long && !was_on_its_way && plugin.next.is_some() {
            tracing::error!(
                plugin = plugin.guard.id(),
                "replacing its worker: threads stuck for {} s; its `begin` and `cancel` must not block",
                waited.as_secs()
            );
        }
    }

    /// Replaces a worker, for example because it exceeds its limits.
    pub(super) fn succeed(&mut self, order: ReplacementOrder) {
        let now = self.shared.clock.now();
        let Some(at) = self.plugin_ix(&order.plugin) else {
            return;
        };
        let plugin = &mut self.plugins[at];
        let current = plugin.current.as_ref();
        if current.is_none_or(|current| current.number != order.generation) {
            return;
        }
        if plugin.next.is_none() || order.must_end {
            let (id, what) = (&*order.plugin, &order.what);
            tracing::warn!(plugin = id, "replacing its worker: it {what}");
        }
        if order.must_end {
            self.outlaw(at, order.what, now);
        }
        self.renew(at, Some(order.reason), now);
    }

    /// Marks the current generation as having forbidden access: the next one takes over without verification.
    pub(super) fn outlaw(&mut self, at: PluginIx, what: String, now: Duration) {
        let plugin = &mut self.plugins[at];
        let number = plugin.current.as_ref().map(|current| current.number);
        plugin.outlawed = number.map(|number| (number, what));
        if let Some(candidate) = plugin.take_unjudged() {
            self.take_over(at, candidate, now);
        }
    }

    /// Ends a generation that must end, if none is being started that could take over.
    pub(super) fn end_outlawed(&mut self, at: PluginIx, now: Duration) {
        let plugin = &self.plugins[at];
        if let Some(what) = plugin.must_end().filter(|_| plugin.next.is_none()) {
            let reason = format!("its worker {what}, and no new one could replace it");
            plugin.guard.stopped(now, load_error(&reason));
            self.stop_plugin(at, now);
        }
    }

    /// Ends the generation that must not go on, as its successor failed to load; the returned error has both reasons.
    pub(super) fn end_without_successor(
        &mut self,
        at: PluginIx,
        error: LoadError,
        now: Duration,
    ) -> LoadError {
        let plugin = &self.plugins[at];
        let Some(what) = plugin.must_end() else {
            return error;
        };
        let message = format!("{error}; the running worker was ended: it {what}");
        let error = LoadError { message, ..error };
        plugin.guard.stopped(now, error.clone());
        self.stop_plugin(at, now);
        error
    }

    /// Handles a change in the plugin folders.
    pub(super) fn library_changed(&mut self, id: &str, change: LibraryChange) {
        let now = self.shared.clock.now();
        let Some(at) = self.plugin_ix(id) else {
            return;
        };
        let plugin = &mut self.plugins[at];
        match change {
            LibraryChange::Arrived(library) => {
                let running = plugin.current.as_ref();
                if running.is_some_and(|running| running.vetted.sha256 == library.sha256) {
                    // Another one may be starting that has been withdrawn.
                    self.call_off(at, now);
                    return;
                }
                plugin.guard.forget_failures(now);
                plugin.rejected = None;
                plugin.again = true;
                plugin.announced = Some(library);
                self.renew_again(at, now);
            }
            LibraryChange::Removed(reason) => {
                plugin.guard.stopped(now, load_error(&reason));
                self.stop_plugin(at, now);
                self.call_off(at, now);
            }
        }
    }

    /// Cancels the generation being started, if any.
    pub(super) fn call_off(&mut self, at: PluginIx, now: Duration) {
        let plugin = &mut self.plugins[at];
        plugin.again = false;
        plugin.announced = None;
        plugin.owed = None;
        match plugin.next.take() {
            Some(NextGeneration::Verifying { candidate, .. }) => {
                plugin.guard.called_off(candidate.permit, now);
                candidate.generation.plugin.end();
            }
            // It ends when its number turns out to be unknown.
            Some(NextGeneration::Loading { permit, .. }) => plugin.guard.called_off(permit, now),
            None => {}
        }
        self.let_go_of_held(at, now, |_| true);
    }
}
