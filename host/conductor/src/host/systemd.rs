//! Notifies systemd of the host's state: ready, a status line, and the watchdog's keep-alive.
//!
//! The keep-alive is sent only if the scheduler's own loop has just made a turn: a host whose checks hang is restarted,
//! even if its other threads work. Without systemd this does nothing.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use conductor_types::StateUrgency;
use sd_notify::NotifyState;

use super::Host;

/// Notifies systemd of the host's state while this is polled.
pub(super) async fn keep_informed(host: Arc<Host>) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Often enough for the watchdog, and for the status line to be up to date.
    let period = watchdog.map_or(PERIOD, |patience| PERIOD.min(patience / 3));
    let mut is_ready = false;
    let mut said = String::new();
    loop {
        let asked = Arc::clone(&host);
        // A separate thread waits for a scheduler that does not respond.
        let looked = tokio::task::spawn_blocking(move || {
            let goes_round = asked.scheduler.goes_round_within(period);
            let guards = asked.board.platform_guards();
            let states: Vec<_> = guards.iter().map(|guard| guard.urgency()).collect();
            let is_refused = asked.metrics().is_config_refused();
            let status = status(&states, asked.board.mode(), is_refused);
            (goes_round, status)
        });
        let (goes_round, status) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                // Only this sends keep-alives, and the host itself may be fine.
                tracing::error!("internal error: systemd was not notified this time: {error}");
                tokio::time::sleep(STARTING.min(period)).await;
                continue;
            }
        };
        if goes_round {
            let mut news = Vec::new();
            if !is_ready && host.board.is_ready() {
                is_ready = true;
                news.push(NotifyState::Ready);
            }
            if watchdog.is_some() {
                news.push(NotifyState::Watchdog);
            }
            if status != said {
                news.push(NotifyState::Status(&status));
            }
            tell(&news);
            said = status;
        }
        tokio::time::sleep(if is_ready { period } else { STARTING }).await;
    }
}

/// Reports the start of a reload: `systemctl status` shows it until [`reloaded`].
pub(super) fn reloading() {
    let Ok(now) = NotifyState::monotonic_usec_now() else {
        return;
    };
    tell(&[NotifyState::Reloading, now]);
}

/// Reports the end of a reload. The next status line shows if the config was refused.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the host is about to exit.
pub(super) fn leaving() {
    tell(&[NotifyState::Stopping]);
}

fn tell(news: &[NotifyState<'_>]) {
    static COMPLAINED: AtomicBool = AtomicBool::new(false);
    let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|_| !news.is_empty()) else {
        return;
    };
    let message: String = news.iter().map(|news| format!("{news}\n")).collect();
    match send(&address, &message) {
        Err(error) if !COMPLAINED.swap(true, Ordering::Relaxed) => tracing::warn!(
            "cannot notify systemd at NOTIFY_SOCKET={}: {error}; with Type=notify, systemd will consider this service not started",
            address.display()
        ),
        Err(error) => tracing::debug!("cannot notify systemd: {error}"),
        Ok(()) => {}
    }
}

/// Sends a message to a socket by path, or by name in the abstract namespace if it begins with `@`.
fn send(address: &OsStr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    // A service manager that does not read must not block the host.
    socket.set_nonblocking(true)?;
    socket.send(message.as_bytes())?;
    Ok(())
}

/// Returns the line that `systemctl status` shows.
fn status(platforms: &[StateUrgency], mode: &str, is_refused: bool) -> String {
    let mut text = format!("{} platforms", platforms.len());
    let mut join = ": ";
    for urgency in StateUrgency::ALL {
        let count = platforms.iter().filter(|found| **found == urgency).count();
        if count > 0 {
            text.push_str(&format!("{join}{count} {}", urgency.label()));
            join = ", ";
        }
    }
    if mode != "normal" {
        text.push_str(&format!("; the machine is {mode}"));
    }
    if is_refused {
        text.push_str("; the last reload failed: an older config is in use");
    }
    text
}

/// Period of the notifications.
const PERIOD: Duration = Duration::from_secs(5);
/// The same until the host is ready.
const STARTING: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_status_has_the_worst_first() {
        let platforms = [
            StateUrgency::Healthy,
            StateUrgency::CheckFailed,
            StateUrgency::NotChecked,
            StateUrgency::Healthy,
        ];
        assert_eq!(
            status(&platforms, "normal", false),
            "4 platforms: 1 unknown, 1 not checked, 2 healthy"
        );
        assert_eq!(
            status(&[], "critical", true),
            "0 platforms; the machine is critical; the last reload failed: an older config is in use"
        );
    }
}
