//! The fields of INFO, in which a server describes itself.

use std::collections::HashMap;

/// The fields of INFO: names and texts.
#[derive(Debug, Default)]
pub(crate) struct ServerInfo(HashMap<String, String>);

/// A replica, as its primary sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct ConnectedReplica {
    /// Its data set is complete, and it gets every write.
    pub(crate) is_online: bool,
    /// Seconds since it acknowledged the last write.
    pub(crate) lag: f64,
    /// The position in the stream of writes that it acknowledged, in bytes.
    pub(crate) offset: f64,
}

impl ServerInfo {
    /// Reads lines of `NAME:VALUE`; others are headings.
    pub(crate) fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a finite number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        number(self.text(name)?)
    }

    /// Returns `true` if a field has the value 1.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// Returns the replicas of a primary: `slave0:ip=192.0.2.1,port=6379,state=online,offset=1234,lag=0`.
    pub(crate) fn replicas(&self) -> Vec<ConnectedReplica> {
        self.numbered("slave")
            .map(|value| ConnectedReplica {
                is_online: part(value, "state") == Some("online"),
                lag: part(value, "lag").and_then(number).unwrap_or_default(),
                offset: part(value, "offset").and_then(number).unwrap_or_default(),
            })
            .collect()
    }

    /// Returns the number of keys in all databases, and of those that expire: `db0:keys=42,expires=7,avg_ttl=0`.
    pub(crate) fn keys(&self) -> (f64, f64) {
        let sum = |name| {
            self.numbered("db")
                .filter_map(|value| number(part(value, name)?))
                // An empty sum is -0.
                .fold(0.0, |sum, count| sum + count)
        };
        (sum("keys"), sum("expires"))
    }

    /// Returns the values of the fields with this name and a number.
    fn numbered<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |(name, _)| {
            let digits = name.strip_prefix(prefix);
            digits.is_some_and(|text| text.parse::<u32>().is_ok())
        });
        fields.map(|(_, value)| value.as_str())
    }
}

/// Returns a part of a value, as in `keys=42,expires=7`.
fn part<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parts = value.split(',').filter_map(|part| part.split_once('='));
    let mut found = parts.filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| value)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_and_keys_are_read_from_their_fields() {
        let info = ServerInfo::parse(
            "# Replication\r\nrole:master\r\nslave_repl_offset:9\r\n\
             slave0:ip=192.0.2.1,port=6379,state=online,offset=1234,lag=3\r\n\
             slave1:ip=192.0.2.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
             # Keyspace\r\ndb0:keys=42,expires=7,avg_ttl=0\r\ndb12:keys=1,expires=1,avg_ttl=0\r\n",
        );
        let mut replicas = info.replicas();
        replicas.sort_by(|a, b| a.offset.total_cmp(&b.offset));
        let online = ConnectedReplica {
            is_online: true,
            lag: 3.0,
            offset: 1234.0,
        };
        assert_eq!(replicas.len(), 2);
        assert!(!replicas[0].is_online);
        assert_eq!(replicas[1], online);
        assert_eq!(info.keys(), (43.0, 8.0));
        assert_eq!(info.text("role"), Some("master"));
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out() {
        let info = ServerInfo::parse("a:nan\r\nb:inf\r\nc:x\r\nd\r\n:1\r\ndb0:keys=-,expires\r\n");
        for name in ["a", "b", "c", "d"] {
            assert_eq!(info.number(name), None, "{name}");
        }
        assert_eq!(info.keys(), (0.0, 0.0));
    }
}
