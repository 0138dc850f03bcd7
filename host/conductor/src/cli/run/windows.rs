//! Requests to a host in a console of Windows: console events stop it, and `conductor reload` reloads its config.

use std::{io, process, thread};

use conductor_runtime::worker;
use tokio::{
    signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown},
    sync::{mpsc, oneshot},
};

use crate::reload_event::ReloadEvent;

/// Resolves at the first event to stop; the second one ends the process immediately.
///
/// Windows ends the process by itself some seconds after its window was closed, and after logoff and shutdown.
pub(super) fn asked_to_stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut ctrl_c, mut ctrl_break) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut logoff, mut shutdown) = (ctrl_close()?, ctrl_logoff()?, ctrl_shutdown()?);
    let (first, asked) = oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            tokio::select! {
                _ = ctrl_c.recv() => {}
                _ = ctrl_break.recv() => {}
                _ = close.recv() => {}
                _ = logoff.recv() => {}
                _ = shutdown.recv() => {}
            }
            match first.take() {
                Some(first) => {
                    // The host may have failed and exited already.
                    let _ = first.send(());
                }
                None => worker::exit(INTERRUPTED),
            }
        }
    });
    Ok(async {
        let _ = asked.await;
    })
}

/// Returns a channel with a message for each `conductor reload`.
pub(super) fn asked_to_reload() -> io::Result<mpsc::Receiver<()>> {
    let (ask, asked) = mpsc::channel(1);
    let wait = |event: ReloadEvent| {
        let wait = move || {
            while event.wait().is_ok() {
                // If one is queued already, its reload covers this one too.
                let _ = ask.try_send(());
            }
        };
        let thread = thread::Builder::new().name("reload event".to_owned());
        thread.spawn(wait).map(drop)
    };
    match ReloadEvent::create().and_then(wait) {
        Ok(()) => tracing::info!(
            "to reload the config, run: conductor reload {}",
            process::id()
        ),
        Err(error) => tracing::warn!("`conductor reload` cannot reach this host: {error}"),
    }
    Ok(asked)
}

/// Exit code of a host that was told twice to stop, as on other systems.
const INTERRUPTED: i32 = 130;
