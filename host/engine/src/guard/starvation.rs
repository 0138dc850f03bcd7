//! When the host itself is starved, timeouts are not blamed on plugins.
//!
//! Two signs: the scheduler woke up much later than it wanted, or more than half of all platforms time out at once, and
//! not those of one plugin alone. Such timeouts are counted and shown like any other; they do not feed breakers. Neither
//! sign lasts: after a while a timeout is a timeout again.

use std::time::Duration;

use conductor_core::locked::Locked;

/// Watches for signs that the host is starved.
pub struct Starvation(Locked<Signs>);

struct Signs {
    starved_until: Duration,
    platforms: usize,
    window_start: Duration,
    timeouts: usize,
    /// The plugin of the window's first timeout, by the address of its id, and whether there was another one's.
    plugin: Option<usize>,
    several_plugins: bool,
    /// When most platforms began to time out at once.
    spell_start: Option<Duration>,
}

impl Starvation {
    /// For a host of `platforms` platforms.
    pub(super) fn new(platforms: usize) -> Self {
        Self(Locked::new(Signs {
            starved_until: Duration::ZERO,
            platforms,
            window_start: Duration::ZERO,
            timeouts: 0,
            plugin: None,
            several_plugins: false,
            spell_start: None,
        }))
    }

    /// The host now has so many platforms.
    pub fn set_platforms(&self, platforms: usize) {
        self.0.lock().platforms = platforms;
    }

    /// Notes that the scheduler woke up at `now`, `late` after it wanted to; says whether that is news.
    pub fn woke_up(&self, now: Duration, late: Duration) -> bool {
        if late < LATE {
            return false;
        }
        let mut signs = self.0.lock();
        let news = signs.starved_until <= now;
        // Calls that began before the stall may run into their deadlines for as long again.
        signs.starved_until = now + late.min(LONGEST_SPELL);
        news
    }

    /// Whether timeouts at `now` are the host's own: it woke up late, or most platforms time out at once.
    pub fn is_starved(&self, now: Duration) -> bool {
        let signs = self.0.lock();
        let is_recent = |start: Duration| now.saturating_sub(start) < LONGEST_SPELL;
        now < signs.starved_until
            || (signs.most_time_out() && signs.spell_start.is_some_and(is_recent))
    }

    /// Notes a timeout of a plugin's, and says whether the host rather than the plugin is to blame for it.
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

impl Signs {
    fn most_time_out(&self) -> bool {
        self.several_plugins && self.timeouts >= FEWEST && self.timeouts * 2 > self.platforms
    }
}

/// Lateness that a healthy host does not show: fifty ticks.
const LATE: Duration = Duration::from_millis(500);
/// Timeouts this close together count as "at once".
const WINDOW: Duration = Duration::from_secs(1);
/// Fewer timeouts than this say nothing about the host.
const FEWEST: usize = 10;
/// A sign excuses timeouts for this long at most, be it a suspend of hours or a network that is gone.
const LONGEST_SPELL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_late_wake_up_excuses_the_timeouts_that_follow_it_for_a_while() {
        let starvation = Starvation::new(100);
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
        let starvation = Starvation::new(100);
        starvation.woke_up(30_000 * S, 29_000 * S);
        assert!(starvation.excuses_timeout("a", 30_059 * S));
        assert!(!starvation.excuses_timeout("a", 30_061 * S));
    }

    #[test]
    fn timeouts_of_most_platforms_at_once_are_the_hosts_for_a_minute() {
        let starvation = Starvation::new(20);
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
        let starvation = Starvation::new(20);
        assert!((0..20).all(|_| !starvation.excuses_timeout("a", S)));
    }
}
