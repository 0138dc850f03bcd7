//! Plugins that cause a shortage of CPU.
//!
//! The processor time of each worker and its children is measured; a pure function decides which to hold back first.
//!
//! While the machine is short of CPU, the plugins that use most of it are named, one after the other, until the machine
//! would be below the limit without them; one that uses less than a tenth is never named. Only their checks are
//! stretched, as skipping others would not help. If the machine would be short without them too, because other programs
//! use it, they are still stretched first: the others follow if the next samples also show a shortage, and then until
//! it is over. If no plugin uses a tenth of the machine, all are stretched at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Recent processor time of one worker.
#[derive(Debug, Default)]
pub struct CpuLoad {
    /// Processor seconds since the worker's start, by time.
    past: VecDeque<(Duration, f64)>,
}

impl CpuLoad {
    /// Records a measurement and returns the number of cores that the worker has kept busy; `None` at the first.
    pub fn note(&mut self, now: Duration, cpu_seconds: f64) -> Option<f64> {
        self.past.push_back((now, cpu_seconds));
        while self
            .past
            .get(1)
            .is_some_and(|(then, _)| now.saturating_sub(*then) >= SPAN)
        {
            self.past.pop_front();
        }
        let (then, before) = *self.past.front()?;
        let passed = now.saturating_sub(then);
        (passed >= SHORTEST_SPAN).then(|| (cpu_seconds - before) / passed.as_secs_f64())
    }
}

/// The measured CPU usage of the machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineCpu {
    /// In use, percent, 0–100.
    pub percent: f64,
    /// The number of cores that are 100 %.
    pub cores: f64,
    /// The percent above which it is short.
    pub limit: f64,
}

/// Plugins that cause the current shortage of CPU.
#[derive(Debug, Default)]
pub struct CpuCulprits {
    /// By id, with each one's percent of the machine's CPU when it was found.
    named: BTreeMap<Arc<str>, f64>,
    /// Consecutive samples with a shortage that they do not explain.
    unexplained: u32,
}

impl CpuCulprits {
    /// Records a sample of a machine that is short of CPU only, with the number of cores that each plugin's worker
    /// keeps busy; returns the new culprits.
    pub fn observe(
        &mut self,
        machine: MachineCpu,
        loads: &[(Arc<str>, f64)],
    ) -> Vec<(Arc<str>, f64)> {
        if machine.percent <= machine.limit {
            // They are held back, or idle for a moment: the judge decides when the shortage is over.
            if self.unexplained < PATIENCE {
                self.unexplained = 0;
            }
            return Vec::new();
        }
        let percent = |cores: f64| (cores / machine.cores * 100.0).clamp(0.0, 100.0);
        let mut rest = machine.percent;
        let mut others = Vec::new();
        for (plugin, cores) in loads {
            match self.named.contains_key(plugin) {
                true => rest -= percent(*cores),
                false => others.push((Arc::clone(plugin), percent(*cores))),
            }
        }
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut new = Vec::new();
        for (plugin, percent) in others {
            if rest <= machine.limit || percent < LEAST_PERCENT {
                break;
            }
            rest -= percent;
            new.push((plugin, percent));
        }
        // Above the limit, the machine would be short without them: there is another cause, too.
        self.unexplained = match rest > machine.limit {
            true => self.unexplained.saturating_add(1),
            false => 0,
        };
        self.named.extend(new.iter().cloned());
        new
    }

    /// Clears the culprits, after the shortage is over or another one began, and returns them.
    pub fn clear(&mut self) -> Vec<Arc<str>> {
        self.unexplained = 0;
        std::mem::take(&mut self.named).into_keys().collect()
    }

    /// Returns `true` if a plugin is one of them.
    pub fn contains(&self, plugin: &str) -> bool {
        self.named.contains_key(plugin)
    }

    /// Returns `true` if they explain the shortage, so that other plugins keep their schedule.
    pub fn spare_others(&self) -> bool {
        !self.named.is_empty() && self.unexplained < PATIENCE
    }

    /// Returns a text such as "plugin shop uses 97 % of it: only its checks are stretched"; `None` without
    /// culprits.
    pub fn describe(&self) -> Option<String> {
        let whose = match (self.spare_others(), self.named.len()) {
            (true, 1) => "only its checks are stretched",
            (true, _) => "only their checks are stretched",
            (false, _) => "other programs use it too, so all checks are stretched",
        };
        let named = self.named.iter();
        let named: Vec<_> = named
            .map(|(plugin, percent)| format!("plugin {plugin} uses {percent:.0} % of it"))
            .collect();
        (!named.is_empty()).then(|| format!("{}: {whose}", named.join(", ")))
    }
}

/// The time over which a worker's processor time is averaged.
const SPAN: Duration = Duration::from_secs(5);
const SHORTEST_SPAN: Duration = Duration::from_millis(900);
/// The least percent of the machine for a culprit: stretching smaller users' checks would change nothing.
const LEAST_PERCENT: f64 = 10.0;
/// The number of consecutive unexplained samples after which all checks are stretched.
const PATIENCE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(percent: f64) -> MachineCpu {
        MachineCpu {
            percent,
            cores: 2.0,
            limit: 80.0,
        }
    }

    fn loads(cores: &[(&str, f64)]) -> Vec<(Arc<str>, f64)> {
        let cores = cores.iter();
        cores
            .map(|(plugin, cores)| ((*plugin).into(), *cores))
            .collect()
    }

    fn names(found: &[(Arc<str>, f64)]) -> Vec<&str> {
        found.iter().map(|(plugin, _)| &**plugin).collect()
    }

    #[test]
    fn a_load_is_the_mean_of_the_last_seconds() {
        let mut load = CpuLoad::default();
        let second = Duration::from_secs(1);
        assert_eq!(load.note(second, 7.0), None);
        assert_eq!(load.note(2 * second, 8.0), Some(1.0));
        for at in 3..=8 {
            load.note(at * second, 8.0);
        }
        assert_eq!(load.note(9 * second, 8.0), Some(0.0), "it is quiet now");
    }

    #[test]
    fn two_plugins_that_spin_are_named_and_a_bystander_is_spared() {
        let mut culprits = CpuCulprits::default();
        assert!(!culprits.spare_others());
        let loads = loads(&[("a", 0.98), ("quiet", 0.01), ("b", 0.95)]);
        let new = culprits.observe(machine(99.0), &loads);
        assert_eq!(names(&new), ["a"], "without it the machine would be well");
        assert!(culprits.spare_others() && !culprits.contains("b"));
        assert_eq!(
            culprits.describe().unwrap(),
            "plugin a uses 49 % of it: only its checks are stretched"
        );
        let both = [(Arc::from("a"), 0.1), (Arc::from("b"), 1.7)];
        let new = culprits.observe(machine(95.0), &both);
        assert_eq!(
            names(&new),
            ["b"],
            "held back, the first is no longer the cause"
        );
        assert!(culprits.contains("a") && culprits.contains("b"));
        assert!(culprits.observe(machine(50.0), &loads).is_empty());
        assert!(culprits.spare_others(), "until the shortage is over");
        assert_eq!(culprits.clear().len(), 2);
        assert!(!culprits.spare_others());
    }

    #[test]
    fn a_shortage_that_others_cause_is_no_plugins() {
        let mut culprits = CpuCulprits::default();
        let small = loads(&[("a", 0.15), ("b", 0.1)]);
        assert!(culprits.observe(machine(100.0), &small).is_empty());
        assert!(!culprits.spare_others());
    }

    #[test]
    fn beside_a_load_that_is_no_plugins_the_one_that_spins_is_stretched_first() {
        let mut culprits = CpuCulprits::default();
        let loads = loads(&[("spins", 0.3), ("quiet", 0.01)]);
        let new = culprits.observe(machine(100.0), &loads);
        assert_eq!(names(&new), ["spins"]);
        assert!(culprits.spare_others(), "for a moment");
        culprits.observe(machine(100.0), &loads);
        assert!(culprits.spare_others());
        culprits.observe(machine(100.0), &loads);
        assert!(!culprits.spare_others(), "the shortage stays without it");
        let text = culprits.describe().unwrap();
        assert!(text.ends_with("all checks are stretched"), "{text}");
        culprits.observe(machine(50.0), &loads);
        assert!(!culprits.spare_others(), "until the shortage is over");
        culprits.clear();
        assert!(culprits.describe().is_none());
    }

    #[test]
    fn many_plugins_that_use_a_little_each_are_not_named() {
        let mut culprits = CpuCulprits::default();
        let names: Vec<_> = (0..40).map(|n| format!("p{n}")).collect();
        let small: Vec<_> = names.iter().map(|name| (name.as_str(), 0.05)).collect();
        assert!(culprits.observe(machine(100.0), &loads(&small)).is_empty());
    }

    #[test]
    fn a_machine_that_stays_short_without_the_culprit_spares_nobody() {
        let mut culprits = CpuCulprits::default();
        culprits.observe(machine(100.0), &loads(&[("a", 1.9)]));
        assert!(culprits.spare_others());
        for short in [1, 2] {
            culprits.observe(machine(100.0), &loads(&[("a", 0.0)]));
            assert!(culprits.spare_others(), "{short} samples may be noise");
        }
        culprits.observe(machine(100.0), &loads(&[("a", 0.0)]));
        assert!(!culprits.spare_others());
        culprits.observe(machine(100.0), &loads(&[("a", 1.9)]));
        assert!(culprits.spare_others(), "it is the cause again");
    }
}
