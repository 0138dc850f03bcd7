//! Starvation of the host, during which timeouts are not blamed on plugins.
//!
//! Two signs: the scheduler woke up much too late, or more than half of all platforms time out at once, and not only
//! those of one plugin. Such timeouts are counted and shown like any other, but do not feed breakers. Neither sign
//! lasts: after a while a timeout is a timeout again.

use std::time::Duration;

use conductor_core::locked::NonPoisoningMutex;

/// Detects starvation of the host.
pub struct StarvationDetector(NonPoisoningMutex<StarvationState>);

struct StarvationState {
    starved_until: Duration,
    platforms: usize,
    window_start: Duration,
    timeouts: usize,
    /// The plugin of the window's first timeout, by the address of its id; `several_plugins` if others timed out too.
    plugin: Option<usize>,
    several_plugins: bool,
    /// The time at which most platforms began to time out at once.
    spell_start: Option<Duration>,
}

impl StarvationDetector {
    /// Creates a detector for a host of `platforms` platforms.
    pub(super) fn new(platforms: usize) -> Self {
        Self(NonPoisoningMutex::new(StarvationState {
            starved_until: Duration::ZERO,
            platforms,
            window_start: Duration::ZERO,
            timeouts: 0,
            plugin: None,
            several_plugins: false,
            spell_start: None,
        }))
    }

    /// Sets the number of platforms.
    pub fn set_platforms(&self, platforms: usize) {
        self.0.lock().platforms = platforms;
    }

    /// Records that the scheduler woke up at `now`, `late` too late; returns `true` if this begins a starvation.
    pub fn woke_up(&self, now: Duration, late: Duration) -> bool {
        if late < LATE {
            return false;
        }
        let mut signs = self.0.lock();
        let news = signs.starved_until <= now;
        // Calls that began before the stall can time out for as long again.
        signs.starved_until = now + late.min(LONGEST_SPELL);
        news
    }

    /// Returns `true` if timeouts at `now` are the host's fault: it woke up late, or most platforms time out at once.
    pub fn is_starved(&self, now: Duration) -> bool {
        let signs = self.0.lock();
        let is_recent = |start: Duration| now.saturating_sub(start) < LONGEST_SPELL;
        now < signs.starved_until
            || (signs.most_time_out() && signs.spell_start.is_some_and(is_recent))
    }

    /// Records a timeout, and returns `true` if the host rather than the plugin is to blame.
    pub(super) fn excuses_timeout(&self, plugin: &str, now: Duration) -> bool {
        let plugin = plugin.as_ptr().addr();
        let mut signs = self.0.lock();
        if now.saturating_sub(signs.window_start) > WINDOW {
            if !signs.most_time_out() {
                signs.spell_start = None;
            }
            signs.window_start = now;
            signs.timeouts = 0;
            signs.plugin = None;
            signs.several_plugins = false;
        }
        signs.timeouts += 1;
        signs.several_plugins |= *signs.plugin.get_or_insert(plugin) != plugin;
        let at_once = signs.most_time_out() && {
            let start = *signs.spell_start.get_or_insert(now);
            now.saturating_sub(start) < LONGEST_SPELL
        };
        at_once || now < signs.starved_until
    }
}

impl StarvationState {
    fn most_time_out(&self) -> bool {
        self.several_plugins && self.timeouts >= FEWEST && self.timeouts * 2 > self.platforms
    }
}

/// A lateness that a healthy host never shows: fifty ticks.
const LATE: Duration = Duration::from_millis(500);
/// Timeouts this close together count as "at once".
const WINDOW: Duration = Duration::from_secs(1);
/// The fewest timeouts that are a sign of starvation.
const FEWEST: usize = 10;
/// The longest time that a sign excuses timeouts, even for a suspend of hours or a lost network.
const LONGEST_SPELL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_late_wake_up_excuses_the_timeouts_that_follow_it_for_a_while() {
        let starvation = StarvationDetector::new(100);
        assert!(!starvation.woke_up(10 * S, S / 10));
        assert!(!starvation.excuses_timeout("a", 10 * S));
        assert!(!starvation.is_starved(20 * S));
        assert!(starvation.woke_up(20 * S, 2 * S));
        assert!(starvation.is_starved(21 * S));
        assert!(starvation.excuses_timeout("a", 21 * S));
        assert!(!starvation.is_starved(22 * S));
        assert!(!starvation.excuses_timeout("a", 22 * S));
    }

    #[test]
    fn a_suspend_of_hours_excuses_a_minute() {
        let starvation = StarvationDetector::new(100);
        starvation.woke_up(30_000 * S, 29_000 * S);
        assert!(starvation.excuses_timeout("a", 30_059 * S));
        assert!(!starvation.excuses_timeout("a", 30_061 * S));
    }

    #[test]
    fn timeouts_of_most_platforms_at_once_are_the_hosts_for_a_minute() {
        let starvation = StarvationDetector::new(20);
        let plugins = ["a", "b"];
        let blamed = |second: u32| {
            let of = |nth: usize| !starvation.excuses_timeout(plugins[nth % 2], second * S);
            (0..20).filter(|nth| of(*nth)).count()
        };
        assert_eq!(blamed(2), 10, "ten are needed to see it");
        assert_eq!(blamed(4), 10);
        assert_eq!(blamed(70), 20, "it does not last");
    }

    #[test]
    fn timeouts_of_one_plugin_alone_are_its_own_however_many() {
        let starvation = StarvationDetector::new(20);
        assert!((0..20).all(|_| !starvation.excuses_timeout("a", S)));
    }
}
