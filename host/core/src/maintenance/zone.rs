//! A time zone of a window, and what its clocks show when they are moved.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{self, AmbiguousOffset, TimeZone},
};

/// A time zone: an IANA name, or `local`.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone of this name, such as `Europe/Berlin`, `UTC`, or `local` for that of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, String> {
        let zone = if name == LOCAL {
            TimeZone::try_system().map_err(|e| format!("this machine's time zone: {e}"))?
        } else {
            TimeZone::get(name).map_err(|e| e.to_string())?
        };
        Ok(Self {
            name: name.to_owned(),
            zone,
        })
    }

    /// The zone of this machine, or UTC if it has none.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: LOCAL.to_owned(),
            zone: TimeZone::system(),
        }
    }

    /// Reads the machine's time zone and the database of zones from their files again, as far as they are asked for: they are
    /// kept for minutes otherwise.
    pub fn read_again() {
        tz::reset_system_time_zone_cache();
        tz::db().reset();
    }

    /// As it was written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the clocks show.
    #[must_use]
    pub fn clock(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(at)
    }

    /// When a window begins: at the first of two moments at which the clocks show it, and, where they skip it, at the
    /// moment they are moved.
    pub(super) fn begins(&self, shown: DateTime) -> Option<Timestamp> {
        let found = self.zone.to_ambiguous_timestamp(shown);
        let earlier = found.earlier().ok()?;
        match found.offset() {
            AmbiguousOffset::Gap { .. } => {
                let moved = self.zone.following(earlier).next();
                Some(moved.map_or(earlier, |moved| moved.timestamp()))
            }
            _ => Some(earlier),
        }
    }

    /// When a window ends: at the second of two moments at which the clocks show it, and, where they skip it, when they
    /// would have shown it if they had not been moved.
    pub(super) fn ends(&self, shown: DateTime) -> Option<Timestamp> {
        self.zone.to_ambiguous_timestamp(shown).later().ok()
    }
}

/// Every zone that there is, for whoever mistyped one.
#[must_use]
pub fn names() -> Vec<String> {
    let all = tz::db().available();
    all.map(|name| name.to_string()).collect()
}

/// The name of this machine's own.
const LOCAL: &str = "local";
