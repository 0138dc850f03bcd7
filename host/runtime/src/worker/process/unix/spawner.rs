//! Starts workers from one thread, with only the host resources they need.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use crate::worker::{
    channel::{OutputEnd, WorkerEnd},
    children::RunningWorkers,
    program::{environment, program},
};

/// Starts the worker of a plugin, with `channel` as standard input and `output` as standard output and error.
pub(super) fn spawn(plugin: &str, channel: WorkerEnd, output: OutputEnd) -> io::Result<Child> {
    // Nothing here may prevent the use of `posix_spawn`: forking a big host takes tens of milliseconds.
    let mut command = Command::new(program()?);
    command
        .arg0("conductor")
        // Shows the plugin in the list of processes.
        .args(["worker", plugin])
        .env_clear()
        .envs(environment())
        .process_group(0)
        .stdin(channel)
        .stdout(output.try_clone()?)
        .stderr(output);
    let (reply, answer) = mpsc::channel();
    let order = SpawnRequest {
        plugin: plugin.to_owned(),
        command,
        reply,
    };
    spawner()?.send(order).map_err(gone)?;
    answer.recv().map_err(gone)?
}

struct SpawnRequest {
    plugin: String,
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// Starts the thread that starts all workers. It never exits: the kernel kills a worker when the thread that started
/// it does.
fn spawner() -> io::Result<mpsc::Sender<SpawnRequest>> {
    static SPAWNER: Mutex<Option<mpsc::Sender<SpawnRequest>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*spawner {
        return Ok(spawner.clone());
    }
    let (orders, ordered) = mpsc::channel::<SpawnRequest>();
    thread::Builder::new()
        .name("worker starter".to_owned())
        .spawn(move || {
            for order in ordered {
                let SpawnRequest {
                    plugin,
                    mut command,
                    reply,
                } = order;
                let child = RunningWorkers::lock().spawn(&plugin, &mut command);
                // Including the worker's ends of socket and pipe, which must not stay open here.
                drop(command);
                // The requester waits for it.
                let _ = reply.send(child);
            }
        })?;
    Ok(spawner.insert(orders).clone())
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the thread that starts workers is gone")
}
