//! The driver's lattice, which continues the one from before a restart: each platform keeps its slot and its moment of the
//! wall clock, and no check is made up for.

use std::time::Duration;

use super::{SchedulerDriver, index::MONITOR_KEY, schedule};
use crate::resumption::{RunningLattice, SavedSlot};

impl SchedulerDriver {
    /// Lays the lattice out: that of the host before the restart if its stagger was the same, else one that begins now.
    pub(super) fn resume_schedule(&mut self, now: Duration) {
        self.origin = now;
        let resumption = &self.shared.resumption;
        let before = resumption
            .lattice_before(self.shared.clock, now)
            .filter(|(lattice, _)| lattice.stagger == self.timing.stagger);
        let age = before.map_or(Duration::ZERO, |(_, age)| age);
        self.schedule = schedule(self.origin, &self.timing).with_age(age);
        self.lattice_age = age;
        match before {
            Some((lattice, _)) => self.place_monitor(lattice.monitor),
            None => self.forget_slots(),
        }
    }

    /// Gives the resource monitor its slot from before the restart, or its usual one.
    fn place_monitor(&mut self, slot: SavedSlot) {
        let interval = self.timing.interval;
        let wanted = (slot.interval == interval).then_some(slot.number);
        if let Err(error) = self.schedule.set_at(MONITOR_KEY, interval, wanted) {
            // It is logged when the schedule is filled.
            tracing::debug!("no slot for the resource monitor: {error}");
        }
    }

    /// Has every platform get another slot.
    pub(super) fn forget_slots(&self) {
        for (_, platform) in self.platforms.staying() {
            platform.guard.set_slot(None);
        }
    }

    /// Records the lattice for the next start.
    pub(super) fn note_lattice(&self) {
        let slot = self.schedule.slot(MONITOR_KEY).unwrap_or_default();
        self.shared.resumption.set_lattice(RunningLattice {
            origin: self.origin,
            age: self.lattice_age,
            stagger: self.timing.stagger,
            monitor: SavedSlot {
                interval: self.timing.interval,
                number: slot,
            },
        });
    }
}
