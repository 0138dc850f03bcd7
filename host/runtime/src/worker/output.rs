//! The output of a worker: lines for the host's log, under the plugin's name.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use super::{channel::OutputPipe, limiter::LogRateLimiter};
use crate::{MAX_MESSAGE, redaction, set_message};

/// The pipe from a worker's standard output and error.
pub(super) struct WorkerOutput {
    pipe: OutputPipe,
    at_end: bool,
    /// Time until which reading is paused after too much output.
    paused_until: Duration,
    lines: LineAssembler,
    limiter: LogRateLimiter,
    plugin: Arc<str>,
    last: VecDeque<String>,
}

impl WorkerOutput {
    pub(super) fn new(pipe: OutputPipe, plugin: Arc<str>) -> Self {
        Self {
            pipe,
            at_end: false,
            paused_until: Duration::ZERO,
            lines: LineAssembler::default(),
            limiter: LogRateLimiter::default(),
            plugin,
            last: VecDeque::new(),
        }
    }

    /// Returns the pipe to wait for, unless reading is paused.
    pub(super) fn readable(&self, now: Duration) -> Option<&OutputPipe> {
        (!self.at_end && self.paused_until <= now).then_some(&self.pipe)
    }

    /// Returns the time of the next scheduled read.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        let paused = (self.paused_until > now && !self.at_end).then_some(self.paused_until);
        paused.into_iter().chain(self.limiter.due()).min()
    }

    /// Logs the output; a worker with endless output is read slowly.
    pub(super) fn read(&mut self, now: Duration) {
        let mut buffer = [0; 16 << 10];
        let mut left = AT_A_TIME;
        while left > 0 {
            match self.pipe.read_now(&mut buffer) {
                Ok(0) => self.at_end = true,
                Ok(bytes) => {
                    left = left.saturating_sub(bytes);
                    self.take(&buffer[..bytes], now);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.at_end = true,
            }
            return;
        }
        self.paused_until = now + PAUSE;
    }

    /// Reports the number of lines that were not logged, once it is time to.
    pub(super) fn say_dropped(&mut self, now: Duration, last: bool) {
        if let Some(dropped) = self.limiter.dropped(now, last) {
            let plugin = &*self.plugin;
            tracing::warn!(target: "plugin", plugin, "prints too much: {dropped}");
        }
    }

    /// Logs the rest of the pipe, including a partial line.
    pub(super) fn finish(&mut self, now: Duration) {
        self.read(now);
        if let Some(line) = self.lines.rest() {
            self.log(&line, now);
        }
        self.say_dropped(now, true);
    }

    /// Returns the last lines it printed, newest last.
    pub(super) fn last_words(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    fn take(&mut self, bytes: &[u8], now: Duration) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, |line| self.log(line, now));
        self.lines = lines;
    }

    fn log(&mut self, line: &[u8], now: Duration) {
        let mut text = match self.last.len() {
            LAST.. => self.last.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        set_message(&mut text, line);
        if self.limiter.admit(now, false) {
            let plugin = &*self.plugin;
            tracing::info!(target: "plugin", plugin, "{text}");
        }
        // Kept regardless of the limit: the line that explains a crash is the last one of a flood.
        self.last.push_back(text);
    }
}

/// Assembles lines from pieces; keeps no more of a line than is logged.
#[derive(Debug, Default)]
struct LineAssembler(Vec<u8>);

impl LineAssembler {
    fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.add(&bytes[..end]);
            if let Some(whole) = self.rest() {
                line(&whole);
            }
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
    }

    /// Takes a partial line, if it is not empty.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.0);
        let seen = line.trim_ascii_end();
        (!seen.is_empty()).then(|| redaction::beginning(seen, MAX_MESSAGE + 1).into_owned())
    }

    fn add(&mut self, bytes: &[u8]) {
        // One byte more than is shown indicates a cut, and a secret that begins before it is complete.
        let room = (MAX_MESSAGE + 1 + redaction::longest()).saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Bytes read before reading pauses.
const AT_A_TIME: usize = 256 << 10;
/// Duration of the pause.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines kept to explain a crash.
const LAST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let (mut lines, mut seen) = (LineAssembler::default(), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for piece in pieces {
            lines.feed(piece, |line| seen.push(text(line)));
        }
        (seen, lines.rest().map(|rest| text(&rest)))
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let (seen, rest) = lines(&[b"one\ntw", b"o\r\n", b"\n \nthree\nfo", b"ur"]);
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!(rest.unwrap(), "four");
    }

    #[test]
    fn a_secret_across_the_end_of_what_is_shown_is_taken_out_in_whole() {
        redaction::learn(["printed-at-the-very-end"]);
        let mut lines = LineAssembler::default();
        lines.feed("x".repeat(MAX_MESSAGE - 7).as_bytes(), |_| {});
        lines.feed(b"printed-at-the-very-end, and more", |_| {});
        let rest = String::from_utf8(lines.rest().unwrap()).unwrap();
        assert!(
            rest.ends_with("x(a secret)"),
            "{}",
            &rest[MAX_MESSAGE - 20..]
        );
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let mut lines = LineAssembler::default();
        for _ in 0..1000 {
            lines.feed(&[b'x'; 1000], |_| panic!("no line has ended"));
        }
        assert!(lines.0.capacity() < 10_000);
        assert_eq!(lines.rest().unwrap().len(), MAX_MESSAGE + 1);
    }
}
