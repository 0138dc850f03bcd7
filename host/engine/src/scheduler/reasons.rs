//! The reasons for a new generation: the end of the current one, stuck calls, an exceeded limit, a change in the plugin
//! folders.

use std::{sync::Arc, time::Duration};

use conductor_runtime::{Ended, LoadError, LoadedPlugin};
use conductor_types::{Isolation, RestartReason};

use super::{
    Driver, LibraryChange, Renewal,
    generations::load_error,
    index::PluginIx,
    plugin::{Loading, Next, Proving},
};

impl Driver {
    /// Handles the unexpected end of a generation; its calls have already ended as failures.
    pub(super) fn ended(&mut self, at: PluginIx, number: u64, ended: &Ended) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        plugin.old.retain(|old| old.generation.number != number);
        match plugin.next.take_if(|next| next.number() == number) {
            Some(Next::Loading(loading)) => {
                let ended = Some(ended.clone());
                plugin.next = Some(Next::Loading(Loading { ended, ..loading }));
                return;
            }
            Some(Next::Proving(proving)) => {
                let reason = format!("its worker {} during its first checks", ended.message);
                plugin.rejected = Some(proving.arrival.running.vetted.sha256);
                plugin.owed = None;
                plugin.guard.rejected(proving.arrival.birth, now, &reason);
                self.renew_again(at, now);
                return;
            }
            None => {}
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
        let proving = |next: &mut Next| matches!(next, Next::Proving(_));
        match self.plugins[at].next.take_if(proving) {
            // Better than no generation, and it may well be the cure.
            Some(Next::Proving(Proving { mut arrival, .. })) => {
                arrival.why = Some(why);
                self.take_over(at, arrival, now);
            }
            _ => self.renew(at, Some(why), now),
        }
        for (place, sequence) in waiting {
            self.start_elsewhere(at, place, sequence, now);
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
            && (current.isolation == Isolation::Process
                || current.plugin.description().asynchronous)
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
        let is_asynchronous = |loaded: &Arc<dyn LoadedPlugin>| loaded.description().asynchronous;
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
    pub(super) fn succeed(&mut self, order: Renewal) {
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
        let proving = |next: &mut Next| matches!(next, Next::Proving(_));
        if let Some(Next::Proving(proving)) = plugin.next.take_if(proving) {
            self.take_over(at, proving.arrival, now);
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
    pub(super) fn library_changed(&mut self, id: &str, change: &LibraryChange) {
        let now = self.shared.clock.now();
        let Some(at) = self.plugin_ix(id) else {
            return;
        };
        let plugin = &mut self.plugins[at];
        match change {
            LibraryChange::Arrived(library) => {
                let running = plugin.guard.running();
                if running.is_some_and(|running| running.vetted.sha256 == library.sha256) {
                    // Another one may be starting that has been withdrawn.
                    self.call_off(at, now);
                    return;
                }
                plugin.guard.forget_failures(now);
                plugin.rejected = None;
                plugin.again = true;
                self.renew_again(at, now);
            }
            LibraryChange::Removed(reason) => {
                plugin.guard.stopped(now, load_error(reason));
                self.stop_plugin(at, now);
                self.call_off(at, now);
            }
        }
    }

    /// Cancels the generation being started, if any.
    pub(super) fn call_off(&mut self, at: PluginIx, now: Duration) {
        let plugin = &mut self.plugins[at];
        plugin.again = false;
        plugin.owed = None;
        match plugin.next.take() {
            Some(Next::Proving(proving)) => {
                plugin.guard.called_off(proving.arrival.birth, now);
                proving.arrival.plugin.end();
            }
            // It ends when its number turns out to be unknown.
            Some(Next::Loading(loading)) => plugin.guard.called_off(loading.birth, now),
            None => {}
        }
        self.let_go_of_held(at, now, |_| true);
    }
}
