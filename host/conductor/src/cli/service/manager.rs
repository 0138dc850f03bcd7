//! The commands that control an installed service.

use std::{
    thread,
    time::{Duration, Instant},
};

use conductor_command::{CliError, CommandExit, OutputFormat, facts, json, print};
use serde::Serialize;
use windows_service::{
    service::{
        Service, ServiceAccess, ServiceExitCode, ServiceStartType, ServiceState, ServiceStatus,
    },
    service_manager::{ServiceManager, ServiceManagerAccess},
};
use windows_sys::Win32::Foundation::{ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_NEVER_STARTED};

use super::{control, error::ServiceError};

/// Opens the service manager of this machine.
pub(super) fn connect(access: ServiceManagerAccess) -> windows_service::Result<ServiceManager> {
    ServiceManager::local_computer(None::<&str>, access)
}

pub(super) fn start(name: &str) -> Result<CommandExit, CliError> {
    let service = open(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    match service.start::<&str>(&[]) {
        Err(windows_service::Error::Winapi(error))
            if error.raw_os_error() == Some(ERROR_SERVICE_ALREADY_RUNNING.cast_signed()) => {}
        started => started.map_err(|error| ServiceError::of(name, error))?,
    }
    let pending = [ServiceState::StartPending];
    let status = wait_while(&service, name, &pending)?;
    if status.current_state == ServiceState::Running {
        return Ok(CommandExit::Ok);
    }
    let name = name.to_owned();
    let code = code(&status);
    Err(ServiceError::Ended { name, code }.into())
}

pub(super) fn stop(name: &str) -> Result<CommandExit, CliError> {
    let service = open(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?;
    end(&service, name)?;
    Ok(CommandExit::Ok)
}

/// Stops a service unless it has ended.
fn end(service: &Service, name: &str) -> Result<(), ServiceError> {
    let status = query(service, name)?;
    if status.current_state == ServiceState::Stopped {
        return Ok(());
    }
    if status.current_state != ServiceState::StopPending {
        service
            .stop()
            .map_err(|error| ServiceError::of(name, error))?;
    }
    let pending = [ServiceState::StopPending, ServiceState::Running];
    wait_while(service, name, &pending).map(drop)
}

pub(super) fn reload(name: &str) -> Result<CommandExit, CliError> {
    // The right that a change of parameters takes.
    let service = open(name, ServiceAccess::PAUSE_CONTINUE)?;
    control::parameters_changed(&service).map_err(|error| ServiceError::of_system(name, &error))?;
    Ok(CommandExit::Ok)
}

pub(super) fn uninstall(name: &str) -> Result<CommandExit, CliError> {
    let access = ServiceAccess::STOP | ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE;
    let service = open(name, access)?;
    end(&service, name)?;
    service
        .delete()
        .map_err(|error| ServiceError::of(name, error))?;
    Ok(CommandExit::Ok)
}

/// The state of a service, for people and programs.
#[derive(Serialize)]
struct ServiceView {
    name: String,
    state: &'static str,
    process: Option<u32>,
    /// Of the last run, if it has ended.
    exit_code: Option<u32>,
    starts_with_the_machine: bool,
    account: Option<String>,
    command: String,
}

pub(super) fn status(name: &str, output: OutputFormat) -> Result<CommandExit, CliError> {
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG;
    let service = open(name, access)?;
    let status = query(&service, name)?;
    let config = service
        .query_config()
        .map_err(|error| ServiceError::of(name, error))?;
    let is_running = status.current_state == ServiceState::Running;
    let never_started = ServiceExitCode::Win32(ERROR_SERVICE_NEVER_STARTED);
    let has_ended =
        status.current_state == ServiceState::Stopped && status.exit_code != never_started;
    let view = ServiceView {
        name: name.to_owned(),
        state: state_name(status.current_state),
        process: status.process_id,
        exit_code: has_ended.then(|| code(&status)),
        starts_with_the_machine: config.start_type == ServiceStartType::AutoStart,
        account: config
            .account_name
            .map(|account| account.to_string_lossy().into_owned()),
        command: config.executable_path.display().to_string(),
    };
    match output {
        OutputFormat::Json => print(&json(&view)?)?,
        OutputFormat::Table => print(&as_facts(view))?,
    }
    Ok(match is_running {
        true => CommandExit::Ok,
        false => CommandExit::Unhealthy,
    })
}

fn as_facts(view: ServiceView) -> String {
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let start = match view.starts_with_the_machine {
        true => "with the machine",
        false => "by hand",
    };
    let rows = [
        ("service", Some(view.name)),
        ("state", Some(view.state.to_owned())),
        ("process", number(view.process)),
        ("exit code", number(view.exit_code)),
        ("start", Some(start.to_owned())),
        ("account", view.account),
        ("command", Some(view.command)),
    ];
    let rows = rows.into_iter();
    facts(rows.filter_map(|(name, value)| Some([name.to_owned(), value?])))
}

fn open(name: &str, access: ServiceAccess) -> Result<Service, ServiceError> {
    connect(ServiceManagerAccess::CONNECT)
        .and_then(|manager| manager.open_service(name, access))
        .map_err(|error| ServiceError::of(name, error))
}

fn query(service: &Service, name: &str) -> Result<ServiceStatus, ServiceError> {
    service
        .query_status()
        .map_err(|error| ServiceError::of(name, error))
}

/// Returns the state of the service once it is none of `pending`.
fn wait_while(
    service: &Service,
    name: &str,
    pending: &[ServiceState],
) -> Result<ServiceStatus, ServiceError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command waits, and nothing of the host depends on this time"
    )]
    let start = Instant::now();
    loop {
        let status = query(service, name)?;
        if !pending.contains(&status.current_state) {
            return Ok(status);
        }
        if start.elapsed() > PATIENCE {
            let state = state_name(status.current_state);
            let name = name.to_owned();
            return Err(ServiceError::Slow { name, state });
        }
        thread::sleep(PERIOD);
    }
}

fn code(status: &ServiceStatus) -> u32 {
    match status.exit_code {
        ServiceExitCode::Win32(code) | ServiceExitCode::ServiceSpecific(code) => code,
    }
}

const fn state_name(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Stopped => "stopped",
        ServiceState::StartPending => "starting",
        ServiceState::StopPending => "stopping",
        ServiceState::Running => "running",
        ServiceState::ContinuePending | ServiceState::PausePending | ServiceState::Paused => {
            "paused"
        }
    }
}

/// Longest wait for a start or a stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(100);
