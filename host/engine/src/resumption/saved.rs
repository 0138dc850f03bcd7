//! The content of the file: what a host saves for its successor, and its encoding.
//!
//! A file is a mark, the number of the format, a checksum, and the content as `postcard` writes it: the host's part, then one
//! platform after the other. A change of any type here is another format: raise [`FORMAT`], and see the test of the pinned
//! bytes.

use std::time::Duration;

use conductor_core::{
    breaker::{BreakerPosition, BreakerSnapshot},
    confirmation::ConfirmationSnapshot,
    flapping::FlapSnapshot,
};
use conductor_types::{Checks, PlatformState};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The host's part. Times are seconds since 1970.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SavedHost {
    /// Time of writing.
    pub written: f64,
    /// The lattice of starts.
    pub lattice: Option<SavedLattice>,
    /// Maintenance windows started by operators.
    pub windows: Vec<SavedWindow>,
}

/// The lattice on which checks start.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedLattice {
    /// Its beginning.
    pub begun: f64,
    /// The gap between the first slots.
    pub stagger: Duration,
    /// The slot of the resource monitor.
    pub monitor: SavedSlot,
}

/// A place on the lattice.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedSlot {
    /// The interval.
    pub interval: Duration,
    /// The number on the ladder of this interval.
    pub number: u32,
}

/// A maintenance window started by an operator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedWindow {
    /// Its pattern of platforms; `None` for all that have the labels.
    pub pattern: Option<String>,
    /// Required labels.
    pub labels: Vec<(String, String)>,
    /// The reason.
    pub reason: String,
    /// `true` if it pauses checks.
    pub pauses: bool,
    /// The authenticated user who started it.
    pub by: Option<String>,
    /// Its start.
    pub since: f64,
    /// Its end.
    pub ends: f64,
}

impl SavedWindow {
    /// Returns its effect on checks.
    #[must_use]
    pub fn checks(&self) -> Checks {
        match self.pauses {
            true => Checks::Pause,
            false => Checks::GoOn,
        }
    }
}

/// One platform.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedPlatform {
    /// Its name.
    pub name: String,
    /// The id of its plugin.
    pub plugin: String,
    /// A digest of its config: with another one, failures and the back-off of its breaker no longer count.
    pub fingerprint: u16,
    /// Its place on the lattice.
    pub slot: Option<SavedSlot>,
    /// Its breaker.
    pub breaker: SavedBreaker,
    /// Its state; `None` before the first check.
    pub state: Option<SavedState>,
}

/// A breaker.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedBreaker {
    /// Its position.
    pub position: SavedPosition,
    /// The exponent of its open time.
    pub trips: u32,
}

/// The position of a breaker.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum SavedPosition {
    /// Closed.
    Closed {
        /// Consecutive failures.
        failures: u32,
        /// The time at which it closed.
        since: f64,
    },
    /// Open until this time.
    Open {
        /// The earliest time of the trial.
        until: f64,
    },
    /// Held open by an operator.
    HeldOpen,
    /// Held closed by an operator.
    HeldClosed,
}

/// The state of a platform.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedState {
    /// The confirmed state.
    pub confirmed: PlatformState,
    /// The state of the last result.
    pub result: PlatformState,
    /// See [`ConfirmationSnapshot::runs`].
    pub runs: [u16; 3],
    /// See [`FlapSnapshot::steps`].
    pub flap_steps: u32,
    /// `true` while it is flapping.
    pub is_flapping: bool,
    /// The message of the last report or failure, [cut](cut).
    pub message: String,
    /// The time since which it has had the confirmed state.
    pub since: f64,
    /// The end of the last check.
    pub ended: f64,
}

impl SavedState {
    /// Returns the content of its confirmation.
    #[must_use]
    pub fn confirmation(&self) -> ConfirmationSnapshot {
        ConfirmationSnapshot {
            confirmed: self.confirmed,
            result: self.result,
            runs: self.runs,
        }
    }

    /// Returns the content of its flap detector.
    #[must_use]
    pub fn flaps(&self) -> FlapSnapshot {
        FlapSnapshot {
            last: Some(self.result),
            steps: self.flap_steps,
            is_flapping: self.is_flapping,
        }
    }
}

impl SavedBreaker {
    /// Returns a snapshot as a breaker saved at `now`, in seconds since 1970.
    #[must_use]
    pub fn of(snapshot: BreakerSnapshot, now: f64) -> Self {
        let position = match snapshot.position {
            BreakerPosition::Closed { failures, since } => SavedPosition::Closed {
                failures,
                since: now - since.as_secs_f64(),
            },
            BreakerPosition::Open { left } => SavedPosition::Open {
                until: now + left.as_secs_f64(),
            },
            BreakerPosition::HeldOpen => SavedPosition::HeldOpen,
            BreakerPosition::HeldClosed => SavedPosition::HeldClosed,
        };
        Self {
            position,
            trips: snapshot.trips,
        }
    }

    /// Returns the snapshot to restore at `now`. A time that makes no sense counts as `now`.
    #[must_use]
    pub fn snapshot(self, now: f64) -> BreakerSnapshot {
        let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let position = match self.position {
            SavedPosition::Closed { failures, since } => BreakerPosition::Closed {
                failures,
                since: time(now - since),
            },
            SavedPosition::Open { until } => BreakerPosition::Open {
                left: time(until - now),
            },
            SavedPosition::HeldOpen => BreakerPosition::HeldOpen,
            SavedPosition::HeldClosed => BreakerPosition::HeldClosed,
        };
        BreakerSnapshot {
            position,
            trips: self.trips,
        }
    }

    /// Returns `true` if an operator holds it open or closed.
    #[must_use]
    pub fn is_held(self) -> bool {
        matches!(
            self.position,
            SavedPosition::HeldOpen | SavedPosition::HeldClosed
        )
    }
}

/// The reason why the bytes of a file are not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin with the mark.
    #[error("it is not a file of this kind")]
    Foreign,
    /// They are of another version of the host.
    #[error("it has format {0}, this version of the host reads format {FORMAT}")]
    Format(u16),
    /// They are cut off or changed.
    #[error("it is damaged")]
    Damaged,
}

/// Builds the bytes of a file, platform by platform.
pub struct FileEncoder {
    bytes: Vec<u8>,
}

impl FileEncoder {
    /// Begins a file.
    #[must_use]
    pub fn new(host: &SavedHost) -> Self {
        let mut bytes = MARK.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; CHECKSUM]);
        let mut encoder = Self { bytes };
        encoder.push(host);
        encoder
    }

    /// Adds a platform.
    pub fn add(&mut self, platform: &SavedPlatform) {
        self.push(platform);
    }

    fn push(&mut self, value: &impl Serialize) {
        // No type here refuses to be written.
        if let Ok(bytes) = postcard::to_allocvec(value) {
            self.bytes.extend(bytes);
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let (head, content) = self.bytes.split_at_mut(HEAD);
        head[HEAD - CHECKSUM..].copy_from_slice(&checksum(content));
        self.bytes
    }
}

/// Reads the bytes of a file.
///
/// # Errors
/// When it is not a whole file of this format.
pub fn decode(bytes: &[u8]) -> Result<(SavedHost, Vec<SavedPlatform>), DecodeError> {
    let rest = bytes.strip_prefix(MARK).ok_or(DecodeError::Foreign)?;
    let (format, rest) = rest.split_first_chunk().ok_or(DecodeError::Damaged)?;
    let format = u16::from_le_bytes(*format);
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let (expected, content) = rest
        .split_first_chunk::<CHECKSUM>()
        .ok_or(DecodeError::Damaged)?;
    if checksum(content) != *expected {
        return Err(DecodeError::Damaged);
    }
    let damaged = |_| DecodeError::Damaged;
    let (host, mut rest) = postcard::take_from_bytes(content).map_err(damaged)?;
    let mut platforms = Vec::new();
    while !rest.is_empty() {
        let (platform, after) = postcard::take_from_bytes(rest).map_err(damaged)?;
        platforms.push(platform);
        rest = after;
    }
    Ok((host, platforms))
}

/// Returns as much of a message as is saved.
#[must_use]
pub fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(LONGEST_MESSAGE)]
}

/// Returns the digest of a platform's config.
///
/// It has 16 bits, too few to find out a password that the config contains.
#[must_use]
pub fn fingerprint(config: &str) -> u16 {
    let digest = Sha256::digest(config.as_bytes());
    u16::from_le_bytes([digest[0], digest[1]])
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::digest(content);
    std::array::from_fn(|nth| digest[nth])
}

/// The number of the format.
pub(super) const FORMAT: u16 = 1;
/// In bytes.
const LONGEST_MESSAGE: usize = 300;
/// The beginning of each file.
const MARK: &[u8] = b"conductor resumption\n";
/// In bytes.
const CHECKSUM: usize = 16;
/// Bytes before the content.
const HEAD: usize = MARK.len() + size_of::<u16>() + CHECKSUM;
