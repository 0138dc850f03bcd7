//! The surroundings of the engine: what it takes from outside besides its plan, so that a whole engine can run in a
//! simulation.
//!
//! Time and randomness are in [`GuardContext`](crate::guard::GuardContext), which the guards use too. A simulation has a clock that
//! is set by hand, and runs each job of this trait on its own thread, at a time of its choice.

use std::{io, path::PathBuf, thread};

use conductor_core::clock::Clock;

use crate::resources::{MachineSample, sample::MachineSampler};

/// The threads that the engine needs besides the scheduler's.
pub trait EngineEnvironment: Send + Sync {
    /// Runs a job that may take long.
    ///
    /// # Errors
    /// If there is no thread for it; the job is dropped then.
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// Starts to measure the machine and the file systems of these paths; each sample is passed to `on_sample`.
    ///
    /// # Errors
    /// If there is no thread for it.
    fn start_monitor(
        &self,
        clock: Clock,
        disks: Vec<PathBuf>,
        on_sample: SampleSink,
    ) -> io::Result<Box<dyn ResourceMonitor>>;
}

/// Receives the samples of a monitor.
pub type SampleSink = Box<dyn FnMut(MachineSample) + Send>;

/// Measures the machine when asked to.
pub trait ResourceMonitor: Send {
    /// Requests one sample and returns immediately; returns `false` if the previous one is still being taken.
    fn request(&self) -> bool;
}

/// The real surroundings: the threads of this process, and this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl EngineEnvironment for SystemEnvironment {
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(job).map(drop)
    }

    fn start_monitor(
        &self,
        clock: Clock,
        disks: Vec<PathBuf>,
        on_sample: SampleSink,
    ) -> io::Result<Box<dyn ResourceMonitor>> {
        Ok(Box::new(MachineSampler::start(clock, disks, on_sample)?))
    }
}

impl ResourceMonitor for MachineSampler {
    fn request(&self) -> bool {
        Self::request(self)
    }
}
