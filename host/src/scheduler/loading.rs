//! The driver's part in bringing plugins to life: each is loaded on a thread of its own, when its guard says so.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use super::{Command, Driver, Ready};
use crate::{
    metrics::ErrorType,
    plugin::{LoadError, ProbeSpec},
};

impl Driver {
    /// Loads all plugins side by side, and waits a while for them; says whether the host is still wanted.
    pub(super) fn load_all(&mut self) -> bool {
        let start = self.shared.clock.now();
        for at in 0..self.plugins.len() {
            self.load(at, start);
        }
        let end = start + PATIENCE;
        while self.plugins.iter().any(|plugin| plugin.loading) {
            let left = end.saturating_sub(self.shared.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        true
    }

    /// Starts to load a plugin, if its guard lets it.
    pub(super) fn load(&mut self, at: usize, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.loading {
            return;
        }
        let Some(ticket) = plugin.guard.begin(now) else {
            return;
        };
        let (guard, load) = (Arc::clone(&plugin.guard), Arc::clone(&plugin.load));
        let (clock, commands) = (self.shared.clock, self.commands.clone());
        let spawned = thread::Builder::new()
            .name("load plugin".to_owned())
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| load()));
                let result = result.unwrap_or_else(|_| {
                    Err(load_error(
                        "loading it panicked in the host, which is a bug of the host's",
                    ))
                });
                let (known, ready) = match result {
                    Ok(ready) => (
                        Ok((
                            ready.plugin.description().clone(),
                            Arc::clone(&ready.vetted),
                        )),
                        Some(ready),
                    ),
                    Err(error) => (Err(error), None),
                };
                guard.ended(ticket, clock.now(), known);
                // Nobody listens any more once the host is stopping.
                let _ = commands.send(Command::Loaded(at, ready));
            });
        match spawned {
            Ok(_) => plugin.loading = true,
            Err(error) => plugin.guard.not_begun(load_error(&format!(
                "there is no thread to load it on: {error}"
            ))),
        }
    }

    pub(super) fn loaded(&mut self, at: usize, ready: Option<Ready>) {
        self.plugins[at].loading = false;
        let Some(ready) = ready else { return };
        for platform in self
            .platforms
            .iter_mut()
            .filter(|platform| platform.plugin == at)
        {
            platform.probe = Ok(Some(ready.plugin.open(ProbeSpec {
                platform: Arc::clone(&platform.guard.settings().name),
                config: Arc::clone(&platform.config),
            })));
        }
        for (platform, reason) in ready.refused {
            self.platforms[platform].probe = Err(reason.into());
        }
        self.plugins[at].loaded = Some(ready.plugin);
    }
}

fn load_error(message: &str) -> LoadError {
    LoadError {
        kind: ErrorType::Load,
        message: message.to_owned(),
        detail: None,
    }
}

/// How long the first checks wait for plugins that take their time to load.
const PATIENCE: Duration = Duration::from_secs(5);
