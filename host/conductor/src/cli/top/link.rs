//! The host's link, on its own thread: polls the status once a second and sends the operator's orders.

use std::{
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use conductor_command::client::{HostClient, platform_path};
use conductor_core::clock::Clock;
use conductor_types::views::{PlatformDetail, StatusView};

use super::state::{PlatformOrder, PollerRequest, TopEvent};

/// Handle of the thread that polls the host.
pub(super) struct PollerHandle {
    asks: Sender<PollerRequest>,
    thread: thread::JoinHandle<()>,
}

impl PollerHandle {
    pub(super) fn start(
        client: HostClient,
        clock: Clock,
        tell: Sender<TopEvent>,
    ) -> io::Result<Self> {
        let (asks, asked) = mpsc::channel();
        let asking = HostPoller {
            client,
            clock,
            tell,
            looked_at: None,
        };
        let thread = thread::Builder::new()
            .name("ask the host".to_owned())
            .spawn(move || asking.run(&asked))?;
        Ok(Self { asks, thread })
    }

    /// Sends a request to the host ahead of the next poll.
    pub(super) fn ask(&self, ask: PollerRequest) {
        let _ = self.asks.send(ask);
    }

    /// Returns `true` if the thread has ended, which it does only after a panic.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

struct HostPoller {
    client: HostClient,
    clock: Clock,
    tell: Sender<TopEvent>,
    /// The platform whose details are shown.
    looked_at: Option<String>,
}

impl HostPoller {
    fn run(mut self, asked: &Receiver<PollerRequest>) {
        loop {
            let begun = self.clock.now();
            if self.look().is_err() {
                return;
            }
            // Poll a slow host less often.
            let took = self.clock.now().saturating_sub(begun);
            let mut ask = match asked.recv_timeout(PERIOD.max(took * 4)) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(next) = ask {
                match next {
                    PollerRequest::LookAt(name) => self.looked_at = name,
                    PollerRequest::Do(order) => {
                        let _ = self.tell.send(TopEvent::Told(self.order(&order)));
                    }
                }
                ask = asked.try_recv().ok();
            }
        }
    }

    /// Sends the current status as an event; returns an error if the receiver is gone.
    fn look(&self) -> Result<(), mpsc::SendError<TopEvent>> {
        let (body, status) = match self.client.look::<StatusView>("/api/v1/status") {
            Ok(found) => found,
            Err(error) => return self.tell.send(TopEvent::Gone(error.to_string())),
        };
        drop(body);
        self.tell.send(TopEvent::Status(Box::new(status)))?;
        let Some(name) = &self.looked_at else {
            return Ok(());
        };
        let detail = self.client.look::<PlatformDetail>(&platform_path(name));
        match detail {
            Ok((_, detail)) => self.tell.send(TopEvent::Detail(Box::new(detail))),
            // A reload may have removed the platform, which the list shows.
            Err(_) => Ok(()),
        }
    }

    fn order(&self, order: &PlatformOrder) -> String {
        let path = format!("{}/{}", platform_path(&order.platform), order.what.path());
        match self.client.order(&path, "") {
            Ok(said) => said.trim().to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Polling period.
const PERIOD: Duration = Duration::from_secs(1);
