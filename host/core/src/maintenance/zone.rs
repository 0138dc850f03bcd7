//! The time zone of a window, and its local times around clock changes.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{self, AmbiguousOffset, TimeZone},
};

/// The reason why a time zone is not known.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// That of this machine.
    #[error("this machine's time zone: {0}")]
    Local(#[source] jiff::Error),
    /// One by its name.
    #[error(transparent)]
    Named(jiff::Error),
}

/// A time zone: an IANA name, or `local`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTimeZone {
    name: String,
    zone: TimeZone,
}

impl NamedTimeZone {
    /// Returns the zone of this name, such as `Europe/Berlin`, `UTC`, or `local` for this machine's zone.
    ///
    /// # Errors
    /// If there is no such zone.
    pub fn named(name: &str) -> Result<Self, ZoneError> {
        let zone = if name == LOCAL {
            TimeZone::try_system().map_err(ZoneError::Local)?
        } else {
            TimeZone::get(name).map_err(ZoneError::Named)?
        };
        Ok(Self {
            name: name.to_owned(),
            zone,
        })
    }

    /// Returns this machine's zone, or UTC if it has none.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: LOCAL.to_owned(),
            zone: TimeZone::system(),
        }
    }

    /// Drops the cached system zone and zone database, so that they are read again when needed: they are cached for
    /// minutes otherwise.
    pub fn read_again() {
        tz::reset_system_time_zone_cache();
        tz::db().reset();
    }

    /// Returns the name as written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the local time.
    #[must_use]
    pub fn clock(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(at)
    }

    /// Returns the beginning of a window: the first of two moments with this local time or, if it is skipped, the
    /// moment of the clock change.
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

    /// Returns the end of a window: the second of two moments with this local time or, if it is skipped, the moment at
    /// which it would have occurred without the clock change.
    pub(super) fn ends(&self, shown: DateTime) -> Option<Timestamp> {
        self.zone.to_ambiguous_timestamp(shown).later().ok()
    }
}

/// Returns the names of all zones, for an error message.
#[must_use]
pub fn names() -> Vec<String> {
    let all = tz::db().available();
    all.map(|name| name.to_string()).collect()
}

/// The name of this machine's own zone.
const LOCAL: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_zone_is_known_by_its_name() {
        let all = names();
        assert!(all.iter().any(|name| name == "Europe/Berlin"), "{all:?}");
        for name in all {
            assert_eq!(NamedTimeZone::named(&name).unwrap().name(), name);
        }
    }
}
