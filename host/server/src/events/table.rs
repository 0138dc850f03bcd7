//! The result of the last poll, and the time each part of it last changed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
};

use axum::body::Bytes;
use conductor_types::views::{HostView, PlatformView, StatusView};
use serde::Serialize;

use crate::{
    budget::MemoryBudget,
    page::{HostNews, key},
};

/// The state to send, for clients that know different parts of it.
#[derive(Default)]
pub(super) struct ChangeTracker {
    /// Distinguishes this table's ids from those of an earlier one; empty before the first poll.
    epoch: String,
    /// The number of polls.
    looks: u64,
    status: Option<StatusView>,
    host: LastChange,
    platforms: HashMap<String, LastChange>,
    /// Removed platforms, each with the poll that no longer found it.
    gone: VecDeque<(u64, String)>,
    /// The poll before which removals are forgotten.
    remembers: u64,
    page: LastChange,
    /// The texts of this poll, once they are written.
    told: HashMap<UpdateScope, Bytes>,
    /// The budget that the texts count against.
    pub(super) budget: Option<MemoryBudget>,
}

#[derive(Default)]
struct LastChange {
    hash: u64,
    /// The poll that found it changed.
    at: u64,
}

impl LastChange {
    fn look(&mut self, hash: u64, at: u64) {
        if self.at == 0 || self.hash != hash {
            *self = Self { hash, at };
        }
    }
}

#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum UpdateScope {
    News,
    /// For a program that reconnects and knows the results up to this poll.
    Since(u64),
    All,
    PageNews,
    PageAll,
}

impl ChangeTracker {
    /// Stores the current state.
    pub(super) fn look(&mut self, status: StatusView) {
        if self.epoch.is_empty() {
            self.epoch = format!("{:.0}", status.host.now * 1000.0);
        }
        self.looks += 1;
        self.told.clear();
        let now = self.looks;
        self.host.look(host_hash(&status.host), now);
        let mut names = HashSet::with_capacity(status.platforms.len());
        for platform in &status.platforms {
            names.insert(platform.name.as_str());
            let hash = platform_hash(platform);
            match self.platforms.get_mut(&platform.name) {
                Some(seen) => seen.look(hash, now),
                None => {
                    let name = platform.name.clone();
                    self.platforms.insert(name, LastChange { hash, at: now });
                }
            }
        }
        let known = self.platforms.keys();
        let lost = known.filter(|name| !names.contains(name.as_str()));
        for name in lost.cloned().collect::<Vec<_>>() {
            self.platforms.remove(&name);
            self.gone.push_back((now, name));
        }
        while self.gone.len() > REMEMBERED {
            if let Some((at, _)) = self.gone.pop_front() {
                self.remembers = at;
            }
        }
        self.page
            .look(hash_of(&HostNews::of(&status).undated()), now);
        self.status = Some(status);
    }

    /// Returns the events after `last`, for a program that has seen everything up to it.
    pub(super) fn since(&mut self, last: Option<&str>) -> Bytes {
        let known = last.and_then(|last| {
            let (epoch, look) = last.split_once('-')?;
            let look = look.parse().ok()?;
            (epoch == self.epoch && (self.remembers..=self.looks).contains(&look)).then_some(look)
        });
        let telling = known.map_or(UpdateScope::All, UpdateScope::Since);
        self.tell(telling, |table, text| {
            write!(text, "retry: {RETRY_MS}\n\n")?;
            if known.is_none() {
                event(text, "reset", &serde_json::json!({}))?;
            }
            table.write_since(text, known.unwrap_or(0))
        })
    }

    /// Returns the id of the last event before this poll; `None` if this is the first.
    pub(super) fn id_before(&self) -> Option<String> {
        (self.looks > 1).then(|| format!("{}-{}", self.epoch, self.looks - 1))
    }

    /// Returns the changes of this poll, for a program that knows everything else.
    pub(super) fn news(&mut self) -> Bytes {
        self.tell(UpdateScope::News, |table, text| {
            table.write_since(text, table.looks - 1)
        })
    }

    /// Returns the full state, for a page that was just opened.
    pub(super) fn all_for_page(&mut self) -> Bytes {
        self.tell(UpdateScope::PageAll, |table, text| {
            write!(text, "retry: {RETRY_MS}\n\n")?;
            let keys: Vec<String> = table.views().iter().map(key).collect();
            event(text, "all", &keys)?;
            table.write_host_for_page(text)
        })
    }

    /// Returns the changes of this poll, for a page that knows everything else.
    pub(super) fn news_for_page(&mut self) -> Bytes {
        self.tell(UpdateScope::PageNews, |table, text| {
            let views = table.views().iter();
            let changed = views.filter(|view| table.at(view) == table.looks).map(key);
            let gone = table.gone.iter().filter(|(at, _)| *at == table.looks);
            let gone = gone.map(|(_, name)| format!("-{name}"));
            let keys: Vec<String> = changed.chain(gone).collect();
            if !keys.is_empty() {
                event(text, "changed", &keys)?;
            }
            if table.page.at == table.looks {
                table.write_host_for_page(text)?;
            }
            Ok(())
        })
    }

    /// Writes a text once for all clients that get the same one.
    fn tell(
        &mut self,
        what: UpdateScope,
        write: impl FnOnce(&Self, &mut String) -> fmt::Result,
    ) -> Bytes {
        if let Some(told) = self.told.get(&what) {
            return told.clone();
        }
        let mut text = String::new();
        if let Err(error) = write(self, &mut text) {
            tracing::error!("failed to build an event: {error}");
            text.clear();
        }
        text.shrink_to_fit();
        let told = match &self.budget {
            Some(budget) => budget.charge(text),
            None => text.into(),
        };
        self.told.insert(what, told.clone());
        told
    }

    /// Writes the changes since `known`, the id with the last: a client that loses the stream before it gets all again.
    fn write_since(&self, text: &mut String, known: u64) -> fmt::Result {
        let start = text.len();
        if let Some(status) = self.status.as_ref().filter(|_| self.host.at > known) {
            event(text, "host", &status.host)?;
        }
        // A platform that was removed and returned comes last.
        for (_, name) in self.gone.iter().filter(|(at, _)| known > 0 && *at > known) {
            event(text, "removed", &serde_json::json!({ "name": name }))?;
        }
        for view in self.views().iter().filter(|view| self.at(view) > known) {
            event(text, "platform", view)?;
        }
        if text.len() > start {
            text.pop();
            write!(text, "id: {}-{}\n\n", self.epoch, self.looks)?;
        }
        Ok(())
    }

    fn write_host_for_page(&self, text: &mut String) -> fmt::Result {
        match &self.status {
            Some(status) => event(text, "host", &HostNews::of(status)),
            None => Ok(()),
        }
    }

    fn views(&self) -> &[PlatformView] {
        self.status.as_ref().map_or(&[], |status| &status.platforms)
    }

    /// Returns the poll that found it changed.
    fn at(&self, view: &PlatformView) -> u64 {
        self.platforms.get(&view.name).map_or(0, |seen| seen.at)
    }
}

fn event(text: &mut String, name: &str, data: &impl Serialize) -> fmt::Result {
    // JSON has no line breaks.
    let data = serde_json::to_string(data).map_err(|_| fmt::Error)?;
    write!(text, "event: {name}\ndata: {data}\n\n")
}

/// Hashes the host's state except for the time.
fn host_hash(host: &HostView) -> u64 {
    hash_of(&HostView {
        now: 0.0,
        ..host.clone()
    })
}

/// Hashes a platform's state except for its age, which changes with each poll.
fn platform_hash(view: &PlatformView) -> u64 {
    hash_of(&PlatformView {
        age: None,
        ..view.clone()
    })
}

fn hash_of(what: &impl Serialize) -> u64 {
    struct HashWriter(DefaultHasher);
    impl io::Write for HashWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            bytes.hash(&mut self.0);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = HashWriter(DefaultHasher::new());
    // A value that cannot be serialized is not sent either.
    let _ = serde_json::to_writer(&mut hashing, what);
    hashing.0.finish()
}

/// The delay after which a client reconnects.
const RETRY_MS: u32 = 2000;
/// The number of removed platforms that are remembered, for clients that were disconnected.
const REMEMBERED: usize = 1000;
