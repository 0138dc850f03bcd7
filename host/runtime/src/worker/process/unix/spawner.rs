//! Starts workers from one thread, with only the host resources they need.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use rustix::process::Pid;

use crate::worker::{
    channel::{OutputEnd, WorkerEnd},
    children::{MARK, RunningWorkers, SpawnedWorker},
    program::{environment, program},
};

/// A worker to start.
pub(super) struct SpawnRequest {
    /// The plugin's id.
    pub(super) plugin: String,
    /// `true` for a worker that runs trials of configs.
    pub(super) trials: bool,
    /// Its standard input.
    pub(super) channel: WorkerEnd,
    /// Its standard output and error.
    pub(super) output: OutputEnd,
    /// The folder of the control group to start it in.
    pub(super) group: Option<OwnedFd>,
}

/// Starts a worker.
pub(super) fn spawn(request: SpawnRequest) -> io::Result<SpawnedWorker> {
    let (reply, answer) = mpsc::channel();
    spawner()?.send((request, reply)).map_err(gone)?;
    answer.recv().map_err(gone)?
}

/// The command line, environment and descriptors of a worker.
pub(super) struct WorkerCommand<'a> {
    pub(super) program: &'a Path,
    /// Including the name of the program.
    pub(super) arguments: [&'a str; 3],
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) input: BorrowedFd<'a>,
    pub(super) output: BorrowedFd<'a>,
}

impl SpawnRequest {
    fn start(&self) -> io::Result<SpawnedWorker> {
        let program = program(self.trials)?;
        RunningWorkers::lock().spawn(&self.plugin, |mark| {
            let command = WorkerCommand {
                program,
                // Shows the plugin in the list of processes.
                arguments: ["conductor", "worker", &self.plugin],
                environment: environment()
                    .chain([(MARK, mark.to_string().into())])
                    .collect(),
                input: self.channel.as_fd(),
                output: self.output.as_fd(),
            };
            let group = self.group.as_ref().map(AsFd::as_fd);
            if let Some(pid) = start_in_group(&command, group)? {
                return Ok(SpawnedWorker {
                    pid,
                    in_group: true,
                });
            }
            Ok(SpawnedWorker {
                pid: command.start()?,
                in_group: false,
            })
        })
    }
}

impl WorkerCommand<'_> {
    fn start(&self) -> io::Result<Pid> {
        let [name, arguments @ ..] = &self.arguments;
        // Nothing here may prevent the use of `posix_spawn`: forking a big host takes tens of milliseconds.
        let child = Command::new(self.program)
            .arg0(name)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(self.input.try_clone_to_owned()?)
            .stdout(self.output.try_clone_to_owned()?)
            .stderr(self.output.try_clone_to_owned()?)
            .spawn()?;
        Ok(Pid::from_child(&child))
    }
}

/// Starts a worker inside its control group; returns `None` if that has to be done in two steps.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn start_in_group(
    command: &WorkerCommand<'_>,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Option<Pid>> {
    use super::clone3::{CloneError, start_in_group};
    if group.is_none() {
        return Ok(None);
    }
    match start_in_group(command, group) {
        Ok(pid) => Ok(Some(pid)),
        Err(error @ CloneError::Clone(_)) => {
            // For example systemd's `RestrictNamespaces=` and older container runtimes filter the call out.
            tracing::debug!("{error}; it is moved there");
            Ok(None)
        }
        Err(CloneError::Start(error)) => Err(error),
    }
}

/// Elsewhere there are no control groups, or the child's first steps are not written.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on x86-64")]
fn start_in_group(_: &WorkerCommand<'_>, _: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    Ok(None)
}

type SpawnReply = mpsc::Sender<io::Result<SpawnedWorker>>;

/// Starts the thread that starts all workers. It never exits: the kernel kills a worker when the thread that started
/// it does.
fn spawner() -> io::Result<mpsc::Sender<(SpawnRequest, SpawnReply)>> {
    static SPAWNER: Mutex<Option<mpsc::Sender<(SpawnRequest, SpawnReply)>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*spawner {
        return Ok(spawner.clone());
    }
    let (orders, ordered) = mpsc::channel::<(SpawnRequest, SpawnReply)>();
    thread::Builder::new()
        .name("worker starter".to_owned())
        .spawn(move || {
            for (request, reply) in ordered {
                let started = request.start();
                // Including the worker's ends of socket and pipe, which must not stay open here.
                drop(request);
                // The requester waits for it.
                let _ = reply.send(started);
            }
        })?;
    Ok(spawner.insert(orders).clone())
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the thread that starts workers is gone")
}
