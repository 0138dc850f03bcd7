//! `conductor top`: a running host in a terminal, here or on another machine.
//!
//! Three threads: one reads keys, one [polls the host](link), and this one handles the events of both and draws.
//! [`state`] has the data and handles events, [`view`] renders it; neither uses a terminal or a clock.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use conductor_command::{
    CliError, CommandExit,
    client::{HostClient, RemoteArgs},
};
use conductor_core::clock::Clock;
use jiff::tz::TimeZone;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event as Input, KeyEventKind},
};

use self::{
    link::PollerHandle,
    state::{TopAction, TopEvent, TopState},
};

mod keys;
mod link;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod view;

#[derive(clap::Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: &TopArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
    if !io::stdout().is_terminal() {
        return Err(CliError::Other(
            "standard output is not a terminal: use `conductor status` in scripts".to_owned(),
        ));
    }
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut state = TopState::new(client.address(), TimeZone::system(), !no_color);
    let failed = |what: &str, e: io::Error| CliError::Other(format!("{what}: {e}"));
    let asked_to_stop = asked_to_stop().map_err(|e| failed("cannot listen to signals", e))?;
    let clock = Clock::start();
    let (tell, events) = mpsc::channel();
    let link = PollerHandle::start(client, clock, tell.clone())
        .map_err(|e| failed("cannot start a thread", e))?;
    // From here on a panic in any thread restores the terminal first.
    let mut terminal = ratatui::try_init().map_err(|e| failed("cannot use this terminal", e))?;
    let _restored = TerminalRestorer;
    read_keys(tell).map_err(|e| failed("cannot start a thread", e))?;
    show(
        &mut terminal,
        &mut state,
        &events,
        &link,
        clock,
        &asked_to_stop,
    )
    .map_err(|e| failed("cannot draw", e))?;
    Ok(CommandExit::Ok)
}

/// Handles events and draws until the user or a signal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    state: &mut TopState,
    events: &Receiver<TopEvent>,
    link: &PollerHandle,
    clock: Clock,
    asked_to_stop: &AtomicBool,
) -> io::Result<()> {
    while !asked_to_stop.load(Ordering::Relaxed) && !link.is_over() {
        terminal.draw(|frame| view::draw(frame, state))?;
        let first = match events.recv_timeout(TICK) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        state.now = clock.now();
        // Handle all waiting events before the next frame, so that keys never lag.
        for event in first.into_iter().chain(events.try_iter()) {
            match state.update(event) {
                Some(TopAction::Quit) => return Ok(()),
                Some(TopAction::Ask(ask)) => link.ask(ask),
                None => {}
            }
        }
    }
    Ok(())
}

/// Sends each key and each change of the terminal's size.
fn read_keys(tell: Sender<TopEvent>) -> io::Result<()> {
    let read = move || {
        loop {
            let told = match event::read() {
                Ok(Input::Key(key)) if key.kind != KeyEventKind::Release => {
                    tell.send(TopEvent::Key(key))
                }
                Ok(Input::Resize(..)) => tell.send(TopEvent::Resized),
                Ok(_) => Ok(()),
                // The terminal is gone.
                Err(_) => {
                    let _ = tell.send(TopEvent::NoMoreKeys);
                    return;
                }
            };
            if told.is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".to_owned());
    thread.spawn(read).map(drop)
}

/// Restores the terminal's previous mode on drop.
struct TerminalRestorer;

impl Drop for TerminalRestorer {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Returns a flag set by any signal that would otherwise end the process without restoring the terminal.
#[cfg(unix)]
fn asked_to_stop() -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(asked)
}

#[cfg(not(unix))]
fn asked_to_stop() -> io::Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}

/// Period at which displayed times are updated and signals are checked.
const TICK: Duration = Duration::from_millis(250);
