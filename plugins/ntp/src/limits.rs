//! The verdict on a response.

use std::time::Duration;

use conductor_net::show_duration;
use conductor_plugin_api::{Report, Status};

use crate::{
    DELAY, LEAP, OFFSET, ROOT_DELAY, ROOT_DISPERSION, STRATUM, exchange::NtpAnswer,
    packet::NtpResponse,
};

/// The conditions of a config.
pub(crate) struct ClockLimits {
    pub(crate) degraded_offset: Duration,
    pub(crate) unhealthy_offset: Duration,
    pub(crate) max_stratum: u8,
    pub(crate) max_dispersion: Duration,
}

/// The reason why a server's time cannot be used.
#[derive(Debug, thiserror::Error)]
enum ServerFault {
    #[error("the server asks for fewer requests (RATE); check it less often")]
    Rate,
    #[error("the server denies requests of this machine ({0})")]
    Denied(String),
    #[error("the server is not synchronized")]
    NotSynchronized,
    #[error("the server has stratum {found}, expected at most {most}")]
    Stratum { found: u8, most: u8 },
    #[error("the server may be {} off its reference clock, expected at most {}", show_duration(*found), show_duration(*most))]
    Dispersion { found: Duration, most: Duration },
}

impl ClockLimits {
    pub(crate) fn judge(&self, answer: &NtpAnswer) -> Report {
        if let Err(fault) = self.verify(&answer.response) {
            let report = Report::unhealthy(fault.to_string());
            return match fault {
                // Such a packet has no time.
                ServerFault::Rate | ServerFault::Denied(_) => report,
                _ => measure_server(report, &answer.response),
            };
        }
        let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let off = duration(answer.offset.abs());
        // The two ways may have taken any part of the delay.
        let error = duration(answer.delay.max(0.0) / 2.0);
        let certain = off.saturating_sub(error);
        let over = |key: &str, limit| format!(" (`{key}` is {})", show_duration(limit));
        let (status, note) = if certain > self.unhealthy_offset {
            (
                Status::Unhealthy,
                over("unhealthy_offset", self.unhealthy_offset),
            )
        } else if certain > self.degraded_offset {
            (
                Status::Degraded,
                over("degraded_offset", self.degraded_offset),
            )
        } else if off > self.degraded_offset {
            (
                Status::Healthy,
                format!(
                    ", give or take {}: half the delay of the network",
                    show_duration(error)
                ),
            )
        } else {
            (Status::Healthy, String::new())
        };
        let direction = if answer.offset < 0.0 {
            "behind"
        } else {
            "ahead of"
        };
        let message = format!(
            "this machine's clock is {} {direction} the server's, of stratum {}{note}",
            show_offset(off),
            answer.response.stratum
        );
        measure_server(Report::new(status, message), &answer.response)
            .set(&OFFSET, [], answer.offset)
            .set(&DELAY, [], answer.delay)
    }

    fn verify(&self, response: &NtpResponse) -> Result<(), ServerFault> {
        let error = response.root_dispersion + response.root_delay / 2;
        match response.stratum {
            // A "kiss of death": RFC 5905, section 7.4.
            0 if response.reference == "RATE" => Err(ServerFault::Rate),
            0 if matches!(response.reference.as_str(), "DENY" | "RSTR") => {
                Err(ServerFault::Denied(response.reference.clone()))
            }
            0 | 16.. => Err(ServerFault::NotSynchronized),
            _ if response.leap == NOT_SYNCHRONIZED => Err(ServerFault::NotSynchronized),
            found if found > self.max_stratum => Err(ServerFault::Stratum {
                found,
                most: self.max_stratum,
            }),
            _ if error > self.max_dispersion => Err(ServerFault::Dispersion {
                found: error,
                most: self.max_dispersion,
            }),
            _ => Ok(()),
        }
    }
}

fn measure_server(report: Report, response: &NtpResponse) -> Report {
    report
        .set(&STRATUM, [], response.stratum.into())
        .set(&LEAP, [], response.leap.into())
        .set(&ROOT_DELAY, [], response.root_delay.as_secs_f64())
        .set(&ROOT_DISPERSION, [], response.root_dispersion.as_secs_f64())
}

/// Formats an offset: microseconds matter.
fn show_offset(offset: Duration) -> String {
    let milliseconds = offset.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 {
        format!("{milliseconds:.3} ms")
    } else {
        show_duration(offset)
    }
}

/// The leap indicator of a server without a reference clock.
const NOT_SYNCHRONIZED: u8 = 3;
