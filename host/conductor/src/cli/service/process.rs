//! The process that the service manager starts: a host that reports its state and takes its orders from there.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use conductor_command::{CliError, CommandExit, GlobalArgs};
use conductor_config::OwnAddress;
use conductor_library::{StateFolder, Store};
use conductor_runtime::worker;
use tokio::sync::{Notify, mpsc};
use windows_service::{
    define_windows_service,
    service::{
        ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus,
        ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

use super::error::ServiceError;
use crate::cli::run::{self, HostRequests, ServeArgs};

/// Runs the service; does not return once the service manager has accepted it.
pub(super) fn run(args: ServeArgs, global: GlobalArgs) -> Result<CommandExit, CliError> {
    // The service manager starts the service's function without its arguments.
    let _ = ARGUMENTS.set((args, global));
    service_dispatcher::start(NAME, service_main).map_err(|error| ServiceError::of(NAME, error))?;
    // The service's own thread ends the process, and libraries must not delay that.
    loop {
        thread::park();
    }
}

define_windows_service!(service_main, service);

/// Runs the host from its start to its end, and ends the process.
fn service(_: Vec<OsString>) {
    let exit = match service_control_handler::register(NAME, control) {
        Ok(handle) => {
            let state = STATE.get_or_init(|| ReportedState::new(handle));
            state.keep_alive();
            let exit = host().unwrap_or_else(|error| error.exit());
            state.report(ServiceState::Stopped, exit);
            exit
        }
        Err(_) => CommandExit::Unhealthy,
    };
    worker::exit(exit as i32)
}

/// Runs the host with a log in files.
fn host() -> Result<CommandExit, CliError> {
    let Some((args, global)) = ARGUMENTS.get() else {
        return Err(CliError::Other("the service has no arguments".to_owned()));
    };
    let mut global = global.clone();
    if global.log_dir.is_none() {
        let state = state_folder(&global);
        // The log's writer would create it with the access that its parent gives.
        StateFolder::create(&state).map_err(|error| {
            CliError::Other(format!("cannot create {}: {error}", state.display()))
        })?;
        global.log_dir = Some(state.join("logs"));
    }
    run::as_host(&global, |tail| run::serve(args, &global, tail, requests))
}

/// Returns the state folder of the config, as far as it can be read; its errors are found again once there is a log.
fn state_folder(global: &GlobalArgs) -> PathBuf {
    let config = global.config_source().ok().and_then(|source| {
        let reading = source.read(&OwnAddress::default());
        reading.config
    });
    config
        .and_then(|config| config.host.state_dir)
        .unwrap_or_else(Store::default_base)
}

/// Returns the requests of the service manager; called inside of the host's runtime.
fn requests() -> io::Result<HostRequests> {
    let (ask, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            RELOAD.notified().await;
            // If one is queued already, its reload covers this one too.
            let _ = ask.try_send(());
        }
    });
    Ok(HostRequests {
        stop: Box::pin(STOP.notified()),
        reloads,
        started: Box::new(|| {
            if let Some(state) = STATE.get() {
                state.running();
            }
        }),
    })
}

/// Takes an order of the service manager.
///
/// Captures nothing: after an order to stop, `windows-service` frees the handler although further orders can arrive, which
/// is harmless if it has no size.
fn control(order: ServiceControl) -> ServiceControlHandlerResult {
    match order {
        ServiceControl::Interrogate => {}
        ServiceControl::Stop | ServiceControl::Shutdown => {
            if let Some(state) = STATE.get() {
                state.report(ServiceState::StopPending, CommandExit::Ok);
            }
            STOP.notify_one();
        }
        ServiceControl::ParamChange => RELOAD.notify_one(),
        _ => return ServiceControlHandlerResult::NotImplemented,
    }
    ServiceControlHandlerResult::NoError
}

/// The state that the service manager knows.
struct ReportedState {
    handle: ServiceStatusHandle,
    last: Mutex<Progress>,
}

/// A state, and the number of reports that it lasts.
#[derive(Clone, Copy)]
struct Progress {
    state: ServiceState,
    checkpoint: u32,
}

impl ReportedState {
    fn new(handle: ServiceStatusHandle) -> Self {
        let last = Progress {
            state: ServiceState::StartPending,
            checkpoint: 1,
        };
        let state = Self {
            handle,
            last: Mutex::new(last),
        };
        state.send(last, CommandExit::Ok);
        state
    }

    /// Reports progress as long as the host starts or stops: without it, the service counts as hung.
    fn keep_alive(&'static self) {
        let report = move || {
            loop {
                thread::sleep(PERIOD);
                let mut last = self.last();
                if is_pending(last.state) {
                    last.checkpoint += 1;
                    self.send(*last, CommandExit::Ok);
                }
            }
        };
        let thread = thread::Builder::new().name("service state".to_owned());
        // Without the thread, a start or stop of more than the wait hint is shown as hung.
        let _ = thread.spawn(report);
    }

    /// Reports that the host runs, unless it has been told to stop meanwhile.
    fn running(&self) {
        let mut last = self.last();
        if last.state == ServiceState::StartPending {
            self.change(&mut last, ServiceState::Running, CommandExit::Ok);
        }
    }

    fn report(&self, state: ServiceState, exit: CommandExit) {
        self.change(&mut self.last(), state, exit);
    }

    fn change(&self, last: &mut Progress, state: ServiceState, exit: CommandExit) {
        *last = Progress {
            state,
            checkpoint: u32::from(is_pending(state)),
        };
        self.send(*last, exit);
    }

    fn last(&self) -> MutexGuard<'_, Progress> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, progress: Progress, exit: CommandExit) {
        let orders = match progress.state {
            ServiceState::Running => {
                ServiceControlAccept::STOP
                    | ServiceControlAccept::SHUTDOWN
                    | ServiceControlAccept::PARAM_CHANGE
            }
            _ => ServiceControlAccept::empty(),
        };
        let sent = self.handle.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: progress.state,
            controls_accepted: orders,
            exit_code: match exit {
                CommandExit::Ok => ServiceExitCode::NO_ERROR,
                exit => ServiceExitCode::ServiceSpecific(exit as u32),
            },
            checkpoint: progress.checkpoint,
            wait_hint: match is_pending(progress.state) {
                true => WAIT_HINT,
                false => Duration::ZERO,
            },
            process_id: None,
        });
        if let Err(error) = sent {
            let error = ServiceError::of(NAME, error);
            tracing::warn!("cannot report the state to the service manager: {error}");
        }
    }
}

const fn is_pending(state: ServiceState) -> bool {
    matches!(
        state,
        ServiceState::StartPending | ServiceState::StopPending
    )
}

/// Ignored by the service manager, as the process has one service alone.
const NAME: &str = "conductor";
/// Period of reports while the host starts or stops.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest time without a report.
const WAIT_HINT: Duration = Duration::from_secs(10);

static ARGUMENTS: OnceLock<(ServeArgs, GlobalArgs)> = OnceLock::new();
static STATE: OnceLock<ReportedState> = OnceLock::new();
static STOP: Notify = Notify::const_new();
static RELOAD: Notify = Notify::const_new();
