//! Faults that take as many resources as possible, and keep them.
//!
//! Each stops at a limit, high enough that the host's own limits always apply first.

use std::{hint, io, mem, thread};

use conductor_plugin_api::Failure;

use crate::injection::InjectionConfig;

#[cfg(unix)]
mod processes;

#[cfg(unix)]
pub(crate) use self::processes::{LeftoverKind, children};

pub(crate) fn memory(injection: &InjectionConfig) -> Result<(), Failure> {
    let limit = injection.limit.unwrap_or(4 << 30);
    for _ in 0..limit.div_ceil(BLOCK as u64) {
        // Written to, as untouched memory costs nothing.
        mem::forget(hint::black_box(vec![1_u8; BLOCK]));
    }
    Err(reached(limit, "bytes of memory"))
}

pub(crate) fn files(injection: &InjectionConfig) -> Result<(), Failure> {
    let limit = injection.limit.unwrap_or(100_000);
    for taken in 0..limit.div_ceil(2) {
        mem::forget(io::pipe().map_err(|error| refused(taken * 2, "open files", &error))?);
    }
    Err(reached(limit, "open files"))
}

pub(crate) fn threads(injection: &InjectionConfig) -> Result<(), Failure> {
    let limit = injection.limit.unwrap_or(5_000);
    for taken in 0..limit {
        let idle = || {
            loop {
                thread::park();
            }
        };
        let thread = thread::Builder::new().stack_size(64 << 10).spawn(idle);
        thread.map_err(|error| refused(taken, "threads", &error))?;
    }
    Err(reached(limit, "threads"))
}

fn refused(taken: u64, what: &str, error: &io::Error) -> Failure {
    Failure::new(format!(
        "took {taken} {what}, and was refused more: {error}"
    ))
}

fn reached(limit: u64, what: &str) -> Failure {
    Failure::new(format!("took {limit} {what}, and nothing stopped it"))
}

/// Size of one allocation.
const BLOCK: usize = 16 << 20;
