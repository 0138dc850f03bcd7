//! A series of echo requests, and the verdict on its replies.

use std::{net::SocketAddr, time::Duration};

use conductor_net::{CheckError, show_duration};
use conductor_plugin_api::{Report, Status};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{LOSS, RTT, echo::EchoSocket};

/// The requests of a check.
#[derive(Clone, Copy)]
pub(crate) struct EchoSeries {
    count: u16,
    size: usize,
    /// Time between two requests.
    spacing: Duration,
    /// Time after the last request in which replies count.
    patience: Duration,
}

/// The replies of one address.
pub(crate) struct EchoReplies {
    pub(crate) address: SocketAddr,
    pub(crate) sent: u16,
    /// The round-trip time of each reply.
    pub(crate) times: Vec<Duration>,
}

/// The conditions of a config.
pub(crate) struct PingLimits {
    /// Percent.
    pub(crate) degraded_loss: u8,
    pub(crate) unhealthy_loss: u8,
    pub(crate) degraded_above: Option<Duration>,
    pub(crate) unhealthy_above: Option<Duration>,
}

impl EchoSeries {
    pub(crate) fn new(count: u16, size: usize) -> Self {
        Self {
            count,
            size,
            spacing: SPACING,
            patience: PATIENCE,
        }
    }

    /// Returns the series in a pace that fits into the time that is left.
    pub(crate) fn within(self, left: Duration) -> Self {
        Self {
            spacing: SPACING.min(left / (2 * u32::from(self.count))),
            patience: PATIENCE.min(left / 4),
            ..self
        }
    }

    /// Pings one address.
    ///
    /// # Errors
    /// If there is no reply at all, or the requests cannot be sent.
    pub(crate) async fn ping(self, address: SocketAddr) -> Result<EchoReplies, CheckError> {
        let socket = EchoSocket::open(address)?;
        socket.connect().await?;
        let mut sent: Vec<Instant> = Vec::new();
        let mut times: Vec<Option<Duration>> = vec![None; self.count.into()];
        for number in 0..self.count {
            socket.request(number, self.size).await?;
            sent.push(Instant::now());
            let next = Instant::now() + self.spacing;
            let until = match number + 1 == self.count {
                true => Instant::now() + self.patience,
                false => next,
            };
            self.collect(&socket, &sent, &mut times, until).await?;
            if number + 1 < self.count {
                sleep_until(next).await;
            }
        }
        let times: Vec<_> = times.into_iter().flatten().collect();
        if times.is_empty() {
            return Err(CheckError::Platform(format!(
                "no reply from {} to {} echo requests",
                address.ip(),
                self.count
            )));
        }
        Ok(EchoReplies {
            address,
            sent: self.count,
            times,
        })
    }

    /// Collects replies until a time, or until none is missing.
    async fn collect(
        self,
        socket: &EchoSocket,
        sent: &[Instant],
        times: &mut [Option<Duration>],
        until: Instant,
    ) -> Result<(), CheckError> {
        while times[..sent.len()].contains(&None) {
            let Ok(reply) = timeout_at(until, socket.reply()).await else {
                return Ok(());
            };
            let number = usize::from(reply?);
            if let (Some(begun), Some(time @ None)) = (sent.get(number), times.get_mut(number)) {
                *time = Some(begun.elapsed());
            }
        }
        Ok(())
    }
}

impl PingLimits {
    /// Judges the replies, at least one.
    pub(crate) fn judge(&self, replies: &EchoReplies) -> Report {
        let received = u16::try_from(replies.times.len()).unwrap_or(replies.sent);
        let lost = replies.sent.saturating_sub(received);
        let loss = f64::from(lost) / f64::from(replies.sent.max(1));
        let total: Duration = replies.times.iter().sum();
        let average = total / u32::from(received.max(1));
        let address = replies.address.ip();
        let percent = loss * 100.0;
        let over = |limit: Option<Duration>| limit.filter(|limit| average > *limit);
        let (status, limit) = if percent >= f64::from(self.unhealthy_loss) {
            (
                Status::Unhealthy,
                format!(" (`unhealthy_loss` is {} %)", self.unhealthy_loss),
            )
        } else if let Some(limit) = over(self.unhealthy_above) {
            (
                Status::Unhealthy,
                format!(" (`unhealthy_above` is {})", show_duration(limit)),
            )
        } else if percent >= f64::from(self.degraded_loss) {
            (
                Status::Degraded,
                format!(" (`degraded_loss` is {} %)", self.degraded_loss),
            )
        } else if let Some(limit) = over(self.degraded_above) {
            (
                Status::Degraded,
                format!(" (`degraded_above` is {})", show_duration(limit)),
            )
        } else {
            (Status::Healthy, String::new())
        };
        let sent = replies.sent;
        let milliseconds = average.as_secs_f64() * 1000.0;
        let decimals = if milliseconds < 1.0 { 3 } else { 1 };
        let message = format!(
            "{received} of {sent} replies from {address} in {milliseconds:.decimals$} ms on average{limit}"
        );
        let report = Report::new(status, message).set(&LOSS, [], loss);
        let shortest = replies.times.iter().min().copied().unwrap_or_default();
        let longest = replies.times.iter().max().copied().unwrap_or_default();
        [("min", shortest), ("avg", average), ("max", longest)]
            .into_iter()
            .fold(report, |report, (stat, time)| {
                report.set(&RTT, [stat], time.as_secs_f64())
            })
    }
}

const SPACING: Duration = Duration::from_millis(200);

const PATIENCE: Duration = Duration::from_secs(1);
