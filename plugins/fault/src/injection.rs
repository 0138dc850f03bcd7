//! One fault of a config, and the calls that it affects.

use std::{
    panic,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use conductor_plugin_api::{Failure, Report, schemars, tracing};
use schemars::JsonSchema;
use serde::Deserialize;

#[cfg(unix)]
use crate::wire;
use crate::{death, greed, halt, lies, noise, vandalism};

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InjectionConfig {
    /// Fault to inject.
    fault: InjectedFault,
    /// Number of calls that succeed before the fault.
    #[serde(default)]
    after: u64,
    /// Number of calls with the fault after those; all further ones if left out.
    times: Option<u64>,
    /// Share of those calls that fail, per thousand; all of them if left out.
    #[schemars(range(max = 1000))]
    permille: Option<u64>,
    /// Seed of the random selection by `permille`.
    #[serde(default)]
    seed: u64,
    /// Duration of `sleep` and lifetime of child processes, in milliseconds.
    pub(crate) millis: Option<u64>,
    /// File that ends `hang` once it exists.
    pub(crate) until_file: Option<PathBuf>,
    /// Amount after which `memory`, `files`, `threads`, `stdout` and similar faults stop.
    pub(crate) limit: Option<u64>,
    /// Signal that `kill` sends; 9 if left out.
    #[schemars(range(min = 0, max = 64))]
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has signals"))]
    signal: Option<i32>,
    /// Bytes that `wire-bytes` sends.
    #[serde(default)]
    #[cfg_attr(
        not(unix),
        expect(
            dead_code,
            reason = "only on Unix does a plugin find the connection to the host"
        )
    )]
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum InjectedFault {
    Error,
    Panic,
    PanicPayload,
    Log,

    PanicAbort,
    Abort,
    #[serde(rename = "exit-0")]
    Exit0,
    #[serde(rename = "exit-7")]
    Exit7,
    Segfault,
    IllegalInstruction,
    StackOverflow,
    DoubleFree,
    Kill,

    Sleep,
    Hang,
    Spin,
    Deadlock,

    Memory,
    Files,
    Threads,
    Children,
    Daemons,
    Forks,

    Stdout,
    Stderr,
    Stdin,

    CloseFds,
    Chdir,
    Environment,
    Locale,
    SignalHandlers,
    Umask,
    BlockSignals,

    LongMessage,
    ManyMeasurements,
    Nan,
    Infinity,
    #[serde(rename = "invalid-utf8")]
    InvalidUtf8,
    ControlCharacters,

    WireGarbage,
    WireHalfFrame,
    WireTornFrame,
    WireHugeFrame,
    WireClosed,
    WireBytes,
}

impl InjectionConfig {
    /// Injects the fault if it applies to the `nth` check, counted from 0; returns the report, if the fault is in the
    /// report.
    pub(crate) fn inject(&self, nth: u64) -> Result<Option<Report>, Failure> {
        let end = self
            .times
            .map_or(u64::MAX, |times| self.after.saturating_add(times));
        if !(self.after..end).contains(&nth) || !self.is_selected() {
            return Ok(None);
        }
        match self.fault {
            InjectedFault::Error => return Err(Failure::new("injected error")),
            InjectedFault::Panic => panic!("injected panic"),
            InjectedFault::PanicPayload => panic::panic_any(PanickingPayload),
            InjectedFault::Log => tracing::warn!(nth, "injected log line"),

            InjectedFault::PanicAbort => death::panic_that_aborts(),
            InjectedFault::Abort => death::abort(),
            InjectedFault::Exit0 => death::exit(0),
            InjectedFault::Exit7 => death::exit(7),
            InjectedFault::StackOverflow => death::overflow_the_stack(),
            InjectedFault::Segfault => death::write_to_null(),
            InjectedFault::IllegalInstruction => death::illegal_instruction(),
            InjectedFault::DoubleFree => death::free_twice(),

            InjectedFault::Sleep => halt::sleep(self),
            InjectedFault::Hang => halt::hang(self),
            InjectedFault::Spin => halt::spin(),
            InjectedFault::Deadlock => halt::deadlock(),

            InjectedFault::Memory => greed::memory(self)?,
            InjectedFault::Files => greed::files(self)?,
            InjectedFault::Threads => greed::threads(self)?,

            InjectedFault::Stdout => noise::stdout(self),
            InjectedFault::Stderr => noise::stderr(self),
            InjectedFault::Stdin => noise::stdin(),

            InjectedFault::Chdir => vandalism::change_directory()?,
            InjectedFault::Environment => vandalism::change_environment(),
            InjectedFault::Locale => vandalism::change_locale(),

            InjectedFault::LongMessage => return Ok(Some(lies::long_message())),
            InjectedFault::ManyMeasurements => return Ok(Some(lies::many_measurements())),
            InjectedFault::Nan => return Ok(Some(lies::nan())),
            InjectedFault::Infinity => return Ok(Some(lies::infinity())),
            InjectedFault::InvalidUtf8 => return Ok(Some(lies::invalid_utf8())),
            InjectedFault::ControlCharacters => return Ok(Some(lies::control_characters())),

            InjectedFault::Kill
            | InjectedFault::Children
            | InjectedFault::Daemons
            | InjectedFault::Forks
            | InjectedFault::CloseFds
            | InjectedFault::SignalHandlers
            | InjectedFault::Umask
            | InjectedFault::BlockSignals
            | InjectedFault::WireGarbage
            | InjectedFault::WireHalfFrame
            | InjectedFault::WireTornFrame
            | InjectedFault::WireHugeFrame
            | InjectedFault::WireClosed
            | InjectedFault::WireBytes => self.inject_on_unix()?,
        }
        Ok(None)
    }

    /// Returns `true` if the draw selects this call.
    ///
    /// The draw uses the seed and the time, as a recreated probe would otherwise repeat itself forever.
    fn is_selected(&self) -> bool {
        let Some(permille) = self.permille else {
            return true;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "a plugin has no clock but this, and chance needs no other"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let tenths = now.map_or(0, |now| {
            now.as_secs() * 10 + u64::from(now.subsec_millis() / 100)
        });
        draw(self.seed, tenths) % 1000 < permille
    }

    /// Injects the fault in a call without a report; a fault in a report goes into a failure's message.
    pub(crate) fn inject_without_report(&self) -> Result<(), Failure> {
        match self.inject(0)? {
            Some(untrue) => Err(Failure::new(untrue.message())),
            None => Ok(()),
        }
    }

    /// Returns an error for a fault that this OS does not have.
    pub(crate) fn require_os(&self) -> Result<(), Failure> {
        if cfg!(unix) {
            return Ok(());
        }
        let missing = match self.fault {
            InjectedFault::Kill | InjectedFault::SignalHandlers | InjectedFault::BlockSignals => {
                "signals; `abort`, `exit-7` and `segfault` end the process here"
            }
            InjectedFault::Children | InjectedFault::Daemons | InjectedFault::Forks => {
                "fork and orphans; choose another fault"
            }
            InjectedFault::CloseFds => "descriptors by number; choose another fault",
            InjectedFault::Umask => "a umask; choose another fault",
            InjectedFault::WireGarbage
            | InjectedFault::WireHalfFrame
            | InjectedFault::WireTornFrame
            | InjectedFault::WireHugeFrame
            | InjectedFault::WireClosed
            | InjectedFault::WireBytes => {
                "a connection to the host that a plugin finds by its number; choose another fault"
            }
            _ => return Ok(()),
        };
        Err(Failure::config(format!(
            "fault: {:?} needs Unix, as Windows lacks {missing}",
            self.fault
        )))
    }

    #[cfg(unix)]
    fn inject_on_unix(&self) -> Result<(), Failure> {
        match self.fault {
            InjectedFault::Kill => death::kill_with(self.signal.unwrap_or(libc::SIGKILL)),

            InjectedFault::Children => greed::children(self, greed::LeftoverKind::Child)?,
            InjectedFault::Daemons => greed::children(self, greed::LeftoverKind::Daemon)?,
            InjectedFault::Forks => greed::children(self, greed::LeftoverKind::Fork)?,

            InjectedFault::CloseFds => vandalism::close_descriptors(),
            InjectedFault::SignalHandlers => vandalism::ignore_all_signals(),
            InjectedFault::Umask => vandalism::change_umask(),
            InjectedFault::BlockSignals => vandalism::block_all_signals(),

            InjectedFault::WireGarbage => wire::garbage()?,
            InjectedFault::WireHalfFrame => wire::half_a_frame()?,
            InjectedFault::WireTornFrame => wire::torn_frame()?,
            InjectedFault::WireHugeFrame => wire::huge_frame()?,
            InjectedFault::WireClosed => wire::closed()?,
            InjectedFault::WireBytes => wire::bytes(&self.bytes)?,

            // The faults for every OS were handled before.
            _ => {}
        }
        Ok(())
    }

    /// Never reached: no probe is created with such a fault.
    #[cfg(not(unix))]
    fn inject_on_unix(&self) -> Result<(), Failure> {
        self.require_os()
    }
}

/// Returns a pseudo-random number, the same for the same arguments (splitmix64).
fn draw(seed: u64, nth: u64) -> u64 {
    let mut mixed = seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A payload whose own drop panics.
struct PanickingPayload;

impl Drop for PanickingPayload {
    fn drop(&mut self) {
        panic!("injected panic of a payload");
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn a_fault_without_meaning_on_windows_is_refused_with_its_reason() {
        for (fault, words) in [
            ("kill", "signals"),
            ("forks", "fork"),
            ("umask", "umask"),
            ("wire-garbage", "connection"),
        ] {
            let config = format!(r#"{{ "fault": "{fault}" }}"#);
            let injection: InjectionConfig = serde_json::from_str(&config).unwrap();
            let refusal = injection.require_os().unwrap_err().to_string();
            assert!(
                refusal.contains("needs Unix") && refusal.contains(words),
                "{refusal}"
            );
        }
        let injection: InjectionConfig = serde_json::from_str(r#"{ "fault": "memory" }"#).unwrap();
        assert!(injection.require_os().is_ok());
    }
}
