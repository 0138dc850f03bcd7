//! The log in the journal's own form: a datagram per line, with plugin and platform as fields to search by.
//!
//! `journalctl PLATFORM=shop` and `journalctl PLUGIN=http PRIORITY=3` find what is about them. The lines go through a writer
//! thread, like those of the other forms: a journal that does not read must not hold up the checks, and loses lines instead.

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
pub(crate) struct Journal<W>(pub(crate) W);

/// A socket to the journal, which takes one entry a write.
pub(crate) struct Socket(UnixDatagram);

impl Socket {
    /// Opens a socket to this machine's journal.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open() -> io::Result<Self> {
        Self::at(Path::new("/run/systemd/journal/socket"))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }
}

impl Write for Socket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // A journal that was started anew has another socket at the same place, and one entry may be lost over it.
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

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for Journal<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        entry.field("PRIORITY", priority(event.metadata().level()));
        entry.field("SYSLOG_IDENTIFIER", "conductor");
        entry.field("TARGET", event.metadata().target());
        event.record(&mut entry);
        // Whom should it be told, if not the log?
        let _ = self.0.make_writer().write_all(&entry.0);
    }
}

/// An entry in the making: fields by name, see systemd's "Native Journal Protocol".
#[derive(Default)]
struct Entry(Vec<u8>);

impl Entry {
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

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail; what a Debug of the host's own leaves unsaid is not missed.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Names of fields in code are legal ones of the journal, once they are in capitals.
        self.field(&field.name().to_ascii_uppercase().replace('.', "_"), value);
    }
}

/// As syslog numbers them.
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
        let (writer, guard) = tracing_appender::non_blocking(Socket::at(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(Journal(writer));
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
