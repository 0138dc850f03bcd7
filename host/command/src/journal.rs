//! The log in the journal's native format: one datagram per line, with plugin and platform as searchable fields.
//!
//! `journalctl PLATFORM=shop` and `journalctl PLUGIN=http PRIORITY=3` find the lines about them. A writer thread sends
//! the lines, as in the other formats: a journal that does not read loses lines instead of delaying the checks.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::Path,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context};

/// Sends each event to the journal, through `W`.
pub(crate) struct JournalLayer<W>(pub(crate) W);

/// A socket to the journal, which accepts one entry per write.
pub(crate) struct JournalSocket(UnixDatagram);

impl JournalSocket {
    /// Opens a socket to this machine's journal.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open() -> io::Result<Self> {
        Self::at(Path::new("/run/systemd/journal/socket"))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }
}

impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // A restarted journal has a new socket at the same path; one entry may be lost over it.
        if self.0.send(entry).is_err() {
            *self = Self::open()?;
            self.0.send(entry)?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for JournalLayer<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = JournalEntry::default();
        entry.field("PRIORITY", priority(event.metadata().level()));
        entry.field("SYSLOG_IDENTIFIER", "conductor");
        entry.field("TARGET", event.metadata().target());
        event.record(&mut entry);
        // There is no other place to report a failure of the log.
        let _ = self.0.make_writer().write_all(&entry.0);
    }
}

/// An entry being built: named fields, see systemd's "Native Journal Protocol".
#[derive(Default)]
struct JournalEntry(Vec<u8>);

impl JournalEntry {
    fn field(&mut self, name: &str, value: &str) {
        self.0.extend(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for JournalEntry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail; if one of the host's Debug impls does, the loss is acceptable.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Field names in code are legal in the journal once they are in capitals.
        self.field(&field.name().to_ascii_uppercase().replace('.', "_"), value);
    }
}

/// Returns the syslog number of the level.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_line_arrives_with_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (writer, guard) = tracing_appender::non_blocking(JournalSocket::at(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(JournalLayer(writer));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(platform = "shop", plugin = "http", "two\nlines");
        });
        let mut entry = [0; 512];
        let length = journal.recv(&mut entry).unwrap();
        drop(guard);
        let expected = [
            &b"PRIORITY=4\nSYSLOG_IDENTIFIER=conductor\nTARGET="[..],
            module_path!().as_bytes(),
            b"\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPLATFORM=shop\nPLUGIN=http\n",
        ];
        assert_eq!(
            entry[..length].escape_ascii().to_string(),
            expected.concat().escape_ascii().to_string()
        );
    }
}
