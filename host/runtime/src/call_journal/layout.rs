//! The layout of the record: written by a running host, read by the next one.
//!
//! Every field is a separate word that is stored atomically, in the machine's byte order: the file never leaves the
//! machine. A plugin with stray writes may have hit the record too, so a reader validates everything.

use std::sync::atomic::{AtomicU64, Ordering};

use conductor_library::LibraryHash;
use conductor_plugin_api::manifest::is_valid_id;

/// The host's activity in a plugin.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CallPhase {
    /// Opening its library, which runs the library's constructors.
    Load = 1,
    /// Creating a probe.
    Create = 2,
    /// Running a check.
    Check = 3,
    /// Dropping a probe.
    Drop = 4,
}

impl CallPhase {
    /// Returns its name, as stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Create => "create",
            Self::Check => "check",
            Self::Drop => "drop",
        }
    }

    /// Returns the phase of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    const ALL: [Self; 4] = [Self::Load, Self::Create, Self::Check, Self::Drop];
}

/// The whole file: a page about the host, and the slots of its threads.
#[repr(C)]
pub(super) struct RawJournal {
    magic: AtomicU64,
    boot: [AtomicU64; 2],
    oom_kills: AtomicU64,
    leaving: AtomicU64,
    _rest_of_the_page: [AtomicU64; PAGE - 5],
    pub(super) slots: [RawSlot; SLOTS],
}

/// The activity of one thread; three cache lines that no other thread writes to.
#[repr(C, align(64))]
pub(super) struct RawSlot {
    /// 0 outside a call; otherwise the phase, with the length of the platform's name in the next byte.
    state: AtomicU64,
    platform: [AtomicU64; NAME_WORDS],
    plugin: [AtomicU64; NAME_WORDS],
    sha256: [AtomicU64; HASH_WORDS],
    _rest_of_the_line: [AtomicU64; 3],
}

/// Facts about the machine of a host, for comparison by its successor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct MachineFacts {
    /// Changes with each boot.
    pub(super) boot: u128,
    /// Number of processes that the kernel has killed because of low memory.
    pub(super) oom_kills: u64,
}

impl RawJournal {
    /// Turns a zeroed file into a record of a host without calls.
    pub(super) fn start(&self, machine: MachineFacts) {
        for (to, half) in self.boot.iter().zip([machine.boot >> 64, machine.boot]) {
            to.store(low_half(half), Ordering::Relaxed);
        }
        self.oom_kills.store(machine.oom_kills, Ordering::Relaxed);
        self.magic.store(MAGIC, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.leaving.store(1, Ordering::Release);
    }
}

impl RawSlot {
    /// Records the plugin of the following calls; outside a call.
    pub(super) fn belongs_to(&self, plugin: &str, sha256: &LibraryHash) {
        for (to, word) in self.plugin.iter().zip(padded::<NAME_WORDS>(plugin)) {
            to.store(word, Ordering::Relaxed);
        }
        for (to, word) in self.sha256.iter().zip(sha256.0.as_chunks::<WORD>().0) {
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
    }

    /// Records the start of a call. The state is stored last, so that it never appears with another call's platform.
    pub(super) fn enter(&self, platform: &str, phase: CallPhase) {
        let name = platform.as_bytes();
        let name = &name[..name.len().min(NAME_BYTES)];
        let (words, rest) = name.as_chunks::<WORD>();
        for (to, word) in self.platform.iter().zip(words) {
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        if let Some(last) = self.platform.get(words.len())
            && !rest.is_empty()
        {
            let mut word = [0; WORD];
            word[..rest.len()].copy_from_slice(rest);
            last.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        let state = phase as u64 | (name.len() as u64) << 8;
        self.state.store(state, Ordering::Release);
    }

    /// Records the end of the call.
    pub(super) fn leave(&self) {
        self.state.store(0, Ordering::Release);
    }
}

/// A call in progress when the host ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct InterruptedCall {
    pub(super) plugin: String,
    pub(super) sha256: LibraryHash,
    pub(super) platform: Option<String>,
    pub(super) phase: CallPhase,
}

/// The journal of a dead host, as read from its file.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct JournalContents {
    pub(super) machine: MachineFacts,
    /// `true` if the host had been asked to end.
    pub(super) leaving: bool,
    /// In slot order.
    pub(super) calls: Vec<InterruptedCall>,
}

impl JournalContents {
    /// Reads a record; accepts any bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> = bytes
            .as_chunks::<WORD>()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word))
            .collect();
        let header = words.first_chunk::<PAGE>()?;
        let [magic, high, low, oom_kills, leaving, ..] = *header;
        if magic != MAGIC {
            return None;
        }
        let slots = words[PAGE..].chunks_exact(SLOT_WORDS).take(SLOTS);
        Some(Self {
            machine: MachineFacts {
                boot: u128::from(high) << 64 | u128::from(low),
                oom_kills,
            },
            leaving: leaving != 0,
            calls: slots.filter_map(left).collect(),
        })
    }
}

/// Returns the call in a slot, unless the slot is empty or invalid.
fn left(slot: &[u64]) -> Option<InterruptedCall> {
    let (&state, rest) = slot.split_first()?;
    let (platform, rest) = rest.split_first_chunk::<NAME_WORDS>()?;
    let (plugin, rest) = rest.split_first_chunk::<NAME_WORDS>()?;
    let (sha256, _) = rest.split_first_chunk::<HASH_WORDS>()?;
    let phase = CallPhase::ALL
        .into_iter()
        .find(|phase| *phase as u64 == state & 0xff)?;
    let length = usize::try_from(state >> 8).ok()?;
    let bytes = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_ne_bytes()).collect() };
    let platform = String::from_utf8_lossy(bytes(platform).get(..length)?).into_owned();
    let plugin = bytes(plugin);
    let plugin = plugin.split(|byte| *byte == 0).next()?;
    if !is_valid_id(plugin) || platform.contains(char::is_control) {
        return None;
    }
    let mut hash = LibraryHash([0; 32]);
    hash.0.copy_from_slice(&bytes(sha256));
    Some(InterruptedCall {
        plugin: String::from_utf8_lossy(plugin).into_owned(),
        sha256: hash,
        platform: (!platform.is_empty()).then_some(platform),
        phase,
    })
}

/// Converts a text to words, cut or padded with zeros.
fn padded<const N: usize>(text: &str) -> [u64; N] {
    let mut bytes = text.bytes();
    std::array::from_fn(|_| u64::from_ne_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the other half is asked for too"
)]
fn low_half(whole: u128) -> u64 {
    whole as u64
}

const WORD: usize = size_of::<u64>();
/// Maximum length of an id or a platform's name.
const NAME_BYTES: usize = NAME_WORDS * WORD;
const NAME_WORDS: usize = 8;
const HASH_WORDS: usize = 4;
const PAGE: usize = 4096 / WORD;
const SLOT_WORDS: usize = size_of::<RawSlot>() / WORD;
/// Threads beyond this number inside in-process plugins are not recorded. Unused pages only cost disk space.
pub(super) const SLOTS: usize = 4096;
/// Each layout has its own.
const MAGIC: u64 = u64::from_ne_bytes(*b"CNDCALL1");
